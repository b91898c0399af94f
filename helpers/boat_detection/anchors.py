"""Anchors for a data set: k-means over the boxes' sizes with 1 - IoU as the distance (YOLOv2, Darknet's `calc_anchors`)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.batches import stream
from helpers.boat_detection.augment import resizing

MAX_ITERATIONS = 100
SETTLED = 1e-3  # share of the boxes that may still change their cluster at the end: none of fewer than a thousand


def input_sizes(pictures: pd.DataFrame, boxes: pd.DataFrame, *, size: int | Sequence[int], resize: str) -> np.ndarray:
    """Widths and heights of boxes in pixels of the network's input: (N, 2); `pictures` gives width and height of theirs."""
    found = boxes.merge(pictures[["image", "width", "height"]], on="image", how="left")
    sides = found[["width", "height"]].to_numpy(float)
    whole = np.array(resizing.as_pair(size)[::-1], float)  # width, height
    drawn = sides * (whole / sides).min(axis=1, keepdims=True) if resize == "letterbox" else whole
    return drawn * (found[["x2", "y2"]].to_numpy(float) - found[["x1", "y1"]].to_numpy(float))


def shape_iou(sizes: ArrayLike, anchors: ArrayLike) -> np.ndarray:
    """IoU of boxes that share their centre: (N, 2) and (K, 2) widths and heights -> (N, K)."""
    (width, height), (wide, high) = (np.asarray(part, np.float64).T for part in (sizes, anchors))
    inside = np.minimum(width[:, None], wide) * np.minimum(height[:, None], high)
    return inside / ((width * height)[:, None] + wide * high - inside)


def average_best_iou(sizes: ArrayLike, anchors: ArrayLike) -> float:
    """Mean over the boxes of the IoU with the anchor that fits best: how well the anchors cover the data, in (0, 1]."""
    return float(shape_iou(sizes, anchors).max(axis=1).mean())


def find_anchors(sizes: ArrayLike, num_anchors: int = 9, *, seeds: int = 10, seed: int = 0) -> tuple[np.ndarray, float]:
    """Anchors that fit the boxes: k-means from several random starts, the one with the highest average best IoU.

    The mean of a cluster, Darknet's centre, does not always lower the distance, so the best state on the way is kept, and
    not the last. A centre that loses all its boxes moves to the box that fits worst.

    Args:
        sizes: (N, 2) widths and heights in pixels of the network's input: relative ones times its width and height.
        num_anchors: at most the number of different sizes.
        seeds: random starts.
        seed: of them.

    Returns:
        (num_anchors, 2) float64 widths and heights, smallest area first as a cfg wants them, and the average best IoU.

    Raises:
        ValueError: fewer different sizes than anchors.
    """
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    different = np.unique(sizes, axis=0)
    if not 1 <= num_anchors <= len(different):
        raise ValueError(
            f"num_anchors must be from 1 to the number of different box sizes, {len(different)} here. "
            f"Received: num_anchors={num_anchors}"
        )
    rng = stream(seed, "choice")
    starts = [different[rng.choice(len(different), num_anchors, replace=False)] for _ in range(seeds)]
    score, anchors = max((_run(sizes, start) for start in starts), key=lambda result: result[0])
    return anchors[np.argsort(anchors.prod(axis=1), kind="stable")], score


def _run(sizes: np.ndarray, centres: np.ndarray) -> tuple[float, np.ndarray]:
    best = (-1.0, centres)
    nearest, overlap = _assign(sizes, centres)
    for _ in range(MAX_ITERATIONS):
        centres = _means(sizes, nearest, overlap, len(centres))
        previous, (nearest, overlap) = nearest, _assign(sizes, centres)
        best = max(best, (float(overlap.mean()), centres), key=lambda state: state[0])
        if (previous != nearest).mean() < SETTLED:
            break
    return best


def _assign(sizes: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre that fits each box best, and its IoU: (N,) and (N,)."""
    overlap = shape_iou(sizes, centres)
    nearest = overlap.argmax(axis=1)
    return nearest, overlap[np.arange(len(sizes)), nearest]


def _means(sizes: np.ndarray, nearest: np.ndarray, overlap: np.ndarray, clusters: int) -> np.ndarray:
    """Mean size of each cluster; the empty ones take the boxes that fit worst."""
    count = np.bincount(nearest, minlength=clusters)
    sums = [np.bincount(nearest, weights=column, minlength=clusters) for column in sizes.T]
    centres = np.stack(sums, axis=1) / np.maximum(count, 1)[:, None]
    empty = np.flatnonzero(count == 0)
    centres[empty] = sizes[np.argsort(overlap, kind="stable")[: len(empty)]]
    return centres
