"""What the drawings of the mini dataset are made with: a pen, colours, windows and people.

A design is about 100 units long, its bow at x = +50, its waterline at y = 0, y up. `free` holds numbers in [0, 1) that
choose colours and details, so a part looks the same wherever and however often it is drawn.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.drawing.chance import pick
from helpers.drawing.colour import Color, shade
from helpers.drawing.pen import FRACTION, Pen, circle

Free = Sequence[float]
CIRCLE = circle(16).view(float).reshape(-1, 2)

WHITE, CREAM, DARK, GLASS, WOOD = (244, 244, 240), (236, 226, 200), (38, 40, 48), (52, 72, 92), (150, 104, 62)
BRIGHT = ((206, 58, 46), (236, 180, 48), (52, 122, 176), (66, 142, 84), (232, 124, 46), (150, 156, 160))
SKINS = ((240, 198, 164), (206, 150, 112), (134, 90, 62))


@dataclass
class DesignPen(Pen):
    """A transparent canvas in the units of a design; colours are lit by the scene's light and dimmed by its haze."""

    scale: float  # pixels per unit
    left: float
    right: float
    up: float
    down: float
    ambient: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haze: tuple[float, float, float] = (0.0, 0.0, 0.0)  # already times its strength
    clear: float = 1.0  # what the haze leaves of a colour

    def __post_init__(self) -> None:
        height, width = math.ceil((self.up + self.down) * self.scale), math.ceil((self.right - self.left) * self.scale)
        super().__init__(np.zeros((height + 1, width + 1, 4), np.uint8), self.scale)  # RGB times alpha, alpha
        self._scale = np.array([self.scale, -self.scale]) * FRACTION
        self._origin = np.array([-self.left, self.up]) * self.scale * FRACTION

    def ink(self, color: Color) -> tuple[float, ...]:
        lit = zip(color, self.ambient, self.haze, strict=True)
        return (*(min(255.0, value * light * self.clear + haze) for value, light, haze in lit), 255)

    def pixels(self, points: Sequence) -> np.ndarray:
        return (np.asarray(points, float) * self._scale + self._origin).astype(np.int32)

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        self.area(((left, bottom), (right, bottom), (right, top), (left, top)), color)

    def oval(self, x: float, y: float, wide: float, high: float, color: Color) -> None:
        self.area(CIRCLE * (wide, high) + (x, y), color)

    def windows(self, left: float, right: float, bottom: float, top: float, count: int) -> None:
        step = (right - left) / count
        for k in range(count):
            self.box(left + step * (k + 0.12), bottom, left + step * (k + 0.88), top, GLASS)

    def person(self, x: float, foot: float, high: float, free: Free, *, legs: bool = True) -> None:
        """Somebody who stands, or of whom a hull hides the legs."""
        shirt, waist = pick((*BRIGHT, WHITE, DARK), free[5]), foot + (0.45 * high if legs else 0)
        if legs:
            self.line([(x, foot), (x, waist)], shade(DARK, 1.3), 0.2 * high)
        self.line([(x, waist), (x + 0.02 * high, foot + 0.76 * high)], shirt, 0.26 * high)
        self.oval(x + 0.04 * high, foot + 0.89 * high, 0.1 * high, 0.12 * high, pick(SKINS, free[6]))


def curve(start: Sequence, middle: Sequence, end: Sequence, steps: int = 7) -> np.ndarray:
    """Points of a quadratic Bezier curve, (steps, 2)."""
    return _bernstein(steps) @ np.array((start, middle, end), float)


@functools.lru_cache(maxsize=16)
def _bernstein(steps: int) -> np.ndarray:
    t = np.linspace(0, 1, steps)
    return np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)


@dataclass(frozen=True)
class Kind:
    """How a kind is drawn, what Open Images calls it (None: not one of its 600 classes), and its size."""

    draw: Callable[[DesignPen, Free], None]
    name: str | None
    metres: float  # what 100 units are
    up: float  # highest point, units
    often: float = 1.0  # among its like
    down: float = 0.0  # how far it reaches below its waterline, units
