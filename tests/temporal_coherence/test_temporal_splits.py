"""Sides: by the official lists, by groups, by clips; leaks are seen."""

import functools

import pandas as pd
import pytest

from helpers.batches import SIDES
from helpers.temporal_coherence import data, splits


def clips_of(classes=("A", "B"), groups=(1, 2, 8, 9, 10), clips=(1, 2)):
    rows = [(c, g, n, f"{c}/v_{c}_g{g:02d}_c{n:02d}.avi") for c in classes for g in groups for n in clips]
    return pd.DataFrame(rows, columns=["class", "group", "clip", "video"])


LISTS = tuple(
    [name for name in clips_of()["video"] if (data.parse_name(name)[1] >= 8) == side] for side in (True, False)
)


def test_official_split_and_whole_validation_groups():
    clips = clips_of()
    clips["split"] = splits.assign_sides(clips, by="official", lists=LISTS, test_share=0.3, validation_groups=1)
    assert clips.groupby("group")["split"].unique().map(list).to_dict() == {
        1: ["test"], 2: ["test"], 8: ["train"], 9: ["train"], 10: ["validation"]}  # fmt: skip
    assert splits.check_leaks(clips, by="official") == []
    upper = tuple([name.replace("v_A", "v_a") for name in side] for side in LISTS)
    assert (
        splits.assign_sides(clips, by="official", lists=upper, test_share=0.3, validation_groups=1) == clips["split"]
    ).all()
    extra = pd.concat([clips_of(), clips_of(groups=(11,))], ignore_index=True)
    assert (
        splits.assign_sides(extra, by="official", lists=LISTS, test_share=0.3, validation_groups=1)[-4:] == ""
    ).all()


def test_groups_after_the_last_that_may_watch_are_for_training():
    split = functools.partial(splits.assign_sides, by="official", lists=LISTS, test_share=0.3, validation_groups=1)
    clips = clips_of()
    assert clips["group"][split(clips, last_group=9) == "validation"].unique().tolist() == [9]
    assert set(clips["group"][split(clips, last_group=9) == "train"]) == {8, 10}
    assert clips["group"][split(clips) == "validation"].unique().tolist() == [10]
    with pytest.raises(ValueError, match="class A: 1 groups are left for training"):
        split(clips, last_group=8)


@pytest.mark.parametrize("by", ["group", "clip"])
def test_drawn_splits(by):
    clips = clips_of(groups=range(1, 11))
    draw = functools.partial(splits.assign_sides, clips, by=by, test_share=0.3, validation_groups=2)
    first = clips.assign(split=draw(seed=0))
    assert (draw(seed=0) == first["split"]).all() and (draw(seed=1) != first["split"]).any()
    units = first["video"] if by == "clip" else first["class"] + first["group"].astype(str)
    counts = {side: units[first["split"] == side].nunique() for side in SIDES}
    assert counts == (
        {"train": 24, "validation": 4, "test": 12} if by == "clip" else {"train": 10, "validation": 4, "test": 6}
    )
    assert bool(splits.check_leaks(first, by=by)) == (by == "clip")


def test_a_room_that_is_named_is_the_test():
    clips = pd.DataFrame({"class": list("AABB"), "group": range(1001, 1005), "clip": 1})
    clips["video"] = ["A/hall.avi", "A/kitchen.mp4", "B/hall 2.avi", "B/kitchen.avi"]
    draw = functools.partial(splits.assign_sides, clips, by="room", test_share=0.3)
    assert draw(test_room="hall", validation_groups=0).tolist() == ["test", "train", "test", "train"]
    for room, words in (("garden", "test_room: received 'garden'.*A/hall.avi"), ("", "0 groups are left for training")):
        with pytest.raises(ValueError, match=words):
            draw(test_room=room, validation_groups=0)
    with pytest.raises(ValueError, match="Lower validation_groups"):
        draw(test_room="hall", validation_groups=1)


def test_leaks_fail_loudly_unless_asked_for():
    clips = clips_of(classes=("A",), groups=(1,)).assign(split=["train", "test"])
    assert splits.check_leaks(clips, by="clip") == ["A g01"]
    with pytest.raises(ValueError, match="1 groups are on both sides of the split: A g01"):
        splits.check_leaks(clips, by="group")


def test_too_few_groups_say_what_to_do():
    with pytest.raises(ValueError, match=r"class A: .* groups are left for training.*split_by: clip"):
        splits.assign_sides(clips_of(groups=(1, 2)), by="group", test_share=0.3, validation_groups=1)
