"""The samplers, on frames whose colour tells which frame they are: what is in a batch can be read back from its pixels."""

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers import pictures, training
from helpers.temporal_coherence.augment import CHANGES
from helpers.temporal_coherence.batches import (
    MINUS,
    Frames,
    LabelBatches,
    PairBatches,
    QuadrupletBatches,
    ViewBatches,
    build_batches,
    see,
    watch_pairs,
)

SIZE, BATCH, NEGATIVE_EVERY = 8, 12, 5


def table_of(classes="ABC", groups=range(1, 6), clips=(1, 2), pairs=6) -> pd.DataFrame:
    """Group 1 is for testing, 2 for validation; the numbers of groups and clips repeat in every class, as in UCF101."""
    rows = []
    for label, name in enumerate(classes):
        for group in groups:
            for clip in clips:
                for k in range(pairs):
                    path = f"{name}/g{group}_c{clip}/{{}}_{k}.png"
                    following = path.format("next") if k % NEGATIVE_EVERY else ""
                    side = {1: "test", 2: "validation"}.get(group, "train")
                    rows.append(
                        (side, name, label, group, f"{name}/g{group}_c{clip}", k, path.format("query"), following)
                    )
    columns = ["split", "class", "label", "group", "video", "k", "path_query", "path_next"]
    return pd.DataFrame(rows, columns=columns)


