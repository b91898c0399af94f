"""A network looking at pictures: tables of detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import runtime
from helpers.boat_detection import data
from helpers.boat_detection.augment import resizing
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import postprocess
from helpers.boat_detection.formats.darknet import builder, cfg_files, keras_weights
from helpers.boat_detection.formats.darknet.cfg_files import Cfg
from helpers.boat_detection.metrics.overlap import CORNERS

BATCH = 32
LEAST_SCORE = 0.005  # Darknet's, for measuring
NMS = 0.45  # fixed: Darknet's, of a training's AP and of COCO's networks; `nms` of the config is of step evaluate alone
CFG, FINAL = "network.cfg", "backup/network_final.weights"  # in the folder of step train


@dataclass(eq=False)
class Finder:
    """Network, decoding and non-maximum suppression as one function from pictures to detections."""

    network: keras.Model  # of `builder.build_from_cfg`
    cfg: Cfg
    size: int | tuple[int, int]  # of the input in pixels, (height, width), or the side of a square
    resize: str  # "letterbox" or "stretch"
    nms: float  # overlap from which the weaker of two boxes goes

    def propose(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (B, N, 4) relative to the input, objectness (B, N) and classes (B, N, C) of inputs (B, height, width, 3)."""
        found = builder.decode(builder.heads(self.network, images), self.cfg, self.size)
        return tuple(np.asarray(keras.ops.convert_to_numpy(part)) for part in found)

    def find(self, paths: Sequence[Path], *, threshold: float = LEAST_SCORE, progress: bool = False) -> pd.DataFrame:
        """Detections of picture files: image (stem), class, score, x1, y1, x2, y2 relative to the picture, best first."""
        parts = []
        starts = range(0, len(paths), BATCH)
        for start in runtime.progress(starts, label="looking", unit="batch") if progress else starts:
            some = paths[start : start + BATCH]
            frames = [data.read_image(path) for path in some]
            parts.append(self.look(frames, names=[path.stem for path in some], threshold=threshold))
        return postprocess.join_tables(parts)

    def look(
        self, frames: Sequence[np.ndarray], *, names: Sequence | None = None, threshold: float = LEAST_SCORE
    ) -> pd.DataFrame:
        """Detections of pictures in memory, (H, W, 3) uint8; `image` is their name, or their number."""
        found = [resizing.RESIZES[self.resize](frame, self.size) for frame in frames]
        boxes, objectness, classes = self.propose(np.stack([image for image, _ in found]))
        boxes = np.stack([placement.undo(part) for (_, placement), part in zip(found, boxes, strict=True)])
        names = range(len(frames)) if names is None else names
        options = {"threshold": threshold, "nms_threshold": self.nms}
        table = postprocess.detections_table(names, boxes, objectness, classes, **options)
        return table.assign(**{edge: table[edge].clip(0.0, 1.0) for edge in CORNERS})


def build_finder(config: BoatDetectionConfig, cfg: Cfg, network: keras.Model) -> Finder:
    """A network as a function from pictures to detections, with the config's input size and threshold."""
    return Finder(network, cfg, size=config.input_size, resize=config.resize, nms=config.nms)


def load_finder(config: BoatDetectionConfig, trained: Path) -> Finder:
    """The network that step train left in the folder `trained`."""
    cfg = cfg_files.read_cfg(trained / CFG)
    network = builder.build_from_cfg(cfg)
    keras_weights.load_weights(network, trained / FINAL)
    return build_finder(config, cfg, network)
