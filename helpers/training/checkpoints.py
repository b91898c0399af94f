"""One HDF5 file holds all that training needs to continue exactly: weights, optimiser, seeds, running metrics.

A file is `state-{step:09d}.h5`. It is written under a temporary name and renamed, and ends in a digest of all its bytes
(HDF5 ignores what stands behind its own end), so a truncated or flipped file is noticed before anything parses it.
"""

import contextlib
import hashlib
import itertools
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from helpers.workspace import disk

KEEP = 3  # states on disk at a time; `estimates.KEPT` follows
WEIGHTS = ("model", "optimizer")
DIGEST_BYTES = 32

Arrays = dict[str, list[np.ndarray]]


def scope(model: keras.Model) -> contextlib.AbstractContextManager:
    """The scope of the `tf.distribute` strategy that the model was built under, else a context that does nothing."""
    strategy = getattr(model, "distribute_strategy", None)
    several = strategy is not None and strategy.num_replicas_in_sync > 1
    return strategy.scope() if several else contextlib.nullcontext()


def variables(model: keras.Model, groups: Sequence[str]) -> dict[str, list]:
    """Variables in a fixed order of the groups `model` (with its seed generators), `optimizer`, `metrics`."""
    found = {"model": model.variables, "optimizer": model.optimizer.variables, "metrics": model.metrics_variables}
    return {group: found[group] for group in groups}


def signature(variable) -> str:
    """Path, shape and dtype; the counters that Keras appends when a model is built twice (`dense_1`) are left out."""
    path = re.sub(r"_\d+(?=[/_]|$)", "", variable.path)
    return f"{path} {tuple(variable.shape)} {keras.backend.standardize_dtype(variable.dtype)}"


def capture(model: keras.Model, groups: Sequence[str] = WEIGHTS) -> Arrays:
    """Copies of the values of all variables; with several processes every one of them must call this."""
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # within an epoch the JAX trainer keeps the values outside the variables
    with scope(model):
        found = variables(model, groups)
        return {group: [_numpy(variable).copy() for variable in members] for group, members in found.items()}


def _numpy(variable) -> np.ndarray:
    # By way of a tensor, because a metric of several replicas must be summed before it can be read.
    return keras.ops.convert_to_numpy(keras.ops.convert_to_tensor(variable))


def assign(model: keras.Model, arrays: Arrays) -> None:
    """Put values from `capture` or `read_arrays` back; groups that `arrays` lacks stay as they are."""
    with scope(model):
        for group, members in variables(model, list(arrays)).items():
            for variable, value in zip(members, arrays[group], strict=True):
                variable.assign(value)


def first_non_finite(model: keras.Model, arrays: Arrays) -> str | None:
    """Path of the first weight or optimiser variable that holds NaN or infinity; running metrics are not looked at."""
    for group, members in variables(model, WEIGHTS).items():
        for variable, value in zip(members, arrays[group], strict=True):
            if value.dtype.kind in "fV" and not np.isfinite(value).all():  # V: bfloat16 and its like
                return variable.path
    return None


def states(folder: Path) -> list[Path]:
    """State files of a folder, newest first."""
    return sorted(folder.glob("state-*.h5"), reverse=True)


def save(folder: Path, model: keras.Model, arrays: Arrays, *, info: dict[str, Any], keep: int) -> Path:
    """Write `arrays` and the JSON-able `info` (with key `step`) atomically, then keep only the newest `keep` files.

    Files of later steps go too: training came back to an earlier step because they are damaged. OSError: the disk is full or
    read-only; the states written before stay.
    """
    path = folder / f"state-{info['step']:09d}.h5"
    with disk.atomic_path(path, room=room_for(model)) as temporary:
        with h5py.File(temporary, "w") as file:
            file.attrs["info"] = json.dumps(info)
            for group, members in variables(model, list(arrays)).items():
                for index, (variable, value) in enumerate(zip(members, arrays[group], strict=True)):
                    raw = np.frombuffer(value.tobytes(), np.uint8) if value.dtype.kind == "V" else value
                    file.create_dataset(f"{group}/{index:05d}", data=raw).attrs["variable"] = signature(variable)
        with temporary.open("r+b") as file:
            digest = hashlib.file_digest(file, _digest).digest()
            file.write(digest)
    later = [other for other in states(folder) if other.name > path.name]
    for old in later + states(folder)[len(later) + keep :]:
        old.unlink(missing_ok=True)
    return path


def room_for(model: keras.Model) -> int:
    """Bytes that an HDF5 file of a model's variables, and its optimizer's, takes at most."""
    members = [*model.variables, *getattr(getattr(model, "optimizer", None), "variables", [])]
    return 100_000 + sum(8_000 + 4 * math.prod(variable.shape) for variable in members)


def _digest(data: bytes = b"") -> Any:
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES)


def read_newest(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """Info and path of the newest sound state; a damaged one is named on one line and passed over; None without any."""
    for path in states(folder):
        with contextlib.suppress(OSError):
            content = path.read_bytes()
            if _digest(content[:-DIGEST_BYTES]).digest() == content[-DIGEST_BYTES:]:
                with h5py.File(path) as file:
                    return json.loads(file.attrs["info"]), path
        print(f"skipped {path.name}: damaged or unreadable, trying the one before", flush=True)
    return None


def read_log(run_dir: Path) -> list[dict[str, Any]]:
    """Rows of the log of `fit`, a missing number as NaN; none before the first epoch has ended."""
    path = run_dir / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [{name: math.nan if value is None else value for name, value in row.items()} for row in rows]


def read_arrays(path: Path, model: keras.Model, groups: Sequence[str] = WEIGHTS) -> Arrays:
    """Values of a sound state for the variables of `model`, matched by order; ValueError names the first of another model."""
    arrays: Arrays = {}
    with h5py.File(path) as file:
        for group, members in variables(model, groups).items():
            stored = [file[group][name] for name in sorted(file[group])] if group in file else []
            _check(path, [item.attrs["variable"] for item in stored], [signature(variable) for variable in members])
            arrays[group] = [_value(item, variable) for item, variable in zip(stored, members, strict=True)]
    return arrays


def _value(item: h5py.Dataset, variable) -> np.ndarray:
    dtype = _numpy(variable).dtype  # of ml_dtypes for bfloat16, which HDF5 does not know
    return np.frombuffer(item[()].tobytes(), dtype).reshape(variable.shape)


def _check(path: Path, stored: list[str], expected: list[str]) -> None:
    if stored == expected:
        return
    pairs = itertools.zip_longest(stored, expected, fillvalue="nothing")
    there, here = next(pair for pair in pairs if pair[0] != pair[1])
    raise ValueError(
        f"{path.name} in {path.parent} belongs to another model: it holds {len(stored)} such variables, "
        f"the model has {len(expected)}; first difference: the file has {there}, the model has {here}. "
        "Choose another run_dir, or delete that folder to start anew."
    )
