"""SIGKILL every step of every project at random moments, finish it, and compare with one that nobody disturbed.

python tests/benchmarks/kill_test.py [PROJECT ...] [--steps train ...] [--moments 10] [--seed 0]

Prints a row a step, with the shares of the undisturbed time at which it was killed. Everything runs in forks of this process,
which has imported TensorFlow and used nothing of it: so a kill costs a second.
"""

import argparse
import contextlib
import dataclasses
import functools
import importlib
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:] = [str(ROOT), str(ROOT / "tests"), *(path for path in sys.path if Path(path) != Path(__file__).parent)]
os.environ |= {"COURSE_PROGRESS": "0", "TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "1"}

from helpers import runtime

with runtime.quiet_stderr():
    import keras  # noqa: F401
    import tensorflow as tf  # noqa: F401
from bitwise import contents, differences

from helpers import config as configs
from helpers.course.notebooks import PROJECTS
from helpers.workspace import StepResult

STEPS = ("build_dataset", "preprocess", "split", "train", "evaluate")
# Longer trainings than those of `sides.py`, with several states on the way.
LONGER = {
    "temporal_coherence": {"epochs": 3, "checkpoint_every": 3, "finetune_steps": 6, "cluster_seeds": 3},
    "circulant_video": {"epochs": 3, "checkpoint_every": 2, "seeds": (0, 1)},
    "boat_detection": {"iterations": 24, "evaluate_every": 6, "checkpoint_every": 4},
    "lip_reading": {"epoch": 4, "checkpoint_every": 2},
    "face_animation": {"epochs": 2, "repeats": 3, "checkpoint_every": 2},
}
# What is drawn of mini, where `build_dataset` is killed.
FEWER = {
    "temporal_coherence": {
        "classes": ("Archery", "Rowing"),
        "groups": (1, 2, 8, 9),
        "frames": (14, 26),
        "size": (60, 80),
    },
    "circulant_video": {"shards": {"train0000": 60, "train0001": 60, "validate3224": 40}},
    "boat_detection": {"images": 150},
    "lip_reading": {"speakers": 2, "repeats": 1},
    "face_animation": {"people": (3, 2), "clips": 2},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A step of a project that is killed in copies of a workspace where those before it are done."""

    project: str
    step: str
    config: object

    @functools.cached_property
    def room(self) -> object:
        return importlib.import_module(f"helpers.{self.project}.steps")

    def run(self, place: Path, until: str) -> None:
        """The steps up to `until`; in a fork."""
        if until in STEPS[3:]:  # the others use no Keras
            runtime.quiet_start()
        if self.config.source == "mini":
            drawing = importlib.import_module(f"helpers.{self.project}.mini.dataset")
            genuine, fewer = drawing.make_dataset, FEWER[self.project]
            drawing.make_dataset = lambda *arguments, **options: genuine(*arguments, **(options | fewer))
        for step in self.room.STEPS[: STEPS.index(until) + 1]:
            if step.name == until:
                (place / "begun").touch()
            step(self.config, place)

    def result(self, place: Path) -> StepResult:
        return getattr(self.room, self.step).load(self.config, place)


def in_fork(function: Callable, *arguments: object, log: Path) -> int:
    """Begin `function` in a process of its own, with what it prints in a file; its number."""
    if number := os.fork():
        return number
    os.setsid()
    with log.open("wb") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    code = 1
    try:
        function(*arguments)
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def finish(case: Case, place: Path, until: str) -> float:
    """Run to the end of a step; seconds that the step itself took."""
    (place / "begun").unlink(missing_ok=True)
    number = in_fork(case.run, place, until, log=place / "log.txt")
    _, status = os.waitpid(number, 0)
    ended = time.time()
    if status:
        raise RuntimeError(f"{case.project} {until}: status {status}\n{(place / 'log.txt').read_text()[-2000:]}")
    return ended - (place / "begun").stat().st_mtime


def kill(case: Case, place: Path, after: float) -> Callable[[], None]:
    """Begin the step and kill its process `after` seconds; its workers live on until what is returned is called."""
    number = in_fork(case.run, place, case.step, log=place / "log.txt")
    while not (place / "begun").exists():
        if os.waitpid(number, os.WNOHANG)[0]:
            raise RuntimeError(f"it ended at once:\n{(place / 'log.txt').read_text()[-2000:]}")
        time.sleep(0.001)
    time.sleep(after)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)

    def clean_up() -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(number, signal.SIGKILL)

    return clean_up


def cases(project: str, folder: Path) -> list[Case]:
    """Mini's drawing, and the steps after it on the small data of `sides.py`."""
    folder.mkdir()
    os.waitpid(in_fork(prepare, project, folder, log=folder / "log.txt"), 0)
    local = dataclasses.replace(pickle.loads((folder / "config").read_bytes()), **LONGER[project])
    mini = configs.load(configs.find(project, "mini"), configs.schema_of(project))
    return [Case(project, step, mini if step == STEPS[0] else local) for step in STEPS]


def prepare(project: str, folder: Path) -> None:
    """Draw the small data and leave their config; in a fork."""
    import test_sides

    (folder / "drawn").mkdir()
    config = test_sides.load(project).prepare(folder / "drawn")
    (folder / "config").write_bytes(pickle.dumps(config))


def kill_often(case: Case, root: Path, moments: int, generator: random.Random) -> tuple[str, int]:
    """Prints a row; what was different, and how often."""
    before, straight, place = root / f"before-{case.step}", root / "straight", root / "killed"
    before.mkdir()
    if case.step not in STEPS[:2]:
        shutil.rmtree(before)
        shutil.copytree(root / f"before-{STEPS[STEPS.index(case.step) - 1]}-done", before)
    elif case.step == STEPS[1]:
        finish(case, before, STEPS[0])
    shutil.copytree(before, straight)
    seconds = finish(case, straight, case.step)
    expected, bad, shares = contents(case.result(straight)), set(), []
    failed = 0
    for _ in range(moments):
        shutil.copytree(before, place)
        (place / "begun").unlink(missing_ok=True)
        shares.append(generator.random())
        clean_up = kill(case, place, shares[-1] * seconds)
        finish(case, place, case.step)
        clean_up()
        wrong = differences(contents(case.result(place)), expected)
        failed, bad = failed + bool(wrong), bad | set(wrong)
        shutil.rmtree(place, ignore_errors=True)
    straight.rename(root / f"before-{case.step}-done")
    at = " ".join(f"{share:.2f}" for share in shares)
    print(
        f"| {case.project} | {case.step} | {seconds:.1f} s | {moments} | {moments - failed} | {at} | {', '.join(sorted(bad))} |",
        flush=True,
    )
    return ", ".join(sorted(bad)), failed


def main() -> None:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", default=PROJECTS)
    parser.add_argument("--moments", type=int, default=10, help="for each step")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="that are killed")
    options = parser.parse_args()
    print(
        f"seed {options.seed}\n| project | step | alone | kills | equal | killed at | different |\n|---|---|---|---|---|---|---|"
    )
    bad = 0
    for project in options.projects:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            generator = random.Random(f"{options.seed} {project}")
            last = max(map(STEPS.index, options.steps))
            for case in cases(project, Path(folder) / "data")[: last + 1]:
                bad += kill_often(case, Path(folder), options.moments if case.step in options.steps else 0, generator)[
                    1
                ]
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
