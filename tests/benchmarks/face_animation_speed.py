"""How fast the first-order motion model animates, beside the same operations frame by frame; --train times training steps.

Usage: python tests/benchmarks/face_animation_speed.py [--size 256] [--batch 4] [--rounds 7] [--xla] [--tiny] [--train 1 4]
On JAX, and so on a GPU: KERAS_BACKEND=jax python tests/benchmarks/face_animation_speed.py --batch 16
All sides have the same networks of full width (--tiny: 64 pixels, for a try) with random weights, get the same frames and take
turns, so load that comes and goes meets all. "frame by frame" runs the whole detector and generator for every frame, compiled
by `tf.function` or `jax.jit` alone. The original in PyTorch took 487 ms a frame on two cores (2.05 frames a second).
--train: whole training steps, VGG19 (random weights) and equivariance included, without and with the discriminator, in a process of
its own for each batch size, whose peak memory is told.
"""

import argparse
import functools
import os
import resource
import statistics
import subprocess
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
from keras import ops

from helpers.face_animation import animate, losses, model
from helpers.face_animation.animate import transfer
from helpers.face_animation.model import animation

KEYPOINTS = {"num_keypoints": 5, "scale": 0.5}
DETECTOR = {**KEYPOINTS, "num_blocks": 3, "width": 8, "max_width": 64}
GENERATOR = {
    **KEYPOINTS, "width": 16, "max_width": 64, "num_residuals": 2,
    "motion_width": 16, "motion_max_width": 64, "motion_blocks": 3,
}  # fmt: skip
POINTS = ("value", "jacobian")


def build(options):
    keras.utils.set_random_seed(0)
    detector = model.build_keypoint_detector(size=options.size, **(DETECTOR if options.tiny else {}))
    return detector, model.build_generator(options.size, **(GENERATOR if options.tiny else {}))


class Whole:
    """Detector and generator for every frame, nothing kept but the keypoints of the source and of the first frame."""

    def __init__(self, detector, generator, *, jit_compile=False):
        self.detector, self.generator = (keras.Model(net.input, net.output) for net in (detector, generator))
        for network in (self.detector, self.generator):
            network.compile(jit_compile=jit_compile)

    def points(self, frame):
        return self.detector.predict_on_batch(ops.convert_to_tensor(frame[None] / np.float32(255)))

    def animate(self, source, driving):
        still, initial = self.points(source), self.points(driving[0])
        return np.stack([self.frame(source, still, initial, frame) for frame in driving])

    def frame(self, source, still, initial, frame):
        moved = transfer.relative_motion(still, self.points(frame), initial)
        inputs = {"source": source[None] / np.float32(255)}
        inputs |= {f"kp_source_{name}": still[name] for name in POINTS}
        inputs |= {f"kp_driving_{name}": moved[name] for name in POINTS}
        inputs = {name: ops.convert_to_tensor(part) for name, part in inputs.items()}
        return np.round(self.generator.predict_on_batch(inputs)["prediction"][0] * 255).astype(np.uint8)


def measure_speed(options):
    """Medians of rounds that take turns, after one round each that compiles."""
    networks = build(options)
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (options.size, options.size, 3), dtype=np.uint8)
    driving = rng.integers(0, 256, (2 * options.batch, options.size, options.size, 3), dtype=np.uint8)
    sides = {
        "Animator": animate.Animator(*networks, batch_size=options.batch),
        "frame by frame": Whole(*networks),
    }
    if options.xla:
        sides["Animator, XLA"] = animate.Animator(*networks, batch_size=options.batch, jit_compile=True)
    first, taken, found = {}, {name: [] for name in sides}, {}
    for name, side in sides.items():
        began = time.perf_counter()
        found[name] = side.animate(source, driving).astype(int)
        first[name] = time.perf_counter() - began
    for _ in range(options.rounds):
        for name, side in sides.items():
            began, used = time.perf_counter(), time.process_time()
            side.animate(source, driving)
            taken[name].append((time.perf_counter() - began, time.process_time() - used))
    report(options, driving, first, taken, found)


def report(options, driving, first, taken, found):
    print(
        f"{options.size} x {options.size}, batch {options.batch}, clips of {len(driving)} frames, {options.rounds} rounds, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {keras.backend.backend()}, {runtime.devices()[0]['name']}"
    )
    frames = np.array([[1000 / len(driving)]])
    rows = []
    for name, times in taken.items():
        wall, used = (np.array(times) * frames).T
        difference = np.abs(found[name] - found["frame by frame"]).max()
        rows.append((name, first[name], statistics.median(wall), wall.min(), statistics.median(used), difference))
    names = ["", "first clip s", "ms a frame", "fastest", "CPU ms a frame", "largest difference"]
    print(pd.DataFrame(rows, columns=names).to_string(index=False, float_format="{:.3g}".format))
    for name in taken.keys() - {"frame by frame"}:
        pairs = zip(taken["frame by frame"], taken[name], strict=True)
        wall, used = zip(*[(whole[0] / ours[0], whole[1] / ours[1]) for whole, ours in pairs], strict=True)
        print(f"frame by frame / {name}: {statistics.median(wall):.2f}, CPU time {statistics.median(used):.2f}")


def time_training(options, batch):
    """One batch size in this process: seconds of a step, and the process's peak memory."""
    kinds = {
        "no discriminator": None,
        "with discriminator": model.build_discriminator(options.size, num_keypoints=5 if options.tiny else 10),
    }
    rng = np.random.default_rng(0)
    frames = {who: rng.random((batch, options.size, options.size, 3), dtype="float32") for who in ("source", "driving")}
    for kind, discriminator in kinds.items():
        compare = functools.partial(losses.perceptual, losses.build_vgg19(None, blocks=4 if options.tiny else 5))
        whole = animation.AnimationModel(*build(options), discriminator, compare=compare)
        whole.compile(keras.optimizers.Adam(2e-4, beta_1=0.5))
        taken = []
        for _ in range(options.rounds + 1):
            began = time.perf_counter()
            whole.train_on_batch(frames, np.zeros(batch))
            taken.append(time.perf_counter() - began)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"training, batch {batch}, {kind}: first step {taken[0]:.1f} s, then {statistics.median(taken[1:]):.3f} s a step, "
            f"{statistics.median(taken[1:]) / batch:.3f} s a pair, peak so far {peak:.2f} GiB, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )


def main() -> None:
    """Measure what is asked for, and print it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, value in (("size", 256), ("batch", 4), ("rounds", 7)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--tiny", action="store_true", help="networks of 64 pixels, to try this script")
    parser.add_argument(
        "--xla", action="store_true", help="the Animator under XLA too (compiling takes up to a minute)"
    )
    parser.add_argument("--train", type=int, nargs="+", metavar="BATCH", help="time training steps instead")
    parser.add_argument("--train-here", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.size = 64 if options.tiny else options.size
    if options.train_here:
        time_training(options, options.train_here)
    elif options.train:
        shared = ["--size", str(options.size), "--rounds", str(options.rounds), *(["--tiny"] if options.tiny else [])]
        for batch in options.train:
            subprocess.run([sys.executable, __file__, *shared, "--train-here", str(batch)], check=True)
    else:
        measure_speed(options)


if __name__ == "__main__":
    main()
