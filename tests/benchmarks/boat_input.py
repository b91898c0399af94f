"""Training images per second of the boats' input, part by part; ratios to decoding alone, measured side by side.

Usage: python tests/benchmarks/boat_input.py [--images 400] [--source 192 128] [--size 128] [--batch 40] [--rounds 5]
The pictures are drawn once and stay in the system's cache, so that no disk is measured. For one core: taskset -c 0 before it.
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import cv2
import numpy as np
import pandas as pd

from helpers import training
from helpers.boat_detection import data
from helpers.boat_detection.augment.chance import Augmentation
from helpers.boat_detection.batches import Batches

BOXES = 5
changes = functools.partial(Augmentation, dialect="alexeyab", jitter=0.3, hue=0.1, saturation=1.5, exposure=1.5)
GEOMETRY = {"hue": 0.0, "saturation": 1.0, "exposure": 1.0}


def draw_pictures(folder: Path, count: int, source: tuple[int, int]) -> list[tuple[Path, np.ndarray]]:
    """JPEG files of soft noise, about as large as photos of that size, and five boxes each."""
    rng = np.random.default_rng(0)
    width, height = source
    pictures = []
    for number in range(count):
        coarse = rng.integers(0, 256, (height // 12, width // 12, 3), np.uint8)
        image = cv2.resize(coarse, source, interpolation=cv2.INTER_CUBIC)
        path = folder / f"{number:04d}.jpg"
        cv2.imwrite(str(path), image)
        boxes = np.concatenate(
            [np.zeros((BOXES, 1)), rng.uniform(0.2, 0.8, (BOXES, 2)), np.full((BOXES, 2), 0.2)], axis=1
        )
        pictures.append((path, boxes.astype(np.float32)))
    return pictures


def decode(pictures: list[tuple[Path, np.ndarray]]) -> Iterator[int]:
    """The files read, and nothing else."""
    for path, _ in pictures:
        data.read_image(path)
        yield 1


def epoch(batches: Batches, threads: int = 0) -> Iterator[int]:
    """An epoch, made where it is used or ahead of use by `training.prefetch`."""
    if not threads:
        yield from (len(batches.batch(step)[0]) for step in range(batches.steps_per_epoch))
        return
    feed = training.prefetch(batches.batch, workers=threads)
    for _ in range(batches.steps_per_epoch):
        yield len(next(feed)[0])
    feed.close()


def measure(function: Callable[[], Iterator[int]]) -> float:
    """Images a second."""
    began = time.perf_counter()
    images = sum(function())
    return images / (time.perf_counter() - began)


def variants_of(pictures: list, size: int, batch: int) -> dict[str, Callable[[], Iterator[int]]]:
    """What is measured, by name."""
    parts = {
        "stretch": {"augmentation": changes(jitter=0, flip=False, **GEOMETRY)},
        "alexeyab: jitter, flip": {"augmentation": changes(**GEOMETRY)},
        "alexeyab: jitter, flip, HSV": {"augmentation": changes()},
        "alexeyab: all, half of it mosaics": {"augmentation": changes(), "mosaic": 0.5},
        "pjreddie: jitter, flip": {"augmentation": changes(dialect="pjreddie", **GEOMETRY)},
        "pjreddie: jitter, flip, HSV": {"augmentation": changes(dialect="pjreddie")},
    }
    options = {"size": size, "batch_size": batch, "max_batches": 0}
    found = {"decode": lambda: decode(pictures)}
    for name, more in parts.items():
        for cached in (False, True):
            batches = Batches(pictures, **options, **more)
            batches._room = 2**32 if cached else 0
            found[name + (", cached" if cached else "")] = lambda batches=batches: epoch(batches)
    usual = Batches(pictures, **options, augmentation=changes())
    for threads in (1, 2, 4):
        found[f"alexeyab: all, prefetch by {threads}"] = lambda threads=threads: epoch(usual, threads)
    inside = Batches(pictures, **options, augmentation=changes(), workers=2)
    usual._room = inside._room = 0
    found["alexeyab: all, 2 threads in a batch"] = lambda: epoch(inside)
    return found


def main() -> None:
    """Draw the pictures, run all variants in turns, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--source", type=int, nargs=2, default=(192, 128), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        pictures = draw_pictures(Path(temporary), arguments.images, tuple(arguments.source))
        variants = variants_of(pictures, arguments.size, arguments.batch)
        found = {name: [] for name in variants}
        for function in variants.values():  # fills the caches
            measure(function)
        for _ in range(arguments.rounds):
            for name, function in variants.items():
                found[name].append(measure(function))
    rows = [
        {
            "input": name,
            "images/s": statistics.median(values),
            "ratio": statistics.median(value / base for value, base in zip(values, found["decode"], strict=True)),
        }
        for name, values in found.items()
    ]
    width, height = arguments.source
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"JPEG {width}x{height} to {arguments.size}  (load {os.getloadavg()[0]:.1f}, {cores} of {os.cpu_count()} cores)"
    )
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
