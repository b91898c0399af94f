"""The user's own data: a folder of pictures with Darknet's label files, as tables of pictures and boxes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from helpers import intake
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.metrics.overlap import CORNERS
from helpers.boat_detection.sources import open_images

NO_LABEL = "no label file: a .txt beside it, or in labels/ where it is in images/; empty if it shows nothing"


def find_images(folder: str | os.PathLike | intake.Walk) -> pd.DataFrame:
    """The pictures below a folder with their label files, beside them or in `labels` for `images`.

    Of what `intake.walk` found there, labels are then no longer left out.

    Returns:
        image and label, paths from `folder` with /, sorted; label is "" where there is none.

    Raises:
        FileNotFoundError: no folder, or no picture in it.
    """
    found = intake.walk(folder, {intake.PICTURE})
    if not found.files:
        raise FileNotFoundError(f"no picture in {found.root.name}{found.first_reason()}")
    labels = [text_files.find_label(found.root / path) for path in found.files]
    labels = [label.relative_to(found.root).as_posix() if label else "" for label in labels]
    found.use(labels)
    return pd.DataFrame({"image": [path.as_posix() for path in found.files], "label": labels})


def read_boxes(
    folder: str | os.PathLike, found: pd.DataFrame, *, classes: int | None = None, problems: list[dict] | None = None
) -> pd.DataFrame:
    """The boxes of `find_images`'s label files as a table: image, class, x1, y1, x2, y2 (relative, cut to the picture), ignore.

    `classes` and `problems` are those of `text_files.read_labels`.
    """
    options = {"classes": classes, "problems": problems}
    labelled = found[found["label"] != ""]
    parts = [text_files.read_labels(Path(folder) / label, **options) for label in labelled["label"]]
    boxes = np.concatenate([np.empty((0, 5)), *parts])
    corners = np.concatenate([boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2], axis=1)
    table = pd.DataFrame(np.clip(corners, 0, 1), columns=CORNERS).assign(ignore=False)
    table.insert(0, "image", labelled["image"].repeat([len(part) for part in parts]).to_numpy())
    table.insert(1, "class", boxes[:, 0].astype(int))
    return table


def from_folder(found: intake.Walk, *, merged: str | None) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Pictures of a folder and the boxes of their Darknet label files; results as `collect.from_open_images`.

    The boxes have the class's name as `LabelName`, and flags -1: unknown. A picture's `subset` is the side that one of its
    folders says.

    Args:
        found: the folder, walked through; gets what cannot be used, and why.
        merged: name of the one class that all boxes become; None keeps the classes, by the names of a `.names` file.

    Raises:
        FileNotFoundError, ValueError: no picture, no box, a class that has no name, names that contradict each other.
    """
    pictures = _labelled(found)
    pictures["name"] = _short_names(pictures["image"])
    names = find_names(found)
    problems: list[dict] = []
    table = read_boxes(found.root, pictures, classes=len(names) or None, problems=problems)
    unknown = [problem for problem in problems if names and problem["reason"].startswith("class ")]
    if unknown:
        first = "{file}, line {line}: {reason}".format_map(unknown[0])
        raise ValueError(f"{len(unknown)} boxes have a class without a name, the first in {first} ({', '.join(names)})")
    for problem in problems:
        found.leave_out(f"{problem['file']}, line {problem['line']}", problem["reason"])
    if table.empty:
        raise ValueError(f"not one box in the {len(pictures)} label files of {found.root.name}; expected some")
    names = names or [f"class {number}" for number in range(int(table["class"].max()) + 1)]
    boxes = table.rename(columns={"x1": "XMin", "x2": "XMax", "y1": "YMin", "y2": "YMax"})
    boxes["ImageID"] = table["image"].map(pictures.set_index("image")["name"])
    boxes["LabelName"] = table["class"].map(dict(enumerate(names)))
    boxes = boxes.assign(Source="local", Confidence=1, **dict.fromkeys(open_images.FLAGS, -1))
    frame = pd.DataFrame({"image": pictures["name"], "outcome": "ok", "path": pictures["image"], "rotation": 0})
    frame["subset"] = [_side(path) for path in pictures["image"]]
    return frame, boxes[list(open_images.BOX_COLUMNS)], {name: merged or name for name in names}


def _labelled(found: intake.Walk) -> pd.DataFrame:
    """The pictures of `find_images` that have a label file of their own."""
    pictures = find_images(found)
    reasons = [_why_unlabelled(found.root, label) for label in pictures["label"]]
    twins = pictures["label"].duplicated() & (pictures["label"] != "")
    pictures["reason"] = np.where(twins, "another picture has the same label file", reasons)
    for image, reason in pictures.loc[pictures["reason"] != "", ["image", "reason"]].itertuples(index=False):
        found.leave_out(image, reason)
    pictures = pictures[pictures.pop("reason") == ""].reset_index(drop=True)
    if pictures.empty:
        raise FileNotFoundError(f"no picture in {found.root.name} has a label file{found.first_reason()}")
    return pictures


def _why_unlabelled(root: Path, label: str) -> str:
    if not label:
        return NO_LABEL
    kind = intake.sniff(root / label)
    return "" if kind in (intake.TEXT, intake.EMPTY) else f"its label file {label} is {intake.describe(root / label)}"


def _short_names(images: pd.Series) -> pd.Series:
    """The name of a picture without folders and suffix; with its folders where two would be called the same."""
    short = images.map(lambda path: Path(path).stem)
    long = images.map(lambda path: Path(path).with_suffix("").as_posix().replace("/", "-"))
    return short.where(~short.duplicated(keep=False), long)


def _side(path: str) -> str:
    return next(filter(None, map(intake.split_of, Path(path).parts[:-1])), "")


def find_names(found: intake.Walk) -> list[str]:
    """Names of the classes, from the files of the folder that say them; [] where none does.

    Darknet's `.names`, the `classes.txt` of labelling programs, Roboflow's `_darknet.labels`, and the `names` of a `data.yaml`.

    Raises:
        ValueError: two of them say different things.
    """
    told = {}
    for path, skipped in intake.entries(found.root):
        if not skipped and (names := _names_in(found.root / path)):
            told[path.as_posix()] = names
            found.use([path.as_posix()])
    if len({tuple(names) for names in told.values()}) > 1:
        raise ValueError(f"{', '.join(told)} name the classes differently; keep the one that the labels were made with")
    return next(iter(told.values()), [])


def _names_in(path: Path) -> list[str]:
    if path.suffix in (".yaml", ".yml"):
        content = yaml.safe_load(intake.read_text(path))
        names = content.get("names") if isinstance(content, dict) else None
        return [str(name) for name in (names.values() if isinstance(names, dict) else names or [])]
    lists = path.suffix == ".names" or path.name in ("classes.txt", "_darknet.labels", "predefined_classes.txt")
    return text_files.read_names(path) if lists else []
