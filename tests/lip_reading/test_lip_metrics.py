"""Scores against scikit-learn and by hand; the baseline and the controls on clips whose answer is known."""

import cv2
import numpy as np
import pytest
from sklearn import metrics as sk

from helpers.lip_reading import metrics

LABELS = np.array([0, 0, 1, 1, 2, 2, 2])
BEST = np.array([0, 1, 1, 0, 2, 3, 2])  # class 3 has no clip, class 4 is never seen
SPEAKERS = ["b", "a", "b", "a", "b", "b", "a"]
NAMES = ["pat", "bat", "cat", "mat", "rat"]


def scores_of(best, classes=5):
    scores = np.full((len(best), classes), -1.0)
    scores[np.arange(len(best)), best] = 2.0
    return scores


SCORES = scores_of(BEST)


def test_scores_by_hand():
    found = metrics.measure(LABELS, SCORES)
    # F1 of 0: 2/4, of 1: 2/4, of 2: 4/5, of 3: 0; class 4 does not count
    expected = {"clips": 7, "classes": 5, "chance": 0.2, "accuracy": 4 / 7, "macro_f1": (0.5 + 0.5 + 0.8 + 0) / 4}
    assert found == pytest.approx(expected)


def test_scores_against_scikit_learn():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(300, 12)), rng.integers(0, 12, 300)
    scores[np.arange(300), labels] += 1.0
    found = metrics.measure(labels, scores)
    assert found["accuracy"] == pytest.approx(sk.accuracy_score(labels, scores.argmax(1)))
    assert found["top5"] == pytest.approx(sk.top_k_accuracy_score(labels, scores, k=5))
    assert found["macro_f1"] == pytest.approx(sk.f1_score(labels, scores.argmax(1), average="macro"))
    assert metrics.top_accuracy(labels, scores, 12) == 1.0


def test_a_network_without_an_opinion_has_no_top_five():
    equal = np.zeros((24, 12))
    labels = np.repeat(np.arange(12), 2)
    assert metrics.measure(labels, equal)["accuracy"] == pytest.approx(1 / 12)
    assert metrics.measure(labels, equal)["top5"] == pytest.approx(5 / 12)


def test_confusion_matrix_keeps_every_class_and_clip():
    expected = [[1, 1, 0, 0, 0], [1, 1, 0, 0, 0], [0, 0, 2, 1, 0], [0] * 5, [0] * 5]
    found = metrics.confusion_matrix(LABELS, SCORES)
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == len(LABELS)


def test_tables_by_hand():
    speakers = metrics.per_speaker(LABELS, SCORES, SPEAKERS)
    assert speakers.to_dict("list") == {
        "speaker": ["a", "b"],
        "clips": [3, 4],
        "accuracy": [pytest.approx(1 / 3), 0.75],
    }


def test_most_confused_pairs_in_either_direction():
    matrix = [[8, 3, 0, 0], [2, 8, 0, 0], [1, 0, 5, 4], [0, 0, 1, 1]]
    found = metrics.most_confused(matrix, ["pat", "bat", "cat", "gas"])
    expected = [("cat", "gas", 5, 5 / 12), ("pat", "bat", 5, 5 / 21), ("pat", "cat", 1, 1 / 21)]
    assert [tuple(row) for row in found.itertuples(index=False)] == [
        (*row[:3], pytest.approx(row[3])) for row in expected
    ]
    assert len(metrics.most_confused(matrix, ["a", "b", "c", "d"], n=1)) == 1
    assert metrics.most_confused(np.eye(3, dtype=int), ["a", "b", "c"]).empty


@pytest.mark.parametrize(
    "labels, scores, words",
    [
        ([], np.zeros((0, 3)), "at least one clip"),
        ([0, 1], np.zeros((3, 2)), "labels of shape (2,), scores of shape (3, 2)"),
        ([0], np.zeros(3), "scores (N, n)"),
        ([3], np.zeros((1, 3)), "class numbers from 0 to 2"),
        ([-1], np.zeros((1, 3)), "class numbers from 0 to 2"),
        ([0.0], np.zeros((1, 3)), "class numbers"),
        ([0], [[0.0, np.nan]], "Received: 1 that are not"),
    ],
)
def test_bad_input(labels, scores, words):
    for measure in (metrics.measure, metrics.confusion_matrix, metrics.top_accuracy):
        with pytest.raises(ValueError) as error:
            measure(labels, scores)
        assert words in str(error.value)


