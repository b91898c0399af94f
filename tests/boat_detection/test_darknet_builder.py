"""Networks from .cfg files: every kind of layer against a plain NumPy version, and boxes worked by hand."""

from helpers import runtime

runtime.quiet_start()

import itertools
import math

import keras
import numpy as np
import pytest

from helpers.boat_detection import darknet, layers, model
from helpers.boat_detection.formats.darknet import cfg_files, networks

END = "[convolutional]\nfilters={}\nsize=1\nactivation=linear\n[yolo]\nanchors={}\nclasses={}\n"


def numpy_of(tensor):
    return keras.ops.convert_to_numpy(tensor)


def build(body, channels=3, **options):
    """A network whose last section before a head is that of `body`, and a model that shows its output."""
    text = f"[net]\nchannels={channels}\n{body}\n{END.format(6, '2,3', 1)}"
    network = darknet.build_from_cfg(cfg_files.parse_cfg(text), **options)
    last = max(
        (layer for layer in network.layers if layer.name.startswith("conv_")), key=lambda layer: int(layer.name[5:])
    )
    return network, keras.Model(network.input, last.input)


def build_tiny(num_classes, width):
    return darknet.build_from_cfg(cfg_files.parse_cfg(networks.yolov3_tiny_cfg(num_classes, width=width)))


def images(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).standard_normal((2, height, width, channels)).astype("float32")


def convolve(x, kernel, stride, padding, groups):
    """Darknet's convolution in loops: kernel (filters, channels per group, k, k)."""
    filters, channels, size, _ = kernel.shape
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros((len(x), rows, columns, filters))
    for f, i, j in itertools.product(range(filters), range(rows), range(columns)):
        first = f // (filters // groups) * channels
        part = x[:, i * stride : i * stride + size, j * stride : j * stride + size, first : first + channels]
        out[:, i, j, f] = np.einsum("bhwc,chw->b", part, kernel[f])
    return out


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ("size=3\nstride=2\npad=1", (8, 10, 3)),
        ("size=3\nstride=2\npad=1", (7, 9, 3)),
        ("size=3\npad=1", (5, 6, 3)),
        ("size=3\npad=0", (5, 6, 3)),
        ("size=2\nstride=2\npad=1", (6, 6, 3)),
        ("size=5\nstride=1\npadding=1", (6, 7, 3)),
        ("size=3\nstride=2\npad=1\ngroups=2", (6, 7, 4)),
        ("size=3\npad=1\ngroups=4", (6, 6, 4)),
        ("size=3\nstride=2\npad=1\ngroups=2", (6, 6, 2)),
    ],
)
def test_convolution(options, shape, tmp_path):
    section = f"[convolutional]\nfilters=4\nactivation=linear\n{options}"
    network, body = build(section, shape[-1])
    count = sum(int(np.prod(variable.shape)) for variable in network.get_layer("conv_0").weights)
    values = np.random.default_rng(1).standard_normal(count + 6 * 5).astype("<f4")  # bias and kernel; the head
    path = tmp_path / "a.weights"
    path.write_bytes(np.array([0, 2, 0], "<i4").tobytes() + bytes(8) + values.tobytes())
    darknet.load_weights(network, path)
    plan = cfg_files.parse_cfg(f"[net]\nchannels={shape[-1]}\n{section}\n{END.format(6, '2,3', 1)}").layers[0].values
    kernel = values[4:count].reshape(4, shape[-1] // plan["groups"], plan["size"], plan["size"])
    x = images(*shape)
    expected = convolve(x, kernel, plan["stride"], plan["padding"], plan["groups"]) + values[:4]
    np.testing.assert_allclose(numpy_of(body(x)), expected, atol=1e-4)


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (2, 1), (3, 2), (3, 1), (4, 2), (8, 2), (5, 1), (2, 4), (3, 3)])
@pytest.mark.parametrize("padding", [None, 0, 1])
@pytest.mark.parametrize("sides", [(8, 11), (9, 12)])
def test_maxpool(size, stride, padding, sides):
    padding = size - 1 if padding is None else padding
    x = images(*sides)
    rows, columns = ((side + padding - size) // stride + 1 for side in sides)
    expected = np.full((2, rows, columns, 3), -np.inf, "float32")
    for i, j in itertools.product(range(rows), range(columns)):
        top, left = i * stride - padding // 2, j * stride - padding // 2
        window = x[:, max(top, 0) : top + size, max(left, 0) : left + size]
        expected[:, i, j] = window.max(axis=(1, 2))
    layer = layers.DarknetMaxPool(size, stride, padding)
    np.testing.assert_array_equal(numpy_of(layer(x)), expected)
    assert layer(keras.Input(x.shape[1:])).shape[1:] == expected.shape[1:]


ACTIVATIONS = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, 0.1 * x),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "swish": lambda x: x / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name):
    _, body = build(f"[dropout]\n[shortcut]\nfrom=-1\nactivation={name}")
    x = 3 * images(4, 4)
    np.testing.assert_allclose(numpy_of(body(x)), ACTIVATIONS[name](2 * x), atol=1e-5)


