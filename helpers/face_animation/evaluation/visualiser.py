"""What the networks see and do, as pictures: keypoints, deformation, occlusion, and each keypoint's motion and mask.

Which of these columns, and how many pairs, a training draws after each epoch is `runs.SEEN_COLUMNS` and `runs.SEEN_PAIRS`.
"""

from collections.abc import Iterable, Iterator, Mapping

import cv2
import matplotlib
import numpy as np
from keras import ops

from helpers.drawing.pen import PlanePen
from helpers.face_animation import data, layers
from helpers.face_animation.metrics import to_pixels

COLOURS = "gist_rainbow"  # a colour map of Matplotlib, as the original uses
DRAWN = ("prediction", "occlusion", "warped", "drawn", "keep")  # shown as they are


def palette(count: int) -> np.ndarray:
    """One colour per keypoint, (count, 3) uint8 RGB."""
    return (matplotlib.colormaps[COLOURS](np.linspace(0, 1, count))[:, :3] * 255).round().astype(np.uint8)


def draw_keypoints(image, values, *, size: float | None = None) -> np.ndarray:
    """Draw keypoints as filled circles on a copy of a picture.

    Args:
        image: (H, W, 3), uint8 or float in [0, 1].
        values: (K, 2) x, y in [-1, 1], the middles of the outermost pixels; NaN is left out.
        size: radius in pixels; None is the original's 5 at a height of 256.

    Returns:
        (H, W, 3) uint8.
    """
    canvas, values = _bytes(image).copy(), np.asarray(values)
    radius = max(1.0, 5 * len(canvas) / 256) if size is None else size
    pen = PlanePen(canvas)
    for place, colour in zip(to_pixels(values, canvas.shape[:2]), palette(len(values)), strict=True):
        if np.isfinite(place).all() and np.abs(place).max() < 9999:
            pen.disk(complex(*place), radius, colour.tolist())
    return canvas


def columns(source, driving, outputs: Mapping, *, align_corners: bool = True) -> dict[str, np.ndarray]:
    """The original's overview of a batch, by name: each (B, H, W, 3) uint8.

    Args:
        source, driving: (B, H, W, 3), uint8 or float in [0, 1].
        outputs: of a generator, with the kp_source_value and kp_driving_value (B, K, 2) that went in.
        align_corners: of the generator.

    Returns:
        dict with source and driving, both with their keypoints; deformed, the source fetched from where
        the deformation says; prediction; occlusion, white where the source shows what is needed; with a skip also warped, drawn
        and keep; then for k = 0 ... K motion k, the source moved by keypoint k alone (k = 0: not moved), and mask k, where that
        counts, in the keypoint's colour (grey for k = 0); masks, all of them together.
    """
    parts = {name: np.asarray(part) for name, part in outputs.items()}
    source, driving = _bytes(source), _bytes(driving)
    marked = {"source": source, "driving": driving}
    found = {
        who: np.stack(list(map(draw_keypoints, images, parts[f"kp_{who}_value"]))) for who, images in marked.items()
    }
    grid = layers.resize(ops.convert_to_tensor(parts["deformation"]), *source.shape[1:3])
    images = ops.convert_to_tensor(source / np.float32(255))
    found["deformed"] = _bytes(layers.grid_sample(images, grid, align_corners=align_corners))
    found |= {name: _enlarged(parts[name], source.shape) for name in DRAWN if name in parts}
    tints = [np.full(3, 128), *palette(parts["kp_driving_value"].shape[1])]
    for k, tint in enumerate(tints):
        found[f"motion {k}"] = _enlarged(parts["sparse_deformed"][:, k], source.shape)
        found[f"mask {k}"] = _enlarged(parts["mask"][..., k : k + 1] * (tint / 255), source.shape)
    found["masks"] = _enlarged(parts["mask"] @ (np.stack(tints) / 255), source.shape)
    return found


def draw_columns(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """`columns` as one picture, a row per item, white lines between: (rows, columns, 3) uint8."""
    edges = [(0, 0), (2, 2), (2, 2), (0, 0)]
    framed = [np.concatenate(np.pad(images, edges, constant_values=255)) for images in columns.values()]
    return np.concatenate(framed, axis=1)


def side_by_side(
    source: np.ndarray, driving: Iterable[np.ndarray], prediction: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Source and driving clip of any size beside the T frames (h, w, 3) of an animation: T frames (h, 3 w, 3) uint8.

    ValueError: clips of different lengths.
    """
    still = None
    for moving, drawn in zip(driving, prediction, strict=True):
        still = data.resize(source, drawn.shape[:2]) if still is None else still
        yield np.concatenate([still, data.resize(moving, drawn.shape[:2]), drawn], axis=1)


def _bytes(images) -> np.ndarray:
    """Pictures (..., H, W, 3) as uint8, NaN as black."""
    images = np.asarray(images)
    if images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"pictures must be (..., H, W, 3), uint8 or float in [0, 1]. Received: shape {images.shape}")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    return np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def _enlarged(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(B, h, w, 1 or 3) in [0, 1] -> (B, H, W, 3) uint8, pixels as squares."""
    images = _bytes(np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images)
    return np.stack([cv2.resize(image, shape[2:0:-1], interpolation=cv2.INTER_NEAREST) for image in images])
