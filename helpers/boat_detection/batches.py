"""The training batches: pictures read, changed by chance, and their boxes as the loss takes them."""

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from helpers import batches
from helpers.boat_detection import data
from helpers.boat_detection.augment import chance, resizing
from helpers.boat_detection.formats.darknet import text_files

CACHE_BYTES = 512 * 2**20  # decoded pictures stay in memory up to this; those that no longer fit are read each time
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
        augmentation: what changes at random.
        mosaic: share of the pictures that are made of four; AlexeyAB's mosaic=1 is 0.5.
        random, max_batches: multi-scale, see `resizing.multi_scale_size`; random=0 keeps the size.
        subdivisions: so many steps make an iteration of multi-scale.
        workers: threads that read and change the pictures of a batch.

    Attributes:
        max_boxes: rows of y_true, as many boxes as a picture may have, up to `MAX_BOXES`: the loss takes time for each row.

    Raises:
        ValueError: a batch is larger than the data.
    """

    def __init__(
        self,
        images: Sequence[tuple[Path, np.ndarray]],
        *,
        size: int | Sequence[int],
        batch_size: int,
        seed: int = 0,
        augmentation: chance.Augmentation,
        mosaic: float = 0.0,
        random: float = 0.0,
        max_batches: int,
        subdivisions: int = 1,
        workers: int = 1,
    ) -> None:
        super().__init__(len(images), batch_size=batch_size, seed=seed, items="pictures")
        self._images, self.augmentation, self.mosaic = images, augmentation, mosaic
        most = max(len(boxes) for _, boxes in images) * (4 if mosaic else 1)
        self.max_boxes = max(1, min(most, MAX_BOXES[augmentation.dialect]))
        self._subdivisions = subdivisions
        self._scale = {"size": size, "dialect": augmentation.dialect, "random": random, "max_batches": max_batches}
        self._cache: dict[int, np.ndarray] = {}
        self._room, self._lock = CACHE_BYTES, threading.Lock()
        self._map = ThreadPoolExecutor(workers, thread_name_prefix="pictures").map if workers > 1 else map

    def size(self, step: int) -> tuple[int, int]:
        """(height, width) of the images of a step."""
        return resizing.multi_scale_size(step // self._subdivisions, seed=self.seed, **self._scale)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Images of a step, from 0, (B, height, width, 3) float32 in [0, 1], and its boxes (B, max_boxes, 5), see `targets`.

        Raises:
            FileNotFoundError, ValueError: a picture cannot be read; names it.
        """
        rows, size = self.rows(step), self.size(step)
        images = np.empty((len(rows), *size, 3), np.float32)

        def make(place: int) -> np.ndarray:
            generator = self.stream("changes", step, place)
            images[place], boxes = self._example(rows[place], size, generator)
            return generator.permutation(boxes)  # as Darknet does, before it cuts what is too many

        return images, targets(list(self._map(make, range(len(rows)))), self.max_boxes)

    def _example(
        self, row: int, size: tuple[int, int], generator: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
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
