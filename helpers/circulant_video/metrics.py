"""The scores of the YouTube-8M challenge, exact, also over a data set larger than memory: GAP@20, MAP, Hit@1, PERR.

Only a video's `top_k` best classes count for GAP and MAP; nothing is interpolated. Equal scores (as float32) need a rule:
inside a video the lowest class goes first, as in `argmax`; between videos the pairs are shuffled with a fixed seed and
then sorted by a stable sort, so that they stand in an order that is the same in every run and knows nothing of the labels.
"""

import collections
import csv
import os
from collections.abc import Iterable

import numpy as np

from helpers.workspace import disk

TOP_K = 20  # best classes of a video that count, as in the official evaluation
TIE_SEED = 0
ROWS = 4096  # videos at a time where a whole array (or a memory map) is given: bounds the temporaries


def _shape(predictions, labels) -> tuple[int, ...]:
    shape, other = np.shape(predictions), np.shape(labels)
    if len(shape) != 2 or shape != other or not shape[1]:
        raise ValueError(
            f"predictions and labels must both be (videos, classes), labels multi-hot. Received: {shape} and {other}"
        )
    return shape


def _checked(predictions, labels) -> tuple[np.ndarray, np.ndarray]:
    """Scores as float32 and labels as bool, both (N, V), or a ValueError that says what is wrong."""
    _shape(predictions, labels)
    with np.errstate(over="ignore"):
        predictions, labels = np.asarray(predictions).astype(np.float32, copy=False), np.asarray(labels)
    bad = np.flatnonzero(~np.isfinite(predictions).all(axis=1))
    if len(bad):
        raise ValueError(
            f"scores must be finite. Received: NaN or infinity in {len(bad)} of {len(predictions)} videos, first in row "
            f"{bad[0]}. Training has diverged or its input was not finite: look at the loss first"
        )
    if labels.dtype != bool and not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels must be multi-hot, 0 or 1. Received: values from {labels.min()} to {labels.max()}")
    return predictions, labels.astype(bool)


