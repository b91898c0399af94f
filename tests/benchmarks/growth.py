"""What each step of each project costs at 1, 4 and 16 times mini: seconds of one core, and peak memory beyond what is imported.

    python tests/benchmarks/growth.py [--projects lip_reading ...] [--times 1 4 16] [--results FILE]

More clips, videos or pictures are drawn; nothing else grows. So that 16 times can be drawn in minutes, once is less than mini for
four projects: clips of 12 to 16 frames, half of the classes, words, puppets or pictures (`DRAWN`, `PLACED`). A training is one
pass over the data with fewer networks or repeats than mini's; of boats, which have no passes, a part of one (`CHANGED`).

Each step runs in a fresh process with one thread, on what the steps before it left in a temporary folder. Seconds are CPU time of
the process and of those that it started, without the imports. Memory is `ru_maxrss` of the process, or of its largest child, less
what it was after the imports; files that are mapped into memory count. `--results` keeps what was measured, one JSON line a step,
and measures nothing again. Unix only.
"""

import argparse
import dataclasses
import importlib
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]

SIZES = (1, 4, 16)
THOUSAND = 1000
STEPS = ("build", "preprocess", "split", "train", "evaluate")
LINEAR = 1.1  # an exponent up to this is taken for linear: what does not grow pulls it down, noise either way
ONE_THREAD = dict.fromkeys(
    ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LOKY_MAX_CPU_COUNT"),
    "1",
)  # fmt: skip


def _shards(times: int) -> dict[str, int]:
    """Files of 100 videos as mini's `SHARDS`, so many times: 8 train, 3 are held out, one has no labels."""
    validate = [*range(times), *range(3224, 3224 + 3 * times)]
    parts = {"train": range(7 * times), "validate": validate, "test": range(times)}
    return {f"{part}{number:04d}": 100 for part, numbers in parts.items() for number in numbers}


DRAWN = {  # what the drawing of a data set gets in place of mini's; faces and boats begin at half of mini
    "temporal_coherence": lambda times: {"clips_per_group": 2 * times, "frames": (12, 16)} | THREE_CLASSES,
    "circulant_video": lambda times: {"shards": _shards(times)},
    "boat_detection": lambda times: {"images": 1000 * times, "size": (64, 96)},
    "lip_reading": lambda times: {"speakers": 24 * times},
    "face_animation": lambda times: {"people": (16 * times, 3 * times)},
}
THREE_CLASSES = {"classes": ("Archery", "Billiards", "Bowling")}
PLACED = {  # constants of the rooms `mini` for this process: clips of some twelve frames, half of the words
    "lip_reading": {"scenes.SECONDS": (0.4, 0.5), "dataset.WORDS": ("about", "opal", "pony", "wisp")},
    "face_animation": {"dataset.FRAMES": (12, 17)},
}
CHANGED = {  # settings other than mini's; boats have no epochs: a part of a pass, which grows with the pictures
    "temporal_coherence": lambda times: {"epochs": 1},
    "circulant_video": lambda times: {"experiments": ("diagonal",), "seeds": (0,), "epochs": 1},
    "boat_detection": lambda times: {"iterations": 25 * times, "evaluate_every": 25 * times},
    "lip_reading": lambda times: {"epoch": 1},
    "face_animation": lambda times: {"epochs": 1, "repeats": 4, "milestones": ()},
}
ITEMS = {"clips": "clips", "pictures": "pictures", "shards": "files of 100 videos"}  # in what the first step found


def _used() -> tuple[float, float]:
    """CPU seconds so far, and peak memory in MB: of this process, or of its largest child if that was larger."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1e6 if sys.platform == "darwin" else 1e3  # bytes, or kilobytes
    return sum(one.ru_utime + one.ru_stime for one in both), max(one.ru_maxrss for one in both) / unit


def measure(project: str, times: int, numbers: list[int], place: str) -> None:
    """Do steps, each in a process forked from this one after the imports, and print what each took."""
    from helpers import config, runtime

    if os.environ["KERAS_BACKEND"] == "tensorflow":
        runtime.quiet_start()
    steps = importlib.import_module(f"helpers.{project}.steps")
    grow(project, times)
    settings = config.load(config.find(project, "mini"), config.schema_of(project))
    settings = dataclasses.replace(settings, **CHANGED[project](times))
    for number in numbers:
        if len(numbers) == 1 or not os.fork():  # TensorFlow has threads, and cannot be forked
            began, (before, imports) = time.perf_counter(), _used()
            result = steps.STEPS[number](settings, place)
            wall, (after, peak) = time.perf_counter() - began, _used()
            found = {"seconds": after - before, "wall": wall, "MB": peak - imports, "imports": imports}
            found |= {"project": project, "times": times, "step": STEPS[number], "updates": _updates(result.folder)}
            found["items"] = steps.STEPS[0].load(settings, place).found
            print(json.dumps(found), flush=True)
            os._exit(0)  # threads that read ahead need no orderly end
        os.wait()


def grow(project: str, times: int) -> None:
    """Let the first step draw so many times the items, in this process."""
    rooms = f"helpers.{project}.mini"
    for name, value in PLACED.get(project, {}).items():
        room, _, name = name.partition(".")
        setattr(importlib.import_module(f"{rooms}.{room}"), name, value)
    drawing = importlib.import_module(f"{rooms}.dataset")
    draw, more = drawing.make_dataset, DRAWN[project](times)
    drawing.make_dataset = lambda folder, **options: draw(folder, **(options | more))


def _updates(folder: Path) -> int:
    """Steps of all trainings in a folder, from their logs."""
    return sum(json.loads(path.read_text().splitlines()[-1])["step"] for path in folder.rglob("log.jsonl"))


def measure_all(project: str, times: int) -> list[dict[str, Any]]:
    """All steps of a project at a size, one after another, each in a process of its own; the first three need no TensorFlow."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        for backend, numbers in (("numpy", "012"), ("tensorflow", "3"), ("tensorflow", "4")):
            command = [sys.executable, __file__, "--one", project, str(times), numbers, place]
            environment = os.environ | ONE_THREAD | {"COURSE_PROGRESS": "0", "KERAS_BACKEND": backend}
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if line.startswith('{"seconds"')]
            if len(lines) < len(numbers):
                raise RuntimeError(
                    f"{project}, {times} times: not all of {numbers} were measured: {done.stderr[-2000:]}"
                )
            found += map(json.loads, lines)
    return found


