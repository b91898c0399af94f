"""Average precision and matching against pycocotools, loops in plain Python, and examples worked by hand."""

import contextlib
import functools
import io
import time

import numpy as np
import pandas as pd
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from helpers.boat_detection import metrics
from helpers.boat_detection.evaluation.postprocess import CORNERS
from helpers.boat_detection.metrics import matching, overlap


def table(rows, columns):
    return pd.DataFrame(rows, columns=columns.split())


def boxes(*rows):
    """Ground truth from (image, x1, y1, x2, y2[, ignore])."""
    return table([(row[0], 0, *row[1:], *[0] * (6 - len(row))) for row in rows], "image class x1 y1 x2 y2 ignore")


def found(*rows):
    """Detections from (image, score, x1, y1, x2, y2)."""
    return table([(row[0], 0, *row[1:]) for row in rows], "image class score x1 y1 x2 y2")


def some_images(images, classes, seed, *, crowds=False, ties=False, truths=6, false=8, side=300, moored=0.4):
    """Random truths; detections are jittered truths (some twice) and random boxes, on a grid, so that overlaps tie."""
    rng = np.random.default_rng(seed)

    def corners(count):
        size = 4 * np.exp(rng.uniform(np.log(2), np.log(side / 6), (count, 2))).astype(int)
        start = 4 * (rng.random((count, 2)) * (side - size) / 4).astype(int)
        close = rng.random(count) < moored  # boats moored side by side
        size[1:][close[1:]] = size[:-1][close[1:]]
        start[1:][close[1:]] = start[:-1][close[1:]] + size[:-1][close[1:]] // 4 * [1, 0]
        return np.hstack([start, start + size])

    rows, guesses = [], []
    for image in range(images):
        own = corners(rng.integers(0, truths + 1))
        labels = rng.integers(0, classes, len(own))
        rows += [(f"i{image:04d}", label, *box) for label, box in zip(labels, own.tolist(), strict=True)]
        again = np.repeat(np.arange(len(own)), rng.integers(0, 4, len(own)))
        shift = rng.normal(0, 0.12, (len(again), 4)) * np.tile(own[again][:, 2:] - own[again][:, :2], 2)
        near = 4 * ((own[again] + shift) / 4).round().astype(int)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 4)
        other = corners(rng.integers(0, false))
        for label, box in [
            *zip(labels[again], near.tolist(), strict=True),
            *zip(rng.integers(0, classes, len(other)), other.tolist(), strict=True),
        ]:
            score = rng.random() * 0.6 + 0.4 * rng.random()
            guesses.append((f"i{image:04d}", label, np.round(score * 5) / 5 if ties else score, *box))
    truth = table(rows, "image class x1 y1 x2 y2")
    truth["ignore"] = (rng.random(len(truth)) < 0.25) if crowds else False
    guess = table(guesses, "image class score x1 y1 x2 y2")
    return guess.sample(frac=1, random_state=seed).reset_index(drop=True), truth


