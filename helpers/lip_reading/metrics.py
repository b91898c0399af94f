"""What a lip reader is worth: scores, tables per word and speaker, confused pairs, and the controls that unmask it.

`labels` are class numbers (N,), `scores` logits or probabilities (N, n). Of equal scores the lower class number counts as
the higher.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import threadpoolctl
from numpy.typing import ArrayLike
from sklearn import linear_model, metrics, pipeline, preprocessing

from helpers.batches import stream

TOP = 5
MANY_CLASSES = 10  # from here on the best five are worth a number
SIDE = 32  # of the mean frames, in pixels


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


def predictions(scores: ArrayLike) -> np.ndarray:
    """Best class of each clip: int64 (N,)."""
    return np.argmax(scores, axis=1)


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
    return float(metrics.f1_score(labels, predictions(scores), average="macro", zero_division=0))


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
    return metrics.confusion_matrix(labels, predictions(scores), labels=range(scores.shape[1]))


def per_class(labels: ArrayLike, scores: ArrayLike, names: Sequence[str]) -> pd.DataFrame:
    """One row a class: label, clips, accuracy (its recall), precision, f1; what cannot be known is NaN."""
    labels, scores = _checked(labels, scores)
    precision, recall, f1, clips = metrics.precision_recall_fscore_support(
        labels, predictions(scores), labels=range(scores.shape[1]), zero_division=np.nan
    )
    columns = {"label": list(names), "clips": clips, "accuracy": recall, "precision": precision, "f1": f1}
    return pd.DataFrame(columns)


def per_speaker(labels: ArrayLike, scores: ArrayLike, speakers: Sequence[str]) -> pd.DataFrame:
    """One row a speaker, in alphabetical order: speaker, clips, accuracy."""
    labels, scores = _checked(labels, scores)
    table = pd.DataFrame({"speaker": np.asarray(speakers), "right": predictions(scores) == labels})
    return table.groupby("speaker")["right"].agg(clips="size", accuracy="mean").reset_index()


def most_confused(matrix: ArrayLike, names: Sequence[str], n: int = 10) -> pd.DataFrame:
    """The pairs of words that are most often taken for each other, in either direction.

    Args:
        matrix: counts, (classes, classes), row = true.

    Returns:
        one, other, confused (clips), share (of the clips of both), most confused first, pairs that never are left out.
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


def mean_frames(clips: Iterable[np.ndarray], side: int = SIDE) -> np.ndarray:
    """Time-averaged pictures of clips (T, H, W, C), at most `side` pixels high and wide, flat: float32 (N, D), bytes as [0, 1]."""
    return np.stack([_mean_frame(np.asarray(clip), side) for clip in clips])


def _mean_frame(clip: np.ndarray, side: int) -> np.ndarray:
    frame = clip.mean(axis=0, dtype=np.float32)  # (H, W, C)
    frame = frame / 255.0 if clip.dtype == np.uint8 else frame
    for axis in (0, 1):  # mean of stripes, which is what a smaller picture is
        edges = np.linspace(0, frame.shape[axis], min(side, frame.shape[axis]) + 1).round().astype(int)
        stripes = np.add.reduceat(frame, edges[:-1], axis=axis)
        frame = stripes / np.expand_dims(np.diff(edges), tuple(a for a in range(3) if a != axis))
    return frame.ravel().astype(np.float32)


def mean_frame_baseline(
    train_clips: Iterable[np.ndarray],
    train_labels: ArrayLike,
    test_clips: Iterable[np.ndarray],
    num_classes: int,
) -> np.ndarray:
    """The reader that sees no motion: logistic regression on time-averaged frames.

    A network that does not beat it has learned how the clips look (who speaks, what light), not how the lips move.

    Args:
        train_clips, test_clips: as `mean_frames` takes them.
        train_labels: (N,) class numbers, at least two different ones.
        num_classes: number of classes; one that training lacks is never predicted.

    Returns:
        Probabilities (M, num_classes) of the test clips.
    """
    reader = pipeline.make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000))
    train, test = mean_frames(train_clips), mean_frames(test_clips)
    with threadpoolctl.threadpool_limits(1):  # many small products: on a busy machine threads take forty times as long
        found = reader.fit(train, np.asarray(train_labels)).predict_proba(test)
    scores = np.zeros((len(found), num_classes))
    scores[:, reader.classes_] = found
    return scores


def reverse_frames(clips: np.ndarray) -> np.ndarray:
    """Clips (N, T, ...) played backwards: a reader of motion must fall, one of mouth shapes does not."""
    return clips[:, ::-1]


def shuffle_frames(clips: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """Clips (N, T, ...) with their frames in random order, another one for each clip: nothing is left but the shapes."""
    order = np.argsort(stream(seed, "chance").random(clips.shape[:2]), axis=1)
    return clips[np.arange(len(clips))[:, None], order]
