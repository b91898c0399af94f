"""Circulant layers against the explicit matrix and numeric differences, on TensorFlow and on JAX."""

from helpers import runtime

runtime.quiet_start()

import jax_twin
import keras
import numpy as np
import pytest
from keras import ops

from helpers.circulant_video import circulant, layers

CASES = [  # n, units, factors: odd, even and prime n; fewer, as many and more units
    (8, 3, 1),
    (8, 8, 2),
    (9, 9, 1),
    (9, 4, 3),
    (7, 20, 2),
    (6, 13, 1),
    (1, 3, 2),
    (2, 1, 1),
]


def explicit(x, layer):
    """The layer by matrices written out entry by entry, in float64."""
    c = np.asarray(layer.c, "float64")
    d = np.ones_like(c) if layer.d is None else np.asarray(layer.d, "float64")
    blocks, factors, n = c.shape
    columns = []
    for b in range(blocks):
        y = np.asarray(x, "float64")
        for k in range(factors):
            matrix = np.array([[c[b, k, (i - j) % n] for j in range(n)] for i in range(n)])
            y = (y @ matrix) * d[b, k] if layer.diagonal == "fixed" else (y * d[b, k]) @ matrix
        columns.append(y)
    return np.concatenate(columns, axis=-1)[..., : layer.units]


def built(n, units, **options):
    layer = layers.CirculantDense(units, **options)
    layer.build((None, n))
    rng = np.random.default_rng(0)
    layer.c.assign(rng.normal(size=layer.c.shape))
    if layer.diagonal == "learned":
        layer.d.assign(rng.normal(size=layer.d.shape))
    return layer


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_circulant_matrix_by_hand(dtype):
    found = layers.circulant_matrix(np.array([1, 2, 3], dtype))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, [[1, 3, 2], [2, 1, 3], [3, 2, 1]])
    stacked = layers.circulant_matrix(np.arange(24).reshape(2, 3, 4))
    assert stacked.shape == (2, 3, 4, 4)
    np.testing.assert_array_equal(stacked[1, 2, :, 0], [20, 21, 22, 23])
    np.testing.assert_array_equal(layers.circulant_matrix(ops.convert_to_tensor([5.0])), [[5.0]])


def test_one_row_by_hand():
    layer = layers.CirculantDense(3)
    layer.build((None, 3))
    layer.c.assign([[[1.0, 2.0, 3.0]]])
    layer.d.assign([[[1.0, 1.0, 10.0]]])
    np.testing.assert_allclose(layer(np.array([[1.0, 0.0, 2.0]])), [[1 + 60, 3 + 40, 2 + 20]], rtol=1e-5)


