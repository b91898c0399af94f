"""Which detection found which boat: overlaps inside an image and class, and the rules of Darknet and of COCO.

Tables as in `metrics` in, arrays out, and no loop over images: 5 000 of them with 100 detections each take about a second.
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from helpers.boat_detection.metrics import tables
from helpers.boat_detection.metrics.overlap import CORNERS, area, intersection, iou

NONE, IGNORED = -1, -2  # a detection that found nothing; one that counts neither way
MAX_DETECTIONS = 100  # COCO looks at no more in an image and class
REASONS = ("hit", "loose box", "second box", "no boat", "miss")
_PAIRS_AT_A_TIME = 2_000_000  # bounds the temporaries


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Detections (D of them, best first), truths (T, as in their table), and the P pairs of one image and class that overlap."""

    classes: np.ndarray  # sorted values of the column `class`; labels are positions in it
    score: np.ndarray  # (D,)
    label: np.ndarray  # (D,)
    area: np.ndarray  # (D,)
    row: np.ndarray  # (D,) position in the table
    place: np.ndarray  # (D,) 0 for the best of its image and class, then 1, 2, ...
    truth_label: np.ndarray  # (T,)
    truth_area: np.ndarray  # (T,)
    crowd: np.ndarray  # (T,) the column `ignore`
    detection: np.ndarray  # (P,) positions in the arrays above, sorted by detection, then truth
    truth: np.ndarray  # (P,)
    overlap: np.ndarray  # (P,) IoU; with a crowd the intersection over the detection's own area

    def by_class(self) -> list[np.ndarray]:
        """For each class the positions of its detections, best first."""
        order = np.argsort(self.label, kind="stable")
        first = np.searchsorted(self.label[order], np.arange(1, len(self.classes)))
        return np.split(order, first)[: len(self.classes)]


def pair_boxes(detections: pd.DataFrame, ground_truth: pd.DataFrame, *, floor: float = 0.0) -> Pairs:
    """Sort the detections, best first, and find all overlaps of at least `floor` (and above 0).

    Equal scores: the image that sorts first goes first, inside an image the earlier row, as in pycocotools.

    Raises:
        ValueError: a missing column, a number that is not finite, corners in the wrong order, an `ignore` that is neither
            0 nor 1, names of images (or classes) that are text in one table and numbers in the other.
    """
    boxes, truths = tables.corners(detections, "detections"), tables.corners(ground_truth, "ground_truth")
    score, crowd = tables.numbers(detections, ["score"], "detections")[:, 0], tables.ignore(ground_truth)
    images, _ = tables.codes(detections, ground_truth, "image")
    labels, classes = tables.codes(detections, ground_truth, "class")
    keys = images * len(classes) + labels
    row = np.lexsort((images[: len(boxes)], -score))  # stable
    key, boxes = keys[row], boxes[row]
    parts = list(_overlaps(key, boxes, keys[len(row) :], truths, crowd, floor))
    detection, truth, overlap = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    place = pd.Series(key).groupby(key).cumcount().to_numpy()
    found = {"score": score[row], "label": labels[row], "area": area(boxes), "row": row, "place": place}
    wanted = {"truth_label": labels[len(row) :], "truth_area": area(truths), "crowd": crowd}
    return Pairs(classes, **found, **wanted, detection=detection, truth=truth, overlap=overlap)


