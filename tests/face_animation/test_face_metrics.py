"""Measures of pictures against TensorFlow's, of points against numbers worked out by hand."""

from helpers import runtime

runtime.quiet_start()

import cv2
import keras
import numpy as np
import pytest
from scipy.spatial import ConvexHull

from helpers.face_animation import metrics
from helpers.face_animation.animate import transfer


def clips(dtype="uint8", size=(24, 17)):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 256, (3, *size, 3))
    frames = np.clip(truth + rng.normal(0, [[[[3]]], [[[20]]], [[[80]]]], truth.shape), 0, 255)
    frames, truth = frames.astype("uint8"), truth.astype("uint8")
    return (frames, truth) if dtype == "uint8" else (frames / 255.0, truth / 255.0)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the oracle is TensorFlow")
@pytest.mark.parametrize("dtype", ["uint8", "float64"])
def test_pictures_score_as_with_tensorflow(dtype):
    import tensorflow as tf

    frames, truth = clips(dtype)
    floats = [tf.constant(part, tf.float32) for part in clips("float64")]
    np.testing.assert_allclose(metrics.ssim(frames, truth), tf.image.ssim(*floats, max_val=1.0), rtol=0, atol=1e-5)
    np.testing.assert_allclose(metrics.psnr(frames, truth), tf.image.psnr(*floats, max_val=1.0), rtol=1e-5)
    expected = tf.reduce_mean(tf.abs(floats[0] - floats[1]), (1, 2, 3))
    np.testing.assert_allclose(metrics.l1(frames, truth), expected, rtol=1e-5)


def test_equal_frames():
    frames, _ = clips()
    assert metrics.l1(frames, frames).tolist() == [0, 0, 0]
    assert metrics.psnr(frames, frames).tolist() == [np.inf] * 3
    np.testing.assert_allclose(metrics.ssim(frames, frames), 1, rtol=0, atol=1e-12)


def test_black_against_white():
    black, white = np.zeros((1, 16, 16, 3), "uint8"), np.full((1, 16, 16, 3), 255, "uint8")
    assert metrics.l1(black, white) == [1] and metrics.psnr(black, white) == [0]
    np.testing.assert_allclose(
        metrics.ssim(black, white), 1e-4 / (1 + 1e-4)
    )  # (2 0 1 + c1) / (0 + 1 + c1), c1 = 0.01^2


def test_keypoint_errors_by_hand():
    truth = np.zeros((3, 2, 2))
    points = np.array([[[3, 4], [0, 0]], [[1, -1], [1, -1]], [[np.nan, 0], [0, 0]]])
    np.testing.assert_allclose(metrics.keypoint_error(points, truth), [7 / 4, 1, np.nan])


def test_pixels_are_those_of_the_grid():
    values = [[-1, -1], [1, 1], [0, 0.5]]
    np.testing.assert_allclose(metrics.to_pixels(values, (5, 9)), [[0, 0], [8, 4], [4, 3]])


def test_regression_names_the_points():
    rng = np.random.default_rng(1)
    values = rng.uniform(-0.5, 0.5, (200, 4, 2))
    weights, bias = rng.normal(0, 10, (8, 6)), rng.normal(30, 5, 6)
    truth = (values.reshape(200, 8) @ weights + bias).reshape(200, 3, 2)
    found = metrics.regress_points(values[:150], truth[:150], alpha=1e-9)
    np.testing.assert_allclose(found(values[150:]), truth[150:], rtol=0, atol=1e-4)
    slopes = [(found(0.5 * one) - found(-0.5 * one)).reshape(6) for one in np.eye(8).reshape(8, 1, 4, 2)]
    np.testing.assert_allclose(slopes, weights, rtol=0, atol=1e-3)
    constant = metrics.regress_points(values[:150], truth[:150], alpha=1e9)  # nothing but the mean is left
    np.testing.assert_allclose(constant(values[150:]), np.broadcast_to(truth[:150].mean(0), (50, 3, 2)), atol=1e-3)


def test_the_ridge_is_per_frame():
    rng = np.random.default_rng(2)
    values, truth = rng.normal(size=(20, 3, 2)), rng.normal(size=(20, 4, 2))
    once = metrics.regress_points(values, truth, alpha=0.1)
    twice = metrics.regress_points(np.concatenate([values] * 2), np.concatenate([truth] * 2), alpha=0.1)
    np.testing.assert_allclose(once(values), twice(values), atol=1e-10)


@pytest.mark.parametrize("seed", range(3))
def test_hulls_are_scipy_s(seed):
    values = np.random.default_rng(seed).uniform(-1, 1, (10, 2))
    assert transfer.hull_area(values) == pytest.approx(ConvexHull(values).volume, rel=1e-5)


def test_hulls_without_area():
    line = np.stack([np.linspace(-1, 1, 10), np.linspace(0.5, -0.2, 10)], axis=1)
    assert transfer.hull_area(line) == pytest.approx(0, abs=1e-6)
    assert transfer.hull_area(np.zeros((10, 2))) == 0


FRAMES = np.zeros((2, 16, 16, 3), "uint8")


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: metrics.l1(FRAMES, FRAMES[:1]), r"shapes \(2, 16, 16, 3\) and \(1, 16, 16, 3\)"),
        (lambda: metrics.psnr(FRAMES[0], FRAMES[0]), "must both be"),
        (lambda: metrics.l1(FRAMES[:0], FRAMES[:0]), "at least one frame"),
        (lambda: metrics.ssim(FRAMES[:, :10], FRAMES[:, :10]), r"11 x 11 .* Received: \(10, 16\)"),
        (lambda: metrics.keypoint_error(np.zeros((3, 2)), np.zeros((3, 2))), r"\(T, N, 2\)"),
        (lambda: metrics.regress_points(np.zeros((3, 2, 2)), np.zeros((4, 2, 2))), r"\(3, 2, 2\) and \(4, 2, 2\)"),
        (
            lambda: metrics.regress_points(np.zeros((3, 2, 2)), np.zeros((3, 2, 2)))(np.zeros((1, 3, 2))),
            r"\(T, 2, 2\). Received: shape \(1, 3, 2\)",
        ),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_sharpness_is_the_share_of_the_truths_differences():
    """Half the contrast is half as sharp; a mean of three across stripes of one pixel leaves a third of it."""
    truth = np.zeros((2, 16, 24, 3))
    truth[:, :, ::2] = 0.9
    np.testing.assert_allclose(metrics.sharpness(0.3 + truth / 2, truth), 0.5)
    np.testing.assert_allclose(metrics.sharpness(truth[:, :, ::-1], truth), 1)  # right or wrong: it does not ask
    blurred = np.stack([cv2.blur(frame, (3, 1), borderType=cv2.BORDER_REFLECT_101) for frame in truth])
    np.testing.assert_allclose(metrics.sharpness(blurred, truth), 1 / 3)
    assert metrics.sharpness(np.full_like(truth, 0.5), truth).tolist() == [0, 0]