def test_activation_of_a_convolution_comes_after_its_normalisation():
    network, body = build("[convolutional]\nbatch_normalize=1\nfilters=2\nactivation=relu6", epsilon=0.5)
    norm = network.get_layer("bn_0")
    norm.set_weights([np.array(v, "float32") for v in ([2, 3], [1, -1], [0.5, 0], [1.5, 3.5])])
    x = images(4, 4)
    y = x @ numpy_of(network.get_layer("conv_0").kernel)[0, 0]
    expected = (y - [0.5, 0]) / np.sqrt(np.array([1.5, 3.5]) + 0.5) * [2, 3] + [1, -1]
    np.testing.assert_allclose(numpy_of(body(x)), np.clip(expected, 0, 6), atol=1e-5)


def test_joining_layers():
    body = "[maxpool]\nsize=1\n[route]\nlayers=-1\ngroups=2\ngroup_id=1\n[maxpool]\nsize=3\n"  # 4 channels, 2, 2
    x = images(4, 6, 4)
    pooled = numpy_of(layers.DarknetMaxPool(3, 1, 2)(x[..., 2:]))
    for section, expected in {
        "[shortcut]\nfrom=-2": pooled + x[..., 2:],
        "[shortcut]\nfrom=0,-2": pooled + x[..., :2] + x[..., 2:],
        "[route]\nlayers=-1,0": np.concatenate([pooled, x], axis=-1),
        "[route]\nlayers=0,-1\ngroups=2": np.concatenate([x[..., :2], pooled[..., :1]], axis=-1),
        "[route]\nlayers=0\n[shortcut]\nfrom=2": x + np.pad(pooled, [(0, 0)] * 3 + [(0, 2)]),
        "[upsample]\nstride=3": pooled.repeat(3, axis=1).repeat(3, axis=2),
        "[avgpool]": pooled.mean(axis=(1, 2), keepdims=True),
    }.items():
        np.testing.assert_allclose(numpy_of(build(body + section, 4)[1](x)), expected, atol=1e-6, err_msg=section)


def test_dropout_works_in_training_only():
    _, body = build("[dropout]\nprobability=.5")
    x = np.ones((1, 20, 20, 3), "float32")
    np.testing.assert_array_equal(numpy_of(body(x)), x)
    assert set(np.unique(numpy_of(body(x, training=True)))) == {0, 2}


@pytest.mark.parametrize(
    ("layer", "config", "shapes"),
    [
        (layers.DarknetMaxPool, {"size": 3, "stride": 2, "padding": 1}, [(2, 8, 6, 4)]),
        (layers.ChannelGroup, {"groups": 2, "group_id": 1}, [(2, 8, 6, 4)]),
        (layers.Shortcut, {}, [(2, 8, 6, 4), (2, 8, 6, 2)]),
        (layers.YoloHead, {"anchors": 2, "classes": 4}, [(2, 8, 6, 18)]),
    ],
)
def test_layers_are_saved_with_their_options(layer, config, shapes, tmp_path):
    made = layer(**config)
    assert {key: made.get_config()[key] for key in config} == config
    symbolic = [keras.Input(shape[1:]) for shape in shapes]
    symbolic = symbolic if len(shapes) > 1 else symbolic[0]
    network = keras.Model(symbolic, made(symbolic))
    network.save(tmp_path / "a.keras")
    values = [images(*shape[1:]) for shape in shapes]
    values = values if len(values) > 1 else values[0]
    expected = numpy_of(network(values))
    assert network.output_shape[1:] == expected.shape[1:]
    np.testing.assert_array_equal(numpy_of(keras.saving.load_model(tmp_path / "a.keras")(values)), expected)


