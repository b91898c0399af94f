"""Scoring networks on held-out videos, batch by batch, beside the class prior."""

from pathlib import Path

import numpy as np

from helpers.circulant_video import cache, metrics, model, runs
from helpers.workspace import disk

BATCH = 256


def count_parameters(network) -> int:
    """All variables of the weights, moving averages included, states of random generators left out."""
    return int(sum(np.prod(variable.shape) for variable in network.weights))


def predict(network, videos: cache.Videos, rows, *, length: int):
    """Yield (predictions, labels) of videos in batches: both (B, classes) float32."""
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        frames, counts = videos.padded(part, length)
        outputs = network({"frames": frames, "num_frames": counts}, training=False)
        yield np.asarray(outputs, dtype=np.float32), videos.labels(part)


def score(network, videos: cache.Videos, rows, *, length: int) -> dict[str, float]:
    """GAP@20, MAP in both conventions, Hit@1 and PERR of a network on some videos."""
    found = metrics.Metrics(videos.classes)
    for predictions, labels in predict(network, videos, rows, length=length):
        found.update(predictions, labels)
    return found.result()


def score_run(config, name: str, seed: int, held_out: cache.Videos, trained: Path, folder: Path) -> dict:
    """One row of the table of scores, kept as JSON so that a killed evaluation goes on with the next."""
    slug = f"{name.replace(' ', '_')}-{seed}"

    def row() -> dict:
        network = model.build_classifier(**runs.build_arguments(name, config), seed=seed)
        network.load_weights(trained / slug / "final.weights.h5")
        scores = score(network, held_out, np.arange(len(held_out)), length=config.max_frames)
        return {"network": name, "seed": seed, "parameters": count_parameters(network)} | scores

    return disk.remember(folder / "scores" / f"{slug}.json", row)


def score_prior(train: cache.Videos, held_out: cache.Videos) -> dict:
    """The row of the class prior: every video is predicted to have the training set's label frequencies."""
    found = metrics.Metrics(held_out.classes)
    parts = [np.arange(start, min(start + BATCH, len(train))) for start in range(0, len(train), BATCH)]
    prior = sum(train.labels(part).sum(axis=0, keepdims=True) for part in parts) / len(train)
    for start in range(0, len(held_out), BATCH):
        labels = held_out.labels(np.arange(start, min(start + BATCH, len(held_out))))
        found.update(np.repeat(prior, len(labels), axis=0), labels)
    return {"network": "class prior", "seed": -1, "parameters": 0} | found.result()
