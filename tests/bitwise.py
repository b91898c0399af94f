"""What two runs left, compared bit for bit; tests and benchmarks that kill steps share it."""

from pathlib import Path

import h5py
import numpy as np


def weights(path: Path) -> dict[str, tuple]:
    """Every array of an HDF5 file, bit for bit."""
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: arrays.update({name: item}) if isinstance(item, h5py.Dataset) else None)
        return {name: (item.shape, str(item.dtype), np.asarray(item).tobytes()) for name, item in arrays.items()}


def differences(found: dict[str, object], expected: dict[str, object]) -> list[str]:
    """Names of the files that are missing, too many, or other than expected."""
    return sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
