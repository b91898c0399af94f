"""Geometry of the first-order motion model and its layers: grids, bilinear sampling, 2x2 matrices, anti-aliased scaling.

Coordinates are (x, y) with -1 and 1 at the centres of the outermost pixels. They are float32 under every dtype policy and are
combined by products and sums, never by `matmul`: on a GPU that would round them to the 10 bits of TF32, half a pixel of 1024.
"""

import math

import keras
import numpy as np
from keras import ops

VARIANCE = 0.01  # of a keypoint's blob, in coordinates from -1 to 1: a standard deviation of a twentieth of the side


def coordinate_grid(height: int, width: int) -> np.ndarray:
    """The position of every pixel, (height, width, 2) float32, (x, y); both axes go from -1 to 1."""
    x, y = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
    return np.stack([x, y], axis=-1).astype("float32")


def inverse_2x2(matrices, epsilon: float = 1e-6):
    """Inverses (..., 2, 2) in closed form, exact wherever |determinant| >= epsilon.

    A determinant nearer to 0 counts as `epsilon` with its sign, so all is finite.
    """
    a, b, c, d = (matrices[..., i, j] for i in (0, 1) for j in (0, 1))
    determinant = a * d - b * c
    nearest = ops.where(determinant < 0, -epsilon, epsilon)
    determinant = ops.where(ops.abs(determinant) < epsilon, nearest, determinant)
    adjugate = ops.stack([ops.stack([d, -b], axis=-1), ops.stack([-c, a], axis=-1)], axis=-2)
    return adjugate / determinant[..., None, None]


def matmul_2x2(left, right):
    """Products of 2x2 matrices in full float32, (..., 2, 2)."""
    return ops.sum(left[..., :, :, None] * right[..., None, :, :], axis=-2)


def gaussian_maps(points, height: int, width: int, variance: float = VARIANCE):
    """exp(-|z - point|^2 / (2 variance)) at every pixel z: points (B, K, 2) -> (B, height, width, K)."""
    offset = ops.convert_to_tensor(coordinate_grid(height, width)[:, :, None]) - points[:, None, None]
    return ops.exp(ops.sum(ops.square(offset), axis=-1) * (-0.5 / variance))


def resize(fields, height: int, width: int):
    """Bilinear, half-pixel centres, no smoothing: (B, H, W, C) -> (B, height, width, C); the same tensor if nothing changes."""
    if tuple(fields.shape[1:3]) == (height, width):
        return fields
    return ops.image.resize(fields, (height, width), "bilinear", antialias=False, data_format="channels_last")


def grid_sample(images, grid, *, padding: str = "zeros", align_corners: bool = True):
    """Read images at given places, bilinearly, as `torch.nn.functional.grid_sample` does.

    Args:
        images: (B, H, W, C), or (1, H, W, C) to read all B grids from one image.
        grid: (B, h, w, 2) float32, (x, y). A NaN gives NaN; an infinite place is outside.
        padding: "zeros": a neighbour outside of the image counts as 0; "reflection": places are mirrored into the image.
        align_corners: True: -1 and 1 are the centres of the outermost pixels, so that `coordinate_grid` is the identity, as in
            the PyTorch of the published checkpoints. False: they are the outer edges, the default of PyTorch since 1.3.

    Returns:
        (B, h, w, C) of the images' dtype.
    """
    count, height, width, channels = ops.shape(images)
    columns = _neighbours(grid[..., 0], width, padding, align_corners)
    rows = _neighbours(grid[..., 1], height, padding, align_corners)
    flat = ops.reshape(images, (-1, channels))
    first = ops.arange(ops.shape(grid)[0], dtype="int32") % count * (height * width)
    total = 0.0
    for row, row_weight in rows:
        for column, column_weight in columns:
            place = first[:, None, None] + row * width + column
            weight = ops.cast(row_weight * column_weight, images.dtype)
            total = total + ops.take(flat, place, axis=0) * weight[..., None]
    return total


def _neighbours(coordinate, size, padding, align_corners):
    """The two pixels around a coordinate along one axis: [(index inside, weight), (index inside, weight)]."""
    x = (coordinate + 1.0) * ((size - 1) / 2) if align_corners else ((coordinate + 1.0) * size - 1.0) / 2.0
    if padding == "reflection":
        low, span = (0.0, max(size - 1, 1)) if align_corners else (-0.5, size)
        x = low + span - ops.abs(ops.abs(x - low) % (2 * span) - span)
        x = ops.clip(x, 0.0, size - 1)
    x = ops.clip(x, -1.0, size)  # farther out the weights are 0 anyway, and huge floats have no int32
    left = ops.floor(x)
    share = x - left  # not |x - pixel|: that has slope 0 at whole pixels, where an identity warp stands
    pairs = []
    for pixel, weight in ((left, 1.0 - share), (left + 1.0, share)):
        inside = ops.logical_and(pixel >= 0, pixel <= size - 1)
        index = ops.clip(ops.cast(pixel, "int32"), 0, size - 1)  # clipped as int32: NaN has become some number
        pairs.append((index, weight * ops.cast(inside, weight.dtype)))
    return pairs