def coco_eval(detections, truths):
    """pycocotools' own run: (thresholds, recalls, classes, areas, max detections) precision and the 12 figures."""
    images = sorted({*detections["image"], *truths["image"]})
    number = {image: index + 1 for index, image in enumerate(images)}
    classes = sorted({*detections["class"], *truths["class"]})

    def record(row):
        width, height = row.x2 - row.x1, row.y2 - row.y1
        return {
            "image_id": number[row.image],
            "category_id": int(row.label),
            "bbox": [float(row.x1), float(row.y1), float(width), float(height)],
        }

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": index} for index in number.values()],
            "categories": [{"id": int(label)} for label in classes],
            "annotations": [
                record(row)
                | {"id": index + 1, "iscrowd": int(row.ignore), "area": float((row.x2 - row.x1) * (row.y2 - row.y1))}
                for index, row in enumerate(truths.rename(columns={"class": "label"}).itertuples())
            ],
        }
        coco.createIndex()
        results = [
            record(row) | {"score": row.score} for row in detections.rename(columns={"class": "label"}).itertuples()
        ]
        run = COCOeval(coco, coco.loadRes(results), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run.eval["precision"], run.stats


@pytest.mark.parametrize(
    ("classes", "crowds", "ties"),
    [(1, False, False), (1, True, True), (3, False, True), (3, True, False), (3, True, True)],
)
@pytest.mark.parametrize("seed", range(3))
def test_pycocotools(classes, crowds, ties, seed):
    detections, truths = some_images(40, classes, seed, crowds=crowds, ties=ties)
    precision, stats = coco_eval(detections, truths)
    result = metrics.summary(detections, truths)
    expected = dict(zip(["AP50:95", "AP50", "AP75", "AP small", "AP medium", "AP large"], stats[:6], strict=True))
    assert result.loc["mean", list(expected)].to_dict() == pytest.approx(expected, abs=1e-12)
    assert 0.1 < expected["AP50"] < 0.95  # the example is neither empty nor trivial
    for index, threshold in enumerate(metrics.COCO_IOU):
        ours = metrics.average_precision_by_class(detections, truths, threshold, "coco")
        theirs = precision[index, :, :, 0, -1].mean(axis=0)
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_the_examples_meet_every_rule():
    """Overlaps of exactly 1/2, re-matched detections, equal overlaps, detections in crowds: else the oracle proves little."""
    seen = dict.fromkeys(("half", "rematched", "crowd", "equal"), 0)
    for seed in range(3):
        detections, truths = some_images(40, 3, seed, crowds=True, ties=True)
        pairs = matching.pair_boxes(detections, truths)
        coco, darknet = matching.match_coco(pairs, [0.5])[0], matching.match_darknet(pairs, 0.5)
        seen["half"] += (pairs.overlap == 0.5).sum()
        seen["crowd"] += (coco == matching.IGNORED).sum()
        seen["equal"] += pd.DataFrame([pairs.detection, pairs.overlap]).T[pairs.overlap >= 0.5].duplicated().sum()
        seen["rematched"] += ((coco >= 0) & (darknet == matching.NONE)).sum()
    assert min(seen.values()) > 0, seen


def test_more_than_a_hundred_detections_in_an_image():
    rng = np.random.default_rng(0)
    truths = boxes(*[("a", 20 * number, 0, 20 * number + 15, 15) for number in range(130)])
    rows = [("a", score, 20 * number, 0, 20 * number + 15, 15) for number, score in enumerate(rng.random(130))]
    _, stats = coco_eval(found(*rows), truths)
    assert metrics.average_precision(found(*rows), truths, method="coco") == pytest.approx(stats[1]) != 1
    assert metrics.average_precision(found(*rows), truths) == 1


def darknet_by_loop(detections, truths, iou, method):
    """`detector map` in plain Python: marks each detection with its best truth, then walks down the ranks."""
    result = {}
    for label in sorted({*truths["class"], *detections["class"]}):
        guesses = detections[detections["class"] == label].sort_values(
            ["score", "image"], ascending=[False, True], kind="stable"
        )
        own = truths[(truths["class"] == label) & ~truths["ignore"].astype(bool)]
        areas = truths[(truths["class"] == label) & truths["ignore"].astype(bool)]
        taken, hits = set(), []
        for guess in guesses.itertuples():
            overlaps = [(one_iou(guess, truth), truth.Index) for truth in own[own["image"] == guess.image].itertuples()]
            best, index = max(overlaps, key=lambda pair: pair[0], default=(0, None))
            if best > iou:
                hits.append(index not in taken)
                taken.add(index)
            elif not any(inside(guess, area) > iou for area in areas[areas["image"] == guess.image].itertuples()):
                hits.append(False)
        if not len(own):
            continue
        ranks = [(sum(hits[: n + 1]) / (n + 1), sum(hits[: n + 1]) / len(own)) for n in range(len(hits))]
        if method == "area":
            total, last_recall, last_precision = 0.0, *((ranks[-1][1], ranks[-1][0]) if ranks else (0, 0))
            for precision, recall in reversed(ranks[:-1]):
                step, last_recall = last_recall - recall, recall
                last_precision = max(last_precision, precision)
                total += step * last_precision
            result[label] = total + last_recall * last_precision
        else:
            points = [point / (int(method) - 1) for point in range(int(method))]
            best = [max((p for p, recall in ranks if recall >= point), default=0) for point in points]
            result[label] = sum(best) / len(best)
    return result


def shared(a, b):
    return max(0, min(a.x2, b.x2) - max(a.x1, b.x1)) * max(0, min(a.y2, b.y2) - max(a.y1, b.y1))


def size(a):
    return (a.x2 - a.x1) * (a.y2 - a.y1)


def one_iou(a, b):
    return shared(a, b) / (size(a) + size(b) - shared(a, b))


def inside(a, b):
    return shared(a, b) / size(a)


@pytest.mark.parametrize("method", ["area", "11", "101"])
@pytest.mark.parametrize(("classes", "crowds", "ties"), [(1, False, False), (3, True, True)])
@pytest.mark.parametrize("iou", [0.5, 0.3, 0.75])
def test_darknet_by_loop(method, classes, crowds, ties, iou):
    detections, truths = some_images(25, classes, 7, crowds=crowds, ties=ties)
    expected = darknet_by_loop(detections, truths, iou, method)
    result = metrics.average_precision_by_class(detections, truths, iou, method)
    assert result.to_dict() == pytest.approx(expected, abs=1e-12)
    assert metrics.average_precision(detections, truths, iou, method) == pytest.approx(np.mean(list(expected.values())))


def test_area_is_near_pycocotools():
    detections, truths = some_images(200, 1, 3, moored=0, truths=3)
    noise = np.random.default_rng(0).uniform(-1.5, 1.5, (len(detections), 4))  # off the grid: no overlap of exactly 1/2
    detections = detections.assign(**dict(zip(CORNERS, (detections[CORNERS] + noise).to_numpy().T, strict=True)))
    _, stats = coco_eval(detections, truths)
    assert metrics.average_precision(detections, truths) == pytest.approx(stats[1], abs=0.01)
    assert metrics.average_precision(detections, truths, method="101") == pytest.approx(stats[1], abs=0.005)


BOAT = (0, 0, 10, 10)


@pytest.mark.parametrize(
    ("detections", "truths", "expected"),
    [
        # Three boats; hit, false alarm, hit: precision 1, 1/2, 2/3 at recall 1/3, 1/3, 2/3.
        (
            [("a", 0.9, *BOAT), ("a", 0.8, 50, 50, 60, 60), ("b", 0.7, *BOAT)],
            [("a", *BOAT), ("b", *BOAT), ("c", *BOAT)],
            {
                "area": 5 / 9,
                "11": (4 + 3 * 2 / 3) / 11,
                "101": (34 + 33 * 2 / 3) / 101,
                "coco": (34 + 33 * 2 / 3) / 101,
            },
        ),
        # The same boat twice: the second is a false alarm, after all boats are found.
        ([("a", 0.9, *BOAT), ("a", 0.8, *BOAT)], [("a", *BOAT)], dict.fromkeys(metrics.METHODS, 1.0)),
        # Overlap of exactly 1/2: COCO takes it, Darknet does not.
        ([("a", 0.9, 0, 0, 10, 5)], [("a", *BOAT)], {"area": 0, "11": 0, "101": 0, "coco": 1.0}),
        # The second detection overlaps both boats, most the one that is taken: COCO gives it the other.
        (
            [("a", 0.9, 0, 0, 10, 10), ("a", 0.8, 1, 0, 11, 10)],
            [("a", 0, 0, 10, 10), ("a", 3, 0, 13, 10)],
            {"area": 0.5, "11": 6 / 11, "101": 51 / 101, "coco": 1.0},
        ),
        # A worse detection comes first and takes the boat.
        (
            [("a", 0.9, 0, 0, 10, 7), ("a", 0.8, *BOAT), ("b", 0.7, *BOAT)],
            [("a", *BOAT), ("b", *BOAT)],
            {"area": 0.5 + 0.5 * 2 / 3, "coco": (51 + 50 * 2 / 3) / 101},
        ),
        # A group of boats swallows what lies in it, any number; it is no boat to find.
        (
            [("a", 0.9, 20, 20, 30, 30), ("a", 0.8, 22, 20, 30, 30), ("b", 0.5, *BOAT)],
            [("a", 15, 15, 80, 80, 1), ("b", *BOAT)],
            dict.fromkeys(metrics.METHODS, 1.0),
        ),
        # ... but not what has no more than half of itself in it.
        (
            [("a", 0.9, 10, 20, 19, 30), ("b", 0.5, *BOAT)],
            [("a", 15, 15, 80, 80, 1), ("b", *BOAT)],
            dict.fromkeys(metrics.METHODS, 0.5),
        ),
        # A boat inside a group: the first hit counts; Darknet calls the second false, COCO gives it to the group.
        (
            [("a", 0.9, *BOAT), ("a", 0.8, *BOAT), ("b", 0.5, *BOAT)],
            [("a", 0, 0, 90, 90, 1), ("a", *BOAT), ("b", *BOAT)],
            {"area": 0.5 + 0.5 * 2 / 3, "coco": 1.0},
        ),
        # Another image's boat does not help.
        ([("b", 0.9, *BOAT)], [("a", *BOAT)], dict.fromkeys(metrics.METHODS, 0.0)),
        ([], [("a", *BOAT)], dict.fromkeys(metrics.METHODS, 0.0)),
        ([("a", 0.9, *BOAT)], [], dict.fromkeys(metrics.METHODS, np.nan)),
        ([], [], dict.fromkeys(metrics.METHODS, np.nan)),
        ([("a", 0.9, *BOAT)], [("a", *BOAT, 1)], dict.fromkeys(metrics.METHODS, np.nan)),
    ],
)
def test_worked_by_hand(detections, truths, expected):
    for method, value in expected.items():
        result = metrics.average_precision(found(*detections), boxes(*truths), method=method)
        assert isinstance(result, float) and result == pytest.approx(value, nan_ok=True), method


def test_recall_points_are_the_programs_own():
    """35 of 100 found: that reaches Darknet's 35/100, and not COCO's 0.35 out of linspace, which is a hair above."""
    truths = boxes(*[(f"i{number}", *BOAT) for number in range(100)])
    detections = found(*[(f"i{number}", 0.9, *BOAT) for number in range(35)])
    assert metrics.average_precision(detections, truths, method="101") == pytest.approx(36 / 101)
    assert metrics.average_precision(detections, truths, method="coco") == pytest.approx(35 / 101)
    assert coco_eval(detections, truths)[1][1] == pytest.approx(35 / 101)


def test_classes_are_apart_and_the_absent_is_left_out():
    truths = boxes(("a", *BOAT), ("b", *BOAT)).assign(**{"class": [0, 1]})
    detections = found(("a", 0.9, *BOAT), ("b", 0.9, *BOAT), ("b", 0.8, *BOAT)).assign(**{"class": [0, 0, 5]})
    each = metrics.average_precision_by_class(detections, truths)
    assert each.to_dict() == pytest.approx({0: 1.0, 1: 0.0, 5: np.nan}, nan_ok=True)
    assert metrics.average_precision(detections, truths) == 0.5
    lines = metrics.map_lines(detections, truths, ["Boat", "Ferry", "Yacht", "Raft", "Buoy", "Pier"], confidence=0.25)
    assert lines[-1] == " mean average precision (mAP@0.50) = 0.166667, or 16.67 %"


def test_units_types_and_order_do_not_matter():
    detections, truths = some_images(20, 2, 1, crowds=True)
    expected = metrics.average_precision(detections, truths)
    relative = [part.assign(**(part[CORNERS] / 1000)) for part in (detections, truths)]
    assert metrics.average_precision(*relative) == pytest.approx(expected)
    shuffled = detections.sample(frac=1, random_state=1), truths.sample(frac=1, random_state=2)
    assert metrics.average_precision(*shuffled) == pytest.approx(expected)
    numbered = [part.assign(image=part["image"].str[1:].astype(int)) for part in (detections, truths)]
    assert metrics.average_precision(*numbered) == pytest.approx(expected)
    named = [part.assign(**{"class": part["class"].map({0: "Boat", 1: "Ferry"})}) for part in (detections, truths)]
    assert metrics.average_precision_by_class(*named).index.tolist() == ["Boat", "Ferry"]
    as_float = [part.astype(dict.fromkeys(CORNERS, np.float32)) for part in (detections, truths)]
    assert metrics.average_precision(*as_float) == pytest.approx(expected)
    for part in (detections, truths):
        assert part.equals(part.copy())


def test_summary_by_size_by_hand():
    truths = boxes(("a", 0, 0, 32, 32), ("a", 100, 100, 200, 200), ("b", 0, 0, 50, 50), ("b", 60, 60, 70, 70, 1))
    detections = found(("a", 0.9, 0, 0, 32, 32), ("a", 0.8, 100, 100, 200, 200), ("b", 0.7, 300, 300, 400, 400))
    result = metrics.summary(detections, truths, names=["Boat"])
    assert result.index.tolist() == ["Boat", "mean"] and result.loc["mean", "truths"] == 3
    # 32 x 32 is small and medium at once, both ends included, as in COCO; the false alarm is large, after the hit.
    expected = {"AP small": 1.0, "AP medium": 51 / 101, "AP large": 1.0, "AP50 (Darknet)": 2 / 3, "AP50:95": 67 / 101}
    assert result.loc["mean", list(expected)].to_dict() == pytest.approx(expected)
    assert result.loc["mean"].to_dict() == result.loc["Boat"].to_dict()
    without = metrics.summary(detections, truths[truths["image"] == "b"])
    assert np.isnan(without.loc[0, "AP small"]) and without.loc["mean", "AP medium"] == 0


def test_precision_recall_curve():
    detections, truths = some_images(30, 2, 5, crowds=True, ties=True)
    curve = metrics.precision_recall(detections, truths)
    each = metrics.average_precision_by_class(detections, truths)
    for label, rows in curve.groupby("class"):
        assert (np.diff(rows["score"]) <= 0).all() and (np.diff(rows["envelope"]) <= 0).all()
        assert (rows["tp"] + rows["fp"]).tolist() == list(range(1, len(rows) + 1))
        steps = np.append(0, np.diff(rows["recall"]))
        assert (rows["envelope"] >= rows["precision"]).all()
        assert each[label] == pytest.approx(
            (steps * rows["envelope"]).sum() + rows["recall"].iloc[0] * rows["envelope"].iloc[0]
        )
        truth_count = ((truths["class"] == label) & ~truths["ignore"]).sum()
        np.testing.assert_allclose(rows["recall"], rows["tp"] / truth_count)
    assert metrics.precision_recall(found(), boxes()).empty


DETECTIONS = found(
    ("a", 0.9, 0, 0, 10, 8),  # hit, IoU 0.8
    ("a", 0.6, 0, 0, 10, 10),  # the same boat again: false alarm, IoU 1
    ("b", 0.7, 0, 0, 10, 4),  # IoU 0.4: false alarm, and the boat is missed
    ("b", 0.25, 0, 0, 10, 10),  # not above the confidence
    ("b", 0.5, 42, 42, 48, 48),  # in a group: no row
    ("c", 0.8, 5, 5, 15, 15),  # no boat at all
)
TRUTHS = boxes(("a", *BOAT), ("b", *BOAT), ("b", 40, 40, 90, 90, 1), ("d", *BOAT))


def test_match_table():
    rows = metrics.match_table(DETECTIONS, TRUTHS, confidence=0.25)
    seen = list(
        zip(rows["image"], rows["outcome"], rows["iou"].round(6), rows["detection"], rows["truth"], strict=True)
    )
    assert seen == [
        ("a", "hit", 0.8, 0, 0),
        ("c", "false alarm", 0, 5, -1),
        ("b", "false alarm", 0.4, 2, -1),
        ("a", "false alarm", 1, 1, -1),
        ("b", "miss", 0.4, -1, 1),
        ("d", "miss", 0, -1, 3),
    ]
    assert rows.loc[0, ["score", *CORNERS]].tolist() == [0.9, 0, 0, 10, 8]
    assert rows["score"].isna().tolist() == [False] * 4 + [True] * 2
    assert rows.loc[5, CORNERS].tolist() == list(BOAT)


def test_counts_and_lines():
    result = metrics.counts(DETECTIONS, TRUTHS, confidence=0.25)
    expected = {"tp": 1, "fp": 3, "fn": 2, "precision": 1 / 4, "recall": 1 / 3, "f1": 2 / 7, "average_iou": 0.8 / 4}
    assert result.loc["all"].to_dict() == pytest.approx(expected) and result.loc[0].to_dict() == pytest.approx(expected)
    area = 1 / 3 * 1  # 0.9 hit (1/1); the 0.25 detection hits too: 2 of 5 at recall 2/3
    area += 1 / 3 * 2 / 5
    assert metrics.map_lines(DETECTIONS, TRUTHS, ["Boat"], confidence=0.25) == [
        f"class_id = 0, name = Boat, ap = {100 * area:.2f}%   \t (TP = 1, FP = 3)",
        " for conf_thresh = 0.25, precision = 0.25, recall = 0.33, F1-score = 0.29",
        " for conf_thresh = 0.25, TP = 1, FP = 3, FN = 2, average IoU = 20.00 %",
        " mean average precision (mAP@0.50) = 0.466667, or 46.67 %",
    ]


def test_counts_against_the_match_arrays():
    detections, truths = some_images(40, 3, 11, crowds=True)
    rows = metrics.match_table(detections, truths, confidence=0.4, iou=0.6)
    chosen = detections[detections["score"] > 0.4]
    for label in range(3):
        own, real = chosen[chosen["class"] == label], truths[(truths["class"] == label) & ~truths["ignore"]]
        outcomes = rows[rows["class"] == label]["outcome"].value_counts()
        assert outcomes["hit"] + outcomes["miss"] == len(real)
        assert outcomes["hit"] + outcomes["false alarm"] <= len(own)
    hits = rows[rows["outcome"] == "hit"]
    for hit in hits.itertuples():
        guess, truth = detections.iloc[hit.detection], truths.iloc[hit.truth]
        assert guess["image"] == truth["image"] == hit.image and guess["class"] == truth["class"]
        assert one_iou(guess, truth) == pytest.approx(hit.iou) and hit.iou >= 0.6
    assert hits["truth"].is_unique and rows[rows["outcome"] == "miss"]["truth"].is_unique
    assert metrics.counts(detections, truths, confidence=0.4, iou=0.6)["tp"]["all"] == len(hits)


def test_false_alarms_are_explained():
    boat = (0, 0, 10, 10)
    guesses = found(
        ("a", 0.9, *boat), ("a", 0.8, 0, 0, 10, 9), ("a", 0.7, 0, 0, 10, 4), ("a", 0.6, 0, 0, 10, 2), ("b", 0.5, *boat)
    )
    rows = metrics.match_table(guesses, boxes(("a", *boat), ("a", 50, 50, 60, 60)), confidence=0.1)
    expected = ["hit", "second box", "loose box", "no boat", "no boat", "miss"]
    assert metrics.explain(rows).tolist() == expected and {*expected} == {*metrics.matching.REASONS}


def test_nothing_found_and_nothing_to_find():
    assert metrics.counts(found(), TRUTHS, confidence=0.25).loc["all", ["tp", "fp", "fn", "recall", "f1"]].tolist() == [
        0,
        0,
        3,
        0,
        0,
    ]
    assert metrics.counts(DETECTIONS, boxes(), confidence=0.25).loc["all", ["tp", "fp", "fn"]].tolist() == [0, 5, 0]
    assert metrics.counts(found(), boxes(), confidence=0.25).loc["all"].tolist() == [0] * 7
    assert metrics.match_table(found(), boxes(), confidence=0.25).empty
    assert metrics.summary(found(), boxes()).loc["mean", "truths"] == 0
    assert metrics.map_lines(found(), boxes(), ["Boat"], confidence=0.25)[0].startswith(
        "class_id = 0, name = Boat, ap = 0.00%"
    )


def test_boxes_of_no_area():
    flat = found(("a", 0.9, 5, 5, 5, 9), ("a", 0.8, *BOAT))
    assert metrics.average_precision(flat, boxes(("a", *BOAT), ("a", 5, 5, 5, 9))) == pytest.approx(0.25)
    assert metrics.average_precision(flat, boxes(("a", *BOAT), ("a", 0, 0, 50, 50, 1))) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d, t: (d.drop(columns="score"), t), "detections lack the columns"),
        (lambda d, t: (d, t.drop(columns="x2")), "ground_truth lack the columns"),
        (lambda d, t: (d, t.drop(columns="image")), "ground_truth lack the columns"),
        (lambda d, t: (d.assign(score=np.nan), t), "finite"),
        (lambda d, t: (d.assign(x1=np.inf), t), "finite"),
        (lambda d, t: (d, t.assign(x2=-5)), "x1 <= x2"),
        (lambda d, t: (d, t.assign(ignore=-1)), "ignore must be 0 or 1"),
        (lambda d, t: (d, t.assign(ignore=np.nan)), "ignore must be 0 or 1"),
        (lambda d, t: (d.assign(image=range(len(d))), t), "image is text in one table"),
        (lambda d, t: (d.assign(**{"class": "0"}), t), "class is text in one table"),
        (lambda d, t: (d.assign(image=None), t), "empty values"),
    ],
)
def test_bad_tables(change, words):
    tables = change(DETECTIONS, TRUTHS)
    counts = functools.partial(metrics.counts, confidence=0.25)
    for function in (metrics.average_precision, metrics.summary, counts, metrics.precision_recall):
        with pytest.raises(ValueError, match=words):
            function(*tables)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"area, 11, 101, coco.*'voc'"):
        metrics.average_precision(DETECTIONS, TRUTHS, method="voc")
    for iou in (0, 50):
        with pytest.raises(ValueError, match=f"iou={iou}"):
            metrics.average_precision(DETECTIONS, TRUTHS, iou)
    with pytest.raises(ValueError, match="in_pixels"):
        metrics.summary(*[part.assign(**(part[CORNERS] / 100)) for part in (DETECTIONS, TRUTHS)])
    with pytest.raises(ValueError, match="class 0 has no name"):
        metrics.summary(DETECTIONS, TRUTHS, names=[])


