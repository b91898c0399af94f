"""The classifier: published sizes, sampling of frames, training, saving."""

from helpers import runtime

runtime.quiet_start()

import math

import keras
import numpy as np
import pytest

from helpers.circulant_video import losses, model
from helpers.circulant_video.layers import sampling

VIDEO, BOTH = (1024,), (1024, 128)
FULL = [  # features, options, all, trainable (None: not in the publication's code)
    (VIDEO, {}, 45_359_764, 45_334_632),
    (VIDEO, {"compact": ("embedding",)}, 36_987_540, 36_962_408),
    (VIDEO, {"compact": ("fc",)}, 41_181_844, 41_156_712),
    (VIDEO, {"compact": ("fc",), "factors": 3}, 41_214_612, 41_189_480),
    (VIDEO, {"compact": ("fc",), "factors": 6}, 41_263_764, 41_238_632),
    (VIDEO, {"compact": ("fc",), "diagonal": "fixed"}, 41_181_844, 41_148_520),
    (VIDEO, {"compact": ("moe",)}, 12_668_504, 12_651_096),
    (VIDEO, {"gating": False}, 30_429_272, 30_411_864),
    (VIDEO, {"compact": model.PARTS}, 118_360, 100_952),
    (BOTH, {}, 65_795_732, 65_761_384),
    (BOTH, {"compact": ("embedding",)}, 56_907_412, 56_873_064),
    (BOTH, {"compact": ("fc",)}, 59_528_852, 59_494_504),
    (BOTH, {"compact": ("moe",)}, 15_308_888, 15_282_264),
    (BOTH, {"compact": model.PARTS}, 153_688, 127_064),
    (BOTH, {"embedding": "netvlad", "clusters": 64}, 86_333_460, None),
    (BOTH, {"embedding": "netvlad", "clusters": 64, "compact": ("fc",)}, 50_821_140, None),
    (BOTH, {"embedding": "netfv", "clusters": 64}, 122_054_676, None),
    (BOTH, {"embedding": "netfv", "clusters": 64, "compact": ("fc",)}, 51_030_036, None),
    (BOTH, {"classes": 4716}, 80_998_640, None),
    (BOTH, {"branches": 1}, 45_359_764, 45_334_632),
]
SMALL = {
    "feature_sizes": (64, 16), "classes": 24, "clusters": 256, "hidden": 64, "mixtures": 2,
    "bags": 4, "iterations": 6, "momentum": 0.9, "seed": 0,
}  # fmt: skip
SMALL_COUNTS = [
    ({}, 61_136),
    ({"compact": ("fc",)}, 37_328),
    ({"compact": ("fc",), "factors": 3}, 38_864),
    ({"compact": ("fc",), "diagonal": "fixed"}, 37_328),
    ({"compact": ("embedding",)}, 43_472),
    ({"compact": ("moe",)}, 45_360),
    ({"compact": ("moe",), "gating": True}, 46_032),
    ({"gating": False}, 60_464),
    ({"rank": 2}, 37_584),
    ({"embedding": "netvlad", "clusters": 16}, 92_720),
    ({"embedding": "netvlad", "clusters": 16, "compact": ("fc",)}, 21_296),
    ({"embedding": "netfv", "clusters": 16}, 167_600),
    ({"embedding": "netfv", "clusters": 16, "compact": ("fc",)}, 24_752),
]


def trainable(network):
    return sum(math.prod(v.shape) for v in network.trainable_weights)


@pytest.mark.parametrize("features, options, count, learned", FULL)
def test_parameter_counts_at_full_size(features, options, count, learned):
    with keras.StatelessScope(initialize_variables=False):  # shapes only: no gigabytes of random numbers
        network = model.build_classifier(features, **options)
    assert network.count_params() == count
    assert learned is None or trainable(network) == learned
    assert network.output_shape == (None, options.get("classes", 3862))


@pytest.mark.parametrize("options, count", SMALL_COUNTS)
def test_parameter_counts_at_small_size(options, count):
    network = model.build_classifier(**SMALL | options)
    assert network.count_params() == count
    p = np.asarray(network(videos()))
    assert p.shape == (6, 24) and p.dtype == "float32" and p.min() >= 0 and p.max() <= 1


def test_a_layer_of_low_rank_is_a_product_of_two():
    network = model.build_classifier(**SMALL, rank=2)
    inputs, outputs = network.get_layer("fc_0_rank"), network.get_layer("fc_0")
    matrix = np.asarray(inputs.kernel) @ np.asarray(outputs.kernel)
    assert matrix.shape == (256, 64) and np.linalg.matrix_rank(matrix, tol=1e-5) == 2
    x = np.random.default_rng(0).normal(size=(3, 256)).astype("float32")
    np.testing.assert_allclose(outputs(inputs(x)), x @ matrix, atol=1e-5)