def test_mean_frames(monkeypatch):
    clip = np.arange(2 * 4 * 6 * 1, dtype=np.float32).reshape(2, 4, 6, 1)
    np.testing.assert_allclose(metrics.mean_frames([clip])[0], clip.mean(0).ravel())
    blocks = clip.mean(0).reshape(2, 2, 2, 3).mean(axis=(1, 3))  # 4 x 6 pixels to 2 x 2
    with monkeypatch.context() as patch:
        patch.setattr(metrics, "SIDE", 2)
        np.testing.assert_allclose(metrics.mean_frames([clip])[0], blocks.ravel())
    grey = np.full((1, 3, 50, 40, 3), 51, np.uint8)
    np.testing.assert_allclose(metrics.mean_frames(grey), np.full((1, 32 * 32 * 3), 0.2), rtol=1e-5)


def moving_dots(count, *, by_place, seed):
    """Clips in which a dot moves right (class 0) or left (2); with `by_place` in the upper half for 0, the lower for 2."""
    rng = np.random.default_rng(seed)
    clips, labels = np.zeros((count, 8, 8, 8, 1), np.uint8), rng.choice([0, 2], count)
    for clip, label in zip(clips, labels, strict=True):
        row = rng.integers(0, 4) + 4 * (label == 2) * by_place + 4 * rng.integers(0, 2) * (not by_place)
        clip[np.arange(8), row, np.arange(8) if label == 0 else np.arange(8)[::-1], 0] = 255
    return clips, labels


@pytest.mark.parametrize("by_place, low, high", [(True, 0.95, 1.0), (False, 0.25, 0.75)])
def test_baseline_sees_place_and_not_motion(by_place, low, high):
    (train, labels), (test, truth) = (moving_dots(60, by_place=by_place, seed=s) for s in (0, 1))
    scores = metrics.mean_frame_baseline(train, labels, test, 4)
    assert scores.shape == (60, 4) and np.all(scores[:, [1, 3]] == 0)
    np.testing.assert_allclose(scores.sum(axis=1), 1)
    assert low <= metrics.accuracy(truth, scores) <= high


def test_templates_against_plain_loops_and_the_closed_form():
    rng = np.random.default_rng(0)
    clips, labels = rng.integers(0, 256, (12, 4, 40, 6, 1), np.uint8), rng.integers(0, 3, 12)
    rows = metrics.normalised(clips)
    for clip, row in zip(clips, rows, strict=True):
        small = np.stack(
            [cv2.resize(frame, (6, 32), interpolation=cv2.INTER_AREA) for frame in clip.astype(np.float32)]
        )
        assert (
            np.corrcoef((small - small.mean(axis=0)).ravel(), row)[0, 1] > 0.9
        )  # stripes of whole pixels, not of shares
        assert row.std() == pytest.approx(1, rel=1e-4) and abs(row.reshape(4, -1).mean(axis=0)).max() < 1e-5
    np.testing.assert_allclose(metrics.normalised(clips / 255), rows, atol=1e-3)  # brightness and contrast are gone
    known, asked = rows[:8], rows[8:]
    nearest = [min(range(8), key=lambda k: ((known[k] - row) ** 2).sum()) for row in asked]
    found = metrics.nearest_neighbour(known, labels[:8], 3)(asked)
    np.testing.assert_array_equal(found, np.eye(3)[labels[:8][nearest]])
    targets, middle = np.eye(3)[labels[:8]], known.mean(axis=0)
    weights = np.linalg.solve(
        (known - middle).T @ (known - middle) + metrics.RIDGE * np.eye(known.shape[1]),
        (known - middle).T @ (targets - targets.mean(axis=0)),
    )
    expected = (asked - middle) @ weights + targets.mean(axis=0)
    np.testing.assert_allclose(metrics.ridge_regression(known, labels[:8], 3)(asked), expected, atol=1e-4)


def test_templates_read_motion_that_the_mean_frame_does_not():
    (train, labels), (test, truth) = (moving_dots(60, by_place=False, seed=s) for s in (0, 1))
    known, asked = metrics.normalised(train), metrics.normalised(test)
    for read in (metrics.nearest_neighbour, metrics.ridge_regression):
        assert metrics.accuracy(truth, read(known, labels, 4)(asked)) == 1
        assert metrics.accuracy(truth, read(known, labels, 4)(metrics.normalised(test[:, ::-1]))) == 0


def test_controls():
    clips = np.arange(3 * 6 * 2).reshape(3, 6, 2)
    np.testing.assert_array_equal(metrics.reverse_frames(clips)[1, 0], clips[1, 5])
    shuffled = metrics.shuffle_frames(clips, seed=1)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), clips)  # whole frames, none lost
    np.testing.assert_array_equal(shuffled[..., 1] - shuffled[..., 0], 1)
    orders = (shuffled[..., 0] - clips[:, :1, 0]) // 2
    assert len({tuple(order) for order in orders}) == 3 and (0, 1, 2, 3, 4, 5) not in {tuple(order) for order in orders}
    np.testing.assert_array_equal(metrics.shuffle_frames(clips, seed=1), shuffled)
    np.testing.assert_allclose(
        metrics.mean_frames(shuffled[..., None, None]), metrics.mean_frames(clips[..., None, None])
    )
