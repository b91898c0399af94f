"""The geometry and the layers of face_animation against SciPy, plain loops and hand-worked numbers, on TensorFlow and on JAX."""

from helpers import runtime

runtime.quiet_start()

import math

import jax_twin
import keras
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from keras import ops

from helpers.face_animation import layers
from helpers.face_animation.model import hourglass, keypoints, motion

RAMP = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)


def array(tensor):
    return ops.convert_to_numpy(tensor)


def places(height, width, *, seed=0, reach=1.6, count=2):
    """(count, height, width, 2) coordinates, some far outside."""
    return np.random.default_rng(seed).uniform(-reach, reach, (count, height, width, 2)).astype("float32")


def to_pixels(coordinate, size, align_corners):
    coordinate = coordinate.astype("float64")
    return (coordinate + 1) * (size - 1) / 2 if align_corners else ((coordinate + 1) * size - 1) / 2


@pytest.mark.parametrize(
    "align_corners, expected",
    [
        (False, [[0, 0.5, 0.5], [1.5, 4, 2.5], [1.5, 3.5, 2]]),
        (True, [[0, 1, 2], [3, 4, 5], [6, 7, 8]]),
    ],
)
def test_a_ramp_on_its_own_grid(align_corners, expected):
    grid = ops.convert_to_tensor(layers.coordinate_grid(3, 3)[None])
    np.testing.assert_allclose(
        array(layers.grid_sample(RAMP, grid, align_corners=align_corners))[0, ..., 0], expected, atol=1e-6
    )


@pytest.mark.parametrize(
    "padding, align_corners, expected",
    [
        ("zeros", False, [0.87, 4.6475, 0]),
        ("zeros", True, [3.12, 6.8, 0.72]),
        ("reflection", False, [4.35, 7.15, 2.2]),
        ("reflection", True, [4.1, 6.8, 2.8]),
    ],
)
def test_grid_sample_gives_pytorch_s_numbers(padding, align_corners, expected):
    points = ops.convert_to_tensor(np.array([[[[-1.2, 0.3], [0.1, 0.9], [1.4, -1.4]]]], "float32"))
    found = layers.grid_sample(RAMP, points, padding=padding, align_corners=align_corners)
    np.testing.assert_allclose(array(found)[0, 0, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(5, 8), (7, 4), (1, 6)])
@pytest.mark.parametrize("align_corners", [True, False])
def test_zeros_outside_by_loops(align_corners, size):
    height, width = size
    images = np.random.default_rng(1).normal(size=(2, height, width, 3)).astype("float32")
    grid = places(4, 6)
    grid[0, 0, :3] = [[-1, -1], [1, 1], [0, 0]]
    expected = np.zeros((2, 4, 6, 3))
    for b, i, j in np.ndindex(2, 4, 6):
        x, y = (to_pixels(grid[b, i, j, k], side, align_corners) for k, side in ((0, width), (1, height)))
        for row, column in np.ndindex(height, width):  # a tent one pixel wide on every pixel
            expected[b, i, j] += images[b, row, column] * max(0, 1 - abs(x - column)) * max(0, 1 - abs(y - row))
    found = layers.grid_sample(ops.convert_to_tensor(images), ops.convert_to_tensor(grid), align_corners=align_corners)
    np.testing.assert_allclose(array(found), expected, atol=2e-5)


@pytest.mark.parametrize("align_corners, mode", [(True, "mirror"), (False, "reflect")])
def test_reflection_is_scipy_s(align_corners, mode):
    images = np.random.default_rng(2).normal(size=(2, 6, 9, 2)).astype("float32")
    grid = places(5, 7, seed=3, reach=4.5)  # reflected more than once
    found = array(
        layers.grid_sample(
            ops.convert_to_tensor(images),
            ops.convert_to_tensor(grid),
            padding="reflection",
            align_corners=align_corners,
        )
    )
    for b, c in np.ndindex(2, 2):
        pixels = [to_pixels(grid[b, ..., k], side, align_corners) for k, side in ((1, 6), (0, 9))]
        expected = scipy.ndimage.map_coordinates(images[b, ..., c].astype("float64"), pixels, order=1, mode=mode)
        np.testing.assert_allclose(found[b, ..., c], expected, atol=3e-5)


