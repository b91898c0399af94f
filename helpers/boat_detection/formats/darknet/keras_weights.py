"""Between Darknet's .weights files and Keras networks: loaded whole or in part, sliced for other classes, saved."""

import itertools
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

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes of Keras's kernel in a file's order: filters, channels, height, width; depthwise the first two change places."""
        return (2, 3, 0, 1) if isinstance(self.conv, keras.layers.DepthwiseConv2D) else (3, 2, 0, 1)

    def shapes(self, classes: int | None = None) -> list[tuple[int, ...]]:
        """Shapes of its arrays in the order of a file; `classes` of the file count where this is a head."""
        height, width, channels, _ = self.conv.kernel.shape
        *first, _ = self.variables()
        filters = first[0].shape[0] if classes is None or self.head is None else self.head.anchors * (5 + classes)
        per_group = channels if self.axes[0] == 3 else 1
        return [(filters,)] * len(first) + [(filters, per_group, height, width)]

    def floats(self, classes: int | None = None) -> int:
        """Values that it takes in a file."""
        return sum(int(np.prod(shape)) for shape in self.shapes(classes))

    def variables(self) -> list[keras.Variable]:
        """Its variables in the order of a file."""
        norm = self.norm
        first = [self.conv.bias] if norm is None else [norm.beta, norm.gamma, norm.moving_mean, norm.moving_variance]
        return [*first, self.conv.kernel]

    def assign(self, arrays: list[np.ndarray]) -> None:
        """Give its variables the values of a file."""
        *first, kernel = arrays
        shape = [self.conv.kernel.shape[axis] for axis in self.axes]
        kernel = kernel.reshape(shape).transpose(np.argsort(self.axes))
        for variable, array in zip(self.variables(), (*first, kernel), strict=True):
            variable.assign(array)

    def arrays(self) -> list[np.ndarray]:
        """What a file holds of it."""
        *first, kernel = (ops.convert_to_numpy(variable.value) for variable in self.variables())
        return [*first, kernel.transpose(self.axes)]


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


def load_weights(
    model: keras.Model, path: str | os.PathLike, head: str | Sequence[int] = "strict", *, layers: int | None = None
) -> tuple[int, int]:
    """Load a .weights file, whole or cut after any layer; nothing is changed unless all of it is in order.

    Args:
        model: from `build_from_cfg`, or a model around one.
        head: what happens to the convolutions before `[yolo]`. "strict" loads them, the classes must be the same; "drop" leaves
            them as they are; a list of class numbers of the file makes these the model's classes, [8] a detector of boats
            from a COCO file.
        layers: load only layers with numbers below this, whatever the file holds behind them; 74 of yolov3 is its backbone.

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
    whole, name = convolutions(model), Path(path).name
    convs, classes = _below(whole, layers), None
    ends = np.cumsum([conv.floats() for conv in whole])
    fits = ends.__contains__ if head == "strict" else lambda count: _file_classes(whole, count) is not None
    seen, values = read_file(path, fits)
    if head != "strict" and any(conv.head is not None for conv in convs):
        classes = _file_classes(whole, len(values))
        if classes is None:
            raise ValueError(
                f"{name}: its {len(values)} values fit this network with no number of classes, and no end of a layer before the "
                "first head; the file is damaged or belongs to another network"
            )
    found = _cut(convs, values, classes, name, goes_on=layers is not None)
    for conv, arrays in found:
        _check(arrays, conv.index, name)
    if not isinstance(head, str):
        found = [(conv, _slice(conv, arrays, head, classes)) for conv, arrays in found]
    elif head == "drop":
        found = [(conv, arrays) for conv, arrays in found if conv.head is None]
    for conv, arrays in found:
        conv.assign(arrays)
    return len(found), seen


def _below(convs: list[Convolution], layers: int | None) -> list[Convolution]:
    return [conv for conv in convs if layers is None or conv.index < layers]


def _file_classes(convs: list[Convolution], count: int) -> int | None:
    """Number of classes of a file with `count` values, from its length alone: 0 if it ends before a head, None if none fits."""
    body = itertools.takewhile(lambda conv: conv.head is None, convs)
    if count in np.cumsum([conv.floats() for conv in body]):
        return 0
    fixed = sum(conv.floats(0) for conv in convs)
    each = sum(conv.floats(1) for conv in convs) - fixed
    return (count - fixed) // each if each and count > fixed and (count - fixed) % each == 0 else None


def _cut(convs: list[Convolution], values: np.ndarray, classes: int | None, name: str, *, goes_on: bool) -> list:
    """Pairs of convolution and arrays, until the file ends, which must be after a layer; `goes_on`: or later."""
    found, place = [], 0
    for conv in convs:
        if place == len(values):
            break
        shapes = conv.shapes(classes)
        ends = place + np.cumsum([int(np.prod(shape)) for shape in shapes])
        if ends[-1] > len(values):
            raise ValueError(
                f"{name}: ends inside layer {conv.index}: {len(values) - place} values, it takes {ends[-1] - place}. The file is "
                f"truncated or belongs to another network{_hint(convs, len(values))}"
            )
        parts = np.split(values[place : ends[-1]], ends[:-1] - place)
        found.append((conv, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]))
        place = int(ends[-1])
    if place < len(values) and not goes_on:
        raise ValueError(
            f"{name}: {len(values) - place} values are left after the last layer; expected {place}, received {len(values)}. The "
            f"file belongs to another network{_hint(convs, len(values))}"
        )
    return found


def _hint(convs: list[Convolution], count: int) -> str:
    if (classes := _file_classes(convs, count)) is None:
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
    convs = _below(convolutions(model), layers)
    with disk.atomic_write(path) as file:
        file.write(make_header(seen))
        for conv in convs:
            for array in conv.arrays():
                file.write(np.ascontiguousarray(array, "<f4").tobytes())
    return len(convs)
