"""DBoF, NetVLAD, NetFV, gating and the mixture of experts against loops in NumPy."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pytest

from helpers.circulant_video import layers, losses


def rng(seed=0):
    return np.random.default_rng(seed)


def batch_norm(x, layer, training):
    """By the formula, over all axes but the last."""
    gamma, beta, mean, variance = (np.asarray(v, "float64") for v in layer.get_weights())
    if training:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
    return gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def filled(layer, shape):
    """The layer built and given weights that no initialiser gives."""
    layer.build((None, *shape[1:]))
    layer.set_weights([rng(1).uniform(0.2, 1.2, v.shape) * rng(2).choice([1, 1, -1], v.shape) for v in layer.weights])
    for norm in (getattr(layer, "norm", None), getattr(getattr(layer, "context", None), "norm", None)):
        if norm is not None:
            norm.moving_variance.assign(rng(3).uniform(0.5, 2, norm.moving_variance.shape))
    return layer


@pytest.mark.parametrize("training", [False, True])
def test_dbof_by_loops(training):
    x = rng().normal(size=(3, 5, 4)).astype("float32")
    layer = filled(layers.DBoF(7), x.shape)
    scores = batch_norm(x @ np.asarray(layer.projection.kernel, "float64"), layer.norm, training)
    expected = [[max(min(max(s, 0), 6) for s in video[:, k]) for k in range(7)] for video in scores]
    found = layer(x, training=training)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    if not training:
        assert np.max(found) <= 6 and np.min(found) >= 0
        assert np.asarray(layer(100 * x)).max() == 6.0


@pytest.mark.parametrize("factors", [1, 2])
def test_compact_dbof_is_the_dense_one_with_a_product_of_matrices(factors):
    x = rng().normal(size=(3, 5, 4)).astype("float32")
    compact = filled(layers.DBoF(10, compact=True, factors=factors), x.shape)
    c, d = np.asarray(compact.projection.c), np.asarray(compact.projection.d)
    kernel = []
    for block in range(3):
        product = np.eye(4)
        for k in range(factors):
            product = product @ np.diag(d[block, k]) @ layers.circulant_matrix(c[block, k])
        kernel.append(product)
    dense = filled(layers.DBoF(10), x.shape)
    dense.projection.kernel.assign(np.concatenate(kernel, axis=1)[:, :10])
    dense.norm.set_weights(compact.norm.get_weights())
    np.testing.assert_allclose(compact(x), dense(x), rtol=1e-3, atol=1e-3)


def unit(v):
    return v / np.sqrt(max((v**2).sum(), 1e-12))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", ["NetVLAD", "NetFV"])
def test_cluster_pooling_by_loops(kind, training):
    x = rng().normal(size=(2, 5, 4)).astype("float32")
    layer = filled(getattr(layers, kind)(3), x.shape)
    weights = softmax(batch_norm(x @ np.asarray(layer.assignment.kernel, "float64"), layer.norm, training))
    c = np.asarray(layer.centers, "float64")
    expected = []
    for a, frames in zip(weights, x.astype("float64"), strict=True):
        first, second = np.zeros((4, 3)), np.zeros((4, 3))
        for k in range(3):
            sigma = np.asarray(layer.widths, "float64")[:, k] ** 2 + 1e-6 if kind == "NetFV" else np.ones(4)
            for t in range(5):
                residual = (frames[t] - c[:, k]) / sigma
                first[:, k] += a[t, k] * residual
                second[:, k] += a[t, k] * (residual**2 - 1)
            first[:, k] = unit(first[:, k])
        expected.append(np.concatenate([unit(first.ravel()), unit(second.ravel())][: 1 + (kind == "NetFV")]))
    found = np.asarray(layer(x, training=training))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_gating_by_hand():
    layer = layers.ContextGating()
    layer.build((None, 2))
    layer.kernel.assign([[1.0, 0.0], [2.0, -1.0]])
    x = np.array([[0.5, 1.0]])
    scores = np.array([0.5 + 2.0, -1.0]) / np.sqrt(1.001)
    np.testing.assert_allclose(layer(x), x * sigmoid(scores), rtol=1e-5)


@pytest.mark.parametrize("compact", [False, True])
@pytest.mark.parametrize("gating", [False, True])
def test_mixture_of_experts_by_loops(compact, gating):
    x = rng().normal(size=(3, 6)).astype("float32")
    layer = filled(layers.MixtureOfExperts(4, 2, gating=gating, compact=compact), x.shape)

    def kernel(part, units):
        if not compact:
            return np.asarray(part.kernel, "float64")
        return np.concatenate(list(layers.circulant_matrix(part.c)[:, 0]), axis=1)[:, :units]

    gates, experts = x @ kernel(layer.gates, 12), x @ kernel(layer.experts, 8) + np.asarray(layer.bias)
    expected = np.zeros((3, 4))
    for b in range(3):
        for c in range(4):
            share = softmax(gates[b, 3 * c : 3 * c + 3])  # the third belongs to the expert that always says no
            expected[b, c] = sum(share[k] * sigmoid(experts[b, 2 * c + k]) for k in range(2))
    if gating:
        scores = batch_norm(expected @ np.asarray(layer.context.kernel, "float64"), layer.context.norm, False)
        expected = expected * sigmoid(scores)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-5)


def test_penalty_of_the_experts():
    layer = filled(layers.MixtureOfExperts(4, 2), (1, 6))
    squares = sum((np.asarray(part.kernel) ** 2).sum() for part in (layer.gates, layer.experts))
    layer(np.zeros((1, 6), "float32"))
    assert float(sum(layer.losses)) == pytest.approx(1e-8 * squares / 2)
    assert filled(layers.MixtureOfExperts(4, 2, compact=True), (1, 6)).losses == []


@pytest.mark.parametrize("gating, per_class", [(False, 0.51), (True, 0.223)])
def test_loss_at_the_start_is_what_four_mixtures_make_it(gating, per_class):
    keras.utils.set_random_seed(0)
    layer = layers.MixtureOfExperts(400, 4, gating=gating)
    p = layer(rng().normal(size=(8, 32)).astype("float32") * 0.2)
    loss = float(losses.SummedCrossEntropy()(np.zeros((8, 400)), p))
    assert loss / 400 == pytest.approx(per_class, rel=0.05)


def test_summed_cross_entropy_by_hand():
    y, p = np.array([[1, 0, 1], [0, 0, 0]]), np.array([[0.5, 0.25, 0.0], [0.0, 1.0, 0.0]])
    rows = [-np.log(0.50001) - np.log(0.75001) - np.log(1e-5), -2 * np.log(1.00001) - np.log(1e-5)]
    assert float(losses.SummedCrossEntropy()(y, p)) == pytest.approx(np.mean(rows), rel=1e-4)
    again = losses.SummedCrossEntropy.from_config(losses.SummedCrossEntropy(name="own").get_config())
    assert again.name == "own" and float(again(y[:1, :1], p[:1, :1])) == pytest.approx(-np.log(0.50001), rel=1e-5)


LAYERS = [
    ("DBoF", {"clusters": 6, "compact": True, "factors": 2, "momentum": 0.7}, (4, 5, 3), (4, 6)),
    ("DBoF", {"clusters": 2, "compact": False, "factors": 1, "momentum": 0.8}, (4, 5, 3), (4, 2)),
    ("NetVLAD", {"clusters": 2, "momentum": 0.7}, (4, 5, 3), (4, 6)),
    ("NetFV", {"clusters": 2, "momentum": 0.7}, (4, 5, 3), (4, 12)),
    ("ContextGating", {"momentum": 0.7}, (4, 5), (4, 5)),
    (
        "MixtureOfExperts",
        {"classes": 3, "mixtures": 2, "gating": True, "compact": True, "momentum": 0.7},
        (4, 5),
        (4, 3),
    ),
    (
        "MixtureOfExperts",
        {"classes": 3, "mixtures": 2, "gating": False, "compact": False, "momentum": 0.6},
        (4, 5),
        (4, 3),
    ),
]


@pytest.mark.parametrize("kind, options, shape, expected", LAYERS)
def test_layers_as_keras_wants_them(kind, options, shape, expected, tmp_path):
    keras.utils.set_random_seed(0)
    layer = getattr(layers, kind)(**options)
    assert {key: layer.get_config()[key] for key in options} == options
    x = rng().random(shape).astype("float32")
    found = layer(x)
    again = type(layer).from_config(layer.get_config())
    again.build(shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), found)
    symbolic = type(layer)(**options)(keras.KerasTensor((None, *shape[1:])))
    assert found.shape == expected and symbolic.shape == (None, *expected[1:])
    half = type(layer)(**options, dtype="mixed_bfloat16")
    half.build(shape)
    half.set_weights(layer.get_weights())
    wanted = "float32" if kind == "MixtureOfExperts" else "bfloat16"
    assert keras.backend.standardize_dtype(half(x).dtype) == wanted
    np.testing.assert_allclose(np.asarray(half(x), "float32"), found, atol=0.05)
    fit_save_and_load(layer, x, expected, tmp_path)


def fit_save_and_load(layer, x, expected, folder):
    """One step moves every weight that can move, by the layer's own momentum too; the file brings all of it back."""
    model = keras.Sequential([keras.Input(x.shape[1:]), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    before = [np.array(v) for v in layer.weights]
    model.fit(x, rng(1).random(expected), verbose=0, shuffle=False, batch_size=len(x))
    for variable, value in zip(layer.weights, before, strict=True):
        assert np.any(np.asarray(variable) != value), variable.path
        if variable.name == "moving_variance":  # it was 1 and keeps the momentum's share of that; 0.999 would keep all
            assert np.all(np.asarray(variable) >= layer.momentum - 1e-6)
            assert np.abs(np.asarray(variable) - 1).max() > 0.05
    model.save(folder / "layer.keras")
    np.testing.assert_allclose(keras.saving.load_model(folder / "layer.keras")(x), model(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["NetVLAD", "NetFV", "DBoF"])
def test_frames_of_zeros_are_finite_with_finite_gradients(kind):
    keras.utils.set_random_seed(0)
    layer = getattr(layers, kind)(3)
    model = keras.Sequential([keras.Input((5, 4)), layer])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.fit(np.zeros((2, 5, 4)), np.ones((2, *model.output_shape[1:])), verbose=0, shuffle=False)
    assert all(np.all(np.isfinite(v)) for v in layer.get_weights())
    if kind == "NetVLAD":
        v = np.asarray(layer(rng().normal(size=(2, 5, 4)).astype("float32")))
        np.testing.assert_allclose(np.linalg.norm(v, axis=-1), 1.0, rtol=1e-5)
