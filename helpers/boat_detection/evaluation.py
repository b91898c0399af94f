"""Watching a training and scoring its result beside two baselines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from helpers.boat_detection import detection, graph, metrics, network, postprocess, weights
from helpers.boat_detection.cfg import Cfg

FINDERS = ("usual boxes", "before training", "trained")
FINAL = "backup/network_final.weights"


def build_finder(config, cfg: Cfg, built) -> detection.Finder:
    """A network as a function from pictures to detections, with the config's input size and thresholds."""
    return detection.Finder(built, cfg, size=config.size, resize=config.resize, nms=config.nms)


def load_finder(config, cfg: Cfg, trained: Path) -> detection.Finder:
    """The network that step train left in the folder `trained`."""
    built = graph.build_from_cfg(cfg, momentum=config.batch_norm_momentum)
    weights.load_weights(built, trained / FINAL)
    return build_finder(config, cfg, built)


def pixels(boxes: pd.DataFrame, pictures: pd.DataFrame) -> pd.DataFrame:
    """Relative boxes in pixels of their pictures."""
    sizes = {row.image: (row.height, row.width) for row in pictures.itertuples()}
    return postprocess.in_pixels(boxes, sizes)


class Watch:
    """Called at each evaluation of a training: AP50 on some validation pictures.

    Args:
        built: the network in training.
        cfg: its .cfg.
        config: gives watch_images, and what `build_finder` needs.
        pictures, boxes: of the validation side.
    """

    def __init__(self, built, cfg: Cfg, config, pictures: pd.DataFrame, boxes: pd.DataFrame) -> None:
        self.pictures = pictures.head(config.watch_images)
        self.truth = pixels(boxes[boxes["image"].isin(self.pictures["image"])], self.pictures)
        self.finder = build_finder(config, cfg, built)

    def __call__(self) -> dict[str, float]:
        """`ap50` as Darknet computes it."""
        found = self.finder.find([Path(path) for path in self.pictures["path"]])
        return {"ap50": metrics.average_precision(pixels(found, self.pictures), self.truth)}


def detect_all(
    config, cfg: Cfg, trained: Path, downloads: Path, pictures: pd.DataFrame, train_boxes: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Detections in pixels of the three finders: boxes where they usually are, the untrained network, the trained one."""
    paths = [Path(path) for path in pictures["path"]]
    first = build_finder(config, cfg, network.build_network(config, cfg, downloads=downloads))
    found = (
        detection.usual_boxes(train_boxes, pictures["image"].tolist(), seed=config.seed),
        first.find(paths, progress=True),
        load_finder(config, cfg, trained).find(paths, progress=True),
    )
    return {name: pixels(table, pictures) for name, table in zip(FINDERS, found, strict=True)}


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
