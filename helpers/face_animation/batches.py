"""Training batches of (source, driving) pairs that depend on the seed and the step alone, and their augmentation."""

import os
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageEnhance

from helpers.face_animation import data


def augment(
    pair: np.ndarray,
    generator: np.random.Generator,
    *,
    brightness: float = 0.1,
    contrast: float = 0.1,
    saturation: float = 0.1,
    hue: float = 0.1,
) -> np.ndarray:
    """Change both frames alike, as the original does: half of the pairs are swapped in time, half of the others mirrored.

    Then brightness, contrast and saturation by factors up to 1 - x to 1 + x and the hue by up to x of the colour circle, in
    random order, each on 8-bit pictures as Pillow does it (so every change rounds).

    Args:
        pair: (2, H, W, 3) uint8.
        generator: of all choices; the same number is drawn whatever comes out.
        brightness, contrast, saturation, hue: 0 switches one off.

    Returns:
        (2, H, W, 3) uint8.
    """
    swap, mirror = generator.random(2) < 0.5
    factors = 1 + generator.uniform(-1, 1, 3) * [brightness, saturation, contrast]
    shift = generator.uniform(-hue, hue)
    order = generator.permutation(4)
    pair = pair[::-1] if swap else pair[:, :, ::-1] if mirror else pair
    return np.stack([_jitter(frame, factors, shift, order) for frame in pair])


def _jitter(frame: np.ndarray, factors: np.ndarray, shift: float, order: np.ndarray) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(frame))
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast)
    for kind in order:
        if kind == 3:
            image = shift_hue(image, shift)
        elif factors[kind] != 1:
            image = enhancers[kind](image).enhance(float(factors[kind]))
    return np.asarray(image)


def shift_hue(image: Image.Image, shift: float) -> Image.Image:
    """Turn the 8-bit hue by int(shift * 255), around the circle; 0 leaves the picture as it is."""
    if not shift:
        return image
    hue, *others = image.convert("HSV").split()
    turned = ((np.asarray(hue, np.int16) + int(shift * 255)) % 256).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), *others)).convert("RGB")


class Batches:
    """Batches of pairs of frames of one clip each; every epoch another order, its last partial batch left out.

    Two frames are drawn with replacement; the earlier is the source, the later the one that drives.

    Args:
        clips: table with clip, path, frames (of `data.find_clips`).
        root: folder of the paths.
        batch_size: pairs in a batch.
        size: (height, width) of the frames.
        repeats: how often a clip (or person) comes in an epoch.
        by_person: an epoch goes over persons, and each time one of their clips is drawn (the original's id_sampling).
        augmentation: see `augment`.
        frame_shape: of strips, see `data.read_clip`.
        keep: clips held in memory, whole and resized; sensible for videos, which decode up to the frame that is needed.
        seed: of everything that is drawn.

    Attributes:
        steps_per_epoch: whole batches.

    Raises:
        ValueError: a clip without frames, or a batch larger than an epoch.
    """

    def __init__(
        self,
        clips: pd.DataFrame,
        root: str | os.PathLike,
        *,
        batch_size: int,
        size: tuple[int, int] = (256, 256),
        repeats: int = 1,
        by_person: bool = False,
        augmentation: bool = True,
        frame_shape: tuple[int, int] | None = None,
        keep: int = 0,
        seed: int = 0,
    ) -> None:
        if (clips["frames"] < 1).any():
            worst = clips.loc[clips["frames"] < 1, "clip"].iloc[0]
            raise ValueError(
                f"clips: {worst!r} has no frames counted: leave out what cannot be read, and count the rest"
            )
        units = defaultdict(list)
        for path, name, frames in zip(clips["path"], clips["clip"], clips["frames"], strict=True):
            units[data.person_of(name) if by_person else path].append((path, int(frames)))
        self.units = [units[key] for key in sorted(units)]
        if not 1 <= batch_size <= len(self.units) * repeats:
            raise ValueError(
                f"batch_size: received {batch_size}; allowed: 1 to {len(self.units) * repeats}, an epoch's pairs"
            )
        self.root, self.batch_size, self.size, self.repeats = Path(root), batch_size, tuple(size), repeats
        self.augmentation, self.frame_shape, self.keep, self.seed = augmentation, frame_shape, keep, seed
        self.steps_per_epoch = len(self.units) * repeats // batch_size
        self._order = lru_cache(2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(self.units) * repeats) % len(self.units)
        )
        self._clip = lru_cache(keep or 1)(
            lambda path: self._resized(data.read_clip(self.root / path, frame_shape=frame_shape))
        )

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step, from 0: source and driving, (B, height, width, 3) float32 in [0, 1]."""
        epoch, place = divmod(step, self.steps_per_epoch)
        units = self._order(epoch)[place * self.batch_size :][: self.batch_size]
        pairs = np.stack([self._pair(unit, step, index) for index, unit in enumerate(units)])
        pairs = pairs.astype(np.float32) / 255
        return {"source": pairs[:, 0], "driving": pairs[:, 1]}

    def _pair(self, unit: int, step: int, index: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, step, index])
        clips = self.units[unit]
        path, frames = clips[generator.integers(len(clips))]
        numbers = np.sort(generator.integers(frames, size=2))
        if self.keep:
            pair = self._clip(path)[numbers]
        else:
            pair = self._resized(data.read_frames(self.root / path, numbers, frame_shape=self.frame_shape))
        return augment(pair, generator) if self.augmentation else pair

    def _resized(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([data.resize(frame, self.size) for frame in frames])
