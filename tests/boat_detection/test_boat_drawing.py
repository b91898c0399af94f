"""Boxes and galleries: which pixels change, and in which colour."""

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers.boat_detection import drawing, metrics
from helpers.boat_detection.formats.darknet.cfg_files import Head

GREY = np.full((100, 120, 3), 90, np.uint8)


def coloured(picture, kind):
    """(H, W) where the picture has exactly the colour of a kind."""
    return (picture == drawing.COLOURS[kind]).all(axis=-1)


def test_a_box_is_one_pixel_thick_and_where_it_belongs():
    drawn = drawing.draw_boxes(GREY, [(20, 30, 60, 50)], kinds="hit")
    expected = np.zeros((100, 120), bool)
    expected[30:50, 20:60] = True
    expected[31:49, 21:59] = False
    np.testing.assert_array_equal(coloured(drawn, "hit"), expected)
    assert (drawn[~expected] == 90).all() and (GREY == 90).all()  # the picture itself is left alone
    thick = drawing.draw_boxes(np.full((900, 1200, 3), 90, np.uint8), [(100, 100, 500, 400)], kinds="hit")
    assert coloured(thick, "hit")[90:110, 300].sum() in (7, 8, 9)  # OpenCV rounds a thickness up


def test_kinds_colours_and_order():
    assert len({*drawing.COLOURS.values()}) == 4
    box = (20, 30, 60, 50)
    drawn = drawing.draw_boxes(GREY, [box, box, (70, 60, 90, 80)], kinds=["hit", "truth", "miss"])
    assert coloured(drawn, "hit").sum() == coloured(drawing.draw_boxes(GREY, [box], kinds="hit"), "hit").sum()
    assert not coloured(drawn, "truth").any() and coloured(drawn, "miss").sum() == 2 * 20 + 2 * 18
    assert (drawing.draw_boxes(GREY, [box])[30, 20] == drawing.PLAIN).all()
    assert (drawing.draw_boxes(GREY, []) == GREY).all()


@pytest.mark.parametrize(
    ("box", "above"), [((20, 40, 60, 60), True), ((20, 2, 60, 40), False), ((100, 40, 119, 60), True)]
)
def test_scores_stand_above_or_inside_and_never_beyond_the_border(box, above):
    plain = drawing.draw_boxes(GREY, [box], kinds="hit")
    drawn = drawing.draw_boxes(GREY, [box], [0.87], kinds="hit")
    changed = np.argwhere((plain != drawn).any(axis=-1))
    (top, left), (bottom, right) = changed.min(axis=0), changed.max(axis=0)
    assert (bottom < box[1] + 2) if above else (top >= box[1] - 1)
    assert 12 < right - left < 40 and 7 < bottom - top < 20
    assert (drawn[top : bottom + 1, left : right + 1].max(axis=-1) < 60).any()  # dark letters
    assert (drawing.draw_boxes(GREY, [box], [np.nan], kinds="hit") == plain).all()


def test_texts(monkeypatch):
    texts = []
    monkeypatch.setattr(drawing, "_write", lambda canvas, text, *rest: texts.append(text))
    boxes = [(20, 30, 60, 50)] * 4
    for name in ("", "boat"):
        drawing.draw_boxes(GREY, boxes, [0.5, np.nan, 1.0, 0.071], name=name)
    assert texts == [".07", "1.00", ".50", "boat .07", "boat 1.00", "boat .50"]


def test_a_score_that_does_not_fit_is_left_out():
    small, box = np.full((40, 12, 3), 90, np.uint8), [(2, 20, 11, 38)]
    plain = drawing.draw_boxes(small, box, kinds="hit")
    assert (drawing.draw_boxes(small, box, [0.87], kinds="hit") == plain).all()


def test_boxes_over_the_border_and_outside():
    drawn = drawing.draw_boxes(GREY, [(-50, 30, 400, 60)], kinds="hit")
    assert coloured(drawn, "hit")[30].all() and coloured(drawn, "hit")[59].all()
    assert not coloured(drawn, "hit")[31:59].any()
    outside = [(-50, 0, -1, 50), (130, 0, 150, 50), (0, 120, 50, 150), (0, -40, 20, 0), (1e12, 1e12, 2e12, 2e12)]
    assert (drawing.draw_boxes(GREY, outside, [0.5] * 5, kinds="hit") == GREY).all()


def test_scale_enlarges_first():
    drawn = drawing.draw_boxes(GREY, [(20, 30, 60, 50)], kinds="hit", scale=2)
    assert drawn.shape == (200, 240, 3)
    large = np.full((200, 240, 3), 90, np.uint8)
    np.testing.assert_array_equal(drawn, drawing.draw_boxes(large, [(40, 60, 120, 100)], kinds="hit"))


