"""The pickles inside PyTorch's files, read as data: a stack machine for what stands in checkpoints.

Python's own unpickler calls whatever function a file names. This one calls nothing of a file: a tensor becomes a note of where
its numbers lie, an object of an unknown class an empty `Unknown`, and a file that would run anything is refused by name.
"""

import dataclasses
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

from helpers.face_animation.formats.torch_files import calls
from helpers.face_animation.formats.torch_files.values import CheckpointError, Name, Unknown, expect, put

MAX_OPERATIONS = 1_000_000  # a genuine checkpoint with Adam's state needs about 60 000

_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": lambda: Unknown("builtins.set")}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_LITERALS = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}


def read_pickle(stream: BinaryIO, refer: Callable[[Any], Any] | None = None) -> Any:
    """Read one pickle and leave `stream` behind it.

    Args:
        stream: in memory or mapped, so that a length claimed in the file can never be allocated.
        refer: gives the object that the file stores elsewhere, from the number or tuple that stands for it.

    Returns:
        Dicts, lists, tuples, numbers, text and bytes; `Name`, `Unknown`, and what `refer` and `calls` make.

    Raises:
        CheckpointError: a file that would run something, or a damaged or oversized pickle.
    """
    try:
        return _run(stream, refer)
    except CheckpointError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"the pickle is damaged or cut off ({error!s:.100}); download the file again") from error


def _run(stream: BinaryIO, refer: Callable[[Any], Any] | None) -> Any:
    machine = _Machine(refer)
    for count, (operation, argument, _) in enumerate(pickletools.genops(stream)):
        if count > MAX_OPERATIONS:
            raise CheckpointError(f"the pickle has more than {MAX_OPERATIONS} operations; weights need far fewer")
        if operation.name == "STOP":
            return machine.stack.pop()
        machine.do(operation.name, argument)
    raise ValueError("no end")


@dataclasses.dataclass
class _Machine:
    refer: Callable[[Any], Any] | None
    stack: list = dataclasses.field(default_factory=list)
    marks: list[int] = dataclasses.field(default_factory=list)
    memo: dict[int, Any] = dataclasses.field(default_factory=dict)

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
        elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = stack[-1]
        elif operation in ("GET", "BINGET", "LONG_BINGET"):
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

    _do_frame = _do_proto

    def _do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _do_pop(self, _: None) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self._take(1)

    def _do_pop_mark(self, _: None) -> None:
        self._since_mark()

    def _do_dup(self, _: None) -> None:
        self.stack.append(self.stack[-1])

    def _do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _do_list(self, _: None) -> None:
        self.stack.append(self._since_mark())

    def _do_dict(self, _: None) -> None:
        items = self._since_mark()
        self.stack.append({})
        self._set(items)

    def _do_frozenset(self, _: None) -> None:
        self._since_mark()
        self.stack.append(Unknown("builtins.frozenset"))

    def _do_append(self, _: None) -> None:
        self._extend(self._take(1))

    def _do_appends(self, _: None) -> None:
        self._extend(self._since_mark())

    _do_additems = _do_appends

    def _extend(self, values: list) -> None:
        target = expect(self.stack[-1], list, Unknown)
        if type(target) is list:
            target.extend(values)

    def _do_setitem(self, _: None) -> None:
        self._set(self._take(2))

    def _do_setitems(self, _: None) -> None:
        self._set(self._since_mark())

    def _set(self, items: list) -> None:
        target = expect(self.stack[-1], dict, Unknown)
        for key, value in zip(items[::2], items[1::2], strict=True):
            put(target, key, value)

    def _do_build(self, _: None) -> None:
        (state,) = self._take(1)
        if isinstance(self.stack[-1], Name):
            raise calls.refusal(self.stack[-1])  # would change the class or function itself
        if type(self.stack[-1]) is Unknown:
            calls.build(self.stack[-1], state)

    def _do_global(self, names: str) -> None:
        self.stack.append(calls.name(names.replace(" ", ".")))

    def _do_stack_global(self, _: None) -> None:
        module, attribute = (expect(part, str) for part in self._take(2))
        self.stack.append(calls.name(f"{module}.{attribute}"))

    def _do_persid(self, identity: Any) -> None:
        if self.refer is None:
            raise CheckpointError("the pickle refers to a storage where none can be")
        self.stack.append(self.refer(identity))

    def _do_binpersid(self, _: None) -> None:
        self._do_persid(*self._take(1))

    def _do_reduce(self, _: None) -> None:
        called, arguments = self._take(2)
        self.stack.append(calls.call(called, expect(arguments, tuple)))

    def _do_newobj(self, _: None) -> None:
        self.stack.append(calls.new(*self._take(2)))

    def _do_newobj_ex(self, _: None) -> None:
        self.stack.append(calls.new(*self._take(3)[:2]))

    def _do_inst(self, names: str) -> None:
        self.stack.append(calls.call(calls.name(names.replace(" ", ".")), tuple(self._since_mark())))

    def _do_obj(self, _: None) -> None:
        called, *arguments = self._since_mark()
        self.stack.append(calls.call(called, tuple(arguments)))
