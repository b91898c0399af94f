"""Blocks of convolutions, and the networks with the shape of an hourglass made of them.

Every layer is named after the PyTorch module that it stands for, with "_" for ".": see `helpers.face_animation.model`.
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops


@keras.saving.register_keras_serializable("helpers")
class SpectralConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is divided by its largest singular value, estimated by one power iteration per training step.

    Miyato et al., "Spectral normalization for generative adversarial networks", 2018, arXiv 1802.05957. Unlike
    `keras.layers.SpectralNormalization` it leaves the kernel variable alone, as PyTorch does: on JAX a value assigned to a
    trainable variable in the loss is lost. Attributes `u` (filters,) and `v` (inputs to a filter,) have the weights' PyTorch names.
    """

    def build(self, input_shape):
        super().build(input_shape)
        size = math.prod(self.kernel.shape[:-1])
        unit = keras.initializers.RandomNormal
        self.u = self.add_weight(name="u", shape=(self.filters,), initializer=unit(), trainable=False, autocast=False)
        self.v = self.add_weight(name="v", shape=(size,), initializer=unit(), trainable=False, autocast=False)
        for vector in (self.u, self.v):
            vector.assign(ops.normalize(vector.value, epsilon=1e-12))

    def call(self, inputs, training=None):
        if training:
            matrix = ops.stop_gradient(self._matrix(self.kernel))
            self.v.assign(ops.normalize(ops.sum(matrix * self.u, axis=1), epsilon=1e-12))
            self.u.assign(ops.normalize(ops.sum(matrix * self.v[:, None], axis=0), epsilon=1e-12))
        return super().call(inputs)

    def convolution_op(self, inputs, kernel):
        sigma = ops.sum(ops.sum(self._matrix(kernel) * self.u, axis=1) * self.v)
        return super().convolution_op(inputs, kernel / ops.cast(sigma, kernel.dtype))

    def save_own_variables(self, store):  # Conv2D's own saves kernel and bias only
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store):
        keras.layers.Layer.load_own_variables(self, store)

    def _matrix(self, kernel):
        return ops.reshape(ops.cast(kernel, self.u.dtype), (-1, self.filters))


@keras.saving.register_keras_serializable("helpers")
class UpConv2D(keras.layers.Conv2D):
    """Every pixel four times, then a 3 x 3 convolution "same": the same numbers from 4/9 of the products.

    Of the 3 x 3 enlarged pixels that each result looks at, several are copies. So 2 x 2 original ones with sums of the weights do,
    which is a transposed convolution of 4 x 4 by steps of 2. The weights are those of the 3 x 3 convolution.
    """

    SUMS = np.array([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], "float32")

    def convolution_op(self, inputs, kernel):
        sums = ops.convert_to_tensor(self.SUMS)
        kernel = ops.einsum("ai,bj,ijcf->abfc", sums, sums, ops.cast(kernel, "float32"))
        kernel = ops.cast(kernel, inputs.dtype)
        return ops.conv_transpose(inputs, kernel, strides=2, padding="same", data_format="channels_last")

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return (batch, *(side if side is None else 2 * side for side in (height, width)), self.filters)


TOGETHER = contextvars.ContextVar("batches that go through at once", default=1)


@contextlib.contextmanager
def together(count: int) -> Iterator[None]:
    """Within it `BatchNorm` takes its inputs for `count` batches, one after the other: each has statistics of its own."""
    token = TOGETHER.set(count)
    try:
        yield
    finally:
        TOGETHER.reset(token)


