"""Groups, sides and pairs: which clips are for what."""

import json
import tracemalloc

import numpy as np
import pandas as pd
import pytest

from helpers.batches import SIDES
from helpers.face_animation import data, splits

NAMES = [f"id{person}#v{person}#{start:06d}#{start + 9:06d}.mp4" for person in range(6) for start in range(person + 2)]


@pytest.mark.parametrize(
    ("options", "sizes"),
    [({"group_size": 10}, [10, 10, 7]), ({"group_size": 10, "drop_remainder": True}, [10, 10]), ({"group_size": 27}, [27]),
     ({"n_groups": 4}, [6, 7, 7, 7]), ({"n_groups": 4, "drop_remainder": True}, [6, 6, 6, 6]), ({"n_groups": 27}, [1] * 27),
     ({"n_groups": 9}, [3] * 9)],
)  # fmt: skip
def test_groups_are_exclusive_and_depend_on_the_seed_alone(options, sizes):
    groups = splits.sample_groups(NAMES, **options)
    assert sorted(map(len, groups)) == sorted(sizes)
    members = [name for group in groups for name in group]
    assert len(set(members)) == len(members) and set(members) <= set(NAMES)
    assert len(members) == len(NAMES) or options.get("drop_remainder")
    shuffled = list(np.random.default_rng(1).permutation(NAMES)) + NAMES[:3]
    np.random.seed(5)  # noqa: NPY002  (the global state must not matter)
    assert splits.sample_groups(shuffled, **options) == groups
    assert splits.sample_groups(NAMES, **options, seed=43) != groups


def test_groups_are_slices_of_the_permutation_of_sorted_names():
    drawn = [sorted(NAMES)[index] for index in np.random.default_rng(42).permutation(27)]
    assert splits.sample_groups(NAMES[::-1], 10) == [drawn[:10], drawn[10:20], drawn[20:]]


def test_copies_of_drive_are_left_out_and_told(capsys):
    names = ["a#1.mp4", "a#1 (1).mp4", "a#1 (2).mp4", "b#1 (1).mp4", "c (3) d.mp4", "e", "e (1)"]
    groups = splits.sample_groups(names, n_groups=1)
    assert sorted(groups[0]) == ["a#1.mp4", "b#1 (1).mp4", "c (3) d.mp4", "e"]
    captured = capsys.readouterr()
    assert "3 name(s) are second copies" in captured.out and not captured.err


@pytest.mark.parametrize("options", [{"n_groups": 3}, {"group_size": 9}, {"n_groups": 3, "drop_remainder": True}])
def test_no_person_in_two_groups(options):
    groups = splits.sample_groups(NAMES, by_person=True, **options)
    persons = [{name.split("#")[0] for name in group} for group in groups]
    assert len(groups) == 3 and sum(map(len, persons)) == len(set.union(*persons))
    if options.get("drop_remainder"):
        assert len(set(map(len, groups))) == 1
    else:
        assert sum(map(len, groups)) == 27


@pytest.mark.parametrize(
    ("options", "message"),
    [({}, "exactly one"), ({"group_size": 2, "n_groups": 2}, "exactly one"), ({"group_size": 0}, "allowed: 1 to 27"),
     ({"n_groups": 28}, "n_groups: received 28"), ({"group_size": 2.0}, "allowed"), ({"group_size": True}, "allowed"),
     ({"n_groups": 7, "by_person": True}, "there are 6")],
)  # fmt: skip
def test_impossible_groups(options, message):
    with pytest.raises(ValueError, match=message):
        splits.sample_groups(NAMES, **options)


def test_groups_file(tmp_path):
    groups, path = splits.sample_groups(NAMES, 10), tmp_path / "groups.json"
    splits.write_groups(path, groups, seed=42)
    assert splits.read_groups(path) == groups == splits.read_groups(path, names=NAMES)
    with pytest.raises(ValueError, match="1 clips are not there any more"):
        splits.read_groups(path, names=set(NAMES) - {groups[1][0]})
    content = json.loads(path.read_text())
    assert (content["seed"], content["n"], content["by_person"]) == (42, 27, False)
    content["groups"][0][0] = "other.mp4"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="sha256 differs"):
        splits.read_groups(path)
    splits.write_groups(path, [["a"], ["a"]], seed=1)
    with pytest.raises(ValueError, match="in two groups"):
        splits.read_groups(path)


