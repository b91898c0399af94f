"""Random changes of a clip: drawn once per clip and applied to all its frames, or the motion of the lips would be destroyed.

How strong they are is set in the config, by the names of the fields of `Augmentation`; 0 is off.
"""

import dataclasses
from typing import Any

import cv2
import numpy as np


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How strongly clips are changed.

    Attributes:
        shift: most of the height and width, either way.
        scale: most change of size, either way: 0.1 is 0.9 to 1.1.
        rotate: most degrees, either way.
        flip: probability that left and right change places.
        brightness, contrast: most change of the factor, either way.
        tempo: most change of tempo, either way: 0.3 is 0.7 to 1.3, around a moment of the clip; its first or last frame repeated.
        time_shift: most frames that the clip begins earlier or later, its first or last frame repeated.
        time_mask: largest share of the clip that is replaced by the clip's mean picture.
        frame_drop: probability that a frame shows the one before it.
    """

    shift: float = 0.0
    scale: float = 0.0
    rotate: float = 0.0
    flip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    tempo: float = 0.0
    time_shift: int = 0
    time_mask: float = 0.0
    frame_drop: float = 0.0

    @classmethod
    def of(cls, config: Any) -> "Augmentation":
        """The augmentation of a configuration."""
        return cls(**{field.name: getattr(config, field.name) for field in dataclasses.fields(cls)})


def augment_clip(clip: np.ndarray, rng: np.random.Generator, options: Augmentation) -> np.ndarray:
    """Change one clip at random, all its frames alike.

    Args:
        clip: (T, H, W, C) uint8.
        rng: source of the draws; always as many, so that one option does not change what another one draws.
        options: how strongly.

    Returns:
        (T, H, W, C) float32 in [0, 1].
    """
    draws = rng.uniform(-1, 1, 7).tolist()  # Python's floats leave float32 arrays as they are
    lucky, mask, drops, pace = rng.random(), rng.random(2).tolist(), rng.random(len(clip)), rng.random(2).tolist()
    frames = clip[_times(len(clip), draws[0], drops, pace, options)]
    frames = _move(frames, draws[1:5], lucky < options.flip, options).astype(np.float32) / 255
    frames = _relight(frames, 1 + options.brightness * draws[5], 1 + options.contrast * draws[6])
    return _mask(frames, mask, options.time_mask)


def _times(count: int, draw: float, drops: np.ndarray, pace: list[float], options: Augmentation) -> np.ndarray:
    """Which frame stands at each place: faster or slower around a moment, shifted as a whole, some standing still."""
    middle, factor = pace[0] * (count - 1), 1 + options.tempo * (2 * pace[1] - 1)
    moved = np.round(middle + factor * (np.arange(count) - middle)).astype(int) - round(draw * options.time_shift)
    moved = np.clip(moved, 0, count - 1)
    still = drops < options.frame_drop
    still[0] = False
    return moved[np.maximum.accumulate(np.where(still, 0, np.arange(count)))]


def _move(frames: np.ndarray, draws: list[float], flipped: bool, options: Augmentation) -> np.ndarray:
    height, width = frames.shape[1:3]
    angle, size = draws[2] * options.rotate, 1 + draws[3] * options.scale
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, size)
    matrix[:, 2] += draws[0] * options.shift * width, draws[1] * options.shift * height
    if flipped:  # first, so that a positive shift is to the right all the same
        matrix = matrix @ np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])
    if np.allclose(matrix, np.eye(2, 3)):
        return frames
    moved = [cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE) for frame in frames]
    return np.stack(moved).reshape(frames.shape)  # OpenCV drops a single channel


def _relight(frames: np.ndarray, brightness: float, contrast: float) -> np.ndarray:
    if brightness == contrast == 1:
        return frames
    mean = frames.mean()
    return np.clip(((frames - mean) * contrast + mean) * brightness, 0, 1, dtype=np.float32)


def _mask(frames: np.ndarray, draws: list[float], share: float) -> np.ndarray:
    length = round(draws[0] * share * len(frames))
    if length:
        start = int(draws[1] * (len(frames) - length + 1))
        frames[start : start + length] = frames.mean(axis=0)
    return frames


def mix_up(
    clips: np.ndarray, labels: np.ndarray, rng: np.random.Generator, alpha: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mixup (arXiv:1710.09412): each clip blended with another of the batch, and its label likewise.

    Args:
        clips: (B, T, H, W, C) float32.
        labels: (B, classes) float32.
        rng: source of the draws.
        alpha: of the Beta distribution that the shares come from; 0 mixes nothing.
    """
    if not alpha:
        return clips, labels
    share = rng.beta(alpha, alpha, len(clips)).astype(np.float32)
    other = rng.permutation(len(clips))
    blend = share.reshape(-1, 1, 1, 1, 1)
    mixed = blend * clips + (1 - blend) * clips[other]
    return mixed, share[:, None] * labels + (1 - share[:, None]) * labels[other]