def test_one_image_serves_all_grids():
    images, grid = np.random.default_rng(4).normal(size=(1, 5, 5, 2)).astype("float32"), places(3, 3, count=4)
    expected = layers.grid_sample(ops.convert_to_tensor(np.repeat(images, 4, 0)), ops.convert_to_tensor(grid))
    found = layers.grid_sample(ops.convert_to_tensor(images), ops.convert_to_tensor(grid))
    np.testing.assert_array_equal(array(found), array(expected))
    assert np.abs(array(found)).max() > 0.1


def test_places_that_are_no_numbers():
    grid = np.array([[[[np.nan, 0], [np.inf, 0], [-np.inf, 0], [1e30, 0], [0, -1e30], [0, 0]]]], "float32")
    found = array(layers.grid_sample(RAMP, ops.convert_to_tensor(grid)))[0, 0, :, 0]
    np.testing.assert_array_equal(found, [np.nan, 0, 0, 0, 0, 4])


def slope(function, x):
    """d function / d x of the backend in use."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(function)(x))
    import tensorflow as tf

    x = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = function(x)
    return tape.gradient(total, x).numpy()


def test_slopes_at_an_identity_warp():
    """At whole pixels the slope is the one to the right, as in PyTorch; to the image it is 1 everywhere."""
    grid = layers.coordinate_grid(3, 3)[None]
    found = slope(lambda grid: ops.sum(layers.grid_sample(RAMP, grid)[:, :2, :2]), grid)
    np.testing.assert_allclose(found[0, :2, :2, 0], 1, atol=1e-5)  # a step of one pixel is 1 in x, and 1 in coordinates
    np.testing.assert_allclose(found[0, :2, :2, 1], 3, atol=1e-5)
    found = slope(lambda images: ops.sum(layers.grid_sample(images, ops.convert_to_tensor(grid))), RAMP)
    np.testing.assert_allclose(found, np.ones_like(RAMP), atol=1e-5)


def test_resize_by_hand():
    images = ops.convert_to_tensor(np.array([[0, 1], [2, 4]], "float32").reshape(1, 2, 2, 1))
    found = array(layers.resize(images, 4, 4))[0, :, :, 0]
    np.testing.assert_allclose(found[:2], [[0, 0.25, 0.75, 1], [0.5, 0.8125, 1.4375, 1.75]], atol=1e-6)
    assert layers.resize(images, 2, 2) is images


def test_inverse_2x2():
    matrices = np.random.default_rng(5).normal(size=(3, 7, 2, 2)).astype("float32") + 2 * np.eye(2, dtype="float32")
    found = array(layers.inverse_2x2(ops.convert_to_tensor(matrices)))
    np.testing.assert_allclose(found, np.linalg.inv(matrices.astype("float64")), rtol=2e-4, atol=2e-4)
    product = array(layers.matmul_2x2(ops.convert_to_tensor(matrices), ops.convert_to_tensor(found)))
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-4)
    others = matrices[::-1].copy()
    product = array(layers.matmul_2x2(ops.convert_to_tensor(matrices), ops.convert_to_tensor(others)))
    np.testing.assert_allclose(product, matrices @ others, atol=1e-5)


@pytest.mark.parametrize(
    "matrix, expected",
    [
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]]),
        ([[1, 2], [2, 4]], [[400, -200], [-200, 100]]),  # determinant 0 counts as 0.01
        ([[1, 2], [2, 3.999]], [[-399.9, 200], [200, -100]]),  # -0.001 as -0.01
        ([[2, 0], [0, 4]], [[0.5, 0], [0, 0.25]]),
    ],
)
def test_singular_matrices_have_a_finite_inverse(matrix, expected):
    matrix = np.array(matrix, "float32")
    found = array(layers.inverse_2x2(ops.convert_to_tensor(matrix), epsilon=0.01))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    change = slope(lambda matrix: ops.sum(layers.inverse_2x2(matrix)), matrix)
    assert np.isfinite(change).all() and np.isfinite(array(layers.inverse_2x2(ops.convert_to_tensor(matrix)))).all()


def test_gaussian_maps_by_loops():
    points = np.array([[[0.5, -1.0], [0.0, 0.2]]], "float32")
    found = array(layers.gaussian_maps(ops.convert_to_tensor(points), 5, 9, variance=0.03))
    assert found.shape == (1, 5, 9, 2)
    for i, j, k in np.ndindex(5, 9, 2):
        distance = (-1 + j / 4 - points[0, k, 0]) ** 2 + (-1 + i / 2 - points[0, k, 1]) ** 2
        assert found[0, i, j, k] == pytest.approx(math.exp(-distance / 0.06), abs=1e-5)


@pytest.mark.parametrize("scale, sigma, size", [(1, 0, 1), (0.5, 0.5, 5), (0.25, 1.5, 13), (0.125, 3.5, 29)])
@pytest.mark.parametrize("shape", [(32, 48), (17, 33)])
def test_anti_alias_is_scipy_s_convolution(shape, scale, sigma, size):
    images = np.random.default_rng(6).random((2, *shape, 3), dtype="float32")
    layer = layers.AntiAlias(scale)
    found = array(layer(images))
    row = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2) if sigma else np.ones(1)
    kernel = np.outer(row, row) / np.outer(row, row).sum()
    step = round(1 / scale)
    for b, c in np.ndindex(2, 3):
        expected = scipy.signal.convolve2d(images[b, ..., c], kernel, mode="same")[::step, ::step]
        np.testing.assert_allclose(found[b, ..., c], expected, atol=1e-5)
    assert found.shape == layer.compute_output_shape(images.shape) and not layer.variables


@pytest.mark.parametrize("scale", [0, 0.3, 2, -0.5])
def test_scales_that_are_refused(scale):
    with pytest.raises(ValueError, match="scale must be 1 / s for a whole number s"):
        layers.AntiAlias(scale)


def spectral():
    layer = hourglass.SpectralConv2D(6, 3, padding="valid")
    layer.build((None, 8, 8, 4))
    layer.kernel.assign(np.random.default_rng(7).normal(size=(3, 3, 4, 6)))
    return layer


def test_spectral_norm_by_singular_values():
    layer, x = spectral(), np.random.default_rng(8).random((2, 8, 8, 4), dtype="float32")
    kernel, first = array(layer.kernel), array(layer.u)
    layer(x, training=False)
    np.testing.assert_array_equal(array(layer.u), first)
    layer(x, training=True)
    assert np.abs(array(layer.u) - first).max() > 1e-3
    for _ in range(60):
        layer(x, training=True)
    np.testing.assert_array_equal(array(layer.kernel), kernel)
    largest = np.linalg.svd(kernel.reshape(-1, 6), compute_uv=False)[0]
    layer.bias.assign(np.arange(6.0))
    plain = array(ops.conv(x, kernel / largest, padding="valid")) + np.arange(6)
    np.testing.assert_allclose(array(layer(x, training=False)), plain, atol=1e-4)


def sparse_inputs(batch=2, count=3):
    rng = np.random.default_rng(9)
    small = rng.random((batch, 6, 8, 3))
    points = [rng.uniform(-0.8, 0.8, (batch, count, 2)) for _ in range(2)]
    matrices = [np.eye(2) + rng.normal(0, 0.2, (batch, count, 2, 2)) for _ in range(2)]
    return [x.astype("float32") for x in (small, points[0], matrices[0], points[1], matrices[1])]


def test_sparse_motions_by_loops():
    small, source, source_jacobian, driving, driving_jacobian = inputs = sparse_inputs()
    features, motions, deformed = (array(x) for x in motion.SparseMotions(0.02)(*map(ops.convert_to_tensor, inputs)))
    assert features.shape == (2, 6, 8, 16) and motions.shape == (2, 6, 8, 4, 2) and deformed.shape == (2, 4, 6, 8, 3)
    for b, i, j in np.ndindex(2, 6, 8):
        z = np.array([-1 + 2 * j / 7, -1 + 2 * i / 5])
        np.testing.assert_allclose(motions[b, i, j, 0], z, atol=1e-6)
        np.testing.assert_allclose(features[b, i, j, :4], [0, *small[b, i, j]], atol=1e-5)  # k = 0: no heat, not moved
        for k in range(3):
            bend = source_jacobian[b, k] @ np.linalg.inv(driving_jacobian[b, k].astype("float64"))
            moved = bend @ (z - driving[b, k]) + source[b, k]
            np.testing.assert_allclose(motions[b, i, j, k + 1], moved, atol=1e-4)
            heat = [math.exp(-np.sum((z - point[b, k]) ** 2) / 0.04) for point in (driving, source)]
            assert features[b, i, j, 4 * k + 4] == pytest.approx(heat[0] - heat[1], abs=1e-5)
            np.testing.assert_array_equal(features[b, i, j, 4 * k + 5 : 4 * k + 8], deformed[b, k + 1, i, j])
    warped = array(layers.grid_sample(ops.convert_to_tensor(small), ops.convert_to_tensor(motions[:, :, :, 2])))
    np.testing.assert_allclose(deformed[:, 2], warped, atol=1e-6)


def test_features_are_warped_and_dimmed():
    rng = np.random.default_rng(10)
    features = rng.random((1, 4, 4, 2), dtype="float32")
    field, seen = layers.coordinate_grid(8, 8)[None], rng.random((1, 8, 8, 1), dtype="float32")
    tensors = map(ops.convert_to_tensor, (features, field, seen))
    halves = seen.reshape(1, 4, 2, 4, 2, 1).mean((2, 4))  # half as large: the mean of the two nearest on each axis
    grid = field.reshape(1, 4, 2, 4, 2, 2).mean((2, 4))
    expected = array(layers.grid_sample(ops.convert_to_tensor(features), ops.convert_to_tensor(grid))) * halves
    np.testing.assert_allclose(array(layers.WarpFeatures()(*tensors)), expected, atol=1e-5)


def test_a_blend_takes_each_picture_by_its_share():
    mask = ops.convert_to_tensor(np.array([0, 0.25, 1], "float32").reshape(1, 1, 3, 1))
    one, two = (ops.convert_to_tensor(np.full((1, 1, 3, 2), value, "float32")) for value in (8, 4))
    np.testing.assert_array_equal(array(layers.Blend()(mask, one, two))[0, 0, :, 0], [4, 5, 8])


def test_motions_are_averaged_with_softmax_weights():
    logits = np.log(np.array([1, 3, 4], "float32")).reshape(1, 1, 1, 3)
    motions = np.array([[0, 8], [8, 0], [-2, 4]], "float32").reshape(1, 1, 1, 3, 2)
    mask, mean = motion.CombineMotions()(ops.convert_to_tensor(logits), ops.convert_to_tensor(motions))
    np.testing.assert_allclose(array(mask).ravel(), [1 / 8, 3 / 8, 4 / 8], rtol=1e-5)
    np.testing.assert_allclose(array(mean).ravel(), [2, 3], rtol=1e-5)


def slopes(network, x, targets):
    """Gradients of a weighted sum of the outputs, of the inputs and of all trained weights, on either backend."""
    x = keras.Variable(x, name="x")
    state = [x.value, *(weight.value for weight in network.trainable_weights)]

    def loss(values):
        mapping = list(zip(network.trainable_weights, values[1:], strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return ops.sum(ops.tanh(network(values[0], training=True)) * targets)

    if keras.backend.backend() == "jax":
        import jax

        return [array(slope) for slope in jax.grad(loss)(state)]
    import tensorflow as tf

    with tf.GradientTape() as tape:
        x = tf.constant(array(x))
        tape.watch(x)
        outputs = ops.sum(ops.tanh(network(x, training=True)) * targets)
    return [array(slope) for slope in tape.gradient(outputs, [x, *(w.value for w in network.trainable_weights)])]


def test_one_convolution_for_upsampling_and_convolution():
    keras.utils.set_random_seed(5)
    conv = keras.layers.Conv2D(4, 3, padding="same", activation="relu", bias_initializer="random_normal")
    plain = keras.Sequential([keras.Input((6, 5, 3)), keras.layers.UpSampling2D(), conv])
    both = hourglass.UpConv2D(4, 3, padding="same", activation="relu")
    network = keras.Sequential([keras.Input((6, 5, 3)), both])
    both.set_weights(conv.get_weights())
    rng = np.random.default_rng(6)
    x, targets = (rng.normal(size=size).astype("float32") for size in ((2, 6, 5, 3), (2, 12, 10, 4)))
    assert network.output_shape == (None, 12, 10, 4)
    np.testing.assert_allclose(array(network(x)), array(plain(x)), atol=1e-5)
    for found, expected in zip(slopes(network, x, targets), slopes(plain, x, targets), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_batch_norm_and_its_gradient_are_keras_s():
    rng = np.random.default_rng(8)
    x = (3 + 2 * rng.normal(size=(4, 6, 5, 7))).astype("float32")
    targets = rng.normal(size=x.shape).astype("float32")
    kinds = [kind(momentum=0.9, epsilon=0.1) for kind in (hourglass.BatchNorm, keras.layers.BatchNormalization)]
    networks = [keras.Sequential([keras.Input((6, 5, 7)), kind]) for kind in kinds]
    for kind in kinds:
        kind.set_weights([np.linspace(0.5, 2, 7), np.linspace(-1, 1, 7), np.full(7, 0.3), np.full(7, 2)])
    found, expected = ([array(net(x, training=True)), *slopes(net, x, targets)] for net in networks)
    found, expected = (
        [*parts, *kind.get_weights(), array(net(x))]
        for parts, kind, net in zip((found, expected), kinds, networks, strict=True)
    )
    assert len(found) == 9 and np.abs(kinds[0].get_weights()[2] - 0.3).min() > 0.1  # the statistics have moved
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-5)
    kinds[0].trainable = False
    np.testing.assert_allclose(array(networks[0](x, training=True)), array(networks[0](x)))


def test_unit_matrices():
    np.testing.assert_array_equal(array(keypoints.UnitMatrices()((8,))), [1, 0, 0, 1, 1, 0, 0, 1])


CONFIGS = [
    (layers.AntiAlias, {"scale": 0.5}),
    (keypoints.SoftKeypoints, {"temperature": 0.3}),
    (motion.SparseMotions, {"variance": 0.05, "align_corners": False}),
    (layers.WarpFeatures, {"align_corners": False, "padding": "reflection"}),
    (layers.Blend, {}),
    (layers.GaussianMaps, {"variance": 0.07}),
    (motion.CombineMotions, {}),
    (hourglass.SpectralConv2D, {"filters": 5, "kernel_size": (3, 3)}),
    (hourglass.UpConv2D, {"filters": 5, "kernel_size": (3, 3)}),
    (hourglass.BatchNorm, {"momentum": 0.8, "epsilon": 0.02}),
]


@pytest.mark.parametrize("layer, options", CONFIGS)
def test_configs_hold_every_option(layer, options):
    config = layer(**options, name="it").get_config()
    assert {key: config[key] for key in options} == options
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer(**options, name="it")))
    assert type(again) is layer and again.get_config() == config


def test_coordinates_stay_float32_in_half_precision():
    """Places 1/512 apart near 1 are one and the same in bfloat16."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        warp, gaussians, soft = layers.WarpFeatures(), layers.GaussianMaps(variance=1e-5), keypoints.SoftKeypoints(0.1)
        layer = hourglass.SpectralConv2D(3, 3)
    finally:
        keras.config.set_dtype_policy(before)
    grid = np.full((1, 1, 1024, 2), 0.998, "float32")
    images = ops.cast(np.arange(1024, dtype="float32").reshape(1, 1, 1024, 1) % 8, "bfloat16")
    warped = warp(images, ops.convert_to_tensor(grid))
    assert keras.backend.standardize_dtype(warped.dtype) == "bfloat16"  # the features stay as they are
    found = array(ops.cast(warped, "float32"))
    np.testing.assert_allclose(found, 5.977, atol=0.05)  # pixel 1021.977

    points = ops.convert_to_tensor(np.full((1, 1, 2), 0.998, "float32"))
    maps = gaussians(ops.zeros((1, 3, 1001, 1), "bfloat16"), points)
    assert array(maps)[0, 2, :, 0].argmax() == 999
    logits = ops.cast(np.eye(40, dtype="float32")[-1][None, None, :, None] * 0.35, "bfloat16")
    found = soft(logits, ops.zeros((1, 1, 40, 4), "bfloat16"))
    heat = np.exp(np.eye(40)[-1] * float(array(ops.cast(logits, "float32")).max()) / 0.1)
    assert found["value"].dtype == points.dtype
    np.testing.assert_allclose(array(found["value"])[0, 0, 0], heat @ np.linspace(-1, 1, 40) / heat.sum(), atol=1e-5)
    outputs = layer(np.ones((1, 4, 4, 2), "float32"), training=True)
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    assert keras.backend.standardize_dtype(layer.u.dtype) == "float32"


