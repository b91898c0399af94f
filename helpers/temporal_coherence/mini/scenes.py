"""Six little sport scenes for the mini dataset, drawn one frame at a time; points are complex, see `stage`.

A scene is called once per clip, with the clip's own generator, and returns `draw(stage, seconds)`.
"""

import cmath
import math
from collections.abc import Callable

import numpy as np

from helpers.drawing.colour import Color, shade
from helpers.temporal_coherence.mini.indoor import billiards, bowling
from helpers.temporal_coherence.mini.stage import TURN, Draw, Look, Part, Stage, draw_person, ease, hanging, reach


def archery(rng: np.random.Generator, look: Look) -> Draw:
    """Nock, draw, aim, release; the arrow flies into a target of rings."""
    period, start, height = rng.uniform(1.7, 2.2), rng.uniform(0, 0.3), rng.uniform(-2, 2)
    middle = complex(52 + 10 * look.free[0], -4)
    hits = [middle + complex(rng.normal(0, 1.5), rng.normal(0, 4)) for _ in range(8)]
    colors = (look.dark, look.light, look.prop, look.light, look.second)

    def draw(stage, seconds):
        cycle, phase = divmod(seconds / period + start, 1)
        shot, flight = int(cycle), (phase - 0.58) / 0.11
        for x in (-5, 9):
            stage.line([middle, complex(middle.real + x, 40)], look.dark, 2)
        for radius, color in zip((19, 15, 11, 7, 3), colors, strict=True):
            stage.oval(middle, complex(0.5 * radius, radius), color)
        grip = complex(-18 + math.sin(7 * seconds), -6 + height)
        pull = ease(phase, (0.12, 0.4), (3, 20)) if flight < 0 else 3.0
        quiver, chin, nock = grip + complex(-32, -10), grip - 20, grip - pull
        if flight < 0:
            rear = quiver + (nock - quiver) * ease(phase, (0, 0.12), (0, 1))
        else:
            rear = chin + (quiver - chin) * ease(phase, (0.6, 0.95), (0, 1))

        def bow():
            bend = 5 + 0.25 * pull
            curve = [grip + complex(1 - bend * (y / 20) ** 2, y) for y in range(-20, 21, 5)]
            stage.strokes((curve, look.second, 2))
            stage.line([curve[0], nock if 0.1 < phase < 0.58 else grip + 1 - bend, curve[-1]], look.light, 1)
            if 0.06 < phase < 0.58:
                stage.line([rear, rear + 26], look.dark, 1.5)

        draw_person(stage, -38 + 8j, 0.04, (rear, grip), (-46 + 39j, -29 + 39j), elbows=(1, -1), held=bow)
        tips = hits[: shot + (flight > 1)]
        if 0 < flight <= 1:
            tips.append(grip + 8 + (hits[shot] - grip - 8) * flight - 6j * flight * (1 - flight))
        for tip in tips:
            stage.line([tip - 14, tip], look.dark, 1.5)

    return draw


def golf_swing(rng: np.random.Generator, look: Look) -> Draw:
    """Seen from the front: the club goes up behind, through the ball and round; the ball flies off."""
    period, start, place = rng.uniform(1.6, 2.1), rng.uniform(0, 0.25), rng.uniform(-4, 4)
    times = (0, 0.1, 0.38, 0.44, 0.54, 0.64, 0.8, 1)
    angles = (0.05, 0.0, -2.2, -2.25, 0.0, 2.1, 2.2, 0.05)  # of the arms; the ball leaves at 0.54
    pole, cloth = -62 + 14 * look.free[0] + 4j, ((0, 0), (7, 1), (14, 3), (7, 6), (0, 8))

    def draw(stage, seconds):
        phase = (seconds / period + start) % 1
        angle = ease(phase, times, angles)
        stage.line([pole, pole - 34j], look.dark, 1.5)
        stage.area([pole + complex(x, y - 34 + 1.5 * math.sin(x / 3 - 9 * seconds)) for x, y in cloth], look.second)
        hip = place + complex(-4 + 1.5 * angle, 9)
        hands = hip + complex(-1 - 1.2 * angle, -17) + 17 * hanging(angle)
        head = hands + 28 * hanging(1.55 * angle)
        fly = max(0.0, phase - 0.54) * period
        ball = place + complex(9 + 150 * fly, 39 - 170 * fly + 120 * fly**2)
        stage.disk(ball, 3.2, look.dark)
        stage.disk(ball, 2.3, look.light)

        def club():
            stage.line([hands, head], look.dark, 2)
            stage.strokes(([head, head + 5 * cmath.rect(1, -1.55 * angle)], look.prop, 3))

        elbows, feet = (1, 1) if angle < 0 else (-1, -1), (place + 7 + 40j, place - 15 + 40j)
        pose = (hip, -0.04 * angle, (hands, hands), feet)
        draw_person(stage, *pose, elbows=elbows, knees=(-1, 1), broad=5, held=club)

    return draw


