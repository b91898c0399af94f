"""The siamese AlexNet: three trunks, the embedding form, and the 8193-wide form of the thesis."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from helpers.temporal_coherence.config import TemporalCoherenceConfig as Defaults

VARIANTS = ("seed", "paper", "tiny")
DECAYS = {"seed": 0.005, "paper": 0.0025}  # of the weights
IMAGENET_MEAN_BGR = (103.939, 116.779, 128.68)  # the third value as in the original's code


@keras.saving.register_keras_serializable("helpers")
class CaffeInput(layers.Layer):
    """RGB in [0, 1] -> BGR in [0, 255] minus the ImageNet mean, the input that Caffe's initialisation was made for.

    In [0, 1] the N(0, 0.01) initialisation leaves all normalised embeddings within 0.006 of each other.
    """

    def call(self, inputs: Any) -> Any:
        mean = ops.convert_to_tensor(IMAGENET_MEAN_BGR, dtype=inputs.dtype)
        return ops.flip(inputs, axis=-1) * 255.0 - mean


@keras.saving.register_keras_serializable("helpers")
class GroupedConv2D(layers.Conv2D):
    """`Conv2D` whose groups are convolved one by one: the same variables and values, three times as fast on a CPU.

    There Keras hands grouped convolutions to XLA, which runs them on one core.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if self.groups == 1:
            return super().convolution_op(inputs, kernel)
        parts = zip(ops.split(inputs, self.groups, axis=-1), ops.split(kernel, self.groups, axis=-1), strict=True)
        return ops.concatenate([super(GroupedConv2D, self).convolution_op(x, k) for x, k in parts], axis=-1)


