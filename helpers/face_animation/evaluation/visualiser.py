"""What the networks see and do, as pictures: keypoints, deformation, occlusion, and each keypoint's motion and mask."""

from collections.abc import Iterable, Iterator, Mapping

import cv2
import matplotlib
import numpy as np
from keras import ops

from helpers.face_animation import data, layers
from helpers.face_animation.metrics import to_pixels

COLOURS = "gist_rainbow"  # a colour map of Matplotlib, as the original uses
_BITS = 4  # OpenCV's fractions of pixels


def palette(count: int, colours: str = COLOURS) -> np.ndarray:
    """One colour per keypoint, (count, 3) uint8 RGB."""
    return (matplotlib.colormaps[colours](np.linspace(0, 1, count))[:, :3] * 255).round().astype(np.uint8)


def draw_keypoints(image, values, *, size: float | None = None, colours: str = COLOURS) -> np.ndarray:
    """Draw keypoints as filled circles on a copy of a picture.

    Args:
        image: (H, W, 3), uint8 or float in [0, 1].
        values: (K, 2) x, y in [-1, 1], the middles of the outermost pixels; NaN is left out.
        size: radius in pixels; None is the original's 5 at a height of 256.
        colours: a colour map of Matplotlib.

    Returns:
        (H, W, 3) uint8.
    """
    canvas, values = _bytes(image).copy(), _numbers(values)
    radius = max(1.0, 5 * len(canvas) / 256) if size is None else size
    scale = 2**_BITS
    for place, colour in zip(to_pixels(values, canvas.shape[:2]), palette(len(values), colours), strict=True):
        if np.isfinite(place).all() and np.abs(place).max() < 9999:
            centre = tuple(int(part) for part in np.round(place * scale))
            cv2.circle(canvas, centre, round(radius * scale), colour.tolist(), -1, cv2.LINE_AA, _BITS)
    return canvas


def columns(
    source, driving, outputs: Mapping, *, transformed=None, transformed_value=None, align_corners: bool = True,
    size: float | None = None, colours: str = COLOURS,
) -> dict[str, np.ndarray]:  # fmt: skip
    """The original's overview of a batch, by name: each (B, H, W, 3) uint8.

    Args:
        source, driving: (B, H, W, 3), uint8 or float in [0, 1].
        outputs: of a generator, with the kp_source_value and kp_driving_value (B, K, 2) that went in.
        transformed, transformed_value: randomly transformed driving frames and their keypoints, where there are.
        align_corners: of the generator.
        size, colours: see `draw_keypoints`.

    Returns:
        dict with source, transformed (if given) and driving, all with their keypoints; deformed, the source fetched from where
        the deformation says; prediction; occlusion, white where the source shows what is needed; then for k = 0 ... K motion k,
        the source moved by keypoint k alone (k = 0: not moved), and mask k, where that counts, in the keypoint's colour (grey
        for k = 0); masks, all of them together.
    """
    parts = {name: _numbers(part) for name, part in outputs.items()}
    source, driving = _bytes(source), _bytes(driving)
    marks = {"size": size, "colours": colours}
    found = {"source": _marked(source, parts["kp_source_value"], **marks)}
    if transformed is not None:
        found["transformed"] = _marked(_bytes(transformed), _numbers(transformed_value), **marks)
    found["driving"] = _marked(driving, parts["kp_driving_value"], **marks)
    found["deformed"] = _deformed(source, parts["deformation"], align_corners)
    found |= {name: _enlarged(parts[name], source.shape) for name in ("prediction", "occlusion")}
    tints = [np.full(3, 128), *palette(parts["kp_driving_value"].shape[1], colours)]
    for k, tint in enumerate(tints):
        found[f"motion {k}"] = _enlarged(parts["sparse_deformed"][:, k], source.shape)
        found[f"mask {k}"] = _enlarged(parts["mask"][..., k : k + 1] * (tint / 255), source.shape)
    found["masks"] = _enlarged(parts["mask"] @ (np.stack(tints) / 255), source.shape)
    return found


def draw_columns(columns: Mapping[str, np.ndarray], *, border: int = 2) -> np.ndarray:
    """`columns` as one picture, a row per item, white lines between: (rows, columns, 3) uint8."""
    frames = [[_framed(image, border) for image in images] for images in columns.values()]
    return np.concatenate([np.concatenate(column, axis=0) for column in frames], axis=1)


def side_by_side(
    source: np.ndarray, driving: Iterable[np.ndarray], prediction: Iterable[np.ndarray]
) -> Iterator[np.ndarray]:
    """Source, driving clip and animation beside each other, for `video.show_clip` or `video.write_video`.

    Args:
        source: (H, W, 3) uint8 of any size.
        driving: (T, H, W, 3) uint8 or frames, of any size.
        prediction: (T, h, w, 3) uint8 or frames.

    Returns:
        Iterator of T frames (h, 3 w, 3) uint8.

    Raises:
        ValueError: clips of different lengths.
    """
    still = None
    for moving, drawn in zip(driving, prediction, strict=True):
        still = data.resize(source, drawn.shape[:2]) if still is None else still
        yield np.concatenate([still, data.resize(moving, drawn.shape[:2]), drawn], axis=1)


def _numbers(part) -> np.ndarray:
    return part if isinstance(part, np.ndarray) else ops.convert_to_numpy(part)


def _bytes(images) -> np.ndarray:
    """Pictures (..., H, W, 3) as uint8, NaN as black."""
    images = _numbers(images)
    if images.ndim < 3 or images.shape[-1] != 3:
        raise ValueError(f"pictures must be (..., H, W, 3), uint8 or float in [0, 1]. Received: shape {images.shape}")
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    return np.round(np.clip(np.nan_to_num(images), 0, 1) * 255).astype(np.uint8)


def _marked(images: np.ndarray, values: np.ndarray, **marks) -> np.ndarray:
    return np.stack([draw_keypoints(*pair, **marks) for pair in zip(images, values, strict=True)])


def _deformed(source: np.ndarray, deformation: np.ndarray, align_corners: bool) -> np.ndarray:
    images = ops.convert_to_tensor(source / np.float32(255))
    grid = layers.resize(ops.convert_to_tensor(deformation), *source.shape[1:3])
    return _bytes(layers.grid_sample(images, grid, align_corners=align_corners))


def _enlarged(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(B, h, w, 1 or 3) in [0, 1] -> (B, H, W, 3) uint8, pixels as squares."""
    images = _bytes(np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images)
    return np.stack([cv2.resize(image, shape[2:0:-1], interpolation=cv2.INTER_NEAREST) for image in images])


def _framed(image: np.ndarray, border: int) -> np.ndarray:
    return np.pad(image, [(border, border), (border, border), (0, 0)], constant_values=255)
