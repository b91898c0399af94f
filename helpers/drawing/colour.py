"""Colours of the drawn data sets: RGB, whole numbers from 0 to 255."""

import cv2
import numpy as np

Color = tuple[int, int, int]


def shade(color: Color, factor: float) -> Color:
    """The colour made darker (below 1) or lighter (above 1)."""
    return tuple(min(255, round(channel * factor)) for channel in color)


def mix(first: Color, second: Color, share: float) -> Color:
    """The first colour with a share, 0 to 1, of the second one in it."""
    return tuple(round((1 - share) * a + share * b) for a, b in zip(first, second, strict=True))


def from_hsv(hue: float, saturation: float, value: float) -> Color:
    """The colour of a hue in half degrees (180 is the whole circle, more goes round again), saturation and value to 255."""
    pixel = np.array([[[hue % 180, saturation, value]]]).astype(np.uint8)
    return tuple(cv2.cvtColor(pixel, cv2.COLOR_HSV2RGB)[0, 0].tolist())
