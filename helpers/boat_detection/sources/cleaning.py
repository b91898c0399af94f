"""Which boxes count, and where they are once a picture stands upright: Open Images' flags and its `Rotation`."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from helpers.boat_detection.metrics.overlap import CORNERS


def apply_policy(boxes: pd.DataFrame, policy: str) -> pd.DataFrame:
    """Which boxes count: adds `ignore`, an area in which a detection is neither right nor wrong.

    Policy "all" takes every box; "clean" leaves out drawings and views from inside, ignores groups. -1 counts as no.

    Returns:
        A new table; `.attrs["policy"]` counts: `policy, depiction, inside` (left out), `ignored, boxes, images` (the rest).
    """
    if policy not in ("all", "clean"):
        raise ValueError(f"policy: received {policy!r}; allowed: all, clean")
    clean = policy == "clean"
    depiction = clean & (boxes["IsDepiction"] == 1)
    inside = clean & (boxes["IsInside"] == 1) & ~depiction
    kept = boxes[~depiction & ~inside].reset_index(drop=True)
    kept["ignore"] = clean & (kept["IsGroupOf"] == 1)
    left_out = {"depiction": int(depiction.sum()), "inside": int(inside.sum()), "ignored": int(kept["ignore"].sum())}
    counts = {"policy": policy, **left_out, "boxes": int((~kept["ignore"]).sum()), "images": kept["ImageID"].nunique()}
    kept.attrs = {**boxes.attrs, "policy": counts}
    return kept


def to_boxes(boxes: pd.DataFrame, classes: Mapping[str, int]) -> pd.DataFrame:
    """The course's table `image, class, x1, y1, x2, y2, ignore` from that of `apply_policy`; `classes`: id -> number."""
    corners = boxes[["XMin", "YMin", "XMax", "YMax"]].set_axis(CORNERS, axis=1)
    table = {"image": boxes["ImageID"], "class": boxes["LabelName"].map(classes).astype("int64")}
    return pd.DataFrame({**table, **corners, "ignore": boxes["ignore"]})


def upright(image: np.ndarray, rotation: int) -> np.ndarray:
    """A picture (H, W, ...) turned counter-clockwise by `rotation` degrees: 0, 90, 180 or 270."""
    return np.ascontiguousarray(np.rot90(image, rotation // 90))


def upright_boxes(x1: Any, y1: Any, x2: Any, y2: Any, rotation: int) -> tuple[Any, Any, Any, Any]:
    """Where boxes (shares of the sides; numbers or arrays) are after `upright`: x1, y1, x2, y2."""
    for _ in range(rotation // 90):
        x1, y1, x2, y2 = y1, 1 - x2, y2, 1 - x1
    return x1, y1, x2, y2


def boxes_that_count(
    boxes: pd.DataFrame, classes: Mapping[str, str], good: pd.DataFrame, *, policy: str, upright: bool
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Boxes of step build_dataset that belong to `good` pictures, as the course's table, and the counts of the `policy`.

    `classes` are LabelName -> name of the class; their order numbers them. Boxes turn with pictures that were turned `upright`.
    """
    kept = apply_policy(boxes[boxes["ImageID"].isin(good["image"])], policy)
    counts = kept.attrs["policy"]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(classes.values()))}
    table = to_boxes(kept, {label: numbers[name] for label, name in classes.items()})
    degrees = table["image"].map(good.set_index("image")["rotation"])
    for turned in sorted(set(degrees) - {0}) if upright else ():
        rows = degrees == turned
        table.loc[rows, CORNERS] = np.stack(upright_boxes(*table.loc[rows, CORNERS].to_numpy().T, turned), axis=1)
    return table, {name: counts[name] for name in ("boxes", "depiction", "inside", "ignored")}
