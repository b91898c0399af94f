"""Which predictions of a YOLO head have to find which objects, and which of the others count as false alarms.

One slot is one anchor in one cell. A truth belongs to the one anchor, of all heads, whose shape fits it best, in the cell that
holds its centre. The rules are those of Darknet's `yolo_layer.c`; boxes are (centre x, centre y, width, height), relative.
Letters in shapes: B images, M rows of y_true, P slots in the order row, column, anchor, C classes, N anchors of all heads.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from helpers.boat_detection.layers import Tensor

IGNORE_AREA = -2  # the class of an area in which nothing counts as a false alarm
CLASS_THRESH = 0.25  # AlexeyAB overlooks a false alarm only if some class is at least this likely
MAX_EXPONENT = 10.0  # exp(10) anchors are wider than any image; far beyond, an untrained network would overflow float32


class HeadSpec(NamedTuple):
    """What is fixed about one head."""

    anchors: np.ndarray  # (N, 2) float32, pixels
    mask: list[int]  # which of them are its own
    num_classes: int
    stretch: float  # of the sigmoid of the centre, 1 in YOLOv3
    ignore_thresh: float  # of the config, by way of the .cfg
    dialect: str


class Truths(NamedTuple):
    """y_true taken apart; the boxes of padded rows are replaced by one that no formula chokes on."""

    box: Tensor  # (B, M, 4)
    valid: Tensor  # (B, M) bool: an object
    area: Tensor  # (B, M) bool: an ignore area
    classes: Tensor  # (B, M, C) one-hot, zero for what is not an object


class Match(NamedTuple):
    """One head beside the truths."""

    logits: Tensor  # (B, P, 5 + C)
    negative: Tensor  # (B, P) 1 where objectness is pushed to 0
    chosen: Tensor  # (B, M, 5 + C) logits of the slot of each truth
    predicted: Tensor  # (B, M, 4) the box that they mean
    box: Tensor  # (B, M, 4) the truth's box
    target: Tensor  # (B, M, 4) what the place of the centre in its cell, w and h should be
    classes: Tensor  # (B, M, C) the classes of all truths in the slot
    same: Tensor  # (B, M, M) 1 where two truths of this head fall in one slot
    here: Tensor  # (B, M) 1 for the truths that this head has to find
    last: Tensor  # (B, M) 1 for the last truth of each slot in use
    scale: Tensor  # (B, M) 2 - area for the truths whose coordinates count, else 0
    size: Tensor  # (2,) width and height of the input in pixels
    stretch: float  # of the head


def read_truths(y_true: Tensor, num_classes: int) -> Truths:
    """Take y_true (B, M, 5) apart; rows of a class above `num_classes` - 1 or without a size are passed over."""
    number = ops.cast(ops.round(y_true[..., 4]), "int32")
    sized = (y_true[..., 2] > 0.0) & (y_true[..., 3] > 0.0)
    valid, area = sized & (number >= 0) & (number < num_classes), sized & (number == IGNORE_AREA)
    box = ops.where((valid | area)[..., None], y_true[..., :4], 0.5)
    classes = (number[..., None] == ops.arange(num_classes, dtype="int32")) & valid[..., None]
    return Truths(box, valid, area, ops.cast(classes, "float32"))


def match(truths: Truths, raw: Tensor, head: HeadSpec, size: Tensor) -> Match:
    """Set the raw output of a head, (B, h, w, anchors * (5 + C)), beside the truths.

    `size` (2,) is the width and height of the input in pixels, float32.
    """
    height, width = ops.shape(raw)[1:3]
    grid = ops.stack([width, height])
    logits = ops.reshape(ops.cast(raw, "float32"), (ops.shape(raw)[0], -1, 5 + head.num_classes))
    index = ops.arange(width * height * len(head.mask), dtype="int32")
    place = index // len(head.mask)
    cells = ops.cast(ops.stack([place % width, place // width], axis=-1), "float32")  # (P, 2) column, row
    anchors = ops.take(head.anchors[head.mask], index % len(head.mask), axis=0)  # (P, 2)
    slot, here = assign(truths, head, grid, size)
    same = here[:, :, None] & here[:, None, :] & (slot[:, :, None] == slot[:, None, :])
    order = ops.arange(ops.shape(slot)[1])
    last = here & ~ops.any(same & (order[None, :] > order[:, None]), axis=-1)
    some = ops.maximum(slot, 0)  # any slot for the truths that are elsewhere: nothing of theirs counts
    chosen = ops.take_along_axis(logits, some[..., None], axis=1)
    cell, anchor = ops.take(cells, some, axis=0), ops.take(anchors, some, axis=0)  # (B, M, 2)
    cells_across = ops.cast(grid, "float32")
    fixed = ops.stop_gradient(logits)
    boxes = predicted_boxes(fixed, cells, anchors, cells_across, size, head.stretch)
    same = ops.cast(same, "float32")
    places, counted = truths.box[..., :2] * cells_across - cell, here if head.dialect == "alexeyab" else last
    return Match(
        logits=logits,
        negative=find_negatives(truths, slot, fixed, boxes, head),
        chosen=chosen,
        predicted=predicted_boxes(chosen, cell, anchor, cells_across, size, head.stretch),
        box=truths.box,
        target=ops.concatenate([places, ops.log(truths.box[..., 2:] * size / anchor)], axis=-1),
        classes=ops.cast(ops.matmul(same, truths.classes) > 0.5, "float32"),
        same=same,
        here=ops.cast(here, "float32"),
        last=ops.cast(last, "float32"),
        scale=(2.0 - ops.prod(truths.box[..., 2:], axis=-1)) * ops.cast(counted, "float32"),
        size=size,
        stretch=head.stretch,
    )


def assign(truths: Truths, head: HeadSpec, grid: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Slot of each truth (B, M), -1 where this head does not have it, and whether it has it."""
    shapes = head.anchors / size
    common = ops.prod(ops.minimum(truths.box[:, :, None, 2:], shapes), axis=-1)  # (B, M, N), both centred
    whole = ops.prod(truths.box[:, :, None, 2:], axis=-1) + ops.prod(shapes, axis=-1) - common
    position = np.full(len(head.anchors), -1, "int32")
    position[head.mask] = np.arange(len(head.mask))
    position = ops.take(position, ops.argmax(common / whole, axis=-1), axis=0)
    # Darknet itself leaves the grid when a centre lies on the right or lower edge.
    cell = ops.clip(ops.cast(truths.box[..., :2] * ops.cast(grid, "float32"), "int32"), 0, grid - 1)
    here = truths.valid & (position >= 0)
    slot = (cell[..., 1] * grid[0] + cell[..., 0]) * len(head.mask) + position
    return ops.where(here, slot, -1), here


