"""Train and score mini (or another config) with several seeds: the network, its controls and the baselines, for the results table.

Run by hand:  python tests/benchmarks/lip_reading_seeds.py [--config mini] [--seeds 0 1 2] [--workspace DIR]
The clips stay the same; the speakers of each side, the weights and the batches follow the seed.
"""

import argparse
import contextlib
import dataclasses
import io
import time
from pathlib import Path

import pandas as pd

from helpers import config, runtime

runtime.quiet_start()

from helpers.lip_reading import steps
from helpers.lip_reading.config import LipReadingConfig


def score(settings: LipReadingConfig, place: Path) -> pd.Series:
    """Accuracy of every reader for one seed."""
    with contextlib.redirect_stdout(io.StringIO()):
        for step in steps.STEPS:
            result = step(settings, place)
    return result.table("scores").set_index("reader")["accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--workspace", type=Path, default=runtime.repo_root() / "workspace")
    options = parser.parse_args()
    settings = config.load(config.find("lip_reading", options.config), LipReadingConfig)
    columns = {}
    for seed in options.seeds:
        began = time.perf_counter()
        columns[f"seed {seed}"] = score(dataclasses.replace(settings, seed=seed), options.workspace)
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    table = pd.DataFrame(columns)
    print(table.assign(mean=table.mean(axis=1), std=table.std(axis=1)).round(3).to_string())


if __name__ == "__main__":
    main()
