"""Train and score mini (or another config) of face_animation with several seeds: mean and spread for the results table.

Usage: python tests/benchmarks/face_animation_seeds.py [--config mini] [--seeds 0 1 2] [--workspace DIR]
Groups, weights and batches follow the seed; the clips of the test stay the same.
mini takes about three minutes a seed on two cores.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import config, runtime

runtime.quiet_start()

import pandas as pd

from helpers.face_animation import steps
from helpers.face_animation.config import FaceAnimationConfig


def score(settings: FaceAnimationConfig, place: str) -> pd.DataFrame:
    """Scores of every drawer for one seed."""
    with contextlib.redirect_stdout(io.StringIO()):
        for step in steps.STEPS:
            result = step(settings, place)
    return result.table("scores").set_index("drawer")


def compare(l1: pd.DataFrame, variants: tuple[str, ...]) -> pd.DataFrame:
    """Differences of L1 between variants, seed by seed: one row a pair."""
    pairs = itertools.combinations(variants, 2)
    return pd.DataFrame({f"{one} - {other}": l1.loc[one] - l1.loc[other] for one, other in pairs}).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workspace")
    options = parser.parse_args()
    settings = config.load(config.find("face_animation", options.config), FaceAnimationConfig)
    tables = {}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            began = time.perf_counter()
            tables[f"seed {seed}"] = score(dataclasses.replace(settings, seed=seed), options.workspace or scratch)
            print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    together = pd.concat(tables, names=["seed"])
    l1 = together["l1"].unstack("seed").loc[tables[f"seed {options.seeds[0]}"].index]
    print(l1.round(4).to_string(), "\n")
    print(compare(l1, settings.variants).round(4).to_string(), "\n")
    mean, spread = (together.groupby(level="drawer", sort=False).agg(how) for how in ("mean", "std"))
    print((mean.map("{:.4f}".format) + " ± " + spread.map("{:.4f}".format)).to_string())


if __name__ == "__main__":
    main()
