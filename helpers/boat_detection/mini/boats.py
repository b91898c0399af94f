"""The boats of the mini dataset: nine designs, which Open Images calls Boat, Barge, Gondola or Canoe."""

from collections.abc import Sequence

import numpy as np

from helpers.boat_detection.mini.pen import BRIGHT, CREAM, DARK, GLASS, SKINS, WHITE, WOOD, DesignPen, Free, Kind, curve
from helpers.drawing.chance import pick
from helpers.drawing.colour import Color, shade

HULLS = (WHITE, WHITE, (30, 52, 100), (168, 40, 36), (34, 92, 70), (40, 42, 50), (70, 132, 176), (222, 120, 46))
HULLS += (WOOD, (128, 136, 142), (226, 186, 60), (120, 34, 50))
SAILS = (WHITE, WHITE, CREAM, CREAM, (204, 74, 54), (62, 100, 160), (230, 168, 72), (140, 60, 50))
STEEL = ((92, 100, 104), (120, 62, 50), (60, 74, 92), (78, 92, 78))


def _hull(
    pen: DesignPen, color: Color, stern: Sequence, sheer: Sequence, bow: Sequence, *, keel: Sequence = (-44, 40)
) -> None:
    """A hull seen from the side: the deck's line from stern over sheer to bow; a shadow below and a light rim above."""
    deck = curve(stern, sheer, bow)
    front = curve(bow, (bow[0] - 5, bow[1] * 0.3), (keel[1], -1), 4)
    pen.area(np.vstack([deck, front, [(keel[0], -1)]]), color)
    low = 0.3 * min(stern[1], bow[1])
    pen.area(((stern[0] * 0.97, low), (keel[1] + 2.5, low), (keel[1], -1), (keel[0], -1)), shade(color, 0.62))
    pen.line(deck - (0, 1.2), shade(color, 1.25) if max(color) < 200 else shade(color, 0.75), 1.4)


def sailing_boat(pen: DesignPen, free: Free) -> None:
    color, sail, top, mast = pick(HULLS, free[0]), pick(SAILS, free[1]), 92 + 28 * free[2], 2 + 8 * free[4]
    pen.line([(mast, 8), (mast, top)], (132, 100, 70), 2.6)
    if free[3] < 0.6:
        leech = curve((mast - 1, top - 3), (mast - 34, 0.5 * top), (-42, 19))
        pen.area([*leech, (mast - 1, 18)], sail)
        pen.area([*leech, (-34, 18.5), (mast - 12, 0.55 * top)], shade(sail, 0.9))
        luff = curve((mast + 1.5, 0.88 * top), (mast + 24, 0.36 * top), (47, 13))
        pen.area([*luff, (mast + 5, 17)], shade(pick(SAILS, free[7]) if free[3] < 0.2 else sail, 0.95))
        for share in (0.35, 0.55, 0.75):
            pen.line([(mast - 2, top * share), (mast - 38 * (1 - share) - 4, top * share - 3)], shade(sail, 0.8), 0.5)
    else:
        pen.line([(mast, 18), (-40, 17)], pick((*BRIGHT, (36, 60, 110)), free[7]), 4.5)
        pen.line([(mast, top - 2), (-47, 10)], DARK, 0.5)
    pen.line([(mast, top - 4), (50, 13)], DARK, 0.5)
    pen.area(((-24, 7), (-19, 16), (12, 15), (24, 8)), CREAM)
    pen.windows(-16, 12, 10.5, 13.5, 3)
    if free[6] < 0.5:
        pen.person(-32, 8, 20, free, legs=False)
    _hull(pen, color, (-50, 10), (0, 5), (52, 14))


def motor_boat(pen: DesignPen, free: Free) -> None:
    color, trim = pick(HULLS, free[0]), pick(BRIGHT, free[1])
    if free[2] < 0.4:  # a yacht with a second deck
        pen.area(((-30, 24), (-26, 36), (-2, 36), (8, 24)), WHITE)
        pen.windows(-24, 1, 28, 33.5, 3)
        pen.line([(-22, 36), (-30, 48)], DARK, 1)
    cabin = WHITE if free[3] < 0.7 else CREAM
    pen.area(((-40, 12), (-36, 25), (6, 25), (24, 13)), cabin)
    pen.area(((-2, 14), (-2, 23), (6, 23), (19, 14)), GLASS)
    pen.windows(-33, -4, 15.5, 21.5, 3)
    pen.line([(26, 21), (50, 24), (52, 18)], (170, 174, 178), 0.8)
    pen.line([(-47, 12), (-49, 28)], DARK, 0.7)
    pen.area(((-49, 28), (-59, 27), (-58, 21), (-48.5, 21.5)), pick(BRIGHT, free[4]))
    _hull(pen, color, (-48, 14), (0, 11), (56, 20))
    pen.line([(-47, 8.5), (49, 12)], trim, 2)


