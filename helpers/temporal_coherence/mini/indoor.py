"""Two of the sport scenes, bowling and billiards, with what rolls in them; see `scenes`."""

import cmath
import math

import numpy as np

from helpers.drawing.colour import Color, shade
from helpers.temporal_coherence.mini.stage import HALF_TURN, Draw, Look, Stage, draw_person, ease, hanging


def bowling(rng: np.random.Generator, look: Look) -> Draw:
    """Down the lane: the arm swings, the ball rolls away and shrinks, the pins fly."""
    tempo, start, aim = rng.uniform(0.9, 1.15), rng.uniform(0, 0.15), rng.uniform(-0.35, 0.35)
    middle = 12 + 8 * look.free[0]
    turns, throws = rng.uniform(-1.9, 1.9, 6), rng.uniform(-9, 9, 6) + 1j * rng.uniform(-16, 0, 6)
    turns[rng.random(6) < 0.2] = np.nan  # these stay

    def draw_ball(stage, at, radius):
        stage.disk(at, radius + 1, look.dark)
        stage.disk(at, radius, look.shirt)
        stage.disk(at - 0.35 * radius * (1 + 1j), 0.25 * radius, look.light)

    def draw(stage, seconds):
        time = tempo * seconds + start
        roll, step = (time - 0.56) / 0.5, ease(time, (0.1, 0.58), (0, 1))
        _draw_alley(stage, middle)
        _draw_pins(stage, middle, time - 1.05, turns, throws)
        lean, hip = 0.25 + 0.35 * step, complex(-46 + 9 * step, 12 + 5 * step)
        shoulder = hip + 19 * cmath.rect(1, lean - HALF_TURN / 2)
        swing = ease(time, (0, 0.1, 0.4, 0.58, 0.8, 1.4), (0.5, 0.3, -1.4, 0.6, 2.3, 1.2))
        hands = shoulder + 22 * hanging(swing), shoulder + complex(-16, 6 - 8 * step)
        feet = hip + complex(7 + 5 * step, 29 - 3 * step), hip + complex(-6 - 13 * step, 30 - 3 * step)
        if 0 < roll < 1.25:
            depth = 1 - (1 - min(roll, 1.0)) ** 1.5
            at = _on_lane(middle, -0.55 + (0.55 + aim) * depth, 46 - 57 * depth)
            draw_ball(stage, at - 4j * (1 - depth), 6.5 - 2.7 * depth)
        held = None if roll > 0 else lambda: draw_ball(stage, hands[0] + 3j, 6.5)
        draw_person(stage, hip, lean, hands, feet, elbows=(-1, 1), held=held)

    return draw


def _on_lane(middle: float, across: float, y: float) -> complex:
    """A point of the lane, which is 38 wide at its far end (y = -12); across runs from -1 to 1."""
    return complex(middle + across * (19 + 0.46 * (y + 12)), y)


def _draw_alley(stage: Stage, middle: float) -> None:
    look = stage.look
    for edge, color in ((1.25, shade(look.prop, 0.6)), (1.0, look.prop)):
        corners = ((-edge, -12), (edge, -12), (edge, 86), (-edge, 86))
        stage.area([_on_lane(middle, across, y) for across, y in corners], color)
    for across in (-0.6, -0.2, 0.2, 0.6):
        stage.line([_on_lane(middle, across, y) for y in (-12, 86)], shade(look.prop, 0.85), 1)
    for across in (-0.5, -0.25, 0, 0.25, 0.5):
        stage.line([_on_lane(middle, across, y - 6 * abs(across)) for y in (22, 17)], look.second, 2)
    stage.box(middle - 26, -40, middle + 26, -12, shade(look.far, 0.6))
    stage.box(middle - 27, -44, middle + 27, -32, look.second)


def _draw_pins(stage: Stage, middle: float, after: float, turns: np.ndarray, throws: np.ndarray) -> None:
    places = [(row, i - row / 2) for row in (2, 1, 0) for i in range(row + 1)]  # the farthest first
    for (row, across), turn, throw in zip(places, turns.tolist(), throws.tolist(), strict=True):
        fallen = 0.0 if math.isnan(turn) else min(1.0, max(0.0, 4.5 * after - 0.25 * row))
        foot = complex(middle + 15 * across, -6 - 3 * row) + throw * fallen * (1.6 - fallen)
        up = -1j * cmath.rect(1, turn * fallen if fallen else 0.0)
        body, neck = [foot + 2 * up, foot + 6 * up], [foot + 6 * up, foot + 15 * up]
        stage.strokes((body, stage.look.light, 4.5), (neck, stage.look.light, 2.4))
        stage.line([foot + 10 * up - 1, foot + 10 * up + 1], stage.look.second, 2)


POCKETS = tuple(complex(u, v) for u in (0, 1, 2) for v in (0, 1))


