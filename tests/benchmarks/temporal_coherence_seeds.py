"""What is due to time, to augmentation and to the input: every training of README's table with several seeds, mean and spread.

Run by hand:  python tests/benchmarks/temporal_coherence_seeds.py [--seeds 0 1 2] [--inputs frames differences]
              [--trainings time ...] [--workspace DIR]; a training that is done is not done again.
The clips and the split stay the same (split_by official); weights, batches and k-means follow the seed.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import time
from pathlib import Path

import pandas as pd

from helpers import config, runtime, workspace

runtime.quiet_start()

from helpers.temporal_coherence import evaluation, metrics, runs, steps
from helpers.temporal_coherence.augment import CHANGES
from helpers.temporal_coherence.batches import see
from helpers.temporal_coherence.config import INPUTS, TemporalCoherenceConfig

SCORES = ["linear_probe", "recall@1", "share_of_entropy", "pair_auc"]
TRAININGS = {
    "raw pixels": None,
    "random start": None,
    "same twice": {"positives": "same", "augment": ()},
    "augmentation": {"positives": "same", "augment": CHANGES},
    "time": {"positives": "clip", "augment": ()},
    "time and augmentation": {"positives": "clip", "augment": CHANGES},
    "time, mirrored": {"positives": "clip", "augment": ("mirror",)},
    "other clip of the group, mirrored": {"positives": "group", "augment": ("mirror",)},
    "contrastive": {"loss": "contrastive"},
    "labels and augmentation": {"loss": "labels", "augment": CHANGES},
}


def score(name: str, settings: TemporalCoherenceConfig, place: Path) -> dict[str, float]:
    """The scores of one training, or of one set of features without any."""
    one = dataclasses.replace(settings, **(TRAININGS[name] or {}))
    with contextlib.redirect_stdout(io.StringIO()):
        done = workspace.ensure(steps.STEPS, "train" if TRAININGS[name] else "split", one, place)
        rows = see(one.inputs, done["split"].table("pairs"))
        frames = steps.frames_of(one, place, rows)
        rows = rows[rows["split"].isin(("train", "test"))].reset_index(drop=True)
        if name == "raw pixels":
            features = evaluation.raw_pixels(frames, rows["path_query"].tolist())
        else:
            trunk = runs.load_trunk(one, done.get("train"), one.loss)
            features = runs.embed(trunk, frames, rows["path_query"].tolist(), normalize=one.normalize)
    test = (rows["split"] == "test").to_numpy()
    pair_auc = evaluation.query_pair_auc(rows[test], features[test], seed=one.seed)
    k = evaluation.cluster_count(one.clusters, rows)
    return {"pair_auc": pair_auc} | metrics.score_features(rows, features, k=k, seeds=one.cluster_seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--inputs", nargs="+", default=INPUTS, choices=INPUTS)
    parser.add_argument("--trainings", nargs="+", default=list(TRAININGS), choices=list(TRAININGS))
    parser.add_argument("--workspace", type=Path, default=runtime.repo_root() / "workspace")
    options = parser.parse_args()
    settings = config.load(config.find("temporal_coherence", options.config), TemporalCoherenceConfig)
    settings = dataclasses.replace(settings, compare=())
    rows = {}
    for seed, inputs, name in itertools.product(options.seeds, options.inputs, options.trainings):
        began = time.perf_counter()
        one = dataclasses.replace(settings, seed=seed, inputs=inputs)
        rows[inputs, name, seed] = found = score(name, one, workspace.Workspace(options.workspace))
        numbers = " ".join(f"{column} {found[column]:.3f}" for column in SCORES)
        print(f"{inputs}, {name}, seed {seed}: {numbers} ({time.perf_counter() - began:.0f} s)", flush=True)
    together = pd.DataFrame(rows).T[SCORES].groupby(level=[0, 1], sort=False)
    mean, spread = together.mean(), together.std().fillna(0)
    print((mean.map("{:.2f}".format) + " ± " + spread.map("{:.2f}".format)).to_string())


if __name__ == "__main__":
    main()
