"""What a network looks at: where and when in a picture or clip one of its numbers is decided."""

from collections.abc import Callable
from typing import Any

import cv2
import keras
import numpy as np

from helpers.training import value_and_gradients


def class_activation(
    network: keras.Model, item: np.ndarray, layer: str, score: Callable[[Any], Any], *, pooled: bool = True
) -> np.ndarray:
    """Grad-CAM: how much each place of a layer's maps speaks for a number, over time too where the layer keeps time.

    ReLU(sum_k a_k A_k), where A_k are the maps and a_k is the mean slope of the number over all places and times of A_k:
    Selvaraju et al., "Grad-CAM", 2017. Where maps go through a mean into one dense layer it is, but for a constant, the class
    activation map of Zhou et al., "Learning deep features for discriminative localization", 2016. Where the place counts (maps that
    are laid out flat, a recurrent layer, a head for boxes) the mean mixes places; then `pooled=False` is the faithful one.
    ValueError: no such layer, or its output has no places.

    Args:
        item: (H, W, C), or (T, H, W, C) as a clip, float in [0, 1].
        layer: name of a layer of the network itself whose output is (B, h, w, K), or (B, T', h, w, K).
        score: from the network's outputs for a batch of this one item to one number, made of `keras.ops`, such as
            `lambda logits: logits[0, 3]`.
        pooled: False takes each slope at its own place: Draelos and Carin, "Use HiResCAM instead of Grad-CAM", 2020.

    Returns:
        As large as the item, (H, W) or (T, H, W) float32 of at least 0: between places of the layer linear, between its moments the
        nearest. The scale is the score's own; only maps of the same layer and score can be compared.
    """
    inside = [found for found in network.layers if not isinstance(found, keras.layers.InputLayer)]
    shapes = {found.name: getattr(getattr(found, "output", None), "shape", ()) for found in inside}
    names = [name for name, shape in shapes.items() if len(shape) == item.ndim + 1]
    if layer not in names:
        kinds = f"one whose output has {item.ndim + 1} axes, as a batch of the input has"
        raise ValueError(f"layer must be {kinds}: {', '.join(names)}. Received: layer={layer!r}")
    inner, inputs = network.get_layer(layer).output, keras.ops.convert_to_tensor(np.asarray(item, "float32")[None])
    maps = keras.Model(network.inputs, inner)(inputs, training=False)
    rest = keras.Model([*network.inputs, inner], network.outputs if len(network.outputs) > 1 else network.outputs[0])
    _, (slopes,) = value_and_gradients(lambda found: score(rest([inputs, *found], training=False)), [maps])
    if pooled:
        slopes = slopes.mean(axis=tuple(range(slopes.ndim - 1)), keepdims=True)
    return _enlarge(np.maximum((slopes * keras.ops.convert_to_numpy(maps)).sum(axis=-1), 0)[0], item.shape[:-1])


def _enlarge(maps: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Maps (h, w) or (T', h, w) as large as `shape`."""
    frames = maps.reshape(-1, *maps.shape[-2:]).astype("float32")
    large = np.stack([cv2.resize(frame, shape[:-3:-1], interpolation=cv2.INTER_LINEAR) for frame in frames])
    moments = (np.arange(shape[0]) + 0.5) * len(large) / shape[0]
    return large[0] if len(shape) == 2 else large[moments.astype(int)]
