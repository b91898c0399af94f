"""The pickles inside PyTorch's files, read as data: Python's stack machine without all that calls, looks up or hashes.

`pickle.Unpickler` calls whatever function a file names. This one calls nothing of a file: a tensor becomes a note of where
its numbers lie, an object of an unknown class an empty `Unknown`, and a file that would run anything is refused by name.
"""

import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any, BinaryIO

from helpers.face_animation.formats.torch_files import calls
from helpers.face_animation.formats.torch_files.values import (
    DTYPES,
    CheckpointError,
    Name,
    Storage,
    Unknown,
    expect,
    natural,
    put,
)

MAX_OPERATIONS = 1_000_000  # a genuine checkpoint with Adam's state needs about 60 000
STORAGES = {f"{module}.{kind}Storage": dtype for kind, dtype in DTYPES.items() for module in ("torch", "torch.storage")}
DAMAGED = (
    *(pickle.UnpicklingError, struct.error, EOFError),
    *(ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError),
)


def read_pickle(stream: BinaryIO) -> tuple[Any, dict[str, Storage]]:
    """Read one pickle and leave `stream` behind it.

    Args:
        stream: in memory or mapped, so that a length claimed in the file can never be allocated.

    Returns:
        Dicts, lists, tuples, numbers, text and bytes, `Name`, `Unknown`, and what `calls` make; the storages they refer to, by key.

    Raises:
        CheckpointError: a file that would run something, or a damaged or oversized pickle.
    """
    machine = _Machine(stream, encoding="latin1")  # of Python 2's text
    try:
        return machine.load(), machine.storages
    except CheckpointError:
        raise
    except DAMAGED as error:
        raise CheckpointError(f"the pickle is damaged or cut off ({error!s:.100}); download the file again") from error


class _Machine(pickle._Unpickler):  # Python's own in Python: the one in C reserves memory for any number of a memo
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.dispatch, self.storages = _Operations(OPERATIONS), {}

    def find_class(self, module: str, name: str) -> Name:
        found = Name(f"{module}.{name}")
        if calls.REFUSED.match(calls.modern(found)):
            raise calls.refusal(found)
        return found

    def persistent_load(self, identity: Any) -> Storage | Name:
        """The storage that the pickle refers to; of the class of a module, which old files name too, the class."""
        kind, name, *rest = expect(identity, tuple)
        if kind == "module":
            return expect(name, Name)
        key, _device, count, *views = rest
        if kind != "storage" or expect(name, Name).text not in STORAGES or any(views):
            raise CheckpointError("the pickle refers to something of an unknown form: expected a storage")
        storage = Storage(STORAGES[name.text], expect(key, str), natural(count))
        if len(key) > 100 or self.storages.setdefault(key, storage) != storage:
            raise CheckpointError(f"storage {key[:100]!r} is claimed with two types or sizes")
        return storage

    def _instantiate(self, called: Any, arguments: list) -> None:
        self.append(calls.call(called, tuple(arguments)))

    def _reduce(self) -> None:
        arguments = expect(self.stack.pop(), tuple)
        self._instantiate(self.stack.pop(), arguments)

    def _newobj(self) -> None:
        arguments = self.stack.pop()
        self.append(calls.new(self.stack.pop(), arguments))

    def _newobj_ex(self) -> None:
        self.stack.pop()
        self._newobj()

    def _build(self) -> None:
        self.stack.pop()
        if isinstance(self.stack[-1], Name):
            raise calls.refusal(self.stack[-1])  # would change the class or function itself

    def _dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set(items)

    def _setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set([key, value])

    def _setitems(self) -> None:
        self._set(self.pop_mark())

    def _set(self, items: list) -> None:
        target = expect(self.stack[-1], dict, Unknown)
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(target, key, value)

    def _empty_set(self) -> None:
        self.append(Unknown("builtins.set"))

    def _frozenset(self) -> None:
        self.pop_mark()
        self.append(Unknown("builtins.frozenset"))


OPERATIONS = pickle._Unpickler.dispatch | {
    pickle.REDUCE[0]: _Machine._reduce,
    pickle.NEWOBJ[0]: _Machine._newobj,
    pickle.NEWOBJ_EX[0]: _Machine._newobj_ex,
    pickle.BUILD[0]: _Machine._build,
    pickle.DICT[0]: _Machine._dict,
    pickle.SETITEM[0]: _Machine._setitem,
    pickle.SETITEMS[0]: _Machine._setitems,
    pickle.EMPTY_SET[0]: _Machine._empty_set,
    pickle.FROZENSET[0]: _Machine._frozenset,
    pickle.BYTEARRAY8[0]: _Machine.load_binbytes8,  # its own reserves the length that the file claims
}
for code in (pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER):
    del OPERATIONS[code[0]]


class _Operations(dict):
    """What each operation does, for `MAX_OPERATIONS` of them."""

    count = 0

    def __getitem__(self, code: int) -> Callable:
        self.count += 1
        if self.count > MAX_OPERATIONS:
            raise CheckpointError(f"the pickle has more than {MAX_OPERATIONS} operations; weights need far fewer")
        return super().__getitem__(code)

    def __missing__(self, code: int) -> Callable:
        name = getattr(pickletools.code2op.get(chr(code)), "name", code)
        raise CheckpointError(f"the pickle uses the operation {name}, which no weights need: not read further")
