"""Darknet's text files: labels, lists of pictures, names of classes, and the `.data` file that points to them all.

A label file stands for one picture; each of its lines is a box: class, centre x, centre y, width, height, as fractions of
the picture's size. One without lines says that the picture shows nothing.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from helpers import intake
from helpers.workspace import disk

PICTURES = intake.SUFFIXES[intake.PICTURE].split()
IGNORE = -2  # class of an area where nothing is asked: neither a boat nor background
BOX = ("class", "centre x", "centre y", "width", "height")
SLACK = 1e-4  # of the picture: what rounding may add to a value that should be 1
SHOWN = 5  # problems that an error lists


def find_label(image: str | os.PathLike) -> Path | None:
    """The label file of a picture, or None: beside it (AlexeyAB), or in `labels` where its path has `images` (pjreddie).

    Of several folders called `images` (or `JPEGImages`) the last counts, since data sets stand side by side in one.
    """
    beside = Path(image).with_suffix(".txt")
    parts = list(beside.parts)
    places = [place for place, part in enumerate(parts[:-1]) if part in ("images", "JPEGImages")]
    for place in places[-1:]:
        parts[place] = "labels"
    return next((path for path in (beside, Path(*parts)) if path.is_file()), None)


def read_labels(
    path: str | os.PathLike, *, classes: int | None = None, problems: list[dict] | None = None
) -> np.ndarray:
    """Read a label file.

    Args:
        classes: how many classes there are, to check the first number; not checked without.
        problems: lines that cannot be used are left out and become rows `file`, `line`, `reason` of it. Without it they are
            an error: such boxes make Darknet's loss NaN.

    Returns:
        (n, 5) float32: class, centre x, centre y, width, height, relative; (0, 5) for an empty file.

    Raises:
        ValueError: lines that cannot be used, with file, line and reason.
    """
    boxes, found = [], []
    for number, line in _numbered_lines(path):
        try:
            boxes.append(_parse_box(line, classes))
        except ValueError as error:
            found.append({"file": Path(path).name, "line": number, "reason": str(error)})
    if problems is None:
        _raise(found)
    else:
        problems += found
    return np.array(boxes, np.float32).reshape(-1, 5)


def _parse_box(line: str, classes: int | None) -> list[float]:
    words = line.split()
    if len(words) != 5:
        raise ValueError(f"{len(words)} numbers; expected 5: {', '.join(BOX)}")
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise ValueError(f"not a number in {line.strip()[:60]!r}; expected {', '.join(BOX)}") from None
    _check_box(values, classes)
    return values[:1] + [min(value, 1.0) for value in values[1:]]


def _check_box(values: Iterable[float], classes: int | None) -> None:
    number, *sides = values
    last = float("inf") if classes is None else classes - 1
    if not 0 <= number <= last or number % 1:
        raise ValueError(f"class {number:g}; expected {'a whole number' if classes is None else f'0 to {last}'}")
    for name, value in zip(BOX[1:], sides, strict=True):
        positive = name in ("width", "height")
        if not 0 <= value <= 1 + SLACK or (positive and value == 0):  # NaN fails too
            allowed = "above 0 and at most 1" if positive else "0 to 1"
            raise ValueError(f"{name} {value:g}; expected {allowed}: fractions of the picture, not pixels")


def write_labels(path: str | os.PathLike, boxes: np.ndarray) -> None:
    """Write a label file of (n, 5) boxes as `read_labels` gives them, atomically; see `label_text`."""
    disk.write(path, label_text(boxes, Path(path).name))


def label_text(boxes: np.ndarray, name: str) -> str:
    """The label file `name` of (n, 5) boxes, with 6 decimals. Areas to ignore (class -2) are left out: Darknet knows none.

    Raises:
        ValueError: a box that `read_labels` would refuse.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 5)
    boxes = np.round(boxes[boxes[:, 0] != IGNORE], 6)
    for number, box in enumerate(boxes.tolist(), 1):
        try:
            _check_box(box, None)
        except ValueError as error:
            raise ValueError(f"cannot write {name}: box {number} has {error}") from None
    return "".join("{:.0f} {:.6f} {:.6f} {:.6f} {:.6f}\n".format(*box) for box in boxes.tolist())


def read_list(path: str | os.PathLike) -> list[str]:
    """Read a list of pictures, one path a line, as they stand there; empty lines are skipped.

    Raises:
        ValueError: a line that names no picture.
    """
    found, problems = [], []
    for number, line in _numbered_lines(path):
        found.append(line.strip())
        if Path(found[-1]).suffix.lower().removeprefix(".") not in PICTURES:
            reason = f"{found[-1][:60]!r} names no picture; expected a path that ends in .{', .'.join(PICTURES)}"
            problems.append({"file": Path(path).name, "line": number, "reason": reason})
    _raise(problems)
    return found


def write_list(path: str | os.PathLike, images: Iterable[str | os.PathLike]) -> None:
    """Write a list of pictures, one path a line with /, atomically."""
    _write_lines(path, (Path(image).as_posix() for image in images))


def read_names(path: str | os.PathLike) -> list[str]:
    """Read the names of the classes: the line is the class, so none may be empty but those at the end.

    Raises:
        ValueError: no name, an empty line between names, or a name twice.
    """
    names = [line.strip() for line in intake.read_text(path, expected="names of classes").rstrip().split("\n")]
    problems = []
    for number, name in enumerate(names, 1):
        reason = "no name" if not name else f"{name} is the name of line {names.index(name) + 1} too"
        if not name or name in names[: number - 1]:
            problems.append({"file": Path(path).name, "line": number, "reason": f"{reason}; expected one name a line"})
    _raise(problems)
    return names


def write_names(path: str | os.PathLike, names: Iterable[str]) -> None:
    """Write the names of the classes, one a line, atomically."""
    _write_lines(path, names)


def write_data(path: str | os.PathLike, *, classes: int, names: str, **more: str) -> None:
    """Write a `.data` file, atomically; `more` is train, valid, backup and the like."""
    _write_lines(path, (f"{key} = {value}" for key, value in {"classes": classes, **more, "names": names}.items()))


def _numbered_lines(path: str | os.PathLike) -> Iterator[tuple[int, str]]:
    """Lines that hold something, with their numbers from 1."""
    return (
        (number, line)
        for number, line in enumerate(intake.read_text(path, errors="replace").split("\n"), 1)
        if line.strip()
    )


def _write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    lines = list(lines)
    for number, line in enumerate(lines, 1):
        if not line.strip() or "\n" in line or "\r" in line:
            raise ValueError(
                f"cannot write {Path(path).name}: line {number} would be {line!r}; expected one line of text"
            )
    disk.write(path, "".join(f"{line}\n" for line in lines))


def _raise(problems: list[dict]) -> None:
    if problems:
        rows = [f"{row['file']}, line {row['line']}: {row['reason']}" for row in problems[:SHOWN]]
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise ValueError("\n".join(rows + more))
