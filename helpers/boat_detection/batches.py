"""The training batches: pictures read, changed by chance, and their boxes as the loss takes them."""

import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from helpers import batches
from helpers.boat_detection import data
from helpers.boat_detection.augment import chance, resizing
from helpers.boat_detection.formats.darknet import text_files

CACHE_BYTES = 512 * 2**20
MAX_BOXES = {"alexeyab": 200, "pjreddie": 90}  # of a picture, as Darknet has them


def targets(boxes: Sequence[np.ndarray], max_boxes: int) -> np.ndarray:
    """Boxes of B pictures as the loss takes them: (B, max_boxes, 5) float32 of centre x, centre y, w, h, class, else -1.

    Where a picture has more than `max_boxes` its last ones are lost, areas to ignore before all others.
    """
    y_true = np.full((len(boxes), max_boxes, 5), -1, np.float32)
    for row, found in zip(y_true, boxes, strict=True):
        found = found[np.argsort(found[:, 0] == text_files.IGNORE, kind="stable")][:max_boxes]
        row[: len(found)] = found[:, [1, 2, 3, 4, 0]]
    return y_true


class Batches(batches.Batches):
    """Training batches that depend on (seed, step) alone; see `helpers.batches`.

    Args:
        images: (path, boxes (n, 5)) of each picture, see `data.with_boxes`.
        size: of the input, int or (height, width), multiples of 32.
        batch_size: pictures in a batch.
        seed: of every random choice.
        augmentation: what changes at random; None only resizes.
        resize: "letterbox" or "stretch", for pictures that are only resized.
        mosaic: share of the pictures that are made of four; AlexeyAB's mosaic=1 is 0.5.
        random, max_batches: multi-scale, see `resizing.multi_scale_size`; random=0 keeps the size.
        subdivisions: so many steps make an iteration of multi-scale.
        max_boxes: boxes of a picture at most; default 200 (alexeyab) or 90 (pjreddie), or as many as there can be: the loss
            takes time for each row of y_true, also for those of padding.
        workers: threads that read and change the pictures of a batch.
        cache_bytes: decoded pictures stay in memory up to this; those that no longer fit are read each time.

    Raises:
        ValueError: a batch is larger than the data, or another argument is bad.
    """

    def __init__(
        self,
        images: Iterable[tuple[str | os.PathLike, np.ndarray]],
        *,
        size: int | Sequence[int],
        batch_size: int,
        seed: int = 0,
        augmentation: chance.Augmentation | None = None,
        resize: str,
        mosaic: float = 0.0,
        random: float = 0.0,
        max_batches: int | None = None,
        subdivisions: int = 1,
        max_boxes: int | None = None,
        workers: int = 1,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._images = [(Path(path), np.asarray(boxes, np.float32)) for path, boxes in images]
        super().__init__(len(self._images), batch_size=batch_size, seed=seed, items="pictures")
        self.augmentation, self.mosaic = augmentation, mosaic
        self.dialect = augmentation.dialect if augmentation else "alexeyab"
        self._check(resizing.as_pair(size), resize, workers)
        most = max(len(boxes) for _, boxes in self._images) * (4 if mosaic else 1)
        self.max_boxes = max_boxes or max(1, min(most, MAX_BOXES[self.dialect]))
        self._subdivisions = subdivisions
        self._scale = {"size": size, "dialect": self.dialect, "random": random, "max_batches": max_batches}
        self._resize = resizing.RESIZES[resize]
        self._cache: dict[int, np.ndarray] = {}
        self._room, self._lock = cache_bytes, threading.Lock()
        self._map = ThreadPoolExecutor(workers, thread_name_prefix="pictures").map if workers > 1 else map

    def _check(self, size: tuple[int, int], resize: str, workers: int) -> None:
        wrong = [str(path) for path, boxes in self._images if boxes.ndim != 2 or boxes.shape[1] != 5]
        four_sides = self.augmentation is not None and self.dialect == "alexeyab"
        mosaics = "0 to 1 with augmentation of alexeyab, else 0"
        checks = (
            (min(size) > 0 and not any(side % 32 for side in size), "size", size, "multiples of 32"),
            (resize in resizing.RESIZES, "resize", resize, ", ".join(resizing.RESIZES)),
            (workers >= 1, "workers", workers, "at least 1"),
            (0 <= self.mosaic <= float(four_sides), "mosaic", self.mosaic, mosaics),
            (not wrong, "boxes", f"another shape for {wrong[:1]}", "(n, 5) arrays"),
        )
        problems = [
            f"{name}: received {given}; allowed: {allowed}" for good, name, given, allowed in checks if not good
        ]
        if problems:
            raise ValueError("; ".join(problems))

    def size(self, step: int) -> tuple[int, int]:
        """(height, width) of the images of a step."""
        return resizing.multi_scale_size(step // self._subdivisions, seed=self.seed, **self._scale)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images and boxes of a step, from 0.

        Returns:
            (B, height, width, 3) float32 in [0, 1], and (B, max_boxes, 5), see `targets`: each picture's boxes are shuffled.

        Raises:
            FileNotFoundError, ValueError: a picture cannot be read; names it.
        """
        rows, size = self.rows(step), self.size(step)
        images = np.empty((len(rows), *size, 3), np.float32)

        def make(place: int) -> np.ndarray:
            generator = self.stream("changes", step, place)
            images[place], boxes = self._example(rows[place], size, generator)
            return generator.permutation(boxes)

        return images, targets(list(self._map(make, range(len(rows)))), self.max_boxes)

    def _example(
        self, row: int, size: tuple[int, int], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.augmentation is None:
            image, placement = self._resize(self._read(row), size)
            return image, placement.place(self._images[row][1])
        if self.mosaic and generator.random() < self.mosaic:
            others = generator.integers(len(self._images), size=3)
            pictures = [(self._read(index), self._images[index][1]) for index in (row, *others)]
            return chance.mosaic(pictures, size, generator, self.augmentation)
        return chance.augment(self._read(row), self._images[row][1], size, generator, self.augmentation)

    def _read(self, row: int) -> np.ndarray:
        row = int(row)
        if (image := self._cache.get(row)) is not None:
            return image
        image = data.read_image(self._images[row][0])
        with self._lock:
            if row not in self._cache and image.nbytes <= self._room:
                self._room -= image.nbytes
                self._cache[row] = image
        return image
