"""Trunks by their published sizes, layers against NumPy and OpenCV-free loops, the two siamese forms."""

from helpers import runtime

runtime.quiet_start()

import functools

import keras
import numpy as np
import pytest

from helpers.temporal_coherence import losses, model

build_trunk = functools.cache(model.build_trunk)  # half a second each at full size


@pytest.mark.parametrize(
    "variant, dim, size, count",
    [
        ("seed", 4096, 227, 62_942_848),
        ("paper", 4096, 227, 77_719_168),
        ("paper", 1024, 227, 65_133_184),
        ("tiny", 64, 67, 83_632),
    ],
)
def test_parameter_counts(variant, dim, size, count):
    trunk = build_trunk(variant, dim, size)
    assert trunk.count_params() == count
    assert trunk.input_shape == (None, size, size, 3) and trunk.output_shape == (None, dim)


@pytest.mark.parametrize(
    "variant, sides", [("seed", [111, 55, 26, 12, 12, 12, 12, 5]), ("paper", [111, 55, 26, 13, 13, 13, 13, 6])]
)
def test_side_lengths(variant, sides):
    trunk = build_trunk(variant, 4096, 227)
    kinds = (keras.layers.Conv2D, keras.layers.MaxPooling2D)
    assert [layer.output.shape[1] for layer in trunk.layers if isinstance(layer, kinds)] == sides


def test_what_tells_the_variants_apart():
    seed, paper = build_trunk("seed", 4096, 227), build_trunk("paper", 4096, 227)
    assert [layer.rate for layer in seed.layers if isinstance(layer, keras.layers.Dropout)] == [0.5, 0.5]
    assert not any(isinstance(layer, keras.layers.Dropout) for layer in paper.layers)
    assert [layer.groups for layer in paper.layers if isinstance(layer, keras.layers.Conv2D)] == [1, 2, 1, 2, 2]
    assert float(seed.get_layer("conv1").kernel_regularizer.l2) == pytest.approx(0.005)
    assert float(paper.get_layer("conv1").kernel_regularizer.l2) == pytest.approx(0.0025)
    assert np.array(paper.get_layer("fc7").bias)[0] == pytest.approx(0.1)
    assert np.array(paper.get_layer("fc7").kernel).std() == pytest.approx(0.01, rel=0.02)


@pytest.mark.parametrize("variant, size", [("alexnet", 227), ("seed", 74), ("paper", 34)])
def test_bad_arguments(variant, size):
    with pytest.raises(ValueError, match="must be"):
        model.build_trunk(variant, 8, size)


@pytest.mark.parametrize("variant, size", [("seed", 75), ("tiny", 35), ("tiny", 64)])
def test_small_sizes_work(variant, size):
    assert model.build_trunk(variant, 8, size).output_shape == (None, 8)


