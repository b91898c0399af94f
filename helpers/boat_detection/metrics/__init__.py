"""How good a detector is: average precision as Darknet, VOC and COCO count it, counts at one confidence, what to look at.

Every function takes two tables: detections with `image, class, score, x1, y1, x2, y2`, ground truth with the same but
the score, and `ignore` (1: a group of boats, COCO's crowd: neither finding nor missing it counts). Corners in pixels or
relative; only `summary` needs pixels: `in_pixels`. An image without a boat needs no row.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from helpers.boat_detection.metrics import matching
from helpers.boat_detection.metrics.matching import IGNORED, NONE, Pairs, match_table, pair_boxes
from helpers.boat_detection.metrics.matching import explain as explain
from helpers.boat_detection.metrics.overlap import CORNERS

METHODS = ("area", "11", "101", "coco")
CURVE = ["class", "score", "tp", "fp", "precision", "recall", "envelope"]
COCO_IOU = np.linspace(0.5, 0.95, 10)
COCO_RECALL = np.linspace(0, 1, 101)
SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # square pixels, both ends included


def average_precision(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, iou: float = 0.5, method: str = "area"
) -> float:
    """Mean over the classes of `average_precision_by_class`: mAP@0.5 as `darknet detector map` prints it, by default.

    Classes without a truth that counts are left out, as in COCO (Darknet divides by all classes of its cfg; `map_lines`
    does too). NaN where no class has any. Arguments as there.
    """
    return float(average_precision_by_class(detections, ground_truth, iou, method).mean())


def average_precision_by_class(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, iou: float = 0.5, method: str = "area"
) -> pd.Series:
    """Average precision of each class.

    Args:
        iou: overlap that makes a find.
        method: "area" is the area under the precision envelope (VOC 2010, Darknet's default), "11" the mean at recall
            0, 0.1, ..., 1 (VOC 2007), "101" at 0, 0.01, ..., 1, all three with Darknet's matching (its best truth or
            none, overlap strictly above); "coco" is 101 points with COCO's matching (any truth still free, overlap at
            least, at most 100 detections an image), equal to pycocotools.

    Returns:
        Class -> average precision, NaN for a class without a truth that counts.

    Raises:
        ValueError: unknown method, iou outside (0, 1], or tables that `pair_boxes` refuses.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}. Received: method={method!r}")
    pairs = pair_boxes(detections, ground_truth, floor=matching.checked_iou(iou))
    match = matching.match_coco(pairs, [iou])[0] if method == "coco" else matching.match_darknet(pairs, iou)
    return pd.Series(_by_class(pairs, match, method), index=pd.Index(pairs.classes, name="class"))


def _by_class(pairs: Pairs, match: np.ndarray, method: str, ignored: np.ndarray | None = None) -> np.ndarray:
    counted = ~(pairs.crowd if ignored is None else ignored)
    truths = np.bincount(pairs.truth_label[counted], minlength=len(pairs.classes))
    found = [match[rows] for rows in pairs.by_class()]
    return np.array(
        [_average(each[each != IGNORED] >= 0, count, method) for each, count in zip(found, truths, strict=True)], float
    )


def _average(hits: np.ndarray, truths: int, method: str) -> float:
    """Average precision of one class from its detections, best first: was it a hit?"""
    if not truths:
        return np.nan
    _, recall, envelope = _curve(hits, truths)
    if method == "area":
        return float((np.diff(recall, prepend=0) * envelope).sum())
    # Darknet divides where COCO's linspace multiplies: the last bit decides whether 35 of 100 reach a recall of 0.35.
    points = COCO_RECALL if method == "coco" else np.arange(int(method)) / (int(method) - 1)
    return float(np.append(envelope, 0)[np.searchsorted(recall, points)].mean())


def _curve(hits: np.ndarray, truths: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """After each detection (D,): precision, recall, and the best precision from this recall on."""
    found = np.cumsum(hits)
    precision = found / np.arange(1, len(hits) + 1)
    return precision, found / truths, np.maximum.accumulate(precision[::-1])[::-1]


def precision_recall(detections: pd.DataFrame, ground_truth: pd.DataFrame, iou: float = 0.5) -> pd.DataFrame:
    """The precision-recall curve of each class, with Darknet's matching.

    Returns:
        One row for each detection that counts, best first: `class, score, tp, fp, precision, recall, envelope`; `tp` and
        `fp` so far, `envelope` the best precision from this recall on, whose area is the average precision.
    """
    pairs = pair_boxes(detections, ground_truth, floor=matching.checked_iou(iou))
    match = matching.match_darknet(pairs, iou)
    truths = np.bincount(pairs.truth_label[~pairs.crowd], minlength=len(pairs.classes))
    parts = []
    for name, rows, count in zip(pairs.classes, pairs.by_class(), truths, strict=True):
        rows = rows[match[rows] != IGNORED]
        if not count or not len(rows):
            continue
        hits = match[rows] >= 0
        found, (precision, recall, envelope) = np.cumsum(hits), _curve(hits, count)
        columns = (name, pairs.score[rows], found, np.cumsum(~hits), precision, recall, envelope)
        parts.append(pd.DataFrame(dict(zip(CURVE, columns, strict=True))))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=CURVE)


