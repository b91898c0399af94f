"""Files of the drawn data sets: all items drawn in processes, and the true points of every frame in one table."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import parallel
from helpers.workspace import disk

POINTS = "points.csv"


def draw_all(draw: Callable, items: Iterable, *, what: str, label: str, jobs: int | None) -> pd.DataFrame:
    """One row an item, in their order, of a function that writes the item's files; see `helpers.parallel.parallel`.

    OSError: the disk is full or read-only. RuntimeError: items that could not be drawn, with the first reason.
    """
    table = parallel.parallel(draw, items, what=what, jobs=jobs, label=label)
    if len(failed := table.loc[table["error"] != "", "error"]):
        raise RuntimeError(f"{len(failed)} of {len(table)} {what} could not be drawn: {failed.iloc[0]}")
    return table


def _columns(names: Sequence[str]) -> list[str]:
    return [f"{name}_{axis}" for name in names for axis in "xy"]


def write_points(folder: str | Path, table: pd.DataFrame, names: Sequence[str], *, key: str) -> None:
    """Write `points.csv`, the true points, one row a frame: the clip, the frame's number, and x and y of every point.

    Args:
        table: one row a clip with its `frames` and `points`, (frames, names, 2), and its name in column `key`.
        key: also the name of the file's first column.
    """
    columns = _columns(names)
    points = pd.DataFrame(np.concatenate(list(table["points"])).reshape(-1, len(columns)), columns=columns).round(2)
    points.insert(0, key, table[key].repeat(table["frames"]).to_numpy())
    points.insert(1, "frame", np.concatenate([np.arange(count) for count in table["frames"]]))
    disk.write_table(Path(folder) / POINTS, points)


def read_points(folder: str | Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """What `write_points` wrote, by the clip's name: (frames, names, 2) float32; a clip without frames has no entry.

    FileNotFoundError: the folder has no `points.csv`.
    """
    columns = _columns(names)
    table = pd.read_csv(Path(folder) / POINTS, dtype=dict.fromkeys(columns, np.float32))
    values = table[columns].to_numpy().reshape(-1, len(names), 2)
    return {clip: values[rows] for clip, rows in table.groupby(table.columns[0], sort=False).indices.items()}