def videos(num_frames=(40, 20, 1, 7, 33, 0), length=40, seed=0):
    frames = np.random.default_rng(seed).integers(0, 256, (len(num_frames), length, 80), dtype=np.uint8)
    return {"frames": frames, "num_frames": np.array(num_frames, "int32")}


@pytest.mark.parametrize("training", [False, True])
def test_padded_frames_never_matter(training):
    inputs = videos()
    changed = {**inputs, "frames": inputs["frames"].copy()}
    for frames, n in zip(changed["frames"], inputs["num_frames"], strict=True):
        frames[n:] = 255 - frames[n:]
    network = model.build_classifier(**SMALL)
    state = [np.array(v) for v in network.variables]  # with the seed of the draws

    def answer(x):
        for variable, value in zip(network.variables, state, strict=True):
            variable.assign(value)
        return np.asarray(network(x, training=training))

    expected = answer(inputs)
    np.testing.assert_array_equal(answer(changed), expected)
    genuine = {**changed, "frames": changed["frames"] // 2}
    assert np.abs(answer(genuine)[0] - expected[0]).max() > 1e-4


def sampled(num_frames, *, length=50, bags=2, iterations=3, training=False, **options):
    """Which frames a layer drew: frame t is the unit vector (cos, sin) of its own angle."""
    angle = np.arange(length) * 2 * np.pi / 64
    frames = np.repeat(np.stack([np.cos(angle), np.sin(angle)], -1)[None], len(num_frames), 0).astype("float32")
    layer = sampling.SampleFrames(bags, iterations, **options)
    found = np.asarray(layer(frames, np.array(num_frames), training=training))
    assert found.shape == (len(num_frames) * bags, iterations, 2)
    index = np.round(np.arctan2(found[..., 1], found[..., 0]) * 64 / (2 * np.pi)) % 64
    return index.reshape(len(num_frames), bags, iterations)


def test_even_sampling_by_hand():
    # six places in 12 frames: the middles of sixths, 1 3 5 7 9 11, dealt to two bags
    assert sampled([12])[0].tolist() == [[1, 5, 9], [3, 7, 11]]
    assert sampled([1, 3]).tolist() == [[[0, 0, 0], [0, 0, 0]], [[0, 1, 2], [0, 1, 2]]]
    np.testing.assert_array_equal(sampled([12]), sampled([12]))


def test_random_sampling_is_uniform_over_the_genuine_frames():
    index = sampled([7, 50, 1], bags=10, iterations=300, training=True, seed=1)
    counts = np.bincount(index[0].astype(int).ravel(), minlength=50)
    assert counts[7:].sum() == 0 and np.abs(counts[:7] / 3000 - 1 / 7).max() < 0.03
    assert set(np.unique(index[1])) == set(range(50)) and set(np.unique(index[2])) == {0}
    assert np.any(index[0, 0] != index[0, 1]) and np.any(np.diff(index[1, 0]) < 0)


def test_a_draw_next_to_one_is_still_a_genuine_frame(monkeypatch):
    monkeypatch.setattr(keras.random, "uniform", lambda shape, seed: np.ones(shape, "float32"))
    assert sampled([7, 50], training=True)[:, 0, 0].tolist() == [6, 49]


def test_draws_are_a_state_of_the_model():
    layer = sampling.SampleFrames(2, 3)
    states = [v for v in layer.variables if "seed_generator" in v.path]
    assert len(states) == 1
    start = np.array(states[0])
    first, second = (np.asarray(layer(**videos(), training=True)) for _ in range(2))
    assert np.any(first != second)
    states[0].assign(start)
    np.testing.assert_array_equal(layer(**videos(), training=True), first)


def test_features_of_sampled_frames():
    codes = np.zeros((1, 2, 4), np.uint8)
    codes[0, 0] = [0, 127, 128, 255]
    layer = sampling.SampleFrames(1, 1)
    values = np.array([-1.9921875, -0.0000306, 0.01566, 2.0078125])
    np.testing.assert_allclose(layer(codes, np.array([1]))[0, 0], values / np.linalg.norm(values), atol=1e-5)
    np.testing.assert_allclose(layer(2 * values.reshape(1, 1, 4), np.array([1]))[0, 0], values / 2.8284, atol=1e-3)
    assert not np.any(layer(codes, np.array([0]))) and not np.any(layer(np.zeros((1, 2, 4)), np.array([2])))
    assert np.all(np.isfinite(layer(codes, np.array([99]))))  # a count beyond the frames reads the last one


def test_bags_are_averaged_before_the_fully_connected_layer():
    network = model.build_classifier(**SMALL)
    inputs = videos()
    pooled = keras.Model(network.inputs, network.get_layer("dbof_0").output)([inputs["frames"], inputs["num_frames"]])
    averaged = keras.Model(network.inputs, network.get_layer("fc_0").input)
    averaged = averaged([inputs["frames"], inputs["num_frames"]])
    np.testing.assert_allclose(averaged, np.asarray(pooled).reshape(6, 4, 256).mean(1), rtol=1e-5, atol=1e-6)


def test_an_unused_feature_still_counts_in_the_length():
    network = model.build_classifier(**SMALL, branches=1)
    inputs = videos()
    louder = {**inputs, "frames": inputs["frames"].copy()}
    louder["frames"][..., 64:] = 255
    assert np.abs(np.asarray(network(louder)) - np.asarray(network(inputs))).max() > 1e-6


@pytest.mark.parametrize("options", [{"compact": ("fc",), "diagonal": "fixed"}, {"embedding": "netfv", "clusters": 4}])
def test_one_step_fit_save_and_load(options, tmp_path):
    keras.utils.set_random_seed(0)
    network = model.build_classifier(**SMALL | options)
    network.compile(keras.optimizers.Adam(4e-3, clipnorm=1.0), losses.SummedCrossEntropy())
    x, y = videos(), np.random.default_rng(0).integers(0, 2, (6, 24)).astype("float32")
    before = [np.array(v) for v in network.trainable_weights]
    network.fit(x, y, verbose=0, shuffle=False)
    assert all(np.any(np.asarray(v) != b) for v, b in zip(network.trainable_weights, before, strict=True))
    assert all(np.all(np.isfinite(v)) for v in network.get_weights())
    network.save(tmp_path / "whole.keras")
    loaded = keras.saving.load_model(tmp_path / "whole.keras")
    np.testing.assert_allclose(loaded(x), network(x), rtol=1e-5, atol=1e-6)
    network.save_weights(tmp_path / "only.weights.h5")
    other = model.build_classifier(**SMALL | options)
    assert np.abs(np.asarray(other(x)) - np.asarray(network(x))).max() > 1e-5
    other.load_weights(tmp_path / "only.weights.h5")
    np.testing.assert_allclose(other(x), network(x), rtol=1e-5, atol=1e-6)


def test_learns_a_tiny_problem():
    keras.utils.set_random_seed(1)
    options = {"feature_sizes": (16, 8), "classes": 3, "clusters": 32, "hidden": 16, "iterations": 4, "momentum": 0.9}
    network = model.build_classifier(**SMALL | options | {"compact": ("fc",)})
    network.compile(keras.optimizers.Adam(0.02, clipnorm=1.0), losses.SummedCrossEntropy())
    rng = np.random.default_rng(0)
    kinds = rng.integers(0, 3, 48)
    frames = np.clip(128 + 60 * rng.normal(size=(3, 24))[kinds][:, None] + 20 * rng.normal(size=(48, 12, 24)), 0, 255)
    x = {"frames": frames.astype("uint8"), "num_frames": rng.integers(1, 13, 48).astype("int32")}
    network.fit(x, np.eye(3)[kinds], epochs=30, batch_size=48, verbose=0, shuffle=False)
    assert np.mean(network.predict(x, verbose=0).argmax(1) == kinds) > 0.9


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_answers_in_float32(policy):
    keras.utils.set_random_seed(0)
    whole = model.build_classifier(**SMALL, compact=("fc",))
    with runtime.precision(policy):
        half = model.build_classifier(**SMALL, compact=("fc",))
        half.set_weights(whole.get_weights())
        found = half(videos())
        half.compile(keras.optimizers.SGD(0.01), losses.SummedCrossEntropy())
        half.fit(videos(), np.ones((6, 24)), verbose=0, shuffle=False)
    assert half.get_layer("dbof_0").compute_dtype == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(found.dtype) == "float32"
    np.testing.assert_allclose(found, whole(videos()), atol=0.02)
    assert all(np.all(np.isfinite(v)) for v in half.get_weights())


def test_frames_of_the_wrong_type_are_refused():
    inputs = videos()
    with pytest.raises(TypeError, match=r"reads uint8 frames\. Received: frames of type float32"):
        model.build_classifier(**SMALL)({**inputs, "frames": inputs["frames"].astype("float32")})


@pytest.mark.parametrize(
    "options, words",
    [
        ({"embedding": "lstm"}, "embedding must be one of dbof, netvlad, netfv. Received: embedding='lstm'"),
        ({"compact": ("fc", "dbof")}, "compact must be a tuple of some of embedding, fc, moe"),
        ({"compact": "fc"}, "compact must be a tuple"),
        ({"compact": ("embedding",), "embedding": "netfv"}, "only the embedding 'dbof' has a circulant form"),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        model.build_classifier(**SMALL | options)


def test_config_of_the_small_layers():
    options = {"bags": 3, "iterations": 7, "seed": 5, "name": "own"}
    layer = sampling.SampleFrames(**options)
    assert {key: layer.get_config()[key] for key in options} == options
    assert sampling.SampleFrames.from_config(layer.get_config()).get_config() == layer.get_config()
    symbolic = layer(keras.KerasTensor((None, None, 4), dtype="uint8"), keras.KerasTensor((None,), dtype="int32"))
    assert symbolic.shape == (None, 7, 4) and symbolic.dtype == "float32"
