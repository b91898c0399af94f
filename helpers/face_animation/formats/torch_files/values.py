"""What the pickles of PyTorch's files are made of, once they are read as data."""

import dataclasses
import math
from typing import Any

import numpy as np

BFLOAT16 = "bfloat16"  # NumPy has none: its 16 bits are the upper half of a float32
DTYPES = {
    "Float": "<f4", "Double": "<f8", "Half": "<f2", "BFloat16": BFLOAT16, "Int": "<i4", "Long": "<i8", "Short": "<i2",
    "Char": "i1", "Byte": "u1", "Bool": "?", "ComplexFloat": "<c8", "ComplexDouble": "<c16",
    "QInt8": "i1", "QUInt8": "u1", "QInt32": "<i4", "Untyped": "u1",
}  # fmt: skip


class CheckpointError(ValueError):
    """The file is no checkpoint of weights, is damaged, or would run something."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A function or class that a pickle mentions; never looked up in Python."""

    text: str


class Unknown(dict):
    """An object that is no weights: its class's name, and the items that were set on it."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def append(self, item: Any) -> None:
        """Nothing is kept of a list or set of the program's own."""

    add = append


@dataclasses.dataclass(frozen=True)
class Storage:
    """A row of `count` numbers of one type somewhere in the file, under `key`."""

    dtype: str
    key: str
    count: int

    @property
    def bytes(self) -> int:
        """Length in the file."""
        return self.count * (2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize)

    def numbers(self, data: bytes) -> np.ndarray:
        """`data` as an array (count,), of float32 where the file has bfloat16."""
        if self.dtype == BFLOAT16:
            return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
        return np.frombuffer(data, self.dtype)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view on a storage; `offset` and `strides` in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def make_tensor(storage: Storage, offset: int, shape: tuple, strides: tuple, *_: Any) -> Tensor:
    """A view that lies within its storage and has no more elements than it."""
    start, count = natural(offset), expect(storage, Storage).count
    shape, strides = tuple(map(natural, shape)), tuple(map(natural, strides))
    elements = math.prod(shape)
    last = start + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if len(shape) > 8 or elements > count or (last >= count if elements else max(shape) > 1 << 30):
        raise CheckpointError(
            f"a tensor of shape {shape}, strides {strides}, from number {offset} on does not fit its storage of {count} numbers"
        )
    return Tensor(storage, start, shape, strides)


def put(target: dict, key: Any, value: Any) -> None:
    """Set an item; other keys than text and whole numbers belong to no weights (and hashing deep tuples overflows C's stack)."""
    if type(key) is str or (type(key) is int and abs(key) < 1 << 64):
        target[key] = value


def expect(value: Any, *kinds: type) -> Any:
    """`value`, which must be of one of these types exactly."""
    if type(value) not in kinds:
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} belongs")
    return value


def natural(value: Any) -> int:
    """`value`, which must be a count."""
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError(f"{value if type(value) is float else type(value).__name__} where a count belongs")
    return value