def summary(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, names: Sequence[str] | None = None
) -> pd.DataFrame:
    """The table of results: Darknet's mAP@0.5, and COCO's figures, overall and by the boats' size.

    Args:
        detections, ground_truth: tables in pixels of the image; COCO's sizes are areas of up to 32^2, up to 96^2, above.
        names: of the classes 0, 1, ...; default the classes themselves.

    Returns:
        One row per class and one `mean` (over the classes with a truth): `truths`, `AP50 (Darknet)`, then with COCO's
        matching `AP50`, `AP75`, `AP50:95`, `AP small`, `AP medium`, `AP large` (these three over IoU 0.50 to 0.95 too).
        NaN where no truth is of that size.

    Raises:
        ValueError: relative coordinates; tables that `pair_boxes` refuses.
    """
    pairs = pair_boxes(detections, ground_truth, floor=COCO_IOU[0])
    if len(ground_truth) and ground_truth[CORNERS].to_numpy(float).max() <= 2:
        raise ValueError(
            "sizes are told in pixels, and these boxes look relative (no corner above 2): pass in_pixels(table, sizes)"
        )
    matches = matching.match_coco(pairs, COCO_IOU)
    each = np.array([_by_class(pairs, match, "coco") for match in matches])  # (10, classes)
    columns = {
        "truths": np.bincount(pairs.truth_label[~pairs.crowd], minlength=len(pairs.classes)),
        "AP50 (Darknet)": _by_class(pairs, matching.match_darknet(pairs, 0.5), "area"),
        "AP50": each[0],
        "AP75": each[5],
        "AP50:95": each.mean(axis=0),
        **{f"AP {size}": _by_size(pairs, *limits) for size, limits in SIZES.items()},
    }
    table = pd.DataFrame(columns, index=pd.Index([_name(names, number) for number in pairs.classes], name="class"))
    mean = table.mean().to_frame("mean").T.assign(truths=table["truths"].sum())
    return pd.concat([table, mean]).astype({"truths": int}).rename_axis("class")


def _by_size(pairs: Pairs, low: float, high: float) -> np.ndarray:
    """AP50:95 of each class over the truths of one size; what was found and lost outside of it counts neither way."""
    ignored = pairs.crowd | (pairs.truth_area < low) | (pairs.truth_area > high)
    outside = (pairs.area < low) | (pairs.area > high)
    matches = matching.match_coco(pairs, COCO_IOU, ignored=ignored)
    each = [_by_class(pairs, np.where((m == NONE) & outside, IGNORED, m), "coco", ignored) for m in matches]
    return np.mean(each, axis=0)


def _name(names: Sequence[str] | None, number: object) -> object:
    if names is None:
        return number
    if not 0 <= number < len(names):
        raise ValueError(f"class {number} has no name: names holds {len(names)}. Received: names={list(names)[:5]}")
    return names[number]


def counts(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, iou: float = 0.5, confidence: float
) -> pd.DataFrame:
    """Counts at one confidence as `darknet detector map` makes them.

    Returns:
        One row per class that occurs and one `all`: `tp, fp, fn, precision, recall, f1, average_iou`; the average IoU is
        the hits' sum over hits and false alarms. A ratio of nothing to nothing is 0.
    """
    rows = match_table(detections, ground_truth, iou=iou, confidence=confidence)
    table = pd.crosstab(rows["class"], rows["outcome"]).reindex(columns=["hit", "false alarm", "miss"], fill_value=0)
    table.columns = ["tp", "fp", "fn"]
    overlap = rows[rows["outcome"] == "hit"].groupby("class")["iou"].sum()
    table["overlap"] = overlap.reindex(table.index, fill_value=0.0)
    table = pd.concat([table, table.sum().to_frame("all").T])
    table = table.astype({"tp": int, "fp": int, "fn": int}).rename_axis("class")
    found, wanted = (table["tp"] + table[column] for column in ("fp", "fn"))
    table["precision"] = table["tp"] / found.clip(lower=1)
    table["recall"] = table["tp"] / wanted.clip(lower=1)
    table["f1"] = 2 * table["tp"] / (found + wanted).clip(lower=1)
    table["average_iou"] = table.pop("overlap") / found.clip(lower=1)
    return table


def map_lines(
    detections: pd.DataFrame,
    ground_truth: pd.DataFrame,
    names: Sequence[str],
    *,
    confidence: float,
) -> list[str]:
    """The lines that `darknet detector map` prints, mAP over all `names` (a class without a truth counts 0, as there)."""
    each = average_precision_by_class(detections, ground_truth)
    table = counts(detections, ground_truth, confidence=confidence)
    for number in each.index:
        _name(names, number)
    each = each.reindex(range(len(names))).fillna(0.0)
    by_class = table.drop(index="all").reindex(each.index, fill_value=0)
    total = table.loc["all"]
    mean = each.mean()
    start = f" for conf_thresh = {confidence:.2f},"
    return [
        *(
            f"class_id = {number}, name = {names[number]}, ap = {100 * each[number]:.2f}%   \t "
            f"(TP = {by_class.loc[number, 'tp']:.0f}, FP = {by_class.loc[number, 'fp']:.0f})"
            for number in each.index
        ),
        f"{start} precision = {total['precision']:.2f}, recall = {total['recall']:.2f}, F1-score = {total['f1']:.2f}",
        f"{start} TP = {total['tp']:.0f}, FP = {total['fp']:.0f}, FN = {total['fn']:.0f}, "
        f"average IoU = {100 * total['average_iou']:.2f} %",
        f" mean average precision (mAP@0.50) = {mean:.6f}, or {100 * mean:.2f} %",
    ]
