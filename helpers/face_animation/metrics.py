"""How near an animation comes to the truth: pictures (L1, PSNR, SSIM) and points (average keypoint distance).

Frames are (T, H, W, 3) uint8, or floats in [0, 1]; all results are per frame, so that clips can be weighed by their length.
Shapes that do not fit are a ValueError.
"""

from collections.abc import Callable

import cv2
import numpy as np
from sklearn.linear_model import Ridge

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian
K1, K2 = 0.01, 0.03


def _frames(frames, truth) -> tuple[np.ndarray, np.ndarray]:
    """Both as floats in [0, 1] (float32 for bytes)."""
    frames, truth = np.asarray(frames), np.asarray(truth)
    if frames.shape != truth.shape or frames.ndim != 4 or not frames.size:
        raise ValueError(
            "frames and truth must both be (T, H, W, C), at least one frame, of one size. "
            f"Received: shapes {frames.shape} and {truth.shape}; see data.resize"
        )
    return tuple(part / np.float32(255) if part.dtype == np.uint8 else part for part in (frames, truth))


def l1(frames, truth) -> np.ndarray:
    """Mean absolute difference of each frame, (T,) float64, 0 to 1; its mean is the paper's L1."""
    frames, truth = _frames(frames, truth)
    return np.abs(frames - truth).mean(axis=(1, 2, 3), dtype=np.float64)


def psnr(frames, truth) -> np.ndarray:
    """Peak signal-to-noise ratio of each frame in dB, (T,) float64; infinite for a frame without any difference."""
    frames, truth = _frames(frames, truth)
    error = np.square(frames - truth).mean(axis=(1, 2, 3), dtype=np.float64)
    with np.errstate(divide="ignore"):
        return -10 * np.log10(error)


def ssim(frames, truth) -> np.ndarray:
    """Structural similarity of each frame, (T,) float64, 1 for equal frames: mean over places and channels.

    Wang et al., "Image quality assessment: from error visibility to structural similarity", 2004: a Gaussian window of 11 x 11
    and sigma 1.5, places where it fits only, K1 = 0.01, K2 = 0.03.

    Raises:
        ValueError: other shapes, or frames smaller than the window."""
    frames, truth = _frames(frames, truth)
    if min(frames.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs frames of {WINDOW} x {WINDOW} pixels or more. Received: {frames.shape[1:3]}")
    return np.array([_ssim(*pair) for pair in zip(frames, truth, strict=True)])


def _ssim(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    mean_x, mean_y = _smooth(x), _smooth(y)
    products, squares = mean_x * mean_y, mean_x**2 + mean_y**2
    covariance, variances = _smooth(x * y) - products, _smooth(x * x + y * y) - squares
    similar = (2 * products + K1**2) * (2 * covariance + K2**2)
    return float((similar / ((squares + K1**2) * (variances + K2**2))).mean())


def sharpness(frames, truth) -> np.ndarray:
    """How much of the truth's detail each frame has, (T,) float64: its mean difference of neighbours over the truth's.

    1 is as sharp as the truth, less is blurred. It does not ask whether the detail is in the right place."""
    slopes = [
        sum(np.abs(np.diff(part, axis=a)).mean(axis=(1, 2, 3)) for a in (1, 2)) for part in _frames(frames, truth)
    ]
    return slopes[0].astype(np.float64) / np.maximum(slopes[1], 1e-12)


def _smooth(image: np.ndarray) -> np.ndarray:
    kernel, reach = cv2.getGaussianKernel(WINDOW, SIGMA, cv2.CV_64F), WINDOW // 2
    return cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel)[reach:-reach, reach:-reach]


def to_pixels(values, size: tuple[int, int]) -> np.ndarray:
    """Keypoints (..., 2) in [-1, 1] as x, y in pixels of a picture of (height, width); whole numbers are middles of pixels."""
    return (np.asarray(values, np.float64) + 1) / 2 * (np.array(size)[::-1] - 1)


def keypoint_error(points, truth) -> np.ndarray:
    """How far the points of each frame are off, in pixels if they are.

    The mean over points and both coordinates of the absolute difference: that is what the first-order motion model's authors
    compute as "average keypoint distance" (AKD, the mean over frames), and less than the distance on the plane.

    Args:
        points, truth: (T, N, 2).

    Returns:
        (T,) float64; NaN for a frame with a NaN among its points, such as one in which no face was found: use `np.nanmean`.

    Raises:
        ValueError: other shapes.
    """
    points, truth = np.asarray(points, np.float64), np.asarray(truth, np.float64)
    if points.shape != truth.shape or points.ndim != 3 or points.shape[2] != 2 or not points.size:
        raise ValueError(f"points and truth must both be (T, N, 2). Received: shapes {points.shape} and {truth.shape}")
    error = np.abs(points - truth)
    return error.mean(axis=(1, 2))


def regress_points(values, truth, *, alpha: float = 1e-4) -> Callable[[np.ndarray], np.ndarray]:
    """Learn which points a detector's keypoints stand for, as such detectors are scored (Jakab et al., NeurIPS 2018).

    Keypoints that were learnt without labels have no names: a ridge regression on training frames gives them some, and
    `keypoint_error(point_map(values), truth)` on people never seen says how well they follow the face.

    Args:
        values: (T, K, 2) keypoints of training frames.
        truth: (T, N, 2) known points of the same frames.
        alpha: of the ridge per frame, in the keypoints' squared unit.

    Returns:
        A linear map from (T, K, 2) keypoints in [-1, 1] to (T, N, 2) points; a ValueError where it gets other shapes.

    Raises:
        ValueError: other shapes, or numbers that are not finite.
    """
    values, truth = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    if values.ndim != 3 or truth.ndim != 3 or len(values) != len(truth) or not len(values):
        raise ValueError(f"values must be (T, K, 2) and truth (T, N, 2). Received: {values.shape} and {truth.shape}")
    count = len(values)
    found = Ridge(alpha=alpha * count).fit(values.reshape(count, -1), truth.reshape(count, -1))

    def point_map(values) -> np.ndarray:
        values = np.asarray(values, np.float64)
        if values.ndim != 3 or values.shape[1] * values.shape[2] != found.n_features_in_:
            raise ValueError(f"values must be (T, {found.n_features_in_ // 2}, 2). Received: shape {values.shape}")
        return found.predict(values.reshape(len(values), -1)).reshape(len(values), -1, 2)

    return point_map
