"""Scenes of the mini dataset: what stands in a harbour, planned first, then rendered with a record of who owns each pixel.

A plan is plain data, so a thing can be moved or left out without changing the rest. The box of a thing is measured on
the pixels that it owns in the end, as people box what they see.
"""

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from helpers.boat_detection.metrics.overlap import area, intersection
from helpers.boat_detection.mini import harbour
from helpers.boat_detection.mini.boats import BOATS
from helpers.boat_detection.mini.harbour import Light, Place, View
from helpers.boat_detection.mini.lookalikes import AFLOAT, KINDS
from helpers.boat_detection.mini.pen import Free, Kind
from helpers.drawing.chance import pick
from helpers.drawing.colour import Color, shade
from helpers.drawing.pen import Pen

OPAQUE = 80  # of 255: a pixel belongs to the nearest thing that covers this much of it
LEAST_SHARE, LEAST_PIXELS = 0.3, 10  # what shows less gets no box
BOATS_PER_IMAGE = (0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 4, 5)  # all as frequent
SMALLEST, LARGEST = 34, 125  # pixels for 100 units at a height of 128
WAKES = ("motor boat", "fishing boat", "ferry", "jet ski")


@dataclass(frozen=True)
class Part:
    """One design put into a picture."""

    kind: str  # a key of `lookalikes.KINDS`
    x: float  # middle of the waterline, pixels
    y: float
    length: float  # pixels for 100 units
    heading: float  # 1: bow to the right, -1: to the left, between: seen at an angle
    free: Free
    tilt: float = 0.0  # radians
    floats: bool = True  # has a reflection and a wash


@dataclass(frozen=True)
class Thing:
    """What may get one box."""

    name: str | None  # Open Images' display name, None: never boxed
    parts: tuple[Part, ...]
    group: bool = False
    depiction: bool = False  # painted on the thing before it
    inside: bool = False  # we are in it, it frames the picture


@dataclass(frozen=True)
class Scene:
    """A whole picture: things from back to front."""

    size: tuple[int, int]
    place: Place
    view: View
    things: tuple[Thing, ...]


@dataclass(frozen=True)
class Box:
    """What shows of a thing, in pixels; the edges enclose its pixels, so right - left is its width."""

    thing: Thing
    left: int
    top: int
    right: int
    bottom: int
    occluded: bool
    truncated: bool
    clicks: tuple[tuple[float, float], ...]  # points on the top, left, bottom and right edge: x, y


def render(scene: Scene, turns: int = 0) -> tuple[np.ndarray, list[Box]]:
    """Draw a scene: RGB, (H, W, 3) uint8, and the boxes of the things that have a name and show enough of themselves.

    In the end both are turned counter-clockwise by so many quarter `turns`.
    """
    light, image, owner = scene.place.light, np.empty((*scene.size, 3), np.uint8), np.zeros(scene.size, np.uint8)
    harbour.draw_background(image, scene.place, scene.view)
    drawn = []  # pixels of each thing: all, and those inside the picture
    for index, thing in enumerate(scene.things, 1):
        if thing.inside:
            _draw_cabin(image, owner, index, thing.parts[0].free, light)
            drawn.append((1, 1))
        else:
            counts = [_put(image, owner, index, part, scene) for part in thing.parts]
            drawn.append((sum(whole for whole, _ in counts), sum(inside for _, inside in counts)))
    image = np.ascontiguousarray(np.rot90(harbour.add_grain(image, scene.view), turns))
    return image, list(_measure(np.ascontiguousarray(np.rot90(owner, turns)), scene.things, drawn))


def _measure(owner: np.ndarray, things: Sequence[Thing], drawn: Sequence[tuple[int, int]]) -> Iterator[Box]:
    for index, (thing, (whole, inside)) in enumerate(zip(things, drawn, strict=True), 1):
        if thing.name is None:
            continue
        mask = cv2.inRange(owner, index, index)
        left, top, wide, high = cv2.boundingRect(mask)
        seen = cv2.countNonZero(mask)
        if index < len(things) and things[index].depiction:  # a picture on a sign hides nothing of the sign
            seen += cv2.countNonZero(cv2.inRange(owner, index + 1, index + 1))
        if seen < max(LEAST_PIXELS, LEAST_SHARE * whole) and not thing.inside:
            continue
        occluded = seen < 0.95 * inside and not thing.group
        truncated = inside < 0.99 * whole or thing.inside
        clicks = _extremes(mask, left, top, left + wide - 1, top + high - 1)
        yield Box(thing, left, top, left + wide, top + high, occluded, truncated, clicks)


