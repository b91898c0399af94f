"""How fast circulant layers are, and how much memory they need, beside dense ones; prints ratios measured side by side.

Usage: python tests/benchmarks/circulant_layers.py [--parts speed growth memory] [--rounds 15] [--rows 80]
On JAX, and so on a GPU: KERAS_BACKEND=jax python tests/benchmarks/circulant_layers.py
A step is forward and backward with the gradients of input and weights, compiled (TensorFlow: `tf.function` without XLA). A dense
kernel of more than 512 MB is measured on fewer columns and its time scaled up.
"""

import argparse
import os
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

from helpers.circulant_video import circulant

JAX = keras.backend.backend() == "jax"
CASES = [(1024, 1024), (8192, 512), (8192, 8192), (16384, 16384)]  # inputs n, outputs m
DBOF = (1024, 8192)  # the projection of frames: 8 blocks, 15 frames a video
LARGEST_KERNEL = 2**27  # values


def transforms(n):
    """Complex real-FFT pair and roll of the backend."""
    if JAX:
        from jax import numpy as jnp

        return jnp.fft.rfft, lambda x: jnp.fft.irfft(x, n), lambda x: jnp.roll(x, 1, -1)
    import tensorflow as tf

    return tf.signal.rfft, lambda x: tf.signal.irfft(x, [n]), lambda x: tf.roll(x, 1, -1)


def dense(x, kernel):
    return ops.matmul(x, kernel)


def ours(x, c, d, *, units):
    return circulant.diagonal_circulant(x, c, d, units=units)


def original(x, c, d, *, units):
    """The form of the original code: block by block, reversed c, product of spectra, roll by one; automatic gradient."""
    blocks, _, n = c.shape
    rfft, irfft, roll = transforms(n)
    columns = [roll(irfft(rfft(x * d[b, 0]) * rfft(ops.flip(c[b, 0], axis=-1)))) for b in range(blocks)]
    return ops.concatenate(columns, axis=-1)[..., :units]


def pairs(x, c, d, *, units):
    """`keras.ops` alone, whose spectra are pairs of real tensors; automatic gradient."""
    blocks, _, n = c.shape
    (xr, xi), (cr, ci) = ops.rfft(ops.expand_dims(x, -2) * d[:, 0]), ops.rfft(c[:, 0])
    y = ops.irfft((xr * cr + xi * ci, xi * cr - xr * ci), fft_length=n)
    return ops.reshape(y, (-1, blocks * n))[..., :units]


def compiled(function, **options):
    """(arguments, output gradient) -> (output, gradients of all arguments)."""
    if JAX:
        import jax

        def run(arguments, slope):
            output, back = jax.vjp(lambda *values: function(*values, **options), *arguments)
            return output, back(slope)

        return jax.jit(run)
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # it warns of a new trace per case

    @tf.function
    def run(arguments, slope):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            output = function(*arguments, **options)
        return output, tape.gradient(output, arguments, output_gradients=slope)

    return run


def random(*shape):
    """A tensor on the device."""
    return ops.convert_to_tensor(np.random.default_rng(0).standard_normal(shape, "float32"))