@keras.saving.register_keras_serializable("helpers")
class BatchNorm(keras.layers.BatchNormalization):
    """Keras's layer over the last axis, with its gradient in closed form, half of the passes over the maps; see `together`."""

    def call(self, inputs, training=None):
        if not training or not self.trainable:
            return super().call(inputs, training=False)
        count, (*_, channels) = TOGETHER.get(), inputs.shape
        x = ops.reshape(ops.cast(inputs, "float32"), (count, -1, channels))
        mean, variance = ops.moments(ops.stop_gradient(x), axes=1, keepdims=True)
        shares = (1 - self.momentum) * self.momentum ** np.arange(count - 1, -1, -1, dtype="float32")
        for moving, found in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum**count + ops.sum(found[:, 0] * shares[:, None], axis=0))
        gamma, beta = (ops.cast(weight, "float32") for weight in (self.gamma, self.beta))
        found = _normalise(x, gamma, beta, mean, ops.rsqrt(variance + self.epsilon))
        return ops.cast(ops.reshape(found, (-1, *inputs.shape[1:])), self.compute_dtype)


@ops.custom_gradient
def _normalise(x, gamma, beta, mean, scale):
    """(x - mean) scale gamma + beta of (batches, N, C), whose gradient knows that mean and scale come from x itself."""

    def gradient(*upstream):
        (slope,) = upstream
        count = ops.cast(ops.shape(x)[1], "float32")
        by_beta = ops.sum(slope, axis=1, keepdims=True)
        by_gamma = ops.sum(slope * (x - mean), axis=1, keepdims=True) * scale
        by_x = (slope - (x - mean) * (scale * by_gamma / count) - by_beta / count) * (gamma * scale)
        sums = (ops.sum(part, axis=(0, 1)) for part in (by_gamma, by_beta))
        return by_x, *sums, ops.zeros_like(mean), ops.zeros_like(scale)

    weight = gamma * scale
    return x * weight + (beta - mean * weight), gradient


def conv(x, filters: int, size: int, *, name: str, padding="same", layer: type = keras.layers.Conv2D, kernel=None):
    """A convolution of the kind `layer` that starts as in PyTorch, uniform within 1 / sqrt(fan_in); or its kernel as told."""
    limit = 1 / math.sqrt(size * size * x.shape[-1])
    kernel = kernel or keras.initializers.RandomUniform(-limit, limit)
    bias = keras.initializers.RandomUniform(-limit, limit)
    return layer(filters, size, padding=padding, kernel_initializer=kernel, bias_initializer=bias, name=name)(x)


def norm(x, *, name: str):
    """Batch normalisation with PyTorch's constants (its momentum 0.1 is 0.9 here)."""
    return BatchNorm(momentum=0.9, epsilon=1e-5, name=name)(x)


def sigmoid(x, *, name: str):
    return keras.layers.Activation("sigmoid", dtype="float32", name=name)(x)


def same_block(x, filters: int, size: int, *, name: str, convs=1, first: type = keras.layers.Conv2D, kernel=None):
    """Convolution of kind `first`, batch normalisation, ReLU; with `convs` 2 a second convolution follows the first at once."""
    for k in range(convs):
        layer = keras.layers.Conv2D if k else first
        x = conv(x, filters, size, name=f"{name}_conv{k + 1 if convs > 1 else ''}", layer=layer, kernel=kernel)
    return keras.layers.ReLU(name=f"{name}_relu")(norm(x, name=f"{name}_norm"))


def down_block(x, filters: int, *, name: str, convs: int = 1):
    """`same_block` 3x3, then the mean of every 2x2 pixels."""
    x = same_block(x, filters, 3, name=name, convs=convs)
    return keras.layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def up_block(x, filters: int, *, name: str, convs: int = 1):
    """Every pixel four times, then `same_block` 3x3."""
    return same_block(x, filters, 3, name=name, convs=convs, first=UpConv2D)


def residual_block(x, *, name: str):
    """x + conv(relu(norm(conv(relu(norm(x)))))), 3x3."""
    y = x
    for k in (1, 2):
        y = keras.layers.ReLU(name=f"{name}_relu{k}")(norm(y, name=f"{name}_norm{k}"))
        y = conv(y, x.shape[-1], 3, name=f"{name}_conv{k}")
    return keras.layers.Add(name=f"{name}_add")([y, x])


