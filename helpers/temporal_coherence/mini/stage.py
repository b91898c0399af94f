"""The drawing tools of the mini dataset: a stage with a view, a palette, a jointed person, and a background.

A point is a complex number x + iy (x to the right, y down, the picture's centre at 0): adding moves it, multiplying
turns it. The world is 160 wide and 120 high, whatever the picture's size; a standing person is about 62 high.
"""

import cmath
import math
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import cv2
import numpy as np

from helpers.drawing.colour import Color, from_hsv, shade
from helpers.drawing.pen import PlanePen, circle

Part = tuple[Sequence[complex], Color, float]  # points, colour, width of a thick line
HALF_TURN, TURN = math.pi, 2 * math.pi
SKINS = ((255, 219, 190), (240, 190, 150), (205, 145, 105), (150, 100, 70), (105, 68, 48))


COLORS = {  # name -> ranges of saturation and value, so that figures stand out from their place; the hue is any
    "sky": ((0.15, 0.5), (0.85, 1.0)),
    "haze": ((0.05, 0.25), (0.9, 1.0)),
    "far": ((0.2, 0.5), (0.6, 0.85)),
    "ground": ((0.25, 0.6), (0.65, 0.95)),
    "prop": ((0.25, 0.6), (0.65, 0.95)),  # as large as the ground in some scenes: the same ranges
    "second": ((0.5, 0.85), (0.7, 1.0)),
    "light": ((0.0, 0.15), (0.9, 1.0)),
    "dark": ((0.2, 0.6), (0.12, 0.25)),
    "shirt": ((0.4, 0.9), (0.5, 1.0)),
    "trousers": ((0.2, 0.7), (0.25, 0.6)),
    "skin": None,  # one of `SKINS`
    "hair": ((0.2, 0.7), (0.15, 0.6)),
}


class Look(SimpleNamespace):
    """What the clips of one group share: `COLORS`, which mean nothing for the class, and four `free` numbers in [0, 1)."""


def draw_look(rng: np.random.Generator) -> Look:
    """A look by chance."""

    def color(saturation, value):
        return from_hsv(rng.integers(180), 255 * rng.uniform(*saturation), 255 * rng.uniform(*value))

    colors = {name: color(*of) if of else SKINS[rng.integers(len(SKINS))] for name, of in COLORS.items()}
    return Look(**colors, free=tuple(rng.random(4).tolist()))


class Stage(PlanePen):
    """A pen for the world, and the palette of the clip's group.

    Args:
        image: (H, W, 3) uint8.
        look: the palette.
        view: see `PlanePen`.
    """

    corners = circle(20)

    def __init__(self, image: np.ndarray, look: Look, **view: complex) -> None:
        super().__init__(image, **view)
        self.look = look

    def strokes(self, *parts: Part) -> None:
        """Thick lines as one sticker: first all outlines, then all fillings, so that no seam shows where they meet."""
        for points, _, width in parts:
            self.line(points, self.look.dark, width + 2)
        for points, color, width in parts:
            self.line(points, color, width)


Draw = Callable[[Stage, float], None]  # of one scene: what is seen after so many seconds


def ease(x: float, times: Sequence[float], values: Sequence[float]) -> float:
    """Values at times, with a gentle start and stop between two; constant before the first and after the last."""
    i = min(max(int(np.searchsorted(times, x)), 1), len(times) - 1)
    share = min(max((x - times[i - 1]) / (times[i] - times[i - 1]), 0.0), 1.0)
    return values[i - 1] + (values[i] - values[i - 1]) * (0.5 - 0.5 * math.cos(math.pi * share))


def hanging(angle: float) -> complex:
    """Direction of an arm or a club: 0 hangs down, positive swings to the right and up."""
    return cmath.rect(1, HALF_TURN / 2 - angle)


def reach(start: complex, target: complex, first: float, second: float, bend: float) -> tuple[complex, complex]:
    """Joint and end of a two-bone limb that reaches for the target; `bend` (+1 or -1) is the side of the joint."""
    distance = min(max(abs(target - start), abs(first - second) + 1e-3), 0.999 * (first + second))
    towards = (target - start) / (abs(target - start) or 1.0)
    angle = math.acos((first**2 + distance**2 - second**2) / (2 * first * distance))
    return start + first * towards * cmath.rect(1, bend * angle), start + distance * towards


def draw_person(
    stage: Stage, hip: complex, lean: float, hands: tuple[complex, complex], feet: tuple[complex, complex], *,
    size: float = 1.0, elbows: tuple[int, int] = (1, 1), knees: tuple[int, int] = (-1, -1), broad: float = 0.0,
    held: Callable[[], None] | None = None,
) -> None:  # fmt: skip
    """A jointed person; pairs are (near side, far side), elbows and knees bend to +1 or -1.

    Args:
        lean: of the trunk, radians from upright, positive to the right.
        broad: half the width of the shoulders: 0 seen from the side, about 5 from the front.
        held: draws what the near hand holds, behind the near arm.
    """
    look, width = stage.look, (broad, -broad)
    neck = hip + 19 * size * cmath.rect(1, lean - math.pi / 2)
    head = neck + 9 * size * cmath.rect(1, 0.6 * lean - math.pi / 2)

    def limb(start, target, bones, bend, upper, lower, thick):
        joint, end = reach(start, target, bones[0] * size, bones[1] * size, bend)
        return [([start, joint], upper, thick * size), ([joint, end], lower, 0.85 * thick * size)]

    def arm(side, dim):
        start, colors = neck + 2j * size + width[side], (shade(look.shirt, dim), shade(look.skin, dim))
        return limb(start, hands[side], (11, 12), elbows[side], *colors, 5)

    def leg(side, dim):
        color = shade(look.trousers, dim)
        parts = limb(hip + 0.6 * width[side], feet[side], (15, 16), knees[side], color, color, 6)
        ankle, toe = parts[1][0][1], size * (math.copysign(2, width[side]) if broad else 4)
        return [*parts, ([ankle, ankle + toe], shade(look.dark, 1.5), 4 * size)]

    stage.strokes(*arm(1, 0.75), *leg(1, 0.75))
    stage.strokes(*leg(0, 1), ([hip, neck], look.shirt, (9 + broad) * size), ([neck, head], look.skin, 4 * size))
    stage.disk(head, 6.4 * size, look.dark)
    stage.disk(head - 1.2j * size, 5.5 * size, look.hair)
    face = lean + (math.pi / 2 if broad else 0.3)
    stage.disk(head + cmath.rect(1.2 * size, face), 4.4 * size, look.skin)
    if held:
        held()
    stage.strokes(*arm(0, 1))


