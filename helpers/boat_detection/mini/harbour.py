"""The empty harbour of a mini picture: light, sky, water and shore. A place is what one author's pictures share."""

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from helpers.boat_detection.mini.lookalikes import KINDS
from helpers.boat_detection.mini.pen import BRIGHT, DesignPen, Free
from helpers.drawing.chance import pick
from helpers.drawing.colour import Color, shade


@dataclass(frozen=True)
class Light:
    """Colours of a weather at a time of day."""

    above: Color  # the sky's top
    low: Color  # the sky at the horizon
    far: Color  # water at the horizon
    near: Color
    haze: Color
    ambient: tuple[float, float, float] = (1.0, 1.0, 1.0)  # what it leaves of things' colours
    veil: float = 0.4  # the haze's share in the colours of things at the horizon
    dark: bool = False  # windows are lit


LIGHTS = (
    Light((70, 132, 205), (196, 224, 242), (120, 168, 192), (38, 88, 120), (198, 216, 230)),
    Light((40, 136, 220), (176, 226, 244), (96, 196, 200), (18, 116, 132), (196, 226, 234), (1.04, 1.02, 0.98), 0.25),
    Light((148, 160, 172), (206, 212, 214), (150, 162, 168), (74, 94, 100), (196, 204, 208), (0.88, 0.9, 0.92), 0.5),
    Light((88, 96, 156), (255, 188, 116), (222, 154, 122), (64, 66, 98), (240, 180, 140), (1.0, 0.84, 0.7)),
    Light((142, 166, 210), (250, 210, 204), (206, 184, 194), (82, 108, 134), (236, 210, 206), (0.98, 0.9, 0.88), 0.5),
    Light((34, 44, 88), (156, 124, 136), (108, 96, 122), (24, 34, 60), (110, 100, 124), (0.64, 0.64, 0.76), 0.3, True),
    Light(
        (202, 209, 213), (224, 227, 228), (206, 212, 214), (128, 144, 150), (216, 220, 222), (0.94, 0.95, 0.96), 0.55
    ),
    Light((112, 150, 190), (214, 222, 214), (132, 158, 146), (44, 76, 68), (190, 206, 200), (0.96, 0.98, 0.92)),
)
SHORES = ("town", "town", "port", "village", "village", "beach", "hills", "sea")
LANDMARKS = {"beach": ("tent", "tent", "house"), "sea": ("lighthouse",), "port": ("lighthouse", "house")}
WALLS = ((226, 206, 170), (206, 140, 104), (238, 236, 228), (176, 76, 60), (190, 200, 190))
WALLS += ((224, 190, 110), (150, 160, 172))
ROOFS = ((150, 72, 56), (104, 90, 86), (126, 62, 50))
GREENS = ((96, 122, 84), (84, 110, 96), (122, 116, 88), (104, 116, 120))


@dataclass(frozen=True)
class Place:
    """What the pictures of one author share."""

    light: Light
    sun: tuple[float, float] | None  # shares of the width and of the sky's height
    clouds: float  # 0 to 1
    shore: np.ndarray  # (rows, columns, 4) uint8, RGB times alpha, wider than a picture
    landmarks: tuple[tuple[str, float, float, Free], ...]  # kind, x on the shore, length in pixels, free numbers
    horizon: float  # share of the height
    height: float  # of the camera above the water, metres
    labels: bool  # whether houses, lighthouses and tents are boxed in these pictures


@dataclass(frozen=True)
class View:
    """How one picture looks at its place."""

    shift: int  # the shore's first column
    mirror: bool
    horizon: int  # row
    weather: tuple[float, ...]  # eight free numbers for clouds, waves and grain
    gain: float = 1.0  # exposure


def draw_place(rng: np.random.Generator, size: tuple[int, int]) -> Place:
    """Draw a harbour for pictures of this size, its light, and where the camera stands."""
    light, kind = _draw_light(rng), pick(SHORES, rng.random())
    shore, landmarks = _draw_shore(rng, size, kind, light), []
    count = int(rng.integers(0, 4))
    for k in range(count):
        name = pick(LANDMARKS.get(kind, ("house", "house", "lighthouse")), rng.random())
        length = KINDS[name].metres * rng.uniform(0.9, 1.9) * size[0] / 128
        x = (k + rng.uniform(0.2, 0.8)) / count * shore.shape[1]
        landmarks.append((name, x, length, tuple(rng.random(8).tolist())))
    return Place(
        light=light,
        sun=(rng.uniform(0.1, 0.9), rng.uniform(0.2, 0.85)) if light.veil < 0.5 and rng.random() < 0.5 else None,
        clouds=rng.uniform(0, 1) if rng.random() < 0.75 else 0.0,
        shore=shore,
        landmarks=tuple(landmarks),
        horizon=rng.uniform(0.32, 0.46),
        height=math.exp(rng.uniform(math.log(3.5), math.log(9))),
        labels=bool(rng.random() < 0.6),
    )