def small_network():
    """All layers with weights or a choice of their own in one network, from pictures to keypoints."""
    keras.utils.set_random_seed(11)
    inputs = keras.Input((16, 16, 3))
    x = layers.AntiAlias(0.5, name="down")(inputs)
    x = hourglass.conv(x, 4, 3, name="spectral", layer=hourglass.SpectralConv2D)
    x = hourglass.hourglass(x, width=4, max_width=8, blocks=2, name="net")
    x = hourglass.residual_block(x, name="residual")
    logits, bends = hourglass.conv(x, 2, 3, name="kp"), hourglass.conv(x, 8, 3, name="jacobian")
    points = keypoints.SoftKeypoints(0.5, name="keypoints")(logits, bends)
    return keras.Model(inputs, points)


def test_one_step_of_fit_then_saved_and_loaded(tmp_path):
    network, rng = small_network(), np.random.default_rng(12)
    x = rng.random((4, 16, 16, 3), dtype="float32")
    targets = {"value": rng.uniform(-1, 1, (4, 2, 2)), "jacobian": rng.uniform(-1, 1, (4, 2, 2, 2))}
    old = [array(variable) for variable in network.variables]
    network.compile("adam", loss={"value": "mse", "jacobian": "mse"})
    network.fit(x, targets, epochs=1, batch_size=4, shuffle=False, verbose=0)
    for variable, was in zip(network.variables, old, strict=True):
        assert np.isfinite(array(variable)).all() and (array(variable) != was).any(), variable.path
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    for name, part in network(x, training=False).items():
        assert part.shape[1:] == network.output[name].shape[1:]
        np.testing.assert_allclose(array(loaded(x, training=False)[name]), array(part), atol=1e-6)


def test_convolutions_start_as_in_pytorch():
    network = small_network()
    layer = network.get_layer("net_encoder_down_blocks_1_conv")  # 8 channels in: 72 inputs a filter
    for weight in (layer.kernel, layer.bias):
        assert 0.5 / math.sqrt(72) < np.abs(array(weight)).max() <= 1 / math.sqrt(72)
    norm = network.get_layer("net_encoder_down_blocks_1_norm")
    assert (norm.momentum, norm.epsilon) == (0.9, 1e-5)


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = ["pytorch_s_numbers", "slopes", "no_numbers", "singular_values", "sparse_motions", "one_conv", "batch_norm"]
    said = jax_twin.run(__file__, ["face_layers", "face_model"], names)
    assert " passed" in said and "skipped" not in said, said
