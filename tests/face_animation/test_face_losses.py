"""Losses and random transforms of face_animation against numbers of the original, loops written out, and differences.

The golden numbers: the original PyTorch functions, torch 2.13 on a CPU in float32; images and keypoints by the recipes below.
"""

from helpers import runtime

runtime.quiet_start()

import json
import zlib

import keras
import numpy as np
import pytest
from keras import ops

from helpers.face_animation import losses
from helpers.face_animation.model import transform

GOLDEN = runtime.repo_root().parent / "shared" / "data" / "faces" / "first_order_motion_golden.json"


def numpy(x):
    return ops.convert_to_numpy(x)


def tensor(x):
    return ops.convert_to_tensor(np.asarray(x, "float32"))


def draw(count=2, seed=3, **options):
    return transform.draw(count, keras.random.SeedGenerator(seed), **options)


def picture(seed, size=256):
    """The golden numbers' image, (1, size, size, 3)."""
    y, x, c = np.meshgrid(np.arange(size), np.arange(size), np.arange(3), indexing="ij")
    wave = np.sin(2 * np.pi * ((c + 1) * x / size + seed * y / size) + seed)
    return (0.5 + 0.25 * wave + 0.25 * np.cos(2 * np.pi * (seed + 1) * x * y / size**2 + c))[None].astype("float32")


