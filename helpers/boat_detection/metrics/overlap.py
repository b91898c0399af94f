"""Boxes by their corners (x1, y1, x2, y2), in any one unit: areas, overlaps, and tables of them in pixels.

NumPy only, so that worker processes may import it.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

CORNERS = ["x1", "y1", "x2", "y2"]
COLUMNS = ["image", "class", "score", *CORNERS]  # of a table of detections


def area(boxes: ArrayLike) -> np.ndarray:
    """Width times height of boxes (..., 4): (...) float64."""
    boxes = np.asarray(boxes, np.float64)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(boxes: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Area that boxes (..., 4) share with others (..., 4), broadcast against each other: (...) float64."""
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    width = np.minimum(boxes[..., 2], others[..., 2]) - np.maximum(boxes[..., 0], others[..., 0])
    height = np.minimum(boxes[..., 3], others[..., 3]) - np.maximum(boxes[..., 1], others[..., 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def iou(boxes: ArrayLike, others: ArrayLike) -> np.ndarray:
    """Intersection over union of boxes (..., 4), in [0, 1], (...) float64; 0 where both are empty.

    They are broadcast: `iou(a[:, None], b)` is the matrix of all pairs, `iou(a, b)` goes row by row.
    """
    inside = intersection(boxes, others)
    union = area(boxes) + area(others) - inside
    return np.divide(inside, union, out=np.zeros_like(inside), where=union > 0)


def in_pixels(boxes: pd.DataFrame, pictures: pd.DataFrame) -> pd.DataFrame:
    """A table of relative boxes (`image, x1, y1, x2, y2`) in pixels of their pictures (`image, width, height`)."""
    sizes = pictures.set_index("image")[["width", "height"]]
    return scaled(boxes, sizes.loc[boxes["image"]].to_numpy(float))


def scaled(boxes: pd.DataFrame, sizes: np.ndarray) -> pd.DataFrame:
    """The corners times `sizes`: (N, 2) width and height for each box, or (2,) for all."""
    found = boxes[CORNERS].to_numpy(float) * np.tile(sizes, 2)
    return boxes.assign(**dict(zip(CORNERS, found.T, strict=True)))
