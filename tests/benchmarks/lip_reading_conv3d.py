"""A training step of mini with 3-D layers computed as Keras does, and by 2-D layers with time folded into channels and batch.

Usage: python tests/benchmarks/lip_reading_conv3d.py [--model tiny] [--batch 16] [--frames 16] [--size 32] [--rounds 10]
Once as it is; with TF_ENABLE_ONEDNN_OPTS=0, which stands for builds without oneDNN; with ONEDNN_MAX_CPU_ISA=AVX2, which stands for
CPUs without AVX-512; with KERAS_BACKEND=jax. Both networks start from the same weights and take turns; the last column names the
one that `layers.fold_time` chooses here.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pandas as pd

from helpers.lip_reading import layers, model

CLASSES = 8


def make_network(options: argparse.Namespace, folded: bool) -> keras.Model:
    """A compiled network that was traced with time folded or not."""
    layers.fold_time = lambda: folded
    keras.utils.set_random_seed(0)
    small = {} if options.model == "tiny" else {"filters": 16, "units": 64}
    network = model.BUILDERS[options.model](CLASSES, size=options.size, frames=options.frames, **small)
    network.compile(keras.optimizers.Adam(1e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return network


def milliseconds(function, *arguments) -> float:
    began = time.perf_counter()
    np.asarray(function(*arguments))  # waits for the number
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("tiny", "conv3d_bigru"), default="tiny")
    for name, value in (("batch", 16), ("frames", 16), ("size", 32), ("rounds", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    clips = rng.random((options.batch, options.frames, options.size, options.size, 1), dtype="float32")
    labels = rng.integers(0, CLASSES, options.batch)

    chosen, rows, networks = layers.fold_time(), {}, {}
    for folded in (False, True):
        networks[folded] = make_network(options, folded)
        first = milliseconds(networks[folded].train_on_batch, clips, labels)
        networks[folded].predict_on_batch(clips)
        rows[folded] = {"first step s": first / 1000, "step ms": [], "read ms": []}
    for _ in range(options.rounds):
        for folded, network in networks.items():
            rows[folded]["step ms"].append(milliseconds(network.train_on_batch, clips, labels))
            rows[folded]["read ms"].append(milliseconds(network.predict_on_batch, clips))
    for folded, row in rows.items():
        row |= {name: statistics.median(row[name]) for name in ("step ms", "read ms")}
        row["chosen here"] = "yes" if folded == chosen else ""
    table = pd.DataFrame(rows.values(), index=["as Keras does", "time folded"])
    print(f"{vars(options)}; {keras.backend.backend()}, oneDNN {runtime.onednn()}, load {os.getloadavg()[0]:.1f}")
    print(table.to_string(float_format="{:.1f}".format))


if __name__ == "__main__":
    main()
