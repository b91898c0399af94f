"""Draws the talking faces of the mini dataset: who a speaker is, where the head stands, how a mouth is drawn.

A face has its own coordinates: complex numbers x + iy, x to the picture's right, y down, 0 between the eyes, 1 the distance
of the eyes. A head's `turn` is a complex number too: multiplying by it turns and enlarges, adding `place` moves.
"""

from dataclasses import dataclass, field, fields
from typing import Any

import cv2
import numpy as np

from helpers.drawing.chance import Traits
from helpers.drawing.colour import Color, from_hsv, mix, shade
from helpers.drawing.pen import PlanePen, circle

SIZE = (128, 112)  # height, width of a picture in pixels
SKINS = ((255, 224, 196), (244, 200, 164), (224, 172, 132), (190, 134, 96), (146, 98, 68), (108, 70, 50))
HAIRS = ((60, 42, 34), (28, 24, 26), (120, 76, 44), (206, 164, 92), (164, 74, 40), (150, 146, 144))
IRISES = ((70, 110, 150), (92, 62, 36), (80, 118, 70), (52, 40, 32))
LIPS = ((206, 90, 94), (190, 62, 84), (172, 74, 70), (216, 112, 108))
STYLES = ("short", "bob", "long", "bun", "curly", "shaved")
TEETH, GUM, TONGUE = (248, 244, 236), (62, 18, 24), (196, 88, 92)
ARC = np.linspace(-1, 1, 15)  # from the right corner of the mouth to the left one
CIRCLE = circle(24)
LOOKS = 22  # free numbers that make a speaker, one a trait


def vary(low: float, high: float) -> Any:
    """A field of `Speaker` that lies anywhere between two numbers."""
    return field(metadata={"span": (low, high)})


@dataclass(frozen=True)
class Speaker:
    """What stays with a speaker in all clips; lengths in distances of the eyes, colours RGB."""

    skin: Color
    lips: Color
    hair: Color
    iris: Color
    shirt: Color
    walls: tuple[Color, Color]
    style: str
    glasses: bool
    eyes: float = vary(27.0, 34.0)  # distance of the eyes in pixels
    face: float = vary(0.92, 1.08)  # half the width of the face
    chin: float = vary(1.62, 1.84)  # from the eyes down to the chin
    jaw: float = vary(2.0, 2.7)  # 2 is an oval, more is squarer
    nose: float = vary(0.52, 0.64)  # from the eyes down to its tip
    mouth: float = vary(1.02, 1.12)  # from the eyes down to the mouth
    width: float = vary(0.74, 0.92)  # of the mouth at rest, corner to corner
    fullness: float = vary(0.8, 1.25)  # of the lips
    smile: float = vary(0.0, 0.04)  # how far the corners of the mouth are raised
    brow: float = vary(0.05, 0.1)  # thickness
    tilt: float = vary(-0.09, 0.09)  # of the head, in radians
    light: float = vary(0.72, 1.06)  # brightness, 1 as drawn
    tempo: float = vary(0.9, 1.12)  # 1 is average, more is faster


def draw_speaker(number: int, seed: int = 0) -> Speaker:
    """The speaker of a number (from 0) and seed.

    Twelve in a row share out the range of every trait evenly (a Latin hypercube), so that none is met by chance alone.
    """
    block, place = divmod(number, 12)
    traits = Traits(np.random.default_rng([seed, block]), place, group=12, count=LOOKS)
    skin = traits.pick(SKINS)
    lips = mix(traits.pick(LIPS), skin, 0.38)
    wall = from_hsv(traits.span(0, 180), 70, traits.span(120, 225))
    return Speaker(
        skin=skin,
        lips=shade(lips, 0.94),
        hair=traits.pick(HAIRS),
        iris=traits.pick(IRISES),
        shirt=from_hsv(traits.span(0, 180), 140, 190),
        walls=(wall, shade(wall, 0.72)),
        style=traits.pick(STYLES),
        glasses=traits.number() < 0.25,
        **{trait.name: traits.span(*trait.metadata["span"]) for trait in fields(Speaker) if trait.metadata},
    )


@dataclass(frozen=True)
class Mouth:
    """The shape of a mouth; lengths in distances of the eyes, but `width` relative to the speaker's at rest."""

    width: float
    opening: float
    lips: float  # thickness, relative to the speaker's
    upper: float  # teeth seen below the upper lip, as a share of the opening
    lower: float  # teeth seen above the lower lip
    tongue: float


@dataclass(frozen=True)
class Head:
    """Where a head is: `place` in pixels, `turn` in pixels (length) and radians (angle), and what else moves."""

    place: complex
    turn: complex
    eyelids: float = 1.0  # 1 open, 0 shut
    brows: float = 0.0  # raised by, in distances of the eyes


