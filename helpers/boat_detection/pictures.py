"""Pictures with boxes on disk: found in a folder, checked, read, and their label files as a table.

Workers import this module: it knows nothing of Keras.
"""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import pandas as pd

from helpers.boat_detection import files

BOX_COLUMNS = ["image", "class", "x1", "y1", "x2", "y2", "ignore"]
JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# libjpeg's word for a broken picture; a few bytes too many at its end are common and harmless
DAMAGE = re.compile(rb"Corrupt JPEG data: (?!\d{1,2} extraneous)[^\r\n]*|Premature end[^\r\n]*")
_LISTENING = threading.Lock()


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read a picture as (H, W, 3) RGB uint8. Its pixels stay as stored: a camera's note to turn them does not move boxes.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be decoded; names the file.
    """
    content = np.fromfile(path, np.uint8)  # OpenCV's own reading takes no names outside ASCII everywhere
    image = cv2.imdecode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(content) else None
    if image is None:
        raise ValueError(f"{Path(path).name} is no picture that can be read ({len(content)} bytes); remove it")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def check_image(path: str | os.PathLike) -> dict[str, int]:
    """Decode a picture to see whether it is whole, for `parallel`; what the decoder writes to stderr is caught.

    Returns:
        height and width in pixels, and bytes of the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: cut off, damaged, or no picture; names the file.
    """
    name, content = Path(path).name, Path(path).read_bytes()
    # Inside a scan no two bytes look like the end: one behind the last scan's start is the picture's own, no thumbnail's.
    if content.startswith(JPEG) and content.rfind(JPEG_END) < content.rfind(JPEG_SCAN):
        raise ValueError(f"{name} is cut off: a JPEG file without its end ({len(content)} bytes)")
    with _listen() as heard:
        height, width, _ = read_image(path).shape
        heard.seek(0)
        damage = DAMAGE.search(heard.read())
    if damage:
        raise ValueError(f"{name} is damaged: {damage[0].decode()}")
    return {"height": height, "width": width, "bytes": len(content)}


@contextlib.contextmanager
def _listen() -> Iterator[IO[bytes]]:
    """A file that gets what this process, C code included, writes to stderr meanwhile."""
    with _LISTENING, tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield sink
        finally:
            os.dup2(saved, 2)
            os.close(saved)


# --- tables ---


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
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in files.IMAGE_SUFFIXES)
    paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not paths:
        raise FileNotFoundError(f"no picture in {folder.name}; expected {', '.join(files.IMAGE_SUFFIXES)}")
    labels = [files.find_label(path) for path in paths]
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

    `classes` and `problems` are those of `files.read_labels`.
    """
    parts = []
    for image, label in found.loc[found["label"] != "", ["image", "label"]].itertuples(index=False):
        boxes = files.read_labels(Path(folder) / label, classes=classes, problems=problems).astype(float)
        corners = np.clip(np.concatenate([boxes[:, 1:3] - boxes[:, 3:] / 2, boxes[:, 1:3] + boxes[:, 3:] / 2], 1), 0, 1)
        part = pd.DataFrame(corners, columns=BOX_COLUMNS[2:6]).assign(image=image, ignore=False)
        parts.append(part.assign(**{"class": boxes[:, 0].astype(int)}))
    parts = [part for part in parts if len(part)] or [pd.DataFrame(columns=BOX_COLUMNS)]
    return pd.concat(parts, ignore_index=True)[BOX_COLUMNS]


def pair_boxes(
    images: Iterable[str], boxes: pd.DataFrame, folder: str | os.PathLike = ""
) -> list[tuple[Path, np.ndarray]]:
    """Pictures with their boxes, as `Batches` takes them: a picture without a row in the table is one without a boat.

    Args:
        images: paths from `folder`, the table's `image`.
        boxes: image, class, x1, y1, x2, y2, relative, and `ignore` if there are areas to ignore.
        folder: where the paths begin.

    Returns:
        (path, (n, 5) float32 of class, centre x, centre y, width, height); class -2 where `ignore` is true.
    """
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(float)
    classes = boxes["class"].to_numpy(float)
    if "ignore" in boxes:
        classes = np.where(boxes["ignore"].to_numpy(bool), files.IGNORE, classes)
    low, high = corners[:, :2], corners[:, 2:]
    rows = np.concatenate([classes[:, None], (low + high) / 2, high - low], axis=1).astype(np.float32)
    of_image = boxes.groupby("image").indices
    return [(Path(folder) / image, rows[of_image.get(image, [])]) for image in images]