def make_steps(n, m, rows, kinds):
    """{kind: (step, arguments, slope, factor that its time counts)}."""
    x, shape = random(rows, n), (-(-m // n), 1, n)
    steps = {}
    for kind in kinds:
        columns = min(m, LARGEST_KERNEL // n) if kind == "dense" else m
        weights = (random(n, columns),) if kind == "dense" else (random(*shape), random(*shape))
        options = {} if kind == "dense" else {"units": m}
        steps[kind] = compiled(KINDS[kind], **options), (x, *weights), random(rows, columns), m / columns
    return steps


KINDS = {"dense": dense, "original": original, "keras.ops": pairs, "ours": ours}


def wait_for(result):
    """Until the numbers are there, on a GPU too."""
    for value in result[1]:
        value.block_until_ready() if JAX else value.numpy()


def seconds(step, arguments, slope, factor):
    began = time.perf_counter()
    wait_for(step(arguments, slope))
    return factor * (time.perf_counter() - began)


def agree(steps, m):
    """An error unless all circulant forms give one output and one set of gradients."""
    results = {kind: step(arguments, slope) for kind, (step, arguments, slope, _) in steps.items() if kind != "dense"}
    output, slopes = results["ours"]
    for other_output, other_slopes in results.values():
        for one, other in zip([output, *slopes], [other_output, *other_slopes], strict=True):
            one, other = np.asarray(one), np.asarray(other)
            np.testing.assert_allclose(other, one, atol=2e-4 * np.abs(one).max())


def measure(n, m, rows, rounds, kinds=tuple(KINDS)):
    """Times of all kinds in turn, round by round: load that comes and goes meets all of them."""
    steps = make_steps(n, m, rows, kinds)
    if "original" in kinds:
        agree(steps, m)
    times = {kind: [] for kind in kinds}
    for kind in kinds:
        seconds(*steps[kind])
    for _ in range(rounds):
        for kind in kinds:
            times[kind].append(seconds(*steps[kind]))
    return times


def ratio(slow, fast):
    """Median over the rounds."""
    return statistics.median(a / b for a, b in zip(slow, fast, strict=True))


def load():
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {keras.backend.backend()}"


def show(title, rows):
    print(f"\n{title}  ({load()})")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3g}".format), flush=True)


def measure_speed(rows, rounds):
    """Part speed: dense and original against ours at the published sizes."""
    table = []
    for n, m in [*CASES, DBOF]:
        count = 15 * rows if (n, m) == DBOF else rows
        times = measure(n, m, count, rounds)
        row = {"rows": count, "inputs": n, "outputs": m}
        row |= {f"{kind} ms": 1000 * statistics.median(taken) for kind, taken in times.items()}
        row |= {f"{kind}/ours": ratio(taken, times["ours"]) for kind, taken in times.items() if kind != "ours"}
        table.append(row)
    show(f"speed: forward and backward, median of {rounds} rounds", table)


def measure_growth(rows, rounds):
    """Part growth: square layers of doubling size, with the exponent of n over the last doublings."""
    table = []
    for n in (512, 1024, 2048, 4096, 8192, 16384, 32768):
        times = measure(n, n, rows, rounds, ("dense", "ours"))
        row = {"n": n} | {f"{kind} ms": 1000 * statistics.median(taken) for kind, taken in times.items()}
        table.append(row | {"ratio": ratio(times["dense"], times["ours"]), "values": n * n, "ours": 2 * n})
    show("growth with n, outputs = inputs", table)
    for kind in ("dense", "ours"):
        exponent = np.log2(table[-2][f"{kind} ms"] / table[2][f"{kind} ms"]) / 3
        print(f"{kind}: time grows as n^{exponent:.2f} from 2048 to 16384")


def highest():
    """Highest memory use of this process so far in MB; `getrusage` would begin with the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def peak(kind, n, m, rows):
    """In a process of its own: MB by which one step raises the highest memory use."""
    wait_for(compiled(dense)((random(2, 2), random(2, 2)), random(2, 2)))  # what the first step of all loads
    start = highest()
    step, arguments, slope, _ = make_steps(n, m, rows, [kind])[kind]
    wait_for(step(arguments, slope))
    print(highest() - start)


def measure_memory(rows):
    """Part memory: weights, and peak of a step on the host (Linux; a GPU's own memory is not in it)."""
    table = []
    for n, m in [*CASES[:3], DBOF]:
        row = {"inputs": n, "outputs": m, "dense weights MB": n * m * 4 / 2**20}
        row["ours weights MB"] = 2 * -(-m // n) * n * 4 / 2**20
        count = 15 * rows if (n, m) == DBOF else rows
        for kind in ("dense", "original", "ours"):
            command = [sys.executable, __file__, "--peak", kind, str(n), str(m), "--rows", str(count)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row[f"{kind} step MB"] = float(done.stdout.split()[-1])
        table.append(row)
    show("memory: weights, and what one step adds to the peak of its process", table)


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("speed", "growth", "memory")
    parser.add_argument("--parts", nargs="+", default=parts, choices=parts)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, default=80, help="examples in a batch")
    parser.add_argument("--peak", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return peak(options.peak[0], int(options.peak[1]), int(options.peak[2]), options.rows)
    if "speed" in options.parts:
        measure_speed(options.rows, options.rounds)
    if "growth" in options.parts:
        measure_growth(options.rows, options.rounds)
    if "memory" in options.parts:
        measure_memory(options.rows)


if __name__ == "__main__":
    main()
