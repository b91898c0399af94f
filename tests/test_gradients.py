"""The gradient of a function, on both backends."""

from helpers import runtime

runtime.quiet_start()

import jax_twin
import numpy as np
from keras import ops

from helpers.training import value_and_gradients


def test_gradients_of_a_polynomial_and_of_what_does_not_matter():
    arrays = [np.array([1.0, -2.0], "float32"), np.array([[3.0]], "float32"), np.ones(4, "float32")]
    value, found = value_and_gradients(lambda x: ops.sum(x[0] ** 3) * x[1][0, 0], arrays)
    assert value == -21.0 and isinstance(value, float)
    assert [gradient.tolist() for gradient in found] == [[9.0, 36.0], [[-7.0]], [0.0] * 4]
    assert all(isinstance(gradient, np.ndarray) for gradient in found)


@jax_twin.needs_jax
def test_the_same_on_jax():
    assert "2 passed" in jax_twin.run(__file__, ["gradients", "early_stop"], ["polynomial", "undone and two_epochs"])
