"""PerFrame against a loop over frames, StandardizeClip against NumPy, on TensorFlow and on JAX."""

from helpers import runtime

runtime.quiet_start()

import jax_twin
import keras
import numpy as np
import pytest

from helpers.lip_reading.layers import STANDARDIZE, PerFrame, StandardizeClip


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


LAYERS = [
    (lambda **o: StandardizeClip("motion", name="own", **o), {"mode": "motion", "name": "own"}),
    (lambda **o: PerFrame(keras.layers.Dense(3), name="own", **o), {"name": "own"}),
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


def test_bad_mode():
    with pytest.raises(ValueError, match=r"mode must be one of clip, motion, none\. Received: mode='frame'"):
        StandardizeClip("frame")


@jax_twin.needs_jax
def test_the_same_on_jax():
    names = [
        "frame_by_frame", "any_size", "all_frames_at_once", "test_standardize and 3-motion",
        "learns_one_step and openav", "learns_one_step and tiny",
        "undone and two_epochs", "gradient_equals",
    ]  # fmt: skip
    files = ["lip_layers", "lip_model", "lip_early_stop", "lip_saliency"]
    quick = "--xla_backend_optimization_level=0"  # half the time to compile
    said = jax_twin.run(__file__, files, names, XLA_FLAGS=quick)
    assert f"\n{len(names)} passed" in said, said
