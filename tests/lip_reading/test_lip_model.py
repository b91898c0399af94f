"""The three networks: known parameter counts, the shapes of OpenAV's table, the two kinds of residual block by hand."""

from helpers import runtime

runtime.quiet_start()

import functools
import inspect

import keras
import numpy as np
import pytest

from helpers.lip_reading import layers, model

SMALL = {  # options that make each network quick to build and to train on 32 pixels
    "openav": {"size": 32, "filters": 4, "units": 6},
    "conv3d_bigru": {"size": 32, "filters": 4, "units": 5, "recurrent_layers": 2},
    "tiny": {"size": 32, "filters": (4, 5, 6), "features": 7, "units": 6},
}
build_openav = functools.cache(model.build_openav)


def small(name, num_classes=3, frames=5, **options):
    keras.utils.set_random_seed(0)
    return model.BUILDERS[name](num_classes, frames=frames, **{**SMALL[name], **options})


def clips(*shape, seed=0):
    return np.random.default_rng(seed).random(shape).astype("float32")


@pytest.mark.parametrize(
    "num_classes, channels, size, count",
    [(26, 1, 112, 15_396_314), (26, 3, 112, 15_402_586), (500, 1, 112, 15_639_476), (26, 3, 88, 15_402_586)],
)
def test_parameter_counts_of_openav(num_classes, channels, size, count):
    net = build_openav(num_classes, channels, size)
    assert net.count_params() == count
    assert net.input_shape == (None, 29, size, size, channels) and net.output_shape == (None, num_classes)
    encoder = net.get_layer("per_frame").layer
    assert encoder.count_params() == {1: 11_184_576, 3: 11_190_848}[channels]
    assert sum(int(np.prod(v.shape)) for v in encoder.non_trainable_variables) == 9_600
    assert net.get_layer("lstm1").count_params() == net.get_layer("lstm2").count_params() == 2_099_200


@pytest.mark.parametrize("channels, size, sides", [(1, 112, [56, 28, 28, 14, 7, 4]), (3, 88, [44, 22, 22, 11, 6, 3])])
def test_shapes_of_openavs_table(channels, size, sides):
    encoder = build_openav(26, channels, size).get_layer("per_frame").layer
    names = ["conv1_relu", "pool1", *(f"stage{stage}_block2" for stage in (1, 2, 3, 4))]
    filters = [64, 64, 64, 128, 256, 512]
    found = [encoder.get_layer(name).output.shape for name in names]
    assert found == [(None, side, side, width) for side, width in zip(sides, filters, strict=True)]
    assert encoder.output_shape == (None, 512)


