"""Where the weights stand in a checkpoint: without the prefixes of wrappers, whatever the dicts around them are called."""

import re
from collections.abc import Collection
from typing import Any

import numpy as np

from helpers.face_animation.formats.torch_files.values import Tensor

PREFIX = "module."  # nn.DataParallel and DistributedDataParallel put it before every name
COMPILED = re.compile(r"(^|\.)_orig_mod\.")  # torch.compile's, before the names of what was compiled
WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "ema")
DEPTH = 3


def strip_prefixes(state: dict, found: set[str], depth: int = 0) -> dict:
    """`state` and the dicts in it without the wrappers' prefixes, which are added to `found`.

    "module." goes where every tensor of a dict has it, since a network may have a part of that name.
    """
    if not isinstance(state, dict) or not state or depth > DEPTH:
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
    deeper = (find_parts(value, names, found, depth + 1) for value in state.values() if depth < DEPTH)
    return next((parts for parts in deeper if parts), None)


def _unwrapped(part: Any) -> Any:
    """A network's own weights, where they stand in a dict of its entry."""
    if isinstance(part, dict) and not any(isinstance(value, Tensor | np.ndarray) for value in part.values()):
        for name in WRAPPERS:
            if isinstance(part.get(name), dict):
                return _unwrapped(part[name])
    return part
