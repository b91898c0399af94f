"""Reading clips with a network and with its controls, reading one video file, and where in a clip a network looks."""

import itertools
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from keras import ops

from helpers.lip_reading import data, metrics
from helpers.lip_reading.batches import Lips, to_unit
from helpers.lip_reading.config import LipReadingConfig
from helpers.training import value_and_gradients
from helpers.workspace import StepResult

NETWORKS = ("the network", "its clips reversed", "its clips shuffled", "untrained")
TEMPLATES = ("nearest neighbour", "ridge regression")
READERS = (*NETWORKS, *TEMPLATES, "mean frame")
BATCH = 32
MOST_TEMPLATES = 4000  # training clips, taken evenly where there are more: so many fit into memory


def predict(network: keras.Model, clips: np.ndarray, rows: Sequence[int] | np.ndarray | None = None) -> np.ndarray:
    """Probabilities (N, classes) of clips by a network of logits, in batches of one size, so that it is traced once.

    Clips are (M, T, H, W, C) uint8, also memory-mapped, or float32 in [0, 1]; `rows` N numbers of them, None for all.
    """
    rows, parts = np.arange(len(clips)) if rows is None else rows, []
    for start in range(0, len(rows), BATCH):
        chosen = clips[np.resize(rows[start : start + BATCH], BATCH)]  # the last is filled up with its own clips
        outputs = network.predict_on_batch(to_unit(chosen) if chosen.dtype == np.uint8 else chosen)
        parts.append(ops.convert_to_numpy(ops.softmax(outputs))[: len(rows) - start])
    return np.concatenate(parts)


def read_clips(
    lips: Lips, rows: np.ndarray, network: keras.Model, untrained: keras.Model, seed: int
) -> list[np.ndarray]:
    """Probabilities (N, classes) of clips by each of `NETWORKS`."""
    clips = lips.clips[rows]
    backwards, shuffled = metrics.reverse_frames(clips), metrics.shuffle_frames(clips, seed=seed)
    return [*(predict(network, films) for films in (clips, backwards, shuffled)), predict(untrained, clips)]


