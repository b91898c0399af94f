"""A Keras network from a .cfg file, and the boxes that its raw heads stand for."""

import math
import os
from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops

from helpers.boat_detection.formats.darknet import cfg_files
from helpers.boat_detection.formats.darknet.cfg_files import Cfg
from helpers.boat_detection.formats.darknet.layer_kinds import Layer
from helpers.boat_detection.layers import ChannelGroup, DarknetMaxPool, Shortcut, Tensor, YoloHead

LARGEST_EXPONENT = 20.0  # of a box's size: e^20 anchors keep every later sum and product finite


def build_from_cfg(cfg_path: str | os.PathLike | Cfg, epsilon: float = 1e-5, *, momentum: float = 0.99) -> keras.Model:
    """Build the network of a Darknet .cfg file, with Darknet's random initialisation.

    Layers are named by Darknet's numbers: `conv_81`, `bn_81`, `leaky_81`, `yolo_82`.

    Args:
        cfg_path: the file, or what `parse_cfg` made of it.
        epsilon: of the batch normalisations, inside the root: 1e-5 in Darknet, 1e-6 in OpenCV's reader, 1e-3 as Keras's default.
        momentum: of their running statistics (`batch_norm_momentum` of the config).

    Returns:
        A model from RGB in [0, 1], (B, H, W, 3), to the raw heads (B, h, w, anchors (5 + classes)), float32: a list in the order
        of the file, or one tensor if there is one `[yolo]` section.

    Raises:
        FileNotFoundError: no such file.
        ValueError: something in the file is not understood; names line and section.
    """
    cfg = cfg_files.read_cfg(cfg_path)
    inputs = keras.Input((None, None, cfg.net.get("channels", 3)), name="image")
    outputs: dict[int, keras.KerasTensor] = {-1: inputs}
    for layer in cfg.layers:
        read = [outputs[index] for index in layer.inputs]
        if layer.kind in SIMPLE:
            outputs[layer.index] = SIMPLE[layer.kind](**layer.values, name=f"{layer.kind}_{layer.index}")(read[0])
        else:
            options = {"epsilon": epsilon, "momentum": momentum} if layer.kind == "convolutional" else {}
            outputs[layer.index] = COMPOSED[layer.kind](layer, read, **options)
    found = [outputs[head.index] for head in cfg.yolo]
    name = "".join(c if c.isalnum() else "_" for c in Path(cfg.source).stem)
    return keras.Model(inputs, found if len(found) > 1 else found[0], name=name)


def heads(model: keras.Model, images: Tensor) -> list:
    """The raw heads of images (B, H, W, 3), RGB in [0, 1], always a list; batch normalisation by running statistics."""
    found = model(ops.convert_to_tensor(images), training=False)
    return list(found) if isinstance(found, list | tuple) else [found]


def decode(heads: list, cfg: str | os.PathLike | Cfg, input_size: int | tuple[int, int]) -> tuple:
    """Boxes, objectness and class probabilities of raw heads: Redmon and Farhadi, "YOLOv3", 2018, section 2.1.

    With `new_coords`: Wang et al., "Scaled-YOLOv4", 2021, in the form of Darknet's yolo_layer.

    Args:
        heads: one (B, h, w, anchors (5 + classes)) per `[yolo]` section, in the order of the file.
        cfg: the file or what was read from it.
        input_size: side of the network's input in pixels, or (height, width).

    Returns:
        boxes (B, N, 4) as x1, y1, x2, y2 relative to the input, not clipped to it; objectness (B, N); class probabilities
        (B, N, C), not multiplied by the objectness. N runs over heads, rows, columns, anchors.

    Raises:
        ValueError: the number of heads or their channels do not fit the file.
    """
    specs = cfg_files.read_cfg(cfg).yolo
    heads = list(heads) if isinstance(heads, list | tuple) else [heads]
    if len(heads) != len(specs):
        raise ValueError(
            f"heads must be a list of {len(specs)} tensors, one per [yolo] section. Received: {len(heads)}"
        )
    size = (input_size, input_size) if isinstance(input_size, int) else tuple(input_size)
    parts = [_decode_head(head, spec, size) for head, spec in zip(heads, specs, strict=True)]
    return tuple(
        ops.concatenate(column, axis=1) if len(column) > 1 else column[0] for column in zip(*parts, strict=True)
    )


