"""Scoring networks on held-out videos, batch by batch, beside the class prior."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np

from helpers.circulant_video import metrics
from helpers.circulant_video.batches import Videos, open_sides
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.experiments import PUBLISHED, run_folder
from helpers.workspace import StepResult, disk

BATCH = 256


def _parts(rows: np.ndarray) -> list[np.ndarray]:
    """Rows in batches of nearly one size."""
    return np.array_split(rows, max(1, -(-len(rows) // BATCH)))


def predict(
    network: keras.Model, videos: Videos, rows: np.ndarray, *, length: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (predictions, labels) of videos in batches: both (B, classes) float32."""
    logging.getLogger("tensorflow").setLevel("ERROR")  # it takes the first traces of many networks for one traced again
    for part in _parts(rows):
        frames, counts = videos.padded(part, length)
        yield network.predict_on_batch({"frames": frames, "num_frames": counts}), videos.labels(part)


def score(network: keras.Model, videos: Videos, rows: np.ndarray, *, length: int) -> dict[str, float]:
    """GAP@20, MAP in both conventions, Hit@1 and PERR of a network on some videos."""
    found = metrics.Metrics(videos.classes)
    for predictions, labels in predict(network, videos, rows, length=length):
        found.update(predictions, labels)
    return found.result()


def score_seeds(
    network: keras.Model, name: str, seeds: Iterable[int], videos: Videos, *, trained: Path, folder: Path, length: int
) -> list[dict]:
    """Rows of the table of scores of one network; each is kept as JSON, so that a killed evaluation goes on with the next.

    The weights come from `trained`, the folder of step train; `folder` gets `scores/`.
    """

    def row(seed: int) -> dict:
        network.load_weights(trained / run_folder(name, seed) / "final.weights.h5")
        scores = score(network, videos, np.arange(len(videos)), length=length)
        return {"network": name, "seed": seed, "parameters": network.count_params()} | scores

    return [disk.remember(folder / "scores" / f"{run_folder(name, seed)}.json", row, seed) for seed in seeds]


def score_prior(prior: np.ndarray, videos: Videos) -> dict:
    """The row of the class prior: every video is predicted to have the `label_shares` of the training set."""
    found = metrics.Metrics(videos.classes)
    for part in _parts(np.arange(len(videos))):
        found.update(np.tile(prior, (len(part), 1)), videos.labels(part))
    return {"network": "class prior", "seed": -1, "parameters": 0} | found.result()


def on_test(
    config: CirculantVideoConfig, done: Mapping[str, StepResult], networks: Mapping[str, keras.Model] | None
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]:
    """Held-out videos, and the scores on those that a mask keeps; without networks of the class prior."""
    known, videos = open_sides(done["preprocess"].folder, done["split"].table("shards"))
    rows = np.arange(len(videos))
    labels, found = videos.labels(rows), {}
    for name in PUBLISHED:
        if networks is None:
            found[name] = np.tile(known.label_shares(), (len(rows), 1))
        else:
            parts = predict(networks[name], videos, rows, length=config.max_frames)
            found[name] = np.concatenate([part for part, _ in parts])

    def score(kept: np.ndarray) -> dict[str, float]:
        return {f"{name}: GAP": metrics.gap(part[kept], labels[kept]) for name, part in found.items()}

    return rows, score
