"""Circulant layers: matrices of n values instead of n x n, applied in O(n log n) through the FFT."""

import math

import keras
import numpy as np
from keras import ops

DIAGONALS = ("learned", "fixed", None)
INITIALIZERS = ("original", "paper")


def circulant_matrix(c) -> np.ndarray:
    """The matrix that a vector stands for, C[i, j] = c[(i - j) mod n]: c is its first column. For lessons and tests.

    Args:
        c: (..., n) values, array or tensor.

    Returns:
        (..., n, n) NumPy array of the same dtype.
    """
    c = np.asarray(c)
    index = np.arange(c.shape[-1])
    return c[..., (index[:, None] - index) % len(index)]


def _transforms(n):
    """Real FFT and its inverse of the backend itself, on complex tensors.

    `keras.ops` hands spectra over as (real, imaginary) pairs. TensorFlow, which fuses nothing outside XLA, then spends as long
    on taking them apart, multiplying and joining them as on the transforms.
    """
    if keras.backend.backend() == "tensorflow":
        from tensorflow import signal

        return signal.rfft, lambda x_hat: signal.irfft(x_hat, [n])
    from jax.numpy import fft

    return fft.rfft, lambda x_hat: fft.irfft(x_hat, n)


def circulant_product(x, c):
    """x C for every block: the circular cross-correlation y[j] = sum over i of x[i] c[(i - j) mod n].

    y = irfft(rfft(x) conj(rfft(c))). The gradient reuses both spectra, dx = irfft(rfft(dy) rfft(c)) and
    dc = irfft(sum over rows of rfft(x) conj(rfft(dy))): five transforms in all.

    Args:
        x: (..., blocks, n) or (..., 1, n), one input that all blocks share; float32 or float64.
        c: (blocks, n), the same dtype, a tensor and not a variable: a custom gradient may not close over variables.

    Returns:
        (..., blocks, n).
    """
    blocks, n = c.shape
    shared = x.shape[-2] == 1 and blocks > 1

    rfft, irfft = _transforms(n)  # without n an odd length would come back as n - 1 columns

    @ops.custom_gradient
    def product(x, c):
        x_hat, c_hat = rfft(x), rfft(c)

        def gradient(*args, upstream=None):
            dy_hat = rfft(args[0] if upstream is None else upstream)
            dx_hat = dy_hat * c_hat
            if shared:  # summed before the inverse transform: one instead of `blocks`
                dx_hat = ops.sum(dx_hat, axis=-2, keepdims=True)
            dc_hat = ops.sum(x_hat * ops.conj(dy_hat), axis=tuple(range(len(x.shape) - 2)))
            return irfft(dx_hat), irfft(dc_hat)

        return irfft(x_hat * ops.conj(c_hat)), gradient

    return product(x, c)


def diagonal_circulant(x, c, d=None, *, units, diagonal="learned"):
    """The whole of `CirculantDense` as a function of its variables.

    Args:
        x: (..., n).
        c: (blocks, factors, n).
        d: like c; None with diagonal None.
        units: columns to keep, at most blocks * n.
        diagonal: "learned" multiplies by d before each circulant matrix, "fixed" after it.

    Returns:
        (..., units).
    """
    blocks, factors, n = c.shape
    y = ops.expand_dims(x, -2)
    for k in range(factors):
        y = y * d[:, k] if diagonal == "learned" else y
        y = circulant_product(y, c[:, k])
        y = y * d[:, k] if diagonal == "fixed" else y
    if blocks == 1:
        return y[..., 0, :units]
    return ops.reshape(y, (*ops.shape(x)[:-1], blocks * n))[..., :units]


@keras.saving.register_keras_serializable("helpers")
class RandomSigns(keras.initializers.Initializer):
    """+1 or -1, each with probability one half.

    Args:
        seed: an int; None draws one, which `keras.utils.set_random_seed` makes repeatable.
    """

    def __init__(self, seed=None):
        self.uniform = keras.initializers.RandomUniform(-1.0, 1.0, seed=seed)

    def __call__(self, shape, dtype=None):
        return ops.where(self.uniform(shape, dtype) < 0.0, -1.0, 1.0)

    def get_config(self):
        return {"seed": self.uniform.get_config()["seed"]}


@keras.saving.register_keras_serializable("helpers")
class CirculantDense(keras.layers.Layer):
    """A dense layer without bias whose kernel is made of diagonal and circulant matrices.

    y = x diag(d) C, C[i, j] = c[(i - j) mod n], for each of ceil(units / n) blocks; the blocks stand side by side and are cut
    to `units` columns. Araujo et al., "Training compact deep learning models for video classification using circulant
    matrices", 2018, arXiv 1810.01140. Transforms are in float32 (float64 in a float64 layer) under every dtype policy.

    Args:
        units: number of outputs, smaller or larger than the n inputs or equal to them.
        factors: number of products x diag(d) C one after the other in each block.
        diagonal: "learned"; "fixed", random signs *after* each C, saved but not trained; or None, no diagonal. A batch
            normalisation behind the layer can express the signs of "fixed" with its own scale.
        initializer: "original": c and learned d from N(0, 1 / units), as in the code of 1810.01140. "paper": c from N(0, 2 / n)
            and learned d random signs, as in Araujo et al., "Understanding and training deep diagonal circulant neural
            networks", arXiv 1901.10255.

    Attributes:
        c: variable (blocks, factors, n).
        d: variable (blocks, factors, n), or None.

    Call arguments:
        inputs: (..., n).
    """

    def __init__(self, units, factors=1, diagonal="learned", initializer="original", **options):
        super().__init__(**options)
        for name, value in {"units": units, "factors": factors}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1. Received: {name}={value}")
        if diagonal not in DIAGONALS:
            raise ValueError(f"diagonal must be one of {DIAGONALS}. Received: diagonal={diagonal!r}")
        if initializer not in INITIALIZERS:
            raise ValueError(f"initializer must be one of {INITIALIZERS}. Received: initializer={initializer!r}")
        self.units = units
        self.factors = factors
        self.diagonal = diagonal
        self.initializer = initializer

    def build(self, input_shape):
        n = input_shape[-1]
        if n is None:
            raise ValueError(f"the last axis of the input must be known. Received: input_shape={input_shape}")
        shape = (math.ceil(self.units / n), self.factors, n)
        variance = 1.0 / self.units if self.initializer == "original" else 2.0 / n

        def normal():  # one initializer called twice would give d the values of c
            return keras.initializers.RandomNormal(stddev=math.sqrt(variance))

        options = {"shape": shape, "autocast": False}  # no rounding to half precision on the way into a transform
        self.c = self.add_weight(name="c", initializer=normal(), **options)
        self.d = None
        if self.diagonal is not None:
            learned = self.diagonal == "learned"
            start = normal() if learned and self.initializer == "original" else RandomSigns()
            self.d = self.add_weight(name="d", initializer=start, trainable=learned, **options)

    def call(self, inputs):
        dtype = keras.backend.result_type(self.compute_dtype, "float32")
        x = ops.cast(inputs, dtype)
        c = ops.convert_to_tensor(self.c, dtype)
        d = None if self.d is None else ops.convert_to_tensor(self.d, dtype)
        y = diagonal_circulant(x, c, d, units=self.units, diagonal=self.diagonal)
        return ops.cast(y, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        own = {key: getattr(self, key) for key in ("units", "factors", "diagonal", "initializer")}
        return {**super().get_config(), **own}
