"""The Keras layers that reading lips needs: a network for every frame, inputs without light and speaker, Conv3D fast on any CPU."""

import contextvars
from collections.abc import Callable
from typing import Any

import keras
from keras import layers, ops

from helpers import runtime

Shape = tuple[int | None, ...]
STANDARDIZE = ("clip", "motion", "none")
FOLDED = contextvars.ContextVar("folded", default=False)  # whether 3-D layers compute by 2-D ones on any machine
SMALLEST_VARIANCE = 1e-6  # of values in [0, 1]: a quarter of a grey level, so that a still clip gives 0, not noise


def per_frame(function: Callable[[Any], Any], clips: Any) -> Any:
    """A function of pictures (N, ...) on every frame of clips (B, T, ...), with time folded into the batch: (B, T, ...)."""
    shape = ops.shape(clips)
    pictures = function(ops.reshape(clips, (-1, *shape[2:])))  # (B T, ...)
    return ops.reshape(pictures, (-1, shape[1], *ops.shape(pictures)[1:]))


def fold_time() -> bool:
    """Whether 3-D layers compute by 2-D ones: in `Folded`, and on CPUs without oneDNN, where Conv3D takes 8 to 100 times longer."""
    return FOLDED.get() or (not runtime.onednn() and runtime.devices()[0]["kind"] == "CPU")


def windows_in_time(clips: Any, size: int, stride: int, dilation: int, padding: str) -> Any:
    """The frames that a kernel sees at each place, side by side as channels: (B, T, H, W, C) -> (B, T', H, W, size C)."""
    reach, count = (size - 1) * dilation + 1, clips.shape[1]
    if padding == "same":  # as TensorFlow has it: the odd frame at the end
        more = max(0, reach - (stride if stride == 1 or count % stride == 0 else count % stride))
        clips = ops.pad(clips, [(0, 0), (more // 2, more - more // 2), (0, 0), (0, 0), (0, 0)])
    starts = ops.shape(clips)[1] - reach + 1  # places where a window fits
    windows = [clips[:, first : first + starts : stride] for first in range(0, reach, dilation)]
    return windows[0] if size == 1 else ops.concatenate(windows, axis=-1)


@keras.saving.register_keras_serializable("helpers")
class PerFrame(layers.Wrapper):
    """Apply one layer or model to every frame of a clip, with time folded into the batch.

    `TimeDistributed` runs its layer T times in a loop: T times the graph, and BatchNorm sees one moment at a time. Here it runs
    once, on all frames of all clips together.

    Args:
        layer: from (N, ...) to (N, ...).

    Returns:
        (B, T, ...) of what the layer gives for each frame of inputs (B, T, ...); B and T may differ between calls.
    """

    def build(self, input_shape: Shape) -> None:
        if not self.layer.built:
            self.layer.build((None, *input_shape[2:]))
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:  # Keras hands `training` on to the layer within
        return per_frame(self.layer, inputs)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        inner = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *inner[1:])


@keras.saving.register_keras_serializable("helpers")
class StandardizeClip(layers.Layer):
    """Take from each clip what tells the lighting or the speaker instead of the word; computed and given in float32.

    Args:
        mode: "clip", minus the mean and divided by the standard deviation of the whole clip; "motion", minus the clip's mean
            frame, so that what never moves is 0, divided by the standard deviation of what is left; "none", as it is.

    Call arguments:
        inputs: (B, T, H, W, C) in [0, 1].
    """

    def __init__(self, mode: str = "clip", **options: Any) -> None:
        super().__init__(**{"dtype": "float32", **options})
        if mode not in STANDARDIZE:
            raise ValueError(f"mode must be one of {', '.join(STANDARDIZE)}. Received: mode={mode!r}")
        self.mode = mode

    def call(self, inputs: Any) -> Any:
        if self.mode == "none":
            return inputs
        axes = 1 if self.mode == "motion" else (1, 2, 3, 4)
        x = inputs - ops.mean(inputs, axis=axes, keepdims=True)
        return x / ops.sqrt(ops.mean(ops.square(x), axis=(1, 2, 3, 4), keepdims=True) + SMALLEST_VARIANCE)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "mode": self.mode}


@keras.saving.register_keras_serializable("helpers")
class Conv3D(layers.Conv3D):
    """`keras.layers.Conv3D`, fast without oneDNN too: there the frames under the kernel become channels of a 2-D convolution.

    Arguments, variables, saved weights and outputs (to 1e-5 in float32) are Keras's own. Groups, channels first, and a stride
    over a time of unknown length are left to Keras.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        unknown = self.strides[0] > 1 and self.padding == "same" and inputs.shape[1] is None
        if not fold_time() or self.groups > 1 or self.data_format != "channels_last" or unknown:
            return super().convolution_op(inputs, kernel)
        (size, *sides), (stride, *strides), (dilation, *dilations) = self.kernel_size, self.strides, self.dilation_rate
        windows = windows_in_time(inputs, size, stride, dilation, self.padding)  # (B, T', H, W, size C)
        kernel = ops.reshape(ops.transpose(kernel, (1, 2, 0, 3, 4)), (*sides, -1, self.filters))
        return per_frame(
            lambda frames: ops.conv(frames, kernel, strides, self.padding, "channels_last", dilations), windows
        )


@keras.saving.register_keras_serializable("helpers")
class MaxPooling3D(layers.MaxPooling3D):
    """`keras.layers.MaxPooling3D`, by a 2-D one where `Conv3D` is and no frame meets another."""

    def call(self, inputs: Any) -> Any:
        alone = self.pool_size[0] == self.strides[0] == 1 and self.data_format == "channels_last"
        if not (fold_time() and alone):
            return super().call(inputs)
        options = (self.pool_size[1:], self.strides[1:], self.padding)
        return per_frame(lambda frames: ops.max_pool(frames, *options), inputs)


@keras.saving.register_keras_serializable("helpers")
class Folded(layers.Wrapper):
    """A network whose 3-D layers compute by 2-D ones on any machine: LiteRT has no 3-D pooling. It has the network's variables."""

    def call(self, inputs: Any) -> Any:
        before = FOLDED.set(True)
        try:
            return self.layer(inputs)
        finally:
            FOLDED.reset(before)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.compute_output_shape(input_shape)