def _extremes(mask: np.ndarray, left: int, top: int, right: int, bottom: int) -> tuple[tuple[float, float], ...]:
    """A point of the mask on each edge, as annotators click them."""

    def middle(line: np.ndarray) -> float:
        own = np.flatnonzero(line)
        return float(own[len(own) // 2]) + 0.5

    across, down = (middle(mask[top]), middle(mask[bottom])), (middle(mask[:, left]), middle(mask[:, right]))
    return (across[0], top), (left, down[0]), (across[1], bottom + 1), (right + 1, down[1])


def _put(image: np.ndarray, owner: np.ndarray, index: int, part: Part, scene: Scene) -> tuple[int, int]:
    """Draw a part; its pixels in all, and those inside the picture."""
    light = scene.place.light
    distance = 1 - 4 * (part.y - scene.view.horizon) / scene.size[0] if part.floats else 0.4
    canvas, origin = _draw_part(part.kind, part.length, part.free, light, round(max(0.0, distance), 1))
    sprite, left, top = _warp(canvas, origin, part)
    if part.floats:
        _reflect(image, sprite, left, top, round(part.y) - top)
        _wash(image, part, tuple(0.5 * water + 116 * lit for water, lit in zip(light.far, light.ambient, strict=True)))
    placed, whole = harbour.blend(image, sprite, left, top), int(np.count_nonzero(sprite[..., 3] >= OPAQUE))
    if placed is None:
        return whole, 0
    rows, columns, alpha = placed
    own = alpha >= OPAQUE
    owner[rows, columns][own] = index
    return whole, int(np.count_nonzero(own))


@functools.lru_cache(maxsize=32)  # the frames of a clip show the same parts
def _draw_part(kind: str, length: float, free: Free, light: Light, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """A design drawn at twice its size, and where in it the middle of the waterline lies (x, y)."""
    extent = {"left": -64, "right": 64, "up": KINDS[kind].up + 4, "down": KINDS[kind].down + 4}
    pen = harbour.lit_pen(light, distance, scale=length / 50, **extent)
    KINDS[kind].draw(pen, free)
    return pen.image, np.array([-pen.left, pen.up]) * pen.scale


def _warp(canvas: np.ndarray, origin: np.ndarray, part: Part) -> tuple[np.ndarray, int, int]:
    """The canvas at half its size, turned and tilted, and the picture's column and row of its corner."""
    cos, sin = math.cos(part.tilt), math.sin(part.tilt)
    matrix = 0.5 * np.array([[cos * part.heading, -sin], [sin * part.heading, cos]])
    height, width = canvas.shape[:2]
    corners = (np.array([[0, 0], [width, 0], [0, height], [width, height]]) - origin) @ matrix.T + (part.x, part.y)
    left, top = np.floor(corners.min(axis=0)).astype(int).tolist()
    right, bottom = np.ceil(corners.max(axis=0)).astype(int).tolist()
    # OpenCV counts from the middle of the first pixel, hence the halves.
    shift = np.array([part.x - left - 0.5, part.y - top - 0.5]) - matrix @ (origin - 0.5)
    return cv2.warpAffine(canvas, np.column_stack([matrix, shift]), (right - left, bottom - top)), left, top


def _reflect(image: np.ndarray, sprite: np.ndarray, left: int, top: int, line: int) -> None:
    """The sprite upside down below its waterline, fading, its rows pushed aside by the waves."""
    above = sprite[max(0, line - max(8, sprite.shape[1] // 2)) : line]
    if len(above) < 3:
        return
    rows, columns = max(2, int(0.7 * len(above))), sprite.shape[1]
    flipped = cv2.resize(above[::-1], (columns, rows), interpolation=cv2.INTER_LINEAR)
    down = np.arange(rows)
    push = np.rint(np.sin(down * 1.3 + left) * (0.6 + 0.04 * down)).astype(int)
    from_columns = np.clip(np.arange(columns)[None] + push[:, None], 0, columns - 1)
    fade = (0.43 * (1 - down / rows)).astype(np.float32)[:, None, None]
    harbour.blend(image, (flipped[down[:, None], from_columns] * fade).astype(np.uint8), left, top + line)


def _wash(image: np.ndarray, part: Part, foam: Color) -> None:
    """A line of foam where the hull meets the water; behind a boat that moves, a wake."""
    slim = part.kind in ("bow view", "buoy")
    half, y, pen = abs(part.heading) * part.length * (0.18 if slim else 0.45), part.y + 0.3, Pen(image)
    pen.line(((part.x - half, y), (part.x + half, y)), foam, 1)
    if part.kind in WAKES and part.free[-1] < 0.5:
        stern, back = part.x - math.copysign(half, part.heading), math.copysign(0.5 * part.length, part.heading)
        for spread in (0.02, 0.07):
            pen.line(((stern, y), (stern - back, y + spread * part.length)), foam, 1)


def _draw_cabin(image: np.ndarray, owner: np.ndarray, index: int, free: Free, light: Light) -> None:
    """The inside of a wheelhouse around the picture: two windows, a panel, a wheel."""
    height, width = image.shape[:2]
    wood = pick(((92, 66, 44), (70, 76, 84), (112, 96, 78)), free[0])
    wood = tuple(value * lit for value, lit in zip(wood, light.ambient, strict=True))
    frame = np.full((height, width), 255, np.uint8)
    post, top, sill = int(0.045 * width), int(0.09 * height), int((0.62 + 0.1 * free[1]) * height)
    middle = int((0.36 + 0.28 * free[2]) * width)
    frame[top:sill, post : middle - post // 2] = frame[top:sill, middle + post // 2 : width - post] = 0
    soft = cv2.GaussianBlur(frame, (0, 0), 0.7)[..., None] / np.float32(255)
    panel = np.linspace(shade(wood, 0.8), shade(wood, 0.45), height)[:, None]
    image[:] = image * (1 - soft) + panel * soft
    center, radius = (int((0.3 + 0.4 * free[3]) * width), int(0.98 * height)), int(0.22 * height)
    cv2.circle(image, center, radius, shade(wood, 1.5), max(2, height // 42), cv2.LINE_AA)
    for angle in free[4] + np.arange(6) * math.pi / 3:
        end = (round(center[0] + 1.15 * radius * math.cos(angle)), round(center[1] + 1.15 * radius * math.sin(angle)))
        cv2.line(image, center, end, shade(wood, 1.5), max(1, height // 64), cv2.LINE_AA)
    owner[frame > 0] = index


def plan_scene(rng: np.random.Generator, place: Place, size: tuple[int, int]) -> Scene:
    """One picture of a place: no boat or up to seven, look-alikes, now and then a marina, a sign, or a cabin around it all."""
    planner = _Planner(rng, place, size)
    boats = pick(BOATS_PER_IMAGE, rng.random())
    others = pick((0, 0, 1, 1, 2) if boats else (1, 2, 3), rng.random())
    afloat = planner.fill(BOATS, boats) + planner.fill(AFLOAT, others)
    if boats and rng.random() < 0.09:
        afloat.append(planner.marina())
    afloat.sort(key=lambda thing: thing.parts[0].y)
    front, chance = [], rng.random()
    if chance < 0.035:
        front = planner.sign()
    elif boats and chance < 0.065:
        front = [Thing("Boat", (Part("ferry", 0, 0, 1, 1, planner.free()),), inside=True)]
    return Scene(size, place, planner.view, (*planner.landmarks(), *afloat, *front))


def plan_clip(rng: np.random.Generator, place: Place, size: tuple[int, int], times: Sequence[float]) -> Iterator[Scene]:
    """A harbour in which boats sail by, one scene per time (seconds): all boats are there in the middle of the clip."""
    planner = _Planner(rng, place, size)
    boats = planner.fill({name: kind for name, kind in BOATS.items() if name != "bow view"}, 5)  # nobody sails sideways
    others = planner.fill({name: AFLOAT[name] for name in ("buoy", "rock", "swan")}, 2)
    speeds = rng.uniform(0.25, 0.7, len(boats)).tolist() + [0.0] * len(others)  # lengths a second
    order = sorted(zip(boats + others, speeds, strict=True), key=lambda pair: pair[0].parts[0].y)
    middle = (times[0] + times[-1]) / 2

    def sail(thing: Thing, speed: float, time: float) -> Thing:
        part = thing.parts[0]
        x = part.x + (time - middle) * speed * math.copysign(part.length, part.heading)
        tilt = part.tilt + 0.03 * math.sin(2.2 * time + 9 * part.free[0])
        return replace(thing, parts=(replace(part, x=x, tilt=tilt),))

    for time in times:
        things = (*planner.landmarks(), *(sail(thing, speed, time) for thing, speed in order))
        yield Scene(size, place, planner.view, things)  # still water: what moves costs bytes in a notebook


class _Planner:
    """Chooses a view of a place, and puts things into it where the water has room."""

    def __init__(self, rng: np.random.Generator, place: Place, size: tuple[int, int]) -> None:
        self.rng, self.place, self.size, self.unit = rng, place, size, size[0] / 128
        self.taken: list[tuple[float, float, float, float]] = []  # outlines of the things so far
        shift = int(rng.integers(0, place.shore.shape[1] - size[1] + 1))
        horizon = round(size[0] * (place.horizon + rng.uniform(-0.03, 0.03)))
        self.view = View(shift, bool(rng.random() < 0.25), horizon, self.free(), rng.uniform(0.9, 1.08))

    def free(self) -> Free:
        return tuple(self.rng.random(8).tolist())

    def landmarks(self) -> list[Thing]:
        view, things = self.view, []
        for kind, x, length, free in self.place.landmarks:
            x = self.size[1] - (x - view.shift) if view.mirror else x - view.shift
            part = Part(kind, x, view.horizon + 0.5, length, -1 if view.mirror else 1, free, floats=False)
            things.append(Thing(KINDS[kind].name if self.place.labels else None, (part,)))
        return things

    def fill(self, kinds: dict[str, Kind], count: int) -> list[Thing]:
        """At most `count` things of these kinds."""
        names, chances, things = tuple(kinds), np.cumsum([kind.often for kind in kinds.values()]), []
        for _ in range(count):
            kind = names[int(np.searchsorted(chances, self.rng.random() * chances[-1]))]
            for _ in range(6):
                part = self._part(kind)
                box = _outline(part)
                shares = [intersection(box, other) / min(area(box), area(other)) for other in self.taken]
                if part.y < 1.02 * self.size[0] and max(shares, default=0.0) < 0.35:
                    self.taken.append(box)
                    things.append(Thing(KINDS[kind].name, (part,)))
                    break
        return things

    def _part(self, kind: str) -> Part:
        """Any length is as probable as its double; how far down it floats follows from its length and the camera's height."""
        rng, design, front = self.rng, KINDS[kind], kind == "bow view"
        least = SMALLEST if kind in BOATS else 0.5 * SMALLEST
        length = self.unit * math.exp(rng.uniform(math.log(least), math.log(LARGEST))) * (1.6 if front else 1)
        below = length / design.metres * self.place.height * rng.uniform(0.8, 1.25)
        heading = (1 if rng.random() < 0.5 else -1) * (1 if front else rng.uniform(0.62, 1))
        x, y = rng.uniform(-0.04, 1.04) * self.size[1], self.view.horizon + 2 * self.unit + below
        return Part(kind, x, y, length, heading, self.free(), rng.uniform(-0.05, 0.05))

    def marina(self) -> Thing:
        """Seven to eleven moored boats that hide each other, with one box around them all."""
        rng, unit, parts = self.rng, self.unit, []
        start = rng.uniform(0.02, 0.5) * self.size[1]
        length = unit * rng.uniform(16, 26)
        y = self.view.horizon + 2 * unit + 0.06 * length * self.place.height
        for k in range(int(rng.integers(7, 12))):
            free = list(self.free())
            free[3] = 0.6 + 0.4 * free[3]  # sails furled
            kind = pick(("sailing boat", "sailing boat", "motor boat"), rng.random())
            x = start + 0.42 * k * length
            parts.append(Part(kind, x, y + rng.uniform(-0.4, 0.4) * unit, length, 0.7, tuple(free)))
        return Thing("Boat", tuple(parts), group=True)

    def sign(self) -> list[Thing]:
        """A sign on the quay before us, with a boat painted on it."""
        free, length = self.free(), self.unit * self.rng.uniform(34, 56)
        x, y = self.rng.uniform(0.15, 0.85) * self.size[1], 0.96 * self.size[0]
        board = Part("billboard", x, y, length, 1, free, floats=False)
        way = 1 if free[3] < 0.5 else -1
        boat = Part("boat sign", x, y - 0.42 * length, 0.62 * length, way, free[::-1], floats=False)
        return [Thing("Billboard", (board,)), Thing("Boat", (boat,), depiction=True)]


def _outline(part: Part) -> tuple[float, float, float, float]:
    half = part.length * abs(part.heading) * (0.2 if part.kind == "bow view" else 0.5)
    return part.x - half, part.y - 0.7 * part.length * KINDS[part.kind].up / 100, part.x + half, part.y
