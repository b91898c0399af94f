"""Splits: the counts of the original project's lists, stability, whole authors, whole runs, and what leaks."""

import hashlib

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers import runtime
from helpers.boat_detection import splits

HARBOUR = runtime.repo_root().parent / "shared" / "data" / "boats" / "harbour"
IDS = [f"{number * 2654435761 % 2**64:016x}" for number in range(1, 2001)]


def sizes(sides):
    return [int((sides == side).sum()) for side in splits.SIDES]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (7810, [6248, 781, 781]),
        (100, [80, 10, 10]),
        (15, [11, 2, 2]),  # 1.5 goes up
        (14, [12, 1, 1]),
        (3, [1, 1, 1]),
    ],
)
def test_random_counts(count, expected):
    sides = splits.assign_sides([f"i{number}" for number in range(count)])
    assert sizes(sides) == expected and len(sides) == count


def test_random_depends_on_the_seed_alone():
    sides = splits.assign_sides(IDS, seed=1)
    backwards = splits.assign_sides(IDS[::-1], seed=1)
    assert backwards.index.tolist() == IDS[::-1] and sides.index.name == "image" and sides.name == "side"
    assert (backwards[IDS] == sides).all()
    other = splits.assign_sides(IDS, seed=2)
    assert sizes(other) == sizes(sides) == [1600, 200, 200]
    assert 5 < ((other == "test") & (sides == "test")).sum() < 40  # 20 by chance


def test_hash_is_sha256_and_stays():
    sides = splits.assign_sides(IDS[:1000], by="hash")
    more = splits.assign_sides(IDS, by="hash", seed=5)
    assert (more[IDS[:1000]] == sides).all()
    for name in IDS[:300]:
        place = int(hashlib.sha256(name.encode()).hexdigest()[:12], 16) / 16**12
        assert sides[name] == ("test" if place < 0.1 else "validation" if place < 0.2 else "train")
    np.testing.assert_allclose(sizes(more), [1600, 200, 200], atol=60)


def test_authors_are_never_divided():
    rng = np.random.default_rng(0)
    authors = [f"https://example.org/people/{number}" for number in rng.integers(0, 300, 2000)]
    authors[0], authors[1], authors[2] = None, "", float("nan")
    sides = splits.assign_sides(IDS, by="author", authors=authors)
    known = pd.Series(authors, IDS)[3:]
    assert sides[3:].groupby(known).nunique().max() == 1 and min(sizes(sides)) > 50
    assert (sides[:3] == splits.assign_sides(IDS, by="hash")[:3]).all()
    report = splits.leaks(sides, authors=authors)
    assert report["found"].tolist() == report["images"].tolist() == [0, 0, 0]


def test_runs_by_hand():
    # Numbers jump after 3 and after 12; even cuts of 9 into 3 lie at 3 and 6, and may move by 0.75 of an image.
    names = ["a_1.jpg", "a_2.jpg", "a_3.jpg", "a_10.jpg", "a_11.jpg", "a_12.jpg", "a_30.jpg", "a_31.jpg", "a_32.jpg"]
    assert splits.runs(names, 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    order = [8, 3, 0, 5, 7, 1, 2, 6, 4]
    assert splits.runs([names[index] for index in order], 3).tolist() == [[0, 0, 0, 1, 1, 1, 2, 2, 2][i] for i in order]
    # Two runs of 8: the even cut is at 4, it may move by 1, and the jump lies at 5.
    assert splits.runs([f"x{number}" for number in (1, 2, 3, 4, 5, 90, 91, 92)], 2).tolist() == [0] * 5 + [1] * 3
    # Another series begins: that counts more than any jump.
    assert splits.runs(["p1", "p2", "p3", "q4", "q400", "q401", "q402", "q403"], 2).tolist() == [0] * 3 + [1] * 5
    assert splits.runs(["x1", "x2", "x3", "x4", "x5"], 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("count", "folds"), [(100, 5), (23, 4), (10, 10), (7, 2)])
def test_every_image_is_tested_once(count, folds):
    rng = np.random.default_rng(count)
    names = [f"photo_{number:05d}" for number in rng.choice(500, count, replace=False)]
    tested = []
    for fold in range(folds):
        sides = splits.assign_sides(names, by="run", folds=folds, fold=fold)
        places = [sides[name] for name in sorted(names)]
        test = [index for index, side in enumerate(places) if side == "test"]
        assert test == list(range(test[0], test[-1] + 1))  # one run
        behind = [(test[-1] + 1 + step) % count for step in range(max(1, round(count / 10)))]
        assert {index for index, side in enumerate(places) if side == "validation"} == {*behind} - {*test}
        tested += sides.index[sides == "test"].tolist()
    assert sorted(tested) == sorted(names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"by": "class"}, "random, hash, author, run.*by='class'"),
        ({"ids": ["a", "a", "b"]}, "3 ids, 2 different"),
        ({"ids": []}, "empty"),
        ({"ids": ["a", "b"]}, "leaves train empty: .*'test': 1"),
        ({"ids": ["a", "b", "c"], "by": "hash"}, "or by='random'"),
        ({"by": "author", "authors": ["x"] * 10}, "empty"),
        ({"by": "run", "folds": 11, "fold": 0}, "folds=11"),
        ({"by": "run", "folds": 1, "fold": 0}, "folds=1"),
        ({"by": "run", "folds": 2, "fold": 0, "ids": ["a1", "b"]}, "end in a number.*'b'"),
    ],
)
def test_bad_input(options, words):
    options = {"ids": [f"i{number}" for number in range(10)], **options}
    with pytest.raises(ValueError, match=words):
        splits.assign_sides(options.pop("ids"), **options)


