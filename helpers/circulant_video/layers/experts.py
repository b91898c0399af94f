"""The classifier on top: a mixture of experts, and the gate that scales all probabilities by what they say together."""

import math

import keras
from keras import ops

from helpers.circulant_video.circulant import CirculantDense
from helpers.circulant_video.layers.pooling import MOMENTUM


@keras.saving.register_keras_serializable("helpers")
class ContextGating(keras.layers.Layer):
    """x sigmoid(BN(x W)): every value is scaled by what all of them say together.

    Miech et al., "Learnable pooling with context gating for video classification", 2017, arXiv 1706.06905. Inputs and outputs
    are (B, V), and `momentum` is that of the batch normalisation.
    """

    def __init__(self, momentum=MOMENTUM, **options):
        super().__init__(**options)
        self.momentum = momentum
        self.norm = keras.layers.BatchNormalization(momentum=momentum, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        size = input_shape[-1]
        normal = keras.initializers.RandomNormal(stddev=1.0 / math.sqrt(size))
        self.kernel = self.add_weight(name="kernel", shape=(size, size), initializer=normal)
        self.norm.build(input_shape)

    def call(self, inputs, training=None):
        return inputs * ops.sigmoid(self.norm(ops.matmul(inputs, self.kernel), training=training))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "momentum": self.momentum}


@keras.saving.register_keras_serializable("helpers")
class MixtureOfExperts(keras.layers.Layer):
    """For each class a mixture of logistic experts, weighed by a softmax gate with one slot that always says no.

    p = sum over the K mixtures of softmax(gates)[k] sigmoid(experts)[k]; Jordan and Jacobs, 1994, in the form of the
    YouTube-8M baseline. The penalty on the dense kernels is 1e-8 times half their squares.

    Args:
        classes: number of outputs, V.
        mixtures: experts per class, K.
        gating: scale the probabilities by a `ContextGating`, V^2 more parameters.
        compact: circulant matrices without diagonal for gates and experts, and no penalty.
        momentum: of the batch normalisation of the gating.

    Call arguments:
        inputs: (B, I).

    Returns:
        (B, V) probabilities, float32 under every dtype policy: at 0.99 bfloat16 has steps of 0.004.
    """

    def __init__(self, classes, mixtures, gating=True, compact=False, momentum=MOMENTUM, **options):
        super().__init__(**options)
        self.classes = classes
        self.mixtures = mixtures
        self.gating = gating
        self.compact = compact
        self.momentum = momentum
        self.gates = self._kernel(classes * (mixtures + 1), "gates")
        self.experts = self._kernel(classes * mixtures, "experts")
        self.context = ContextGating(momentum=momentum, dtype=self._wide, name="context") if gating else None

    @property
    def _wide(self):
        return keras.backend.result_type(self.compute_dtype, "float32")

    def _kernel(self, units, name):
        options = {"dtype": self.dtype_policy, "name": name}
        if self.compact:
            return CirculantDense(units, diagonal=None, **options)
        penalty = keras.regularizers.L2(0.5e-8)
        return keras.layers.Dense(units, use_bias=False, kernel_regularizer=penalty, **options)

    def build(self, input_shape):
        self.gates.build(input_shape)
        self.experts.build(input_shape)
        size = self.classes * self.mixtures
        start = keras.initializers.Constant(1.0 / math.sqrt(size) if self.compact else 0.0)
        self.bias = self.add_weight(name="bias", shape=(size,), initializer=start, autocast=False)
        if self.context is not None:
            self.context.build((input_shape[0], self.classes))

    def call(self, inputs, training=None):
        gates = ops.reshape(ops.cast(self.gates(inputs), self._wide), (-1, self.classes, self.mixtures + 1))
        experts = ops.cast(self.experts(inputs), self._wide) + self.bias
        experts = ops.sigmoid(ops.reshape(experts, (-1, self.classes, self.mixtures)))
        p = ops.sum(ops.softmax(gates, axis=-1)[..., :-1] * experts, axis=-1)
        return p if self.context is None else self.context(p, training=training)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.classes)

    def get_config(self):
        own = {key: getattr(self, key) for key in ("classes", "mixtures", "gating", "compact", "momentum")}
        return {**super().get_config(), **own}
