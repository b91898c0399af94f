"""PerFrame against a loop over frames, StandardizeClip against NumPy, Conv3D against Keras's, on TensorFlow and on JAX."""

from helpers import runtime

runtime.quiet_start()

import os
import subprocess
import sys

import jax_twin
import keras
import numpy as np
import pytest
from keras import ops

from helpers.lip_reading import layers
from helpers.lip_reading.layers import STANDARDIZE, Conv3D, Folded, MaxPooling3D, PerFrame, StandardizeClip


def clips(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype("float32")


def encoder():
    """A small network for one frame whose BatchNorm has something to do."""
    inner = keras.Sequential(
        [keras.Input((8, 8, 2)), keras.layers.Conv2D(3, 3, 2), keras.layers.BatchNormalization(momentum=0.5)]
        + [keras.layers.ReLU(), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    rng = np.random.default_rng(5)
    inner.set_weights([rng.uniform(0.2, 1.0, v.shape) * rng.choice([-1, 1]) ** (v.ndim > 1) for v in inner.weights])
    return inner


def test_equals_the_network_frame_by_frame():
    inner, x = encoder(), clips(3, 5, 8, 8, 2)
    expected = np.stack([inner(x[:, t]) for t in range(5)], axis=1)
    found = PerFrame(inner)(x)
    assert found.shape == (3, 5, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found, keras.layers.TimeDistributed(inner)(x), rtol=1e-5, atol=1e-5)


def test_any_number_of_frames_and_any_size():
    inner = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 3, padding="same")])
    inputs = keras.Input((None, None, None, 1))
    model = keras.Model(inputs, PerFrame(inner)(inputs))
    assert model.output_shape == (None, None, None, None, 2)
    for shape in ((2, 3, 6, 4, 1), (1, 7, 5, 9, 1)):
        x = clips(*shape)
        expected = np.stack([inner(x[:, t]) for t in range(shape[1])], axis=1)
        np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5, atol=1e-5)