def _overlaps(
    key: np.ndarray, boxes: np.ndarray, truth_key: np.ndarray, truths: np.ndarray, crowd: np.ndarray, floor: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Pairs with equal keys (image and class) block by block: detection, truth, overlap."""
    by_key = np.argsort(truth_key, kind="stable")
    first, end = (np.searchsorted(truth_key[by_key], key, side=side) for side in ("left", "right"))
    total = np.cumsum(end - first)
    cuts = np.searchsorted(total, np.arange(_PAIRS_AT_A_TIME, total[-1] if len(total) else 0, _PAIRS_AT_A_TIME))
    for block in np.split(np.arange(len(key)), cuts):
        count = (end - first)[block]
        detection = np.repeat(block, count)
        inside = np.arange(len(detection)) - np.repeat(np.cumsum(count) - count, count)
        truth = by_key[first[detection] + inside]
        overlap = iou(boxes[detection], truths[truth])
        crowded = np.flatnonzero(crowd[truth])
        covered = intersection(boxes[detection[crowded]], truths[truth[crowded]])
        own = area(boxes[detection[crowded]])
        overlap[crowded] = np.divide(covered, own, out=np.zeros_like(covered), where=own > 0)
        near = (overlap >= floor) & (overlap > 0)
        yield detection[near], truth[near], overlap[near]


def match_darknet(pairs: Pairs, iou: float = 0.5) -> np.ndarray:
    """AlexeyAB's `detector map`: a detection looks only at the truth that it overlaps most; the first to come takes it.

    All that come later are false alarms, even where another truth overlaps as well. An ignored area swallows what
    overlaps no boat enough: by intersection over the detection's own area (Darknet itself takes the IoU there).

    Returns:
        (D,) the truth found, by an overlap strictly above `iou`, or NONE, or IGNORED.
    """
    match = np.full(len(pairs.score), NONE)
    order = np.lexsort((-pairs.overlap, pairs.detection))  # of equal overlaps the first truth
    order = order[pairs.overlap[order] > iou]
    crowd = pairs.crowd[pairs.truth[order]]
    match[pairs.detection[order[crowd]]] = IGNORED
    detection, first = np.unique(pairs.detection[order[~crowd]], return_index=True)
    match[detection] = NONE  # a real boat decides, also inside an ignored area
    truth, winner = np.unique(pairs.truth[order[~crowd][first]], return_index=True)  # the best score stands first
    match[detection[winner]] = truth
    return match


def match_coco(pairs: Pairs, thresholds: Sequence[float], *, ignored: np.ndarray | None = None) -> list[np.ndarray]:
    """COCO's rule: best score first, each detection takes the truth that it overlaps most of those still free.

    Truths that are ignored come last, and what finds one of them counts neither way; a crowd takes any number. Of an
    image and class the 100 best detections count.

    Args:
        pairs: of `pair_boxes`, with a floor not above the lowest threshold.
        thresholds: the overlap must be at least this.
        ignored: (T,) truths that do not count, crowds among them; default the crowds.

    Returns:
        For each threshold (D,): the truth found, or NONE, or IGNORED.
    """
    ignored = pairs.crowd if ignored is None else ignored
    # Of equal overlaps COCO takes the last truth.
    order = np.lexsort((-pairs.truth, -pairs.overlap, ignored[pairs.truth], pairs.detection))
    matches = []
    for threshold in thresholds:
        near = order[pairs.overlap[order] >= min(threshold, 1 - 1e-10)]
        match = _serve(pairs.detection[near], pairs.truth[near], pairs.crowd, len(pairs.score))
        neither = (match >= 0) & np.append(ignored, False)[match] | (pairs.place >= MAX_DETECTIONS)
        matches.append(np.where(neither, IGNORED, match))
    return matches


def _serve(detection: np.ndarray, truth: np.ndarray, crowd: np.ndarray, count: int) -> np.ndarray:
    """One after the other takes its first wish that is free, all images at once: (count,) the truth taken, or NONE.

    In each round those are served whose first wish nobody before them has on any list: no one can take it from them.

    Args:
        detection, truth: (P,) wishes, sorted by detection and then by preference.
        crowd: (T,) truths that any number may take.
    """
    match = np.full(count, NONE)
    while len(detection):
        earliest = np.empty(len(crowd), int)
        earliest[truth[::-1]] = detection[::-1]  # the last write stays: the best detection that wishes for it
        first_wish = np.append(True, detection[1:] != detection[:-1])
        served = first_wish & ((earliest[truth] == detection) | crowd[truth])
        match[detection[served]] = truth[served]
        taken = np.zeros(len(crowd), bool)
        taken[truth[served]] = True
        open_ = (match[detection] == NONE) & ~(taken & ~crowd)[truth]
        detection, truth = detection[open_], truth[open_]
    return match


def match_table(
    detections: pd.DataFrame, ground_truth: pd.DataFrame, *, iou: float = 0.5, confidence: float
) -> pd.DataFrame:
    """Hits, misses and false alarms one by one, with Darknet's matching, of the detections with a score above `confidence`.

    Returns:
        Table `image, class, outcome, score, iou, x1, y1, x2, y2, detection, truth`, hits and false alarms from the best
        score down, then the misses. `outcome` is "hit", "miss" or "false alarm"; the box is the detection's, or the
        missed truth's; `iou` is a hit's overlap, else the best with any box of its class on the other side, 0 if none;
        `detection` and `truth` are positions in the two tables, -1 for none. What an ignored area swallows has no row.
    """
    checked_iou(iou)
    chosen = np.flatnonzero(tables.numbers(detections, ["score"], "detections")[:, 0] > confidence)
    pairs = pair_boxes(detections.iloc[chosen], ground_truth)
    match = match_darknet(pairs, iou)
    found, missed = _overlaps_of(pairs, match)
    shown = np.flatnonzero(match != IGNORED)
    lost = np.setdiff1d(np.flatnonzero(~pairs.crowd), match)
    rows = chosen[pairs.row[shown]]
    hit = match[shown] >= 0
    columns = ["image", "class", *CORNERS]
    seen = detections.iloc[rows][columns].assign(
        outcome=np.where(hit, "hit", "false alarm"),
        score=pairs.score[shown],
        iou=found[shown],
        detection=rows,
        truth=np.where(hit, match[shown], -1),
    )
    unseen = ground_truth.iloc[lost][columns].assign(
        outcome="miss", score=np.nan, iou=missed[lost], detection=-1, truth=lost
    )
    parts = [part for part in (seen, unseen) if len(part)] or [seen]
    order = ["image", "class", "outcome", "score", "iou", *CORNERS, "detection", "truth"]
    return pd.concat(parts, ignore_index=True)[order]


def explain(matches: pd.DataFrame, *, iou: float = 0.5, near: float = 0.3) -> pd.Series:
    """One of `REASONS` for each row of `match_table`: what kind of hit, miss or false alarm it is.

    A false alarm is a "loose box" where it overlaps some boat by more than `near` and not enough, a "second box" where it would
    have been a hit, had no surer one taken the boat, and else there is "no boat".
    """
    kinds = pd.cut(matches["iou"], [-1, near, iou, 1], labels=["no boat", "loose box", "second box"]).astype(object)
    return matches["outcome"].where(matches["outcome"] != "false alarm", kinds)


def _overlaps_of(pairs: Pairs, match: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The overlap to show of each detection (D,) and of each truth (T,)."""
    real = ~pairs.crowd[pairs.truth]
    detection, truth, overlap = pairs.detection[real], pairs.truth[real], pairs.overlap[real]
    found, missed = np.zeros(len(pairs.score)), np.zeros(len(pairs.crowd))
    np.maximum.at(found, detection, overlap)
    np.maximum.at(missed, truth, overlap)
    taken = match[detection] == truth
    found[detection[taken]] = overlap[taken]
    return found, missed


def checked_iou(iou: float) -> float:
    if not 0 < iou <= 1:
        raise ValueError(f"iou must be above 0 and at most 1. Received: iou={iou!r}")
    return iou
