"""Pictures and boxes on disk: read, checked, made ready for training, and the tables of one side.

Workers import this module: it knows nothing of Keras.
"""

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from helpers import pictures
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.sources import cleaning
from helpers.workspace import StepResult, disk

JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
# libjpeg's word for a broken picture; a few bytes too many at its end are common and harmless
DAMAGE = re.compile(rb"Corrupt JPEG data: (?!\d{1,2} extraneous)[^\r\n]*|Premature end[^\r\n]*")
FOLDERS = ("images", "labels")  # AlexeyAB's Darknet looks for a label beside its picture, pjreddie's in labels/
_LISTENING = threading.Lock()
read_image = pictures.read_picture  # upright


def check_image(path: str | os.PathLike) -> dict[str, int]:
    """Decode a picture to see whether it is whole: its height and width in pixels, and bytes of the file.

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


def prepare_picture(
    row: Mapping, *, root: Path, folder: Path, upright: bool, max_side: int | None, follow_note: bool
) -> dict[str, int]:
    """Check a picture and leave it in `folder/images`: as it is, or turned upright and shrunk; never with a note to turn it.

    Args:
        row: image, path (from `root`), rotation.
        upright: turn it by `rotation` degrees.
        max_side: longest side in pixels; None keeps all.
        follow_note: turn it first as the camera's note (EXIF) says, as the programs do in which people draw boxes; Open Images'
            boxes belong to the pixels as they are stored.

    Returns:
        width and height of what was left.

    Raises:
        FileNotFoundError, ValueError: no picture, cut off or damaged.
    """
    source = root / row["path"]
    found = check_image(source)
    turn = row["rotation"] if upright else 0
    shrink = max_side is not None and max(found["height"], found["width"]) > max_side
    target = folder / "images" / f"{row['image']}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    is_jpeg = source.suffix.lower() in (".jpg", ".jpeg")
    if is_jpeg and not (turn or shrink or pictures.is_noted_turned(source)):
        disk.write(target, source.read_bytes())
        return {"width": found["width"], "height": found["height"]}
    image = cleaning.upright(pictures.read_picture(source, upright=follow_note), turn)
    if shrink:
        image = pictures.shrink(image, max(image.shape[:2]) / max_side)
    disk.write(target, pictures.encode_picture(image, ".jpg"))
    return {"width": image.shape[1], "height": image.shape[0]}


def write_label_files(images: Sequence[str], boxes: pd.DataFrame, folder: Path) -> None:
    """Darknet's label file of every picture, beside it and in `labels`; empty where nothing is to be found.

    Written plainly: a step killed meanwhile writes them all again, and making each file safe would take most of the time.
    """
    for place in FOLDERS:
        (folder / place).mkdir(exist_ok=True)
    for name, (_, rows) in zip(images, with_boxes(images, boxes), strict=True):
        text = text_files.label_text(rows, f"{name}.txt")
        for place in FOLDERS:
            (folder / place / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")


# --- tables ---


def side_of(ready: StepResult, parted: StepResult, side: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pictures and boxes of one side, from what the steps preprocess and split left; `path` says where a picture is.

    Raises:
        ValueError: the side is empty.
    """
    pictures = parted.table("pictures").query("split == @side").reset_index(drop=True)
    if pictures.empty:
        raise ValueError(
            f"no picture is on the side {side}; expected at least one: take more pictures or another split_by"
        )
    pictures["path"] = [str(ready.folder / "images" / f"{image}.jpg") for image in pictures["image"]]
    boxes = ready.table("boxes")
    return pictures, boxes[boxes["image"].isin(pictures["image"])].reset_index(drop=True)


def that_count(boxes: pd.DataFrame) -> pd.DataFrame:
    """The boxes that are to be found, without the areas to ignore."""
    return boxes[~boxes["ignore"].astype(bool)]


def with_boxes(
    images: Iterable[str], boxes: pd.DataFrame, paths: Iterable[str | os.PathLike] | None = None
) -> list[tuple[Path, np.ndarray]]:
    """Pictures with their boxes, as `Batches` takes them: a picture without a row in the table is one without a boat.

    Args:
        boxes: image, class, x1, y1, x2, y2, relative, and `ignore` if there are areas to ignore.
        paths: files of the images; None: their names.

    Returns:
        (path, (n, 5) float32 of class, centre x, centre y, width, height); class -2 where `ignore` is true.
    """
    corners = boxes[["x1", "y1", "x2", "y2"]].to_numpy(float)
    classes = boxes["class"].to_numpy(float)
    if "ignore" in boxes:
        classes = np.where(boxes["ignore"].to_numpy(bool), text_files.IGNORE, classes)
    low, high = corners[:, :2], corners[:, 2:]
    rows = np.concatenate([classes[:, None], (low + high) / 2, high - low], axis=1).astype(np.float32)
    images, of_image = list(images), boxes.groupby("image").indices
    paths = images if paths is None else paths
    return [(Path(path), rows[of_image.get(image, [])]) for image, path in zip(images, paths, strict=True)]