def test_batch_norm_sees_all_frames_at_once():
    x = clips(3, 5, 8, 8, 2)
    folded, plain = encoder(), encoder()
    PerFrame(folded)(x, training=True)
    plain(x.reshape(15, 8, 8, 2), training=True)
    for one, other in zip(folded.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert any(np.any(a != b) for a, b in zip(folded.get_weights(), encoder().get_weights(), strict=True))


def test_training_reaches_the_layer_within():
    layer, x = PerFrame(keras.layers.Dropout(0.5, seed=0)), np.ones((2, 3, 50), "float32")
    assert set(np.unique(layer(x, training=True))) == {0.0, 2.0}
    np.testing.assert_array_equal(layer(x, training=False), x)


def test_one_fit_step_and_saving(tmp_path):
    keras.utils.set_random_seed(0)  # with some first weights a ReLU is dead, and what is before it does not move
    inputs = keras.Input((5, 8, 8, 2))
    outputs = keras.layers.Flatten()(PerFrame(encoder(), name="frames")(StandardizeClip("motion")(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1)(outputs))
    model.compile("sgd", "mse")
    before = model.get_layer("frames").layer.get_weights()
    model.fit(clips(4, 5, 8, 8, 2), np.ones((4, 1)), verbose=0, shuffle=False)
    after = model.get_layer("frames").layer.get_weights()
    assert all(np.any(a != b) for a, b in zip(before, after, strict=True))
    x = clips(2, 5, 8, 8, 2, seed=1)
    model.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-6)
    assert [layer.mode for layer in again.layers if isinstance(layer, StandardizeClip)] == ["motion"]
    model.save_weights(tmp_path / "only.weights.h5")
    other = keras.models.clone_model(model)
    other.load_weights(tmp_path / "only.weights.h5")
    np.testing.assert_allclose(other(x), model(x), rtol=1e-5, atol=1e-6)


def standardize_by_numpy(clip, mode):
    clip = clip.astype("float64")
    if mode == "clip":
        return (clip - clip.mean()) / clip.std()
    if mode == "motion":
        rest = np.stack([frame - np.mean(clip, axis=0) for frame in clip])
        return rest / rest.std()
    return clip


@pytest.mark.parametrize("mode", STANDARDIZE)
@pytest.mark.parametrize("channels", [1, 3])
def test_standardize(mode, channels):
    x = clips(3, 4, 6, 5, channels) * np.array([1.0, 0.5, 0.2], "float32").reshape(3, 1, 1, 1, 1)  # own light each
    layer = StandardizeClip(mode)
    expected = np.stack([standardize_by_numpy(clip, mode) for clip in x])
    np.testing.assert_allclose(layer(x), expected, rtol=1e-3, atol=1e-3)
    still = np.asarray(layer(np.full((1, 4, 6, 5, 1), 0.7, "float32")))
    np.testing.assert_allclose(still, 0.7 if mode == "none" else 0.0, atol=1e-3)


def test_motion_does_not_see_who_speaks():
    x, face = 0.5 * clips(1, 4, 6, 5, 1), 0.5 * clips(1, 1, 6, 5, 1, seed=9)
    motion, clip = StandardizeClip("motion"), StandardizeClip("clip")
    np.testing.assert_allclose(motion(x + face), motion(x), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(clip(0.7 * x + 0.2), clip(x), rtol=1e-3, atol=1e-3)
    assert np.abs(np.asarray(clip(x + face)) - np.asarray(clip(x))).max() > 0.1


@keras.saving.register_keras_serializable("tests")
class Shift(keras.layers.Layer):
    """Adds a trainable clip to its input, so that one step of SGD shows the gradient of the input, too."""

    def build(self, shape):
        self.change = self.add_weight(shape=shape[1:], initializer="zeros", name="change")

    def call(self, inputs):
        return inputs + self.change


def outputs_and_gradients(layer, x):
    """The outputs of a layer, and what its input and its weights lose in one step of SGD with rate 1."""
    shift = Shift()
    model = keras.Sequential([keras.Input(x.shape[1:]), shift, layer])
    if layer.weights:
        rng = np.random.default_rng(3)
        layer.set_weights([rng.normal(size=weight.shape) for weight in layer.weights])
    outputs, before = np.asarray(model(x)), model.get_weights()
    assert model.output_shape[1:] == outputs.shape[1:] == layer.compute_output_shape(x.shape)[1:]
    model.compile(keras.optimizers.SGD(1.0), lambda wanted, found: ops.sum(wanted * found), run_eagerly=True)
    model.train_on_batch(x, np.random.default_rng(4).normal(size=outputs.shape).astype("float32"))
    return [outputs, *(old - new for old, new in zip(before, model.get_weights(), strict=True))]


def agree(ours, theirs, x, monkeypatch):
    """Ours computes by 2-D layers, theirs as Keras does; each number may differ by 1e-5 of the largest."""
    calls = []
    genuine = layers.per_frame
    monkeypatch.setattr(layers, "fold_time", lambda: True)
    monkeypatch.setattr(layers, "per_frame", lambda *arguments: calls.append(1) or genuine(*arguments))
    for one, other in zip(outputs_and_gradients(ours, x), outputs_and_gradients(theirs, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * max(1, np.abs(other).max()))
    return bool(calls)


CONVOLUTIONS = [  # frames, height, width, channels; filters, kernel, options
    ((16, 8, 8, 1), 3, (5, 5, 5), {"strides": (1, 2, 2), "padding": "same", "use_bias": False}),  # tiny
    ((6, 7, 9, 2), 3, (1, 3, 3), {"strides": (1, 2, 2), "padding": "same", "use_bias": False}),
    ((7, 9, 9, 1), 2, (5, 7, 7), {"strides": (1, 2, 2), "padding": "same", "use_bias": False}),  # the standard recipe
    ((7, 6, 5, 2), 3, (3, 3, 3), {"padding": "valid", "activation": "tanh"}),
    ((7, 6, 5, 2), 3, (4, 2, 3), {"padding": "same"}),  # even: the odd frame of the padding is at the end
    ((8, 6, 6, 2), 3, (3, 3, 3), {"strides": (2, 1, 1), "padding": "same"}),
    ((7, 6, 6, 2), 3, (3, 3, 3), {"strides": (2, 2, 2), "padding": "same"}),
    ((9, 6, 6, 2), 3, (2, 3, 3), {"strides": (3, 2, 1), "padding": "valid"}),
    ((9, 6, 6, 1), 2, (1, 1, 1), {"strides": (2, 2, 2), "padding": "same"}),  # skips more than it sees
    ((9, 8, 8, 2), 3, (3, 3, 2), {"dilation_rate": (2, 1, 2), "padding": "same"}),
    ((9, 8, 8, 2), 3, (3, 3, 3), {"dilation_rate": (3, 2, 1), "padding": "valid"}),
    ((2, 5, 5, 3), 4, (5, 3, 3), {"padding": "same"}),  # fewer frames than the kernel
]


@pytest.mark.parametrize("shape, filters, kernel, options", CONVOLUTIONS)
def test_conv3d_equals_kerass(shape, filters, kernel, options, monkeypatch):
    x = np.random.default_rng(1).normal(size=(2, *shape)).astype("float32")
    ours, theirs = Conv3D(filters, kernel, **options), keras.layers.Conv3D(filters, kernel, **options)
    assert agree(ours, theirs, x, monkeypatch), "it computed by 2-D layers"
    assert ours.count_params() == theirs.count_params() and {w.path.split("/")[-1] for w in ours.weights} == {
        w.path.split("/")[-1] for w in theirs.weights
    }
    config = {key: value for key, value in ours.get_config().items() if key != "name"}
    assert config == {key: value for key, value in theirs.get_config().items() if key != "name"}


@pytest.mark.parametrize("groups, folds", [(1, True), (2, False)])
def test_groups_are_left_to_keras(groups, folds, monkeypatch):
    x = np.random.default_rng(1).normal(size=(2, 5, 6, 6, 2)).astype("float32")
    one, other = (kind(4, 3, padding="same", groups=groups) for kind in (Conv3D, keras.layers.Conv3D))
    assert agree(one, other, x, monkeypatch) == folds


@pytest.mark.parametrize(
    "pool, options, folds",
    [
        ((1, 2, 2), {}, True),
        ((1, 3, 3), {"strides": (1, 2, 2), "padding": "same"}, True),
        ((2, 2, 2), {}, False),
        ((1, 2, 2), {"strides": (2, 2, 2)}, False),
    ],
)
def test_max_pooling_equals_kerass(pool, options, folds, monkeypatch):
    x = np.random.default_rng(1).normal(size=(2, 5, 7, 8, 3)).astype("float32")
    assert agree(MaxPooling3D(pool, **options), keras.layers.MaxPooling3D(pool, **options), x, monkeypatch) == folds


@pytest.mark.parametrize("stride, padding", [(1, "same"), (1, "valid"), (2, "valid"), (2, "same")])
def test_conv3d_over_any_number_of_frames(stride, padding, monkeypatch):
    monkeypatch.setattr(layers, "fold_time", lambda: True)
    inputs = keras.Input((None, None, None, 2))
    ours, theirs = (kind(3, 3, (stride, 2, 1), padding) for kind in (Conv3D, keras.layers.Conv3D))
    models = [keras.Model(inputs, layer(inputs)) for layer in (ours, theirs)]
    theirs.set_weights(ours.get_weights())
    for shape in ((2, 5, 6, 7, 2), (1, 8, 5, 5, 2)):
        one, other = (model.predict(clips(*shape), verbose=0) for model in models)
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_conv3d_in_mixed_precision(policy, monkeypatch):
    monkeypatch.setattr(layers, "fold_time", lambda: True)
    x, layer, exact = clips(1, 5, 8, 8, 2), Conv3D(3, 3, dtype=policy), keras.layers.Conv3D(3, 3)
    found = layer(x)
    exact.build(x.shape)
    exact.set_weights(layer.get_weights())
    assert keras.backend.standardize_dtype(found.dtype) == policy[6:]
    np.testing.assert_allclose(np.asarray(ops.cast(found, "float32")), exact(x), atol=0.05)


@pytest.mark.parametrize("folded", [False, True])
def test_weights_of_keras_and_of_ours_are_one_file(tmp_path, folded, monkeypatch):
    monkeypatch.setattr(layers, "fold_time", lambda: folded)

    def build(kind, pool):
        return keras.Sequential(
            [keras.Input((5, 8, 8, 1)), kind(2, 3, name="a"), pool((1, 2, 2)), kind(3, 2, name="b")]
        )

    ours, theirs, x = (
        build(Conv3D, MaxPooling3D),
        build(keras.layers.Conv3D, keras.layers.MaxPooling3D),
        clips(2, 5, 8, 8, 1),
    )
    for one, other in ((ours, theirs), (theirs, ours)):
        one.set_weights([np.random.default_rng(9).normal(size=w.shape) for w in one.weights])
        one.save_weights(tmp_path / "one.weights.h5")
        other.set_weights([0 * w for w in other.get_weights()])
        other.load_weights(tmp_path / "one.weights.h5")
        np.testing.assert_allclose(one(x), other(x), rtol=1e-4, atol=1e-5)
    ours.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    assert [type(layer) for layer in again.layers] == [Conv3D, MaxPooling3D, Conv3D]
    np.testing.assert_array_equal(again(x), ours(x))


@pytest.mark.parametrize("fast, kind, folds", [(True, "CPU", False), (False, "CPU", True), (False, "GPU", False)])
def test_time_is_folded_on_cpus_without_onednn(fast, kind, folds, monkeypatch):
    monkeypatch.setattr(runtime, "onednn", lambda: fast)
    monkeypatch.setattr(runtime, "devices", lambda: [{"kind": kind}])
    assert layers.fold_time() == folds


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="oneDNN is TensorFlow's")
@pytest.mark.parametrize("switch", ["0", "1"])
def test_onednn_is_what_tensorflow_was_told(switch):
    told = "from helpers import runtime; runtime.quiet_start(); print(runtime.onednn())"
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": switch}
    done = subprocess.run(
        [sys.executable, "-c", told], capture_output=True, text=True, env=environment, cwd=runtime.repo_root()
    )
    assert done.stdout.strip() == str(switch == "1"), done.stderr


LAYERS = [
    (lambda **o: Conv3D(3, 2, name="own", **o), {"name": "own", "filters": 3, "kernel_size": (2, 2, 2)}),
    (lambda **o: MaxPooling3D((1, 2, 2), name="own", **o), {"name": "own", "pool_size": (1, 2, 2)}),
    (lambda **o: StandardizeClip("motion", name="own", **o), {"mode": "motion", "name": "own"}),
    (lambda **o: PerFrame(keras.layers.Dense(3), name="own", **o), {"name": "own"}),
    (lambda **o: Folded(Conv3D(3, 2), name="own", **o), {"name": "own"}),
]


@pytest.mark.parametrize("make, options", LAYERS)
def test_layers_as_keras_wants_them(make, options):
    layer, x = make(), clips(2, 3, 4, 5, 2)
    outputs = layer(x)
    assert {key: layer.get_config()[key] for key in options} == options
    again = type(layer).from_config(layer.get_config())
    again.build(x.shape)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), outputs)
    assert make()(keras.KerasTensor((None, *x.shape[1:]))).shape[1:] == tuple(outputs.shape[1:])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    inner = keras.layers.Dense(3, dtype=policy)
    assert keras.backend.standardize_dtype(PerFrame(inner, dtype=policy)(clips(2, 3, 4)).dtype) == policy[6:]
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        layer, x = (
            StandardizeClip("clip"),
            0.5 + 0.01 * clips(1, 4, 8, 8, 1),
        )  # rounded first, steps of 0.002 would stay
        assert keras.backend.standardize_dtype(layer(x).dtype) == "float32"
        np.testing.assert_allclose(layer(x)[0], standardize_by_numpy(x[0], "clip"), atol=0.1)
    finally:
        keras.config.set_dtype_policy(before)


