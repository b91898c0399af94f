"""Chance of the drawn data sets: by key alone, and traits that a group shares out evenly."""

import hashlib

import numpy as np
import pytest

from helpers.drawing.chance import Traits, generator, pick

GROUP, COUNT = 12, 6


def traits(place, seed=0):
    return Traits(np.random.default_rng(seed), place, group=GROUP, count=COUNT)


def test_a_generator_depends_on_its_key_alone():
    first = generator(3, "s01", "room").random(4)
    generator("another").random()
    np.testing.assert_array_equal(generator(3, "s01", "room").random(4), first)
    others = [
        generator(*key).random() for key in ((4, "s01", "room"), (3, "s02", "room"), (3, "s01"), (3, "room", "s01"))
    ]
    assert len({first[0], *others}) == 5
    seed = int(hashlib.sha256(b"3/s01/room").hexdigest()[:16], 16)
    np.testing.assert_array_equal(np.random.default_rng(seed).random(4), first)


def test_pick_gives_every_entry_its_share():
    palette = ("a", "b", "b", "c")
    assert [pick(palette, number) for number in (0, 0.24, 0.25, 0.74, 0.75, 0.9999)] == list("aabbcc")


def test_a_group_shares_out_the_range_of_every_trait():
    numbers = np.array([[one.number() for _ in range(COUNT)] for one in map(traits, range(GROUP))])
    np.testing.assert_array_equal(np.sort((numbers * GROUP).astype(int), axis=0).T, [range(GROUP)] * COUNT)
    assert len({tuple(np.argsort(column)) for column in numbers.T}) == COUNT  # in an order of its own for each trait
    assert ((numbers * GROUP % 1 > 0.09) & (numbers * GROUP % 1 < 0.91)).all()  # never two that almost meet


def test_traits_take_one_number_each_and_no_more_than_there_are():
    one, same = traits(3), traits(3)
    numbers = [one.number() for _ in range(COUNT)]
    assert same.span(10, 30) == 10 + 20 * numbers[0]
    assert same.pick("abcd") == "abcd"[int(4 * numbers[1])]
    assert [same.number() for _ in range(COUNT - 2)] == numbers[2:]
    with pytest.raises(IndexError):
        same.number()
    assert traits(3, seed=1).number() != numbers[0]
