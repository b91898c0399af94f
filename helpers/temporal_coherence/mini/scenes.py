"""Six little sport scenes for the mini dataset, drawn one frame at a time; points are complex, see `stage`.

A scene is called once per clip, with the clip's own generator, and returns `draw(stage, seconds)`.
"""

import cmath
import math
from collections.abc import Callable

import numpy as np

from helpers.drawing.colour import Color, shade
from helpers.temporal_coherence.mini.stage import Look, Part, Stage, draw_person, ease, reach

Draw = Callable[[Stage, float], None]
HALF_TURN, TURN = math.pi, 2 * math.pi


def hanging(angle: float) -> complex:
    """Direction of an arm or a club: 0 hangs down, positive swings to the right and up."""
    return cmath.rect(1, HALF_TURN / 2 - angle)


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


SCENES: dict[str, Callable[[np.random.Generator, Look], Draw]] = {
    "Archery": archery,
    "Billiards": billiards,
    "Bowling": bowling,
    "GolfSwing": golf_swing,
    "HorseRace": horse_race,
    "Rowing": rowing,
}
