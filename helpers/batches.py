"""The one `Batches`: which rows a training step takes, and the random numbers that belong to it, from (seed, step) alone.

So a training goes on from any step with the batches that it would have had. Projects add the items: see their `batches.py`.
"""

from functools import lru_cache

import numpy as np

# The number of a kind stands right behind the seed, so that no two kinds can meet: to NumPy [3, 5] and [3, 5, 0] are one seed.
STREAMS = {"order": 0, "changes": 1, "watch": 2, "chance": 3, "choice": 4, "labels": 5, "size": 6}


def stream(seed: int, kind: str, *numbers: int) -> np.random.Generator:
    """Random numbers for one purpose; ValueError: an unknown kind, or a number that NumPy would split in two.

    Args:
        seed: of the run, 0 to 2**32 - 1.
        kind: one of `STREAMS`; two kinds never share numbers. Always give the same count of `numbers` to one kind.
        *numbers: which of the many streams of this kind, such as the step and the place in its batch.
    """
    if kind not in STREAMS:
        raise ValueError(f"kind must be one of {', '.join(STREAMS)}. Received: kind={kind!r}")
    if not all(0 <= number < 2**32 for number in (seed, *numbers)):
        raise ValueError(f"seed and numbers must be 0 to 2**32 - 1. Received: {(seed, *numbers)}")
    return np.random.default_rng([seed, STREAMS[kind], *(int(number) for number in numbers)])


SIDES = ("train", "validation", "test")  # of every split, in every project


class Batches:
    """Order and slices: every epoch is a new permutation, its last partial batch left out. ValueError: it has no whole one.

    Args:
        repeats: how often an item comes in an epoch.

    Attributes:
        steps_per_epoch: whole batches.
    """

    def __init__(self, count: int, *, batch_size: int, seed: int, repeats: int = 1, items: str = "items") -> None:
        if not 1 <= batch_size <= count * repeats:
            allowed = f"1 to {count * repeats}, the {items} of an epoch"
            raise ValueError(f"batch_size: received {batch_size}; allowed: {allowed}")
        self.batch_size, self.seed = batch_size, seed
        self.steps_per_epoch = count * repeats // batch_size
        self._order = lru_cache(2)(lambda epoch: stream(seed, "order", epoch).permutation(count * repeats) % count)

    def rows(self, step: int) -> np.ndarray:
        """(B,) numbers of the items that a step takes, steps counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        return self._order(epoch)[place * self.batch_size :][: self.batch_size]

    def stream(self, kind: str, *numbers: int) -> np.random.Generator:
        """`stream` with the seed of these batches."""
        return stream(self.seed, kind, *numbers)

    def batch(self, step: int):
        """What the network takes at a step: (inputs, targets). Projects write it."""
        raise NotImplementedError