def test_network_of_the_tiny_form():
    network = build_tiny(3, width=1 / 8)
    assert network.input_shape == (None, None, None, 3)
    names = {layer.name for layer in network.layers if layer.name.startswith("conv")}
    assert names == {f"conv_{i}" for i in (0, 2, 4, 6, 8, 10, 12, 13, 14, 15, 18, 21, 22)}
    norms = [layer for layer in network.layers if layer.name.startswith("bn_")]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-5, 0.99)} and len(norms) == 11
    found = darknet.heads(network, images(64, 96))
    assert [tuple(head.shape) for head in found] == [(2, 2, 3, 24), (2, 4, 6, 24)]


def test_full_networks_have_the_published_sizes():
    network = model.build_yolov3(80)
    assert network.count_params() == 62_001_757
    assert sum(int(np.prod(variable.shape)) for variable in network.trainable_variables) == 61_949_149
    assert [output.shape[-1] for output in network.outputs] == [255, 255, 255]


def test_initialisation_is_darknets():
    """Uniform in +- sqrt(2 / fan-in): variance 2 / (3 fan-in); for depthwise kernels the fan-in is that of one channel."""
    keras.utils.set_random_seed(0)
    body = "[convolutional]\nfilters=256\nsize=3\npad=1\n[convolutional]\nfilters=256\nsize=3\npad=1\ngroups=256\n"
    network, _ = build(body, 32)
    for name, inputs in (("conv_0", 9 * 32), ("conv_1", 9)):
        kernel = numpy_of(network.get_layer(name).kernel)
        assert kernel.var() == pytest.approx(2 / 3 / inputs, rel=0.1)
        assert np.abs(kernel).max() == pytest.approx(math.sqrt(2 / inputs), rel=0.02)


def test_heads_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = build_tiny(1, width=1 / 16)
    finally:
        keras.config.set_dtype_policy("float32")
    assert network.get_layer("conv_0").compute_dtype == "float16"
    assert [head.dtype for head in network.outputs] == ["float32"] * 2


def test_one_head_comes_as_a_list_too():
    network, _ = build("[dropout]")
    assert [tuple(head.shape) for head in darknet.heads(network, images(4, 5))] == [(2, 4, 5, 6)]


def two_heads(stretch=1.0):
    heads = END.format(14, "8,16, 4,2", 2) + f"scale_x_y={stretch}\n", END.format(7, "6,10, 1,1", 2) + "mask=0\n"
    return cfg_files.parse_cfg("[net]\n" + heads[0] + "[route]\nlayers=0\n" + heads[1])


def test_boxes_worked_by_hand():
    """Input 32 x 64: head 0 has one row of two cells with two anchors, head 1 a single cell with one anchor."""
    first = np.zeros((1, 1, 2, 2, 7), "float32")
    first[0, 0, 1, 0] = [math.log(3), -math.log(3), math.log(2), 0, math.log(4), 0, math.log(9)]
    second = np.full((1, 1, 1, 7), math.log(4), "float32")
    boxes, objectness, classes = darknet.decode([first.reshape(1, 1, 2, 14), second], two_heads(), (32, 64))
    assert boxes.shape == (1, 5, 4) and objectness.shape == (1, 5) and classes.shape == (1, 5, 2)
    expected = [  # centre x, centre y, width, height; width in 64ths, height in 32nds
        (0.25, 0.5, 8 / 64, 16 / 32),  # cell 0, anchor 0, all logits 0
        (0.25, 0.5, 4 / 64, 2 / 32),  # cell 0, anchor 1
        (1.75 / 2, 0.25, 2 * 8 / 64, 16 / 32),  # cell 1, anchor 0: sigmoid(log 3) = 3 / 4
        (0.75, 0.5, 4 / 64, 2 / 32),
        (0.8, 0.8, 4 * 6 / 64, 4 * 10 / 32),  # head 1
    ]
    boxes = numpy_of(boxes)[0]
    found = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(numpy_of(objectness)[0], [0.5, 0.5, 0.8, 0.5, 0.8], atol=1e-6)
    np.testing.assert_allclose(numpy_of(classes)[0, 2], [0.5, 0.9], atol=1e-6)