def test_in_pixels():
    relative = found(("a", 0.5, 0.1, 0.2, 0.5, 1.0), ("b", 0.5, 0, 0, 1, 1))
    pictures = pd.DataFrame({"image": ["a", "b"], "width": [200, 40], "height": [100, 30]})
    result = overlap.in_pixels(relative, pictures)
    np.testing.assert_allclose(result[CORNERS], [[20, 20, 100, 100], [0, 0, 40, 30]])
    assert result["score"].tolist() == [0.5, 0.5] and overlap.in_pixels(found(), pictures.iloc[:0]).empty
    with pytest.raises(KeyError, match="'b'"):
        overlap.in_pixels(relative, pictures.iloc[:1])


def test_blocks_of_pairs_give_the_same(monkeypatch):
    detections, truths = some_images(30, 2, 2, crowds=True)
    whole = metrics.summary(detections, truths)
    monkeypatch.setattr(matching, "_PAIRS_AT_A_TIME", 17)
    pd.testing.assert_frame_equal(metrics.summary(detections, truths), whole)


def test_five_thousand_images():
    """Prints the time (run with -s), asserts nothing about it."""
    rng = np.random.default_rng(0)
    corner, side = rng.random((5000, 6, 2)) * 500, rng.random((5000, 6, 2)) * 200 + 8
    own = np.concatenate([corner, corner + side], axis=-1)
    guess = own[:, rng.integers(0, 6, 100)] + rng.normal(0, 8, (5000, 100, 4))
    guess[..., 2:] = np.maximum(guess[..., 2:], guess[..., :2] + 1)
    truths = pd.DataFrame(own.reshape(-1, 4), columns=CORNERS).assign(image=np.repeat(np.arange(5000), 6).astype(str))
    detections = pd.DataFrame(guess.reshape(-1, 4), columns=CORNERS).assign(
        image=np.repeat(np.arange(5000), 100).astype(str)
    )
    detections["score"] = rng.random(len(detections))
    for part in (truths, detections):
        part["class"] = 0
    for function in (metrics.average_precision, metrics.summary):
        start = time.perf_counter()
        result = function(detections, truths)
        print(f"\n{function.__name__}: {time.perf_counter() - start:.2f} s")
    assert 0 < result.loc["mean", "AP50:95"] < 1
