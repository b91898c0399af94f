"""Cross-validation on a folder of numbered photos with Darknet labels: folds of neighbours beside random splits.

Usage: python tests/benchmarks/boat_folds.py FOLDER [--folds 5] [--ways run random] [--network yolov3-tiny] [--width 0.25]
       [--size 416] [--iterations 500] [--start none] [--rate 2e-3] [--workspace DIR]
Prints AP50 of every fold as one class and by class (of those with 20 boxes or more), and what stands on two sides. With
--workspace a killed run goes on where it was, and the logs and pictures' detections stay.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import pandas as pd

from helpers.boat_detection import metrics, steps
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import scoring

LEAST_BOXES = 20


def main() -> None:
    options = read_options()
    with tempfile.TemporaryDirectory() as scratch:
        rows = [
            run(options, way, fold, options.workspace or scratch)
            for way in options.ways
            for fold in range(options.folds)
        ]
    table = pd.DataFrame(rows).set_index(["way", "fold"])
    print(table.round(3).to_string())
    print(table.groupby("way").agg(["mean", "std"]).round(3).T.to_string())


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--ways", nargs="+", default=["run", "random"], choices=["run", "random"])
    parser.add_argument("--network", default="yolov3-tiny")
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--size", type=int, default=416)
    parser.add_argument("--iterations", type=int, default=500)
    parser.add_argument(
        "--start", default="none", help="none, backbone or coco (both need --width 1), or a .weights file"
    )
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--workspace")
    return parser.parse_args()


def run(options: argparse.Namespace, way: str, fold: int, workspace: str) -> dict:
    """One training; the seed changes with the fold, which is what changes a random split."""
    config = BoatDetectionConfig(
        source="local", local_folder=options.folder, merge_classes=False, split_by=way, folds=options.folds,
        fold=fold if way == "run" else 0, seed=fold, network=options.network, width=options.width, size=options.size,
        anchors="kmeans", resize="letterbox", optimizer="adam", learning_rate=options.rate, burn_in=0, schedule="cosine",
        batch_size=8, subdivisions=1, iterations=options.iterations, evaluate_every=options.iterations // 5,
        start=options.start, batch_norm_momentum=0.9, jitter=0.1, multi_scale=False, allow_cpu=True, save_every=5,
    )  # fmt: skip
    done = {step.name: step(config, workspace) for step in steps.STEPS}
    truth = done["evaluate"].table("truth")
    row = {"way": way, "fold": fold, "pictures": done["evaluate"]["pictures"], "boats": done["evaluate"]["boats"]}
    row |= {f"test: {kind}": count for kind, count in done["split"]["leaks"].items()}
    for finder in scoring.FINDERS:
        found = done["evaluate"].table(scoring.slug(finder))
        row[f"AP50 {finder}"] = metrics.average_precision(found.assign(**{"class": 0}), truth.assign(**{"class": 0}))
    each = metrics.average_precision_by_class(done["evaluate"].table("trained"), truth)
    everywhere = done["preprocess"].table("boxes")["class"].value_counts()
    names = done["preprocess"]["names"]
    row |= {names[number]: each.get(number) for number in sorted(everywhere[everywhere >= LEAST_BOXES].index)}
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()}, flush=True)
    return row


if __name__ == "__main__":
    main()
