"""Layers that turn the frames of a video into one vector: deep bag of frames, NetVLAD, NetFV."""

import math

import keras
from keras import ops

from helpers.circulant_video.circulant import CirculantDense
from helpers.circulant_video.config import CirculantVideoConfig as Defaults

MOMENTUM = Defaults.momentum  # of all batch normalisations, the original's; short trainings need 0.9 to 0.99
TINY = 1e-12


def l2_normalize(x, axis):
    """x / ||x|| along an axis or several; zeros stay zeros, with a finite gradient."""
    return x * ops.rsqrt(ops.maximum(ops.sum(ops.square(x), axis=axis, keepdims=True), TINY))


def _normal():
    """N(0, 1 / number of inputs)."""
    return keras.initializers.VarianceScaling(1.0, "fan_in", "untruncated_normal")


@keras.saving.register_keras_serializable("helpers")
class DBoF(keras.layers.Layer):
    """Deep bag of frames: every frame projected on `clusters`, batch-normalised, relu6; then the maximum over the frames.

    Abu-El-Haija et al., "YouTube-8M: a large-scale video classification benchmark", 2016, arXiv 1609.08675.

    Args:
        clusters: number of outputs.
        compact: project with a `CirculantDense` in place of a dense layer.
        factors, initializer: of that layer.
        momentum: of the batch normalisation.

    Call arguments:
        inputs: (B, T, F) frames.

    Returns:
        (B, clusters).
    """

    def __init__(self, clusters, compact=False, factors=1, momentum=MOMENTUM, initializer="original", **options):
        super().__init__(**options)
        self.clusters = clusters
        self.compact = compact
        self.factors = factors
        self.momentum = momentum
        self.initializer = initializer
        policy = {"dtype": self.dtype_policy, "name": "projection"}
        if compact:
            self.projection = CirculantDense(clusters, factors, initializer=initializer, **policy)
        else:
            self.projection = keras.layers.Dense(clusters, use_bias=False, kernel_initializer=_normal(), **policy)
        self.norm = keras.layers.BatchNormalization(momentum=momentum, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        self.projection.build(input_shape)
        self.norm.build((*input_shape[:-1], self.clusters))

    def call(self, inputs, training=None):
        x = ops.relu6(self.norm(self.projection(inputs), training=training))  # (B, T, clusters)
        return ops.max(x, axis=1)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.clusters)

    def get_config(self):
        own = {key: getattr(self, key) for key in ("clusters", "compact", "factors", "momentum", "initializer")}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("helpers")
class NetVLAD(keras.layers.Layer):
    """Softly assigned residuals to learned centres, each centre's of length 1, then the whole of length 1.

    Arandjelovic et al., "NetVLAD: CNN architecture for weakly supervised place recognition", CVPR 2016, with the batch
    normalisation and without the bias of Miech et al., "Learnable pooling with context gating for video classification", 2017.

    Args:
        clusters: number of centres, S (`vlad_clusters` of the config).
        momentum: of the batch normalisation.

    Call arguments:
        inputs: (B, T, F) frames.

    Returns:
        (B, F S): feature f of centre k at f S + k.
    """

    def __init__(self, clusters, momentum=MOMENTUM, **options):
        super().__init__(**options)
        self.clusters = clusters
        self.momentum = momentum
        self.assignment = keras.layers.Dense(
            clusters, use_bias=False, kernel_initializer=_normal(), dtype=self.dtype_policy, name="assignment"
        )
        self.norm = keras.layers.BatchNormalization(momentum=momentum, dtype=self.dtype_policy, name="norm")

    def build(self, input_shape):
        self.assignment.build(input_shape)
        self.norm.build((*input_shape[:-1], self.clusters))
        shape = (input_shape[-1], self.clusters)
        self.centers = self.add_weight(name="centers", shape=shape, initializer=_normal(), autocast=False)

    def assign(self, inputs, training):
        """How much of each frame every centre gets (B, T, S), and the frames as columns (B, F, T), at least float32."""
        dtype = keras.backend.result_type(self.compute_dtype, "float32")  # for sums over frames and squares
        scores = self.norm(self.assignment(inputs), training=training)
        columns = ops.transpose(ops.cast(inputs, dtype), (0, 2, 1))
        return ops.softmax(ops.cast(scores, dtype), axis=-1), columns

    def flatten(self, x):
        return ops.reshape(x, (-1, x.shape[1] * x.shape[2]))

    def call(self, inputs, training=None):
        weights, x = self.assign(inputs, training)
        mass = ops.sum(weights, axis=1, keepdims=True)  # (B, 1, S)
        residuals = l2_normalize(ops.matmul(x, weights) - mass * self.centers, axis=1)  # (B, F, S)
        return ops.cast(l2_normalize(self.flatten(residuals), axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], input_shape[2] * self.clusters)

    def get_config(self):
        return {**super().get_config(), "clusters": self.clusters, "momentum": self.momentum}


@keras.saving.register_keras_serializable("helpers")
class NetFV(NetVLAD):
    """Fisher vector with a learned Gaussian per cluster: residuals of first and of second order, side by side.

    Miech et al., "Learnable pooling with context gating for video classification", 2017, arXiv 1706.06905, in the form of
    their code: the learned width is squared once as a parameter and once more in the second order; the second order is
    not normalised per cluster. Arguments and inputs are `NetVLAD`'s, with a Gaussian for each centre.

    Returns:
        (B, 2 F S): first order, then second order; each of length 1, with feature f of cluster k at f S + k.
    """

    def build(self, input_shape):
        super().build(input_shape)
        around_one = keras.initializers.RandomNormal(1.0, 1.0 / math.sqrt(input_shape[-1]))
        shape = (input_shape[-1], self.clusters)
        self.widths = self.add_weight(name="widths", shape=shape, initializer=around_one, autocast=False)

    def call(self, inputs, training=None):
        weights, x = self.assign(inputs, training)
        mass = ops.sum(weights, axis=1, keepdims=True)  # (B, 1, S)
        first, second = ops.matmul(x, weights), ops.matmul(ops.square(x), weights)  # (B, F, S)
        c = ops.convert_to_tensor(self.centers)
        sigma = ops.square(self.widths) + 1e-6
        f1 = l2_normalize((first - mass * c) / sigma, axis=1)
        f2 = (mass * ops.square(c) + second - 2.0 * first * c) / ops.square(sigma) - mass
        parts = [l2_normalize(self.flatten(f), axis=-1) for f in (f1, f2)]
        return ops.cast(ops.concatenate(parts, axis=-1), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], 2 * input_shape[2] * self.clusters)