def read_templates(lips: Lips, train: np.ndarray, test: np.ndarray) -> list[np.ndarray]:
    """Scores (N, classes) of test clips by each of `TEMPLATES`, which hold a clip against training clips frame by frame."""
    train = train[:: -(-len(train) // MOST_TEMPLATES)]
    known, labels, found = metrics.normalised(lips.clips[train]), lips.labels[train], []
    readers = [read(known, labels, len(lips.words)) for read in (metrics.nearest_neighbour, metrics.ridge_regression)]
    for first in range(0, len(test), BATCH):
        clips = metrics.normalised(lips.clips[test[first : first + BATCH]])
        found.append([read(clips) for read in readers])
    return [np.concatenate(parts) for parts in zip(*found, strict=True)]


def read_mean_frames(lips: Lips, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Probabilities (N, classes) of test clips by the reader that sees no motion."""
    pictures = (lips.clips[row] for row in train)  # one by one: all of them need not fit into memory
    return metrics.mean_frame_baseline(pictures, lips.labels[train], lips.clips[test], len(lips.words))


def read_parts(
    lips: Lips, *, network: keras.Model, untrained: keras.Model, load: Callable[[str], object], seed: int
) -> dict[str, np.ndarray]:
    """What each of `READERS` makes of the test clips of all parts: scores (N, classes) by reader; the seed is of shuffled frames.

    One network takes the weights of all parts in turn, by `load(part)`, and is traced once.
    """
    found = []
    for part in lips.parts:
        load(part)
        train, test = lips.rows("train", part), lips.rows("test", part)
        readings = [*read_clips(lips, test, network, untrained, seed), *read_templates(lips, train, test)]
        found.append([*readings, read_mean_frames(lips, train, test)])
    return {name: np.concatenate(parts) for name, *parts in zip(READERS, *found, strict=True)}


def score_table(labels: np.ndarray, readings: dict[str, np.ndarray]) -> pd.DataFrame:
    """One row a reader: reader, and what `metrics.measure` says."""
    return pd.DataFrame([{"reader": name} | metrics.measure(labels, found) for name, found in readings.items()])


def prediction_table(lips: Lips, rows: np.ndarray, found: np.ndarray) -> pd.DataFrame:
    """One row a test clip: path, label, speaker, number (of the word), row (of all clips), predicted (word), probability."""
    table = lips.table.loc[rows, ["path", "label", "speaker", "number"]].assign(row=rows)
    table["predicted"] = np.array(lips.words, dtype=object)[found.argmax(axis=1)]
    table["probability"] = found.max(axis=1)
    return table


def read_file(
    network: keras.Model, path: str | os.PathLike, config: LipReadingConfig, words: Sequence[str], *,
    start: float = np.nan, end: float = np.nan, points: np.ndarray | None = None,
    model_path: str | os.PathLike | None = None, top: int = metrics.TOP,
) -> tuple[pd.DataFrame, np.ndarray]:  # fmt: skip
    """Read one video file: the same way through detection, cropping and resampling that the training clips took.

    ValueError: nothing decodes, or no face is found.

    Args:
        start, end: seconds in the file between which the word is said; NaN is the whole file.
        points: known face points (T, 5, 2), instead of a detector.
        top: so many guesses.

    Returns:
        word and probability, the surest first, and the lips as the network sees them, (T, H, W, C) uint8.
    """
    path = Path(path)
    row = {"path": path.name, "start": start, "end": end} | ({} if points is None else {"points": points})
    with tempfile.TemporaryDirectory() as folder:
        done = data.prepare_clip(row, root=path.parent, folder=folder, cut=config, model_path=model_path)
        (clip,) = data.load_clips(folder, [done["cache"]], length=config.len_video, mode=config.resample)
    scores = predict(network, clip[None])[0]
    best = np.argsort(-scores, kind="stable")[:top]
    return pd.DataFrame({"word": [words[number] for number in best], "probability": scores[best]}), clip


def on_test(
    config: LipReadingConfig, done: Mapping[str, StepResult], network: keras.Model | None
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]:
    """Speakers of the test clips, and the scores on those that a mask keeps; without a network of the better of `TEMPLATES`."""
    lips = Lips.of(done["split"])
    rows = lips.rows("test")
    labels = lips.labels[rows]
    if network is None:
        found = max(read_templates(lips, lips.rows("train"), rows), key=lambda one: metrics.accuracy(labels, one))
    else:
        found = predict(network, lips.clips, rows)

    def score(kept: np.ndarray) -> dict[str, float]:
        told = metrics.measure(labels[kept], found[kept])
        return {name: told[name] for name in ("accuracy", "macro_f1")}

    return lips.table["speaker"].to_numpy()[rows], score


# --- where it looks: parts of a clip held still (occlusion), and the slope of its score ---


def occlude(network: keras.Model, clip: np.ndarray, target: int, masks: Sequence[np.ndarray]) -> np.ndarray:
    """What is lost of a class's probability when parts of the clip stand still: float (M,), positive where a part counts.

    Within a mask every frame shows the clip's mean frame: the look stays, the motion is gone.

    Args:
        clip: (T, H, W, C) float32 in [0, 1].
        masks: M boolean arrays, each of a shape that broadcasts to (T, H, W); one batch is made at a time.
    """
    clip = np.asarray(clip, "float32")
    still = clip.mean(axis=0, keepdims=True)
    whole = predict(network, clip[None])[0, target]
    left = []
    for first in range(0, len(masks), BATCH):
        part = [np.where(np.asarray(mask)[..., None], still, clip) for mask in masks[first : first + BATCH]]
        left.append(predict(network, np.stack(part))[:, target])
    return whole - np.concatenate(left)


def occlude_time(network: keras.Model, clip: np.ndarray, target: int, *, width: int = 3) -> np.ndarray:
    """Loss of probability (T,) when the `width` frames around each moment stand still; see `occlude`."""
    times = np.arange(len(clip))
    masks = [(np.abs(times - moment) <= (width - 1) / 2)[:, None, None] for moment in times]
    return occlude(network, clip, target, masks)


def occlude_space(network: keras.Model, clip: np.ndarray, target: int, *, patch: int = 8) -> np.ndarray:
    """Loss of probability (H, W) when a square patch of the picture stands still, as the mean over the patches on a pixel.

    `patch` is the side of the square in pixels; from one to the next it is half a patch.
    """
    height, width = clip.shape[1:3]
    masks = []
    for top, left in itertools.product(_starts(height, patch), _starts(width, patch)):
        mask = np.zeros((1, height, width), bool)
        mask[:, top : top + patch, left : left + patch] = True
        masks.append(mask)
    losses, cover = occlude(network, clip, target, masks), np.concatenate(masks)
    return np.tensordot(losses, cover, axes=1) / cover.sum(axis=0)


def _starts(length: int, patch: int) -> list[int]:
    """First pixels of the patches; the last one ends at the border."""
    last = max(length - patch, 0)
    return sorted({*range(0, last, max(1, patch // 2)), last})


def gradient(network: keras.Model, clip: np.ndarray, target: int) -> np.ndarray:
    """Slope of the network's last output `target` for each value of the clip, float32 (T, H, W, C); better one in logits."""
    clips = np.asarray(clip, "float32")[None]
    return value_and_gradients(lambda found: network(found[0], training=False)[0, target], [clips])[1][0][0]


def gradient_over_time(network: keras.Model, clip: np.ndarray, target: int) -> np.ndarray:
    """How much each frame can move the output `target`: mean absolute slope, float (T,)."""
    return np.abs(gradient(network, clip, target)).mean(axis=(1, 2, 3))
