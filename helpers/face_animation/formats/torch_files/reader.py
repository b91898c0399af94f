"""The files of `torch.save` as NumPy arrays, without PyTorch and without running anything in them."""

import functools
import os
import re
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from helpers.face_animation.formats.torch_files import containers
from helpers.face_animation.formats.torch_files.unpickle import MAX_OPERATIONS
from helpers.face_animation.formats.torch_files.values import CheckpointError, Storage, Tensor, Unknown

MAX_DEPTH = 20
SKIPPED = object()
PREFIX = "module."  # nn.DataParallel and DistributedDataParallel put it before every name
COMPILED = re.compile(r"(^|\.)_orig_mod\.")  # torch.compile's, before the names of what was compiled
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "ema")
WRAPPED = 3  # levels of dicts around the weights, at most


def load_torch(path: str | os.PathLike, *, only: Collection[str] | None = None) -> dict[Any, Any]:
    """Read a file of `torch.save`; no code in it is run, and never more is read than the file has bytes.

    One printed line says which prefixes of wrappers ("module.", "_orig_mod.") were left out of the names, another which objects
    were skipped because they are no weights.

    Args:
        path: the file.
        only: take these entries, such as ("generator", "kp_detector"), wherever in the file they stand side by side; two thirds of
            an official checkpoint are Adam's moments, which playing a face does not need.

    Returns:
        Nested dict; tensors are arrays that cannot be written to, of the type that was saved, float32 for bfloat16.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: (a ValueError) not such a file, cut off, damaged, or it would run something when PyTorch opens it.
        KeyError: an entry of `only` is missing.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            state, prefixes, skipped = _arrays(*containers.open_file(file), path.stat().st_size, only)
    except (ValueError, zipfile.BadZipFile, RuntimeError, EOFError, OverflowError) as error:
        raise CheckpointError(f"{path.name}: {error}") from error
    tell(prefixes, f"{path.name}: ")
    if skipped:
        print(f"{path.name}: skipped, no weights: {', '.join(sorted(skipped)):.200}", flush=True)
    return state


def _walk(value: Any, depth: int = 0) -> Iterator[Any]:
    """Every value on the way, each time that it comes, however they share one another."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"nested deeper than {MAX_DEPTH} levels, which no checkpoint is")
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield part
            yield from _walk(part, depth + 1)


def _arrays(
    root: Any, read: containers.Read, size: int, only: Collection[str] | None
) -> tuple[dict, set[str], set[str]]:
    storages = set()
    for count, value in enumerate(_walk(root)):
        if count > MAX_OPERATIONS:
            raise CheckpointError(f"more than {MAX_OPERATIONS} values: lists that hold one another, not weights")
        storages |= {value.storage} if isinstance(value, Tensor) else set()
    if sum(storage.bytes for storage in storages) > size:  # members may overlap
        raise CheckpointError(f"its storages claim more than the {size} bytes of the file: cut off, or a bomb")
    if not isinstance(root, dict) or (isinstance(root, Unknown) and not root):
        kind = getattr(root, "name", type(root).__name__)
        raise CheckpointError(
            f"holds a {kind:.100}, expected a dict of state dicts: save state_dict() where it was made"
        )
    prefixes: set[str] = set()
    skipped: set[str] = set()
    root = strip_prefixes(root, prefixes)
    state = root if only is None else find_parts(root, only, prefixes)
    if state is None:
        missing = sorted(set(only) - set(root)) or sorted(only)
        has = ", ".join(f"{key!s:.60}" for key in list(root)[:10])
        raise KeyError(f"only: {', '.join(missing)} not in the checkpoint; it has: {has}")
    numbers = functools.cache(lambda storage: storage.numbers(read(storage)))
    return _resolve(state, numbers, skipped), prefixes, skipped


def _resolve(value: Any, read: Callable[[Storage], np.ndarray], skipped: set[str]) -> Any:
    """`value` with arrays for tensors; what is no weights and no plain value is left out, and named in `skipped`."""
    if isinstance(value, Tensor):
        numbers = read(value.storage)
        strides = tuple(stride * numbers.itemsize for stride in value.strides)
        return np.lib.stride_tricks.as_strided(numbers[value.offset :], value.shape, strides, writeable=False)
    if isinstance(value, dict) and (value or not isinstance(value, Unknown)):
        parts = {key: _resolve(part, read, skipped) for key, part in value.items()}
        return {key: part for key, part in parts.items() if part is not SKIPPED}
    if isinstance(value, list | tuple):
        parts = (_resolve(part, read, skipped) for part in value)
        return type(value)(None if part is SKIPPED else part for part in parts)
    if isinstance(value, str | int | float | bool | None):
        return value
    skipped.add(f"{getattr(value, 'name', getattr(value, 'text', type(value).__name__)):.60}")
    return SKIPPED


def strip_prefixes(state: dict, found: set[str], depth: int = 0) -> dict:
    """`state` and the dicts in it without the wrappers' prefixes, which are added to `found`.

    "module." goes where every tensor of a dict has it, since a network may have a part of that name.
    """
    if not isinstance(state, dict) or not state or depth > WRAPPED:
        return state
    state = {key: strip_prefixes(value, found, depth + 1) for key, value in state.items()}
    if any(isinstance(key, str) and COMPILED.search(key) for key in state):
        found.add("_orig_mod.")
        state = {COMPILED.sub(r"\1", key) if isinstance(key, str) else key: value for key, value in state.items()}
    names = [key for key, value in state.items() if isinstance(value, Tensor | np.ndarray)]
    while names and all(isinstance(key, str) and key.startswith(PREFIX) for key in names):
        found.add(PREFIX)
        state = {key.removeprefix(PREFIX) if isinstance(key, str) else key: value for key, value in state.items()}
        names = [key.removeprefix(PREFIX) for key in names]
    return state


def tell(prefixes: set[str], where: str = "") -> None:
    """Say in one line what was left out of the names."""
    if prefixes:
        print(f"{where}{' and '.join(sorted(prefixes))} left out of the weights' names", flush=True)


def find_parts(state: Any, names: Collection[str], found: set[str], depth: int = 0) -> dict | None:
    """The entries `names`, side by side in `state` or deeper, as dicts or as beginnings of names; None if they are nowhere.

    Prefixes that are stripped on the way are added to `found`.
    """
    if not isinstance(state, dict):
        return None
    if all(name in state for name in names):
        return {name: _unwrapped(state[name]) for name in names}
    flat = {
        name: {
            key.removeprefix(f"{name}."): value
            for key, value in state.items()
            if isinstance(key, str) and key.startswith(f"{name}.")
        }
        for name in names
    }
    if flat and all(flat.values()):
        return {name: strip_prefixes(part, found) for name, part in flat.items()}
    deeper = (find_parts(value, names, found, depth + 1) for value in state.values() if depth < WRAPPED)
    return next((parts for parts in deeper if parts), None)


def _unwrapped(part: Any) -> Any:
    """A network's own weights, where they stand in a dict of its entry."""
    if isinstance(part, dict) and not any(isinstance(value, Tensor | np.ndarray) for value in part.values()):
        for name in WRAPPERS:
            if isinstance(part.get(name), dict):
                return _unwrapped(part[name])
    return part
