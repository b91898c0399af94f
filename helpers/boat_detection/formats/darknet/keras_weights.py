"""Between Darknet's .weights files and Keras networks: loaded whole or in part, sliced for other classes, saved."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from helpers.boat_detection.formats.darknet.weights_file import make_header, read_file
from helpers.boat_detection.layers import YoloHead
from helpers.workspace import disk


class Convolution(NamedTuple):
    """One convolution of a model: Darknet's number, its layers, and the `YoloHead` if it feeds one."""

    index: int
    conv: keras.layers.Layer
    norm: keras.layers.BatchNormalization | None
    head: YoloHead | None

    def shapes(self, classes: int | None = None) -> list[tuple[int, ...]]:
        """Shapes of its arrays in the order of a file; `classes` of the file count where this is a head."""
        filters, *kernel = _kernel_shape(self.conv)
        if self.head is not None and classes is not None:
            filters = self.head.anchors * (5 + classes)
        return [(filters,)] * (1 if self.norm is None else 4) + [(filters, *kernel)]

    def floats(self, classes: int | None = None) -> int:
        """Values that it takes in a file."""
        return sum(int(np.prod(shape)) for shape in self.shapes(classes))

    def variables(self) -> list[keras.Variable]:
        """Its variables in the order of a file."""
        norm = self.norm
        first = [self.conv.bias] if norm is None else [norm.beta, norm.gamma, norm.moving_mean, norm.moving_variance]
        return [*first, self.conv.kernel]


def convolutions(model: keras.Model) -> list[Convolution]:
    """The convolutions of a network made by `build_from_cfg`, in the order of the file; models inside models are searched.

    Raises:
        ValueError: the model has none.
    """
    named = {layer.name: layer for layer in _walk(model)}
    indices = sorted(int(name.removeprefix("conv_")) for name in named if name.startswith("conv_"))
    if not indices:
        raise ValueError(
            f"model must come from build_from_cfg. Received: {model.name!r}, without a layer conv_<number>"
        )
    return [Convolution(i, named[f"conv_{i}"], named.get(f"bn_{i}"), named.get(f"yolo_{i + 1}")) for i in indices]


def has_numbers(model: keras.Model) -> bool:
    """Whether the layers have Darknet's numbers, so that a .weights file can hold the model."""
    return any(layer.name.startswith("conv_") for layer in _walk(model))


