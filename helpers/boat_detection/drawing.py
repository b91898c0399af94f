"""Boxes on pictures, and galleries of hits, misses and false alarms. RGB uint8 throughout; boxes in pixels."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.boat_detection.formats.darknet.cfg_files import Head
from helpers.boat_detection.metrics.matching import REASONS, explain
from helpers.boat_detection.metrics.overlap import CORNERS

# Told apart also by the colour-blind (after Okabe and Ito); white is what people drew.
COLOURS = {"hit": (0, 200, 140), "miss": (255, 205, 0), "false alarm": (235, 70, 40), "truth": (255, 255, 255)}
PLAIN = (86, 180, 233)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARGIN = 2  # pixels around a label's text


def draw_boxes(
    image: np.ndarray,
    boxes: ArrayLike,
    scores: Sequence[float] | None = None,
    kinds: Sequence[str] | str | None = None,
    *,
    scale: int = 1,
    name: str = "",
) -> np.ndarray:
    """Draw boxes on a copy of a picture. What is listed first is drawn last, on top: the best detection.

    Lines and letters follow the picture's size. A score that finds no place above its box goes inside, and is left out where it
    is wider than the picture.

    Args:
        image: (H, W, 3) RGB, uint8 or float in [0, 1].
        boxes: (N, 4) x1, y1, x2, y2 in pixels of `image`; they may reach over its border, or lie outside.
        scores: one per box in [0, 1], written at its corner; NaN for none.
        kinds: one per box, or one for all: a key of `COLOURS`; None: all blue.
        scale: enlarge the picture so many times first; 2 makes the scores in a picture of 128 pixels legible.
        name: written before each score.

    Returns:
        (scale H, scale W, 3) uint8.

    Raises:
        ValueError: lists of another length than the boxes.
    """
    canvas = as_uint8(image)
    if scale > 1:
        canvas = cv2.resize(canvas, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4) * scale
    scores = [np.nan] * len(boxes) if scores is None else scores
    kinds = [kinds] * len(boxes) if kinds is None or isinstance(kinds, str) else kinds
    thickness = max(1, round(min(canvas.shape[:2]) / 133))
    for box, score, kind in reversed([*zip(boxes, scores, kinds, strict=True)]):
        colour = COLOURS[kind] if kind else PLAIN
        left, top, right, bottom = (int(value) for value in np.clip(np.round(box), -9999, 9999))
        if right <= 0 or bottom <= 0 or left >= canvas.shape[1] or top >= canvas.shape[0]:
            continue
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colour, thickness)
        if not np.isnan(score):
            _write(canvas, f"{name} {score:.2f}".replace(" 0.", " .").strip(), left, top, colour)
    return canvas


def draw_grid(
    image: np.ndarray, head: Head, answers: Sequence[tuple[int, int, int]], boxes: ArrayLike, *, scale: int = 3
) -> np.ndarray:
    """A head's grid over the network's input, (H, W, 3): who answers for which box; `scale` as of `draw_boxes`.

    Args:
        answers: column, row and anchor of each box that this head has to find: the cell is drawn yellow, the anchor green.
        boxes: (n, 4) true boxes in pixels of the input, drawn white.
    """
    canvas, step = draw_boxes(image, boxes, kinds="truth", scale=scale), int(head.stride) * scale
    canvas[::step], canvas[:, ::step] = canvas[::step] // 2 + 64, canvas[:, ::step] // 2 + 64
    for column, row, anchor in answers:
        corner, half = np.array([column, row]) * step, np.array(head.anchors[anchor]) * scale / 2
        for low, high, kind in (
            (corner, corner + step, "miss"),
            (corner + step / 2 - half, corner + step / 2 + half, "hit"),
        ):
            cv2.rectangle(canvas, low.astype(int).tolist(), high.astype(int).tolist(), COLOURS[kind], 2)
    return canvas


def as_uint8(image: np.ndarray) -> np.ndarray:
    """A copy of an (H, W, 3) RGB picture as uint8; floats in [0, 1] are scaled."""
    image = np.ascontiguousarray(image)
    return image.copy() if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)


def _write(canvas: np.ndarray, text: str, left: int, top: int, colour: tuple[int, int, int]) -> None:
    """Black letters on the box's colour, above its upper left corner where there is room."""
    height, width = canvas.shape[:2]
    size = max(0.38, min(height, width) / 600)  # 0.38: the smallest that can be read without effort
    (wide, high), base = cv2.getTextSize(text, _FONT, size, 1)
    wide, high = wide + 2 * _MARGIN, high + base // 2 + 2 * _MARGIN
    if wide > width or high > height:
        return
    left = min(max(left, 0), width - wide)
    top = top - high if top >= high else min(max(top, 0), height - high)
    cv2.rectangle(canvas, (left, top), (left + wide - 1, top + high - 1), colour, -1)
    cv2.putText(
        canvas, text, (left + _MARGIN, top + high - _MARGIN - base // 2), _FONT, size, (0, 0, 0), 1, cv2.LINE_AA
    )


def fit_into(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """A picture shrunk or enlarged into (height, width, 3) uint8, its sides in proportion, the rest dark grey."""
    image = as_uint8(image)
    factor = min(height / image.shape[0], width / image.shape[1])
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    sheet = np.full((height, width, 3), 40, np.uint8)
    top, left = (height - size[1]) // 2, (width - size[0]) // 2
    sheet[top : top + size[1], left : left + size[0]] = small
    return sheet


def crop_around(shape: Sequence[int], box: ArrayLike, *, smallest: int = 48) -> tuple[int, int, int, int]:
    """A square window around a box, twice as wide as its longer side, inside the picture: x1, y1, x2, y2 in whole pixels.

    Args:
        shape: (H, W, ...) of the picture.
        box: x1, y1, x2, y2 in pixels.
        smallest: side of the window at least, pixels; it is never larger than the picture.
    """
    low, high = np.asarray(box, np.float64).reshape(2, 2)  # x, y
    lengths = np.array(shape[1::-1])
    whole = np.minimum(np.ceil(max(2 * (high - low).max(), smallest)), lengths)
    start = np.clip(np.round((low + high) / 2 - whole / 2), 0, lengths - whole)
    return tuple(np.concatenate([start, start + whole]).astype(int).tolist())


def gallery(
    matches: pd.DataFrame,
    ground_truth: pd.DataFrame,
    load: Callable[[object], np.ndarray],
    *,
    count: int = 4,
    cell: int = 180,
) -> tuple[list[np.ndarray], list[str]]:
    """The surest hits, the surest false alarms of each kind and the largest misses, one row each, cut out of their pictures.

    All boxes of `matches` in the window are drawn, and the truths in white.

    Args:
        matches: of `metrics.match_table`, boxes in pixels.
        ground_truth: the table it was made with; areas to be ignored are drawn too.
        load: from an image's name to its (H, W, 3) RGB picture.
        count: pictures in a row.
        cell: side of one, pixels.

    Returns:
        For `plots.plot_frames` with `columns=count`: (cell, cell, 3) uint8 pictures, and what each of them shows; a kind (see
        `metrics.explain`) that never occurs has no row.
    """
    area = (matches["x2"] - matches["x1"]) * (matches["y2"] - matches["y1"])
    weight, kinds, pictures, titles = matches["score"].fillna(area), explain(matches), [], []
    for kind in REASONS:
        chosen = weight[kinds == kind].sort_values(ascending=False, kind="stable").index[:count]
        cells = [_cut_out(matches, ground_truth, row, load, cell) for row in chosen]
        blanks = count - len(cells) if cells else 0
        pictures += [fit_into(part, cell, cell) for part in cells] + [np.full((cell, cell, 3), 255, np.uint8)] * blanks
        titles += [f"{kind}, IoU {matches.loc[row, 'iou']:.2f}" for row in chosen] + [""] * blanks
    return pictures, titles


def _cut_out(
    matches: pd.DataFrame, ground_truth: pd.DataFrame, row: int, load: Callable[[object], np.ndarray], cell: int
) -> np.ndarray:
    """The window around one row of `matches`, enlarged to the cell, with every box in it; that row's box on top."""
    image = matches.loc[row, "image"]
    picture = load(image)
    left, top, right, bottom = crop_around(picture.shape, matches.loc[row, CORNERS].to_numpy(float))
    zoom = cell / max(right - left, bottom - top)
    window = picture[top:bottom, left:right]
    rows = pd.concat([matches.loc[[row]], matches[(matches["image"] == image) & (matches.index != row)]])
    truths = ground_truth[ground_truth["image"] == image]
    boxes = np.concatenate([part[CORNERS].to_numpy(float) for part in (rows, truths)])
    return draw_boxes(
        fit_into(window, *(max(1, round(side * zoom)) for side in window.shape[:2])),
        (boxes - [left, top, left, top]) * zoom,
        [*rows["score"], *[np.nan] * len(truths)],
        [*rows["outcome"], *["truth"] * len(truths)],
    )
