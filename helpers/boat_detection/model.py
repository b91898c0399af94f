"""YOLOv3 by number of classes, and the form of a network that runs fastest: boxes included, compiled as one."""

import os
from typing import Any

import keras

from helpers.boat_detection import cfg as cfg_files
from helpers.boat_detection import graph, networks


def build_yolov3(num_classes: int, *, epsilon: float = 1e-5, momentum: float = 0.99, **options: Any) -> keras.Model:
    """YOLOv3 with Darknet-53: Redmon and Farhadi, 2018, arXiv 1804.02767.

    Args:
        num_classes: number of classes.
        epsilon, momentum: of the batch normalisations.
        **options: of `networks.yolov3_cfg`: `width`, `anchors`, `size`.

    Returns:
        A model from RGB in [0, 1], (B, H, W, 3), H and W multiples of 32, to three raw heads (B, h, w, 3 (5 + num_classes)) at
        strides 32, 16 and 8; 61 576 342 values in its .weights file for one class.
    """
    return _build("yolov3", networks.yolov3_cfg(num_classes, **options), epsilon, momentum)


def build_yolov3_tiny(
    num_classes: int, *, epsilon: float = 1e-5, momentum: float = 0.99, **options: Any
) -> keras.Model:
    """The tiny YOLOv3: two raw heads at strides 32 and 16. Arguments as `build_yolov3`, options of `yolov3_tiny_cfg`."""
    return _build("yolov3-tiny", networks.yolov3_tiny_cfg(num_classes, **options), epsilon, momentum)


def _build(name: str, text: str, epsilon: float, momentum: float) -> keras.Model:
    return graph.build_from_cfg(cfg_files.parse_cfg(text, f"{name}.cfg"), epsilon, momentum=momentum)


def build_detector(
    network: keras.Model, cfg: str | os.PathLike | cfg_files.Cfg, input_size: int | tuple[int, int]
) -> keras.Model:
    """A model for inference alone: network and decoding in one graph at a fixed input size, compiled by XLA.

    Call its `predict_on_batch`; the first call of each batch size compiles.

    Args:
        network: from `build_from_cfg`; the weights are shared.
        cfg: the file that it was built from.
        input_size: side of the input in pixels, or (height, width).

    Returns:
        A model from RGB in [0, 1], (B, height, width, 3), to boxes (B, N, 4), objectness (B, N) and class probabilities
        (B, N, C), as `graph.decode`.
    """
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    images = keras.Input((height, width, network.input_shape[-1]), name="image")
    model = keras.Model(images, graph.decode(network(images), cfg, (height, width)), name=f"{network.name}_detector")
    model.compile(jit_compile=True)
    return model