def shrinking_matrix(side: int, stride: int) -> np.ndarray:
    """What `AntiAlias` does along an axis: (ceil(side / stride), side) float32, rows are Gaussians cut at 4 sigma and the rim."""
    sigma = (stride - 1) / 2
    reach = round(4 * sigma)
    row = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma, 1e-12)) ** 2)
    padded = np.zeros((-(-side // stride), side + 2 * reach))
    for i in range(len(padded)):
        padded[i, i * stride :][: len(row)] = row / row.sum()
    return padded[:, reach : reach + side].astype("float32")


@keras.saving.register_keras_serializable("helpers")
class AntiAlias(keras.layers.Layer):
    """Shrink images by a whole factor: Gaussian smoothing with zeros around, then every (1/scale)-th pixel from the first.

    Args:
        scale: 1 / s for a whole number s; 1 changes nothing.

    Call arguments:
        inputs: (B, H, W, C), H and W known.

    Returns:
        (B, ceil(H scale), ceil(W scale), C).
    """

    def __init__(self, scale, **options):
        super().__init__(**options)
        if not 0 < scale <= 1 or abs(1 / scale - round(1 / scale)) > 1e-6:
            raise ValueError(f"scale must be 1 / s for a whole number s, such as 0.25. Received: scale={scale}")
        self.scale = scale
        self.stride = round(1 / scale)

    def call(self, inputs):
        if self.stride == 1:
            return inputs
        # Two small products of matrices: a depthwise convolution of 29 x 29 pixels, and above all its gradient, takes longer.
        _, height, width, channels = inputs.shape
        down, right = (ops.cast(shrinking_matrix(side, self.stride), inputs.dtype) for side in (height, width))
        rows = ops.matmul(down, ops.reshape(inputs, (-1, height, width * channels)))
        return ops.matmul(right, ops.reshape(rows, (-1, down.shape[0], width, channels)))

    def compute_output_shape(self, input_shape):
        batch, *sides, channels = input_shape
        return (batch, *(side if side is None else math.ceil(side / self.stride) for side in sides), channels)

    def get_config(self):
        return {**super().get_config(), "scale": self.scale}


class Geometry(keras.layers.Layer):
    """A layer that computes in float32 and takes its inputs as they are, under every dtype policy."""

    def __init__(self, **options):
        super().__init__(**{"dtype": "float32", **options, "autocast": False})


@keras.saving.register_keras_serializable("helpers")
class WarpFeatures(Geometry):
    """Features of the source, fetched by a deformation (see `grid_sample`), dimmed where the source does not show what is needed.

    Call arguments:
        features: (B, H, W, C), or (1, H, W, C) for all; of any float dtype, which is that of the result.
        deformation: (B, h, w, 2), resized to H x W where it differs.
        occlusion: (B, h, w, 1), the same; or None.
    """

    def __init__(self, align_corners=True, padding="zeros", **options):
        super().__init__(**options)
        self.align_corners, self.padding = align_corners, padding

    def call(self, features, deformation, occlusion=None):
        size = features.shape[1:3]
        grid = resize(ops.cast(deformation, "float32"), *size)
        warped = grid_sample(features, grid, padding=self.padding, align_corners=self.align_corners)
        return warped if occlusion is None else warped * ops.cast(resize(occlusion, *size), warped.dtype)

    def get_config(self):
        return {**super().get_config(), "align_corners": self.align_corners, "padding": self.padding}


@keras.saving.register_keras_serializable("helpers")
class Blend(Geometry):
    """mask a + (1 - mask) b: two pictures (B, H, W, C) mixed by a mask (B, H, W, 1) in [0, 1]."""

    def call(self, mask, a, b):
        mask, a, b = (ops.cast(part, "float32") for part in (mask, a, b))
        return mask * a + (1.0 - mask) * b


@keras.saving.register_keras_serializable("helpers")
class GaussianMaps(Geometry):
    """`gaussian_maps` at the size of some images: images (B, H, W, C), points (B, K, 2) -> (B, H, W, K)."""

    def __init__(self, variance=VARIANCE, **options):
        super().__init__(**options)
        self.variance = variance

    def call(self, images, points):
        return gaussian_maps(ops.cast(points, "float32"), *images.shape[1:3], self.variance)

    def get_config(self):
        return {**super().get_config(), "variance": self.variance}
