"""Sides of clips: shares, speakers kept together, parts that test every clip once, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from helpers.lip_reading import splits

WORDS = ("left", "right", "stop")


def make_table(speakers=10, repeats=4, **columns):
    rows = [(f"s{s}", word, take) for s in range(speakers) for word in WORDS for take in range(repeats)]
    table = (
        pd.DataFrame(rows, columns=["speaker", "label", "take"])
        .drop(columns="take")
        .assign(**({"split": ""} | columns))
    )
    return table.sample(frac=1, random_state=3)  # in no order, with an index in no order


def assign(table, rule, **options):
    return splits.assign_sides(table, rule=rule, **({"validation_share": 0.1, "test_share": 0.3, "seed": 5} | options))


def test_a_speaker_is_on_one_side():
    table = make_table()
    sides = assign(table, "speaker")["split"]
    by_speaker = sides.groupby(table["speaker"]).agg(["nunique", "first"])
    assert (by_speaker["nunique"] == 1).all()
    assert by_speaker["first"].value_counts().to_dict() == {"train": 6, "test": 3, "validation": 1}
    assert splits.shared_speakers(table, sides) == []


def test_at_random_each_word_is_spread_evenly():
    table = make_table()
    sides = assign(table, "random")["split"]
    counts = pd.crosstab(table["label"], sides)
    assert counts.sum().to_dict() == {"test": 36, "train": 72, "validation": 12}
    assert (counts.max() - counts.min() <= 2).all(), counts
    assert splits.shared_speakers(table, sides) == sorted(f"s{s}" for s in range(10))


@pytest.mark.parametrize("rule, units", [("speaker", "speaker"), ("random", "clip")])
def test_a_cross_validation_tests_everything_once(rule, units):
    table = make_table()
    table["clip"] = np.arange(len(table))
    sides = assign(table, rule, folds=4)
    assert splits.columns_of(sides) == ["split1", "split2", "split3", "split4"]
    tested = sides.eq("test").groupby(table[units]).max().sum(axis=1)
    assert (tested == 1).all() and (sides.eq("test").sum(axis=1) == 1).all()
    assert sides.eq("validation").any().all() and sides.eq("train").sum().min() > len(table) / 2


@pytest.mark.parametrize("rule", ["speaker", "random"])
def test_the_seed_decides_and_nothing_else(rule):
    table = make_table()
    first = assign(table, rule)["split"]
    assert first.equals(assign(table, rule)["split"]) and not first.equals(assign(table, rule, seed=6)["split"])
    if rule == "speaker":  # nor does the order of the rows
        assert first.sort_index().equals(assign(table.sort_index(), rule)["split"])


def test_folders_are_followed_and_validation_is_taken_from_training():
    table = make_table(2)
    table["split"] = np.where(table["speaker"] == "s0", "train", "test")
    sides = assign(table, "given", validation_share=0.25)["split"]
    assert (sides[table["speaker"] == "s1"] == "test").all()
    assert sides.value_counts().to_dict() == {"test": 12, "train": 9, "validation": 3}
    table.loc[table.index[table["speaker"] == "s0"][:2], "split"] = "validation"
    assert assign(table, "given")["split"].tolist() == table["split"].tolist()


@pytest.mark.parametrize(
    "columns, folds, rule",
    [
        ({}, None, "speaker"),
        ({"speaker": ""}, None, "random"),
        ({"split": ["train", "test"] * 60}, None, "given"),
        ({"split": ["train", "test"] * 60}, 3, "speaker"),
        ({"split": ["train", ""] * 60}, None, "speaker"),
        ({"split": "train"}, None, "speaker"),
        ({"speaker": ["", "a"] * 60}, None, "random"),
        ({"speaker": ["a", "b"] * 60}, None, "random"),  # two are too few for three sides
    ],
)
def test_what_auto_comes_to(columns, folds, rule):
    table = make_table().assign(**columns)
    assert splits.choose_rule(table, "auto", folds=folds) == rule
    assert splits.choose_rule(table, "random", folds=folds) == "random"


@pytest.mark.parametrize(
    "table, rule, options, words",
    [
        (make_table(speaker=""), "speaker", {}, ["name no speaker of 120 clips", "random, given"]),
        (make_table(2), "speaker", {}, ["received 2 speakers", "train, validation, test"]),
        (make_table(3), "speaker", {"folds": 3}, ["received 3 speakers", "3 part"]),
        (make_table(), "given", {}, ["test, train"]),
        (make_table(split=["train", "", "test", "train"] * 30), "given", {}, ["every clip"]),
        (make_table(split="train"), "given", {}, ["no clips for test"]),
        (make_table(5, 1, split=["test"] + ["train"] * 14, label=["rare"] + ["left"] * 14), "given", {}, ["train on of rare"]),
    ],
)  # fmt: skip
def test_what_cannot_be_split(table, rule, options, words):
    with pytest.raises(ValueError) as caught:
        assign(table, rule, **options)
    assert all(word in str(caught.value) for word in words), caught.value