def draw_background(stage: Stage, rng: np.random.Generator) -> None:
    """Sky and clouds, one or two things on the horizon, ground, and a grain: from the same chances for every class."""
    horizon, look, image = rng.uniform(-14, 0), stage.look, stage.image
    row = int(np.clip(stage.origin.imag + stage.scale * horizon, 1, len(image) - 2))
    _fill(image[:row], look.sky, look.haze)
    _fill(image[row:], shade(look.ground, 0.85), shade(look.ground, 1.08))
    for _ in range(rng.integers(4)):
        cloud = complex(rng.uniform(-80, 80), rng.uniform(-55, -35))
        for x in (-7, 0, 8):
            stage.oval(cloud + x, complex(8, rng.uniform(2.5, 5)), look.haze)
    for _ in range(rng.integers(6)):
        balloon, colors = complex(rng.uniform(-80, 80), rng.uniform(-58, -25)), (look.second, look.prop, look.light)
        stage.line([balloon, balloon + 12j], look.dark, 0.5)
        stage.oval(balloon, 4 + 5j, (*colors, look.shirt, look.dark)[rng.integers(5)])
    for k in rng.permutation(len(BACKDROPS))[: rng.integers(1, 3)]:
        BACKDROPS[k](stage, rng, horizon + 1)
    slant, step, striped = rng.uniform(-40, 40), rng.uniform(30, 70), rng.random() < 0.5
    for x in np.arange(-200, 200, step) if striped else ():
        stripe = np.array([x, x + 14, 1.6 * x + 22 + slant + 90j, 1.6 * x + slant + 90j]) + 1j * horizon
        stage.area(stripe, shade(look.ground, 0.9))
    for _ in range(rng.integers(10, 60)):
        tuft = complex(rng.uniform(-100, 100), rng.uniform(horizon + 6, 70))
        stage.line([tuft, tuft + rng.uniform(2, 7)], shade(look.ground, rng.uniform(0.75, 1.2)), 1)
    grain = cv2.GaussianBlur(rng.normal(0, rng.uniform(4, 12), image.shape[:2]), (0, 0), 1.2)
    image[:] = np.clip(image + grain[..., None], 0, 255)


def _fill(image: np.ndarray, top: Color, bottom: Color) -> None:
    image[:] = np.rint(np.linspace(top, bottom, len(image)))[:, None]


def _draw_trees(stage: Stage, rng: np.random.Generator, horizon: float) -> None:
    for x in np.arange(-130, 130, rng.uniform(16, 30)):
        foot, height = complex(x + rng.uniform(-6, 6), horizon), rng.uniform(10, 24)
        stage.line([foot, foot - 1j * height], shade(stage.look.far, 0.5), 2.5)
        crown = shade(stage.look.far, rng.uniform(0.65, 0.95))
        stage.oval(foot - 1j * height, complex(0.35 * height, 0.6 * height), crown)


def _draw_houses(stage: Stage, rng: np.random.Generator, horizon: float) -> None:
    for x in np.arange(-130, 130, rng.uniform(20, 28)):
        height, color = rng.uniform(12, 34), shade(stage.look.far, rng.uniform(0.7, 1.2))
        stage.box(x, horizon - height, x + rng.uniform(14, 22), horizon, color)
        for window in (x + 3, x + 9):
            stage.line([complex(window, horizon - height + 3), complex(window, horizon - 3)], stage.look.haze, 2)


def _draw_crowd(stage: Stage, rng: np.random.Generator, horizon: float) -> None:
    look = stage.look
    stage.box(-160, horizon - 15, 160, horizon, look.far)
    for row in (2, 1, 0):
        for x in np.arange(-130, 130, 7.0):
            seat = complex(x + 3.5 * (row % 2) + rng.uniform(-1, 1), horizon - 3 - 5 * row)
            shirts = (look.shirt, look.second, look.prop, look.trousers, look.light)
            stage.line([seat, seat + 4j], shirts[rng.integers(5)], 4)
            stage.disk(seat - 2.5j, 2, shade(look.skin, rng.uniform(0.6, 1.1)))


def _draw_hills(stage: Stage, rng: np.random.Generator, horizon: float) -> None:
    x = np.arange(-160, 161, 8.0)
    for height, factor in ((rng.uniform(14, 26), 1.15), (rng.uniform(5, 14), 0.9)):
        waves = np.sin(x / rng.uniform(14, 30) + rng.uniform(0, 6)) * np.sin(x / 45 + rng.uniform(0, 6))
        ridge = x + 1j * (horizon - height * (0.6 + 0.4 * waves))
        stage.area([*ridge, 160 + 1j * horizon, -160 + 1j * horizon], shade(stage.look.far, factor))


BACKDROPS = (_draw_trees, _draw_houses, _draw_crowd, _draw_hills)
