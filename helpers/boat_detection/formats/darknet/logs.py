"""Darknet's training logs: three dialects read into tables, and the lines that today's AlexeyAB/darknet prints, written.

A log is what `darknet detector train ... 2>&1 | tee train.log` leaves: one Region line per head and mini-batch, then one line per
iteration. AlexeyAB's program prints the Region lines to stderr, so a log without `2>&1` has none.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

ITERATION_COLUMNS = ["iteration", "loss", "avg_loss", "rate", "seconds", "images"]
REGION_COLUMNS = ["iteration", "head", "iou", "count", "obj", "no_obj", "class_loss", "iou_loss", "total_loss"]
POINT_COLUMNS = ["iteration", "map", "iou", "conf_thresh", "precision", "recall", "f1", "tp", "fp", "fn", "average_iou"]
CLASS_COLUMNS = ["iteration", "class_id", "name", "ap", "tp", "fp"]

NUMBER = r"([-+]?(?:nan(?:\(\w*\))?|inf(?:inity)?|\d+(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+))"  # -nan(ind) on Windows
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x07")


def _pattern(text: str) -> re.Pattern:
    """A pattern where # stands for a number and a blank for any number of blanks."""
    return re.compile(text.replace("#", NUMBER).replace(" ", r"\s*"), re.IGNORECASE)


ITERATION = _pattern(r"^ (\d+) : # , # avg(?: loss)? , # rate , # seconds , (\d+) images")
REGION = _pattern(r"Region (\d+) Avg \(? IOU : #")
REGION_VALUES = {
    "count": _pattern("count : #"),
    "obj": _pattern(", Obj : #"),
    "no_obj": _pattern("No Obj : #"),
    "class_loss": _pattern("class_loss = #"),
    "iou_loss": _pattern("iou_loss = #"),
    "total_loss": _pattern("total_loss = #"),
}
MAP = _pattern(r"mean[_\s]average[_\s]precision \(mAP@(\d*\.?\d+)\) = #")
POINT_VALUES = [
    (_pattern("for conf_thresh = # , precision = # , recall = # , F1-score = #"), "conf_thresh precision recall f1"),
    (_pattern("conf_thresh = # , TP = # , FP = # , FN = # , average IoU = #"), "conf_thresh tp fp fn average_iou"),
]
CLASS = _pattern(r"class_id = (\d+) , name = (.*?) , ap = # %(?:.*?\(TP = (\d+) , FP = (\d+))?")


class TrainingLog(NamedTuple):
    """The tables of `parse_log`."""

    iterations: pd.DataFrame
    regions: pd.DataFrame


class MapLog(NamedTuple):
    """The tables of `parse_map`."""

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
        wide = file.read(2) in (b"\xff\xfe", b"\xfe\xff")
    with path.open(encoding="utf-16" if wide else "utf-8", errors="replace") as file:
        for line in file:
            yield ESCAPES.sub("", line)


def parse_log(path: str | os.PathLike) -> TrainingLog:
    """Read the log of a training by pjreddie/darknet, AlexeyAB/darknet of 2019 and 2020 or of today, or by this package.

    Args:
        path: the file.

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
    pending = 0  # rows at the end of `regions` without an iteration
    for line in read_lines(path):
        if found := REGION.search(line):
            regions.append(_region(line, found))
            pending += 1
        elif found := ITERATION.match(line):
            number, *values, images = found.groups()
            iterations.append([int(number), *map(_number, values), int(images)])
            for row in regions[len(regions) - pending :]:
                row["iteration"] = int(number)
            pending = 0
    if not iterations and not regions:
        raise ValueError(
            f"{Path(path).name}: no line of a training in it; expected the output of darknet detector train 2>&1"
        )
    table = pd.DataFrame(regions, columns=REGION_COLUMNS)
    table = table.astype({column: "int64" if column == "head" else "float64" for column in REGION_COLUMNS})
    return TrainingLog(_table(iterations, ITERATION_COLUMNS, whole=("iteration", "images")), table)


def _number(text: str) -> float:
    return float(text.split("(")[0])


def _region(line: str, found: re.Match) -> dict:
    row = {"iteration": np.nan, "head": int(found[1]), "iou": _number(found[2])}
    for name, pattern in REGION_VALUES.items():
        value = pattern.search(line, found.end())
        row[name] = _number(value[1]) if value else np.nan
    return row


def _table(rows: list, columns: Sequence[str], whole: Sequence[str] = ()) -> pd.DataFrame:
    kinds = {column: "int64" if column in whole else "float64" for column in columns if column != "name"}
    return pd.DataFrame(rows, columns=columns).astype(kinds)


def parse_map(path: str | os.PathLike) -> MapLog:
    """Read the evaluations in a log: the output of `darknet detector map`, or of a training with `-map`.

    Args:
        path: the file.

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
        if found := ITERATION.match(line):
            iteration, point = int(found[1]), {}
        elif found := CLASS.search(line):
            identity, name, ap, *counts = found.groups()
            classes.append([iteration, int(identity), name, _number(ap) / 100, *(float(n or "nan") for n in counts)])
        elif found := MAP.search(line):
            if point.get("map") != (value := _number(found[2])):  # a training prints the same number a second time
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

    Args:
        regions: of `parse_log`.

    Returns:
        Series by iteration; an iteration without any object has no entry.
    """
    empty = regions["iou"].isna() | (regions["count"] == 0) | ((regions["iou"] == 0) & (regions["iou_loss"] == 0))
    sums = (
        regions[~empty].assign(total=regions["iou"] * regions["count"]).groupby("iteration")[["total", "count"]].sum()
    )
    return (sums["total"] / sums["count"]).rename("iou")


def format_region(
    head: int,
    row: Sequence[float] | Mapping[str, float],
    *,
    loss: str = "mse",
    iou_normalizer: float = 0.75,
    obj_normalizer: float = 1.0,
    cls_normalizer: float = 1.0,
) -> str:
    """The Region line of one head and mini-batch as AlexeyAB/darknet prints it today, without the end of the line.

    Args:
        head: Darknet's number of the `[yolo]` section: 82, 94, 106 in yolov3.
        row: iou, count, obj, no_obj, class_loss, iou_loss, total_loss, in this order or by these names.
        loss: of the coordinates, as in the cfg: "mse", "ciou".
        iou_normalizer, obj_normalizer, cls_normalizer: of the cfg.
    """
    row = row if isinstance(row, Mapping) else dict(zip(REGION_COLUMNS[2:], row, strict=True))
    weights = f"iou: {iou_normalizer:.2f}, obj: {obj_normalizer:.2f}, cls: {cls_normalizer:.2f}"
    losses = ", ".join(f"{name} = {row[name]:f}" for name in REGION_COLUMNS[-3:])
    counted = f"Avg (IOU: {row['iou']:f}), count: {int(row['count'])}"
    return f"v3 ({loss} loss, Normalizer: ({weights}) Region {head} {counted}, {losses} "


def format_iteration(
    iteration: int, loss: float, avg_loss: float, rate: float, seconds: float, images: int, hours_left: float = 0.0
) -> str:
    """The line of one iteration as AlexeyAB/darknet prints it today, without the end of the line.

    Args:
        iteration: from 1.
        loss, avg_loss: of this iteration, and 0.9 of the last average + 0.1 of it.
        rate: learning rate.
        seconds: of this iteration.
        images: seen since the beginning.
        hours_left: of the whole training.
    """
    return (
        f" {iteration}: {loss:f}, {avg_loss:f} avg loss, {rate:f} rate, {seconds:f} seconds, {images} images, "
        f"{hours_left:f} hours left"
    )
