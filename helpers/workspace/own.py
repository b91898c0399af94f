"""A learner's own network, loss or layer in place of the course's, for as long as a `with` block lasts."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from types import ModuleType

from helpers.workspace import code

_ACTIVE: dict[str, dict[str, str]] = {}  # project -> name in its room `runs` -> hash of what stands there now


@contextlib.contextmanager
def own(runs: ModuleType, **replacements: Callable) -> Iterator[None]:
    """Let the steps of a project call your functions: `with workspace.own(runs, build_network=mine): steps.train(...)`.

    Every step that can reach `runs` gets a folder of its own, named by the sources of the functions and of what they name in
    their own module or notebook: functions, classes, numbers and text. Other values that they read (an array, a list) are not
    looked at: change a function when you change those. ValueError: the room has no such name, or a replacement has no source, such
    as one made by `partial`.

    Args:
        runs: the room of that name, `helpers.<project>.runs`.
        **replacements: a name that stands in it -> what is to stand there, called with the same arguments.
    """
    project = runs.__name__.split(".")[1]
    known = sorted(name for name, value in vars(runs).items() if callable(value) and not name.startswith("_"))
    if strange := replacements.keys() - set(known):
        raise ValueError(f"{runs.__name__} has no {', '.join(sorted(strange))}; it has: {', '.join(known)}")
    hashes = {name: _hash(name, function) for name, function in replacements.items()}
    before, outer = {name: getattr(runs, name) for name in replacements}, _ACTIVE.get(project, {})
    try:
        vars(runs).update(replacements)
        _ACTIVE[project] = outer | hashes
        yield
    finally:
        vars(runs).update(before)
        _ACTIVE[project] = outer


def active(project: str) -> dict[str, str]:
    """Names in the project's `runs` that are replaced just now -> hashes of what replaces them."""
    return dict(_ACTIVE.get(project, {}))


def _hash(name: str, function: Callable) -> str:
    try:
        sources, _ = code.reach(function)
    except (TypeError, OSError, AttributeError) as error:
        needed = "a function or class with a source, written with def or class"
        raise ValueError(f"{name} must be {needed}: {error}") from error
    return hashlib.sha256(repr(sorted(sources.items())).encode()).hexdigest()[:12]
