"""Pens of the drawn data sets: areas and lines with smooth edges, placed to parts of a pixel, so that slow motion looks smooth.

A pen knows where a point of its world lies in the picture (`pixels`) and what its paint makes of a colour (`ink`).
"""

import cmath
from collections.abc import Sequence

import cv2
import numpy as np

from helpers.drawing.colour import Color

BITS = 4
FRACTION = 1 << BITS  # OpenCV takes corners in 1/16 of a pixel, as whole numbers that it shifts by 4 bits


def circle(corners: int) -> np.ndarray:
    """Corners of a circle of radius 1 around 0, (corners,) complex, from the right by way of i."""
    return np.exp(1j * (2 * np.pi * np.arange(corners) / corners))


class Pen:
    """Draws onto an image; points are (x, y) in pixels, 0 the middle of the first one.

    Attributes:
        image: (H, W, C) uint8, changed by every call.
        scale: pixels per unit of a line's width.
    """

    def __init__(self, image: np.ndarray, scale: float = 1.0) -> None:
        self.image, self.scale = image, scale

    def pixels(self, points: Sequence) -> np.ndarray:
        """Where the points lie: (N, 2) int32, in 1/16 of a pixel."""
        return np.rint(FRACTION * np.asarray(points)).astype(np.int32)

    def ink(self, color: Color) -> Sequence[float]:
        """What is put into the channels of the image."""
        return color

    def area(self, points: Sequence, color: Color) -> None:
        """Fill the polygon."""
        cv2.fillPoly(self.image, [self.pixels(points)], self.ink(color), cv2.LINE_AA, BITS)

    def line(self, points: Sequence, color: Color, width: float) -> None:
        """Join the points, with one pixel or more."""
        thickness = max(1, round(width * self.scale))
        cv2.polylines(self.image, [self.pixels(points)], False, self.ink(color), thickness, cv2.LINE_AA, BITS)


class PlanePen(Pen):
    """Draws in a plane of its own, whose points are complex numbers x + iy, y down: adding moves, multiplying turns them.

    Args:
        image: (H, W, 3) uint8.
        origin: the pixel at which 0 lies.
        turn: what a point is multiplied by, pixels per unit (its length) and radians clockwise (its angle).
        mirror: whether the plane's right is the picture's left.
    """

    corners = circle(24)  # of an oval

    def __init__(self, image: np.ndarray, origin: complex = 0, turn: complex = 1, *, mirror: bool = False) -> None:
        super().__init__(image, abs(turn))
        self.origin, self.turn, self.mirror = origin, turn, mirror

    def pixels(self, points: Sequence[complex]) -> np.ndarray:
        points = np.asarray(points, complex)
        moved = self.origin + self.turn * (-points.conj() if self.mirror else points)
        return super().pixels(moved.view(float).reshape(-1, 2))

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill a rectangle."""
        self.area([complex(x, y) for x, y in ((left, top), (right, top), (right, bottom), (left, bottom))], color)

    def oval(self, center: complex, radii: complex, color: Color, angle: float = 0.0) -> None:
        """Fill an ellipse: its radii to the right and down, turned by an angle in radians."""
        outline = self.corners.real * radii.real + 1j * self.corners.imag * radii.imag
        self.area(center + cmath.rect(1, angle) * outline, color)

    def disk(self, center: complex, radius: float, color: Color) -> None:
        """Fill a circle."""
        place, radius = self.pixels([center])[0].tolist(), round(radius * self.scale * FRACTION)
        cv2.circle(self.image, place, radius, self.ink(color), -1, cv2.LINE_AA, BITS)
