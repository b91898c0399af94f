"""`helpers.batches`: order, slices and streams that depend on (seed, step) alone."""

import itertools

import numpy as np
import pytest

from helpers.batches import STREAMS, Batches, stream


def test_an_epoch_takes_every_item_as_often_as_asked_and_the_next_in_another_order():
    batches = Batches(7, batch_size=4, seed=3, repeats=2)
    assert batches.steps_per_epoch == 3
    first, second = (np.concatenate([batches.rows(3 * epoch + step) for step in range(3)]) for epoch in (0, 1))
    assert len(first) == 12 and np.bincount(first, minlength=7).max() == 2
    assert not np.array_equal(first, second)
    assert np.array_equal(batches.rows(1), first[4:8])  # any step at any time


def test_the_seed_decides():
    rows = [Batches(50, batch_size=50, seed=seed).rows(0).tolist() for seed in (1, 1, 2)]
    assert rows[0] == rows[1] != rows[2]


@pytest.mark.parametrize(("count", "size"), [(3, 4), (3, 0), (0, 1)])
def test_a_batch_larger_than_an_epoch_is_refused(count, size):
    with pytest.raises(ValueError, match=f"batch_size: received {size}; allowed: 1 to {count}, the clips of an epoch"):
        Batches(count, batch_size=size, seed=0, items="clips")


def test_no_two_kinds_of_streams_meet_whatever_the_numbers():
    """NumPy fills seeds up with zeros, so [3, 5] and [3, 5, 0] are one; the kinds keep them apart."""
    assert np.random.default_rng([3, 5]).integers(2**60) == np.random.default_rng([3, 5, 0]).integers(2**60)
    numbers = [(), (0,), (1,), (5,), (0, 0), (5, 0), (0, 5), (5, 5)]
    drawn = {}
    for seed, kind, more in itertools.product((0, 3), STREAMS, numbers):
        drawn.setdefault(int(stream(seed, kind, *more).integers(2**60)), set()).add((seed, kind))
    assert all(len(owners) == 1 for owners in drawn.values())
    assert len(set(STREAMS.values())) == len(STREAMS)


@pytest.mark.parametrize("numbers", [(2**32,), (0, "order", 2**32), (-1,)])
def test_numbers_that_numpy_would_split_are_refused(numbers):
    seed, *rest = numbers
    with pytest.raises(ValueError, match="must be 0 to"):
        stream(seed, *(rest or ["order"]))


def test_an_unknown_kind_is_named():
    with pytest.raises(ValueError, match=r"kind must be one of order, .* Received: kind='ordr'"):
        stream(0, "ordr")
