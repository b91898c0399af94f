"""The files of `torch.save` as NumPy arrays, without PyTorch and without running anything in them.

In spite of names such as `.pth.tar` they are no tar archives. Both of PyTorch's formats are read: the zip of 1.6 and later
(`<name>/data.pkl` and one member a storage), and the older row of pickles (magic, protocol, system, object, keys) with the
storages behind.
"""

import io
import os
import zipfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from helpers.face_animation.formats.torch_files.unpickle import (
    MAX_OPERATIONS,
    MAX_PICKLE,
    CheckpointError,
    Storage,
    Tensor,
    read_pickle,
)

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
MAX_DEPTH = 20

Read = Callable[[Storage], np.ndarray]


def load_torch(path: str | os.PathLike, *, only: Collection[str] | None = None) -> dict[Any, Any]:
    """Read a file of `torch.save`; no code in it is run, and never more is read than the file has bytes.

    Args:
        path: the file.
        only: take these entries of the outermost dict, such as ("generator", "kp_detector"); two thirds of an official
            checkpoint are Adam's moments, which playing a face does not need.

    Returns:
        Nested dict; tensors are arrays that cannot be written to, of the type that was saved.

    Raises:
        FileNotFoundError: no such file.
        CheckpointError: (a ValueError) not such a file, cut off, damaged, or its pickle names something but weights.
        KeyError: an entry of `only` is missing.
    """
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            start = file.read(4)
            file.seek(0)
            return _read_zip(file, size, only) if start == b"PK\3\4" else _read_legacy(file, size, only)
    except (CheckpointError, zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as error:
        raise CheckpointError(f"{Path(path).name}: {error}") from error


def _read_zip(file: BinaryIO, size: int, only: Collection[str] | None) -> dict:
    with zipfile.ZipFile(file) as archive:
        names = [info.filename for info in archive.infolist() if info.filename.split("/")[1:] == ["data.pkl"]]
        if len(names) != 1 or len(archive.namelist()) != len(set(archive.namelist())):
            raise CheckpointError(f"expected one member <name>/data.pkl, found {len(names)}: not a file of torch.save")
        prefix = names[0].removesuffix("data.pkl")
        if f"{prefix}byteorder" in archive.namelist() and _member(archive, f"{prefix}byteorder", 6) != b"little":
            raise CheckpointError("its numbers are big-endian: save it again on a common machine")
        root = read_pickle(io.BytesIO(_member(archive, names[0], MAX_PICKLE)))

        def read(storage: Storage) -> np.ndarray:
            wanted = storage.count * np.dtype(storage.dtype).itemsize
            data = _member(archive, f"{prefix}data/{storage.key}", wanted)
            if len(data) != wanted:
                raise CheckpointError(f"storage {storage.key!r} has {len(data)} bytes instead of {wanted}")
            return np.frombuffer(data, storage.dtype)

        return _arrays(root, only, _bounded(read, size))


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member's bytes; torch compresses nothing, so what is compressed may be a bomb."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise CheckpointError(f"member {name!r} is missing: the file was cut off, or is no checkpoint") from None
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise CheckpointError(f"member {name!r} is compressed or encrypted, which torch.save never does")
    if info.file_size > limit:
        raise CheckpointError(f"member {name!r} has {info.file_size} bytes, at most {limit} are expected")
    return archive.read(info)


def _read_legacy(file: BinaryIO, size: int, only: Collection[str] | None) -> dict:
    head = io.BytesIO(file.read(MAX_PICKLE))
    try:
        magic = read_pickle(head)
    except CheckpointError:
        magic = None
    if magic != MAGIC or read_pickle(head) != PROTOCOL:
        raise CheckpointError("not a file of torch.save (nor, in spite of its name, a tar archive): download it again")
    system, root, keys = (read_pickle(head) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("its numbers are big-endian: save it again on a common machine")
    if not isinstance(keys, list) or len(set(map(str, keys))) != len(keys):
        raise CheckpointError("its list of storages is damaged")
    storages = _storages(root)
    if set(storages) != set(keys):
        raise CheckpointError("its list of storages is not that of its tensors")
    places = _places(file, head.tell(), size, [storages[key] for key in keys])

    def read(storage: Storage) -> np.ndarray:
        file.seek(places[storage.key])
        return np.frombuffer(file.read(storage.count * np.dtype(storage.dtype).itemsize), storage.dtype)

    return _arrays(root, only, _bounded(read, size))


def _places(file: BinaryIO, position: int, size: int, storages: list[Storage]) -> dict[str, int]:
    """Where each storage's numbers begin: a row of element count (int64) and numbers, up to the very end of the file."""
    places = {}
    for storage in storages:
        file.seek(position)
        claimed = int.from_bytes(file.read(8), "little", signed=True)
        end = position + 8 + storage.count * np.dtype(storage.dtype).itemsize
        if end > size:
            raise CheckpointError(f"cut off inside storage {storage.key!r}: {size} bytes, expected {end} or more")
        if claimed != storage.count:
            raise CheckpointError(f"storage {storage.key!r} has {claimed} numbers, its tensors expect {storage.count}")
        places[storage.key], position = position + 8, end
    if position != size:
        raise CheckpointError(f"{size - position} bytes follow the last storage, where the file should end")
    return places


def _walk(value: Any, depth: int = 0) -> Iterator[Tensor | None]:
    """Every tensor, and a None for every value on the way: something to count, however the values share one another."""
    if depth > MAX_DEPTH:
        raise CheckpointError(f"nested deeper than {MAX_DEPTH} levels, which no checkpoint is")
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield None
            yield from _walk(part, depth + 1)


def _storages(root: Any) -> dict[str, Storage]:
    """Every storage by its key; also the check that the object is no bomb of shared lists."""
    found: dict[str, Storage] = {}
    for count, tensor in enumerate(_walk(root)):
        if count > MAX_OPERATIONS:
            raise CheckpointError(f"more than {MAX_OPERATIONS} values: lists that hold one another, not weights")
        if tensor is not None and found.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise CheckpointError(f"storage {tensor.storage.key!r} is claimed with two types or sizes")
    return found


def _bounded(read: Read, size: int) -> Read:
    """`read` with each storage read once, and an end before more bytes are read than the file has (members may overlap)."""
    cache: dict[str, np.ndarray] = {}
    left = size

    def once(storage: Storage) -> np.ndarray:
        nonlocal left
        if storage.key not in cache:
            left -= storage.count * np.dtype(storage.dtype).itemsize
            if left < 0:
                raise CheckpointError(f"its storages claim more than the {size} bytes of the file: cut off, or a bomb")
            cache[storage.key] = read(storage)
        return cache[storage.key]

    return once


def _arrays(root: Any, only: Collection[str] | None, read: Read) -> dict:
    _storages(root)
    if not isinstance(root, dict):
        raise CheckpointError(f"holds a {type(root).__name__}, expected a dict of state dicts")
    if missing := sorted(set(only or ()) - set(root)):
        raise KeyError(f"only: {', '.join(missing)} not in the checkpoint; it has: {', '.join(map(str, root))}")
    return _resolve(root if only is None else {name: root[name] for name in only}, read)


def _resolve(value: Any, read: Read) -> Any:
    if isinstance(value, Tensor):
        numbers = read(value.storage)
        strides = tuple(stride * numbers.itemsize for stride in value.strides)
        return np.lib.stride_tricks.as_strided(numbers[value.offset :], value.shape, strides, writeable=False)
    if isinstance(value, dict):
        return {key: _resolve(part, read) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_resolve(part, read) for part in value)
    if isinstance(value, str | int | float | bool | None):
        return value
    raise CheckpointError(f"holds a bare {type(value).__name__}, which is no weight")