def test_what_openav_is_made_of():
    net = build_openav(26, 1, 112)
    names = ["clip", "standardize", "per_frame", "lstm1", "dropout1", "lstm2", "dropout2", "logits"]
    assert [layer.name for layer in net.layers] == names
    assert not any(isinstance(layer, keras.layers.TimeDistributed) for layer in net.layers)
    assert [net.get_layer(f"dropout{n}").rate for n in (1, 2)] == [0.2, 0.2]
    encoder = net.get_layer("per_frame").layer
    assert not encoder.get_layer("conv1").use_bias and encoder.get_layer("stage2_block1_shortcut").use_bias
    norms = [layer for layer in encoder.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == 20 and {(norm.momentum, norm.epsilon) for norm in norms} == {(0.99, 0.001)}


def test_trainable_parameters_of_the_standard_recipe():
    # ResNet-18 has 11 689 512 in torchvision, of which 513 000 in fc, 9 408 in conv1, 128 in bn1
    resnet = 11_689_512 - 513_000 - 9_408 - 128
    grus = [2 * 3 * (size * 256 + 256 * 256 + 2 * 256) for size in (512, 512, 512)]  # with both biases, as in cuDNN
    expected = 5 * 7 * 7 * 64 + 2 * 64 + resnet + 2 * 512 + sum(grus) + 513 * 500
    net = model.build_conv3d_bigru(500, units=256)  # a quarter of the recipe's, which takes seconds to initialise
    assert sum(int(np.prod(v.shape)) for v in net.trainable_variables) == expected
    assert net.get_layer("pool1").output.shape == (None, 29, 22, 22, 64)
    assert net.get_layer("gru3").output.shape == (None, 29, 512)
    assert inspect.signature(model.build_conv3d_bigru).parameters["units"].default == 1024


def test_tiny():
    net = model.build_tiny(8)
    assert net.count_params() == 33_732 and net.input_shape == (None, 16, 32, 32, 1)
    assert net.get_layer("flatten_frames").output.shape == (None, 16, 128)
    assert net.get_layer("standardize").mode == "motion" and net.get_layer("conv2_norm").momentum == 0.9


@pytest.mark.parametrize("openav, expected", [(True, [0.0, 2.0]), (False, [0.0, 1.0])])
def test_residual_block_by_hand(openav, expected):
    """The branch gives -1 everywhere: OpenAV's ReLU makes that 0 before the sum, the usual block adds it."""
    inputs = keras.Input((1, 1, 2))
    block = keras.Model(inputs, model.residual_block(inputs, 2, 1, openav=openav, momentum=0.9, name="b"))
    norm = block.get_layer("b_conv2_norm")
    norm.gamma.assign([0.0, 0.0])
    norm.beta.assign([-1.0, -1.0])
    x = np.array([-1.0, 2.0], "float32").reshape(1, 1, 1, 2)
    np.testing.assert_allclose(np.ravel(block(x)), expected, atol=1e-6)
    assert block.get_layer("b_conv1").use_bias == openav


@pytest.mark.parametrize("name", model.BUILDERS)
def test_learns_one_step(name, tmp_path):
    net = small(name, frames=None, standardize="motion")
    x, y = clips(4, 5, 32, 32, 1), np.array([0, 1, 2, 1])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    eagerly = keras.backend.backend() == "tensorflow"  # the graph of a ResNet takes longer than one step
    net.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=eagerly)
    before = [np.array(v) for v in net.trainable_variables]
    first = net.train_on_batch(x, y)
    assert np.isfinite(first) and all(
        np.any(np.array(v) != b) for v, b in zip(net.trainable_variables, before, strict=True)
    )
    assert net(clips(2, 7, 32, 32, 1)).shape == (2, 3)  # other numbers of clips and frames
    net.save_weights(tmp_path / "only.weights.h5")
    other = small(name, frames=5, standardize="motion")
    other.load_weights(tmp_path / "only.weights.h5")
    np.testing.assert_allclose(other(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", model.BUILDERS)
def test_whole_model_is_saved_with_its_options(name, tmp_path):
    net = small(name, channels=3, momentum=0.8, standardize="none", dropout=0.3)
    net.save(tmp_path / "whole.keras")
    again = keras.saving.load_model(tmp_path / "whole.keras")
    x = clips(2, 5, 32, 32, 3)
    np.testing.assert_allclose(again(x), net(x), rtol=1e-5, atol=1e-5)
    assert again.get_layer("standardize").mode == "none"
    parts = (
        [*again.layers, *getattr(again.get_layer("per_frame"), "layer", again).layers]
        if name != "tiny"
        else again.layers
    )
    assert {part.momentum for part in parts if isinstance(part, keras.layers.BatchNormalization)} == {0.8}
    assert 0.3 in {part.rate for part in again.layers if isinstance(part, keras.layers.Dropout)}


@pytest.mark.parametrize("name", model.BUILDERS)
def test_the_order_of_frames_counts(name):
    net, x = small(name), clips(2, 5, 32, 32, 1)
    assert np.abs(np.asarray(net(x[:, ::-1])) - np.asarray(net(x))).max() > 1e-4


def test_standard_recipe_averages_the_logits_of_all_frames():
    net = small("conv3d_bigru")
    frames = keras.Model(net.input, net.get_layer("frame_logits").output)
    x = clips(2, 5, 32, 32, 1)
    np.testing.assert_allclose(net(x), np.mean(frames(x), axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", model.BUILDERS)
def test_mixed_precision(name):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        net = small(name)
        outputs = net(clips(2, 5, 32, 32, 1), training=True)
        assert keras.backend.standardize_dtype(outputs.dtype) == "float32" and np.isfinite(outputs).all()
        assert net.get_layer("standardize").compute_dtype == "float32"
        assert net.get_layer("per_frame" if name != "tiny" else "conv2").compute_dtype == "bfloat16"
    finally:
        keras.config.set_dtype_policy(before)


@pytest.mark.parametrize("name", ["conv3d_bigru", "tiny"])
def test_with_time_folded_the_networks_are_the_same(name, monkeypatch):
    x, outputs = clips(2, 5, 32, 32, 1), []
    for folded in (False, True):
        monkeypatch.setattr(layers, "fold_time", lambda folded=folded: folded)
        net = small(name)
        outputs.append(np.asarray(net(x)))
        assert net.count_params() == small(name).count_params()
    np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)
    kinds = [layer for layer in net.layers if isinstance(layer, keras.layers.Conv3D | keras.layers.MaxPooling3D)]
    assert kinds and all(isinstance(layer, layers.Conv3D | layers.MaxPooling3D) for layer in kinds)


@pytest.mark.parametrize("size", [None, (24, 40)])
def test_other_sizes(size):
    net = model.build_openav(3, size=size, frames=None, filters=2, units=4)
    assert net(clips(1, 2, 24, 40, 1)).shape == (1, 3)
    assert size or net(clips(1, 3, 17, 9, 1)).shape == (1, 3)


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("openav", {"num_classes": 0}, "num_classes must be an int of at least 1. Received: num_classes=0"),
        ("openav", {"channels": None}, "channels must be an int"),
        ("openav", {"size": 2}, "height must be an int of at least 3"),
        ("openav", {"size": (112, 0)}, "width must be an int of at least 3"),
        ("conv3d_bigru", {"frames": 0}, "frames must be an int of at least 1"),
        ("conv3d_bigru", {"standardize": "frame"}, "mode must be one of clip, motion, none"),
        ("tiny", {"size": None}, "size must be an int or"),
        ("tiny", {"size": (32, None)}, "size must be an int or"),
    ],
)
def test_bad_arguments(name, options, words):
    with pytest.raises(ValueError, match=words):
        model.BUILDERS[name](**{"num_classes": 3, **options})
