"""Tables of detections and of ground truth, checked and taken apart into arrays; every problem is a ValueError."""

import numpy as np
import pandas as pd

from helpers.boat_detection.metrics.overlap import CORNERS


def numbers(table: pd.DataFrame, columns: list[str], name: str) -> np.ndarray:
    """The columns as (rows, columns) float64, all finite."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise ValueError(f"{name} lack the columns {missing}. Received: {list(table.columns)}")
    values = table[columns].to_numpy(dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise ValueError(f"{name} must be finite in {columns}. Received: {len(bad)} rows that are not, first {bad[0]}")
    return values


def corners(table: pd.DataFrame, name: str) -> np.ndarray:
    """(rows, 4) x1, y1, x2, y2, in order."""
    boxes = numbers(table, CORNERS, name)
    bad = np.flatnonzero((boxes[:, 2:] < boxes[:, :2]).any(axis=1))
    if len(bad):
        raise ValueError(
            f"{name} need x1 <= x2 and y1 <= y2, not a centre and a size. Received: {len(bad)} rows that are not, "
            f"first {bad[0]}: {boxes[bad[0]].tolist()}"
        )
    return boxes


def ignore(ground_truth: pd.DataFrame) -> np.ndarray:
    """(rows,) bool, the column `ignore`; all False where there is none."""
    if "ignore" not in ground_truth:
        return np.zeros(len(ground_truth), bool)
    if not ground_truth["ignore"].isin([0, 1]).all():  # Open Images writes -1 for unknown, and bool(-1) is True
        raise ValueError(f"ignore must be 0 or 1. Received: {sorted(set(ground_truth['ignore']), key=str)}")
    return ground_truth["ignore"].to_numpy(dtype=bool)


def codes(detections: pd.DataFrame, ground_truth: pd.DataFrame, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Numbers for the values of a column in both tables, the detections' first, and the sorted values."""
    values = []
    for table, name in ((detections, "detections"), (ground_truth, "ground_truth")):
        if column not in table:
            raise ValueError(f"{name} lack the columns ['{column}']. Received: {list(table.columns)}")
        values.append(table[column].to_numpy(dtype=object))
    if any(pd.isna(value).any() for value in values):
        raise ValueError(f"column {column} has empty values (NaN or None)")
    kinds = {isinstance(value[0], str) for value in values if len(value)}
    if len(kinds) > 1:
        raise ValueError(f"column {column} is text in one table and numbers in the other: no row could ever match")
    return pd.factorize(np.concatenate(values), sort=True)
