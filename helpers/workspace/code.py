"""Which code made a result: the sources that a step's body can reach, as hashes that `step.json` keeps."""

import ast
import contextlib
import functools
import hashlib
import inspect
import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PLAIN = (str, int, float, bool, tuple, frozenset, dict)


def fingerprint(body: Callable) -> dict[str, str]:
    """Twelve hex digits for every file of `helpers` that a step's body can reach.

    Of the body's own module only the functions and constants that it names count, so that an edit of one step says nothing
    about the others; of a module that these name, the whole file, and the files that it imports.

    Returns:
        "helpers/<project>/steps.py" and the like -> hash.
    """
    own, modules = reach(body)
    text = "\n".join(f"{name}={source}" for name, source in sorted(own.items()))
    found = {_place(inspect.getsourcefile(body)): _hash(text.encode())}
    for name in sorted(_closure(modules, exclude=body.__module__)):
        path = _file(name)
        found[_place(path)] = _file_hash(path, path.stat().st_mtime_ns)
    return found


def changed(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """Files that differ between two fingerprints, or that only one of them has."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


def reach(body: Callable) -> tuple[dict[str, str], set[str]]:
    """Sources of what the body names in its own module, functions and methods followed; names of the other modules of `helpers`.

    TypeError or OSError: the body has no source.
    """
    own, modules, open_ends = {}, set(), [body]
    while open_ends:
        value = open_ends.pop()
        own[value.__qualname__] = _source(value)
        if isinstance(value, type):
            open_ends += [base for base in value.__bases__ if base.__module__ == body.__module__]
        for function in _functions(value):
            for name, named in _named(function):
                module = named.__name__ if isinstance(named, types.ModuleType) else getattr(named, "__module__", None)
                if isinstance(named, types.FunctionType | type) and module == body.__module__:
                    if named.__qualname__ not in own:
                        open_ends.append(named)
                elif isinstance(named, PLAIN):
                    own[name] = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(named))  # another in every process
                elif str(module).startswith("helpers.") and module != body.__module__ and not hasattr(named, "body"):
                    modules.add(module)
    return own, modules


def _functions(value: Any) -> list[types.FunctionType]:
    """A function itself; of a class, its methods."""
    if isinstance(value, type):
        return [inspect.unwrap(member) for member in vars(value).values() if isinstance(member, types.FunctionType)]
    return [inspect.unwrap(value)]


def _named(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function names and what stands there: globals, what it closes over, and its defaults."""
    yield from ((name, function.__globals__.get(name)) for name in _names(function.__code__))
    place = function.__qualname__
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # still empty
            yield f"{place} {name}", cell.cell_contents
    given = dict(enumerate(function.__defaults__ or ())) | (function.__kwdefaults__ or {})
    yield from ((f"{place} {name}", value) for name, value in given.items())


def _source(value: Any) -> str:
    """Source of a function or class; a class of a notebook's cell has none, so that of its methods."""
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        if not isinstance(value, type):
            raise
        return "\n".join(inspect.getsource(function) for function in _functions(value))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _closure(modules: set[str], *, exclude: str) -> set[str]:
    """Modules of `helpers` that these import, directly or not, with themselves and their packages."""
    found, rest = set(), {package for name in modules for package in _packages(name) if _file(package)}
    while rest:
        name = rest.pop()
        found.add(name)
        path = _file(name)
        rest |= _imports(path, path.stat().st_mtime_ns) - found - {exclude}
    return found


def _packages(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts) + 1)]


@functools.cache
def _imports(path: Path, changed_at: int) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    inside = {package for name in names if name.split(".")[0] == "helpers" for package in _packages(name)}
    return frozenset(name for name in inside if _file(name))


def _file(name: str) -> Path | None:
    place = ROOT.joinpath(*name.split("."))
    candidates = (place / "__init__.py", place.with_suffix(".py"))
    return next((path for path in candidates if path.is_file()), None)


@functools.cache
def _file_hash(path: Path, changed_at: int) -> str:
    return _hash(path.read_bytes().replace(b"\r\n", b"\n"))


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]


def _place(path: Any) -> str:
    path = Path(path).resolve()
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
