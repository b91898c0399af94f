"""Steps on a disk that outlives the machine: one packed, verified file each, and a training under way in two files by turns.

On a mounted Google Drive a file that is deleted or replaced goes to the bin and still counts. So nothing is deleted or renamed
there: every file is written in place, and one that is not needed any more becomes empty. A pack counts only with its note,
`<pack>.json`, which has its size and sha256 and is written last.
"""

import contextlib
import hashlib
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from helpers.workspace import disk

EVERY = 600.0  # seconds between two packs of a training under way
SPARE = 100_000_000  # bytes that stay free
SMALL = 300_000_000  # bytes of a download that is worth keeping

_keep: Callable[[], None] | None = None


def save(folder: Path, pack: Path, number: int = 0) -> bool:
    """Pack a folder; one line, and False, where it does not fit or cannot be written: what it is for goes on without.

    Args:
        folder: its files are not changed meanwhile.
        pack: the file, written in place.
        number: stands in the note, to tell which of two packs is newer.
    """
    try:
        pack.parent.mkdir(parents=True, exist_ok=True)
        size = sum(path.stat().st_size + 1024 for path in folder.rglob("*"))
        here = pack.stat().st_size if pack.exists() else 0
        free = shutil.disk_usage(pack.parent).free + here - SPARE
        if size > free:
            print(
                f"{folder.name} is not kept: it has {size / 1e9:.2f} GB, {max(0, free) / 1e9:.2f} GB are free at {pack.parent}",
                flush=True,
            )
            return False
        _note(pack).write_bytes(b"")
        with pack.open("wb") as file:
            writer = _Counted(file)
            with tarfile.open(fileobj=writer, mode="w|") as tar:
                tar.add(folder, arcname=".")
        _note(pack).write_text(
            json.dumps({"bytes": writer.count, "sha256": writer.sha256, "number": number}), encoding="utf-8"
        )
    except OSError as error:
        print(f"{folder.name} is not kept at {pack.parent}: {error}", flush=True)
        return False
    return True


def restore(pack: Path, folder: Path) -> bool:
    """Unpack a pack of `save` as `folder`, which appears whole or not at all; False if there is no sound one."""
    note = read_note(pack)
    if note is None:
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        try:
            with pack.open("rb") as file:
                reader = _Counted(file)
                with tarfile.open(fileobj=reader, mode="r|") as tar:
                    tar.extractall(Path(temporary) / "whole", filter="data")
                while reader.read(1 << 20):
                    pass
            if (reader.count, reader.sha256) != (note["bytes"], note["sha256"]):
                raise tarfile.TarError(f"its {reader.count} bytes are not the {note['bytes']} that were written")
        except (tarfile.TarError, EOFError) as error:
            print(f"{pack.name} at {pack.parent} is damaged and not used: {error}", flush=True)
            with contextlib.suppress(OSError):
                _note(pack).write_bytes(b"")  # else whoever asks next would read all of it again
            return False
        disk.replace(Path(temporary) / "whole", folder)
    print(f"{folder.name} comes from {pack.parent}", flush=True)
    return True


def read_note(pack: Path) -> dict | None:
    """What was noted of a finished pack, None where there is none."""
    with contextlib.suppress(OSError, ValueError):
        note = json.loads(_note(pack).read_text(encoding="utf-8"))
        if pack.is_file() and {"bytes", "sha256", "number"} <= note.keys():
            return note
    return None


def empty(pack: Path) -> None:
    """Free what a pack holds without deleting it."""
    with contextlib.suppress(OSError):
        for path in (_note(pack), pack):
            if path.exists():
                path.write_bytes(b"")


# --- a training under way ---


@contextlib.contextmanager
def keeping(folder: Path, pack: Path | None) -> Iterator[None]:
    """Within the body `checkpoint()` packs `folder` every ten minutes, by turns in two files; nowhere if `pack` is None."""
    global _keep
    before, last = _keep, [time.monotonic()]

    def keep() -> None:
        if time.monotonic() - last[0] >= EVERY:
            newest = max((_number(slot) for slot in slots(pack)), default=0)
            save(folder, min(slots(pack), key=_number), newest + 1)  # the older one: a kill meanwhile leaves the newer
            last[0] = time.monotonic()

    _keep = keep if pack else before
    try:
        yield
    finally:
        _keep = before


def checkpoint() -> None:
    """Told by a training that its files are such that it could go on from them; it waits while they are packed."""
    if _keep:
        _keep()


def restore_state(pack: Path, folder: Path) -> bool:
    """Unpack the newest sound state that `keeping` left."""
    newest_first = sorted(slots(pack), key=_number, reverse=True)
    return any(restore(slot, folder) for slot in newest_first)


def slots(pack: Path) -> list[Path]:
    """The two files of a training under way."""
    return [pack.with_name(f"{pack.stem}.state-{letter}.tar") for letter in "ab"]


def _number(pack: Path) -> int:
    return (read_note(pack) or {"number": 0})["number"]


# --- downloads ---


def copy_small(source: Path, target: Path) -> None:
    """Copy the small files below one folder to another that lacks them; parts of downloads are left out."""
    for path in sorted(source.rglob("*")) if source.is_dir() else ():
        place = target / path.relative_to(source)
        if path.is_file() and ".part" not in path.suffixes and path.stat().st_size <= SMALL and not place.exists():
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            except OSError as error:
                print(f"{path.name} is not kept at {target}: {error}", flush=True)
                return


class _Counted:
    """Passes bytes to or from a file, counts and hashes them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.count, self.hash = file, 0, hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self.hash.hexdigest()

    def _see(self, data: bytes) -> None:
        self.count += len(data)
        self.hash.update(data)

    def write(self, data: bytes) -> int:
        self._see(data)
        return self.file.write(data)

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self._see(data)
        return data


def _note(pack: Path) -> Path:
    return pack.with_name(pack.name + ".json")