def horse_race(rng: np.random.Generator, look: Look) -> Draw:
    """The camera follows a galloping horse and its crouching jockey along the rail, with a rival behind or before."""
    beat, speed = rng.uniform(0.42, 0.55), rng.uniform(90, 140)
    start, drift = rng.uniform(0, 1), rng.uniform(-5, 5)
    rival = complex(-58 if look.free[0] < 0.6 else 56, -2)

    def draw(stage, seconds):
        phase, way = seconds / beat + start, speed * seconds
        _draw_rail(stage, 16, 12, 1.5, 32, 0.7 * way)
        _draw_horse(stage, rival - 2 * drift * seconds, phase + 0.37, look.second, 0.55)
        at = complex(2 + drift * seconds, 10)
        for k in range(3):  # dust, left behind
            age = (phase + k / 3) % 1
            stage.disk(at + complex(-22 - 30 * age, 31 - 7 * age), 1.5 + 3 * age, shade(look.ground, 1.15))
        _draw_horse(stage, at, phase, look.prop, 1.0)
        _draw_rail(stage, 62, 14, 2.5, 48, 1.4 * way)

    return draw


def _draw_rail(stage: Stage, y: float, height: float, width: float, step: float, way: float) -> None:
    for k in range(-5, 6):
        foot = complex(k * step - way % step, y)
        stage.line([foot, foot - 1j * height], stage.look.light, width)
    stage.line([complex(-160, y - height), complex(160, y - height)], stage.look.light, 1.4 * width)


def _draw_horse(stage: Stage, at: complex, phase: float, coat: Color, size: float) -> None:
    look = stage.look
    bob, pitch = at + size * 2.2j * math.sin(TURN * phase), cmath.rect(size, 0.07 * math.cos(TURN * phase))

    def line(color: Color, width: float, *points: complex) -> Part:
        return [bob + pitch * p for p in points], color, width * size

    def leg(hip: complex, offset: float, bend: int, dim: float) -> list[Part]:
        angle, color = TURN * (phase + offset), shade(coat, dim)
        hoof = at + size * complex(hip.real + 15 * math.cos(angle), 32 - 13 * max(0.0, -math.sin(angle)))
        knee, end = reach(bob + pitch * hip, hoof, 14 * size, 15 * size, bend)
        lower = ([knee, end], color, 3.5 * size), ([end, end + 2 * size], look.dark, 3.5 * size)
        return [([bob + pitch * hip, knee], color, 6 * size), *lower]

    tail = [complex(-21 - x, -3 + 0.25 * x + 2.5 * math.sin(x / 3 + TURN * phase)) for x in (0, 5, 10, 15)]
    stage.strokes(line(look.hair, 3.5, *tail), *leg(-15 + 4j, 0.12, 1, 0.7), *leg(14 + 4j, 0.62, -1, 0.7))
    neck, head = line(coat, 8, 14 - 1j, 29 - 17j), line(coat, 6, 30 - 16j, 39 - 9j)
    ear, body = line(coat, 2.5, 29 - 17j, 28 - 22j), line(coat, 16, -13, 12)
    stage.strokes(*leg(-15 + 4j, 0.0, 1, 1.0), *leg(14 + 4j, 0.5, -1, 1.0), neck, ear, head, body)
    stage.line(*line(look.hair, 3, 11 - 9j, 25 - 17j))
    hip, hand, foot = (bob + pitch * p for p in (-5 - 15j, 17 - 13j, 1 + 4j))
    draw_person(stage, hip, 1.0, (hand, hand), (foot, foot), size=0.62 * size, elbows=(-1, -1))