def test_stretched_centres_and_huge_sizes():
    first = np.zeros((1, 1, 2, 2, 7), "float32")
    first[..., 0], first[..., 2] = math.log(3), 1000
    boxes, _, _ = darknet.decode([first.reshape(1, 1, 2, 14), np.zeros((1, 1, 1, 7), "float32")], two_heads(1.2), 32)
    boxes = numpy_of(boxes)[0]
    assert np.isfinite(boxes).all()
    first[..., 2] = 0
    boxes, _, _ = darknet.decode([first.reshape(1, 1, 2, 14), np.zeros((1, 1, 1, 7), "float32")], two_heads(1.2), 32)
    assert numpy_of(boxes)[0, 0, [0, 2]].mean() == pytest.approx((0.75 * 1.2 - 0.1) / 2)


def test_new_coordinates_of_scaled_yolov4():
    """Against Darknet's loops: forward_yolo_layer scales what the sigmoid before it gave, get_yolo_box squares the sizes."""
    text = "[net]\n" + END.replace("linear", "logistic").format(14, "8,16, 4,2", 2) + "scale_x_y=2.0\nnew_coords=1\n"
    cfg = cfg_files.parse_cfg(text)
    network = darknet.build_from_cfg(cfg)
    (head,) = darknet.heads(network, images(3, 5))
    values = numpy_of(head).reshape(2, 3, 5, 2, 7)
    assert values.min() > 0 and values.max() < 1
    boxes, objectness, classes = map(numpy_of, darknet.decode([head], cfg, (48, 80)))
    for number, (b, j, i, n) in enumerate(np.ndindex(2, 3, 5, 2)):
        x = values[b, j, i, n]
        centre = (i + 2 * x[0] - 0.5) / 5, (j + 2 * x[1] - 0.5) / 3
        size = x[2] * x[2] * 4 * (8, 4)[n] / 80, x[3] * x[3] * 4 * (16, 2)[n] / 48
        expected = [centre[0] - size[0] / 2, centre[1] - size[1] / 2, centre[0] + size[0] / 2, centre[1] + size[1] / 2]
        np.testing.assert_allclose(boxes[b, number % 30], expected, atol=1e-6)
        np.testing.assert_allclose([objectness[b, number % 30], *classes[b, number % 30]], x[4:], atol=1e-7)
    with pytest.raises(ValueError, match="new_coords=1"):
        model.build_loss(cfg, "alexeyab")


def test_heads_that_do_not_fit_the_file():
    first = np.zeros((1, 1, 2, 14), "float32")
    with pytest.raises(ValueError, match=r"2 tensors.*Received: 1"):
        darknet.decode([first], two_heads(), 32)
    with pytest.raises(ValueError, match=r"layer 4 must have 1 x \(5 \+ 2\) channels.*14"):
        darknet.decode([first, first], two_heads(), 32)


def test_detector_is_network_and_decoding():
    cfg = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(2, width=1 / 16))
    network = darknet.build_from_cfg(cfg)
    detector = model.build_inference_model(network, cfg, 32)
    assert detector.jit_compile is True
    x = images(32, 32)
    found = detector.predict_on_batch(x)
    for ours, expected in zip(found, darknet.decode(darknet.heads(network, x), cfg, 32), strict=True):
        assert isinstance(ours, np.ndarray)
        np.testing.assert_allclose(ours, numpy_of(expected), rtol=1e-4, atol=1e-5)


def test_every_layer_learns():
    """One step of fit moves every kernel: gradients pass groups, routes, pools, shortcuts and upsampling."""
    body = (
        "[convolutional]\nbatch_normalize=1\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=mish\n"
        "[convolutional]\nfilters=8\nsize=3\npad=1\ngroups=8\nactivation=leaky\n[shortcut]\nfrom=-2\n"
        "[route]\nlayers=-1\ngroups=2\n[maxpool]\nsize=3\nstride=2\n[upsample]\n[route]\nlayers=-1,0"
    )
    keras.utils.set_random_seed(0)
    network, _ = build(body)
    network.compile(keras.optimizers.SGD(0.1), "mse")
    before = [numpy_of(variable).copy() for variable in network.trainable_variables]
    network.fit(images(16, 16), np.ones((2, 8, 8, 6), "float32"), epochs=1, verbose=0, shuffle=False)
    for old, variable in zip(before, network.trainable_variables, strict=True):
        assert np.abs(numpy_of(variable) - old).max() > 0, variable.path