@pytest.mark.parametrize("diagonal", circulant.DIAGONALS)
@pytest.mark.parametrize("n, units, factors", CASES)
def test_equals_the_explicit_matrix(n, units, factors, diagonal):
    layer = built(n, units, factors=factors, diagonal=diagonal)
    x = np.random.default_rng(1).normal(size=(4, n)).astype("float32")
    found = np.asarray(layer(x))
    assert found.shape == (4, units) == layer.compute_output_shape((4, n))
    assert layer.c.shape == (-(-units // n), factors, n)
    np.testing.assert_allclose(found, explicit(x, layer), rtol=1e-4, atol=1e-4)
    frames = np.stack([x, 2 * x])  # (2, 4, n): any number of axes in front
    np.testing.assert_allclose(layer(frames), explicit(frames, layer), rtol=1e-4, atol=1e-4)


def gradients(layer, x, weight):
    """d sum(layer(x) * weight) / d (x, c, d) of the backend in use; d only where it is learned."""
    values = [x, np.asarray(layer.c)] + [np.asarray(layer.d)] * (layer.d is not None)

    def total(values):
        y = circulant.diagonal_circulant(
            *values, *[None] * (3 - len(values)), units=layer.units, diagonal=layer.diagonal
        )
        return ops.sum(y * weight)

    if keras.backend.backend() == "jax":
        import jax

        return values, total, jax.jit(jax.grad(total))(values)
    import tensorflow as tf

    tensors = [tf.constant(value) for value in values]

    @tf.function
    def slopes(tensors):
        with tf.GradientTape() as tape:
            tape.watch(tensors)
            loss = total(tensors)
        return tape.gradient(loss, tensors)

    return values, total, slopes(tensors)


@pytest.mark.parametrize("diagonal", circulant.DIAGONALS)
@pytest.mark.parametrize("n, units, factors", CASES)
def test_gradient_equals_numeric_differences(n, units, factors, diagonal):
    layer = built(n, units, factors=factors, diagonal=diagonal)
    rng = np.random.default_rng(2)
    x, weight = rng.normal(size=(3, n)).astype("float32"), rng.normal(size=(3, units)).astype("float32")
    values, total, found = gradients(layer, x, weight)
    for k in range(len(values)):
        for place in rng.permutation(values[k].size)[:6]:
            ends = []
            for side in (1.0, -1.0):  # each value enters linearly, so that a difference over a whole unit is exact
                moved = [value.copy() for value in values]
                moved[k].flat[place] += side
                ends.append(float(total([ops.convert_to_tensor(value) for value in moved])))
            assert np.asarray(found[k]).flat[place] == pytest.approx((ends[0] - ends[1]) / 2, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("n, units", [(64, 16), (64, 64), (45, 130)])
def test_gradient_equals_that_of_the_explicit_matrix(n, units):
    layer = built(n, units)
    rng = np.random.default_rng(3)
    x, dy = rng.normal(size=(5, n)).astype("float32"), rng.normal(size=(5, units)).astype("float32")
    (_, c, d), _, (dx, dc, dd) = gradients(layer, x, dy)
    padded = np.pad(dy, [(0, 0), (0, len(c) * n - units)])
    expected_dx = 0
    for b in range(len(c)):
        part = padded[:, b * n : (b + 1) * n]
        matrix = layers.circulant_matrix(c[b, 0])
        outer = (x * d[b, 0]).T @ part  # gradient of the dense matrix; c gathers it along the wrapped diagonals
        expected_dc = [sum(outer[(j + k) % n, j] for j in range(n)) for k in range(n)]
        np.testing.assert_allclose(dc[b, 0], expected_dc, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(dd[b, 0], (x * (part @ matrix.T)).sum(0), rtol=1e-3, atol=1e-3)
        expected_dx = expected_dx + part @ matrix.T * d[b, 0]
    np.testing.assert_allclose(dx, expected_dx, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("diagonal, trained", [("learned", ["c", "d"]), ("fixed", ["c"]), (None, ["c"])])
def test_fit_moves_what_is_learned_and_nothing_else(diagonal, trained, tmp_path):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((6,)), layers.CirculantDense(8, 2, diagonal, name="circulant")])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    layer = model.layers[0]
    before = {v.name: np.array(v) for v in layer.weights}
    assert [v.name for v in layer.trainable_weights] == trained
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(8, 6)), rng.normal(size=(8, 8)), verbose=0, shuffle=False)
    for variable in layer.weights:
        assert np.any(np.asarray(variable) != before[variable.name]) == (variable.name in trained)
    x = rng.normal(size=(3, 6)).astype("float32")
    model.save(tmp_path / "whole.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "whole.keras")(x), model(x), rtol=1e-5, atol=1e-6)
    model.save_weights(tmp_path / "only.weights.h5")
    other = keras.models.clone_model(model)
    assert diagonal != "fixed" or np.any(np.asarray(other.layers[0].d) != np.asarray(layer.d))
    other.load_weights(tmp_path / "only.weights.h5")
    np.testing.assert_array_equal(other(x), model(x))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_transforms_stay_in_float32_under_mixed_precision(policy):
    n = 4096  # with c rounded to half precision, or sums of 4096 in it, the error would be some per cent
    layer = built(n, 64, dtype=policy)
    x = ops.cast(np.random.default_rng(1).normal(size=(2, n)) / 64, layer.compute_dtype)
    found = layer(x)
    assert keras.backend.standardize_dtype(found.dtype) == layer.compute_dtype
    assert keras.backend.standardize_dtype(layer.c.dtype) == "float32"
    exact = built(n, 64)
    np.testing.assert_array_equal(found, ops.cast(exact(ops.cast(x, "float32")), layer.compute_dtype))


def test_initial_values():
    keras.utils.set_random_seed(0)
    cases = {("original", "learned"): (1 / 512, 1 / 512), ("paper", "learned"): (2 / 4096, 1.0)}
    cases |= {("original", "fixed"): (1 / 512, 1.0), ("original", None): (1 / 512, None)}
    for (initializer, diagonal), (of_c, of_d) in cases.items():
        layer = layers.CirculantDense(512, 1, diagonal, initializer)
        layer.build((None, 4096))
        c = np.asarray(layer.c)
        assert c.var() == pytest.approx(of_c, rel=0.1) and abs(c.mean()) < 4 * np.sqrt(of_c / c.size)
        if of_d is None:
            assert layer.d is None
            continue
        d = np.asarray(layer.d)
        assert (d**2).mean() == pytest.approx(of_d, rel=0.1)
        assert (set(np.unique(d)) == {-1.0, 1.0}) == (of_d == 1.0) and abs((d > 0).mean() - 0.5) < 0.05
        assert np.any(np.sign(d) != np.sign(c))  # not the same draw twice


def test_signs_repeat_with_a_seed():
    one, two, other = (np.asarray(layers.RandomSigns(seed)((50,))) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.any(one != other) and layers.RandomSigns(5).get_config() == {"seed": 5}


def test_config():
    options = {"units": 5, "factors": 3, "diagonal": "fixed", "initializer": "paper", "name": "own"}
    layer = layers.CirculantDense(**options)
    assert {key: layer.get_config()[key] for key in options} == options
    again = layers.CirculantDense.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    symbolic = layer(keras.KerasTensor((None, 7, 4)))
    assert symbolic.shape == (None, 7, 5)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"units": 0}, "units must be at least 1. Received: units=0"),
        ({"units": 4, "factors": 0}, "factors must be at least 1"),
        ({"units": 4, "diagonal": "random"}, "diagonal must be one of"),
        ({"units": 4, "initializer": "he"}, "initializer must be one of"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        layers.CirculantDense(**options)
    with pytest.raises(ValueError, match="must be known"):
        layers.CirculantDense(4).build((None, None))


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = [
        "explicit_matrix and 7-20-2-learned", "numeric_differences and 9-4-3-fixed", "numeric_differences and 7-20-2-None",
        "moves and fixed", "pooling_by_loops and True", "experts_by_loops and True-True", "one_step and options0",
    ]  # fmt: skip
    said = jax_twin.run(__file__, ["circulant_layers", "circulant_pooling", "circulant_model"], names)
    assert "\n8 passed" in said, said