def rowing(rng: np.random.Generator, look: Look) -> Draw:
    """A scull seen from the side: the rowers slide, lean and pull together; blades dip, water runs past."""
    period, start, speed = rng.uniform(1.2, 1.6), rng.uniform(0, 1), rng.uniform(26, 40)
    crew = (-20, 20) if look.free[0] < 0.6 else (-33, 3, 39)
    level = 14 + 6 * look.free[1]
    hull = (-76 - 4j, 76 - 4j, 66 + 3j, 50 + 5j, -50 + 5j, -66 + 3j)

    def draw(stage, seconds):
        phase = (seconds / period + start) % 1
        surge = 3.5 * math.sin(TURN * (phase - 0.2))
        _draw_water(stage, speed * seconds + surge)
        boat = complex(surge, level + 0.8 * math.sin(TURN * phase))
        hands = [_draw_rower(stage, boat + seat, phase) for seat in crew]
        stage.area([boat + p + math.copysign(1.5, p.imag) * 1j for p in hull], look.dark)
        stage.area([boat + p for p in hull], look.light)
        stage.line([boat - 70 - 1j, boat + 70 - 1j], look.second, 2)
        stage.area([boat + p for p in (-66 + 5j, 66 + 5j, 55 + 7j, -55 + 7j)], shade(look.prop, 0.75))
        for seat, hand in zip(crew, hands, strict=True):
            _draw_oar(stage, boat + seat + 6 - 5j, hand, phase)

    return draw


def _draw_water(stage: Stage, way: float) -> None:
    color = stage.look.prop
    stage.box(-160, 2, 160, 90, color)
    for row in range(7):
        step, y = 34 + 4 * row, 6 + 1.4 * row**2
        for k in range(-4, 5):
            wave = complex(k * step + 17 * (row % 2) + way * (0.4 + 0.2 * row) % step, y)
            stage.line([wave, wave + 6 + 2 * row], shade(color, 1.25 - 0.5 * (row % 2)), 1.2)


def _draw_rower(stage: Stage, seat: complex, phase: float) -> complex:
    slide = ease(phase, (0, 0.42, 1), (0, 1, 0))  # 0: catch, knees bent and arms out; 1: finish
    swing = ease(phase, (0, 0.12, 0.42, 0.55, 1), (0, 0.15, 1, 0.8, 0))
    hand = seat + complex(17 - 23 * swing, -11 + 2 * (phase > 0.42))
    foot, hip = seat + 15 - 3j, seat + complex(-3 - 7 * slide, -5)
    draw_person(stage, hip, 0.45 - 0.85 * swing, (hand, hand), (foot, foot), size=0.78)
    return hand


def _draw_oar(stage: Stage, lock: complex, hand: complex, phase: float) -> None:
    dip = ease(phase, (0, 0.07, 0.38, 0.46, 0.95, 1), (0.4, 1, 1, 0, 0, 0.4))
    blade = lock + complex(-2.1 * (hand - lock).real, 17 + 9 * dip)
    stage.line([hand, lock, blade], stage.look.dark, 1.5)
    stage.oval(blade, 8.5 + 3.8j, stage.look.dark, cmath.phase(blade - lock))
    stage.oval(blade, 7.2 + 2.6j, stage.look.second, cmath.phase(blade - lock))
    for x in (-9, 0, 8) if dip > 0.9 else ():  # foam
        stage.disk(blade + complex(x, 3 - 0.5 * abs(x)), 1.6, stage.look.light)


SCENES: dict[str, Callable[[np.random.Generator, Look], Draw]] = {
    "Archery": archery,
    "Billiards": billiards,
    "Bowling": bowling,
    "GolfSwing": golf_swing,
    "HorseRace": horse_race,
    "Rowing": rowing,
}
