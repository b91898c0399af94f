"""The loss that Darknet's [yolo] layers descend, and the numbers that they print.

Darknet writes no loss down, it writes "deltas": minus the gradient with respect to the raw outputs. What it prints is the sum of
their squares, which is not the function whose gradient they are. `YoloLoss` is that function, `YoloLoss.report` is what is printed.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.utils import bounding_boxes

from helpers.boat_detection.config import BoatDetectionConfig as Defaults
from helpers.boat_detection.layers import Tensor
from helpers.boat_detection.losses import assignment

IOU_NORMALIZERS = {"alexeyab": 0.75, "pjreddie": 1.0}  # by dialect: the default weight of the coordinates
COORDINATES = ("mse", "ciou")
REPORT_COLUMNS = ("iou", "count", "obj", "no_obj", "class_loss", "iou_loss", "total_loss")
SUM_COLUMNS = ("iou", "truths", "obj", "all_obj", "predictions", "class_loss", "iou_loss", "images")


@keras.saving.register_keras_serializable("helpers")
class YoloLoss(keras.losses.Loss):
    """YOLOv3's loss on all heads at once, as Darknet has it: summed over heads and slots, averaged over the images only.

    Per image the sum over assigned slots of
    s k [BCE(x) + BCE(y) + (w* - w)^2 / 2 + (h* - h)^2 / 2] + BCE(objectness, 1) + sum over classes BCE(class),
    plus BCE(objectness, 0) over slots that are neither assigned nor ignored; BCE on logits, s = 2 - area of the truth.
    A truth belongs to the one anchor, of all heads, whose shape fits best, in the cell that holds its centre. A slot is ignored
    where its box overlaps some truth by an IoU above `ignore_thresh`, or lies by more than half in an ignore area.
    Where two truths meet in one slot, AlexeyAB's Darknet adds what both ask of the coordinates, pjreddie's obeys the last.
    Redmon and Farhadi, "YOLOv3: An Incremental Improvement", 2018; the rest is in Darknet's `yolo_layer.c` only.

    Args:
        anchors: (N, 2) widths and heights in pixels of the network's input, of all heads.
        masks: per head the indices of its anchors; one of two heads is trained in both, as in Darknet.
        num_classes: C.
        dialect: "alexeyab" (ignores a slot only where some class probability is above 0.25) or "pjreddie".
        iou_normalizer: k; None takes 0.75 for alexeyab, 1 for pjreddie.
        ignore_thresh: an IoU in 0..1.
        coordinates: "mse", as above, or "ciou": s k (1 - CIoU) of predicted box and truth. Darknet's own CIoU deltas are not the
            gradient of any function and differ from it.
        strides: input pixels per cell of each head; None: the coarsest head has 32, the others follow from their sizes.
        scale_x_y: per head how far the sigmoid of the centre is stretched beyond its cell, as in YOLOv4; None: 1, not at all.

    Call arguments:
        y_true: (B, M, 5) float, M >= 1: centre x, centre y, width, height, class; relative; rows without a box are -1
            throughout, a row of class -2 is an ignore area, and classes above C - 1 are passed over.
        heads: list of (B, h, w, anchors * (5 + C)), raw, one per mask.

    Raises:
        ValueError: arguments that do not fit each other, or heads that do not fit them.
    """

    def __init__(
        self,
        anchors: Sequence,
        masks: Sequence[Sequence[int]],
        num_classes: int,
        dialect: str = Defaults.dialect,
        *,
        iou_normalizer: float | None = None,
        ignore_thresh: float = Defaults.ignore_thresh,
        coordinates: str = Defaults.coordinates,
        strides: Sequence[float] | None = None,
        scale_x_y: Sequence[float] | None = None,
        reduction: str = "sum_over_batch_size",
        name: str = "yolo_loss",
        dtype: Any = "float32",
    ) -> None:
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        self.anchors = np.asarray(anchors, "float32").reshape(-1, 2).tolist()
        self.masks = [[int(index) for index in mask] for mask in masks]
        self.strides = None if strides is None else [float(stride) for stride in strides]
        self.scale_x_y = [1.0] * len(self.masks) if scale_x_y is None else [float(scale) for scale in scale_x_y]
        self.num_classes, self.dialect, self.coordinates = num_classes, dialect, coordinates
        self._check()
        self.iou_normalizer = IOU_NORMALIZERS[dialect] if iou_normalizer is None else iou_normalizer
        self.ignore_thresh = ignore_thresh

    def _check(self) -> None:
        if self.dialect not in IOU_NORMALIZERS:
            raise ValueError(f"dialect must be one of {list(IOU_NORMALIZERS)}. Received: dialect={self.dialect!r}")
        if self.coordinates not in COORDINATES:
            raise ValueError(f"coordinates must be one of {COORDINATES}. Received: coordinates={self.coordinates!r}")
        known = all(set(mask) <= set(range(len(self.anchors))) for mask in self.masks)
        twice = any(len(set(mask)) < len(mask) for mask in self.masks)
        if not self.masks or not all(self.masks) or not known or twice:
            raise ValueError(
                f"masks must give each head indices of the {len(self.anchors)} anchors, none twice. Received: masks={self.masks}"
            )

    def call(self, y_true: Tensor, y_pred: Tensor) -> Tensor:
        """Loss of each image, (B,)."""
        return sum(self._image_loss(match) for match in self._matches(y_true, y_pred))

    def call_with_sums(self, y_true: Tensor, heads: list) -> tuple[Tensor, Tensor]:
        """Loss of each image, (B,), and what `report` is made of: (heads, 8) in the order of `SUM_COLUMNS`, sums over the batch."""
        matches = self._matches(y_true, heads)
        sums = ops.stack([self._sums(match) for match in matches])
        return sum(self._image_loss(match) for match in matches), ops.stop_gradient(sums)

    def report(self, y_true: Tensor, heads: list) -> np.ndarray:
        """The numbers that Darknet prints after a batch, (heads, 7) in the order of `REPORT_COLUMNS`; see `report_rows`."""
        _, sums = self.call_with_sums(y_true, [ops.convert_to_tensor(head) for head in heads])
        return report_rows(ops.convert_to_numpy(sums), dialect=self.dialect)

    def get_config(self) -> dict[str, Any]:
        names = ("anchors", "masks", "num_classes", "dialect", "iou_normalizer", "ignore_thresh", "coordinates")
        names += ("strides", "scale_x_y", "dtype")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _matches(self, y_true: Tensor, heads: list) -> list[assignment.Match]:
        self._check_heads(heads)
        truths = assignment.read_truths(ops.cast(y_true, "float32"), self.num_classes)
        anchors = np.array(self.anchors, "float32")
        specs = [
            assignment.HeadSpec(anchors, mask, self.num_classes, stretch, self.ignore_thresh, self.dialect)
            for mask, stretch in zip(self.masks, self.scale_x_y, strict=True)
        ]
        rows = zip(heads, specs, self._input_sizes(heads), strict=True)
        return [assignment.match(truths, head, spec, size) for head, spec, size in rows]

    def _input_sizes(self, heads: list) -> list:
        """Per head the input's width and height in pixels, (2,)."""
        cells = [ops.cast(ops.stack([ops.shape(head)[2], ops.shape(head)[1]]), "float32") for head in heads]
        if self.strides is not None:
            return [cell * stride for cell, stride in zip(cells, self.strides, strict=True)]
        return [ops.min(ops.stack(cells), axis=0) * 32.0] * len(heads)

    def _check_heads(self, heads: list) -> None:
        channels = [len(mask) * (5 + self.num_classes) for mask in self.masks]
        received = [tuple(head.shape) for head in heads]
        if [len(shape) for shape in received] != [4] * len(channels) or [shape[-1] for shape in received] != channels:
            raise ValueError(
                f"expected {len(channels)} raw heads (batch, height, width, channels) with {channels} channels, one per mask. "
                f"Received shapes: {received}"
            )

    def _image_loss(self, match: assignment.Match) -> Tensor:  # (B,)
        objectness = _cross_entropy(match.chosen[..., 4], 1.0)
        classes = ops.sum(_cross_entropy(match.chosen[..., 5:], match.classes), axis=-1)
        weight = self.iou_normalizer * match.scale
        found = weight * self.coordinate_loss(match) + match.last * (objectness + classes)
        return ops.sum(found, axis=-1) + ops.sum(match.negative * _cross_entropy(match.logits[..., 4], 0.0), axis=-1)

    def coordinate_loss(self, match: assignment.Match) -> Tensor:
        """What is asked of the box of each truth, (B, M), without weights: for a loss of your own override this."""
        if self.coordinates == "ciou":
            pixels = ops.concatenate([match.size, match.size])
            boxes = [assignment.corners(box) * pixels for box in (match.box, match.predicted)]
            return 1.0 - bounding_boxes.compute_ciou(*boxes, "xyxy")
        share = (match.target[..., :2] + 0.5 * (match.stretch - 1.0)) / match.stretch  # what the sigmoid should be
        centre = match.stretch * ops.sum(_cross_entropy(match.chosen[..., :2], share), axis=-1)
        return centre + 0.5 * ops.sum(ops.square(match.target[..., 2:] - match.chosen[..., 2:4]), axis=-1)

    def _sums(self, match: assignment.Match) -> Tensor:
        """(8,) in the order of `SUM_COLUMNS`."""
        objectness, everywhere = ops.sigmoid(match.chosen[..., 4]), ops.sigmoid(match.logits[..., 4])
        classes = ops.sum(ops.square(match.classes - ops.sigmoid(match.chosen[..., 5:])), axis=-1)
        squares = ops.sum(match.last * (ops.square(1.0 - objectness) + classes))
        numbers = (
            ops.sum(match.here * assignment.centred_iou(match.predicted, match.box)),
            ops.sum(match.here),
            ops.sum(match.here * objectness),
            ops.sum(everywhere),
            ops.sum(ops.ones_like(everywhere)),
            squares + ops.sum(match.negative * ops.square(everywhere)),
            self._printed_coordinates(match),
            ops.sum(ops.ones_like(everywhere[:, 0])),
        )
        return ops.stack(numbers)

    def _printed_coordinates(self, match: assignment.Match) -> Tensor:
        weight = self.iou_normalizer * match.scale
        if self.coordinates == "ciou":
            return ops.sum(weight * self.coordinate_loss(match))
        guess = ops.concatenate([assignment.centre(match.chosen, match.stretch), match.chosen[..., 2:4]], axis=-1)
        deltas = ops.matmul(match.same, weight[..., None] * (match.target - guess))  # of all truths in a slot
        return ops.sum(match.last[..., None] * ops.square(deltas))


def report_rows(sums: np.ndarray, *, dialect: str) -> np.ndarray:
    """Sums (heads, 8) as the rows that Darknet prints, (heads, 7) in the order of `REPORT_COLUMNS`, float64.

    The losses are squared deltas per image; with `coordinates="ciou"` iou_loss is the loss of the coordinates itself. A head
    without a truth has the count 1 and zeros in AlexeyAB's Darknet, the count 0 and NaN in pjreddie's.
    """
    iou, count, obj, all_obj, predictions, class_loss, iou_loss, images = np.asarray(sums, "float64").T
    if dialect == "alexeyab":
        count = np.maximum(count, 1.0)
    with np.errstate(invalid="ignore"):
        means = [iou / count, count, obj / count]
    losses = [class_loss / images, iou_loss / images, (class_loss + iou_loss) / images]
    return np.stack([*means, all_obj / predictions, *losses], axis=-1)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross entropy on logits, element by element; its gradient is sigmoid(logits) - target."""
    return ops.softplus(logits) - target * logits