def a_photo(seed, height=120, width=160):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (6, 8, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def test_difference_hash_by_hand():
    rising = np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1))
    assert rising.shape == (8, 9) and splits.difference_hash(rising) == 2**64 - 1
    assert splits.difference_hash(rising[:, ::-1]) == 0
    rising[7, 8] = 0  # the last pixel is darker than the one before it: the last bit
    assert splits.difference_hash(rising) == 2**64 - 2
    assert splits.difference_hash(np.repeat(np.repeat(rising, 20, 0), 20, 1)) == 2**64 - 2


def test_hash_of_files_survives_size_and_compression(tmp_path):
    paths = {}
    for seed in range(4):
        photo = cv2.cvtColor(a_photo(seed), cv2.COLOR_RGB2BGR)
        for name, picture, options in (
            (f"{seed}.png", photo, []),
            (
                f"{seed}.jpg",
                cv2.convertScaleAbs(cv2.resize(photo, (320, 240)), alpha=0.8),
                [cv2.IMWRITE_JPEG_QUALITY, 50],
            ),
        ):
            paths[name] = tmp_path / f"ü{name}"
            paths[name].write_bytes(cv2.imencode(name[1:], picture, options)[1].tobytes())
    hashes = splits.hash_files(paths)
    assert list(hashes) == list(paths)
    pairs = splits.near_duplicates(hashes)
    assert [*zip(pairs["first"], pairs["second"], strict=True)] == [(f"{seed}.png", f"{seed}.jpg") for seed in range(4)]
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    for name in ("broken.jpg", "empty.jpg"):
        with pytest.raises(ValueError, match=name):
            splits.hash_files({"x": tmp_path / name})


def test_near_duplicates_by_loop():
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 200).tolist()
    bits = [base[rng.integers(200)] ^ sum(1 << int(bit) for bit in {*rng.integers(0, 64, 3)}) for _ in range(600)]
    hashes = {f"i{number}": value for number, value in enumerate(bits)}
    expected = {
        (f"i{a}", f"i{b}", (bits[a] ^ bits[b]).bit_count())
        for a in range(600)
        for b in range(a + 1, 600)
        if (bits[a] ^ bits[b]).bit_count() <= 6
    }
    pairs = splits.near_duplicates(hashes)
    assert {*pairs.itertuples(index=False, name=None)} == expected and len(pairs) == len(expected) > 100
    assert splits.near_duplicates({}).empty and splits.near_duplicates({"a": 1}).empty
    assert len(splits.near_duplicates({"a": 0, "b": 2**64 - 1}, distance=64)) == 1


def test_leaks_by_hand():
    sides = pd.Series(
        ["train", "train", "train", "validation", "validation", "test", "test", "test", "test", ""], list("abcdefghij")
    )
    authors = ["x", "y", None, "y", "z", "x", "x", "w", "", "x"]
    pairs = pd.DataFrame(
        [("a", "f", 1), ("g", "b", 2), ("f", "b", 3), ("d", "h", 0), ("a", "b", 0), ("j", "i", 0)],
        columns=["first", "second", "distance"],
    )
    report = splits.leaks(sides, authors=authors, duplicates=pairs)
    assert report.values.tolist() == [
        ["author", "validation", "train", 1, 1, 0.5],
        ["author", "test", "train", 1, 2, 0.5],
        ["author", "test", "validation", 0, 0, 0.0],
        ["near-duplicate", "validation", "train", 0, 0, 0.0],
        ["near-duplicate", "test", "train", 3, 2, 0.5],
        ["near-duplicate", "test", "validation", 1, 1, 0.25],
    ]
    clean = splits.without_twins(sides, pairs)
    assert "".join(side[:1] or "-" for side in clean) == "--t-vtttt-" and sides["a"] == "train"
    assert splits.leaks(clean, duplicates=pairs)["found"].tolist() == [0, 0, 0]


@pytest.mark.skipif(not HARBOUR.is_dir(), reason="no harbour photos beside the repository")
def test_the_harbour_photos():
    """Half of the hundred have a near-duplicate. Runs part fewer of them than chance does, and cannot part all."""
    paths = {path.stem: path for path in sorted(HARBOUR.glob("*.jpg"))}
    pairs = splits.near_duplicates(splits.hash_files(paths))
    assert len(paths) == 100 and 40 <= len({*pairs["first"], *pairs["second"]}) <= 60

    def leaking(sides):
        return splits.leaks(sides, duplicates=pairs).loc[1, "share"]  # test against train

    by_run = [splits.assign_sides(paths, by="run", folds=5, fold=fold) for fold in range(5)]
    by_chance = [splits.assign_sides(paths, seed=seed) for seed in range(5)]
    assert sum(map(leaking, by_run)) < 0.7 * sum(map(leaking, by_chance))
    assert all(sizes(sides)[2] >= 15 for sides in by_run)
    assert all(leaking(splits.without_twins(sides, pairs)) == 0 for sides in by_run)


def test_official_subsets_are_sides():
    table = pd.DataFrame({"image": ["a", "b", "c"], "subset": ["train", "test", "validation"]})
    sides = splits.assign_sides(table["image"], by="official", subsets=table["subset"])
    assert sides.to_dict() == {"a": "train", "b": "test", "c": "validation"}