@keras.saving.register_keras_serializable("helpers")
class LocalResponseNormalization(layers.Layer):
    """x / (1 + alpha / size * sum of x^2 over `size` neighbouring channels)^beta.

    Krizhevsky et al., "ImageNet classification with deep convolutional neural networks", 2012, section 3.3, in the form of
    Caffe's LRN layer (k = 1, alpha divided by the size).

    Args:
        size: number of channels in the window, odd.
        alpha: strength.
        beta: exponent.
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **options: Any) -> None:
        super().__init__(**options)
        if size % 2 == 0:
            raise ValueError(f"size must be odd. Received: size={size}")
        self.size = size
        self.alpha = alpha
        self.beta = beta

    def call(self, inputs: Any) -> Any:
        x = ops.cast(inputs, "float32")  # squares of 0-255 activations leave float16's range
        channel = np.arange(inputs.shape[-1])
        window = (abs(channel[:, None] - channel) <= self.size // 2).astype("float32")
        sums = ops.matmul(ops.square(x), window)  # this and exp of log: half the time of shifts and a power on a CPU
        return ops.cast(x * ops.exp(-self.beta * ops.log1p(self.alpha / self.size * sums)), inputs.dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "size": self.size, "alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable("helpers")
class MergeViews(layers.Layer):
    """(B, V, ...) -> (B V, ...): hands every view of every example to one shared trunk."""

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (None, *input_shape[2:])


@keras.saving.register_keras_serializable("helpers")
class SplitViews(layers.Layer):
    """(B V, ...) -> (B, V, ...), the way back from `MergeViews`.

    Args:
        views: V, the number of views per example.
    """

    def __init__(self, views: int, **options: Any) -> None:
        super().__init__(**options)
        self.views = views

    def call(self, inputs: Any) -> Any:
        return ops.reshape(inputs, (-1, self.views, *inputs.shape[1:]))

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (None, self.views, *input_shape[1:])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "views": self.views}


def max_pool(x: Any, *, round_up: bool) -> Any:
    """3x3 max-pooling, stride 2. Caffe rounds the output size up, Keras down: a zero row and column make up the difference.

    Zero is safe as padding because the input comes out of a ReLU.
    """
    if round_up:
        missing = [max(0, math.ceil((side - 3) / 2)) * 2 + 3 - side for side in x.shape[1:3]]
        if any(missing):
            x = layers.ZeroPadding2D(((0, missing[0]), (0, missing[1])))(x)
    return layers.MaxPooling2D(3, 2)(x)


def build_trunk(variant: str, embedding_dim: int = Defaults.embedding_dim, size: int = Defaults.size) -> keras.Model:
    """Build the network that turns one frame into one embedding.

    "paper" is the network of Redondo-Cabrera and Lopez-Sastre (2019): grouped convolutions, local response normalisation,
    Caffe's rounding of pools, no dropout. "seed" is the thesis's version: no groups, no normalisation, dropout 0.5 after both
    dense layers, twice the weight decay. "tiny" is "paper" at an eighth of the width, with He
    initialisation and without weight decay, for a CPU.

    Args:
        variant: "seed", "paper" or "tiny".
        embedding_dim: length of the embedding.
        size: side of the square input in pixels.

    Returns:
        A model (B, size, size, 3), RGB in [0, 1], to (B, embedding_dim). The embedding ends in a ReLU ("tiny": linear) and is
        not normalised.

    Raises:
        ValueError: unknown variant, or a size too small for the pools.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant must be one of {', '.join(VARIANTS)}. Received: variant={variant!r}")
    smallest = 75 if variant == "seed" else 35  # below, a pool or a kernel no longer fits
    if size < smallest:
        raise ValueError(f"size must be at least {smallest} for variant {variant!r}. Received: size={size}")
    thesis = variant == "seed"
    width = 8 if variant == "tiny" else 1
    options = {
        "activation": "relu",
        "kernel_initializer": "he_normal" if variant == "tiny" else keras.initializers.RandomNormal(stddev=0.01),
        "bias_initializer": "zeros" if variant == "tiny" else keras.initializers.Constant(0.1),
        "kernel_regularizer": keras.regularizers.L2(DECAYS[variant]) if variant in DECAYS else None,
    }
    groups = 1 if thesis else 2

    inputs = keras.Input((size, size, 3), name="frame")
    x = CaffeInput(name="caffe_input")(inputs)
    x = layers.Conv2D(96 // width, 7, 2, name="conv1", **options)(x)
    x = max_pool(x, round_up=not thesis)
    x = x if thesis else LocalResponseNormalization(name="norm1")(x)
    x = GroupedConv2D(384 // width, 5, 2, groups=groups, name="conv2", **options)(x)
    x = max_pool(x, round_up=not thesis)
    x = x if thesis else LocalResponseNormalization(name="norm2")(x)
    x = layers.Conv2D(512 // width, 3, padding="same", name="conv3", **options)(x)
    x = GroupedConv2D(512 // width, 3, padding="same", groups=groups, name="conv4", **options)(x)
    x = GroupedConv2D(384 // width, 3, padding="same", groups=groups, name="conv5", **options)(x)
    x = layers.Flatten(name="flatten")(max_pool(x, round_up=not thesis))
    x = layers.Dense(128 if variant == "tiny" else 4096, name="fc6", **options)(x)
    x = layers.Dropout(0.5, name="drop6")(x) if thesis else x
    last = {**options, "activation": None} if variant == "tiny" else options
    x = layers.Dense(embedding_dim, name="fc7", **last)(x)
    x = layers.Dropout(0.5, name="drop7")(x) if thesis else x
    return keras.Model(inputs, x, name=f"{variant}_trunk")


def build_siamese(trunk: keras.Model, *, views: int = 2, normalize: bool = False) -> keras.Model:
    """Apply one trunk to several frames at once.

    Args:
        trunk: model (B, H, W, 3) -> (B, D).
        views: frames per example, V: 2 for pairs, 4 for the quadruplet loss.
        normalize: scale every embedding to length 1, so that distances lie in [0, 2].

    Returns:
        A model (B, V, H, W, 3) -> (B, V, D), float32, with the trunk's variables and no others.
    """
    inputs = keras.Input((views, *trunk.input_shape[1:]), name="frames")
    x = trunk(MergeViews(name="merge_views")(inputs))
    x = layers.Activation("linear", dtype="float32", name="float32")(x)  # small distances underflow in float16
    if normalize:
        x = layers.UnitNormalization(dtype="float32", name="length_one")(x)
    return keras.Model(inputs, SplitViews(views, dtype="float32", name="split_views")(x), name="siamese")


def build_seed_siamese(trunk: keras.Model) -> keras.Model:
    """The thesis's form: flag and both embeddings joined in one vector, because a Keras loss sees one output only.

    Args:
        trunk: model (B, H, W, 3) -> (B, D); D = 4096 gives the thesis's 8193 columns.

    Returns:
        A model from [flag (B, 1), query (B, H, W, 3), other (B, H, W, 3)] to (B, 1 + 2 D): flag, query, other.
    """
    flag = keras.Input((1,), name="flag")
    query = keras.Input(trunk.input_shape[1:], name="query")
    other = keras.Input(trunk.input_shape[1:], name="other")
    merged = layers.Concatenate(name="merged")([flag, trunk(query), trunk(other)])
    return keras.Model([flag, query, other], merged, name="seed_siamese")


def build_classifier(trunk: keras.Model, num_classes: int) -> keras.Model:
    """A linear layer on a trunk, which is trained along, for fine-tuning: (B, H, W, 3) -> (B, num_classes) float32 logits."""
    logits = layers.Dense(num_classes, dtype="float32", name="logits")(trunk.output)
    return keras.Model(trunk.input, logits, name="classifier")


def build_inference_model(trunk: keras.Model) -> keras.Model:
    """What is compared after training: (B, H, W, 3) -> embeddings of length 1, (B, D) float32. The weights are the trunk's."""
    inputs = keras.Input(trunk.input_shape[1:], name="frame")
    x = layers.UnitNormalization(dtype="float32", name="length_one")(trunk(inputs))
    return keras.Model(inputs, x, name=f"{trunk.name}_embedder")
