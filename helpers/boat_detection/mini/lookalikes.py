"""What stands in the mini dataset's harbours and is no boat, though it may look like one: afloat, ashore, and on signs."""

from helpers.boat_detection.mini.boats import BOATS
from helpers.boat_detection.mini.pen import BRIGHT, DARK, SKINS, WHITE, WOOD, DesignPen, Free, Kind, curve
from helpers.drawing.chance import pick
from helpers.drawing.colour import shade


def buoy(pen: DesignPen, free: Free) -> None:
    color = pick(((206, 44, 40), (40, 130, 70), (236, 190, 40), (232, 110, 36)), free[0])
    if free[1] < 0.5:
        pen.area(((-9, 14), (-3, 62), (3, 62), (9, 14)), color)
        pen.box(-6, 34, 6, 46, WHITE if free[2] < 0.5 else DARK)
        pen.area(((-9, 64), (9, 64), (0, 82)), color)
        pen.line([(0, 60), (0, 66)], DARK, 2)
        pen.area(((-24, 12), (24, 12), (18, -1), (-18, -1)), shade(color, 0.7))
    else:
        pen.oval(0, 16, 24, 18, color)
        pen.area(((-22, 8), (22, 8), (15, -1), (-15, -1)), shade(color, 0.7))
        pen.line([(0, 32), (0, 50)], DARK, 3)
        pen.oval(0, 52, 5, 5, WHITE)


def swan(pen: DesignPen, free: Free) -> None:
    color = WHITE if free[0] < 0.8 else (120, 112, 104)
    pen.area([*curve((-50, 30), (-20, 44), (24, 26)), *curve((40, 8), (30, -2), (0, -1)), (-34, -1)], color)
    pen.area([*curve((-50, 31), (-16, 46), (10, 26)), *curve((10, 18), (-14, 10), (-50, 31))], shade(color, 0.86))
    pen.line([*curve((26, 18), (50, 34), (30, 58)), *curve((30, 60), (32, 78), (46, 70))], color, 9)
    pen.area(((44, 76), (60, 68), (46, 65)), (232, 128, 40))


def jet_ski(pen: DesignPen, free: Free) -> None:
    color = pick(BRIGHT, free[0])
    pen.line([(-16, 22), (0, 28)], DARK, 11)
    pen.line([(-18, 24), (-10, 56)], pick(BRIGHT, free[5]), 15)
    pen.line([(-9, 50), (18, 38)], pick(SKINS, free[6]), 6)
    pen.oval(-7, 68, 8, 9, pick(SKINS, free[6]))
    pen.line([(14, 40), (24, 30)], DARK, 5)
    pen.area([(-46, 14), (-34, 22), (6, 20), (20, 32), *curve((24, 30), (44, 22), (54, 8)), (40, -1), (-44, -1)], color)
    pen.area(((-46, 6), (50, 6), (40, -1), (-44, -1)), shade(WHITE, 0.9))


def surfboard(pen: DesignPen, free: Free) -> None:
    pen.line([(-3, 5), (-12, 32)], pick(SKINS, free[6]), 6)
    pen.line([(5, 5), (4, 32)], pick(SKINS, free[6]), 6)
    pen.line([(-4, 32), (-2, 62)], pick((*BRIGHT, DARK), free[5]), 14)
    pen.line([(0, 58), (22, 48)], pick(SKINS, free[6]), 5)
    pen.oval(0, 74, 8, 9, pick(SKINS, free[6]))
    if free[2] < 0.7:
        pen.line([(20, 76), (28, -1)], (210, 184, 130), 2.5)
    pen.area(
        [*curve((-52, 4), (0, 5), (54, 10)), *curve((54, 9), (10, -2), (-48, -1))], pick((*BRIGHT, WHITE), free[0])
    )


def whale(pen: DesignPen, free: Free) -> None:
    color = shade((66, 78, 92), 0.8 + 0.5 * free[0])
    if free[1] < 0.5:  # the tail
        pen.area([*curve((-10, -1), (-6, 22), (-3, 34)), *curve((3, 34), (6, 22), (10, -1))], color)
        pen.area([*curve((0, 40), (-30, 62), (-54, 50)), *curve((-50, 46), (-24, 36), (0, 26)), (0, 40)], color)
        pen.area(
            [*curve((0, 40), (30, 62), (54, 50)), *curve((50, 46), (24, 36), (0, 26)), (0, 40)], shade(color, 0.85)
        )
    else:  # the back with its fin
        pen.area([*curve((-52, -1), (-10, 36), (52, -1), 9)], color)
        pen.area(((-24, 13), (-30, 30), (-8, 17)), shade(color, 0.8))
        pen.line(curve((-30, 9), (0, 20), (36, 5)), shade(color, 1.3), 2)


def submarine(pen: DesignPen, free: Free) -> None:
    color = shade((54, 60, 66), 0.8 + 0.5 * free[0])
    pen.line([(2, 30), (2, 46)], DARK, 1.4)
    pen.line([(7, 30), (7, 40)], DARK, 1)
    pen.area(((-8, 10), (-6, 30), (12, 30), (15, 10)), color)
    pen.area([*curve((-54, 2), (-30, 13), (0, 12)), *curve((0, 12), (44, 12), (54, -1)), (-54, -1)], shade(color, 0.85))
    pen.area(((-52, 6), (-49, 16), (-43, 16), (-44, 4)), color)


