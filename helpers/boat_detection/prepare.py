"""Step preprocess in parts: one picture made ready in a worker, and the boxes that a policy leaves.

Workers import this module: it knows nothing of Keras.
"""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers.boat_detection import files, open_images, pictures, splits
from helpers.workspace import disk

FOLDERS = ("images", "labels")  # AlexeyAB's Darknet looks for a label beside its picture, pjreddie's in labels/
QUALITY = 95


def prepare_picture(row: Mapping, *, root: Path, folder: Path, upright: bool, max_side: int | None) -> dict:
    """Check a picture and leave it in `folder/images`: as it is, or turned upright and shrunk.

    Args:
        row: image, path (from `root`), rotation.
        root: where the pictures are.
        folder: of the step.
        upright: turn it by `rotation` degrees.
        max_side: longest side in pixels; None keeps all.

    Returns:
        width and height of what was left.

    Raises:
        FileNotFoundError, ValueError: no picture, cut off or damaged.
    """
    source = root / row["path"]
    found = pictures.check_image(source)
    turn = row["rotation"] if upright else 0
    shrink = max_side is not None and max(found["height"], found["width"]) > max_side
    target = folder / "images" / f"{row['image']}.jpg"
    target.parent.mkdir(parents=True, exist_ok=True)
    if not (turn or shrink or source.suffix.lower() not in (".jpg", ".jpeg")):
        with disk.atomic_write(target) as file:
            file.write(source.read_bytes())
        return {"width": found["width"], "height": found["height"]}
    image = open_images.upright(pictures.read_image(source), turn)
    if shrink:
        scale = max_side / max(image.shape[:2])
        size = [max(1, round(side * scale)) for side in image.shape[1::-1]]
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    with disk.atomic_path(target) as temporary:
        cv2.imwrite(str(temporary), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return {"width": image.shape[1], "height": image.shape[0]}


def write_label_files(images: list[str], boxes: pd.DataFrame, folder: Path) -> None:
    """Darknet's label file of every picture, beside it and in `labels`; empty where nothing is to be found.

    Written plainly: a step killed meanwhile writes them all again, and making each file safe would take most of the time.
    """
    for place in FOLDERS:
        (folder / place).mkdir(exist_ok=True)
    for path, rows in pictures.pair_boxes(images, boxes):
        text = files.label_text(rows, f"{path}.txt")
        for place in FOLDERS:
            (folder / place / f"{path}.txt").write_text(text, encoding="utf-8")


def pairs(table: pd.DataFrame, boxes: pd.DataFrame) -> list[tuple[Path, np.ndarray]]:
    """Pictures (columns image, path) with their boxes, as `data.Batches` takes them."""
    rows = pictures.pair_boxes(table["image"], boxes)
    return [(Path(path), found) for path, (_, found) in zip(table["path"], rows, strict=True)]


def input_sizes(table: pd.DataFrame, boxes: pd.DataFrame, *, size: int, resize: str) -> np.ndarray:
    """Widths and heights of boxes in pixels of the network's input: (N, 2); of their pictures `table` gives width and height."""
    found = boxes.merge(table[["image", "width", "height"]], on="image", how="left")
    sides = found[["width", "height"]].to_numpy(float)
    longest = sides.max(axis=1, keepdims=True)
    drawn = sides * size / longest if resize == "letterbox" else np.full_like(sides, size)
    return drawn * (found[["x2", "y2"]].to_numpy(float) - found[["x1", "y1"]].to_numpy(float))


def assign_sides(table: pd.DataFrame, config) -> pd.Series:
    """Side of every picture by the config's rule; "official" keeps Open Images' own subsets."""
    if config.split_by == "official":
        return pd.Series(table["subset"].to_numpy(), index=pd.Index(table["image"], name="image"), name="side")
    authors = table.get("author")
    options = {"folds": config.folds, "fold": config.fold, "seed": config.seed}
    return splits.assign_sides(table["image"], by=config.split_by, authors=authors, **options)


def count_leaks(table: pd.DataFrame, sides: pd.Series, folder: Path) -> dict[str, int]:
    """Test pictures with a companion in training: one by the same author, one that looks alike."""
    hashes = splits.hash_files({image: folder / f"{image}.jpg" for image in table["image"]})
    authors = table.get("author")
    found = splits.leaks(sides, authors=authors, duplicates=splits.near_duplicates(hashes))
    rows = found[(found["side"] == "test") & (found["against"] == "train")]
    return rows.set_index("kind")["images"].to_dict()