def lrn_by_loops(x, size, alpha, beta):
    out = np.zeros_like(x)
    channels = x.shape[-1]
    for c in range(channels):
        window = x[..., max(0, c - size // 2) : min(channels, c + size // 2 + 1)]
        out[..., c] = x[..., c] / (1 + alpha / size * (window**2).sum(-1)) ** beta
    return out


@pytest.mark.parametrize("size, alpha, beta", [(5, 1e-4, 0.75), (3, 0.5, 0.6)])
def test_local_response_normalization(size, alpha, beta):
    x = (100 * np.random.default_rng(0).normal(size=(2, 3, 3, 8))).astype(np.float32)
    layer = model.LocalResponseNormalization(size=size, alpha=alpha, beta=beta)
    np.testing.assert_allclose(layer(x), lrn_by_loops(x, size, alpha, beta), rtol=1e-4)
    with pytest.raises(ValueError, match="odd"):
        model.LocalResponseNormalization(size=4)


@pytest.mark.parametrize("options", [{"groups": 2}, {"groups": 3, "strides": 2, "padding": "same"}, {"groups": 1}])
def test_grouped_convolution_equals_kerass_own(options):
    x = np.random.default_rng(0).random((2, 9, 9, 6)).astype(np.float32)
    ours, theirs = model.GroupedConv2D(12, 3, **options), keras.layers.Conv2D(12, 3, **options)
    ours.build(x.shape)
    theirs.build(x.shape)
    assert [v.shape for v in ours.weights] == [v.shape for v in theirs.weights]
    ours.set_weights([np.random.default_rng(1).normal(size=v.shape) for v in ours.weights])
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-4, atol=1e-5)
    assert ours.get_config()["groups"] == options["groups"]


def test_caffe_input_by_hand():
    pixel = np.array([1.0, 0.5, 0.0], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(
        np.ravel(model.CaffeInput()(pixel)), [-103.939, 127.5 - 116.779, 255 - 128.68], rtol=1e-5
    )


@pytest.mark.parametrize("side", [26, 27, 6, 2])
def test_pools_round_up_as_in_caffe(side):
    x = np.random.default_rng(0).random((1, side, side, 2)).astype(np.float32)
    found = np.array(keras.Model(i := keras.Input((side, side, 2)), model.max_pool(i, round_up=True))(x))
    starts = range(0, int(np.ceil((side - 3) / 2)) * 2 + 1, 2)
    expected = np.array([[x[0, r : r + 3, c : c + 3].max((0, 1)) for c in starts] for r in starts])
    np.testing.assert_array_equal(found[0], expected)


LAYERS = [
    (lambda: model.CaffeInput(), (2, 5, 5, 3)),
    (lambda: model.LocalResponseNormalization(size=3, alpha=0.2, beta=0.6), (2, 5, 5, 4)),
    (lambda: model.MergeViews(), (2, 3, 5, 4)),
    (lambda: model.SplitViews(3), (6, 5)),
]


@pytest.mark.parametrize("make, shape", LAYERS)
def test_layers_as_keras_wants_them(make, shape):
    layer = make()
    x = np.random.default_rng(0).random(shape).astype(np.float32)
    again = type(layer).from_config(layer.get_config())
    np.testing.assert_array_equal(again(x), layer(x))
    symbolic = make()(keras.KerasTensor((None, *shape[1:])))
    assert tuple(symbolic.shape[1:]) == tuple(layer(x).shape[1:])
    half = type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    assert keras.backend.standardize_dtype(half(x).dtype) == "bfloat16"
    for key, value in {"size": 3, "alpha": 0.2, "beta": 0.6, "views": 3}.items():
        assert layer.get_config().get(key, value) == value


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    return model.build_trunk("tiny", 16, 67)


def test_siamese_is_the_trunk_applied_to_every_view(tiny):
    x = np.random.default_rng(0).random((3, 2, 67, 67, 3)).astype(np.float32)
    siamese = model.build_siamese(tiny)
    found = np.array(siamese(x))
    assert siamese.output_shape == (None, 2, 16) and siamese.count_params() == tiny.count_params()
    for view in range(2):
        np.testing.assert_allclose(found[:, view], tiny(x[:, view]), rtol=1e-4, atol=1e-5)
    unit = np.array(model.build_siamese(tiny, normalize=True)(x))
    np.testing.assert_allclose(np.linalg.norm(unit, axis=-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(unit, found / np.linalg.norm(found, axis=-1, keepdims=True), rtol=1e-4, atol=1e-6)
    assert model.build_siamese(tiny, views=4).output_shape == (None, 4, 16)


def test_the_thesis_merges_into_8193_columns(tiny):
    merged = model.build_seed_siamese(tiny)
    assert merged.output_shape == (None, 1 + 2 * 16) and merged.count_params() == tiny.count_params()
    big = model.build_seed_siamese(build_trunk("seed", 4096, 227))
    assert big.output_shape == (None, 8193) and big.count_params() == 62_942_848
    x = np.random.default_rng(0).random((2, 67, 67, 3)).astype(np.float32)
    found = np.array(merged([np.array([[1.0], [0.0]]), x, x[::-1]]))
    assert found[:, 0].tolist() == [1.0, 0.0]
    np.testing.assert_allclose(found[:, 1:17], tiny(x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 17:], tiny(x[::-1]), rtol=1e-4, atol=1e-5)


def test_fit_save_and_load(tiny, tmp_path):
    x = np.random.default_rng(0).random((4, 2, 67, 67, 3)).astype(np.float32)
    siamese = model.build_siamese(keras.models.clone_model(tiny), normalize=True)
    siamese.compile(keras.optimizers.SGD(0.01, momentum=0.9), losses.ContrastiveLoss())
    before = np.array(siamese(x))
    siamese.fit(x, np.array([1, 0, 1, 0], np.float32), verbose=0)
    after = np.array(siamese(x))
    assert np.abs(after - before).max() > 1e-6
    siamese.save(tmp_path / "whole.keras")
    np.testing.assert_allclose(keras.saving.load_model(tmp_path / "whole.keras")(x), after, rtol=1e-5, atol=1e-6)
    siamese.save_weights(tmp_path / "only.weights.h5")
    other = model.build_siamese(model.build_trunk("tiny", 16, 67), normalize=True)
    other.load_weights(tmp_path / "only.weights.h5")
    np.testing.assert_allclose(other(x), after, rtol=1e-5, atol=1e-6)


def test_mixed_precision_keeps_distances_in_float32():
    with runtime.precision("mixed_bfloat16"):
        siamese = model.build_siamese(model.build_trunk("tiny", 16, 67), normalize=True)
    assert (
        siamese.layers[1].compute_dtype == "bfloat16"
        or siamese.get_layer("tiny_trunk").layers[2].compute_dtype == "bfloat16"
    )
    found = siamese(np.random.default_rng(0).random((2, 2, 67, 67, 3)).astype(np.float32))
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1.0, rtol=1e-5)


def test_classifier_trains_the_trunk(tiny):
    classifier = model.build_classifier(tiny, 5)
    assert classifier.output_shape == (None, 5)
    assert classifier.count_params() == tiny.count_params() + 16 * 5 + 5
