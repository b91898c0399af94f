"""SIGKILL a step at a random moment, finish it, and compare with a step that nobody disturbed.

As a script it runs one step in a workspace: CLIPS WORKSPACE STEP. See tests/benchmarks/kill_test.py for many moments by hand.
"""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from helpers import runtime

runtime.quiet_start()

from helpers.temporal_coherence import steps
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset
from helpers.workspace import Step, StepResult

BEFORE = {"preprocess": "build_dataset", "train": "split"}


def config_of(clips: Path) -> TemporalCoherenceConfig:
    """Small enough to be killed many times; a state every third step, two networks."""
    return TemporalCoherenceConfig(
        source="local", local_folder=str(clips), classes=(), split_by="group", validation_groups=1, allow_cpu=True,
        step=4, gap=2, size=35, variant="tiny", embedding_dim=8, loss="contrastive", compare=("nt_xent",), augment=("mirror",),
        optimizer="adam", schedule="constant", batch_size=16, epochs=3, checkpoint_every=3,
    )  # fmt: skip


def draw_clips(folder: Path) -> None:
    """36 clips, half a second of cutting for one process."""
    dataset.make_dataset(folder, classes=("Archery", "Bowling", "Rowing"), groups=range(1, 7), frames=(30, 50))


def step_called(name: str) -> Step:
    """The step of that name."""
    return next(step for step in steps.STEPS if step.name == name)


def run(clips: Path, place: Path, until: str) -> StepResult:
    """All steps up to `until`."""
    config = config_of(clips)
    for step in step_called(until).chain():
        result = step(config, place)
    return result


def partial_folder(clips: Path, place: Path, name: str) -> Path:
    """Where a step works before it is done."""
    folder = step_called(name).folder(config_of(clips), place)
    return folder.with_name(folder.name + ".partial")


def progress(folder: Path, name: str) -> int:
    """How far a step came: clips cut, or states written."""
    if name == "preprocess":
        return len(list(folder.glob("frames/*/*.json")))
    return sum(int(path.stem.rsplit("-", 1)[1]) for path in latest_states(folder))


def latest_states(folder: Path) -> list[Path]:
    """The newest state of each network."""
    return [max(states) for run in folder.glob("*/checkpoints") if (states := list(run.glob("state-*.h5")))]


def start(clips: Path, place: Path, name: str) -> subprocess.Popen:
    """Begin a step in a process of its own; the steps before it must be done."""
    command = [sys.executable, __file__, str(clips), str(place), name]
    # Nothing may wait for the end of a pipe: worker processes live on for minutes after their parent, and hold it open.
    with (place / "errors.txt").open("wb") as errors:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)


def clean_up(process: subprocess.Popen) -> None:
    """End what a killed process left running."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def kill(process: subprocess.Popen, clips: Path, place: Path, name: str, *, moment: float, rest: float) -> int:
    """SIGKILL once the step came to `moment` (see `progress`) and `rest` seconds more; how far it came, -1 if it was done.

    Its worker processes are left to themselves (see `clean_up`), as when a system kills the largest process.
    """
    folder, deadline = partial_folder(clips, place, name), time.monotonic() + 120
    while (
        process.poll() is None
        and time.monotonic() < deadline
        and not (folder.is_dir() and progress(folder, name) >= moment)
    ):
        time.sleep(0.002)
    time.sleep(rest)
    process.kill()
    if process.wait() not in (0, -signal.SIGKILL):
        raise AssertionError(f"the step failed before it was killed: {(place / 'errors.txt').read_text()[-2000:]}")
    return progress(folder, name) if folder.is_dir() else -1


def random_moment(generator: random.Random, total: int, *, latest: float = 0.9) -> dict[str, float]:
    """Anywhere between the first item and the share `latest` of all, and somewhere inside it."""
    return {"moment": generator.uniform(0, latest * total), "rest": generator.uniform(0, 0.03)}


if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