def face_points(speaker: Speaker, head: Head, mouth: Mouth) -> np.ndarray:
    """Right eye, left eye, tip of the nose, right and left corner of the mouth (5, 2), x, y in pixels; right = the person's."""
    half = speaker.width * mouth.width / 2
    level = 1j * (speaker.mouth - speaker.smile)
    points = head.place + head.turn * np.array([-0.5, 0.5, 1j * speaker.nose, level - half, level + half])
    return np.stack([points.real, points.imag], axis=1)


def draw_room(speaker: Speaker, rng: np.random.Generator) -> np.ndarray:
    """The wall behind a speaker, (H, W, 3) uint8: a gradient with a few soft shapes."""
    height, width = SIZE
    fade = np.linspace(0, 1, height)[:, None, None]
    image = np.array(speaker.walls[0]) * (1 - fade) + np.array(speaker.walls[1]) * fade
    image = np.ascontiguousarray(np.broadcast_to(image, (height, width, 3)).astype(np.uint8))
    for _ in range(3):
        corner = rng.integers((-20, -20), (width, height))
        color = shade(speaker.walls[0], rng.uniform(0.7, 1.25))
        cv2.rectangle(image, corner.tolist(), (corner + rng.integers(15, 50, 2)).tolist(), color, -1)
    return cv2.GaussianBlur(image, (0, 0), 3)


def draw_face(room: np.ndarray, speaker: Speaker, head: Head, mouth: Mouth) -> np.ndarray:
    """Draw one picture, (H, W, 3) uint8, onto a copy of the room."""
    pen = PlanePen(room.copy(), head.place, head.turn)
    _draw_back(pen, speaker)
    _draw_skin(pen, speaker, mouth.opening)
    _draw_hair(pen, speaker)
    for side in (-1, 1):
        _draw_eye(pen, speaker, side, head)
    _draw_nose(pen, speaker)
    _draw_mouth(pen, speaker, mouth)
    return cv2.convertScaleAbs(cv2.GaussianBlur(pen.image, (3, 3), 0.5), alpha=speaker.light)


def _draw_back(pen: PlanePen, who: Speaker) -> None:
    """Hair behind the head, shoulders, neck and ears."""
    if who.style == "long":
        left, right = -who.face - 0.22 - 0.2j, who.face + 0.22 - 0.2j
        pen.area([left, -0.95 - 1.1j, 0.95 - 1.1j, right, 1.3 + 2.2j, -1.3 + 2.2j], who.hair)
    if who.style in ("bob", "long"):
        pen.oval(0.05j, complex(who.face + 0.24, 1.35), who.hair)
    if who.style == "bun":
        pen.oval(-1.38j, 0.42 + 0.36j, who.hair)
    if who.style == "curly":
        for curl in CIRCLE[12:] * complex(1, -0.02) * 1.08 - 0.12j:
            pen.oval(curl, 0.36 + 0.34j, who.hair)
    shoulders = (-0.45 + 1.75j, 0.45 + 1.75j, 1.7 + 2.25j, 2.1 + 4j, -2.1 + 4j, -1.7 + 2.25j)
    pen.area(shoulders, who.shirt)
    pen.area((-0.42 + 1.2j, 0.42 + 1.2j, 0.46 + 2.0j, 2.25j, -0.46 + 2.0j), shade(who.skin, 0.8))
    for side in (-1, 1):
        pen.oval(complex(side * (who.face + 0.02), 0.22), 0.14 + 0.24j, shade(who.skin, 0.9))


def _outline(who: Speaker, drop: float, grow: float = 0.0) -> np.ndarray:
    """The contour of the face: half an ellipse above, a squarer half below that follows the jaw."""
    cos, sin = CIRCLE.real, CIRCLE.imag
    wide = np.where(sin > 0, np.sign(cos) * np.abs(cos) ** (2 / who.jaw), cos)
    tall = np.where(sin > 0, (who.chin - 0.05 + drop) * sin, 1.15 * sin)
    return (who.face + grow) * wide + 1j * (0.05 + tall - grow * (sin < 0))


def _draw_skin(pen: PlanePen, who: Speaker, opening: float) -> None:
    drop = 0.4 * opening
    pen.area(_outline(who, drop) + 0.02 + 0.03j, shade(who.skin, 0.82))  # the shaded side
    pen.area(_outline(who, drop), who.skin)
    for side in (-1, 1):
        pen.oval(complex(side * 0.62, 0.62), 0.2 + 0.13j, mix(who.skin, who.lips, 0.15))