def test_pairs(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("distance,source,driving,frame\n1,a,b,0\n2,c,a,5\n3,b,a,1\n4,b,b,1\n")
    assert splits.read_pairs(path, names="ab", limit=2).to_numpy().tolist() == [["a", "b"], ["b", "a"]]
    assert len(splits.read_pairs(path, names="abc", limit=9)) == 4
    path.write_text("source,target\n")
    with pytest.raises(ValueError, match="no column driving; it has: source, target"):
        splits.read_pairs(path, names="abc", limit=9)


@pytest.mark.parametrize(("people", "clips"), [(1, 4), (2, 1), (5, 3), (40, 10)])
def test_pairs_to_animate_are_the_first_of_all_pairs_in_drawn_order_and_need_little_memory(people, clips):
    names = [f"id{person}#{clip}.mp4" for person in range(people) for clip in range(clips)]
    every = [(source, driving) for driving in names for source in names]
    drawn = [every[index] for index in np.random.RandomState(3).choice(len(every), len(every), replace=False)]
    other = [pair for pair in drawn if pair[0].split("#")[0] != pair[1].split("#")[0]] or drawn
    tracemalloc.start()
    found = splits.choose_pairs(names, 7, seed=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.columns.tolist() == ["source", "driving"] and found.index.tolist() == list(range(len(found)))
    assert list(found.itertuples(index=False, name=None)) == other[:7]
    assert peak < 4e6  # the numbers of 160 000 pairs; as text they are ten times as much
    assert splits.choose_pairs(names, 10**6, seed=3).shape == (len(other), 2)
    assert splits.choose_pairs([], 7, seed=3).empty


@pytest.mark.parametrize("chosen", [0, 1])
def test_the_chosen_group_is_trained_on_and_the_others_are_the_validation(chosen):
    clips = pd.DataFrame({"clip": list("abcdet"), "partition": ["train"] * 5 + ["test"]})
    groups = [["a", "c"], ["b", "d"]]
    sides = splits.assign_sides(clips, groups, chosen=chosen).set_index("clip")
    assert sides["group"].to_dict() == {"a": 0, "c": 0, "b": 1, "d": 1, "e": splits.NO_GROUP, "t": splits.NO_GROUP}
    names = {side: sorted(sides.index[sides["side"] == side]) for side in (*SIDES, "")}
    assert names == {"train": groups[chosen], "validation": groups[1 - chosen], "test": ["t"], "": ["e"]}
    for side in SIDES:
        assert sorted(splits.clips_on(sides.reset_index(), side)["clip"]) == names[side]


def test_of_an_only_group_one_person_is_watched_and_not_trained_on():
    names = [f"{person}#{number}.mp4" for person in "abc" for number in range(3)]
    clips = pd.DataFrame({"clip": [*names, "t#0.mp4"], "partition": ["train"] * 9 + ["test"]})
    sides = splits.assign_sides(clips, splits.sample_groups(names, n_groups=1, seed=42), chosen=0)
    found = {side: splits.clips_on(sides, side)["clip"] for side in SIDES}
    people = {side: set(clips.map(splits.person_of)) for side, clips in found.items()}
    assert {side: len(clips) for side, clips in found.items()} == {"train": 6, "validation": 3, "test": 1}
    assert people["test"] == {"t"} and people["train"] | people["validation"] == set("abc")
    assert len(people["validation"]) == 1 and set(sides["group"]) == {0, splits.NO_GROUP}


def test_without_other_groups_or_persons_the_test_is_the_validation():
    clips = pd.DataFrame({"clip": list("abt"), "partition": ["train", "train", "test"]})
    sides = splits.assign_sides(clips, [["a"]], chosen=0)  # b is left over, and not watched either
    assert [splits.clips_on(sides, side)["clip"].tolist() for side in SIDES] == [["a"], ["t"], ["t"]]
    with pytest.raises(ValueError, match=r"side must be one of train, validation, test\. Received: side='unseen'"):
        splits.clips_on(sides, "unseen")


def test_the_public_name_of_the_groups():
    assert data.sample_groups is splits.sample_groups
