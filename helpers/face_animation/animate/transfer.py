"""A motion carried over from one face to another: relative motion of keypoints, the frame that it starts from, sizes of faces.

NumPy and OpenCV only: keypoints come as arrays.
"""

import cv2
import numpy as np

LEAST_AREA = 1e-6  # of a hull, in the unit of [-1, 1]: below it keypoints have no size that could be compared
LEAST_DETERMINANT = 1e-4  # of a Jacobian that is inverted


def relative_motion(source: dict, driving: dict, initial: dict, *, adapt_scale: bool = True) -> dict:
    """Carry a motion over: where the source's keypoints go when they move as the driving ones did since the initial frame.

    value = (driving - initial) a + source, jacobian = J_driving J_initial^-1 J_source; a = sqrt(area of the source's hull / area
    of the initial one's) adapts to a smaller or larger face. A hull without area gives a = 1, and where an initial Jacobian
    cannot be inverted that of the source stays.

    Args:
        source, initial: dict of NumPy arrays value (1, K, 2) and jacobian (1, K, 2, 2).
        driving: the same with T in place of 1.
        adapt_scale: or a = 1.

    Returns:
        dict with value (T, K, 2) and jacobian (T, K, 2, 2), float32.
    """
    areas = [hull_area(part["value"][0]) for part in (source, initial)]
    scale = np.sqrt(areas[0] / areas[1]) if adapt_scale and min(areas) > LEAST_AREA else 1.0
    matrices = initial["jacobian"].astype(np.float64)
    bad = np.abs(np.linalg.det(matrices)) < LEAST_DETERMINANT
    turn = driving["jacobian"] @ np.linalg.inv(np.where(bad[..., None, None], np.eye(2), matrices))
    turn = np.where(bad[..., None, None], np.eye(2), turn)
    value = (driving["value"] - initial["value"]) * scale + source["value"]
    return {"value": value.astype(np.float32), "jacobian": (turn @ source["jacobian"]).astype(np.float32)}


def starting_frame(start: str | int, source: np.ndarray, driving: np.ndarray) -> int:
    """The number of the driving frame that "first", "best" or a number means; arrays as in `best_frame`."""
    if start == "best":
        return best_frame(source, driving)
    number = 0 if start == "first" else start
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or not 0 <= number < len(driving):
        raise ValueError(f"start must be 'first', 'best' or a frame from 0 to {len(driving) - 1}. Received: {start!r}")
    return int(number)


def best_frame(source, driving) -> int:
    """The driving frame (of keypoints (T, K, 2)) whose pose is nearest to the source's, (K, 2).

    It has the least sum of squared differences of keypoints, each set moved to mean 0 and hull 1.
    """
    wanted = _normalised(source)
    return int(np.argmin([np.square(_normalised(values) - wanted).sum() for values in driving]))


def _normalised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / np.sqrt(max(hull_area(values), LEAST_AREA))


def hull_area(values) -> float:
    """Area of the convex hull of finite points (K, 2); 0 where they lie on a line."""
    values = np.asarray(values, np.float32)
    return float(cv2.contourArea(cv2.convexHull(values)))
