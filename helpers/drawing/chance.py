"""What chance decides in the drawn data sets, so that neither the order of work nor the number of processes changes it."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Choice = TypeVar("Choice")


def generator(*key: object) -> np.random.Generator:
    """A generator that depends on the key alone: not on the order of clips, the process or Python's hash seed."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def pick(palette: Sequence[Choice], number: float) -> Choice:
    """The entry of the palette for a number in [0, 1)."""
    return palette[int(number * len(palette))]


class Traits:
    """The free numbers of one of a group that shares out the range of every trait evenly (a Latin hypercube).

    So no two of them are alike by chance, and every range is used. Each method takes the next number.

    Args:
        rng: the same for all of a group.
        place: of this one in the group, from 0.
        count: numbers that can be taken, one a trait.
    """

    def __init__(self, rng: np.random.Generator, place: int, *, group: int, count: int) -> None:
        ranks = rng.permuted(np.tile(np.arange(group), (count, 1)), axis=1)
        self._numbers = ((ranks + rng.uniform(0.1, 0.9, ranks.shape)) / group)[:, place].tolist()

    def number(self) -> float:
        """In (0, 1)."""
        return self._numbers.pop()

    def span(self, low: float, high: float) -> float:
        """In the range."""
        return low + (high - low) * self.number()

    def pick(self, palette: Sequence[Choice]) -> Choice:
        """An entry of the palette."""
        return pick(palette, self.number())
