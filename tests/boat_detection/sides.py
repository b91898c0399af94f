"""What `tests/test_sides.py` needs to know of boat_detection: a tiny data set, who reads, and which sides each phase may see."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers.boat_detection import data, metrics, runs, steps
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.metrics import matching
from helpers.workspace import Workspace

CONFIG = BoatDetectionConfig(
    source="local", local_folder="set by prepare", network="yolov3-tiny", width=0.02, size=32, anchors="kmeans",
    resize="stretch", optimizer="adam", burn_in=0, batch_size=4, subdivisions=1, iterations=12, evaluate_every=12,
    watch_images=3, multi_scale=False, allow_cpu=True,
)  # fmt: skip
PHASES = {
    "anchors": ("helpers.boat_detection.runs.choose_anchors", {"train"}),
    "training batches": ("helpers.boat_detection.batches.Batches.batch", {"train"}),
    "watch": ("helpers.boat_detection.runs.Watch.__call__", {"validation"}),
    "boxes where boats usually are": ("helpers.boat_detection.evaluation.scoring.usual_boxes", {"train"}),
    "detections": ("helpers.boat_detection.evaluation.scoring.detect_all", {"test"}),
    "scores": ("helpers.boat_detection.evaluation.scoring.score_all", {"test"}),
}


def prepare(folder: Path) -> BoatDetectionConfig:
    """Thirty pictures of one rectangle each, with Darknet's labels."""
    rng = np.random.default_rng(0)
    for number in range(30):
        image = rng.integers(0, 90, (32, 48, 3), np.uint8)
        width, height = rng.uniform(0.2, 0.6, 2)
        left, top = rng.uniform(0.0, 0.4, 2)
        corners = np.array([left * 48, top * 32, (left + width) * 48, (top + height) * 32]).astype(int).tolist()
        cv2.rectangle(image, corners[:2], corners[2:], (40, 60, 250), -1)
        cv2.imwrite(str(folder / f"boat_{number:02d}.jpg"), image)
        text_files.write_labels(
            folder / f"boat_{number:02d}.txt", [[0, left + width / 2, top + height / 2, width, height]]
        )
    return dataclasses.replace(CONFIG, local_folder=str(folder))


def side_of_item(config: BoatDetectionConfig, place: Workspace) -> dict[str, str]:
    """Picture -> side."""
    return steps.split.load(config, place).table("pictures").set_index("image")["split"].to_dict()


def spy(monkeypatch: pytest.MonkeyPatch, saw: Callable[[str], None]) -> None:
    """Pictures are seen where their files are read, boxes where they are counted on or compared with detections."""
    read_image, that_count, pair_boxes = data.read_image, data.that_count, matching.pair_boxes

    def see(*tables):
        for image in {image for table in tables for image in table["image"]}:
            saw(image)

    def reads(path):
        saw(Path(path).stem)
        return read_image(path)

    def counts(boxes):
        see(boxes)
        return that_count(boxes)

    def pairs(detections, ground_truth, **options):
        see(detections, ground_truth)
        return pair_boxes(detections, ground_truth, **options)

    monkeypatch.setattr(runs, "WORKERS", 1)  # the phase belongs to the thread that asks for a batch
    monkeypatch.setattr(data, "read_image", reads)
    monkeypatch.setattr(data, "that_count", counts)
    for module in (metrics, matching):
        monkeypatch.setattr(module, "pair_boxes", pairs)
