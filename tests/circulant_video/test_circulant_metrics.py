"""GAP, MAP, Hit@1 and PERR against a hand-worked example, loops in plain Python, and scikit-learn."""

import csv
import time

import numpy as np
import pytest
import sklearn.metrics

from helpers.circulant_video import metrics

SCORES, LABELS = [[0.9, 0.2, 0.6], [0.3, 0.8, 0.1]], [[1, 0, 0], [1, 0, 1]]


def some_videos(videos, classes, seed, *, tied=False, labels_per_video=2.0):
    """Random scores with some knowledge of the labels; `tied` leaves five values of score."""
    rng = np.random.default_rng(seed)
    labels = rng.random((videos, classes)) < labels_per_video / classes
    labels[:, classes // 2] = False  # a class that no video has
    scores = np.clip(rng.random((videos, classes)) * 0.8 + 0.2 * labels, 0, 1).astype(np.float32)
    return (np.round(scores * 4) / 4 if tied else scores), labels


def average_precision_by_loop(pairs, positives):
    total = hits = 0
    for rank, (_, hit) in enumerate(sorted(pairs, key=lambda pair: -pair[0]), start=1):
        if hit:
            hits += 1
            total += hits / rank
    return total / positives if positives else 0.0


def scores_by_loop(predictions, labels, top_k):
    """The definitions, one video and one class at a time; sort is stable, so equal scores: lowest class first."""
    classes = len(predictions[0])
    pool, per_class, hit, precision = [], [[] for _ in range(classes)], 0, 0.0
    for scores, truth in zip(predictions.tolist(), labels.tolist(), strict=True):
        order = sorted(range(classes), key=lambda label: -scores[label])
        for label in order[:top_k]:
            pool.append((scores[label], truth[label]))
            per_class[label].append((scores[label], truth[label]))
        hit += truth[order[0]]
        wanted = sum(truth)
        if wanted:
            precision += sum(truth[label] and scores[label] > 0 for label in order[:wanted]) / wanted
    positives = labels.sum(axis=0).tolist()
    each = [average_precision_by_loop(*pair) for pair in zip(per_class, positives, strict=True)]
    return {
        "gap": average_precision_by_loop(pool, sum(positives)),
        "map_drop": sum(each) / max(sum(count > 0 for count in positives), 1),
        "map_zero": sum(each) / classes,
        "hit_at_one": hit / len(predictions),
        "perr": precision / len(predictions),
    }


def test_the_hand_worked_example():
    assert metrics.gap(SCORES, LABELS, top_k=2) == pytest.approx(0.5)  # .9 hit, .8, .6, .3 hit: (1 + 2/4) / 3
    assert metrics.hit_at_one(SCORES, LABELS) == 0.5
    assert metrics.perr(SCORES, LABELS) == 0.75
    assert metrics.mean_average_precision(SCORES, LABELS, absent="zero", top_k=2) == pytest.approx(1 / 3)
    assert metrics.mean_average_precision(SCORES, LABELS, top_k=2) == pytest.approx(1 / 2)
    accumulator = metrics.Metrics(3, top_k=2)
    accumulator.update(SCORES, LABELS)
    assert accumulator.result() == metrics.measure(SCORES, LABELS, top_k=2)


@pytest.mark.parametrize(
    ("videos", "classes", "top_k", "labels_per_video"),
    [
        (200, 60, 20, 2),
        (300, 30, 5, 3),
        (50, 7, 20, 1),
        (1, 40, 20, 3),
        (120, 25, 1, 0.3),
        (40, 12, 3, 8),
        (60, 300, 20, 2),
    ],
)
def test_agrees_with_loops(videos, classes, top_k, labels_per_video):
    predictions, labels = some_videos(videos, classes, seed=videos, labels_per_video=labels_per_video)
    expected = scores_by_loop(predictions, labels, top_k)
    measured = metrics.measure(predictions, labels, top_k)
    assert measured == pytest.approx(expected, abs=1e-12)
    assert metrics.gap(predictions, labels, top_k) == measured["gap"]
    assert metrics.mean_average_precision(predictions, labels, "zero", top_k=top_k) == measured["map_zero"]
    assert metrics.mean_average_precision(predictions, labels, top_k=top_k) == measured["map_drop"]
    assert metrics.hit_at_one(predictions, labels) == measured["hit_at_one"]
    assert metrics.perr(predictions, labels) == measured["perr"]


@pytest.mark.parametrize("seed", range(4))
def test_ties_inside_a_video_give_the_lowest_class_the_place(seed):
    predictions, labels = some_videos(80, 15, seed, tied=True, labels_per_video=4)
    expected = np.argsort(-predictions, axis=1, kind="stable")[:, :6]
    np.testing.assert_array_equal(metrics.top_classes(predictions, 6), expected)
    by_loop = scores_by_loop(predictions, labels, 6)
    measured = metrics.measure(predictions, labels, 6)
    for name in ("hit_at_one", "perr"):
        assert measured[name] == pytest.approx(by_loop[name])


def test_gap_and_ap_agree_with_sklearn_where_all_classes_are_kept():
    predictions, labels = some_videos(400, 18, seed=3)
    assert len(np.unique(predictions)) == predictions.size
    expected = sklearn.metrics.average_precision_score(labels.ravel(), predictions.ravel())
    assert metrics.gap(predictions, labels, top_k=18) == pytest.approx(expected, abs=1e-12)
    present = labels.any(axis=0)
    expected = sklearn.metrics.average_precision_score(labels[:, present], predictions[:, present], average="macro")
    assert metrics.mean_average_precision(predictions, labels) == pytest.approx(expected, abs=1e-12)
    assert metrics.gap(predictions, labels, top_k=5) < metrics.gap(predictions, labels, top_k=18)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_any_batching_gives_the_same(batch, tied, monkeypatch):
    predictions, labels = some_videos(150, 40, seed=5, tied=tied)
    whole = metrics.measure(predictions, labels)
    accumulator = metrics.Metrics(40)
    for start in range(0, 150, batch):
        accumulator.update(predictions[start : start + batch], labels[start : start + batch])
    accumulator.update(predictions[:0], labels[:0])
    streamed = accumulator.result()
    assert (streamed["gap"], streamed["map_drop"]) == (whole["gap"], whole["map_drop"])  # to the last bit
    assert streamed == pytest.approx(whole, abs=1e-12)
    assert accumulator.result() == streamed  # asking twice changes nothing
    monkeypatch.setattr(metrics, "ROWS", batch)
    assert metrics.measure(predictions, labels) == pytest.approx(whole, abs=1e-12)


def test_ties_between_videos_know_nothing_of_the_labels():
    """All videos score alike and the hits come first (or last) in the file: GAP must be that of chance, not 1."""
    predictions, labels = np.full((4000, 1), 0.5), np.zeros((4000, 1), dtype=int)
    labels[:1000] = 1
    for truth in (labels, labels[::-1]):
        assert metrics.gap(predictions, truth) == pytest.approx(0.25, abs=0.03)
        assert metrics.mean_average_precision(predictions, truth) == pytest.approx(0.25, abs=0.03)
    assert metrics.gap(predictions, labels) == metrics.gap(predictions, labels)
    crowd = scores_by_loop(predictions, labels, 20)["gap"]
    assert crowd == 1.0  # what a plain stable sort would have said


def test_videos_without_labels_and_labels_outside_the_best():
    measured = metrics.measure([[0.9, 0.1], [0.2, 0.7]], [[0, 0], [0, 0]])
    assert measured == dict.fromkeys(("gap", "map_drop", "map_zero", "hit_at_one", "perr"), 0.0)
    measured = metrics.measure([[0.9, 0.5, 0.1]], [[1, 0, 1]], top_k=1)
    assert measured["gap"] == 0.5 and measured["map_drop"] == 0.5  # class 2 is never kept, and counts
    assert measured["map_zero"] == pytest.approx(1 / 3) and measured["perr"] == 0.5


@pytest.mark.parametrize(
    ("scores", "labels", "expected"),
    [([[0.0, 0.0]], [[1, 0]], 0.0), ([[0.0, 1e-9]], [[1, 1]], 0.5), ([[0.5, 0.5]], [[0, 1]], 0.0)],
)
def test_perr_counts_a_score_of_zero_as_a_miss(scores, labels, expected):
    assert metrics.perr(scores, labels) == expected


@pytest.mark.parametrize(
    ("scores", "labels", "words"),
    [
        ([[0.1, np.nan], [0.2, 0.3]], [[0, 1], [1, 0]], "in 1 of 2 videos, first in row 0"),
        ([[0.1, np.inf]], [[0, 1]], "finite"),
        ([[0.1, 1e300]], [[0, 1]], "finite"),
        ([[0.1, 0.2]], [[0, 1, 0]], r"\(1, 2\) and \(1, 3\)"),
        ([[0.1, 0.2]] * 5, [[0, 1]] * 6, r"\(5, 2\) and \(6, 2\)"),
        ([0.1, 0.2], [0, 1], "videos, classes"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "videos, classes"),
        (np.zeros((0, 2)), np.zeros((0, 2)), "no videos"),
        ([[0.1, 0.2]], [[0, 2]], "0 or 1"),
        ([[0.1, 0.2]], [[0, np.nan]], "0 or 1"),
    ],
)
def test_bad_input(scores, labels, words):
    for function in (metrics.gap, metrics.mean_average_precision, metrics.hit_at_one, metrics.perr):
        with pytest.raises(ValueError, match=words):
            function(scores, labels)


def test_bad_arguments():
    with pytest.raises(ValueError, match="skip"):
        metrics.mean_average_precision(SCORES, LABELS, absent="skip")
    with pytest.raises(ValueError, match="top_k=0"):
        metrics.gap(SCORES, LABELS, top_k=0)
    with pytest.raises(ValueError, match="expected 4 classes"):
        metrics.Metrics(4).update(SCORES, LABELS)
    with pytest.raises(ValueError, match="no videos"):
        metrics.Metrics(4).result()
    with pytest.raises(ValueError, match="at least one training video"):
        metrics.class_prior_predictions(np.zeros((0, 3)), 2)


def test_memory_is_seven_bytes_a_pair():
    predictions, labels = some_videos(64, 500, seed=1)
    accumulator = metrics.Metrics(500)
    accumulator.update(predictions.astype(np.float64), labels.astype(np.float32))
    assert sum(part.nbytes for chunk in accumulator._chunks for part in chunk) == 64 * 20 * 7
    assert all(part.base is None or part.base.nbytes <= part.nbytes for chunk in accumulator._chunks for part in chunk)


def test_class_prior():
    predictions = metrics.class_prior_predictions([[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 1, 0]], 5)
    assert predictions.shape == (5, 3) and predictions.dtype == np.float32
    np.testing.assert_allclose(predictions, [[0.75, 0.5, 0.0]] * 5)
    assert metrics.hit_at_one(predictions, np.eye(3, dtype=bool)[[0, 0, 1, 2, 0]]) == 0.6


def test_kaggle_file(tmp_path):
    predictions, labels = some_videos(30, 50, seed=2)
    ids = [b"AAAA", 'with,"comma', *(f"v{number}" for number in range(28))]
    metrics.write_predictions(tmp_path / "out.csv", ids, predictions)
    text = (tmp_path / "out.csv").read_text()
    assert text.startswith("VideoId,LabelConfidencePairs\nAAAA,") and len(text.splitlines()) == 31
    with (tmp_path / "out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["VideoId"] for row in rows] == ["AAAA", *ids[1:]]
    back = np.zeros_like(predictions)
    for number, row in enumerate(rows):
        pairs = np.array(row["LabelConfidencePairs"].split()).reshape(20, 2)
        back[number, pairs[:, 0].astype(int)] = pairs[:, 1].astype(np.float32)
        assert (np.diff(pairs[:, 1].astype(float)) <= 0).all()
    np.testing.assert_array_equal(back[back > 0], predictions[back > 0])  # bit for bit
    assert metrics.gap(back, labels) == metrics.gap(predictions, labels)


@pytest.mark.parametrize(
    ("ids", "rows", "words"),
    [
        (["a"], [[0.1], [0.2]], "1 ids"),
        (["a", "a"], [[0.1], [0.2]], "1 distinct"),
        (["a", "b"], [[0.1], [np.nan]], "finite"),
    ],
)
def test_a_refused_kaggle_file_leaves_the_old_one(tmp_path, ids, rows, words):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match=words):
        metrics.write_predictions(path, ids, np.array(rows))
    assert path.read_text() == "old" and [file.name for file in tmp_path.iterdir()] == ["out.csv"]


def test_the_size_of_the_paper():
    """178 720 held-out videos, 3.6 million pairs; prints the time (run with -s), asserts nothing about it."""
    rng = np.random.default_rng(0)
    accumulator = metrics.Metrics(3862)
    accumulator.update(rng.random((1024, 3862), dtype=np.float32), rng.random((1024, 3862)) < 3 / 3862)
    accumulator._chunks *= 175
    accumulator.positives *= 175
    start = time.perf_counter()
    result = accumulator.result()
    print(f"\n{1024 * 20 * 175:,} pairs: {time.perf_counter() - start:.2f} s, GAP {result['gap']:.4f}")
    assert 0 < result["gap"] < 0.01