def _walk(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _walk(layer)
        yield layer


def _is_depthwise(conv: keras.layers.Layer) -> bool:
    return isinstance(conv, keras.layers.DepthwiseConv2D)


def _kernel_shape(conv: keras.layers.Layer) -> tuple[int, ...]:
    """Darknet's (filters, channels per group, height, width)."""
    height, width, channels, filters = conv.kernel.shape
    return (channels * filters, 1, height, width) if _is_depthwise(conv) else (filters, channels, height, width)


def _to_darknet(conv: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    order = (
        (2, 3, 0, 1) if _is_depthwise(conv) else (3, 2, 0, 1)
    )  # depthwise: (height, width, channels, filters for each)
    return np.transpose(kernel, order).reshape(_kernel_shape(conv))


def _to_keras(conv: keras.layers.Layer, kernel: np.ndarray) -> np.ndarray:
    height, width, channels, filters = conv.kernel.shape
    if _is_depthwise(conv):
        return kernel.reshape(channels, filters, height, width).transpose(2, 3, 0, 1)
    return kernel.transpose(2, 3, 1, 0)


def load_weights(model: keras.Model, path: str | os.PathLike, head: str | Sequence[int] = "strict") -> tuple[int, int]:
    """Load a .weights file, whole or cut after any layer; nothing is changed unless all of it is in order.

    Args:
        model: from `build_from_cfg`, or a model around one.
        head: what happens to the convolutions before `[yolo]`. "strict" loads them, the classes must be the same; "drop" leaves
            them as they are; a list of class numbers of the file makes these the model's classes, [8] a detector of boats
            from a COCO file.

    Returns:
        Number of convolutions loaded, images seen according to the file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file ends inside a layer or goes on after the last one, holds a value that is not finite or a negative
            variance, or its heads do not fit.
    """
    if isinstance(head, str) and head not in ("strict", "drop"):
        raise ValueError(f'head must be "strict", "drop" or a list of class numbers. Received: head={head!r}')
    head = head if isinstance(head, str) else list(head)
    convs, name = convolutions(model), Path(path).name
    seen, values = read_file(path, lambda count: _fits(convs, count, head))
    classes = None if head == "strict" else _file_classes(convs, len(values), name)
    found = _cut(convs, values, classes, name)
    for conv, arrays in found:
        _check(arrays, conv.index, name)
    if not isinstance(head, str):
        found = [(conv, _slice(conv, arrays, head, classes)) for conv, arrays in found]
    elif head == "drop":
        found = [(conv, arrays) for conv, arrays in found if conv.head is None]
    for conv, arrays in found:
        for variable, array in zip(conv.variables(), arrays, strict=True):
            variable.assign(_to_keras(conv.conv, array) if array.ndim == 4 else array)
    return len(found), seen


def _fits(convs: list[Convolution], count: int, head: str | list[int]) -> bool:
    """Whether a file with `count` values ends after a layer."""
    try:
        classes = None if head == "strict" else _file_classes(convs, count, "")
    except ValueError:
        return False
    return count in np.cumsum([conv.floats(classes) for conv in convs])


def _file_classes(convs: list[Convolution], count: int, name: str) -> int | None:
    """Number of classes of a file with `count` values, from its length alone; None if it ends before the first head."""
    body = np.cumsum([conv.floats() for conv in convs])
    first = next((place for place, conv in enumerate(convs) if conv.head is not None), len(convs))
    if count in body[:first]:
        return None
    rest = count - sum(conv.floats(0) for conv in convs)
    each = sum(conv.floats(1) - conv.floats(0) for conv in convs)
    if not each or rest <= 0 or rest % each:
        raise ValueError(
            f"{name}: its {count} values fit this network with no number of classes, and no end of a layer before the first head; "
            "the file is damaged or belongs to another network"
        )
    return rest // each


def _cut(convs: list[Convolution], values: np.ndarray, classes: int | None, name: str) -> list:
    """Pairs of convolution and arrays, until the file ends, which must be after a layer."""
    found, place = [], 0
    for conv in convs:
        if place == len(values):
            break
        size = conv.floats(classes)
        if place + size > len(values):
            raise ValueError(
                f"{name}: ends inside layer {conv.index}: {len(values) - place} values, it takes {size}. The file is truncated or "
                f"belongs to another network{_hint(convs, len(values), name)}"
            )
        shapes = conv.shapes(classes)
        ends = place + np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = np.split(values[place : ends[-1]], ends[:-1] - place)
        found.append((conv, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]))
        place = int(ends[-1])
    if place < len(values):
        raise ValueError(
            f"{name}: {len(values) - place} values are left after the last layer; expected {place}, received {len(values)}. The "
            f"file belongs to another network{_hint(convs, len(values), name)}"
        )
    return found


def _hint(convs: list[Convolution], count: int, name: str) -> str:
    try:
        classes = _file_classes(convs, count, name)
    except ValueError:
        return ""
    return f', maybe this one with {classes} classes: pass head="drop" or the numbers of the classes to keep'


def _check(arrays: list[np.ndarray], index: int, name: str) -> None:
    """Finite values, and variances of at least 0."""
    for array in arrays:
        bad = int(array.size - np.isfinite(array).sum())
        if bad:
            raise ValueError(
                f"{name}: {bad} of {array.size} values in layer {index} are not finite; the training had failed"
            )
    if len(arrays) == 5 and (arrays[3] < 0).any():
        raise ValueError(
            f"{name}: a negative variance in layer {index}; the file is damaged or belongs to another network"
        )


def _slice(conv: Convolution, arrays: list[np.ndarray], keep: list[int], classes: int) -> list[np.ndarray]:
    """Of a head the rows of box, objectness and the classes to keep, for each anchor."""
    if conv.head is None:
        return arrays
    if len(keep) != conv.head.classes or not all(isinstance(i, int | np.integer) and 0 <= i < classes for i in keep):
        raise ValueError(
            f"head must be a list of {conv.head.classes} class numbers from 0 to {classes - 1}, one for each class of the model. "
            f"Received: head={keep}"
        )
    rows = [*range(5), *(5 + i for i in keep)]
    return [
        array.reshape(conv.head.anchors, 5 + classes, *array.shape[1:])[:, rows].reshape(-1, *array.shape[1:])
        for array in arrays
    ]


def save_weights(model: keras.Model, path: str | os.PathLike, *, seen: int = 0, layers: int | None = None) -> int:
    """Write a .weights file that Darknet and OpenCV 4 read, all at once.

    Args:
        model: from `build_from_cfg`, or a model around one.
        seen: images seen in training.
        layers: write only layers with numbers below this, as Darknet's `partial` does; 74 of yolov3 is its backbone.

    Returns:
        Number of convolutions written.
    """
    convs = [conv for conv in convolutions(model) if layers is None or conv.index < layers]
    with disk.atomic_write(path) as file:
        file.write(make_header(seen))
        for conv in convs:
            for variable in conv.variables():
                array = ops.convert_to_numpy(variable.value)
                array = _to_darknet(conv.conv, array) if array.ndim == 4 else array
                file.write(np.ascontiguousarray(array, "<f4").tobytes())
    return len(convs)
