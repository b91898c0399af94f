"""Anchors: clusters planted on purpose, and every partition of a tiny set tried out."""

import itertools

import numpy as np
import pandas as pd
import pytest

from helpers import runtime
from helpers.boat_detection import anchors
from helpers.boat_detection.metrics.overlap import iou

HARBOUR = runtime.repo_root().parent / "shared" / "data" / "boats" / "harbour"


def test_shape_iou_is_the_iou_of_centred_boxes():
    rng = np.random.default_rng(0)
    sizes, others = rng.random((20, 2)) * 50 + 1, rng.random((7, 2)) * 50 + 1
    centred = [np.concatenate([-part / 2, part / 2], axis=1) for part in (sizes, others)]
    np.testing.assert_allclose(anchors.shape_iou(sizes, others), iou(centred[0][:, None], centred[1]))


def test_average_best_iou_by_hand():
    # 10 x 10 with 10 x 5: 1/2, with 20 x 20: 1/4; 20 x 10: with 10 x 5 1/4, with 20 x 20 1/2.
    assert anchors.average_best_iou([(10, 10), (20, 10), (20, 20)], [(10, 5), (20, 20)]) == pytest.approx(
        (0.5 + 0.5 + 1) / 3
    )


@pytest.mark.parametrize("num_anchors", [3, 6, 9])
def test_planted_clusters(num_anchors):
    rng = np.random.default_rng(num_anchors)
    planted = np.array([(10 * 1.8**number, 10 * 1.8**number * (0.5 + number % 2)) for number in range(num_anchors)])
    sizes = planted[rng.integers(0, num_anchors, 900)] * rng.normal(1, 0.03, (900, 2))
    found, score = anchors.find_anchors(rng.permutation(sizes), num_anchors, seeds=100)
    planted = planted[np.argsort(planted.prod(axis=1))]
    np.testing.assert_allclose(found, planted, rtol=0.02)
    assert score == pytest.approx(anchors.average_best_iou(sizes, found)) and 0.9 < score < 1


def partitions(items, parts):
    for labels in itertools.product(range(parts), repeat=len(items)):
        if len({*labels}) == parts:
            yield np.array(labels)


@pytest.mark.parametrize("seed", range(6))
def test_every_partition_of_a_tiny_set(seed):
    """As good as the best partition that k-means cannot leave, and no set of cluster means is better than the best of all."""
    sizes = np.exp(np.random.default_rng(seed).normal(3, 0.8, (7, 2)))
    every, stable = [], []
    for labels in partitions(sizes, 3):
        means = np.array([sizes[labels == part].mean(axis=0) for part in range(3)])
        every.append(anchors.average_best_iou(sizes, means))
        if (anchors.shape_iou(sizes, means).argmax(axis=1) == labels).all():
            stable.append(every[-1])
    _, score = anchors.find_anchors(sizes, 3, seeds=150)  # 35 different starts
    assert stable and max(stable) - 1e-12 <= score <= max(every) + 1e-12


def test_same_seed_same_anchors_and_smallest_first():
    sizes = np.exp(np.random.default_rng(0).normal(3.5, 0.7, (400, 2)))
    found, score = anchors.find_anchors(sizes, 6, seed=3)
    again, _ = anchors.find_anchors(sizes, 6, seed=3)
    np.testing.assert_array_equal(found, again)
    assert found.shape == (6, 2) and (np.diff(found.prod(axis=1)) >= 0).all()
    scores = [anchors.find_anchors(sizes, 6, seeds=1, seed=seed)[1] for seed in range(8)]
    assert score >= np.median(scores) and len({*scores}) > 1  # several starts are worth it
    assert anchors.find_anchors(sizes, 9)[1] > score


def test_as_many_anchors_as_sizes():
    sizes = [(10, 20), (30, 5), (8, 8)] * 4
    found, score = anchors.find_anchors(sizes, 3)
    assert score == pytest.approx(1) and found.tolist() == [[8, 8], [30, 5], [10, 20]]
    one, _ = anchors.find_anchors(sizes, 1)
    np.testing.assert_allclose(one, [[16, 11]])


def test_a_centre_without_boxes_moves():
    """Two boxes alike, one far off: the centre that fits nothing takes the worst box."""
    sizes = np.array([(10.0, 10.0), (11.0, 10.0), (200.0, 150.0)])
    score, centres = anchors._run(sizes, np.array([(10.0, 10.0), (1.0, 400.0)]))
    assert score > 0.96 and [200.0, 150.0] in centres.tolist()


@pytest.mark.parametrize(
    ("sizes", "num_anchors", "words"),
    [
        ([(1, 1), (2, 2)], 3, "different box sizes, 2 here"),
        ([(1, 1), (1, 1)], 2, "different box sizes, 1 here"),
        ([(1, 1)], 0, "num_anchors=0"),
        (np.zeros((0, 2)), 1, "different box sizes, 0 here"),
    ],
)
def test_bad_input(sizes, num_anchors, words):
    with pytest.raises(ValueError, match=words):
        anchors.find_anchors(sizes, num_anchors)


@pytest.mark.skipif(not HARBOUR.is_dir(), reason="no harbour photos beside the repository")
def test_harbour_boats_fit_better_than_cocos_anchors():
    labels = [np.loadtxt(path, ndmin=2) for path in sorted(HARBOUR.glob("*_*.txt"))]
    sizes = np.concatenate([rows[:, 3:] for rows in labels if rows.size]) * 416
    coco = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326)]
    assert anchors.find_anchors(sizes, 9, seeds=3)[1] > anchors.average_best_iou(sizes, coco) + 0.1


@pytest.mark.parametrize(("resize", "expected"), [("stretch", [[32.0, 32.0]]), ("letterbox", [[32.0, 16.0]])])
def test_sizes_in_the_input(resize, expected):
    table = pd.DataFrame({"image": ["a"], "width": [200], "height": [100]})
    boxes = pd.DataFrame({"image": ["a"], "x1": [0.1], "x2": [0.6], "y1": [0.0], "y2": [0.5]})
    assert anchors.input_sizes(table, boxes, size=64, resize=resize).tolist() == expected


def test_sizes_in_an_input_that_is_no_square():
    """Half of a picture of 200 x 100, stretched to 96 wide and 64 high; a letterbox fits it into 96 x 48."""
    table = pd.DataFrame({"image": ["a"], "width": [200], "height": [100]})
    boxes = pd.DataFrame({"image": ["a"], "x1": [0.1], "x2": [0.6], "y1": [0.0], "y2": [0.5]})
    assert anchors.input_sizes(table, boxes, size=(64, 96), resize="stretch").tolist() == [[48.0, 32.0]]
    assert anchors.input_sizes(table, boxes, size=(64, 96), resize="letterbox").tolist() == [[48.0, 24.0]]