def fishing_boat(pen: DesignPen, free: Free) -> None:
    color, trim = pick(HULLS[2:], free[0]), pick(BRIGHT, free[1])
    front = free[2] < 0.5  # the wheelhouse stands in front or behind
    house = 8 if front else -38
    mast = house - 6 if front else house + 30
    pen.line([(mast, 14), (mast, 74)], (206, 156, 70), 3)
    pen.line([(mast, 40), (mast - 34 if front else mast + 26, 62)], (206, 156, 70), 2)
    pen.line([(mast, 72), (53, 28)], DARK, 0.6)
    pen.line([(mast, 72), (-48, 18)], DARK, 0.6)
    pen.box(house, 14, house + 22, 40, WHITE if free[3] < 0.7 else CREAM)
    pen.box(house - 2, 39, house + 24, 43, trim)
    pen.windows(house + 1, house + 22, 29, 36, 3)
    pen.oval(mast - 18 if front else mast + 14, 18, 8, 8, pick(BRIGHT, free[4]))  # the net's drum
    pen.oval(mast - 18 if front else mast + 14, 18, 3, 3, DARK)
    _hull(pen, color, (-50, 17), (2, 8), (56, 29))
    pen.line([(-49, 12), (0, 8.5), (50, 20)], trim, 2)
    for x in (-30, -8, 14):
        pen.oval(x, 6, 3, 3, DARK)  # tyres as fenders


def ferry(pen: DesignPen, free: Free) -> None:
    color, trim = pick(HULLS, free[0]), pick(BRIGHT, free[1])
    pen.box(-30, 32, -14, 47, trim)
    pen.box(-30, 42, -14, 47, DARK)
    pen.area(((-44, 22), (-42, 33), (24, 33), (30, 22)), WHITE)
    pen.windows(-40, 22, 25, 30, 9)
    pen.area(((12, 33), (13, 41), (26, 41), (28, 33)), WHITE)
    pen.windows(14, 27, 35.5, 39.5, 3)
    pen.area(((-48, 12), (-48, 23), (36, 23), (42, 12)), shade(WHITE, 0.94))
    pen.windows(-45, 35, 15, 20, 11)
    _hull(pen, color, (-51, 13), (0, 11), (54, 17))
    pen.line([(-49, 8), (49, 10)], trim, 1.6)


def rowing_boat(pen: DesignPen, free: Free) -> None:
    color = pick((*HULLS, WOOD, WOOD), free[0])
    if free[2] < 0.75:
        pen.person(-4, 8, 44, free, legs=False)
        pen.line([(2, 30), (10, 18)], pick(SKINS, free[6]), 4)
        pen.line([(14, 26), (-22, -2)], WOOD, 2.4)
    if free[3] < 0.3:
        pen.person(-34, 8, 42, free[::-1], legs=False)
    pen.area([*curve((-48, 18), (0, 9), (50, 21)), *curve((50, 21), (0, 16), (-48, 18))], shade(WOOD, 0.5))
    _hull(pen, color, (-49, 18), (0, 8), (51, 21), keel=(-38, 34))


def bow_view(pen: DesignPen, free: Free) -> None:
    """A motor or fishing boat that comes towards us: as wide as 38 units."""
    color, fishing = pick(HULLS, free[0]), free[2] < 0.5
    pen.box(-13, 20, 13, 44 if fishing else 36, WHITE if free[3] < 0.7 else CREAM)
    pen.windows(-12, 12, *((32, 40) if fishing else (27, 34)), 3)
    pen.box(-15, 43 if fishing else 35.5, 15, 47 if fishing else 38, pick(BRIGHT, free[1]))
    if fishing:
        pen.line([(0, 47), (0, 76)], (206, 156, 70), 3)
        pen.line([(-10, 62), (10, 62)], (196, 150, 70), 1.4)
    sides = [curve((-20, 24), (-19, 6), (-9, -1)), curve((9, -1), (19, 6), (20, 24)), [(0, 28)]]
    pen.area(np.vstack(sides), color)
    pen.area([*curve((0, 28), (1, 8), (0, -1), 4), *sides[1]], shade(color, 0.8))
    pen.area(((-13, 4), (13, 4), (9, -1), (-9, -1)), shade(color, 0.55))
    pen.line([(-20, 24), (0, 28), (20, 24)], shade(color, 0.7) if max(color) > 200 else shade(color, 1.3), 1.6)