def _decode_head(head: Tensor, spec: cfg_files.Head, size: tuple[int, int]) -> tuple:
    anchors, depth = len(spec.mask), 5 + spec.classes
    if head.shape[-1] != anchors * depth:
        raise ValueError(
            f"the head of layer {spec.index} must have {anchors} x (5 + {spec.classes}) channels. Received: shape {head.shape}"
        )
    _, height, width, _ = ops.shape(head)
    x = ops.cast(ops.reshape(head, (-1, height, width, anchors, depth)), "float32")
    grid = ops.stack(ops.meshgrid(ops.arange(width), ops.arange(height), indexing="xy"), axis=-1)  # (h, w, 2) as x, y
    grid = ops.cast(ops.expand_dims(grid, 2), "float32")
    cells = ops.cast(ops.stack([width, height]), "float32")
    priors = ops.convert_to_tensor(
        [[w / size[1], h / size[0]] for w, h in (spec.anchors[i] for i in spec.mask)], "float32"
    )
    stretch = spec.scale_x_y
    if spec.new_coords:  # x went through a sigmoid already
        place, sizes, sure = x[..., 0:2], ops.square(2 * x[..., 2:4]), x[..., 4:]
    else:
        sizes = ops.exp(ops.minimum(x[..., 2:4], LARGEST_EXPONENT))
        place, sure = ops.sigmoid(x[..., 0:2]), ops.sigmoid(x[..., 4:])
    centre, half = (place * stretch - (stretch - 1) / 2 + grid) / cells, sizes * priors / 2
    boxes = ops.concatenate([centre - half, centre + half], axis=-1)
    count = height * width * anchors
    return (
        ops.reshape(boxes, (-1, count, 4)),
        ops.reshape(sure[..., 0], (-1, count)),
        ops.reshape(sure[..., 1:], (-1, count, spec.classes)),
    )


def _activate(x: Tensor, name: str, index: int) -> Tensor:
    if name == "linear":
        return x
    if name == "leaky":
        return layers.LeakyReLU(negative_slope=0.1, name=f"leaky_{index}")(x)
    return layers.Activation({"logistic": "sigmoid", "swish": "silu"}.get(name, name), name=f"{name}_{index}")(x)


def _convolutional(layer: Layer, inputs: list, *, epsilon: float, momentum: float) -> Tensor:
    values, x = layer.values, inputs[0]
    size, stride, padding, groups = (values[key] for key in ("size", "stride", "padding", "groups"))
    same = stride == 1 and size % 2 and padding == size // 2
    if padding and not same:  # for strides Keras's "same" would pad below and to the right only
        x = layers.ZeroPadding2D(padding, name=f"pad_{layer.index}")(x)
    limit = math.sqrt(2.0 / (size * size * layer.in_channels / groups))
    start = keras.initializers.RandomUniform(-limit, limit)
    options = {
        "strides": stride,
        "padding": "same" if same else "valid",
        "use_bias": not values["batch_normalize"],
        "name": f"conv_{layer.index}",
    }
    if groups == layer.in_channels and groups > 1:  # Keras's grouped convolution is slow on a CPU
        x = layers.DepthwiseConv2D(
            size, depth_multiplier=layer.channels // groups, depthwise_initializer=start, **options
        )(x)
    else:
        x = layers.Conv2D(layer.channels, size, groups=groups, kernel_initializer=start, **options)(x)
    if values["batch_normalize"]:
        x = layers.BatchNormalization(epsilon=epsilon, momentum=momentum, name=f"bn_{layer.index}")(x)
    return _activate(x, values["activation"], layer.index)


def _shortcut(layer: Layer, inputs: list) -> Tensor:
    return _activate(Shortcut(name=f"shortcut_{layer.index}")(inputs), layer.values["activation"], layer.index)


def _route(layer: Layer, inputs: list) -> Tensor:
    if layer.values["groups"] > 1:
        inputs = [
            ChannelGroup(**layer.values, name=f"group_{layer.index}_{place}")(x) for place, x in enumerate(inputs)
        ]
    return inputs[0] if len(inputs) == 1 else layers.Concatenate(name=f"route_{layer.index}")(inputs)


SIMPLE: dict[str, Callable] = {  # layers without an activation that read one map
    "maxpool": DarknetMaxPool,
    "avgpool": lambda name: layers.GlobalAveragePooling2D(keepdims=True, name=name),
    "upsample": lambda stride, name: layers.UpSampling2D(stride, name=name),
    "dropout": lambda probability, name: layers.Dropout(probability, name=name),
    "yolo": lambda mask, classes, name, **_: YoloHead(len(mask), classes, name=name),
}
COMPOSED: dict[str, Callable] = {"convolutional": _convolutional, "shortcut": _shortcut, "route": _route}
