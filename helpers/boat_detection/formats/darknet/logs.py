"""Darknet's training logs: their dialects read into tables, and the lines that AlexeyAB/darknet prints, written.

A log is what `darknet detector train ... 2>&1 | tee train.log` leaves: one Region line per head and mini-batch, then one line per
iteration. AlexeyAB's prints the Region lines to stderr; Hank.ai's only where it is told to be verbose.
"""

import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers import intake

ITERATION_COLUMNS = ["iteration", "loss", "avg_loss", "rate", "seconds", "images"]
REGION_COLUMNS = ["iteration", "head", "iou", "count", "obj", "no_obj", "class_loss", "iou_loss", "total_loss"]
POINT_COLUMNS = ["iteration", "map", "iou", "conf_thresh", "precision", "recall", "f1", "tp", "fp", "fn", "average_iou"]
CLASS_COLUMNS = ["iteration", "class_id", "name", "ap", "tp", "fp"]

# -nan(ind) is Windows's; -1.#IND00, 1.#INF00, 1.#QNAN0 that of before 2015
NUMBER = r"([-+]?(?:nan(?:\(\w*\))?|inf(?:inity)?|1\.#[A-Z]+\d*|\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+))"
# titles of windows, colours, bells
ESCAPES = re.compile(r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b\[[0-9;?]*[A-Za-z]|\x07")


def _pattern(text: str) -> re.Pattern:
    """A pattern where # stands for a number, & for a whole one, and a blank for any number of blanks."""
    text = text.replace("#", NUMBER).replace("&", r"(\d{1,18})").replace(" ", r"\s*")
    return re.compile(text, re.IGNORECASE)


START = r"(?<![\d.])"  # whatever stands before it on the line, such as a time
ITERATION = _pattern(START + "& : # , # avg(?: loss)? , # rate , # seconds , & images")
ITERATION_HANK_AI = _pattern(
    START + r"& : loss = # , avg loss = # ,.{0,200}?rate = # ,.{0,200}?(?:train = )?(?:# ([a-z]+)|unknown) , & images"
)
REGION = _pattern(r"(?:v\d \(?[^()]{0,80}\([^()]{0,80}\) )?Region (\d{1,9}) Avg \(? IOU : #")
REGION_VALUES = {"count": _pattern("count : #"), "obj": _pattern(", Obj : #"), "no_obj": _pattern("No Obj : #")}
REGION_VALUES |= {name: _pattern(f"{name} [=:] #") for name in ("class_loss", "iou_loss", "total_loss")}
BEGIN = _pattern("Learning Rate : # , Momentum : #")  # printed where a training starts, or goes on
SECONDS = {
    "nan": 1e-9, "mic": 1e-6, "mil": 1e-3, "sec": 1, "min": 60, "hou": 3600, "day": 86400, "wee": 604800,
}  # fmt: skip
MAP = _pattern(r"mean[_\s]average[_\s]precision \(mAP@(\d{0,9}\.?\d{1,9})\) = # (%?)")
POINT_VALUES = [
    (_pattern("for conf_thresh = # , precision = # , recall = # , F1[- ]score = #"), "conf_thresh precision recall f1"),
    (_pattern("conf_thresh = # , TP = # , FP = # , FN = # , average IoU = #"), "conf_thresh tp fp fn average_iou"),
]
CLASS = _pattern(r"class_id = & , name = (.{0,200}?) , ap = # %(?:.{0,200}?\(TP = & , FP = &)?")


class TrainingLog(NamedTuple):
    iterations: pd.DataFrame
    regions: pd.DataFrame


class MapLog(NamedTuple):
    points: pd.DataFrame
    classes: pd.DataFrame


def read_lines(path: str | os.PathLike) -> Iterator[str]:
    """The lines of a log without terminal escapes; carriage returns end a line too. UTF-16, as PowerShell writes, is understood.

    Raises:
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name} in {path.parent}; expected the output of a training")
    with path.open("rb") as file:
        start = file.read(2)
    wide = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}.get(start)  # with its mark
    wide = wide or ("utf-16-le" if start[1:] == b"\0" else "utf-16-be" if start[:1] == b"\0" else "utf-8-sig")
    with path.open(encoding=wide, errors="replace") as file:
        for line in file:
            yield ESCAPES.sub("", line)


def parse_log(path: str | os.PathLike) -> TrainingLog:
    """Read the log of a training by pjreddie/darknet, AlexeyAB/darknet of 2019 and later, hank-ai/darknet, or by this package.

    Where a training was taken up from an earlier iteration, what it had printed from there on counts no more.

    Returns:
        iterations: `ITERATION_COLUMNS`, one row per iteration line.
        regions: `REGION_COLUMNS`, one row per Region line, also those of heads that had no object (nan and count 0, or IOU 0 and
            count 1). A Region line belongs to the next iteration line; `iteration` is NaN where none follows. What a dialect
            does not print is NaN.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not one line of either kind.
    """
    iterations: list[list] = []
    regions: list[dict] = []
    pending: list[dict] = []  # of the iteration that has not ended
    lines, first = 0, ""
    for line in read_lines(path):
        lines, first = lines + 1, first or line.strip()
        if BEGIN.search(line):
            pending = []
        for kind, found, rest in _events(line):
            if kind is REGION:
                pending.append(_region(found, rest))
                continue
            row = _iteration(found)
            while iterations and iterations[-1][0] >= row[0]:
                iterations.pop()
            while regions and regions[-1]["iteration"] >= row[0]:
                regions.pop()
            iterations.append(row)
            regions += [{**region, "iteration": row[0]} for region in pending]
            pending = []
    regions += pending
    if not iterations and not regions:
        raise _no_log(Path(path), lines, first)
    return TrainingLog(
        _table(iterations, ITERATION_COLUMNS, whole=("iteration", "images")),
        _table(regions, REGION_COLUMNS, whole=("head",)),
    )


def _no_log(path: Path, lines: int, first: str) -> ValueError:
    kind = intake.describe(path)
    if kind in ("", "a text"):
        kind = f"{lines} lines, the first with text {first[:60]!r}" if first else f"{lines} lines without text"
    return ValueError(
        f"{path.name}: no line of a training in it, but {kind}; expected the output of darknet detector train 2>&1"
    )


def _events(line: str) -> list[tuple[re.Pattern, re.Match, str]]:
    """The iterations and regions of a line in their order, each with the text up to the next: threads may share a line."""
    if "avg" not in line.lower():
        return []  # quicker than three patterns
    found = [(kind, match) for kind in (REGION, ITERATION, ITERATION_HANK_AI) for match in kind.finditer(line)]
    found.sort(key=lambda event: event[1].start())
    ends = [match.start() for _, match in found] + [len(line)]
    return [(kind, match, line[match.end() : end]) for (kind, match), end in zip(found, ends[1:], strict=True)]


def _iteration(found: re.Match) -> list:
    """`ITERATION_COLUMNS` of a line of either dialect."""
    if found.re is ITERATION:
        number, *values, images = found.groups()
        return [int(number), *map(_number, values), int(images)]
    number, loss, average, rate, duration, unit, images = found.groups()
    seconds = _number(duration) * SECONDS.get(unit[:3].lower(), math.nan) if duration else math.nan
    return [int(number), *map(_number, (loss, average, rate)), seconds, int(images)]


def _number(text: str) -> float:
    if "#" in text:
        return math.copysign(math.inf, float(text.partition(".")[0])) if "#INF" in text.upper() else math.nan
    return float(text.split("(")[0])


def _region(found: re.Match, rest: str) -> dict:
    row = {"iteration": np.nan, "head": int(found[1]), "iou": _number(found[2])}
    for name, pattern in REGION_VALUES.items():
        value = pattern.search(rest)
        row[name] = _number(value[1]) if value else np.nan
    return row


def _table(rows: list, columns: Sequence[str], whole: Sequence[str] = ()) -> pd.DataFrame:
    kinds = {column: "int64" if column in whole else "float64" for column in columns if column != "name"}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def parse_map(path: str | os.PathLike) -> MapLog:
    """Read the evaluations in a log: the output of `darknet detector map`, or of a training with `-map`.

    Returns:
        points: `POINT_COLUMNS`, one row per evaluation: its last iteration (NaN outside a training), mean average precision, the
            threshold of IoU, and at `conf_thresh` precision, recall, F1, counts, and the average IoU; all from 0 to 1.
        classes: `CLASS_COLUMNS`, one row per class and evaluation. Both are empty if the log holds none.

    Raises:
        FileNotFoundError: no such file.
    """
    points: list[dict] = []
    classes: list[list] = []
    iteration, point = np.nan, {}
    for line in read_lines(path):
        if found := ITERATION.search(line) or ITERATION_HANK_AI.search(line):
            before, iteration, point = iteration, _iteration(found)[0], {}
            if iteration <= before:  # taken up from there
                points = [row for row in points if not row["iteration"] >= iteration]
                classes = [row for row in classes if not row[0] >= iteration]
        elif found := CLASS.search(line):
            identity, name, ap, *counts = found.groups()
            classes.append([iteration, int(identity), name, _number(ap) / 100, *(float(n or "nan") for n in counts)])
        elif found := MAP.search(line):
            value = _number(found[2]) / (100 if found[3] else 1)
            if point.get("map") != value:  # a training prints the same number a second time
                point |= {"iteration": iteration, "iou": float(found[1]), "map": value}
                points.append(point)
            point = {"map": value}
        else:
            for pattern, names in POINT_VALUES:
                if found := pattern.search(line):
                    point = {key: value for key, value in point.items() if key != "map"}
                    point |= dict(zip(names.split(), map(_number, found.groups()), strict=True))
    table = _table(points, POINT_COLUMNS)
    return MapLog(table.assign(average_iou=table["average_iou"] / 100), _table(classes, CLASS_COLUMNS, ("class_id",)))


def iou_by_iteration(regions: pd.DataFrame) -> pd.Series:
    """Mean IoU of the objects of each iteration, over all heads and mini-batches; heads without an object do not count.

    `regions` are those of `parse_log`; an iteration without any object has no entry.
    """
    empty = regions["iou"].isna() | (regions["count"] == 0) | ((regions["iou"] == 0) & (regions["iou_loss"] == 0))
    regions = regions[~empty].assign(total=regions["iou"] * regions["count"])
    sums = regions.groupby("iteration")[["total", "count"]].sum()
    return (sums["total"] / sums["count"]).rename("iou")


def format_region(head: int, row: Sequence[float], *, loss: str = "mse", iou_normalizer: float = 0.75) -> str:
    """The Region line of one head and mini-batch as AlexeyAB/darknet prints it today, without the end of the line.

    Args:
        head: Darknet's number of the `[yolo]` section: 82, 94, 106 in yolov3.
        row: iou, count, obj, no_obj, class_loss, iou_loss, total_loss.
        loss: of the coordinates, as in the cfg: "mse", "ciou".
        iou_normalizer: of the cfg.
    """
    row = dict(zip(REGION_COLUMNS[2:], row, strict=True))
    weights = f"iou: {iou_normalizer:.2f}, obj: 1.00, cls: 1.00"
    losses = ", ".join(f"{name} = {row[name]:f}" for name in REGION_COLUMNS[-3:])
    counted = f"Avg (IOU: {row['iou']:f}), count: {int(row['count'])}"
    return f"v3 ({loss} loss, Normalizer: ({weights}) Region {head} {counted}, {losses} "


def format_iteration(
    iteration: int, loss: float, avg_loss: float, rate: float, seconds: float, images: int, hours_left: float = 0.0
) -> str:
    """The line of one iteration, from 1, as AlexeyAB/darknet prints it today, without the end of the line.

    `avg_loss` is 0.9 of the last average + 0.1 of `loss`; `images` were seen since the beginning.
    """
    return (
        f" {iteration}: {loss:f}, {avg_loss:f} avg loss, {rate:f} rate, {seconds:f} seconds, {images} images, "
        f"{hours_left:f} hours left"
    )
