"""The three finders of step evaluate side by side, and their scores."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from helpers.boat_detection import data, metrics
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation.finders import Finder, build_finder
from helpers.boat_detection.metrics.overlap import COLUMNS, CORNERS, in_pixels
from helpers.workspace import StepResult

FINDERS = ("usual boxes", "before training", "trained")


def usual_boxes(train: pd.DataFrame, images: Sequence[str], *, count: int = 8, seed: int = 0) -> pd.DataFrame:
    """The baseline that looks at nothing: in every picture the boxes where training boxes usually are.

    Args:
        train: boxes of the training pictures, relative.
        images: names of the pictures to "detect" in.
        count: boxes per picture, the centres of k-means over the four corners.

    Returns:
        A table of detections; the score is the share of training boxes in the cluster.
    """
    corners = data.that_count(train)[CORNERS].to_numpy(float)
    found = KMeans(min(count, len(corners)), n_init=3, random_state=seed).fit(corners)
    share = np.bincount(found.labels_, minlength=len(found.cluster_centers_)) / len(corners)
    one = pd.DataFrame(found.cluster_centers_, columns=CORNERS).assign(score=share, **{"class": 0})
    return pd.concat([one.assign(image=image) for image in images], ignore_index=True)[COLUMNS]


def detect_all(
    untrained: Finder, trained: Finder, pictures: pd.DataFrame, train_boxes: pd.DataFrame, *, seed: int
) -> dict[str, pd.DataFrame]:
    """Detections in pixels of the `FINDERS`: boxes where they usually are, the untrained network, the trained one."""
    paths = [Path(path) for path in pictures["path"]]
    usual = usual_boxes(train_boxes, pictures["image"].tolist(), seed=seed)
    found = (usual, untrained.find(paths, progress=True), trained.find(paths, progress=True))
    return {name: in_pixels(table, pictures) for name, table in zip(FINDERS, found, strict=True)}


def slug(finder: str) -> str:
    """Name of a finder as part of a file's name."""
    return finder.replace(" ", "_")


def score_all(
    tables: Mapping[str, pd.DataFrame], truth: pd.DataFrame, names: Sequence[str], *, confidence: float
) -> pd.DataFrame:
    """`metrics.summary` and the counts at one confidence, of every finder and class."""
    parts = []
    for name, table in tables.items():
        found = metrics.summary(table, truth, names=names)
        counted = metrics.counts(table, truth, confidence=confidence)
        counted.index = ["mean" if label == "all" else names[label] for label in counted.index]
        joined = found.join(counted[["precision", "recall", "f1", "average_iou"]])
        parts.append(joined.rename_axis("class").reset_index().assign(finder=name))
    return pd.concat(parts, ignore_index=True)


def on_test(
    config: BoatDetectionConfig, done: Mapping[str, StepResult], network: keras.Model | None
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]:
    """Authors of the test pictures, and the scores on those that a mask keeps; without a network of `usual_boxes`."""
    pictures, truth = data.side_of(done["preprocess"], done["split"], "test")
    if network is None:
        boxes = data.side_of(done["preprocess"], done["split"], "train")[1]
        found = usual_boxes(boxes, pictures["image"].tolist(), seed=config.seed)
    else:
        found = build_finder(config, network.cfg, network).find([Path(path) for path in pictures["path"]])
    tables = in_pixels(found, pictures), in_pixels(truth, pictures)

    def score(kept: np.ndarray) -> dict[str, float]:
        some = (table[table["image"].isin(pictures["image"][kept])] for table in tables)
        mean = metrics.summary(*some).loc["mean"]
        return {name: float(mean[name]) for name in ("AP50 (Darknet)", "AP75", "AP50:95")}

    return pictures["author"].to_numpy(), score