def rock(pen: DesignPen, free: Free) -> None:
    color = pick(((110, 104, 96), (84, 80, 78), (134, 118, 98)), free[0])
    tops = [(-50, -1), (-38, 8 + 14 * free[1]), (-14, 14 + 18 * free[2]), (16, 10 + 18 * free[3]), (40, 12 * free[4])]
    pen.area([*tops, (52, -1)], color)
    pen.area([*tops[2:], (52, -1), (4, -1)], shade(color, 0.72))


def jetty(pen: DesignPen, free: Free) -> None:
    for k in range(8):
        x = -46 + 13 * k
        pen.line([(x, -3), (x, 14)], shade(WOOD, 0.5), 2.2)
    pen.box(-60, 9, 52, 12, shade(WOOD, 0.8 + 0.5 * free[0]))
    pen.line([(-60, 10), (52, 10)], shade(WOOD, 0.55), 0.7)
    if free[1] < 0.5:
        pen.line([(46, 11), (46, 26)], DARK, 0.8)
        pen.oval(46, 27, 2, 2, (250, 226, 150))


def house(pen: DesignPen, free: Free) -> None:
    wall = pick(
        ((232, 214, 180), (214, 150, 110), (240, 238, 230), (186, 70, 56), (196, 206, 196), (232, 196, 110)), free[0]
    )
    wide, high = 30 + 18 * free[1], 26 + 26 * free[2]
    pen.box(-wide, 0, wide, high, wall)
    pen.box(0.35 * wide, 0, wide, high, shade(wall, 0.85))
    roof = pick(((150, 66, 50), (96, 84, 80), (120, 52, 44)), free[3])
    pen.box(-0.6 * wide, high + 8, -0.4 * wide, high + 32, shade(roof, 0.8))
    pen.area(((-wide - 5, high), (-wide * 0.5, high + 26), (wide * 0.5, high + 26), (wide + 5, high)), roof)
    for row in range(1 + (high > 38)):
        pen.windows(-wide + 3, wide - 3, 9 + 22 * row, 19 + 22 * row, 4)


def tent(pen: DesignPen, free: Free) -> None:
    color = pick((WHITE, WHITE, *BRIGHT), free[0])
    pen.area(((-44, 0), (0, 62), (44, 0)), color)
    pen.area(((8, 0), (0, 62), (44, 0)), shade(color, 0.82))
    pen.area(((-12, 0), (0, 34), (12, 0)), shade(DARK, 1.3))


def lighthouse(pen: DesignPen, free: Free) -> None:
    color = pick(((196, 48, 42), (36, 74, 120), WHITE), free[0])
    pen.area(((-52, 0), (-40, 14), (40, 14), (52, 0)), (122, 114, 106))
    for k in range(5):
        low, high = 13 - 0.9 * k, 13 - 0.9 * (k + 1)
        y = 14 + 22 * k
        pen.area(((-low, y), (low, y), (high, y + 22), (-high, y + 22)), WHITE if k % 2 else color)
    pen.box(-12, 124, 12, 127, DARK)
    pen.box(-6, 127, 6, 140, (252, 234, 160))
    pen.area(((-9, 140), (9, 140), (0, 152)), color if color != WHITE else DARK)


def billboard(pen: DesignPen, free: Free) -> None:
    paint = pick(((236, 232, 214), (40, 84, 140), (206, 190, 150)), free[0])
    for x in (-34, 34):
        pen.line([(x, -20), (x, 40)], shade(WOOD, 0.6), 5)
    pen.box(-52, 34, 52, 106, shade(DARK, 1.2))
    pen.box(-49, 37, 49, 103, paint)


def boat_sign(pen: DesignPen, free: Free) -> None:
    """The picture of a boat as a sign shows it: flat, in one or two colours."""
    color = pick(((34, 70, 130), (180, 44, 40), (40, 44, 52)), free[0])
    pen.area(((-44, 16), (48, 16), (34, 0), (-30, 0)), color)
    pen.line([(2, 14), (2, 78)], color, 4)
    pen.area(((-4, 74), (-4, 22), (-36, 22)), color)
    pen.area(((8, 66), (8, 22), (38, 22)), pick(((200, 80, 60), (240, 180, 60), (90, 140, 190)), free[1]))


AFLOAT = {
    "buoy": Kind(buoy, None, 4, 84, 4),
    "rock": Kind(rock, None, 8, 36, 2),
    "swan": Kind(swan, "Swan", 2.6, 84, 2),
    "jet ski": Kind(jet_ski, "Jet ski", 3.4, 80, 2),
    "surfboard": Kind(surfboard, "Surfboard", 3.4, 86, 1.6),
    "whale": Kind(whale, "Whale", 9, 64, 1),
    "submarine": Kind(submarine, "Submarine", 24, 50, 0.8),
    "jetty": Kind(jetty, None, 18, 30, 1.5),
}
ASHORE = {
    "house": Kind(house, "House", 16, 86, 3),
    "tent": Kind(tent, "Tent", 7, 64, 1),
    "lighthouse": Kind(lighthouse, "Lighthouse", 10, 154, 1),
}
SIGNS = {"billboard": Kind(billboard, "Billboard", 6, 108, down=20), "boat sign": Kind(boat_sign, "Boat", 4, 80)}
KINDS = BOATS | AFLOAT | ASHORE | SIGNS
