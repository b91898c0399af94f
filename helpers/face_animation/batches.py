"""Training batches of (source, driving) pairs that depend on the seed and the step alone."""

import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import batches
from helpers.face_animation import augment, data, splits


class Batches(batches.Batches):
    """Batches of pairs of frames of one clip each; every epoch another order, its last partial batch left out.

    Two frames are drawn with replacement; the earlier is the source, the later the one that drives.

    Args:
        clips: table with clip, path, frames (of `data.find_clips`, without those that cannot be read).
        size: (height, width) of the frames.
        repeats: how often a clip (or person) comes in an epoch.
        by_person: an epoch goes over persons, and each time one of their clips is drawn (the original's id_sampling).
        keep: clips held in memory, whole and resized; sensible for videos, which decode up to the frame that is needed.

    Raises:
        ValueError: a batch larger than an epoch.
    """

    def __init__(
        self, clips: pd.DataFrame, root: str | os.PathLike, *, batch_size: int, size: tuple[int, int],
        repeats: int = 1, by_person: bool = False, augmentation: bool = True, keep: int = 0, seed: int = 0,
    ) -> None:  # fmt: skip
        units = defaultdict(list)
        for path, name, frames in zip(clips["path"], clips["clip"], clips["frames"], strict=True):
            units[splits.person_of(name) if by_person else path].append((path, int(frames)))
        self.units = [units[key] for key in sorted(units)]
        super().__init__(len(self.units), batch_size=batch_size, seed=seed, repeats=repeats, items="pairs")
        self.root, self.size, self.keep = Path(root), tuple(size), keep
        self.augmentation = augmentation
        self._clip = lru_cache(keep or 1)(lambda path: self._resized(data.read_clip(self.root / path)))

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a training step, from 0: source and driving, (B, height, width, 3) float32 in [0, 1]."""
        return self.pairs(step, "changes")

    def pairs(self, step: int, kind: str) -> dict[str, np.ndarray]:
        """`batch` with its frames and changes from the stream `kind`, see `helpers.batches`."""
        drawn = [self._pair(unit, self.stream(kind, step, place)) for place, unit in enumerate(self.rows(step))]
        pairs = np.stack(drawn).astype(np.float32) / 255
        return {"source": pairs[:, 0], "driving": pairs[:, 1]}

    def _pair(self, unit: int, generator: np.random.Generator) -> np.ndarray:
        clips = self.units[unit]
        path, frames = clips[generator.integers(len(clips))]
        numbers = np.sort(generator.integers(frames, size=2))
        pair = self._clip(path)[numbers] if self.keep else self._resized(data.read_frames(self.root / path, numbers))
        return augment.augment(pair, generator) if self.augmentation else pair

    def _resized(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([data.resize(frame, self.size) for frame in frames])
