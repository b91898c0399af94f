"""The gradient of a plain function of arrays, on whichever backend Keras has."""

from collections.abc import Callable, Sequence

import keras
import numpy as np


def value_and_gradients(function: Callable[[list], object], arrays: Sequence) -> tuple[float, list[np.ndarray]]:
    """The scalar `function(tensors)`, made of `keras.ops`, and what it changes by with each number of each (float) array."""
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]
    if keras.backend.backend() == "jax":
        import jax

        value, found = jax.value_and_grad(function)(tensors)
    else:
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = function(tensors)
        found = tape.gradient(value, tensors, unconnected_gradients="zero")
    return float(value), [keras.ops.convert_to_numpy(gradient) for gradient in found]
