"""The user's own data: a folder of pictures with Darknet's label files, as tables of pictures and boxes."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import workspace
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.sources import open_images

COLUMNS = ["image", "class", "x1", "y1", "x2", "y2", "ignore"]


def fingerprint(config: BoatDetectionConfig) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of the folder's files, so that a changed folder makes a new data set; None for other sources."""
    kinds = (*text_files.IMAGE_SUFFIXES, ".txt", ".names")
    return workspace.fingerprint_local(
        config,
        lambda root: (path for path in root.rglob("*") if path.suffix.lower() in kinds),
        expected="one with pictures and Darknet label files",
    )


def find_images(folder: str | os.PathLike, *, unlabelled: str = "error") -> pd.DataFrame:
    """List the pictures below a folder with their label files, beside them or in `labels` for `images`.

    Args:
        folder: searched with all folders in it; hidden ones are left out.
        unlabelled: "error" where a picture has no label file (Darknet would learn in silence that it is empty; an empty
            file says so), or "keep" it.

    Returns:
        image and label, paths from `folder` with /, sorted; label is "" where there is none.

    Raises:
        FileNotFoundError: no folder, no picture, or one without a label file.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}; expected one with pictures and Darknet label files")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in text_files.IMAGE_SUFFIXES)
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        raise FileNotFoundError(f"no picture in {folder.name}; expected {', '.join(text_files.IMAGE_SUFFIXES)}")
    labels = [text_files.find_label(path) for path in paths]
    missing = [path.name for path, label in zip(paths, labels, strict=True) if label is None]
    if missing and unlabelled == "error":
        raise FileNotFoundError(
            f"{len(missing)} of {len(paths)} pictures in {folder.name} have no label file, such as {missing[0]}; expected a "
            ".txt beside it, or in labels/ where it is in images/, empty if it shows nothing"
        )
    return pd.DataFrame(
        {
            "image": [path.relative_to(folder).as_posix() for path in paths],
            "label": [label.relative_to(folder).as_posix() if label else "" for label in labels],
        }
    )


def read_boxes(
    folder: str | os.PathLike, found: pd.DataFrame, *, classes: int | None = None, problems: list[dict] | None = None
) -> pd.DataFrame:
    """The boxes of `find_images`'s label files as a table: image, class, x1, y1, x2, y2 (relative, cut to the picture), ignore.

    `classes` and `problems` are those of `text_files.read_labels`.
    """
    parts = []
    for image, label in found.loc[found["label"] != "", ["image", "label"]].itertuples(index=False):
        boxes = text_files.read_labels(Path(folder) / label, classes=classes, problems=problems).astype(float)
        corners = np.clip(np.concatenate([boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2], 1), 0, 1)
        part = pd.DataFrame(corners, columns=COLUMNS[2:6]).assign(image=image, ignore=False)
        parts.append(part.assign(**{"class": boxes[:, 0].astype(int)}))
    parts = [part for part in parts if len(part)] or [pd.DataFrame(columns=COLUMNS)]
    return pd.concat(parts, ignore_index=True)[COLUMNS]


def from_folder(root: Path, *, merged: str | None) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Pictures of a folder and the boxes of their Darknet label files; results as `collect.from_open_images`.

    The boxes have the class's name as `LabelName`, and flags -1: unknown.

    Args:
        root: the folder.
        merged: name of the one class that all boxes become; None keeps the classes, by the names of a `.names` file.
    """
    found = find_images(root)
    stems = found["image"].map(lambda path: Path(path).stem)
    if stems.duplicated().any():
        raise ValueError(f"two pictures in {root.name} are called {stems[stems.duplicated()].iloc[0]}; rename one")
    problems: list[dict] = []
    table = read_boxes(root, found, problems=problems)
    for problem in problems:
        print(f"left out: {problem['file']}, line {problem['line']}: {problem['reason']}")
    listed = sorted(root.rglob("*.names"))
    names = text_files.read_names(listed[0]) if listed else [f"class {i}" for i in range(int(table["class"].max()) + 1)]
    boxes = pd.DataFrame({"ImageID": table["image"].map(lambda path: Path(path).stem)})
    boxes["LabelName"] = table["class"].map(dict(enumerate(names)))
    boxes[["XMin", "XMax", "YMin", "YMax"]] = table[["x1", "x2", "y1", "y2"]]
    boxes = boxes.assign(Source="local", Confidence=1, **dict.fromkeys(open_images.FLAGS, -1))
    frame = pd.DataFrame({"image": stems, "outcome": "ok", "path": found["image"], "subset": "", "rotation": 0})
    return frame, boxes[list(open_images.BOX_COLUMNS)], {name: merged or name for name in names}
