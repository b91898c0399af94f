"""Random bending of images whose effect on points and their Jacobians is known: an affine map plus a thin-plate spline.

With control points c_j on a regular grid, r_j = |x - c_jx| + |y - c_jy| and U(r) = r^2 ln(r + 1e-6):

    T(p) = A p + t + (1, 1) sum_j w_j U(r_j)

The distance is that of city blocks and both coordinates move by the same amount, as in the original: figures compare.
"""

import math

import keras
from keras import ops

from helpers.face_animation import layers

EPSILON = 1e-6


def draw(
    batch,
    generator: keras.random.SeedGenerator,
    *,
    sigma_affine: float = 0.05,
    sigma_tps: float = 0.005,
    points: int = 5,
) -> dict:
    """Parameters of one random transform per image; call it anew for every batch.

    Args:
        batch: how many, an int or a scalar tensor.
        generator: of the numbers; it moves on with every call.
        sigma_affine: standard deviation of the affine part, around the identity; 0 for none.
        sigma_tps: of the weights w of the spline; 0 for none.
        points: control points along each axis.

    Returns:
        dict with theta (batch, 2, 3) = [A | t] and w (batch, points^2).
    """
    theta = keras.random.normal((batch, 2, 3), stddev=sigma_affine, dtype="float32", seed=generator)
    w = keras.random.normal((batch, points**2), stddev=sigma_tps, dtype="float32", seed=generator)
    return {"theta": theta + ops.eye(2, 3), "w": w}


def warp_points(points, parameters: dict):
    """T(p): (B, N, 2) or (1, N, 2), x and y in [-1, 1] -> (B, N, 2)."""
    theta, w = parameters["theta"], parameters["w"]
    _, distance = _offsets(points, w)
    bend = ops.sum(ops.square(distance) * ops.log(distance + EPSILON) * w[:, None], axis=-1)
    affine = ops.sum(theta[:, None, :, :2] * points[:, :, None], axis=-1) + theta[:, None, :, 2]
    return affine + bend[..., None]


def jacobian(points, parameters: dict):
    """DT(p) in closed form: (B, N, 2) -> (B, N, 2, 2), row = coordinate of T, column = coordinate of p.

    dU/dp_j = (2 r ln(r + 1e-6) + r^2 / (r + 1e-6)) sign(p_j - c_j), the same for both rows.
    """
    theta, w = parameters["theta"], parameters["w"]
    offset, distance = _offsets(points, w)
    slope = 2 * distance * ops.log(distance + EPSILON) + ops.square(distance) / (distance + EPSILON)
    bend = ops.sum((w[:, None] * slope)[..., None] * ops.sign(offset), axis=2)
    return theta[:, None, :, :2] + bend[:, :, None]


def warp_images(images, parameters: dict, *, align_corners: bool = True):
    """The image whose pixel z is that of `images` at T(z), with mirrored borders: (B, H, W, C) -> (B, H, W, C).

    Args:
        align_corners: see `layers.grid_sample`.
    """
    _, height, width, _ = images.shape
    grid = ops.convert_to_tensor(layers.coordinate_grid(height, width).reshape(1, -1, 2))
    places = ops.reshape(warp_points(grid, parameters), (-1, height, width, 2))
    return layers.grid_sample(images, places, padding="reflection", align_corners=align_corners)


def _offsets(points, w):
    """p - c_j (B, N, J, 2) and its city-block length (B, N, J)."""
    side = math.isqrt(w.shape[-1])
    offset = points[:, :, None] - ops.convert_to_tensor(layers.coordinate_grid(side, side).reshape(-1, 2))
    return offset, ops.sum(ops.abs(offset), axis=-1)