def check_size(size, *, scale: float, blocks: int, what: str) -> tuple[int, int]:
    """(height, width) of an int or a pair.

    Raises:
        ValueError: the network cannot halve the sides so often.
    """
    sides = (size, size) if isinstance(size, int | np.integer) else tuple(size)
    multiple = round(1 / scale) * 2**blocks
    if len(sides) != 2 or any(side < multiple or side % multiple for side in sides):
        raise ValueError(
            f"size must be a multiple of {multiple} or a pair (height, width) of such for {what}: scale {scale:g} and "
            f"{blocks} halvings. Received: size={size!r}; take another size or fewer blocks"
        )
    return sides


def encoder(x, *, width: int, max_width: int, blocks: int, name: str, convs: int = 1) -> list:
    """The input and the outputs of `blocks` down blocks with min(max_width, width 2^i) channels."""
    levels = [x]
    for i in range(blocks):
        filters = min(max_width, width * 2 ** (i + 1))
        levels.append(down_block(levels[-1], filters, name=f"{name}_encoder_down_blocks_{i}", convs=convs))
    return levels


def hourglass(x, *, width: int, max_width: int, blocks: int, name: str, convs: int = 1):
    """Down and up again, each step up joined with the encoder's output of its size: (B, H, W, C) -> (B, H, W, width + C).

    Args:
        x: height and width multiples of 2^blocks.
        width, max_width: channels of the output besides the input's, and at the most anywhere.
        blocks, convs: steps down and up, and convolutions in each; 2 is the variant "unet".
        name: in front of all layers' names.
    """
    levels = encoder(x, width=width, max_width=max_width, blocks=blocks, name=name, convs=convs)
    x = levels.pop()
    for i in range(blocks):
        block = f"{name}_decoder_up_blocks_{i}"
        x = up_block(x, min(max_width, width * 2 ** (blocks - 1 - i)), name=block, convs=convs)
        x = keras.layers.Concatenate(name=f"{block}_concat")([x, levels.pop()])
    return x


def unet3plus(x, *, width: int, max_width: int, blocks: int, name: str):
    """Every decoder stage sees all levels: (B, H, W, C) -> (B, H / 2, W / 2, width + C) in (0, 1).

    Huang et al., "UNet 3+: A full-scale connected UNet for medical image segmentation", 2020, arXiv 2004.08790, as the
    original project adapted it: average pooling, one convolution per encoder block, the first level at half size.
    Layers of the decoder are named `<name>_decoder_hd<stage>_h<level>_conv`, `..._hd<stage>_fusion_conv` and `..._out_conv`.
    Arguments as of `hourglass`; a branch has 2 width channels, a stage 2 width blocks.
    """
    he = functools.partial(keras.initializers.VarianceScaling, 2.0, "fan_in", "untruncated_normal")
    levels = encoder(x, width=width, max_width=max_width, blocks=blocks, name=name)
    for stage in range(blocks - 1, 0, -1):  # levels[stage + 1:] are decoded already
        prefix = f"{name}_decoder_hd{stage}"
        branches = []
        for level in range(1, blocks + 1):
            branch = _resample(levels[level], level - stage, name=f"{prefix}_h{level}_resample")
            branches.append(same_block(branch, 2 * width, 3, name=f"{prefix}_h{level}", kernel=he()))
        joined = keras.layers.Concatenate(name=f"{prefix}_concat")(branches)
        levels[stage] = same_block(joined, 2 * width * blocks, 3, name=f"{prefix}_fusion", kernel=he())
    x = conv(levels[1], width + x.shape[-1], 3, name=f"{name}_decoder_out_conv", kernel=he())
    return keras.layers.Activation("sigmoid", name=f"{name}_decoder_out_sigmoid")(x)


def _resample(x, steps_up: int, *, name: str):
    """2^steps_up times as large: bilinear up, maximum of the pixels down."""
    factor = 2 ** abs(steps_up)
    if steps_up > 0:
        return keras.layers.UpSampling2D(factor, interpolation="bilinear", name=name)(x)
    return keras.layers.MaxPooling2D(factor, name=name)(x) if steps_up < 0 else x
