"""Changes of frames by chance."""

from collections.abc import Sequence

import cv2
import numpy as np

CHANGES = ("crop", "mirror", "colour")
GAIN, TINT, CONTRAST = (0.6, 1.4), (0.7, 1.3), (0.6, 1.4)  # ranges of factors: all channels, each channel, contrast


def augment_frame(frame: np.ndarray, generator: np.random.Generator, changes: Sequence[str] = CHANGES) -> np.ndarray:
    """Change a frame (S, S, 3) float32 in [0, 1] by chance, in its form.

    Args:
        changes: of "crop" (half to all of the area), "mirror" (every other one), "colour" (brightness, contrast, balance).
    """
    side = frame.shape[0]
    if "crop" in changes:
        cut = round(side * np.sqrt(generator.uniform(0.5, 1.0)))
        top, left = generator.integers(0, side - cut + 1, 2)
        frame = cv2.resize(frame[top : top + cut, left : left + cut], (side, side))
    if "mirror" in changes and generator.random() < 0.5:
        frame = frame[:, ::-1]
    if "colour" not in changes:
        return frame
    gain = generator.uniform(*GAIN) * generator.uniform(*TINT, 3)
    contrast = generator.uniform(*CONTRAST)  # (frame - mean) * contrast + mean * gain, in one pass
    shift = (frame.mean() * (gain - contrast)).astype(np.float32)
    return np.clip(frame * contrast + shift, 0.0, 1.0)