def _draw_hair(pen: PlanePen, who: Speaker) -> None:
    if who.style == "shaved":
        return
    above = _outline(who, 0.0, 0.08)[CIRCLE.imag < 0.05]  # from the left temple over the top to the right one
    above = above[np.argsort(np.angle(above * 1j))]
    low, parting = {"short": (-0.62, 0.1), "bob": (-0.42, 0.0), "curly": (-0.6, 0.0)}.get(who.style, (-0.55, 0.35))
    x = np.linspace(who.face * 0.92, -who.face * 0.92, 9)
    fringe = x + 1j * (low - 0.22 * np.cos(1.3 * (x - parting)) + 0.3 * np.abs(x) ** 3)
    pen.area(np.concatenate([above, fringe]), who.hair)


def _draw_eye(pen: PlanePen, who: Speaker, side: int, head: Head) -> None:
    lids, center = head.eyelids, complex(0.5 * side, 0)
    dark = shade(who.hair, 0.55)
    pen.oval(center - 0.02j, 0.25 + 0.17j, shade(who.skin, 0.88))
    if lids > 0.25:
        pen.oval(center, complex(0.2, 0.125 * lids), (250, 250, 250))
        pen.oval(center, complex(0.1, min(0.1, 0.125 * lids)), who.iris)
        pen.oval(center, complex(0.055, min(0.055, 0.11 * lids)), (18, 16, 18))
        pen.oval(center + 0.035 - 0.035j * lids, 0.022 + 0.022j, (255, 255, 255))
    bend = 0.13 * (2 * lids - 1) * (1 - ARC**2)  # a shut lid hangs
    pen.line(center + 0.22 * ARC + 1j * (0.01 - bend), dark, 0.045)
    arch = center - 1j * (0.27 + head.brows + 0.07 * (1 - ARC**2))
    pen.line(arch + 0.25 * ARC, shade(who.hair, 0.7), who.brow)
    if who.glasses:
        pen.line(center + 0.32 * np.append(CIRCLE, 1), (50, 46, 52), 0.035)
        pen.line((center - 0.32 * side, 0j), (50, 46, 52), 0.035)


def _draw_nose(pen: PlanePen, who: Speaker) -> None:
    tip = 1j * who.nose
    pen.area((-0.07 + 0.1j, 0.02 + 0.1j, tip + 0.12 + 0.04j, tip - 0.17 + 0.06j), shade(who.skin, 0.91))
    pen.oval(tip + 0.02j, 0.15 + 0.1j, shade(who.skin, 0.93))
    pen.oval(tip - 0.01j, 0.09 + 0.08j, shade(who.skin, 1.06))
    for side in (-1, 1):
        pen.oval(tip + 0.09 * side + 0.09j, 0.04 + 0.025j, shade(who.skin, 0.55))


def _draw_mouth(pen: PlanePen, who: Speaker, mouth: Mouth) -> None:
    half, pout = who.width * mouth.width / 2, max(0.0, 1 - mouth.width)
    inner, arch = 0.9 - 0.4 * pout, (1 - ARC**2) ** (1 - 0.9 * pout)  # pushed forward, the lips make a ring
    middle = 1j * (who.mouth - who.smile * ARC**2)
    bow = np.sqrt(1 - ARC**2)  # an arch over the mouth
    upper = -0.42 * mouth.opening * bow  # edges of the opening
    lower = 0.58 * mouth.opening * bow
    thick = 0.13 * who.fullness * mouth.lips
    top = upper - thick * arch * (1 - 0.3 * np.exp(-((ARC / 0.22) ** 2)))  # Cupid's bow
    bottom = lower + 1.35 * thick * arch**0.8

    def between(above: np.ndarray, below: np.ndarray, width: float) -> np.ndarray:
        edge = width * half * ARC + middle
        return np.concatenate([edge + 1j * above, (edge + 1j * below)[::-1]])

    pen.oval(1j * (who.mouth + bottom.max() + 0.1), 0.26 + 0.035j, shade(who.skin, 0.9))  # shadow of the lower lip
    pen.area(between(top, lower, 1), shade(who.lips, 0.9))
    pen.area(between(upper, bottom, 1), who.lips)
    pen.line(half * inner * ARC + middle, shade(who.lips, 0.45), 0.03)
    if mouth.opening < 0.02:
        return
    pen.area(between(upper, lower, inner), GUM)
    span = lower - upper
    for share, part in (
        (mouth.tongue, (between(lower - mouth.tongue * span, lower, 0.7 * inner), TONGUE)),
        (mouth.upper, (between(upper, upper + mouth.upper * span, 0.94 * inner), TEETH)),
        (mouth.lower, (between(lower - mouth.lower * span, lower, 0.9 * inner), shade(TEETH, 0.94))),
    ):
        if share > 0.05:  # a part of no height would still be drawn as a line
            pen.area(*part)