def gradient(function, x):
    """d function(x) / dx on either backend."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        value = function(x)
    found = tape.gradient(value, x)
    return np.zeros(x.shape) if found is None else found.numpy()


@pytest.fixture(scope="module")
def golden():
    if not GOLDEN.exists():
        pytest.skip("the golden numbers are not here")
    return json.loads(GOLDEN.read_text())["ops"]


@pytest.fixture(scope="module")
def bent(golden):
    return {"theta": tensor([golden["tps_theta"]]), "w": tensor([golden["tps_w"]])}


# --- the transform ---


def test_transform_of_the_original(golden, bent):
    points = tensor([[(0.13, -0.41), (-0.7, 0.25), (0.9, 0.95)]])
    np.testing.assert_allclose(
        numpy(transform.warp_points(points, bent))[0], golden["tps_warp"], atol=2e-5
    )  # w is rounded
    np.testing.assert_allclose(numpy(transform.jacobian(points, bent))[0], golden["tps_jac"], atol=5e-5)


@pytest.mark.parametrize("align_corners", [False, True])
def test_bent_image_of_the_original(golden, bent, align_corners):
    bent_image = numpy(transform.warp_images(tensor(picture(1)), bent, align_corners=align_corners))[0]
    expected = golden[f"tps_frame_{align_corners}"]
    assert bent_image.mean() == pytest.approx(expected["mean"], abs=1e-5)
    np.testing.assert_allclose(bent_image[::85, ::85].transpose(2, 0, 1), expected["px"], atol=1e-4)


def by_loops(point, theta, w):
    """T(p) as its formula is written."""
    side = round(len(w) ** 0.5)
    bend = 0.0
    for j, weight in enumerate(w):
        center = (-1 + 2 * (j % side) / (side - 1), -1 + 2 * (j // side) / (side - 1))
        r = abs(point[0] - center[0]) + abs(point[1] - center[1])
        bend += weight * r**2 * np.log(r + 1e-6)
    return np.array([row[0] * point[0] + row[1] * point[1] + row[2] + bend for row in theta])


@pytest.mark.parametrize("points", [5, 3])
def test_transform_by_loops_and_differences(points):
    drawn = draw(2, sigma_tps=0.05, points=points)
    places = np.random.default_rng(0).uniform(-1.3, 1.3, (2, 7, 2))
    found, slopes = (numpy(function(tensor(places), drawn)) for function in (transform.warp_points, transform.jacobian))
    theta, w = (numpy(drawn[name]).astype("float64") for name in ("theta", "w"))
    for b, n in np.ndindex(2, 7):
        arguments = theta[b], w[b]
        np.testing.assert_allclose(found[b, n], by_loops(places[b, n], *arguments), atol=2e-6)
        for j, step in enumerate(1e-6 * np.eye(2)):
            ends = [by_loops(places[b, n] + sign * step, *arguments) for sign in (1, -1)]
            np.testing.assert_allclose(slopes[b, n, :, j], (ends[0] - ends[1]) / 2e-6, atol=2e-5)


def test_image_shows_what_lies_at_the_moved_place():
    drawn = draw(2, sigma_affine=0.03)
    y, x = np.meshgrid(np.linspace(-1, 1, 33), np.linspace(-1, 1, 33), indexing="ij")
    coordinates = np.stack([x, y], -1)[None].repeat(2, 0)
    moved = numpy(transform.warp_images(tensor(coordinates), drawn))[:, 16, 16]  # an image of its own coordinates
    np.testing.assert_allclose(moved, numpy(transform.warp_points(tensor(np.zeros((2, 1, 2))), drawn))[:, 0], atol=1e-6)


def test_nothing_drawn_changes_nothing():
    images, drawn = tensor(picture(2, 16)), draw(1, sigma_affine=0.0, sigma_tps=0.0)
    np.testing.assert_allclose(numpy(transform.warp_images(images, drawn)), numpy(images), atol=1e-5)
    assert numpy(transform.jacobian(tensor([[(0.3, 0.1)]]), drawn)).tolist() == [[[[1, 0], [0, 1]]]]


def test_draws_are_seeded_new_each_time_and_as_wide_as_said():
    generator = keras.random.SeedGenerator(1)
    first, second = (transform.draw(2000, generator, sigma_affine=0.05, sigma_tps=0.005) for _ in range(2))
    again = transform.draw(2000, keras.random.SeedGenerator(1))
    theta, w = numpy(first["theta"]), numpy(first["w"])
    assert (theta == numpy(again["theta"])).all() and (w == numpy(again["w"])).all()
    assert (theta != numpy(second["theta"])).any() and (w[0] != w[1]).any()
    np.testing.assert_allclose(theta.mean(0), [[1, 0, 0], [0, 1, 0]], atol=0.006)
    assert theta.std(0).ravel() == pytest.approx(0.05, rel=0.08) and w.std() == pytest.approx(0.005, rel=0.02)
    assert w.shape == (2000, 25)


# --- losses ---


def test_equivariance_of_the_original(bent):
    def random(key):
        return np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)

    driving, moved = (random(key).uniform(-0.8, 0.8, (1, 10, 2)) for key in ("kdv", "tkv"))
    matrices = [tensor(np.eye(2) + 0.2 * random(key).normal(size=(1, 10, 2, 2))) for key in ("kdj", "tkj")]
    value = losses.equivariance_value(tensor(driving), transform.warp_points(tensor(moved), bent))
    slopes = transform.jacobian(tensor(moved), bent)
    assert 10 * float(value) == pytest.approx(6.968205, abs=2e-5)
    assert 10 * float(losses.equivariance_jacobian(matrices[0], slopes, matrices[1])) == pytest.approx(
        2.428460, abs=2e-5
    )


def test_a_perfect_detector_has_no_equivariance_loss():
    """Points fixed to the face: those of the transformed frame are where T^-1 takes them, and bend by its Jacobian."""
    drawn = draw(1)
    found = tensor(np.random.default_rng(0).uniform(-0.8, 0.8, (1, 6, 2)))  # t; then d = T(t), J^d = DT J^t
    frames = tensor(np.eye(2) + 0.1 * np.random.default_rng(1).normal(size=(1, 6, 2, 2)))
    slopes = transform.jacobian(found, drawn)
    driving = tensor(numpy(slopes) @ numpy(frames))
    assert float(losses.equivariance_jacobian(driving, slopes, frames)) < 1e-6
    assert float(losses.equivariance_jacobian(frames, slopes, driving)) > 0.01


def test_pyramid_of_the_original():
    pyramid = losses.image_pyramid(tensor(picture(1)))
    assert [tuple(level.shape) for level in pyramid] == [(1, side, side, 3) for side in (256, 128, 64, 32)]
    assert [numpy(level).mean() for level in pyramid] == pytest.approx(
        [0.475334, 0.474714, 0.469503, 0.460906], abs=2e-6
    )


def test_adversarial_terms_by_hand():
    real, fake = [tensor([[0.5], [2.0]]), tensor([[1.0]])], [tensor([[0.5], [-1.0]]), tensor([[3.0]])]
    assert float(losses.generator_gan(fake)) == pytest.approx((0.25 + 4) / 2 + 4)
    assert float(losses.discriminator_gan(real, fake)) == pytest.approx((0.25 + 1) / 2 + (0.25 + 1) / 2 + 0 + 9)
    features = (
        [[tensor([1.0, 2.0]), tensor([4.0])], [tensor([0.0])]],
        [[tensor([3.0, 1.0]), tensor([4.5])], [tensor([1.0])]],
    )
    assert float(losses.feature_matching(*features)) == pytest.approx(1.5 + 0.5 + 1)
    assert not gradient(
        lambda real: losses.feature_matching([[real]], [[tensor([3.0, 1.0])]]), tensor([1.0, 2.0])
    ).any()


def test_perceptual_by_hand():
    rng = np.random.default_rng(0)
    drawn, true = tensor(rng.random((2, 8, 8, 3))), tensor(rng.random((2, 8, 8, 3)))

    def features(images):
        return [images, 2 * images[..., :1]]

    expected = [
        abs(one - two).mean()
        for scale in (1.0, 0.5)
        for pair in [[numpy(losses.image_pyramid(images, [scale])[0]) for images in (drawn, true)]]
        for one, two in [pair, (2 * pair[0][..., :1], 2 * pair[1][..., :1])]
    ]
    assert float(losses.perceptual(features, drawn, true, (1.0, 0.5))) == pytest.approx(sum(expected), rel=1e-5)
    assert not gradient(lambda images: losses.perceptual(features, drawn, images, (1.0,)), true).any()
    assert gradient(lambda images: losses.perceptual(features, images, true, (1.0,)), drawn).all()


# --- frozen networks ---


def test_vgg19_is_kerass_own_with_scaled_features(tmp_path):
    whole = keras.applications.VGG19(include_top=False, weights=None)
    path = tmp_path / "vgg19.weights.h5"
    whole.save_weights(path)
    built = losses.build_vgg19(str(path))
    images = np.random.default_rng(0).random((1, 32, 32, 3)).astype("float32")
    x, expected = tensor(keras.applications.vgg19.preprocess_input(images * 255)), []
    for layer in whole.layers[1:]:
        x = layer(x)
        expected += [numpy(x) / 57.4] if layer.name.endswith("_conv1") else []
    found = built(images)
    assert [feature.shape[-1] for feature in found] == [64, 128, 256, 512, 512]
    for one, two in zip(found, expected, strict=True):
        np.testing.assert_allclose(numpy(one), two, rtol=1e-3, atol=1e-5 * abs(two).max())
    assert built.count_params() == 12_944_960
    assert not built.trainable_variables


def test_stand_in_is_small_frozen_and_seeded():
    images = tensor(picture(1, 64))
    first, again, other = (losses.build_stand_in(seed) for seed in (0, 0, 1))
    found = [[numpy(level) for level in network(images)] for network in (first, again, other)]
    assert len(found[0]) > 1 and not first.trainable_variables and first.count_params() < 100_000
    assert all((one == two).all() for one, two in zip(found[0], found[1], strict=True))
    assert any((one != two).any() for one, two in zip(found[0], found[2], strict=True))
    assert [level.dtype for level in found[0]] == ["float32"] * len(found[0])
