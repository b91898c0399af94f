"""What a network costs, counted in TensorFlow's graph of its forward pass: the oracle of the constants in `helpers/*/config.py`."""

from helpers import runtime

runtime.quiet_start()

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

CONVOLUTIONS = ("Conv2D", "Conv3D")
PRODUCTS = {"MatMul": "transpose_a", "BatchMatMulV2": "adj_x", "BatchMatMulV3": "adj_x"}
VIEWS = (
    *("Reshape", "Identity", "IdentityN", "Squeeze", "ExpandDims", "StopGradient", "ReadVariableOp", "Const", "Cast"),
    *("Placeholder", "Fill"),
)


def count(function: Callable[..., Any], example: Any) -> tuple[float, float]:
    """Operations (two for a multiply-add) of all convolutions and products of matrices, and bytes of all floats that are made.

    Args:
        function: the forward pass.
        example: an input of one item: an array, or a dict of arrays.
    """
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda part: tf.TensorSpec(part.shape, part.dtype), example)
    graph = tf.function(function, autograph=False).get_concrete_function(specs).graph
    operations = [operation for operation in graph.get_operations() if operation.type not in VIEWS]
    assert not any("While" in operation.type for operation in operations), "a loop hides its work: unroll(model) first"
    made = sum(_size(one) * one.dtype.size for each in operations for one in each.outputs if one.dtype.is_floating)
    return sum(map(_operations, operations)), made


def unroll(model: keras.Model) -> keras.Model:
    """Recurrent layers write out their steps, so that each is seen."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN):
            layer.unroll = True
    return model


def _size(tensor: Any) -> float:
    return float(np.prod(tensor.shape.as_list())) if tensor.shape.is_fully_defined() else 0.0


def _operations(operation: Any) -> float:
    if operation.type in CONVOLUTIONS:
        return 2 * _size(operation.outputs[0]) * float(np.prod(operation.inputs[1].shape.as_list()[:-1]))
    if operation.type in PRODUCTS:
        shape = operation.inputs[0].shape.as_list()
        return 2 * _size(operation.outputs[0]) * shape[-2 if operation.get_attr(PRODUCTS[operation.type]) else -1]
    return 0.0