def billiards(rng: np.random.Generator, look: Look) -> Draw:
    """The player leans over the table's end and breaks; balls run, meet, bounce, and some drop."""
    path, strike, middle = roll_balls(rng), rng.uniform(0.3, 0.55), 12 + 4 * look.free[0]
    colors = (look.light, look.shirt, look.second, look.hair, look.far, look.trousers, look.sky, look.skin)

    def draw(stage, seconds):
        since = seconds - strike
        _draw_table(stage, middle)
        balls = path[min(max(round(100 * since), 0), len(path) - 1)]
        for k in np.argsort(balls.imag):  # the nearer ones last
            if not np.isnan(balls[k]):
                _draw_ball(stage, _on_table(middle, balls[k], 2.5), colors[k])
        tip, rise = _on_table(middle, path[0, 0], 2.5) - 5, ease(since, (0.35, 1.2), (0, 1))
        bridge, thrust = complex(-26, 17 - 12 * rise), ease(since, (-0.5, -0.2, 0, 0.3, 1.0), (-4, -11, 1, 6, -2))
        away, length = (tip - bridge) / abs(tip - bridge) * cmath.rect(1, -0.5 * rise), abs(tip - bridge) + 26
        rear = bridge + away * (thrust - 26)

        def cue():
            stage.line([rear - 8 * away, rear + away * length], look.dark, 3)
            stage.line([rear + 4 * away, rear + away * (length - 1)], look.light, 1.5)

        feet = (-66 + 42j, -52 + 42j)
        draw_person(stage, -60 + 12j, 1.15 - 0.55 * rise, (rear, bridge), feet, elbows=(-1, 1), held=cue)

    return draw


def _on_table(middle: float, at: complex, lift: float = 0.0) -> complex:
    """Where a point of the table is seen: along it 0..2, across it 0 (far) to 1 (near)."""
    along, across = at.real, at.imag
    return complex(middle + (along - 1) * (43 + 12 * across), 2 + 28.5 * across + 9.5 * across**2 - lift)


def _draw_table(stage: Stage, middle: float) -> None:
    look = stage.look

    def corners(u, v, lift=0.0):
        places = ((-u, -v), (2 + u, -v), (2 + u, 1 + v), (-u, 1 + v))
        return [_on_table(middle, complex(*place), lift) for place in places]

    rim = corners(0.1, 0.12, 2)
    for corner in rim[2:]:
        stage.line([corner, corner + 18j], look.dark, 6)
    stage.area([rim[3], rim[2], rim[2] + 7j, rim[3] + 7j], shade(look.second, 0.5))
    stage.area(rim, shade(look.second, 0.8))
    stage.area(corners(0.02, 0.03), shade(look.prop, 0.7))
    stage.area(corners(0, 0), look.prop)
    for pocket in POCKETS:
        stage.oval(_on_table(middle, pocket), 4.2 + 3j, look.dark)


def _draw_ball(stage: Stage, at: complex, color: Color) -> None:
    stage.oval(at + 1.5 + 2.2j, 3.6 + 2.4j, shade(stage.look.prop, 0.65))
    stage.disk(at, 4.2, stage.look.dark)
    stage.disk(at, 3.4, color)
    stage.disk(at - 1 - 1.2j, 0.9, stage.look.light)


def roll_balls(rng: np.random.Generator, seconds: float = 3.0) -> np.ndarray:
    """Break a rack on a table of 2 x 1: places every 1/100 s, (T, 8) complex; ball 0 is struck, potted ones are NaN."""
    radius, dt = 0.058, 0.01
    rack = [1.3 + 0.105 * row + 1j * (0.5 + 0.12 * (i - row / 2)) for row in range(3) for i in range(row + 1)]
    place = np.array([0.6 + 1j * rng.uniform(0.35, 0.65), *rack, 0.9 + 1j * rng.choice([0.1, 0.9])])
    towards = place[1] + 1j * rng.uniform(-0.05, 0.05) - place[0]
    pace = np.zeros(8, complex)
    pace[0] = rng.uniform(3.4, 4.4) * towards / abs(towards)
    path = np.empty((round(seconds / dt), 8), complex)
    for step in range(len(path)):
        path[step] = place
        place, pace = place + pace * dt, pace * 0.993
        for where, how_fast, length in ((place.real, pace.real, 2), (place.imag, pace.imag, 1)):  # views
            how_fast[((where < radius) & (how_fast < 0)) | ((where > length - radius) & (how_fast > 0))] *= -0.9
        _collide(place, pace, 2 * radius)
        for pocket in POCKETS:
            place[np.abs(place - pocket) < 0.085] = np.nan
    return path


def _collide(place: np.ndarray, pace: np.ndarray, diameter: float) -> None:
    """Equal masses that touch swap the parts of their speeds along the line between them; `pace` changes in place."""
    first, second = np.triu_indices(len(place), 1)
    for k in np.flatnonzero(np.abs(place[first] - place[second]) < diameter):
        i, j = first[k], second[k]
        line = (place[j] - place[i]) / abs(place[j] - place[i])
        push = ((pace[i] - pace[j]) * line.conjugate()).real
        if push > 0:
            pace[i] -= 0.97 * push * line
            pace[j] += 0.97 * push * line
