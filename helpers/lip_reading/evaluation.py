"""Watching a training, reading test clips with the network and its controls, and reading one video file."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from keras import ops

from helpers.lip_reading import clips as clip_cache
from helpers.lip_reading import metrics
from helpers.lip_reading.batches import to_unit

READERS = ("the network", "its clips reversed", "its clips shuffled", "untrained", "mean frame")
BATCH = 32


def predict(network, clips: np.ndarray, rows) -> np.ndarray:
    """Probabilities (N, classes) of some clips, in batches of one size, so that a network is traced once.

    Args:
        network: from (B, T, H, W, C) float32 in [0, 1] to logits.
        clips: (M, T, H, W, C) uint8, also memory-mapped.
        rows: N numbers of clips.
    """
    parts = []
    for start in range(0, len(rows), BATCH):
        chosen = np.resize(rows[start : start + BATCH], BATCH)  # the last batch is filled up with its own clips
        logits = network.predict_on_batch(to_unit(clips[chosen]))
        parts.append(ops.convert_to_numpy(ops.softmax(logits))[: len(rows) - start])
    return np.concatenate(parts)


def watch(network, clips: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """`val_loss` (cross-entropy, nats) and `val_accuracy` of the clips that are watched during a training."""
    scores = predict(network, clips, rows)
    right = scores[np.arange(len(rows)), labels[rows]]
    return {"val_loss": float(-np.log(right + 1e-12).mean()), "val_accuracy": metrics.accuracy(labels[rows], scores)}


def read_part(lips, part: str, *, network, untrained, seed: int) -> dict[str, np.ndarray]:
    """What each of `READERS` makes of the test clips of one part: probabilities (N, classes) by reader.

    Args:
        lips: clips, labels and sides, see `steps.Lips`.
        part: column of the sides.
        network, untrained: the trained network and a fresh one.
        seed: of the shuffled frames.
    """
    train, test = lips.rows("train", part), lips.rows("test", part)
    chosen, every = lips.clips[test], np.arange(len(test))
    pictures = (lips.clips[row] for row in train)  # one by one: all of them need not fit into memory
    readings = (
        predict(network, chosen, every),
        predict(network, metrics.reverse_frames(chosen), every),
        predict(network, metrics.shuffle_frames(chosen, seed=seed), every),
        predict(untrained, chosen, every),
        metrics.mean_frame_baseline(pictures, lips.labels[train], chosen, len(lips.words)),
    )
    return dict(zip(READERS, readings, strict=True))


def read_file(
    network,
    path: str | os.PathLike,
    config,
    words: Sequence[str],
    *,
    points: np.ndarray | None = None,
    model_path: str | os.PathLike | None = None,
    top: int = metrics.TOP,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Read one video file: the same way through detection, cropping and resampling that the training clips took.

    Args:
        network: as `predict` takes it.
        path: a video.
        config: of the training.
        words: the classes in order.
        points: known face points (T, 5, 2), instead of a detector.
        model_path: see `faces.find_face_points`.
        top: so many guesses.

    Returns:
        word and probability, the surest first, and the lips as the network sees them, (T, H, W, C) uint8.

    Raises:
        ValueError: nothing decodes, or no face is found.
    """
    path = Path(path)
    row = {"path": path.name} | ({} if points is None else {"points": points})
    with tempfile.TemporaryDirectory() as folder:
        name = clip_cache.prepare_clip(row, root=path.parent, folder=folder, config=config, model_path=model_path)[
            "cache"
        ]
        clips = clip_cache.load_clips(folder, [name], length=config.len_video, mode=config.resample)
    scores = predict(network, clips, np.arange(1))[0]
    best = np.argsort(-scores, kind="stable")[:top]
    return pd.DataFrame({"word": [words[number] for number in best], "probability": scores[best]}), clips[0]
