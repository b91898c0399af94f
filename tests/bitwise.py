"""What two runs left, compared bit for bit; tests and benchmarks that kill steps share it."""

import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from helpers.workspace import StepResult

TIMES = ("time", "hours", "seconds", "steps_per_second")  # columns that no two runs share
CLOCK = re.compile(rb"[\d.]+ (seconds|hours left)")  # in Darknet's log


def weights(path: Path) -> dict[str, tuple]:
    """Every array of an HDF5 file, bit for bit."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return {name: (item.shape, str(item.dtype), np.asarray(item).tobytes()) for name, item in arrays.items()}


def contents(result: StepResult) -> dict[str, object]:
    """What a step left, by file, in a form to compare: bytes; arrays of HDF5 files; tables without their times."""
    found: dict[str, object] = {"step.json": {key: value for key, value in result.found.items() if key not in TIMES}}
    for path in sorted(result.folder.rglob("*")):
        name = path.relative_to(result.folder).as_posix()
        if not path.is_file() or name == "step.json" or "checkpoints" in path.parts:
            continue
        if path.suffix == ".h5":
            found[name] = weights(path)
        elif path.name == "speed.csv":  # nothing but times
            found[name] = pd.read_csv(path).columns.tolist()
        elif path.suffix == ".csv" and path.stat().st_size:
            found[name] = pd.read_csv(path, dtype=str).drop(columns=list(TIMES), errors="ignore").to_csv()
        elif path.suffix != ".jsonl":  # log.jsonl says what log.csv says
            found[name] = CLOCK.sub(b"", path.read_bytes())
    return found


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Names of the files that are missing, too many, or other than expected."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
