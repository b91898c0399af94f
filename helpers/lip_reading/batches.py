"""All clips of a split, and training batches of them, on any backend."""

import dataclasses

import numpy as np
import pandas as pd

from helpers import batches
from helpers.lip_reading import splits
from helpers.lip_reading.augment import Augmentation, augment_clip, mix_up
from helpers.workspace import StepResult


@dataclasses.dataclass(frozen=True)
class Lips:
    """All clips of a split, ready for a network.

    Attributes:
        table: one row a clip: path, label, speaker, number (of the word), and its sides.
        clips: (N, T, H, W, C) uint8, mapped from the disk.
        parts: columns of the table that hold the sides, one or one per part of a cross-validation.
    """

    table: pd.DataFrame
    clips: np.ndarray
    words: list[str]
    parts: list[str]

    @classmethod
    def of(cls, result: StepResult) -> "Lips":
        """What step `split` left."""
        table = result.table("clips")
        clips = np.load(result.folder / "clips.npy", mmap_mode="r")
        return cls(table, clips, result["words"], splits.columns_of(table))

    @property
    def labels(self) -> np.ndarray:
        """(N,) class numbers."""
        return self.table["number"].to_numpy()

    def rows(self, side: str, part: str | None = None) -> np.ndarray:
        """Numbers of the clips of one side."""
        return np.flatnonzero(self.table[part or self.parts[0]] == side)


class Batches(batches.Batches):
    """Batches of changed clips and soft labels; see `helpers.batches`. ValueError: clips and labels do not fit.

    Args:
        clips: (N, T, H, W, C) uint8, also memory-mapped.
        labels: (N,) class numbers.
        seed: of order, augmentation and mixup.
        augmentation: how strongly clips are changed; None not at all.
        mixup: alpha of mixup; 0 is off.
        label_smoothing: share of each label that is spread over all classes.
        rows: use these clips only.
    """

    def __init__(
        self, clips: np.ndarray, labels: np.ndarray, *, num_classes: int, batch_size: int, seed: int = 0,
        augmentation: Augmentation | None = None, mixup: float = 0.0, label_smoothing: float = 0.0,
        rows: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        self.chosen = np.arange(len(clips)) if rows is None else np.asarray(rows)
        super().__init__(len(self.chosen), batch_size=batch_size, seed=seed, items="clips")
        if len(labels) != len(clips) or len(clips.shape) != 5 or not ((labels >= 0) & (labels < num_classes)).all():
            raise ValueError(
                f"received clips {clips.shape} and {len(labels)} labels; allowed: (N, T, H, W, C) and N labels from 0 to "
                f"{num_classes - 1}"
            )
        self.clips, self.augmentation, self.mixup = clips, augmentation or Augmentation(), mixup
        targets = np.eye(num_classes, dtype=np.float32)[labels]
        self.targets = targets * (1 - label_smoothing) + np.float32(label_smoothing / num_classes)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step, from 0: clips (B, T, H, W, C) float32 in [0, 1] and labels (B, classes) float32 that sum to 1."""
        rows, rng = self.chosen[self.rows(step)], self.stream("changes", step)
        clips = np.stack([augment_clip(self.clips[row], rng, self.augmentation) for row in rows])
        return mix_up(clips, self.targets[rows], rng, self.mixup)


def to_unit(clips: np.ndarray) -> np.ndarray:
    """uint8 clips as the networks take them: float32 in [0, 1]."""
    return clips.astype(np.float32) / 255
