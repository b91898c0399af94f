"""The two Keras layers that reading lips needs: one network for every frame, and inputs freed of light and speaker."""

import keras
from keras import layers, ops

STANDARDIZE = ("clip", "motion", "none")
SMALLEST_VARIANCE = 1e-6  # of values in [0, 1]: a quarter of a grey level, so that a still clip gives 0, not noise


@keras.saving.register_keras_serializable("helpers")
class PerFrame(layers.Wrapper):
    """Apply one layer or model to every frame of a clip, with time folded into the batch.

    What `TimeDistributed` promises, but that runs its layer T times in a Python loop when T is known: T times the graph,
    and T updates of the moving averages of BatchNorm, each with the statistics of one moment only. Here the layer runs once, on
    all frames of all clips together.

    Args:
        layer: from (N, ...) to (N, ...).

    Returns:
        (B, T, ...) of what the layer gives for each frame of inputs (B, T, ...); B and T may differ between calls.
    """

    def build(self, input_shape):
        if not self.layer.built:
            self.layer.build((None, *input_shape[2:]))
        self.built = True

    def call(self, inputs, training=None):  # Keras itself hands `training` on to the layer within
        shape = ops.shape(inputs)
        outputs = self.layer(ops.reshape(inputs, (-1, *shape[2:])))  # (B T, ...)
        return ops.reshape(outputs, (-1, shape[1], *ops.shape(outputs)[1:]))

    def compute_output_shape(self, input_shape):
        inner = self.layer.compute_output_shape((None, *input_shape[2:]))
        return (*input_shape[:2], *inner[1:])


@keras.saving.register_keras_serializable("helpers")
class StandardizeClip(layers.Layer):
    """Take from each clip what tells the lighting or the speaker instead of the word; computed in float32.

    Args:
        mode: "clip", minus the mean and divided by the standard deviation of the whole clip; "motion", minus the clip's mean
            frame, so that what never moves is 0, divided by the standard deviation of what is left; "none", as it is.

    Call arguments:
        inputs: (B, T, H, W, C) in [0, 1].

    Returns:
        (B, T, H, W, C) float32.
    """

    def __init__(self, mode="clip", **options):
        super().__init__(**{"dtype": "float32", **options})
        if mode not in STANDARDIZE:
            raise ValueError(f"mode must be one of {', '.join(STANDARDIZE)}. Received: mode={mode!r}")
        self.mode = mode

    def call(self, inputs):
        if self.mode == "none":
            return inputs
        axes = 1 if self.mode == "motion" else (1, 2, 3, 4)
        x = inputs - ops.mean(inputs, axis=axes, keepdims=True)
        return x / ops.sqrt(ops.mean(ops.square(x), axis=(1, 2, 3, 4), keepdims=True) + SMALLEST_VARIANCE)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "mode": self.mode}
