"""Overlaps and suppression against pycocotools, OpenCV's NMSBoxes, a loop in plain Python, and examples worked by hand."""

import functools

import cv2
import numpy as np
import pytest
from pycocotools import mask

from helpers.boat_detection.evaluation import postprocess
from helpers.boat_detection.metrics import overlap


def some_boxes(count, seed, side=100.0):
    rng = np.random.default_rng(seed)
    start, size = rng.random((count, 2)) * side * 0.6, rng.random((count, 2)) * side * 0.4 + 1
    return np.concatenate([start, start + size], axis=1)


def test_iou_against_pycocotools():
    boxes, others = some_boxes(40, 0), some_boxes(30, 1)
    widths = [np.concatenate([part[:, :2], part[:, 2:] - part[:, :2]], axis=1) for part in (boxes, others)]
    matrix = overlap.iou(boxes[:, None], others)
    assert matrix.shape == (40, 30) and (matrix > 0.5).any() and (matrix == 0).any()
    np.testing.assert_allclose(matrix, mask.iou(*widths, [0] * 30), atol=1e-12)
    np.testing.assert_allclose(overlap.iou(boxes[:30], others), np.diag(matrix[:30]))
    np.testing.assert_allclose(overlap.iou(boxes[:, None] / 512, others / 512), matrix)
    inside = overlap.intersection(boxes[:, None], others) / overlap.area(boxes)[:, None]
    np.testing.assert_allclose(inside, mask.iou(*widths, [1] * 30), atol=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 2, 2), (0, 0, 2, 2), 1),
        ((0, 0, 2, 2), (2, 0, 4, 2), 0),  # they touch
        ((0, 0, 4, 2), (2, 0, 6, 2), 1 / 3),
        ((0, 0, 2, 2), (5, 5, 5, 5), 0),
        ((1, 1, 1, 1), (1, 1, 1, 1), 0),
    ],
)
def test_overlaps_by_hand(a, b, iou):
    assert overlap.iou(a, b) == pytest.approx(iou) and overlap.iou(b, a) == pytest.approx(iou)


def nms_by_loop(boxes, scores, classes, threshold, overlap):
    kept = []
    for index in sorted(range(len(boxes)), key=lambda i: -scores[i]):
        if all(classes[index] != classes[k] or overlap(boxes[index], boxes[k]) <= threshold for k in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.3, 0.45, 0.7])
def test_nms(seed, threshold):
    rng = np.random.default_rng(seed)
    boxes, scores = some_boxes(120, seed), rng.random(120)
    kept = postprocess.nms(boxes, scores, classes=np.zeros(120), threshold=threshold)
    corners = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
    expected = cv2.dnn.NMSBoxes(corners, scores.tolist(), 0.0, threshold)
    assert kept.tolist() == list(np.ravel(expected)) and 10 < len(kept) < 120
    classes = rng.integers(0, 3, 120)
    tied = np.round(scores, 1)
    kept = postprocess.nms(boxes, tied, classes=classes, threshold=threshold)
    assert kept.tolist() == nms_by_loop(boxes, tied, classes, threshold, overlap.iou)


def test_nms_by_hand():
    nms = functools.partial(postprocess.nms, classes=[0] * 4, threshold=0.45)
    # IoU of the first with the second 1/2, with the third 1/3; the second and third overlap by 0.8.
    boxes = [(0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4), (50, 0, 60, 10)]
    scores = [0.9, 0.8, 0.7, 0.95]
    assert nms(boxes, scores).tolist() == [3, 0, 2]  # the second is gone and suppresses no more
    assert nms(boxes, scores, threshold=0.5).tolist() == [3, 0, 1]  # strictly above
    assert nms(boxes, scores, classes=[0, 1, 0, 0]).tolist() == [3, 0, 1, 2]
    assert nms(boxes, [0.5] * 4).tolist() == [0, 2, 3]
    assert nms([], [], classes=[]).tolist() == []


def test_candidates_by_hand():
    boxes = np.arange(16, dtype=np.float32).reshape(4, 4)
    objectness = np.array([0.5, 0.25, 0.9, 0.26], np.float32)
    classes = np.array([[1, 0.5], [1, 1], [0.9, 0.2], [0.9, 1]], np.float32)
    found, scores, labels = postprocess.candidates(boxes, objectness, classes, threshold=0.25)
    # Row 0: 0.5 and 0.25 (not above); row 1: its objectness is not above; row 2: 0.81 and 0.18; row 3: 0.234 and 0.26.
    np.testing.assert_array_equal(found, boxes[[0, 2, 3]])
    np.testing.assert_allclose(scores, [0.5, 0.81, 0.26], rtol=1e-6)
    assert labels.tolist() == [0, 0, 1] and scores.dtype == np.float32
    found, scores, labels = postprocess.candidates(boxes, objectness, classes, threshold=0.005)
    assert len(found) == 8 and labels.tolist() == [0, 1] * 4


def test_detections_table():
    rng = np.random.default_rng(0)
    boxes = np.stack([some_boxes(50, seed, 1.0) for seed in range(3)]).astype(np.float32)
    objectness, classes = rng.random((3, 50)).astype(np.float32), rng.random((3, 50, 2)).astype(np.float32)
    objectness[1] = 0
    table = postprocess.detections_table(
        ["b", "empty", "a"], boxes, objectness, classes, threshold=0.1, nms_threshold=0.45
    )
    assert table.columns.tolist() == ["image", "class", "score", "x1", "y1", "x2", "y2"]
    assert table["image"].unique().tolist() == ["b", "a"] and table.index.tolist() == list(range(len(table)))
    for name, index in (("b", 0), ("a", 2)):
        own = table[table["image"] == name]
        assert (np.diff(own["score"]) <= 0).all()
        found, scores, labels = postprocess.candidates(boxes[index], objectness[index], classes[index], threshold=0.1)
        expected = nms_by_loop(found, scores, labels, 0.45, overlap.iou)
        np.testing.assert_array_equal(own[overlap.CORNERS], found[expected])
        assert own["class"].tolist() == labels[expected].tolist() and own["score"].tolist() == scores[expected].tolist()
    empty = postprocess.detections_table(
        ["x"], boxes[1:2], objectness[1:2], classes[1:2], threshold=0.1, nms_threshold=0.45
    )
    assert empty.columns.tolist() == table.columns.tolist() and len(empty) == 0
    assert postprocess.detections_table([], [], [], [], threshold=0.1, nms_threshold=0.45).dtypes["score"] == np.float32
    assert len(postprocess.join_tables([table, empty, table])) == 2 * len(table)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b, o, c: (b, o * np.nan, c), "diverged"),
        (lambda b, o, c: (b * np.inf, o, c), "diverged"),
    ],
)
def test_bad_output_of_a_network(change, words):
    with pytest.raises(ValueError, match=words):
        postprocess.candidates(*change(np.ones((3, 4)), np.full(3, 0.5), np.ones((3, 2))), threshold=0.005)


def test_an_infinite_box_that_nobody_asks_for():
    boxes = np.array([[0, 0, 1, 1], [0, 0, np.inf, 1]])
    assert len(postprocess.candidates(boxes, np.array([0.9, 0.001]), np.ones((2, 1)), threshold=0.005)[0]) == 1


def test_another_number_of_images():
    with pytest.raises(ValueError):
        postprocess.detections_table(
            ["a", "b"], np.ones((1, 3, 4)), np.ones((1, 3)), np.ones((1, 3, 2)), threshold=0.005, nms_threshold=0.45
        )
