"""A trained network looking at pictures: tables of detections, and what they are compared with."""

import time
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from helpers import runtime
from helpers.boat_detection import data, graph, postprocess, resizing
from helpers.boat_detection.cfg import Cfg

BATCH = 32
CORNERS = ["x1", "y1", "x2", "y2"]
LEAST_SCORE = 0.005  # Darknet's, for measuring


class Finder:
    """Network, decoding and non-maximum suppression as one function from pictures to detections.

    Args:
        network: from `graph.build_from_cfg`.
        cfg: its .cfg.
        size: side of the input in pixels.
        resize: "letterbox" or "stretch".
        nms: overlap from which the weaker of two boxes goes.
    """

    def __init__(self, network: keras.Model, cfg: Cfg, *, size: int, resize: str = "letterbox", nms: float = 0.45):
        self.network, self.cfg, self.size, self.resize, self.nms = network, cfg, size, resize, nms

    def decode(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (B, N, 4) relative to the input, objectness (B, N) and classes (B, N, C) of inputs (B, size, size, 3)."""
        found = graph.decode(graph.heads(self.network, images), self.cfg, self.size)
        return tuple(np.asarray(keras.ops.convert_to_numpy(part)) for part in found)

    def find(self, paths: Sequence[Path], *, threshold: float = LEAST_SCORE, progress: bool = False) -> pd.DataFrame:
        """Detections of picture files: image (stem), class, score, x1, y1, x2, y2 relative to the picture, best first."""
        parts = []
        starts = range(0, len(paths), BATCH)
        for start in runtime.progress(starts, label="looking", unit="batch") if progress else starts:
            some = paths[start : start + BATCH]
            images, placements = data.read_inputs(some, self.size, resize=self.resize)
            parts.append(self._table([path.stem for path in some], images, placements, threshold))
        return postprocess.join_tables(parts)

    def look(self, frames: Sequence[np.ndarray], *, threshold: float = LEAST_SCORE) -> pd.DataFrame:
        """Detections of pictures in memory, (H, W, 3) uint8; `image` is their number."""
        found = [resizing.RESIZES[self.resize](frame, self.size) for frame in frames]
        images, placements = np.stack([image for image, _ in found]), [placement for _, placement in found]
        return self._table(range(len(frames)), images, placements, threshold)

    def _table(self, names, images, placements, threshold) -> pd.DataFrame:
        boxes, objectness, classes = self.decode(images)
        boxes = np.stack([placement.undo(part) for placement, part in zip(placements, boxes, strict=True)])
        table = postprocess.detections_table(
            names, boxes, objectness, classes, threshold=threshold, nms_threshold=self.nms
        )
        return table.assign(**{edge: table[edge].clip(0.0, 1.0) for edge in CORNERS})


def usual_boxes(train: pd.DataFrame, images: Sequence[str], *, count: int = 8, seed: int = 0) -> pd.DataFrame:
    """The baseline that looks at nothing: in every picture the boxes where training boxes usually are.

    Args:
        train: boxes of the training pictures, relative.
        images: names of the pictures to "detect" in.
        count: boxes per picture, the centres of k-means over the four corners.
        seed: of k-means.

    Returns:
        A table of detections; the score is the share of training boxes in the cluster.
    """
    corners = train.loc[~train["ignore"].astype(bool), CORNERS].to_numpy(float)
    found = KMeans(min(count, len(corners)), n_init=3, random_state=seed).fit(corners)
    share = np.bincount(found.labels_, minlength=len(found.cluster_centers_)) / len(corners)
    one = pd.DataFrame(found.cluster_centers_, columns=CORNERS).assign(score=share, **{"class": 0})
    return pd.concat([one.assign(image=image) for image in images], ignore_index=True)[postprocess.COLUMNS]


def seconds_per_picture(finder: Finder, paths: Sequence[Path]) -> float:
    """Time of `find` with its reading and suppression, per picture, after one warm-up."""
    finder.find(paths[:1])
    began = time.perf_counter()
    finder.find(paths)
    return (time.perf_counter() - began) / len(paths)
