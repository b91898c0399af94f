"""Train and score mini (or another config) with several seeds: mean and spread of every score, for the results table.

Run by hand:  python tests/benchmarks/temporal_coherence_seeds.py [--config mini] [--seeds 0 1 2 3 4] [--workspace DIR]
The split and the clips stay the same (split_by official); weights, batches, k-means and fine-tuning follow the seed.
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

from helpers.temporal_coherence import steps
from helpers.temporal_coherence.config import TemporalCoherenceConfig

SCORES = ["share_of_entropy", "nmi", "pair_auc", "recall@1", "recall@5", "linear_probe"]


def score(settings: TemporalCoherenceConfig, place: Path) -> pd.DataFrame:
    """One row per set of features for one seed."""
    with contextlib.redirect_stdout(io.StringIO()):
        for step in steps.STEPS:
            result = step(settings, place)
    table = result.table("scores").set_index("features")[SCORES]
    finetuning = result.table("finetuning")
    few = finetuning[finetuning["share"] == finetuning["share"].min()].set_index("start")["clip_accuracy"]
    return table.assign(fine_tuned=few)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--workspace", type=Path, default=runtime.repo_root() / "workspace")
    options = parser.parse_args()
    settings = config.load(config.find("temporal_coherence", options.config), TemporalCoherenceConfig)
    tables = {}
    for seed in options.seeds:
        began = time.perf_counter()
        tables[seed] = score(dataclasses.replace(settings, seed=seed), options.workspace)
        print(f"seed {seed}: {time.perf_counter() - began:.0f} s", flush=True)
    together = pd.concat(tables)
    mean, spread = (together.groupby(level=1, sort=False).agg(how) for how in ("mean", "std"))
    print((mean.map("{:.2f}".format) + " ± " + spread.map("{:.2f}".format)).replace("nan ± nan", "").to_string())


if __name__ == "__main__":
    main()
