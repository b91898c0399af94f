"""From decoded boxes to a table of detections: thresholds and non-maximum suppression (`nms` of the config) as Darknet does.

NumPy only, so that worker processes may import it. A box is (x1, y1, x2, y2) in any one unit, relative or pixels.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.boat_detection.metrics.overlap import COLUMNS, CORNERS, iou

BLOCK = 256  # boxes whose overlaps are computed at once: it bounds the memory


def nms(boxes: ArrayLike, scores: ArrayLike, *, classes: ArrayLike, threshold: float) -> np.ndarray:
    """Non-maximum suppression: the best box stays, those of its class that overlap it by more than `threshold` go, and so on.

    Args:
        boxes: (N, 4).
        scores, classes: (N,); of equal scores the first in the list is the better.
        threshold: a box goes when its overlap is strictly above (`nms` of the config).

    Returns:
        (K,) indices of what stays, best first.
    """
    boxes, scores, classes = np.asarray(boxes, np.float64).reshape(-1, 4), np.asarray(scores), np.asarray(classes)
    order = np.argsort(-scores, kind="stable")
    gone = np.zeros(len(boxes), bool)
    for label in np.unique(classes):
        own = order[classes[order] == label]
        for start in range(0, len(own), BLOCK):
            block = own[start : start + BLOCK]
            block = block[~gone[block]]
            later = own[start:]
            near = iou(boxes[block, None], boxes[later]) > threshold
            for best, overlapped in zip(block, near, strict=True):
                if not gone[best]:
                    gone[later[overlapped]] = True
                    gone[best] = False
    return order[~gone[order]]


def candidates(
    boxes: ArrayLike, objectness: ArrayLike, classes: ArrayLike, *, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What one image's network output offers: objectness x class probability strictly above the threshold.

    Args:
        boxes: (N, 4).
        objectness: (N,) in [0, 1].
        classes: (N, C) probability of each class, not yet multiplied by the objectness.
        threshold: Darknet's 0.005 for measuring mAP, 0.25 for looking (0.5 in pjreddie's).

    Returns:
        boxes (K, 4), scores (K,), classes (K,) int; a box comes once for each class that it may be.

    Raises:
        ValueError: NaN or infinity in the scores or in a candidate's box.
    """
    boxes, objectness, classes = np.asarray(boxes), np.asarray(objectness), np.asarray(classes)
    scores = objectness[:, None] * classes
    rows, labels = np.nonzero(scores > threshold)  # so is the objectness, for a probability is at most 1
    if not np.isfinite(scores).all() or not np.isfinite(boxes[rows]).all():
        raise ValueError("the network's boxes or scores hold NaN or infinity: training has diverged, look at the loss")
    return boxes[rows], scores[rows, labels], labels


def detections_table(
    images: Sequence,
    boxes: ArrayLike,
    objectness: ArrayLike,
    classes: ArrayLike,
    *,
    threshold: float,
    nms_threshold: float,
) -> pd.DataFrame:
    """Detections of a batch: `candidates`, then `nms`, image by image.

    Args:
        images: B names.
        boxes: (B, N, 4), as `decode` gives them, or already taken back from the letterbox; the table keeps their unit.
        objectness, classes: (B, N) and (B, N, C).
        threshold, nms_threshold: of `candidates` and `nms`.

    Returns:
        Table `image, class, score, x1, y1, x2, y2`: images in the order given, in each the best detection first. Boxes
        reach over the border where the network says so, as in Darknet.
    """
    parts = []
    for image, *output in zip(images, boxes, objectness, classes, strict=True):
        found, scores, labels = candidates(*output, threshold=threshold)
        kept = nms(found, scores, classes=labels, threshold=nms_threshold)
        corners = dict(zip(CORNERS, found[kept].T, strict=True))
        parts.append(pd.DataFrame({"image": image, "class": labels[kept], "score": scores[kept], **corners}))
    return join_tables(parts)


def join_tables(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Tables of detections as one, numbered anew; an empty one with the right columns where nothing was found."""
    parts = [part for part in parts if len(part)]  # pandas warns of empty ones
    if parts:
        return pd.concat(parts, ignore_index=True)
    kinds = dict.fromkeys(COLUMNS, np.float32) | {"image": object, "class": np.int64}
    return pd.DataFrame({column: np.empty(0, kind) for column, kind in kinds.items()})
