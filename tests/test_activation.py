"""`helpers.activation`: against class activation maps computed in NumPy, and networks that look at one place and one time."""

from helpers import runtime

runtime.quiet_start()

import jax_twin
import keras
import numpy as np
import pytest
from keras import layers, ops

from helpers.activation import class_activation

RNG = np.random.default_rng(0)
KERNEL, BIAS = RNG.normal(size=(2, 5)).astype("float32"), RNG.normal(size=5).astype("float32")
WEIGHTS = RNG.normal(size=(5, 3)).astype("float32")


def averaging(axes):
    """Maps by a convolution of one place, their mean, one dense layer: the network of Zhou et al. for 2 or 3 axes."""
    convolution = {2: layers.Conv2D, 3: layers.Conv3D}[axes]
    mean = {2: layers.GlobalAveragePooling2D, 3: layers.GlobalAveragePooling3D}[axes]
    inputs = keras.Input((*(None,) * axes, 2))
    maps = convolution(5, 1, activation="relu", name="maps")(inputs)
    network = keras.Model(inputs, layers.Dense(3, name="logits")(mean()(maps)))
    network.set_weights([KERNEL.reshape(*(1,) * axes, 2, 5), BIAS, WEIGHTS, np.ones(3)])
    return network


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("shape", [(6, 7, 2), (4, 6, 7, 2)])
def test_behind_a_mean_and_a_dense_layer_it_is_the_class_activation_map(shape, pooled):
    item = RNG.random(shape, dtype="float32")
    maps = np.maximum(item @ KERNEL + BIAS, 0)
    for number in range(3):
        found = class_activation(averaging(len(shape) - 1), item, "maps", lambda x, k=number: x[0, k], pooled=pooled)
        expected = np.maximum(maps @ WEIGHTS[:, number], 0)  # Zhou et al., equation 2; what speaks against it left out
        np.testing.assert_allclose(found * np.prod(shape[:-1]), expected, rtol=1e-4, atol=1e-5)
    assert found.shape == shape[:-1] and found.dtype == np.float32


def watching(place):
    """A network of clips (4, 6, 8, 1) whose only output is twice the brightness at one place and time, less what is there else."""
    inputs = keras.Input((4, 6, 8, 1))
    maps = layers.Conv3D(1, 1, use_bias=False, name="maps")(inputs)
    network = keras.Model(inputs, layers.Dense(1, use_bias=False)(layers.Flatten()(maps)))
    weights = np.full((4, 6, 8), -0.01, "float32")
    weights[place] = 2.0
    network.set_weights([np.ones((1, 1, 1, 1, 1)), weights.reshape(-1, 1)])
    return network


def test_the_only_evidence_is_found_at_its_place_and_time():
    item, place = RNG.uniform(0.2, 1, (4, 6, 8, 1)).astype("float32"), (2, 1, 6)
    found = class_activation(watching(place), item, "maps", lambda x: x[0, 0], pooled=False)
    assert np.argwhere(found).tolist() == [list(place)]
    np.testing.assert_allclose(found[place], 2 * item[place][0], rtol=1e-5)
    spread = class_activation(watching(place), item, "maps", lambda x: x[0, 0])  # Grad-CAM forgets which place counted
    np.testing.assert_allclose(spread, np.maximum((2.0 - 0.01 * 191) / 192 * item[..., 0], 0), rtol=1e-3)


def test_small_maps_are_enlarged_where_they_are():
    inputs = keras.Input((6, 8, 12, 1))
    maps = layers.AveragePooling3D((2, 4, 4), name="maps")(inputs)
    network = keras.Model(inputs, layers.GlobalMaxPooling3D()(maps))
    item = np.zeros((6, 8, 12, 1), "float32")
    item[2:4, 4:, 8:] = 1  # moment 1, row 1, column 2 of the (3, 2, 3) maps
    found = class_activation(network, item, "maps", lambda x: x[0, 0])
    assert found.shape == (6, 8, 12) and found[:2].max() == found[4:].max() == 0
    np.testing.assert_array_equal(found[2], found[3])
    assert found[2].argmax() in np.flatnonzero(found[2] == found[2, 7, 11]) and found[2, 0, 0] == 0 < found[2, 7, 11]


def test_what_goes_round_the_layer_stays_as_it_was():
    inputs = keras.Input((5, 5, 2))
    maps = layers.Conv2D(2, 1, use_bias=False, name="maps")(inputs)
    network = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Multiply()([maps, inputs])))
    network.set_weights([np.eye(2).reshape(1, 1, 2, 2)])
    item = RNG.random((5, 5, 2), dtype="float32")
    found = class_activation(network, item, "maps", lambda x: x[0, 1], pooled=False)
    np.testing.assert_allclose(found, item[..., 1] ** 2 / 25, rtol=1e-5)  # the slope of a product is its other factor
    half = class_activation(network, item, "maps", lambda x: ops.sum(x) / 2, pooled=False)
    np.testing.assert_allclose(half, (item**2).sum(axis=-1) / 50, rtol=1e-5)


@pytest.mark.parametrize("layer", ["logits", "nothing"])
def test_a_layer_without_places_is_refused(layer):
    with pytest.raises(ValueError, match=rf"output has 4 axes, as a batch .* has: maps\. Received: layer='{layer}'"):
        class_activation(averaging(2), np.zeros((4, 4, 2)), layer, lambda x: x[0, 0])


@jax_twin.needs_jax
def test_the_same_on_jax():
    said = jax_twin.run(__file__, ["activation"], ["class_activation_map", "only_evidence", "goes_round"])
    assert "6 passed" in said, said
