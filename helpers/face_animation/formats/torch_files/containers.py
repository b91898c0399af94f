"""The two containers that PyTorch's weights come in: each gives the object that was saved and the bytes of its storages.

The zip of 1.6 and later (`<name>/data.pkl` and one member a storage), and the older row of pickles (magic, protocol, system,
object, keys) with the storages behind. In spite of names such as `.pth.tar` none is a tar archive.
"""

import io
import mmap
import zipfile
from collections.abc import Callable
from typing import Any, BinaryIO

from helpers import intake
from helpers.face_animation.formats.torch_files.unpickle import read_pickle
from helpers.face_animation.formats.torch_files.values import CheckpointError, Storage

MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001

Read = Callable[[Storage], bytes]
Opened = tuple[Any, Read]  # the object that was saved, with `Tensor` for tensors, and what reads a storage's bytes


def open_file(file: BinaryIO) -> Opened:
    """The container that the first bytes of `file` tell.

    Raises:
        CheckpointError: none of them, cut off or damaged; also zipfile's own errors.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    file.seek(0)
    try:
        return _open_zip(file, size) if start[:4] == b"PK\3\4" else _open_legacy(file, start, size)
    except (LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(f"damaged or cut off ({error!r:.100}); download it again") from error


def _open_zip(file: BinaryIO, size: int) -> Opened:
    archive = zipfile.ZipFile(file)
    members = archive.namelist()
    found = [name for name in members if name.split("/")[1:] == ["data.pkl"]]
    if len(found) != 1 or len(members) != len(set(members)):
        raise CheckpointError(f"expected one member <name>/data.pkl, found {len(found)}: not a file of torch.save")
    prefix = found[0].removesuffix("data.pkl")
    if f"{prefix}byteorder" in members and _member(archive, f"{prefix}byteorder", 6) != b"little":
        raise CheckpointError("its numbers are big-endian: save it again on a common machine")
    root, _ = read_pickle(io.BytesIO(_member(archive, found[0], size)))

    def read(storage: Storage) -> bytes:
        data = _member(archive, f"{prefix}data/{storage.key}", storage.bytes)
        if len(data) != storage.bytes:
            raise CheckpointError(f"storage {storage.key!r} has {len(data)} bytes instead of {storage.bytes}")
        return data

    return root, read


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """One member's bytes; torch compresses nothing, so what is compressed may be a bomb."""
    try:
        info = archive.getinfo(name)
    except KeyError:
        raise CheckpointError(f"member {name!r} is missing: the file was cut off, or is no checkpoint") from None
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        raise CheckpointError(f"member {name!r} is compressed or encrypted, which torch.save never does")
    if info.file_size > limit:
        raise CheckpointError(f"member {name!r} has {info.file_size} bytes, at most {limit} are expected")
    if not 0 <= info.header_offset < 1 << 62:
        raise CheckpointError(f"member {name!r} lies outside the file: damaged")
    return archive.read(info)


def _open_legacy(file: BinaryIO, start: bytes, size: int) -> Opened:
    if start[:1] != b"\x80":
        raise _refusal(file, start)
    # Mapped, it cannot be asked for more bytes than there are.
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
        try:
            magic, _ = read_pickle(stream)
        except CheckpointError:
            magic = None
        if magic != MAGIC or read_pickle(stream)[0] != PROTOCOL:
            raise _refusal(file, start)
        (system, _), (root, storages), (keys, _) = (read_pickle(stream) for _ in range(3))
        position = stream.tell()
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise CheckpointError("its numbers are big-endian: save it again on a common machine")
    if not isinstance(keys, list) or not all(type(key) is str for key in keys) or len(set(keys)) != len(keys):
        raise CheckpointError("its list of storages is damaged")
    if set(storages) != set(keys):
        raise CheckpointError("its list of storages is not that of its tensors")
    places = _places(file, position, size, [storages[key] for key in keys])

    def read(storage: Storage) -> bytes:
        file.seek(places[storage.key])
        return file.read(storage.bytes)

    return root, read


def _refusal(file: BinaryIO, start: bytes) -> CheckpointError:
    """What a file is that is no checkpoint: the one place that says so."""
    kind = intake.describe(file.name)
    return CheckpointError(
        f"not a file of torch.save: it {f'is {kind}' if kind else f'begins with {start[:16]!r}'}; download it again"
    )


def _places(file: BinaryIO, position: int, size: int, storages: list[Storage]) -> dict[str, int]:
    """Where each storage's numbers begin: a row of element count (int64) and numbers, up to the very end of the file."""
    places = {}
    for storage in storages:
        file.seek(min(position, size))
        claimed = int.from_bytes(file.read(8), "little", signed=True)
        end = position + 8 + storage.bytes
        if end > size:
            raise CheckpointError(f"cut off inside storage {storage.key!r}: {size} bytes, expected {end} or more")
        if claimed != storage.count:
            raise CheckpointError(f"storage {storage.key!r} has {claimed} numbers, its tensors expect {storage.count}")
        places[storage.key], position = position + 8, end
    if position != size:
        raise CheckpointError(f"{size - position} bytes follow the last storage, where the file should end")
    return places
