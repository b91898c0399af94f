"""Train and score variants, generators and seeds of face_animation: the long trainings of the project's page.

Usage: python tests/benchmarks/face_animation_seeds.py [--config mini] [--variants fomm unet] [--generators skip paper]
    [--seeds 42 0 1] [--workspace DIR]
Groups, weights and batches follow the seed; the clips of the test stay the same. A training of mini takes two and a half minutes
on two cores. With a workspace that is kept, a killed training goes on, and one that is done is not done again.
"""

import argparse
import contextlib
import dataclasses
import io
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
from helpers.face_animation.config import VARIANTS, FaceAnimationConfig


def score(settings: FaceAnimationConfig, place: str) -> pd.DataFrame:
    """Scores of every drawer after one training."""
    with contextlib.redirect_stdout(io.StringIO()):
        for step in steps.STEPS:
            result = step(settings, place)
    return result.table("scores").set_index("drawer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="mini")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["fomm"])
    parser.add_argument("--generators", nargs="+", choices=["skip", "paper"], default=["skip"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[42, 0, 1])
    parser.add_argument("--workspace")
    options = parser.parse_args()
    settings = config.load(config.find("face_animation", options.config), FaceAnimationConfig)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for generator in options.generators:
            warped = settings.warped_weight if generator == "skip" else 0.0
            for variant, seed in ((variant, seed) for variant in options.variants for seed in options.seeds):
                began, changed = time.perf_counter(), {"generator": generator, "warped_weight": warped}
                changed |= {"variants": (variant,), "seed": seed}
                scores = score(dataclasses.replace(settings, **changed), options.workspace or scratch)
                rows.append({"generator": generator, "variant": variant, "seed": seed} | scores.loc[variant].to_dict())
                print(rows[-1], f"{time.perf_counter() - began:.0f} s", flush=True)
    print(scores.round(4).to_string(), "\n")  # of the last one: the copy of the source and the untrained network too
    found = pd.DataFrame(rows).drop(columns="seed").groupby(["generator", "variant"], sort=False)
    mean, spread = found.mean(), found.std()
    print((mean.map("{:.4f}".format) + " ± " + spread.map("{:.4f}".format)).to_string())


if __name__ == "__main__":
    main()