def top_classes(predictions: np.ndarray, top_k: int) -> np.ndarray:
    """Classes of the `top_k` highest scores per video, best first: int64 (N, min(top_k, V)). Ties: lowest class first."""
    videos, classes = predictions.shape
    top_k = min(top_k, classes)
    lowest = np.partition(predictions, classes - top_k, axis=1)[:, classes - top_k]  # the k-th highest
    kept = predictions >= lowest[:, None]
    surplus = kept.sum(axis=1) - top_k
    for row in np.flatnonzero(surplus):  # several classes share the last place
        kept[row, np.flatnonzero(predictions[row] == lowest[row])[-surplus[row] :]] = False
    best = np.nonzero(kept)[1].reshape(videos, top_k)
    order = np.argsort(-np.take_along_axis(predictions, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)


def _average_precision(hits: np.ndarray, groups: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """AP of each group, (1/P) sum over hits of (hits so far / rank), of pairs sorted by falling score; 0 where P is 0."""
    order = np.argsort(groups, kind="stable")
    hits, groups = hits[order], groups[order]
    first = np.searchsorted(groups, np.arange(len(positives)))
    so_far = np.concatenate([[0], np.cumsum(hits, dtype=np.int64)])
    precision = (so_far[1:] - so_far[first[groups]]) / (np.arange(len(hits)) - first[groups] + 1)
    return np.bincount(groups, weights=hits * precision, minlength=len(positives)) / np.maximum(positives, 1)


def _perr(predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Precision of each video's L best scores, L its number of labels: float64 (N,)."""
    wanted = labels.sum(axis=1)
    best = top_classes(predictions, int(wanted.max(initial=1)))
    counts = (np.arange(best.shape[1]) < wanted[:, None]) & (np.take_along_axis(predictions, best, axis=1) > 0)
    return (np.take_along_axis(labels, best, axis=1) & counts).sum(axis=1) / np.maximum(wanted, 1)


class Metrics:
    """All scores, the same however the videos are cut into batches: GAP and MAP come at the end, from all pairs at once.

    It keeps 7 bytes per pair, `top_k` pairs per video: 25 MB for the 178 720 held-out videos of the paper.
    """

    def __init__(self, classes: int, top_k: int = TOP_K):
        if classes < 1 or top_k < 1:
            raise ValueError(f"classes and top_k must be at least 1. Received: classes={classes}, top_k={top_k}")
        self.classes, self.top_k = classes, top_k
        self.positives = np.zeros(classes, dtype=np.int64)
        self._class_type = np.min_scalar_type(classes - 1)  # uint8 or uint16
        self._chunks: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._sums, self._videos = collections.Counter(), 0

    def update(self, predictions, labels) -> None:
        """Add videos: (N, V) probabilities, (N, V) multi-hot labels.

        Raises:
            ValueError: other shapes, a score that is NaN or infinite, a label that is neither 0 nor 1.
        """
        predictions, labels = _checked(predictions, labels)
        if predictions.shape[1] != self.classes:
            raise ValueError(f"expected {self.classes} classes. Received: predictions of shape {predictions.shape}")
        if not len(predictions):
            return
        best = top_classes(predictions, self.top_k)
        scores, hits = (np.take_along_axis(values, best, axis=1).ravel() for values in (predictions, labels))
        self._chunks.append((scores, hits, best.ravel().astype(self._class_type)))
        self.positives += labels.sum(axis=0)
        self._videos += len(predictions)
        means = {"hit_at_one": hits[:: best.shape[1]].mean(), "perr": _perr(predictions, labels).mean()}
        self._sums.update({name: float(mean) * len(predictions) for name, mean in means.items()})

    def _sorted_pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Hits and classes of all pairs by falling score, ties in an order of fixed chance."""
        if not self._chunks:
            raise ValueError("no videos to score: call update with at least one first")
        scores, hits, classes = (np.concatenate(parts) for parts in zip(*self._chunks, strict=True))
        shuffle = np.random.default_rng(TIE_SEED).permutation(len(scores))
        order = shuffle[np.argsort(-scores[shuffle], kind="stable")]
        return hits[order], classes[order]

    def result(self) -> dict[str, float]:
        """gap, map_drop, map_zero, hit_at_one, perr of all videos so far."""
        hits, classes = self._sorted_pairs()
        together = _average_precision(hits, np.zeros(len(hits), dtype=np.uint8), self.positives.sum(keepdims=True))
        total = _average_precision(hits, classes, self.positives).sum()
        present = max((self.positives > 0).sum(), 1)
        scores = {"gap": together[0], "map_drop": total / present, "map_zero": total / self.classes}
        scores |= {name: value / self._videos for name, value in self._sums.items()}
        return {name: float(score) for name, score in scores.items()}


def measure(predictions, labels, top_k: int = TOP_K) -> dict[str, float]:
    """All scores of (N, V) predictions against (N, V) multi-hot labels: see `Metrics.result`."""
    videos, classes = _shape(predictions, labels)
    metrics = Metrics(classes, top_k)
    for start in range(0, videos, ROWS):
        metrics.update(predictions[start : start + ROWS], labels[start : start + ROWS])
    return metrics.result()


def gap(predictions, labels, top_k: int = TOP_K) -> float:
    """Global average precision: AP of the `top_k` pairs of all videos in one list; P counts the labels outside it, too."""
    return measure(predictions, labels, top_k)["gap"]


def mean_average_precision(predictions, labels, absent: str = "drop", *, top_k: int = TOP_K) -> float:
    """Mean over classes of the AP of a class's kept pairs.

    A class that no video has is left out with absent="drop" (YouTube-8M's rule of 2019) and counts 0 with "zero" (the rule
    of 2018 and of the original project): the two are not comparable where many classes are absent.
    """
    if absent not in ("drop", "zero"):
        raise ValueError(f'absent must be "drop" or "zero". Received: {absent!r}')
    return measure(predictions, labels, top_k)[f"map_{absent}"]


def hit_at_one(predictions, labels) -> float:
    """Share of videos whose best class is one of their labels; a video without labels is a miss."""
    return measure(predictions, labels)["hit_at_one"]


def perr(predictions, labels) -> float:
    """Share of a video's L best classes that are right, L its number of labels, averaged; score 0 is a miss, L = 0 gives 0."""
    return measure(predictions, labels)["perr"]


def class_prior_predictions(labels, n: int) -> np.ndarray:
    """The baseline that never looks: each class's share of the (M, V) training labels, n times; float32 (n, V), read-only."""
    if not _shape(labels, labels)[0]:
        raise ValueError("class_prior_predictions needs the labels of at least one training video. Received: none")
    return np.broadcast_to(np.mean(labels, axis=0, dtype=np.float64).astype(np.float32), (n, np.shape(labels)[1]))


def write_predictions(path: str | os.PathLike, ids: Iterable[str | bytes], predictions, top_k: int = TOP_K) -> None:
    """Write Kaggle's file `VideoId,LabelConfidencePairs`, best class first, atomically; scores survive as float32.

    Raises:
        ValueError: ids and (N, V) predictions of unequal number, an id twice, a score that is not finite.
    """
    ids = [name.decode() if isinstance(name, bytes) else str(name) for name in ids]
    if len(ids) != len(predictions) or len(set(ids)) != len(ids):
        raise ValueError(
            f"one id per video, each once. Received: {len(ids)} ids ({len(set(ids))} distinct), {len(predictions)} videos"
        )
    with disk.atomic_write(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("VideoId", "LabelConfidencePairs"))
        for start in range(0, len(ids), ROWS):
            rows = np.asarray(predictions[start : start + ROWS])
            rows, _ = _checked(rows, np.zeros(rows.shape, dtype=bool))
            for name, row, best in zip(ids[start : start + ROWS], rows, top_classes(rows, top_k), strict=True):
                writer.writerow((name, " ".join(f"{label} {row[label]!s}" for label in best)))