def test_layers_compute_by_2d_ones_inside_folded_and_not_after_it(monkeypatch):
    monkeypatch.setattr(runtime, "onednn", lambda: True)
    seen = []
    monkeypatch.setattr(
        layers, "per_frame", lambda function, x, kept=layers.per_frame: seen.append(1) or kept(function, x)
    )
    pool, x = MaxPooling3D((1, 2, 2)), clips(2, 5, 8, 8, 1)
    np.testing.assert_array_equal(Folded(pool)(x), pool(x))
    assert seen == [1]


def test_bad_mode():
    with pytest.raises(ValueError, match=r"mode must be one of clip, motion, none\. Received: mode='frame'"):
        StandardizeClip("frame")


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = [
        *("frame_by_frame", "any_size", "all_frames_at_once", "test_standardize and 3-motion"),
        *("conv3d_equals_kerass and shape0", "any_number_of_frames and 1-same"),
        *("learns_one_step and openav", "learns_one_step and tiny"),
        "gradient_equals",
    ]  # fmt: skip
    files = ["lip_layers", "lip_model", "lip_evaluation"]
    quick = "--xla_backend_optimization_level=0"  # half the time to compile
    said = jax_twin.run(__file__, files, names, XLA_FLAGS=quick)
    assert f"\n{len(names)} passed" in said, said
