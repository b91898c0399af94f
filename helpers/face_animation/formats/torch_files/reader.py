"""The files of `torch.save` as NumPy arrays, without PyTorch and without running anything in them."""

import functools
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from helpers.face_animation.formats.torch_files import containers, names
from helpers.face_animation.formats.torch_files.unpickle import MAX_OPERATIONS
from helpers.face_animation.formats.torch_files.values import CheckpointError, Storage, Tensor, Unknown

MAX_DEPTH = 20
SKIPPED = object()


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
    names.tell(prefixes, f"{path.name}: ")
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
    root = names.strip_prefixes(root, prefixes)
    state = root if only is None else names.find_parts(root, only, prefixes)
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
