"""Frames out of whole videos: bags of them drawn for a step, bytes made numbers."""

import keras
import numpy as np
from keras import ops

from helpers.circulant_video.formats.examples import CODE_STEP, LOWEST_VALUE
from helpers.circulant_video.layers.pooling import l2_normalize


@keras.saving.register_keras_serializable("helpers")
class SampleFrames(keras.layers.Layer):
    """Draw bags of frames, dequantise bytes, and scale every frame to length 1 over all its features together.

    Only the first `num_frames` of a video are ever drawn. A video without frames gives zeros. Training draws at random, with
    replacement; inference takes the same frames every time, spread over the video, where the original drew at random, too.

    Args:
        bags: sets of frames per video; of the config.
        iterations: frames per bag; of the config.
        seed: of the draws.

    Call arguments:
        frames: (B, T, F), uint8 as stored or float.
        num_frames: (B,) ints.

    Returns:
        (B bags, iterations, F) float32; the bags of one video are neighbours.
    """

    def __init__(self, bags, iterations, seed=None, **options):
        super().__init__(**{"dtype": "float32", **options})  # no rounding of features before they have length 1
        self.bags = bags
        self.iterations = iterations
        self.seed = seed
        self.generator = keras.random.SeedGenerator(seed)

    def draw(self, num_frames, training=False):
        """Indices (B, bags iterations) below `num_frames` (B, 1)."""
        size = self.bags * self.iterations
        if training:
            uniform = keras.random.uniform((ops.shape(num_frames)[0], size), seed=self.generator)
            index = ops.cast(ops.floor(uniform * ops.cast(num_frames, "float32")), "int32")
        else:  # bag b takes places b, b + bags, ...: each spans the whole video
            place = np.arange(size).reshape(self.iterations, self.bags).T.reshape(1, -1)
            index = ops.floor_divide((2 * place + 1).astype("int32") * num_frames, 2 * size)
        return ops.minimum(index, ops.maximum(num_frames - 1, 0))  # a uniform number near 1 may round up to n

    def call(self, frames, num_frames, training=None):
        length, size = ops.shape(frames)[1], frames.shape[2]
        count = ops.clip(ops.cast(ops.reshape(num_frames, (-1, 1)), "int32"), 0, length)
        first = ops.expand_dims(ops.arange(ops.shape(frames)[0], dtype="int32") * length, 1)
        rows = ops.reshape(first + self.draw(count, training), (-1,))
        x = ops.take(ops.reshape(frames, (-1, size)), rows, axis=0)
        x = l2_normalize(dequantize(x), axis=-1)
        x = ops.reshape(x, (-1, self.bags * self.iterations, size)) * ops.cast(count > 0, x.dtype)[..., None]
        return ops.reshape(x, (-1, self.iterations, size))

    def compute_output_shape(self, frames_shape, num_frames_shape):
        return (None, self.iterations, frames_shape[2])

    def get_config(self):
        own = {key: getattr(self, key) for key in ("bags", "iterations", "seed")}
        return {**super().get_config(), **own}


def dequantize(x):
    """uint8 codes to features in [-1.992, 2.008], as `data.dequantize`, on tensors; floats as they are."""
    if keras.backend.standardize_dtype(x.dtype) != "uint8":
        return x
    return ops.cast(x, "float32") * CODE_STEP + LOWEST_VALUE