def exponent(small: float, large: float, factor: float = 4.0) -> float:
    """p of a cost that grows as size^p, from two costs whose sizes differ by `factor`: 1 is linear, 2 quadratic."""
    return math.log(large / small) / math.log(factor)


def at(size: float, costs: dict[int, float]) -> float:
    """A cost at a size beyond the largest two that were measured.

    On the straight line through them, which leaves out what does not grow; where the exponent is above `LINEAR`, by it.
    """
    (low, small), (high, large) = sorted(costs.items())[-2:]
    power = exponent(small, large, high / low) if small > 0 < large else 1.0
    if power > LINEAR:
        return large * (size / high) ** power
    return large + max(0.0, large - small) / (high - low) * (size - high)


def table(rows: list[dict[str, Any]]) -> str:
    """What was measured, as Markdown: a row a project and step, with costs at a thousand times mini as `at` computes them."""
    sizes = sorted({row["times"] for row in rows})
    names = [f"{size}x" for size in sizes]
    heads = ["project", "step", *(f"s {name}" for name in names), "exponent", *(f"MB {name}" for name in names)]
    lines = [[*heads, "imports MB", f"h {THOUSAND}x", f"GB {THOUSAND}x"]]
    lines.append(["---"] * len(lines[0]))
    for project, step in dict.fromkeys((row["project"], row["step"]) for row in rows):
        mine = {row["times"]: row for row in rows if (row["project"], row["step"]) == (project, step)}
        if sorted(mine) != sizes:
            raise ValueError(f"{project}, {step}: measured at {sorted(mine)}; expected {sizes}: measure the rest first")
        seconds, memory = ({size: mine[size][name] for size in sizes} for name in ("seconds", "MB"))
        power = exponent(seconds[sizes[-2]], seconds[sizes[-1]], sizes[-1] / sizes[-2])
        cells = [*(f"{value:.1f}" for value in seconds.values()), f"{power:.2f}"]
        cells += [f"{value:.0f}" for value in memory.values()]
        imports = max(mine[size]["imports"] for size in sizes)
        cells += [f"{imports:.0f}", f"{at(THOUSAND, seconds) / 3600:.1f}", f"{at(THOUSAND, memory) / 1e3:.1f}"]
        lines.append([project, step, *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def notes(rows: list[dict[str, Any]]) -> str:
    """A line a project: its items at each size, and milliseconds of an update between the largest two sizes."""
    lines = []
    for project in dict.fromkeys(row["project"] for row in rows):
        trained = sorted((row for row in rows if row["project"] == project and row["step"] == "train"), key=_times)
        low, high = trained[-2:]
        each = 1e3 * (high["seconds"] - low["seconds"]) / (high["updates"] - low["updates"])
        name = next(name for name in ITEMS if name in low["items"])
        counts = [_count(row["items"][name]) for row in trained]
        steps = ", ".join(str(row["updates"]) for row in trained)
        lines.append(f"{project}: {', '.join(counts)} {ITEMS[name]}; {steps} steps of training, each {each:.0f} ms")
    return "\n".join(lines)


def _times(row: dict[str, Any]) -> int:
    return row["times"]


def _count(found: int | dict[str, int]) -> str:
    return str(sum(found.values()) if isinstance(found, dict) else found)


def main() -> None:
    """Measure what is not measured yet, and print the table."""
    if sys.argv[1:2] == ["--one"]:
        project, times, numbers, place = sys.argv[2:]
        measure(project, int(times), [*map(int, numbers)], place)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--projects", nargs="*", choices=list(DRAWN), default=list(DRAWN))
    parser.add_argument("--times", nargs="*", type=int, default=SIZES)
    parser.add_argument("--results", type=Path, help="file of what was measured, one JSON line a step; it grows")
    arguments = parser.parse_args()
    kept = arguments.results.read_text().splitlines() if arguments.results and arguments.results.is_file() else []
    rows = [row for row in map(json.loads, kept) if row["project"] in arguments.projects]
    for project in arguments.projects:
        for times in arguments.times:
            if not any((row["project"], row["times"]) == (project, times) for row in rows):
                print(f"measuring {project}, {times} times mini", file=sys.stderr, flush=True)
                rows += (found := measure_all(project, times))
                for row in found if arguments.results else ():
                    with arguments.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")
    for row in rows if len({row["times"] for row in rows}) < 2 else ():
        print(json.dumps(row))
    if len({row["times"] for row in rows}) > 1:
        print(f"{table(rows)}\n\n{notes(rows)}")


if __name__ == "__main__":
    main()