def barge(pen: DesignPen, free: Free) -> None:
    color = pick(STEEL, free[0])
    for k in range(7):
        number = (free[k % len(free)] * 17.3 + 0.37 * k) % 1
        for row in range(1 + int(2.2 * number)):
            paint = pick(BRIGHT, (number * 7.7 + 0.31 * row) % 1)
            left, bottom = -24 + 9.6 * k, 5.5 + 6.5 * row
            pen.box(left, bottom, left + 9.2, bottom + 6.1, paint)
            for rib in (2.4, 4.8, 7.0):
                pen.line([(left + rib, bottom + 1), (left + rib, bottom + 5.4)], shade(paint, 0.75), 0.5)
    pen.box(-46, 5, -30, 21, WHITE)
    pen.box(-48, 20, -28, 23, pick(BRIGHT, free[3]))
    pen.windows(-45, -30, 14, 18.5, 3)
    pen.area(((-51, 8), (-49, 7), (47, 7), (52, 9.5), (46, -1), (-48, -1)), color)
    pen.area(((-50, 2), (48.5, 2), (46, -1), (-48, -1)), shade(color, 0.55))


def gondola(pen: DesignPen, free: Free) -> None:
    pen.person(-30, 9, 46, (*free[:5], 0.82 if free[4] < 0.6 else 0.1, *free[6:]))
    pen.line([(-25, 40), (-44, -1)], WOOD, 1.4)
    for x in (2, 12) if free[2] < 0.7 else ():
        pen.person(x, 7, 24, (*free[:5], free[x % 5], *free[6:]), legs=False)
    pen.box(-6, 7, 20, 12, (170, 34, 44))
    pen.area([*curve((-56, 24), (-6, -2), (53, 22), 9), *curve((46, 4), (0, -6), (-44, 4), 9)], (28, 28, 34))
    pen.line(curve((-55, 23), (-6, 0), (52, 21), 9), (196, 160, 70) if free[3] < 0.5 else (90, 90, 100), 1)
    pen.area(((50, 19), (53, 33), (59, 32), (57, 29), (59, 27), (56, 25), (58, 22), (54, 19)), (206, 208, 212))


def canoe(pen: DesignPen, free: Free) -> None:
    color = pick((*BRIGHT, WOOD, (60, 96, 72)), free[0])
    places = ((-20, 12), (-4,), (-24, 2, 24))[int(3 * free[2])]
    for k, x in enumerate(places):
        pen.person(x, 7, 38, (*free[:5], free[(3 + k) % 8], *free[6:]), legs=False)
        pen.line([(x + 4, 30), (x + (15 if free[(4 + k) % 8] < 0.6 else -12), -2)], (210, 184, 130), 2)
    pen.area([*curve((-54, 17), (-4, 3), (54, 17), 9), *curve((46, -1), (0, -2), (-46, -1), 5)], color)
    pen.area(((-50, 4), (50, 4), (46, -1), (-46, -1)), shade(color, 0.65))
    pen.line(curve((-53, 16), (-4, 3.5), (53, 16), 9), shade(color, 1.3) if max(color) < 215 else WOOD, 1.4)


BOATS = {
    "sailing boat": Kind(sailing_boat, "Boat", 10, 124, 5),
    "motor boat": Kind(motor_boat, "Boat", 9, 52, 4),
    "fishing boat": Kind(fishing_boat, "Boat", 11, 78, 4),
    "ferry": Kind(ferry, "Boat", 24, 50, 1.2),
    "rowing boat": Kind(rowing_boat, "Boat", 5, 54, 2),
    "bow view": Kind(bow_view, "Boat", 11, 80, 2),
    "barge": Kind(barge, "Barge", 30, 30, 1.6),
    "gondola": Kind(gondola, "Gondola", 9, 60, 1.3),
    "canoe": Kind(canoe, "Canoe", 5, 48, 2),
}