ALL = table_of()
TRAIN = ALL[ALL["split"] == "train"]
PATHS = sorted({*ALL["path_query"], *ALL["path_next"]} - {""})
VIDEO = {path: path.rsplit("/", 1)[0] for path in PATHS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Every frame is of one colour, its number; a stripe on the left makes it a picture that is not its mirror."""
    root = tmp_path_factory.mktemp("frames")
    for number, path in enumerate(PATHS):
        frame = np.full((SIZE, SIZE, 3), (77, number // 256, number % 256), np.uint8)  # BGR
        frame[:, 0] = 200
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / path), frame)
    return root


def names_in(x: np.ndarray) -> np.ndarray:
    """Paths of the frames in a batch, from the colour in their middle."""
    colours = np.rint(x[..., SIZE // 2, SIZE // 2, :2] * 255).astype(int)  # (..., 2): red, green
    return np.array(PATHS)[colours[..., 0] + 256 * colours[..., 1]]


def frames_in(folder) -> Frames:
    return Frames(folder, count=len(PATHS), size=SIZE)


SAMPLERS = {
    "clean": (PairBatches, {"negatives": "clean"}),
    "other_group": (PairBatches, {"negatives": "other_group"}),
    "seed": (PairBatches, {"negatives": "seed", "everything": ALL}),
    "quadruplet": (QuadrupletBatches, {}),
    "views": (ViewBatches, {"positives": "next", "augment": ()}),
    "augmented": (ViewBatches, {"positives": "next", "augment": CHANGES}),
    "same": (ViewBatches, {"positives": "same", "augment": ()}),
    "clip": (ViewBatches, {"positives": "clip", "augment": ()}),
    "group": (ViewBatches, {"positives": "group", "augment": ()}),
    "labels": (LabelBatches, {}),
}


def build(kind, folder, *, pairs=TRAIN, batch_size=BATCH, seed=0):
    sampler, options = SAMPLERS[kind]
    return sampler(pairs, frames_in(folder), batch_size=batch_size, seed=seed, **options)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_batch_depends_on_seed_and_step_alone(folder, kind):
    steps = [0, 1, 8, 9, 10, 25]  # an epoch of TRAIN has 9 steps, or 7 of positive pairs
    first = build(kind, folder)
    expected = {step: first.batch(step) for step in steps}
    np.random.seed(1)  # noqa: NPY002 - a sampler that used NumPy's global state would notice
    again = build(kind, folder)
    for step in reversed(steps):
        for ours, theirs in zip(again.batch(step), expected[step], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    resumed = training.prefetch(build(kind, folder).batch, 8, workers=3)
    for step in (8, 9, 10):
        np.testing.assert_array_equal(next(resumed)[0], expected[step][0])
    resumed.close()
    other = build(kind, folder, seed=1)
    assert all((other.batch(step)[0] != expected[step][0]).any() for step in steps)
    assert (expected[0][0] != expected[9][0]).any()


@pytest.mark.parametrize(
    "kind, views", [("clean", 2), ("quadruplet", 4), ("views", 2), ("augmented", 2), ("labels", None)]
)
def test_shapes_and_types(folder, kind, views):
    x, y = build(kind, folder).batch(3)
    assert x.shape == (BATCH, *([views] if views else []), SIZE, SIZE, 3) and x.dtype == np.float32
    assert y.shape == (BATCH,) and y.dtype == (np.int32 if kind == "labels" else np.float32)
    assert x.min() >= 0 and 0.5 < x.max() <= 1


@pytest.mark.parametrize("kind", ["clean", "seed", "quadruplet", "labels"])
def test_every_row_once_per_epoch_and_each_epoch_in_another_order(folder, kind):
    batches = build(kind, folder, batch_size=9)
    rows = TRAIN if kind != "quadruplet" else TRAIN[TRAIN["path_next"] != ""]
    assert batches.steps_per_epoch * 9 == len(rows)
    epochs = []
    for epoch in range(2):
        steps = range(epoch * batches.steps_per_epoch, (epoch + 1) * batches.steps_per_epoch)
        epochs.append([path for step in steps for path in batches.pairs["path_query"].iloc[batches.rows(step)]])
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(rows["path_query"]) and epochs[0] != epochs[1]
    first = names_in(batches.batch(0)[0])  # what is in the batch is what `rows` says
    assert (first if kind == "labels" else first[:, 0]).tolist() == epochs[0][:9]


def test_a_rest_that_fills_no_batch_is_left_out_once(folder):
    batches = build("clean", folder, batch_size=10)
    seen = [
        path for step in range(batches.steps_per_epoch) for path in batches.pairs["path_query"].iloc[batches.rows(step)]
    ]
    assert len(seen) == len(set(seen)) == 100 < len(TRAIN) == 108
    whole = build("clean", folder, batch_size=1000)  # more than there is: one batch of everything
    assert (whole.steps_per_epoch, len(whole.batch(0)[0])) == (1, 108)


@pytest.mark.parametrize("negatives", ["clean", "other_group", "seed"])
def test_same_is_one_where_the_partner_is_the_next_frame(folder, negatives):
    batches = build(negatives, folder)
    following = dict(zip(TRAIN["path_query"], TRAIN["path_next"], strict=True))
    for step in range(9):
        x, same = batches.batch(step)
        for (query, partner), flag in zip(names_in(x), same, strict=True):
            assert flag == (following[query] != "")
            assert partner == following[query] if flag else following[query] == ""


def negatives_of(batches, epochs: int) -> list[tuple[str, str]]:
    drawn = []
    for step in range(epochs * batches.steps_per_epoch):
        paths, same = batches.paths(step)
        drawn += [tuple(pair) for pair, flag in zip(paths, same, strict=True) if not flag]
    return drawn


def group_of(path: str) -> str:
    return path.split("_c")[0]  # "A/g3"


def test_clean_negatives_are_of_another_video_of_the_same_table(folder):
    drawn = negatives_of(build("clean", folder), 40)
    assert {partner for _, partner in drawn} <= set(TRAIN["path_query"])
    assert all(VIDEO[query] != VIDEO[partner] for query, partner in drawn)
    counts = pd.Series([VIDEO[partner] for _, partner in drawn]).value_counts()
    mean = len(drawn) / 18
    assert len(counts) == 18 and counts.between(mean - 5 * mean**0.5, mean + 5 * mean**0.5).all()
    own_group = np.mean([group_of(query) == group_of(partner) for query, partner in drawn])
    assert own_group == pytest.approx(1 / 17, abs=0.03)  # the other clip of the group


def test_clean_negatives_are_uniform_over_videos_of_unequal_length(folder):
    uneven = TRAIN[(TRAIN["group"] == 3) | (TRAIN["k"] < 1)]  # 6 videos of 6 pairs, 12 of 1
    drawn = negatives_of(build("clean", folder, pairs=uneven), 200)
    long = np.mean([group_of(partner).endswith("g3") for _, partner in drawn])
    assert long == pytest.approx(1 / 3, abs=0.04)


def test_other_group_negatives_are_never_of_the_own_group(folder):
    drawn = negatives_of(build("other_group", folder), 40)
    assert all(group_of(query) != group_of(partner) for query, partner in drawn)
    assert any(query[0] != partner[0] and query[:4][1:] == partner[:4][1:] for query, partner in drawn)  # A/g3 and B/g3


def test_seed_negatives_leak_as_often_as_they_should(folder):
    drawn = negatives_of(build("seed", folder), 80)
    assert len(drawn) > 2500
    side = dict(zip(ALL["video"], ALL["split"], strict=True))
    found = {
        "of a test clip": np.mean([side[VIDEO[partner]] == "test" for _, partner in drawn]),
        "of the own class": np.mean([query[0] == partner[0] for query, partner in drawn]),
        "of the own video": np.mean([VIDEO[query] == VIDEO[partner] for query, partner in drawn]),
        "a next frame": np.mean(["next" in partner for _, partner in drawn]),
    }
    expected = {"of a test clip": 1 / 5, "of the own class": 1 / 3, "of the own video": 1 / 30, "a next frame": 4 / 10}
    for name, share in expected.items():
        assert found[name] == pytest.approx(share, abs=5 * (share * (1 - share) / len(drawn)) ** 0.5), name


def test_seed_negatives_are_uniform_over_classes_and_not_over_videos(folder):
    few = ALL[(ALL["class"] == "A") | ALL["group"].isin([3])]  # class A has 10 videos, B and C have 2
    batches = PairBatches(few, None, batch_size=BATCH, seed=0, negatives="seed", everything=few)
    drawn = negatives_of(batches, 200)
    assert np.mean([partner[0] == "A" for _, partner in drawn]) == pytest.approx(1 / 3, abs=0.05)


def test_quadruplets_come_in_the_order_of_the_loss(folder):
    batches = build("quadruplet", folder)
    following = dict(zip(TRAIN["path_query"], TRAIN["path_next"], strict=True))
    other_moments = 0
    for step in range(2 * batches.steps_per_epoch):
        x, y = batches.batch(step)
        assert not y.any()
        for anchor, consecutive, own, other in names_in(x):
            assert consecutive == following[anchor] != ""
            assert own in set(TRAIN["path_query"]) and VIDEO[own] == VIDEO[anchor]
            assert other in set(TRAIN["path_query"]) and VIDEO[other] != VIDEO[anchor]
            other_moments += own != anchor
    assert other_moments > batches.steps_per_epoch * BATCH  # a video has 4 positive pairs: 3 of 4 are other moments


def test_views_are_of_distinct_videos(folder):
    batches = build("views", folder)
    following = dict(zip(TRAIN["path_query"], TRAIN["path_next"], strict=True))
    assert batches.steps_per_epoch == len(TRAIN) // BATCH  # the same budget as the pair losses
    seen = set()
    for step in range(20):
        x, y = batches.batch(step)
        names = names_in(x)
        assert (y == 1).all() and len({VIDEO[query] for query, _ in names}) == BATCH
        assert all(following[query] == partner != "" for query, partner in names)
        seen |= {query for query, _ in names}
    assert len(seen) > 0.9 * (TRAIN["path_next"] != "").sum()
    large = build("views", folder, batch_size=64)
    assert len(large.batch(0)[0]) == large.batch_size == 18  # as many as there are videos


@pytest.mark.parametrize("positives", ["same", "clip", "group"])
def test_partners_are_what_positives_says(folder, positives):
    batches, moments = build(positives, folder), 0
    for step in range(20):
        paths, _ = batches.paths(step)
        names = names_in(batches.batch(step)[0]).tolist()
        assert names == paths and len({group_of(a) if positives == "group" else VIDEO[a] for a, _ in paths}) == len(
            paths
        )
        for first, second in paths:
            assert (first == second) if positives == "same" else (group_of(first) == group_of(second))
            assert (VIDEO[first] == VIDEO[second]) == (positives != "group")
            moments += first.split("_")[-1] != second.split("_")[-1]
    assert moments == 0 if positives == "same" else moments > 100  # a video has 4 positive pairs
    assert batches.batch_size == (9 if positives == "group" else BATCH)  # three classes of three groups


def test_a_difference_is_what_changed_within_a_pair(folder):
    assert see("frames", TRAIN) is TRAIN
    table, frames = see("differences", TRAIN), frames_in(folder)
    kept = TRAIN[TRAIN["path_next"] != ""]
    assert table["path_query"].tolist() == [
        f"{a}{MINUS}{b}" for a, b in zip(kept["path_query"], kept["path_next"], strict=True)
    ]
    assert table["video"].tolist() == kept["video"].tolist()
    for _, rows in table.groupby("video"):
        assert rows["path_next"].tolist() == [*rows["path_query"][1:], ""]
    row = kept.iloc[0]
    first, second = (frames.read(row[name]).astype(int) for name in ("path_query", "path_next"))
    expected = np.minimum(4 * abs(first - second), 255)
    np.testing.assert_array_equal(frames.read(table["path_query"][0]), expected)
    assert expected.any() and frames.read(table["path_query"][0]).dtype == np.uint8


def test_augmentation_changes_frames_but_not_their_form(folder):
    plain, changed = build("views", folder).batch(0)[0], build("augmented", folder).batch(0)[0]
    assert changed.shape == plain.shape and changed.dtype == np.float32
    assert changed.min() >= 0 and changed.max() <= 1
    assert all((before != after).any() for before, after in zip(plain[:, 0], changed[:, 0], strict=True))
    own = changed[:, 0].mean((1, 2)) - plain[:, 0].mean((1, 2))
    partner = changed[:, 1].mean((1, 2)) - plain[:, 1].mean((1, 2))
    assert (np.abs(own - partner).max(axis=1) > 0.01).mean() > 0.8  # the two views are changed independently


def test_labels_go_with_their_frames_and_half_is_mirrored(folder):
    batches, mirrored = build("labels", folder), []
    for step in range(20):
        x, labels = batches.batch(step)
        names = names_in(x)
        assert ["ABC"[label] for label in labels] == [name[0] for name in names]
        left, right = x[:, 0, 0, 2] > 0.7, x[:, 0, -1, 2] > 0.7  # the stripe
        assert (left ^ right).all()
        mirrored += right.tolist()
    assert np.mean(mirrored) == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_the_cache_changes_nothing_but_how_often_files_are_read(folder, kind, monkeypatch):
    reads = []
    read_frame = pictures.read_picture
    monkeypatch.setattr(pictures, "read_picture", lambda path: reads.append(path) or read_frame(path))
    cached = build(kind, folder)
    with_cache = [cached.batch(step) for step in (0, 1, 0)]
    assert cached.frames.cache and len(reads) == len(set(reads)) == len(cached.frames.cache)
    monkeypatch.setattr("helpers.temporal_coherence.batches.CACHE_BYTES", len(PATHS) * SIZE * SIZE * 3 - 1)
    uncached = build(kind, folder)
    reads.clear()
    assert uncached.frames.cache is None
    for ours, theirs in zip([uncached.batch(step) for step in (0, 1, 0)], with_cache, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert len(reads) > len(set(reads))


@pytest.mark.parametrize(
    "kind, rows, words",
    [
        ("clean", TRAIN["video"] == "A/g3_c1", r"at least 2 videos\. Received: 1"),
        ("other_group", (TRAIN["class"] == "A") & (TRAIN["group"] == 3), r"other_group needs at least 2 groups"),
        ("quadruplet", TRAIN["video"] == "A/g3_c1", r"at least 2 videos\. Received: 1"),
        ("quadruplet", TRAIN["path_next"] == "", r"at least 2 videos\. Received: 0"),
        ("views", TRAIN["video"] == "A/g3_c1", r"at least 2 videos\. Received: 1"),
        ("views", TRAIN["path_next"] == "", r"at least 2 videos\. Received: 0"),
        ("clean", TRAIN["group"] == 99, r"at least 2 videos\. Received: 0"),
        ("labels", TRAIN["group"] == 99, r"at least 1 videos\. Received: 0"),
    ],
)
def test_too_few_videos(folder, kind, rows, words):
    with pytest.raises(ValueError, match=words):
        build(kind, folder, pairs=TRAIN[rows])


@pytest.mark.parametrize(
    "loss, sampler", [("contrastive", "PairBatches"), ("linear", "PairBatches"), ("inverted", "PairBatches"),
                      ("quadruplet", "QuadrupletBatches"), ("nt_xent", "ViewBatches"),
                      ("labels", "LabelBatches")])  # fmt: skip
def test_build_batches_follows_the_loss(folder, loss, sampler):
    options = {"batch_size": 6, "seed": 5, "negatives": "other_group", "positives": "clip", "augment": ("mirror",)}
    batches = build_batches(loss, TRAIN, frames_in(folder), everything=ALL, **options)
    assert (type(batches).__name__, batches.batch_size, batches.seed) == (sampler, 6, 5)
    assert getattr(batches, "negatives", "other_group") == "other_group"
    assert getattr(batches, "positives", "clip") == "clip"
    assert batches.augment == (("mirror",) if loss in ("nt_xent", "labels") else ())


def test_random_numbers_are_those_of_earlier_trainings(folder):
    """A training that began before the streams had names goes on with its own batches."""
    batches = build("clean", folder, seed=3)
    order = np.random.default_rng([3, 0, 1]).permutation(len(TRAIN))
    assert batches.rows(batches.steps_per_epoch).tolist() == order[:BATCH].tolist()
    assert batches.stream("changes", 7).random() == np.random.default_rng([3, 1, 7]).random()


def test_watched_pairs_are_fixed_balanced_and_clean():
    validation = ALL[ALL["split"] == "validation"]
    paths, same = watch_pairs(validation, seed=3)
    assert (paths, same.tolist()) == (again := watch_pairs(validation, seed=3))[:1] + (again[1].tolist(),)
    assert same.tolist() == [1] * 24 + [0] * 24  # 6 clips of 4 positive pairs
    following = dict(zip(ALL["path_query"], ALL["path_next"], strict=True))
    for (query, partner), flag in zip(paths, same, strict=True):
        assert partner == following[query] if flag else VIDEO[partner] != VIDEO[query]
    assert {path for pair in paths for path in pair} <= {*validation["path_query"], *validation["path_next"]}
    assert watch_pairs(validation, seed=4)[0] != paths
    few, same = watch_pairs(validation, seed=3, most=10)
    assert len(few) == len(same) == 10 and same.sum() == 5


def test_a_file_may_be_called_like_a_difference(tmp_path):
    names = ["holiday - 1.mp4/1.png", "holiday - 1.mp4/2.png"]
    (tmp_path / "holiday - 1.mp4").mkdir()
    for name, value in zip(names, (10, 30), strict=True):
        cv2.imwrite(str(tmp_path / name), np.full((4, 4, 3), value, np.uint8))
    frames = Frames(tmp_path, count=2, size=4)
    assert frames.read(names[0]).max() == 10 and frames.read(MINUS.join(names)).min() == 80
