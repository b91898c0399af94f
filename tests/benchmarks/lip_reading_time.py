"""Training with time folded into the batch beside Keras's `TimeDistributed`; prints ratios measured side by side in one run.

Usage: python tests/benchmarks/lip_reading_time.py [--filters 16] [--size 48] [--frames 29] [--batch 4] [--rounds 8]
On JAX, and so on a GPU: KERAS_BACKEND=jax python tests/benchmarks/lip_reading_time.py --filters 64 --size 112 --batch 16
Both train OpenAV's network: the same per-frame ResNet-18 (of 64 filters in the original, here of a quarter by default), the same
LSTMs, the same weights at the start. The first step includes what building its graph takes; the steady ones take turns.
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

from helpers.lip_reading import model
from helpers.lip_reading.layers import PerFrame

CLASSES = 26


def unfolded(net):
    """The same network with `TimeDistributed` in place of `PerFrame`."""

    def swap(layer):
        if isinstance(layer, PerFrame):
            return keras.layers.TimeDistributed(keras.models.clone_model(layer.layer), name=layer.name)
        return type(layer).from_config(layer.get_config())

    other = keras.models.clone_model(net, clone_function=swap)
    other.set_weights(net.get_weights())
    return other


def make_networks(options):
    folded = model.build_openav(
        CLASSES, size=options.size, frames=options.frames, filters=options.filters, units=8 * options.filters
    )
    networks = {"folded": folded, "TimeDistributed": unfolded(folded)}
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for net in networks.values():
        net.compile(keras.optimizers.Adam(1e-4), loss)
    return networks


def agree(networks, clips):
    """An error unless both give one output."""
    one, other = (np.asarray(net(clips[:1])) for net in networks.values())
    np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)


def seconds(net, clips, labels):
    began = time.perf_counter()
    float(net.train_on_batch(clips, labels))  # waits for the number
    return time.perf_counter() - began


def moved(net):
    """Largest distance of a moving average of BatchNorm from its start."""
    encoder = net.get_layer("per_frame").layer
    norms = [layer for layer in encoder.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return max(float(np.abs(np.asarray(norm.moving_mean)).max()) for norm in norms)


def main() -> None:
    """Build both, time their first step, then let them take turns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("filters", 16), ("size", 48), ("frames", 29), ("batch", 4), ("rounds", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    clips = rng.random((options.batch, options.frames, options.size, options.size, 1), dtype="float32")
    labels = rng.integers(0, CLASSES, options.batch)

    networks = make_networks(options)
    agree(networks, clips)
    first = {kind: seconds(net, clips, labels) for kind, net in networks.items()}
    averages = {kind: moved(net) for kind, net in networks.items()}
    steady = {kind: [] for kind in networks}
    for _ in range(options.rounds):
        for kind, net in networks.items():
            steady[kind].append(seconds(net, clips, labels))

    rows = []
    for kind in networks:
        step = statistics.median(steady[kind])
        row = {"time": kind, "first step s": first[kind], "step s": step, "clips per s": options.batch / step}
        rows.append(row | {"BatchNorm moved in 1 step": averages[kind]})
    print(f"{vars(options)}, {networks['folded'].count_params()} parameters, load {os.getloadavg()[0]:.1f} on")
    print(f"{os.cpu_count()} cores, {keras.backend.backend()}, median of {options.rounds} rounds")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format))
    ratios = [other / ours for ours, other in zip(steady["folded"], steady["TimeDistributed"], strict=True)]
    print(f"TimeDistributed / folded: first step {first['TimeDistributed'] / first['folded']:.1f}", end="")
    print(f", steady step {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