def test_the_grid_of_a_head():
    head = Head(16, ((20, 10),), (0,), 1, 0.5, 1.0, False, 32, {})
    drawn = drawing.draw_grid(np.full((64, 96, 3), 90, np.uint8), head, [(2, 1, 0)], [(70, 40, 90, 56)], scale=2)
    assert (
        drawn.shape == (128, 192, 3)
        and (drawn[0] != 90).all()
        and (drawn[:, 64] != 90).all()
        and (drawn[10, 10] == 90).all()
    )
    cell, anchor = (
        np.argwhere(coloured(drawn, kind)) for kind in ("miss", "hit")
    )  # the cell from (64, 32) to (96, 64)
    assert np.abs(cell.min(axis=0) - [64, 128]).max() <= 1 and cell.max() == 191  # its end is the picture's
    assert np.abs(anchor.mean(axis=0) - [96, 160]).max() < 1  # in the middle of the cell, 40 x 20
    assert np.abs(np.ptp(anchor, axis=0) - [20, 40]).max() <= 2


def test_float_pictures():
    ramp = np.linspace(0, 1, 100 * 120 * 3).reshape(100, 120, 3).astype(np.float32)
    assert abs(drawing.as_uint8(ramp).astype(float) - ramp * 255).max() <= 0.5001
    flipped = drawing.draw_boxes(GREY[:, ::-1], [(20, 30, 60, 50)], kinds="hit")  # not contiguous
    assert coloured(flipped, "hit").any()


@pytest.mark.parametrize("lists", [{"kinds": ["hit", "hit"]}, {"scores": [0.5, 0.6]}, {"scores": []}])
def test_lists_of_another_length(lists):
    with pytest.raises(ValueError):
        drawing.draw_boxes(GREY, [(0, 0, 5, 5)], **lists)


def test_fit_keeps_the_proportions():
    wide = drawing.fit_into(np.full((50, 100, 3), 200, np.uint8), 60, 60)
    assert (wide[15:45] == 200).all() and (wide[:15] == 40).all() and (wide[45:] == 40).all()
    tall = drawing.fit_into(np.full((300, 100, 3), 200, np.uint8), 60, 90)
    assert (tall[:, 35:55] == 200).all() and (tall[:, :35] == 40).all() and (tall[:, 55:] == 40).all()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((100, 100, 140, 120), (80, 70, 160, 150)),  # 80 square around the middle 120, 110
        ((0, 0, 40, 40), (0, 0, 80, 80)),  # pushed inside
        ((300, 180, 320, 200), (272, 152, 320, 200)),  # 48 at least
        ((0, 0, 320, 200), (0, 0, 320, 200)),
        ((10, 10, 200, 60), (0, 0, 320, 200)),
    ],
)
def test_crop_around(box, expected):
    assert drawing.crop_around((200, 320, 3), box) == expected


TRUTHS = pd.DataFrame(
    [("a", 0, 40, 40, 80, 60), ("a", 0, 10, 80, 20, 90), ("b", 0, 30, 30, 90, 70)],
    columns=["image", "class", "x1", "y1", "x2", "y2"],
)
FOUND = pd.DataFrame(
    [("a", 0, 0.9, 40, 40, 80, 60), ("b", 0, 0.8, 100, 10, 110, 20), ("b", 0, 0.5, 60, 60, 70, 70)],
    columns=["image", "class", "score", "x1", "y1", "x2", "y2"],
)
NONE = FOUND[:0]


def test_gallery():
    loaded = []

    def load(name):
        loaded.append(name)
        return GREY

    matches = metrics.match_table(FOUND, TRUTHS, confidence=0.25)
    assert matches["outcome"].value_counts().to_dict() == {"hit": 1, "false alarm": 2, "miss": 2}
    pictures, titles = drawing.gallery(matches, TRUTHS, load, count=3, cell=100)
    assert {(part.shape, part.dtype) for part in pictures} == {((100, 100, 3), np.dtype(np.uint8))}
    assert loaded == ["a", "b", "b", "b", "a"]  # the largest miss first
    assert titles == [
        *("hit, IoU 1.00", "", ""),
        *("no boat, IoU 0.00", "no boat, IoU 0.04", ""),
        *("miss, IoU 0.04", "miss, IoU 0.00", ""),
    ]
    for cell, title in zip(pictures, titles, strict=True):
        kind = {"no boat": "false alarm"}.get(title.split(",")[0], title.split(",")[0])
        assert coloured(cell, kind).sum() > 40 if kind else (cell == 255).all()
    # The hit: 40 x 20 in a window of 80, enlarged to 100.
    hit = np.argwhere(coloured(pictures[0], "hit") & (np.indices((100, 100))[0] > 40))
    assert hit[:, 1].min() == pytest.approx(20 * 100 / 80, abs=1.5)
    assert hit[:, 1].max() == pytest.approx(60 * 100 / 80, abs=1.5)


def test_gallery_leaves_out_what_never_occurs():
    found = metrics.match_table(NONE, TRUTHS, confidence=0.25)
    assert drawing.gallery(found, TRUTHS, lambda name: GREY / 255, count=4, cell=80)[1][2:] == ["miss, IoU 0.00", ""]


def test_nothing_goes_to_standard_error(capfd):
    drawing.draw_boxes(cv2.resize(GREY, (8, 8)), [(0, 0, 8, 8)], [0.5], kinds="miss")
    assert capfd.readouterr().err == ""
