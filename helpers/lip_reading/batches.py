"""Training batches from clips in memory, on any backend."""

from functools import lru_cache

import numpy as np

from helpers.lip_reading.augment import Augmentation, augment_clip, mix_up


class Batches:
    """Batches that depend on (seed, step) alone; every epoch another order, its last partial batch left out.

    Args:
        clips: (N, T, H, W, C) uint8, also memory-mapped.
        labels: (N,) class numbers.
        num_classes: how many classes there are.
        batch_size: clips in a batch.
        seed: of order, augmentation and mixup.
        augmentation: how strongly clips are changed; None not at all.
        mixup: alpha of mixup; 0 is off.
        label_smoothing: share of each label that is spread over all classes.
        rows: use these clips only, in this order.

    Attributes:
        steps_per_epoch: whole batches.

    Raises:
        ValueError: a batch is larger than the data, or clips and labels do not fit.
    """

    def __init__(
        self,
        clips: np.ndarray,
        labels: np.ndarray,
        *,
        num_classes: int,
        batch_size: int,
        seed: int = 0,
        augmentation: Augmentation | None = None,
        mixup: float = 0.0,
        label_smoothing: float = 0.0,
        rows: np.ndarray | None = None,
    ) -> None:
        self.rows = np.arange(len(clips)) if rows is None else np.asarray(rows)
        labels = np.asarray(labels)
        if len(labels) != len(clips) or clips.ndim != 5 or not ((labels >= 0) & (labels < num_classes)).all():
            raise ValueError(
                f"received clips {clips.shape} and {len(labels)} labels; allowed: (N, T, H, W, C) and N labels from 0 to "
                f"{num_classes - 1}"
            )
        if not 1 <= batch_size <= len(self.rows):
            raise ValueError(f"batch_size: received {batch_size}; allowed: 1 to {len(self.rows)}, the number of clips")
        self.clips, self.batch_size, self.seed = clips, batch_size, seed
        self.augmentation, self.mixup = augmentation or Augmentation(), mixup
        targets = np.eye(num_classes, dtype=np.float32)[labels]
        self.targets = targets * (1 - label_smoothing) + np.float32(label_smoothing / num_classes)
        self.steps_per_epoch = len(self.rows) // batch_size
        self._order = lru_cache(2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(self.rows))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, from 0: clips (B, T, H, W, C) float32 in [0, 1] and labels (B, classes) float32 that sum to 1."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[place * self.batch_size :][: self.batch_size]
        rng = np.random.default_rng([self.seed, 0, step])
        clips = np.stack([augment_clip(self.clips[row], rng, self.augmentation) for row in rows])
        return mix_up(clips, self.targets[rows], rng, self.mixup)


def to_unit(clips: np.ndarray) -> np.ndarray:
    """uint8 clips as the networks take them: float32 in [0, 1]."""
    return clips.astype(np.float32) / 255
