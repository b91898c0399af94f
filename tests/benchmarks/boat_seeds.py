"""Train and score mini (or another config) of boat_detection with several seeds: mean and spread for the results table.

Usage: python tests/benchmarks/boat_seeds.py [--config mini] [--seeds 0 1 2] [--workspace DIR]
Weights, batches and anchors follow the seed; the split follows it too where it is random.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import config, runtime

runtime.quiet_start()

import pandas as pd

from helpers.boat_detection import steps
from helpers.boat_detection.config import BoatDetectionConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workspace")
    options = parser.parse_args()
    settings = config.load(config.find("boat_detection", options.config), BoatDetectionConfig)
    tables = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            for step in steps.STEPS:
                result = step(dataclasses.replace(settings, seed=seed), options.workspace or scratch)
            tables.append(result.table("scores").query("`class` == 'mean'").set_index("finder").drop(columns="class"))
    together = pd.concat(tables)
    mean, spread = (together.groupby(level=0, sort=False).agg(how) for how in ("mean", "std"))
    print((mean.map("{:.3f}".format) + " ± " + spread.map("{:.3f}".format)).T.to_string())


if __name__ == "__main__":
    main()
