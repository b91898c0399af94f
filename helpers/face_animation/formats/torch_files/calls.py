"""What becomes of the functions and classes that a checkpoint names: made as data, skipped, or refused.

A pickle may call anything with anything. Here a few calls have a meaning (tensors, dicts), a few more are known to do nothing but
make an object, and every other call is refused. `__new__` of an unknown class makes an empty object: that alone runs nothing, so
what programs keep beside their weights is skipped.
"""

import re
from collections.abc import Callable
from typing import Any

from helpers.face_animation.formats.torch_files.values import CheckpointError, Name, Unknown, expect, make_tensor, put

TYPES = {
    *("object", "list", "dict", "tuple", "set", "frozenset", "int", "float", "bool", "str", "bytes", "bytearray"),
    *("complex", "slice", "range"),
}
PYTHON2 = {"__builtin__": "builtins", "copy_reg": "copyreg", "unicode": "str", "long": "int", "xrange": "range"}
# Even a mention of these is refused: a default_factory is called later.
REFUSED = re.compile(
    r"(os|posix|nt|sys|subprocess|pty|shutil|socket|importlib|runpy|ctypes|_?pickle|cPickle|marshal|pdb|bdb|timeit|webbrowser|"
    rf"torch\.hub|builtins(?!\.({'|'.join(sorted(TYPES))})$))(\.|$)"
)
HARMLESS = {
    *(f"builtins.{kind}" for kind in TYPES), "_codecs.encode", "collections.deque", "argparse.Namespace", "optparse.Values",
    "types.SimpleNamespace", "functools.partial",
    *(f"datetime.{kind}" for kind in ("date", "datetime", "time", "timedelta", "timezone")), "decimal.Decimal", "uuid.UUID",
    "fractions.Fraction", *(f"{module}.{kind}{flavour}Path" for module in ("pathlib", "pathlib._local") for kind in ("", "Pure")
      for flavour in ("", "Posix", "Windows")), "torch.device", "torch.serialization._get_layout",
    "numpy.dtype", *(f"numpy.core.{kind}" for kind in ("multiarray.scalar", "multiarray._reconstruct", "numeric._frombuffer")),
    *(f"numpy.random._pickle.__{kind}_ctor" for kind in ("randomstate", "generator", "bit_generator")),
    "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    *(f"torch._utils._rebuild_{kind}" for kind in ("tensor_v3", "sparse_tensor", "qtensor", "meta_tensor_no_storage")),
    "torch._utils._rebuild_device_tensor_from_numpy",
}  # fmt: skip


def modern(found: Name) -> str:
    """Python 3's name of what Python 2, and protocols before 3, call differently."""
    return ".".join(PYTHON2.get(part, part) for part in found.text.split(".")).replace("numpy._core.", "numpy.core.")


def refusal(called: Any) -> CheckpointError:
    """The error for a file that would run something."""
    text = called.text if isinstance(called, Name) else f"an object of {getattr(called, 'name', type(called).__name__)}"
    return CheckpointError(
        f"the pickle wants {text[:200]!r}, which no weights need (allowed: tensors, NumPy arrays, dicts, lists, numbers, text). "
        "Nothing of it was run. Do not open this file with torch.load either; get the checkpoint from its authors"
    )


def call(called: Any, arguments: tuple) -> Any:
    """What the call of a name gives, as data.

    Raises:
        CheckpointError: the call would run something, or no weights make it so.
    """
    text = modern(called) if isinstance(called, Name) else ""
    if text not in CALLS:
        if text in HARMLESS:
            return Unknown(text)
        raise refusal(called)
    try:
        return CALLS[text](*arguments)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"the pickle is damaged: it calls {text!r} in a way that no weights need ({error!s:.100})"
        ) from error


def new(called: Any, arguments: Any) -> Any:
    """An object of an unknown class, made by its `__new__` alone."""
    if not isinstance(called, Name):
        raise refusal(called)
    text = modern(called)
    return call(called, expect(arguments, tuple)) if text in CALLS else Unknown(text)


def _mapping(*arguments: Any) -> dict:
    """An OrderedDict, defaultdict or Counter: of nothing, a default, a dict, or pairs, as Python 2 wrote them."""
    given = arguments[-1] if arguments else None
    result: dict = {}
    pairs = given.items() if isinstance(given, dict) else [] if given is None or isinstance(given, Name) else given
    for key, value in expect(pairs, list, type({}.items())):
        put(result, key, value)
    return result


def _first(value: Any, *_: Any) -> Any:
    return value


def _typed(function: Name, _type: Any, arguments: tuple, _state: Any) -> Any:
    """A tensor with attributes, or of a class of its own."""
    return call(function, expect(arguments, tuple))


def _reconstructor(kind: Name, base: Name, _state: Any) -> Unknown:
    """An object of protocols before 2: `base.__init__` is called, so it must be a type of Python's."""
    if modern(expect(base, Name)) not in HARMLESS:
        raise refusal(base)
    return Unknown(modern(expect(kind, Name)))


CALLS: dict[str, Callable] = {
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": make_tensor,
    "torch._utils._rebuild_tensor_v2": make_tensor,
    "torch._utils._rebuild_parameter": _first,
    "torch._utils._rebuild_parameter_with_state": _first,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _first,
    "torch.nn.parameter.Parameter": _first,
    "torch._tensor._rebuild_from_type_v2": _typed,
    "copyreg._reconstructor": _reconstructor,
}
