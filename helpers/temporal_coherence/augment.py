"""Changes of frames by chance."""

import cv2
import numpy as np

GAIN, TINT, CONTRAST = (0.6, 1.4), (0.7, 1.3), (0.6, 1.4)  # ranges of factors: all channels, each channel, contrast


def augment_frame(frame: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random crop (half to all of the area), mirror, brightness, contrast and colour balance; float32 in [0, 1], same shape."""
    side = frame.shape[0]
    cut = round(side * np.sqrt(generator.uniform(0.5, 1.0)))
    top, left = generator.integers(0, side - cut + 1, 2)
    frame = cv2.resize(frame[top : top + cut, left : left + cut], (side, side))
    if generator.random() < 0.5:
        frame = frame[:, ::-1]
    gain = generator.uniform(*GAIN) * generator.uniform(*TINT, 3)
    contrast = generator.uniform(*CONTRAST)  # (frame - mean) * contrast + mean * gain, in one pass
    shift = (frame.mean() * (gain - contrast)).astype(np.float32)
    return np.clip(frame * contrast + shift, 0.0, 1.0)
