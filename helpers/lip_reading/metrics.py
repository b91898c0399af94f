"""What a lip reader is worth: scores, tables per word and speaker, confused pairs, and the controls that unmask it.

`labels` are class numbers (N,), `scores` logits or probabilities (N, n). Of equal scores the lower class number counts as
the higher.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import threadpoolctl
from numpy.typing import ArrayLike
from sklearn import linear_model, metrics, neighbors, pipeline, preprocessing

from helpers.batches import stream

TOP = 5
MANY_CLASSES = 10  # from here on the best five are worth a number
SIDE = 32  # of the pictures that templates and the mean-frame reader see, in pixels
RIDGE = 1000.0  # penalty on squared weights


def _checked(labels: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    labels, scores = np.asarray(labels), np.asarray(scores)
    if scores.ndim != 2 or labels.shape != scores.shape[:1] or not scores.size:
        raise ValueError(
            "labels must be (N,) and scores (N, n), at least one clip. "
            f"Received: labels of shape {labels.shape}, scores of shape {scores.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"labels must be class numbers from 0 to {scores.shape[1] - 1}. "
            f"Received: {labels.dtype} from {labels.min()} to {labels.max()}"
        )
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite. Received: {(~np.isfinite(scores)).sum()} that are not")
    return labels, scores


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of clips whose best class is right."""
    return top_accuracy(labels, scores, 1)


def top_accuracy(labels: ArrayLike, scores: ArrayLike, k: int = TOP) -> float:
    """Share of clips with the right class among the k best."""
    labels, scores = _checked(labels, scores)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def macro_f1(labels: ArrayLike, scores: ArrayLike) -> float:
    """Mean over classes of F1 = 2 precision recall / (precision + recall); classes neither said nor predicted are left out."""
    labels, scores = _checked(labels, scores)
    return float(metrics.f1_score(labels, scores.argmax(axis=1), average="macro", zero_division=0))


def measure(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """clips, classes, chance, accuracy, top5 (from 10 classes on) and macro_f1."""
    labels, scores = _checked(labels, scores)
    classes = scores.shape[1]
    result = {"clips": len(labels), "classes": classes, "chance": 1 / classes, "accuracy": accuracy(labels, scores)}
    if classes >= MANY_CLASSES:
        result["top5"] = top_accuracy(labels, scores, TOP)
    return {**result, "macro_f1": macro_f1(labels, scores)}


def confusion_matrix(labels: ArrayLike, scores: ArrayLike) -> np.ndarray:
    """Counts over ALL n classes, (n, n) int64: row = true, column = predicted; no clip is left out."""
    labels, scores = _checked(labels, scores)
    return metrics.confusion_matrix(labels, scores.argmax(axis=1), labels=range(scores.shape[1]))


def per_speaker(labels: ArrayLike, scores: ArrayLike, speakers: Sequence[str]) -> pd.DataFrame:
    """One row a speaker, in alphabetical order: speaker, clips, accuracy."""
    labels, scores = _checked(labels, scores)
    table = pd.DataFrame({"speaker": np.asarray(speakers), "right": scores.argmax(axis=1) == labels})
    return table.groupby("speaker")["right"].agg(clips="size", accuracy="mean").reset_index()


def most_confused(matrix: ArrayLike, names: Sequence[str], n: int = 10) -> pd.DataFrame:
    """The pairs of words that are most often taken for each other, from counts (classes, classes), row = true.

    Columns: one, other, confused (clips, in either direction), share (of the clips of both); pairs that never are left out.
    """
    matrix = np.asarray(matrix)
    one, other = np.triu_indices(len(matrix), k=1)
    confused, clips = matrix[one, other] + matrix[other, one], matrix.sum(axis=1)
    names = np.asarray(names)
    table = pd.DataFrame({"one": names[one], "other": names[other], "confused": confused})
    table["share"] = confused / np.maximum(clips[one] + clips[other], 1)
    table = table[table["confused"] > 0]
    return table.sort_values(["confused", "share"], ascending=False, kind="stable").head(n).reset_index(drop=True)


# --- controls: does it read the motion at all? ---


def mean_frames(clips: Iterable[np.ndarray]) -> np.ndarray:
    """Time-averaged pictures of clips (T, H, W, C), at most `SIDE` pixels high and wide, flat: float32 (N, D), bytes as [0, 1]."""
    white = {True: np.float32(255), False: np.float32(1)}
    means = [np.mean(clip, axis=0, dtype=np.float32) / white[clip.dtype == np.uint8] for clip in clips]
    return _shrink(np.stack(means)).reshape(len(means), -1)


def _shrink(frame: np.ndarray) -> np.ndarray:
    """Pictures (..., H, W, C) at most `SIDE` pixels high and wide, float32."""
    for axis in (-3, -2):  # mean of stripes, which is what a smaller picture is
        edges = np.linspace(0, frame.shape[axis], min(SIDE, frame.shape[axis]) + 1).round().astype(int)
        stripes = np.add.reduceat(frame, edges[:-1], axis=axis)
        frame = stripes / np.diff(edges).astype(np.float32).reshape(-1, *[1] * (-1 - axis))
    return frame


def mean_frame_baseline(
    train_clips: Iterable[np.ndarray], train_labels: ArrayLike, test_clips: Iterable[np.ndarray], num_classes: int
) -> np.ndarray:
    """The reader that sees no motion, logistic regression on time-averaged frames: probabilities (M, num_classes) of test clips.

    Clips are as `mean_frames` takes them, labels (N,) of at least two classes; one that training lacks is never predicted.
    """
    reader = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000))
    train, test = mean_frames(train_clips), mean_frames(test_clips)
    with threadpoolctl.threadpool_limits(1):  # many small products: on a busy machine threads take forty times as long
        found = reader.fit(train, np.asarray(train_labels)).predict_proba(test)
    scores = np.zeros((len(found), num_classes))
    scores[:, reader.classes_] = found
    return scores


# --- templates: readers that hold a clip against the training clips, frame by frame and pixel by pixel ---


def normalised(clips: np.ndarray) -> np.ndarray:
    """Clips (N, T, H, W, C) minus their mean frames, each divided by the standard deviation of what is left: float32 (N, D).

    Pictures are at most `SIDE` pixels high and wide.
    """
    small = _shrink(np.asarray(clips, np.float32))
    rows = (small - small.mean(axis=1, keepdims=True)).reshape(len(small), -1)
    return rows / np.maximum(rows.std(axis=1, keepdims=True), 1e-6)


def nearest_neighbour(known: np.ndarray, labels: np.ndarray, num_classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The reader that takes the word of the most similar training clip: from rows of `normalised` to 1 for that word, else 0."""
    found = neighbors.NearestNeighbors(n_neighbors=1).fit(known)
    return lambda rows: np.eye(num_classes)[labels[found.kneighbors(rows, return_distance=False)[:, 0]]]


def ridge_regression(known: np.ndarray, labels: np.ndarray, num_classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The reader that weighs every pixel of every moment, one linear function a word; see `nearest_neighbour`."""
    return linear_model.Ridge(alpha=RIDGE).fit(known, np.eye(num_classes)[labels]).predict


def reverse_frames(clips: np.ndarray) -> np.ndarray:
    """Clips (N, T, ...) played backwards: a reader of motion must fall, one of mouth shapes does not."""
    return clips[:, ::-1]


def shuffle_frames(clips: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Clips (N, T, ...) with their frames in random order, another one for each clip: nothing is left but the shapes."""
    order = np.argsort(stream(seed, "chance").random(clips.shape[:2]), axis=1)
    return clips[np.arange(len(clips))[:, None], order]
