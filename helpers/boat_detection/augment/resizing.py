"""The network's input: pictures resized to it without chance, boxes there and back, and its size in multi-scale training.

Boxes inside a picture are (n, 5) arrays: class, centre x, centre y, width, height, relative to it. Rows of class -2, areas
to ignore, move as all others. Sizes are an int or (height, width).
"""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from helpers.batches import stream

GREY = 0.5


class Placement(NamedTuple):
    """Where a whole picture lies in the network's input, in fractions of the input; what is outside 0 to 1 is cut off."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip: bool = False  # it is mirrored, left to right, at this place

    def place(
        self, boxes: np.ndarray, *, least: tuple[float, float] = (0.0, 0.0), within: Sequence[float] = (0, 0, 1, 1)
    ) -> np.ndarray:
        """Boxes (n, 5) of the picture as boxes of the input, (m, 5) float32, cut to what is visible.

        Args:
            least: width and height, relative to the input: smaller ones are dropped, and so are those without an area.
            within: corners x1, y1, x2, y2 of the visible part of the input.
        """
        boxes = np.asarray(boxes, np.float32)
        centres, sides = boxes[:, 1:3], boxes[:, 3:5] * (self.width, self.height)
        if self.flip:
            centres = centres * (-1, 1) + (1, 0)
        centres = centres * (self.width, self.height) + (self.left, self.top)
        low, high = np.maximum(centres - sides / 2, within[:2]), np.minimum(centres + sides / 2, within[2:])
        sides = high - low
        kept = (sides > 0).all(axis=1) & (sides >= least).all(axis=1)
        return np.concatenate([boxes[:, :1], (low + high) / 2, sides], axis=1)[kept].astype(np.float32)

    def undo(self, corners: np.ndarray) -> np.ndarray:
        """Boxes of the input, such as detections, as boxes of the picture: (..., 4) x1, y1, x2, y2, relative, not cut."""
        corners = (corners - np.array((self.left, self.top) * 2)) / np.array((self.width, self.height) * 2)
        return corners[..., [2, 1, 0, 3]] * (-1, 1, -1, 1) + (1, 0, 1, 0) if self.flip else corners


def as_pair(size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) of a size."""
    height, width = (size, size) if np.isscalar(size) else size
    return int(height), int(width)


def to_float(image: np.ndarray) -> np.ndarray:
    """Uint8 to float32 in [0, 1]; floats stay as they are."""
    return np.divide(image, np.float32(255)) if image.dtype == np.uint8 else np.asarray(image, np.float32)


def stretch(image: np.ndarray, size: int | Sequence[int]) -> tuple[np.ndarray, Placement]:
    """Resize (H, W, 3), uint8 or float in [0, 1], to the input, aspect ratio not kept: AlexeyAB's way.

    Returns:
        (height, width, 3) float32 in [0, 1], and the placement that `undo`es detections.
    """
    return to_float(resize(image, as_pair(size))), Placement()


def letterbox(image: np.ndarray, size: int | Sequence[int]) -> tuple[np.ndarray, Placement]:
    """Resize to fit into the input, the rest 0.5 grey: pjreddie's way. Arguments and results as `stretch`.

    The numbers are Darknet's, rounded down; its own way back takes half an odd rest for half a pixel.
    """
    (rows, columns), (high, wide) = as_pair(size), image.shape[:2]
    height, width = rows, columns
    if columns * high < rows * wide:
        height = max(1, high * columns // wide)
    else:
        width = max(1, wide * rows // high)
    top, left = (rows - height) // 2, (columns - width) // 2
    canvas = np.full((rows, columns, 3), GREY, np.float32)
    canvas[top : top + height, left : left + width] = to_float(resize(image, (height, width)))
    return canvas, Placement(left / columns, top / rows, width / columns, height / rows)


RESIZES = {"letterbox": letterbox, "stretch": stretch}


def resize(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) to `size`, bilinear as OpenCV has it: pixels are areas. Darknet's own takes them for points, half a pixel off."""
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


# --- multi-scale ---


def draw_scale(generator: np.random.Generator, most: float) -> float:
    """A factor between 1 and `most`, or, every second time, one over it."""
    factor = generator.uniform(1, most)
    return float(factor if generator.random() < 0.5 else 1 / factor)


def multi_scale_size(
    iteration: int,
    *,
    seed: int,
    size: int | Sequence[int],
    dialect: str,
    random: float,
    max_batches: int,
) -> tuple[int, int]:
    """The input's size in an iteration: another one every 10 iterations, a multiple of 32.

    alexeyab draws between size / 1.4 and size * 1.4 (one step of 32 more), begins with the largest, to see whether the memory
    suffices, and ends with it. pjreddie draws from 320, 352, ..., 608, whatever the size, and ends with 608.

    Args:
        iteration: from 0; the draws depend on it and the seed alone.
        size: of the cfg.
        dialect: whose rule.
        random: AlexeyAB's factor, 1.4 for random=1 of the cfg's [yolo] section; 0 keeps the size.
        max_batches: iterations in all; the blocks that begin in the last 100 (alexeyab) or 200 (pjreddie) have the largest size.

    Returns:
        (height, width) in pixels.
    """
    sides = as_pair(size)
    if not random:
        return sides
    block = iteration // 10 * 10
    left, generator = max_batches - block, stream(seed, "size", block)
    if dialect == "pjreddie":
        side = 608 if left < 200 else 32 * int(generator.integers(10, 20))
        return side, side
    factor = random if block == 0 or left < 100 else draw_scale(generator, random)
    scaled = tuple(max(32, int(factor * side / 32 + 1.5) * 32) for side in sides)
    return sides if factor < 1 and any(new > old for new, old in zip(scaled, sides, strict=True)) else scaled
