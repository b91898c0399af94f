"""What steps take on a free Colab machine: the arithmetic that tells it beforehand, from counts. Nobody measured the sums."""

import dataclasses
from typing import Any

PEAK = {"float32": 8e12, "float16": 65e12}  # operations a second of a T4, as NVIDIA states them
SHARE = 0.3  # of the peak that a training reaches; assumed
DOWNLOAD = 20e6  # bytes a second that come over the network; assumed
WRITING = 100e6  # bytes a second of checkpoints, their digests included; assumed
KEPT = 3  # states of a training that stay, `training.checkpoints.KEEP`; one more stands while the next is written
# Of the bytes that a forward pass makes, those that wait for the backward pass: 0.3 measured on a CPU (face_animation's README:
# 0.83 and 0.67 GiB a pair of 2.94 and 2.44 GB), and a third more for what convolutions borrow.
HELD = 0.4
LIBRARIES = 3e9  # bytes of memory: Python, TensorFlow and what a GPU needs of it; assumed
ON_GPU = 1e9  # bytes of a GPU that TensorFlow and cuDNN take; assumed


@dataclasses.dataclass(frozen=True, kw_only=True)
class Needs:
    """What one step takes on a machine: computed from published counts and counted work, unless `measured` says where.

    Attributes:
        download: bytes that come over the network.
        disk: bytes at their highest, what was downloaded and is kept included.
        memory: bytes at its highest.
        gpu_memory: bytes at its highest.
        minutes: on the machine that the setting names, a T4 with two cores.
        written: bytes of checkpoints written in all, those that are replaced too.
    """

    download: float = 0.0
    disk: float = 0.0
    memory: float = 2e9  # Python with TensorFlow
    gpu_memory: float = 0.0
    minutes: float = 0.0
    written: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Network:
    """What a network costs an item; tests/test_settings.py counts it again in the network itself.

    Attributes:
        flops: operations of a forward pass, two for a multiply-add of a convolution or a product of matrices.
        parameters: numbers in its weights.
        made: bytes of all float32 tensors of a forward pass.
    """

    flops: float
    parameters: float
    made: float


def together(*needs: Needs) -> Needs:
    """One after the other: sums, and the highest of the two memories."""
    highest = ("memory", "gpu_memory")
    totals = {field.name: [getattr(need, field.name) for need in needs] for field in dataclasses.fields(Needs)}
    return Needs(**{name: max(values) if name in highest else sum(values) for name, values in totals.items()})


def fetching(size: float, *, disk: float | None = None, seconds: float = 0.0) -> Needs:
    """A step that downloads `size` bytes, works for `seconds` on them and leaves `disk` (default: those)."""
    return Needs(download=size, disk=size if disk is None else disk, minutes=(size / DOWNLOAD + seconds) / 60)


def using(network: Network, items: float, *, precision: str, rate: float, passes: int = 1) -> float:
    """Minutes for items, the slower of computing and reading, `rate` of them a second; a training step is three passes."""
    reached = SHARE * PEAK["float32" if precision == "float32" else "float16"]  # operations a second
    return max(passes * network.flops * items / reached, items / rate) / 60


def count_saves(config: Any, *, epochs: int, steps: float) -> float:
    """States that a training of `epochs` times `steps` writes: the first, at ends of epochs, and every `checkpoint_every`."""
    within = epochs * (steps // config.checkpoint_every) if config.checkpoint_every else 0
    return 1 + -(-epochs // config.save_every) + within


def training(
    network: Network, items: float, *, batch: int, precision: str, rate: float, saves: float, slots: int = 2,
    watched: float = 0, item: float = 0, keep: int = KEPT,
) -> Needs:  # fmt: skip
    """One training.

    Args:
        batch: items on the GPU at a time.
        slots: numbers that the optimiser keeps beside a weight: 2 Adam, 1 SGD with momentum.
        watched: items that are only looked at, at ends of epochs.
        item: bytes of one in memory; a dozen batches wait.
    """
    weights = 4 * network.parameters
    state = (1 + slots) * weights
    half = 1 if precision == "float32" else 0.5
    written = saves * state + 2 * weights  # the final and the best
    minutes = using(network, items, precision=precision, rate=rate, passes=3)
    return Needs(
        disk=min(saves, keep + 1) * state + 2 * weights,
        memory=LIBRARIES + 2 * state + 12 * batch * item,  # a copy to check and write, and what is read at a resumption
        gpu_memory=ON_GPU + state + weights + HELD * half * batch * network.made,
        minutes=minutes + using(network, watched, precision=precision, rate=rate) + written / WRITING / 60,
        written=written,
    )