def find_negatives(truths: Truths, slot: Tensor, logits: Tensor, boxes: Tensor, head: HeadSpec) -> Tensor:
    """1 for the slots (B, P) that are neither assigned nor ignored, else 0."""
    left, top, right, bottom = ops.unstack(corners(boxes), axis=-1)  # each (B, P)
    own = ops.prod(boxes[..., 2:], axis=-1)
    likely = ops.ones_like(own, dtype="bool")
    if head.dialect == "alexeyab":
        likely = ops.any(ops.sigmoid(logits[..., 5:]) > CLASS_THRESH, axis=-1)
    index = ops.arange(ops.shape(own)[1], dtype="int32")
    edges, areas = corners(truths.box), ops.prod(truths.box[..., 2:], axis=-1)

    def mark(row: Tensor, marked: Tensor) -> Tensor:
        def of(tensor: Tensor) -> Tensor:
            return ops.take(tensor, row, axis=1)[..., None]  # (B, 1), or (B, 4, 1)

        x1, y1, x2, y2 = ops.unstack(of(edges), axis=1)
        across = ops.maximum(ops.minimum(right, x2) - ops.maximum(left, x1), 0.0)
        common = across * ops.maximum(ops.minimum(bottom, y2) - ops.maximum(top, y1), 0.0)
        close = (common / (own + of(areas) - common) > head.ignore_thresh) & likely & of(truths.valid)
        inside = (common > 0.5 * own) & of(truths.area)
        return marked | close | inside | (index == of(slot))

    # A loop, because most of the M rows are usually padding, and (B, P, M) takes much memory where images are large.
    rows = ops.arange(1, ops.shape(slot)[1] + 1, dtype="int32")
    used = ops.max(ops.where(truths.valid | truths.area, rows, 0))
    return 1.0 - ops.cast(ops.fori_loop(0, used, mark, ops.zeros_like(likely)), "float32")


def centre(logits: Tensor, stretch: float) -> Tensor:
    """Place of the centre in its cell, (..., 2), from logits (..., 5 + C)."""
    return stretch * ops.sigmoid(logits[..., :2]) - 0.5 * (stretch - 1.0)


def predicted_boxes(
    logits: Tensor, cells: Tensor, anchors: Tensor, grid: Tensor, size: Tensor, stretch: float
) -> Tensor:
    """Boxes (..., 4) from logits (..., 5 + C) and their cells and anchors (..., 2)."""
    sides = ops.exp(ops.minimum(logits[..., 2:4], MAX_EXPONENT)) * anchors / size
    return ops.concatenate([(centre(logits, stretch) + cells) / grid, sides], axis=-1)


def corners(box: Tensor) -> Tensor:
    """(..., 4) left, top, right, bottom."""
    half = 0.5 * box[..., 2:]
    return ops.concatenate([box[..., :2] - half, box[..., :2] + half], axis=-1)


def centred_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of boxes (..., 4), pair by pair."""
    one, other = corners(first), corners(second)
    sides = ops.minimum(one[..., 2:], other[..., 2:]) - ops.maximum(one[..., :2], other[..., :2])
    common = ops.prod(ops.maximum(sides, 0.0), axis=-1)
    return common / (ops.prod(first[..., 2:], axis=-1) + ops.prod(second[..., 2:], axis=-1) - common)
