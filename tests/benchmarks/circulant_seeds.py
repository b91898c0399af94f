"""GAP of some networks over many seeds, on mini or on AudioSet's records; prints means, deviations and paired differences.

Usage: python tests/benchmarks/circulant_seeds.py [--networks dbof "dbof fc"] [--seeds 8] [--epochs 4] [--audioset FOLDER]
                                                  [--workspace FOLDER]
The folder holds AudioSet's `train*.tfrecord` and `validate*.tfrecord`. What is trained stays: a second call goes on.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import pandas as pd

from helpers import config, workspace
from helpers.circulant_video import experiments, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig

AUDIOSET = {
    **{"source": "local", "feature_names": ("audio_embedding",), "feature_sizes": (128,), "classes": 527},
    **{"max_frames": 10, "clusters": 1024, "hidden": 128, "bags": 2, "iterations": 5, "halves": False, "epochs": 5},
    **{"learning_rate": 0.003, "decay_examples": 6000, "watch_videos": 1000, "save_every": 5},
}


def measure(settings: CirculantVideoConfig, names: list[str], place: workspace.Workspace) -> pd.DataFrame:
    """GAP at the end of each training, a row for a seed and a column for a network; prints their sizes."""
    videos, gaps = steps.open_sides(settings, place), {}
    for name in names:
        network = runs.compile_network(settings, name)
        for seed in settings.seeds:
            folder = place.root / "seeds" / f"{settings.source}-{settings.epochs}" / experiments.run_folder(name, seed)
            log = runs.train_one(settings, name, seed, videos, folder, network=network)
            gaps.setdefault(name, {})[seed] = log["gap"].iloc[-1]
        print(f"{name}: {network.count_params()} weights", flush=True)
    return pd.DataFrame(gaps)


def main() -> None:
    """Train, then print the table and what each network has more than the next."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(experiments.EXPERIMENTS["start"]))
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--audioset", type=Path)
    parser.add_argument("--workspace", type=Path, default=Path("workspace"))
    options = parser.parse_args()
    settings = config.load(config.find("circulant_video", "mini"), CirculantVideoConfig)
    if options.audioset:
        settings = replace(settings, local_folder=str(options.audioset), **AUDIOSET)
    settings = replace(settings, seeds=tuple(range(options.seeds)), epochs=options.epochs or settings.epochs)
    place = workspace.as_workspace(options.workspace)
    workspace.ensure(steps.STEPS, "split", settings, place)
    gaps = measure(settings, options.networks, place)
    print(pd.DataFrame({"mean": gaps.mean(), "std": gaps.std()}).round(4))
    for first, second in zip(options.networks, options.networks[1:], strict=False):
        difference = gaps[first] - gaps[second]
        print(f"{first} - {second}: {difference.mean():.4f} ± {difference.sem():.4f} (standard error)")


if __name__ == "__main__":
    main()
