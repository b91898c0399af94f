"""The few Keras layers that Darknet's networks need beyond Keras's own.

All others, convolution and batch normalisation too, are made in `formats.darknet.builder`.
"""

from typing import Any

import keras
from keras import layers, ops

Tensor = Any  # of the backend, or symbolic


@keras.saving.register_keras_serializable("helpers")
class DarknetMaxPool(layers.Layer):
    """Max-pooling with Darknet's padding: `padding` rows of minus infinity in all, half (rounded down) above; so the columns.

    Keras's "same" pads by what is missing at the end; with size 3, stride 2 and an even input that is one window of pixels off.
    """

    def __init__(self, size: int, stride: int, padding: int, **options: Any) -> None:
        super().__init__(**options)
        self.size = size
        self.stride = stride
        self.padding = padding

    def call(self, inputs: Tensor) -> Tensor:
        if self.padding == self.size - 1 and (self.stride == 1 or self.size == self.stride == 2):
            return ops.max_pool(inputs, self.size, self.stride, "same")  # the same windows, without a padded copy
        sides = (self.padding // 2, self.padding - self.padding // 2)
        x = ops.pad(inputs, [[0, 0], sides, sides, [0, 0]], constant_values=float("-inf"))
        return ops.max_pool(x, self.size, self.stride, "valid")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "stride": self.stride, "padding": self.padding}


@keras.saving.register_keras_serializable("helpers")
class Shortcut(layers.Layer):
    """Sum of maps (B, H, W, C_i) with as many channels as the first: of wider ones the first count, narrower ones add to these."""

    def call(self, inputs: Tensor) -> Tensor:
        total = inputs[0]
        for other in inputs[1:]:
            missing = total.shape[-1] - other.shape[-1]
            if missing > 0:
                other = ops.pad(other, [[0, 0], [0, 0], [0, 0], [0, missing]])
            total = total + other[..., : total.shape[-1]]
        return total

    def compute_output_shape(self, input_shape: list) -> tuple:  # Keras would find it, 23 times in yolov3, each slowly
        return input_shape[0]


@keras.saving.register_keras_serializable("helpers")
class ChannelGroup(layers.Layer):
    """Part number `group_id`, from 0, of `groups` equal parts of the channels: (B, H, W, C) -> (B, H, W, C / groups)."""

    def __init__(self, groups: int, group_id: int, **options: Any) -> None:
        super().__init__(**options)
        self.groups = groups
        self.group_id = group_id

    def call(self, inputs: Tensor) -> Tensor:
        size = inputs.shape[-1] // self.groups
        return inputs[..., self.group_id * size : (self.group_id + 1) * size]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups, "group_id": self.group_id}


@keras.saving.register_keras_serializable("helpers")
class YoloHead(layers.Layer):
    """The end of a head: hands its raw numbers on as float32, and knows what they are for those who read and write weights.

    They are (B, h, w, anchors (5 + classes)): for each of the `anchors` of a cell x, y, w, h, objectness, classes.
    """

    def __init__(self, anchors: int, classes: int, **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})  # the sizes of boxes are exponentials
        self.anchors = anchors
        self.classes = classes

    def call(self, inputs: Tensor) -> Tensor:
        return ops.cast(inputs, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "anchors": self.anchors, "classes": self.classes}