def _draw_light(rng: np.random.Generator) -> Light:
    light, warm = pick(LIGHTS, rng.random()), rng.uniform(0.92, 1.08, 3)
    names = ("above", "low", "far", "near", "haze")
    colors = {name: tuple(np.minimum(np.array(getattr(light, name)) * warm, 255).tolist()) for name in names}
    return Light(**colors, ambient=light.ambient, veil=light.veil, dark=light.dark)


def lit_pen(light: Light, distance: float, **extent: float) -> DesignPen:
    """A pen whose colours are lit as things at this distance are: 0 is near, 1 at the horizon."""
    veil = distance * light.veil
    return DesignPen(ambient=light.ambient, haze=tuple(veil * value for value in light.haze), clear=1 - veil, **extent)


def draw_background(image: np.ndarray, place: Place, view: View) -> None:
    """Fill the image, (H, W, 3) uint8, with sky, shore and water."""
    width = image.shape[1]
    sun = place.sun and ((1 - place.sun[0] if view.mirror else place.sun[0]) * width, place.sun[1] * view.horizon)
    _draw_sky(image, place, view, sun)
    strip = place.shore[:, view.shift : view.shift + width]
    blend(image, strip[:, ::-1] if view.mirror else strip, 0, view.horizon + max(1, len(image) // 128) - len(strip))
    _draw_water(image, place, view, sun)


def add_grain(image: np.ndarray, view: View) -> np.ndarray:
    """The picture as a camera gives it: exposure and grain."""
    grain = _crop(_textures(image.shape[:2])[2][int(2 * view.weather[6])], view.weather[7], len(image))
    return cv2.add(cv2.convertScaleAbs(image, alpha=view.gain), grain, dtype=cv2.CV_8U)


def blend(image: np.ndarray, sprite: np.ndarray, left: int, top: int) -> tuple[slice, slice, np.ndarray] | None:
    """Lay a sprite (RGB times alpha, alpha) over the image; returns the rows, columns and the alpha that lie inside, if any."""
    y0, y1 = max(top, 0), min(top + sprite.shape[0], image.shape[0])
    x0, x1 = max(left, 0), min(left + sprite.shape[1], image.shape[1])
    if y0 >= y1 or x0 >= x1:
        return None
    inside = np.ascontiguousarray(sprite[y0 - top : y1 - top, x0 - left : x1 - left])
    red, green, blue, alpha = cv2.split(inside)
    rest = cv2.bitwise_not(alpha)
    under = image[y0:y1, x0:x1]
    under[:] = cv2.add(cv2.multiply(under, cv2.merge([rest] * 3), scale=1 / 255), cv2.merge([red, green, blue]))
    return slice(y0, y1), slice(x0, x1), alpha


# Textures are the same for every seed; which of them a picture shows, and from where on, its view says.


@functools.lru_cache(maxsize=4)
def _textures(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cloudy skies and water surfaces, (2, H, 2W) float32, and grains, (2, H, 2W, 3) int16, for pictures of this size."""
    rng, (height, width) = np.random.default_rng(12), size

    def noise(rows: int, columns: int) -> np.ndarray:
        return rng.normal(size=(rows, columns)).astype(np.float32)

    def clouds() -> np.ndarray:
        coarse = [noise(3 * 2**k, 6 * 2**k) for k in range(4)]
        layers = (cv2.resize(layer, (2 * width, height), interpolation=cv2.INTER_CUBIC) for layer in coarse)
        return sum(layer * 0.55**k for k, layer in enumerate(layers))

    near = np.linspace(0.02, 1, height, dtype=np.float32)[:, None]  # 0 at the horizon
    along = (np.arange(2 * width, dtype=np.float32)[None] - width) / width

    def waves(fine: float) -> np.ndarray:  # they grow towards the viewer
        x, y = along * fine * 19 / (near + 0.12) + 128, np.log(near) * 26 * fine + 128 + 0 * along
        return cv2.remap(noise(256, 256), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_WRAP) / fine

    grain = np.stack([cv2.GaussianBlur(noise(height, 2 * width), (0, 0), 0.7) * 3.6 for _ in range(2)])
    grain = np.repeat(np.rint(grain).astype(np.int16)[..., None], 3, axis=3)
    return np.stack([clouds(), clouds()]), np.stack([waves(1.0) + waves(2.3) for _ in range(2)]), grain


def _crop(texture: np.ndarray, offset: float, rows: int) -> np.ndarray:
    """The first rows of one half of the texture's width, from a share `offset` of the other half on."""
    width = texture.shape[1] // 2
    return texture[:rows, int(offset * width) :][:, :width]


@functools.lru_cache(maxsize=256)
def _shares(count: int, power: float = 1.0) -> np.ndarray:
    """0 to 1 in `count` rows, (count, 1, 1) float32."""
    return (np.linspace(0, 1, count, dtype=np.float32) ** np.float32(power))[:, None, None]


def _ramp(first: Color, last: Color, shape: tuple[int, int], power: float) -> np.ndarray:
    """Colours from the first to the last row, (rows, columns, 3) float32."""
    first, share = np.array(first, np.float32), _shares(shape[0], power)
    return np.repeat(first + share * (np.array(last, np.float32) - first), shape[1], axis=1)


def _mix(image: np.ndarray, share: np.ndarray, color: np.ndarray | float) -> None:
    """Move the image, (H, W, 3), towards a colour by a share per pixel, (H, W)."""
    image += share[..., None] * (color - image)


def _draw_sky(image: np.ndarray, place: Place, view: View, sun: tuple[float, float] | None) -> None:
    rows, width = view.horizon, image.shape[1]
    sky = _ramp(place.light.above, place.light.low, (rows, width), 0.8)
    if sun:
        away = (np.arange(width, dtype=np.float32) - np.float32(sun[0]))[None] ** 2
        away = away + (np.arange(rows, dtype=np.float32) - np.float32(sun[1]))[:, None] ** 2
        away /= np.float32((0.05 * len(image)) ** 2)
        glow = np.clip(0.55 / (1 + 0.16 * away) + np.clip(1.6 - away, 0, 1), 0, 1)
        _mix(sky, glow, np.array((255, 246, 216), np.float32))
    if place.clouds:
        texture = _crop(_textures(image.shape[:2])[0][int(2 * view.weather[0])], view.weather[1], rows)
        cover = np.clip((texture + np.float32(2.2 * place.clouds - 1.6)) * 0.9, 0, 0.85)
        _mix(sky, cover, np.minimum(np.array(place.light.low, np.float32) * 1.04 + 10, 255) - 14 * cover[..., None])
    image[:rows] = np.clip(sky, 0, 255)


def _draw_water(image: np.ndarray, place: Place, view: View, sun: tuple[float, float] | None) -> None:
    """Water below the horizon: the shore's blurred reflection, waves, crests, and the sun's glitter."""
    row, light = view.horizon, place.light
    rows, width = len(image) - row, image.shape[1]
    water = _ramp(light.far, light.near, (rows, width), 0.6)
    deep = min(rows, row, len(image) // 5)
    mirrored = cv2.blur(image[row - deep : row][::-1], (3, 5)).astype(np.float32)
    water[:deep] += (0.5 - 0.5 * _shares(deep)) * (mirrored - water[:deep])
    textures = _textures(image.shape[:2])[1]
    waves = _crop(textures[0], view.weather[2], rows) + _crop(textures[1], view.weather[3], rows)
    water += (waves * (2 + 5 * _shares(rows)[..., 0]) * np.float32(0.3 + 0.8 * view.weather[4]))[..., None]
    crests = np.clip(waves - 1.7, 0, 1) * np.float32(0.12 + 0.3 * view.weather[5])
    if sun:
        away = np.abs(np.arange(width, dtype=np.float32) - np.float32(sun[0]))[None]
        spread = (0.04 + 0.16 * _shares(rows)[..., 0]) * width
        _mix(water, np.clip(waves - 0.3, 0, 1) * np.exp(-((away / spread) ** 2)) * 0.8, 255.0)
    _mix(water, crests, np.array(light.low, np.float32))
    image[row:] = np.clip(water, 0, 255)


def _draw_shore(rng: np.random.Generator, size: tuple[int, int], kind: str, light: Light) -> np.ndarray:
    """The shore's strip, one and a half pictures wide, drawn at twice its size for smooth edges."""
    unit = size[0] / 128
    pen = lit_pen(light, 0.7, scale=2 * unit, left=0, right=1.5 * size[1] / unit, up=44, down=2)
    if kind != "sea" or rng.random() < 0.5:
        _draw_hills(pen, rng, light, {"hills": 34, "sea": 6}.get(kind) or rng.uniform(8, 24))
    if kind in ("beach", "hills", "town", "village"):
        _draw_trees(pen, rng, 14 if kind == "town" else 30)
    if kind == "town":
        _draw_row(pen, rng, tall=(8, 20), gap=0.2, dark=light.dark)
    if kind == "village":
        _draw_row(pen, rng, tall=(5, 9), gap=0.8, dark=light.dark)
    if kind == "port":
        _draw_port(pen, rng)
    if kind != "sea":
        pen.box(0, -2, pen.right, 1.6, (214, 196, 150) if kind in ("beach", "hills") else (134, 130, 124))
    return cv2.resize(pen.image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def _draw_hills(pen: DesignPen, rng: np.random.Generator, light: Light, tall: float) -> None:
    green, x = pick(GREENS, rng.random()), np.arange(-4, pen.right + 5, 4.0)
    for low, high, haze in ((0.5, 1.0, 0.55), (0.15, 0.6, 0.25)):
        waves = sum(rng.uniform(0.2, 1) * np.sin(x / rng.uniform(7, 50) + rng.uniform(0, 6)) for _ in range(4))
        waves = (waves - waves.min()) / (np.ptp(waves) + 1e-6)
        ridge = np.column_stack([x, tall * (low + (high - low) * waves)])
        pen.area(
            [*ridge, (x[-1], 0), (x[0], 0)], tuple(c + haze * (h - c) for c, h in zip(green, light.low, strict=True))
        )


def _draw_row(pen: DesignPen, rng: np.random.Generator, *, tall: tuple[float, float], gap: float, dark: bool) -> None:
    """A row of buildings along the water, and a church tower."""
    x = rng.uniform(-6, 4)
    while x < pen.right:
        wide, high = rng.uniform(7, 17), rng.uniform(*tall)
        wall = shade(pick(WALLS, rng.random()), rng.uniform(0.75, 0.98))
        pen.box(x, 0, x + wide, high, wall)
        if rng.random() < 0.65:
            peak = (x + wide / 2, high + rng.uniform(2.5, 5))
            pen.area(((x - 0.6, high), peak, (x + wide + 0.6, high)), pick(ROOFS, rng.random()))
        for top in np.arange(high - 1.5, 2.5, -3.6):
            lit = dark and rng.random() < 0.6
            for left in np.arange(x + 1.2, x + wide - 1.6, 2.8):
                pen.box(left, top - 1.7, left + 1.2, top, (255, 220, 130) if lit else shade(wall, 0.55))
        x += wide + (rng.uniform(2, 16) if rng.random() < gap else 0)
    tower = rng.uniform(20, pen.right)
    pen.box(tower, 0, tower + 5, 24, shade(pick(WALLS, rng.random()), 0.85))
    pen.area(((tower - 0.5, 24), (tower + 2.5, 38), (tower + 5.5, 24)), (96, 110, 104))


def _draw_trees(pen: DesignPen, rng: np.random.Generator, count: int) -> None:
    for x in rng.uniform(0, pen.right, count):
        high, green = rng.uniform(4, 10), shade((66, 104, 64), rng.uniform(0.75, 1.25))
        pen.line([(x, 0), (x, high * 0.6)], (84, 64, 48), 1)
        pen.oval(x, 0.62 * high, 0.34 * high, 0.42 * high, green)


def _draw_port(pen: DesignPen, rng: np.random.Generator) -> None:
    """Sheds, stacks of containers, and cranes."""
    for x in np.arange(rng.uniform(-10, 10), pen.right, 30):
        if rng.random() < 0.5:
            shed = pick(((150, 156, 160), (120, 132, 146), (170, 150, 130)), rng.random())
            pen.box(x, 0, x + 26, rng.uniform(7, 11), shed)
        for k in range(int(rng.integers(3, 9))):
            left, bottom = x + 4.2 * (k % 6), 2.6 * (k // 6)
            pen.box(left, bottom, left + 4, bottom + 2.4, pick(BRIGHT, rng.random()))
    for x in rng.uniform(5, pen.right, 3):
        color, high = pick(((196, 76, 52), (72, 112, 160), (226, 178, 60)), rng.random()), rng.uniform(20, 30)
        for leg in (0, 9):
            pen.line([(x + leg, 0), (x + leg + (3 - leg / 1.5), high)], color, 1.3)
        pen.line([(x - 12, high * 0.8), (x + 24, high * 0.8)], color, 1.6)
        pen.line([(x + 22, high * 0.8), (x + 4, high * 1.12), (x - 10, high * 0.8)], color, 0.6)
