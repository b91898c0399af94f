"""The pickles inside PyTorch's files, read as data: a stack machine for the few operations that weights need.

Python's own unpickler calls whatever function a file names. This one calls nothing: a name is looked up in a short list, a
tensor becomes a note of where its numbers lie, and everything else is refused by name. Standard library only.
"""

import dataclasses
import io
import pickletools
from typing import Any

MAX_PICKLE = 16 << 20  # bytes; that of a checkpoint with Adam's state has about 0.3 MB
MAX_OPERATIONS = 1_000_000  # a genuine one needs about 60 000

DTYPES = {"Float": "<f4", "Double": "<f8", "Half": "<f2", "Int": "<i4", "Long": "<i8"}


class CheckpointError(ValueError):
    """The file is no checkpoint of weights, is damaged, or asks for what no weights need."""


@dataclasses.dataclass(frozen=True)
class Name:
    """A function or class that a pickle mentions; never looked up in Python."""

    text: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """A row of `count` numbers of one type somewhere in the file, under `key`."""

    dtype: str
    key: str
    count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A view on a storage; `offset` and `strides` in elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


ORDERED_DICT = Name("collections.OrderedDict")
REBUILD = Name("torch._utils._rebuild_tensor_v2")
STORAGES = {Name(f"torch.{kind}Storage"): dtype for kind, dtype in DTYPES.items()}
ALLOWED = {ORDERED_DICT, REBUILD, *STORAGES}

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_pickle(stream: io.BytesIO) -> Any:
    """Read one pickle and leave `stream` behind it.

    Args:
        stream: in memory, so that a length claimed in the file can never be allocated.

    Returns:
        Dicts, lists, tuples, numbers and text, with `Tensor` for tensors.

    Raises:
        CheckpointError: a name or an operation that weights do not need, or a damaged or oversized pickle.
    """
    try:
        return _run(stream)
    except CheckpointError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"the pickle is damaged or cut off ({error!s:.100}); download the file again") from error


def _run(stream: io.BytesIO) -> Any:
    machine = _Machine()
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPERATIONS:
            raise CheckpointError(f"the pickle has more than {MAX_OPERATIONS} operations; weights need far fewer")
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.do(operation.name, argument)
    raise ValueError("no end")


class _Machine:
    def __init__(self) -> None:
        self.stack: list = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def do(self, operation: str, argument: Any) -> None:
        stack = self.stack
        if operation in _LITERALS:
            stack.append(argument)
        elif operation in _CONSTANTS:
            stack.append(_CONSTANTS[operation])
        elif operation in _EMPTY:
            stack.append(_EMPTY[operation]())
        elif operation in _TUPLES:
            stack.append(tuple(self._take(_TUPLES[operation])))
        elif operation in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif operation in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif handler := getattr(self, f"_do_{operation.lower()}", None):
            handler(argument)
        else:
            raise CheckpointError(f"the pickle uses the operation {operation}, which no weights need: not read further")

    def _take(self, count: int) -> list:
        if len(self.stack) - count < (self.marks[-1] if self.marks else 0):
            raise ValueError("stack underflow")
        items = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return items

    def _since_mark(self) -> list:
        return self._take(len(self.stack) - self.marks.pop())

    def _do_proto(self, version: int) -> None:
        """Nothing to do: the operations decide what is read."""

    def _do_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _do_append(self, _: None) -> None:
        (value,) = self._take(1)
        _expect(self.stack[-1], list).append(value)

    def _do_appends(self, _: None) -> None:
        values = self._since_mark()
        _expect(self.stack[-1], list).extend(values)

    def _do_setitem(self, _: None) -> None:
        self._set(self._take(2))

    def _do_setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, items: list) -> None:
        target = _expect(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_expect(key, str, int)] = value  # not tuples: hashing deep ones overflows the stack of C

    def _do_build(self, _: None) -> None:
        self._take(1)  # an OrderedDict's attribute `_metadata`, of no use here
        _expect(self.stack[-1], dict)

    def _do_global(self, names: str) -> None:
        name = Name(names.replace(" ", "."))
        if name not in ALLOWED:
            allowed = ", ".join(sorted(good.text for good in ALLOWED))
            raise CheckpointError(
                f"the pickle wants {name.text[:200]!r}, which no weights need (allowed: {allowed}). Nothing of it was run. "
                "Do not open this file with torch.load either; get the checkpoint from its authors"
            )
        self.stack.append(name)

    def _do_binpersid(self, _: None) -> None:
        kind, name, key, _device, count, *views = _expect(self._take(1)[0], tuple)
        if kind != "storage" or name not in STORAGES or len(views) > 1 or any(views):
            raise CheckpointError(f"the pickle refers to {str(kind)[:50]!r} of an unknown form: expected a storage")
        self.stack.append(Storage(STORAGES[name], _expect(key, str), _natural(count)))

    def _do_reduce(self, _: None) -> None:
        called, arguments = self._take(2)
        if called == ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif called == REBUILD and isinstance(arguments, tuple):
            self.stack.append(_tensor(*arguments[:4]))
        else:
            raise CheckpointError(f"the pickle calls {str(called)[:200]!r} in a way that no weights need")


def _tensor(storage: Storage, offset: int, shape: tuple, strides: tuple) -> Tensor:
    """A view that lies within its storage and has no more elements than it."""
    shape, strides = tuple(map(_natural, shape)), tuple(map(_natural, strides))
    count = _expect(storage, Storage).count
    elements = 1
    for size in shape:
        elements *= size
    last = _natural(offset) + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if len(shape) > 8 or elements > count or (last >= count if elements else max(shape) > 1 << 30):
        raise CheckpointError(
            f"a tensor of shape {shape}, strides {strides}, from number {offset} on does not fit its storage of {count} numbers"
        )
    return Tensor(storage, offset, shape, strides)


def _expect(value: Any, *kinds: type) -> Any:
    if type(value) not in kinds:
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} belongs")
    return value


def _natural(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise ValueError(f"{value!s:.50} where a count belongs")
    return value
