"""Steps where they outlive the machine: one packed, verified file each, and a training under way in two files by turns.

On a mounted Google Drive a file that is deleted or replaced goes to the bin and still counts. So nothing is deleted or renamed
there: every file is written in place, and one that is not needed any more becomes empty. A pack counts only with its note,
`<pack>.json`, which has its size and sha256 and is written last. A path here is a `Path`, or one of a bucket (`buckets`).
"""

import contextlib
import json
import shutil
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from helpers.workspace import buckets, disk
from helpers.workspace.redact import clean

EVERY = 600.0  # seconds between two packs of a training under way
SPARE = 100_000_000  # bytes that stay free
SMALL = 300_000_000  # bytes of a download that is worth keeping

_keep: Callable[[bool], None] | None = None


def save(folder: Path, pack: Any, number: int = 0, *, again: bool = True) -> bool:
    """Pack a folder; one line, and False, where it does not fit or cannot be written: what it is for goes on without.

    Args:
        folder: its files are not changed meanwhile.
        number: stands in the note, to tell which of two packs is newer.
        again: False leaves a pack that stands, and only makes up for one that could not be written before.
    """
    try:
        if not again and read_note(pack):
            return False
        with buckets.told(pack):
            if not buckets.remote(pack) and not _fits(folder, pack):
                return False
            _note(pack).write_bytes(b"")
            with buckets.put(pack) as writer, tarfile.open(fileobj=writer, mode="w|") as tar:
                tar.add(folder, arcname=".")
            note = {"bytes": writer.count, "sha256": writer.sums["sha256"].hexdigest(), "number": number}
            _note(pack).write_text(json.dumps(note), encoding="utf-8")
        return True
    except OSError as error:
        print(f"{folder.name} is not kept at {pack.parent}: {clean(error)}", flush=True)
        return False


def _fits(folder: Path, pack: Path) -> bool:
    pack.parent.mkdir(parents=True, exist_ok=True)
    size = sum(path.stat().st_size + 1024 for path in folder.rglob("*"))
    free = shutil.disk_usage(pack.parent).free + (pack.stat().st_size if pack.exists() else 0) - SPARE
    if size > free:
        room = f"it has {size / 1e9:.2f} GB, {max(0, free) / 1e9:.2f} GB are free at {pack.parent}"
        print(f"{folder.name} is not kept: {room}", flush=True)
    return size <= free


def restore(pack: Any, folder: Path) -> bool:
    """Unpack a pack of `save` as `folder`, which appears whole or not at all; False if there is no sound one.

    OSError: the bucket cannot be read; made anew, what took hours would be lost.
    """
    note = read_note(pack)
    if note is None:
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".unpacking-") as temporary:
        try:
            with buckets.told(pack), pack.open("rb") as file:
                reader = buckets.Counted(file)
                with tarfile.open(fileobj=reader, mode="r|") as tar:
                    tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python has it from 3.11.4 on
                    tar.extractall(Path(temporary) / "whole", members=_inside(tar))
                while reader.read(1 << 20):
                    pass
            if (reader.count, reader.sums["sha256"].hexdigest()) != (note["bytes"], note["sha256"]):
                raise tarfile.TarError(f"its {reader.count} bytes are not the {note['bytes']} that were written")
        except (tarfile.TarError, EOFError, FileNotFoundError) as error:
            print(f"{pack.name} at {pack.parent} is damaged and not used: {error}", flush=True)
            with contextlib.suppress(OSError), buckets.told(pack):
                _note(pack).write_bytes(b"")  # else whoever asks next would read all of it again
            return False
        disk.replace(Path(temporary) / "whole", folder)
    print(f"{folder.name} comes from {pack.parent}", flush=True)
    return True


def _inside(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The members of a pack, which `save` made of files and folders; TarError for any other, and for one that leaves its folder."""
    for member in tar:
        names = [member.name, member.linkname] if member.islnk() else [member.name]
        plain = member.isfile() or member.isdir() or member.islnk()
        if not plain or any(name.startswith("/") or ".." in name.split("/") for name in names):
            raise tarfile.TarError(f"its member {member.name} is none of ours")
        yield member


def read_note(pack: Any) -> dict | None:
    """What was noted of a finished pack, None where there is none; OSError where a bucket cannot be read, so that nobody knows."""
    try:
        with buckets.told(pack):
            text = _note(pack).read_bytes()
        note = json.loads(text)
        return note if {"bytes", "sha256", "number"} <= note.keys() else None
    except OSError as error:
        if buckets.remote(pack) and not isinstance(error, FileNotFoundError):
            raise
    except ValueError:
        pass
    return None


def empty(pack: Any) -> None:
    """Free what a pack holds without deleting it."""
    with contextlib.suppress(OSError), buckets.told(pack):
        for path in (_note(pack), pack):
            if path.exists():
                path.write_bytes(b"")


# --- a training under way ---


@contextlib.contextmanager
def keeping(folder: Path, pack: Any | None) -> Iterator[None]:
    """Within the body `checkpoint()` packs `folder` every ten minutes, by turns in two files; nowhere if `pack` is None."""
    global _keep
    before, last = _keep, [time.monotonic()]

    def keep(now: bool) -> None:
        if now or time.monotonic() - last[0] >= EVERY:
            _save_state(folder, pack)
            last[0] = time.monotonic()

    _keep = keep if pack else before
    try:
        yield
    finally:
        _keep = before


def _save_state(folder: Path, pack: Any) -> None:
    try:
        older, newer = sorted(slots(pack), key=_number)
        save(folder, older, _number(newer) + 1)  # a kill meanwhile leaves the newer
    except OSError as error:  # of reading the notes
        print(f"{folder.name} is not kept at {pack.parent}: {clean(error)}", flush=True)


def checkpoint(*, now: bool = False) -> None:
    """Told by a training that it could go on from its files, which are packed now and then, and `now` that it is about to end."""
    if _keep:
        _keep(now)


def restore_state(pack: Any, folder: Path) -> bool:
    """Unpack the newest sound state that `keeping` left."""
    return any(restore(slot, folder) for slot in sorted(slots(pack), key=_number, reverse=True))


def slots(pack: Any) -> list[Any]:
    """The two files of a training under way."""
    return [pack.with_name(f"{pack.stem}.state-{letter}.tar") for letter in "ab"]


def _number(pack: Any) -> int:
    return (read_note(pack) or {"number": 0})["number"]


# --- downloads ---


def copy_small(source: Any, target: Any) -> None:
    """Copy the small files below one folder to another that lacks them; parts of downloads are left out."""
    try:
        with buckets.told(source if buckets.remote(source) else target):
            for path in sorted(source.rglob("*"), key=str) if source.is_dir() else ():
                place = target / str(path)[len(str(source)) + 1 :].replace("\\", "/")
                small = path.is_file() and ".part" not in path.suffixes and path.stat().st_size <= SMALL
                if small and not place.exists():
                    if not buckets.remote(place):
                        place.parent.mkdir(parents=True, exist_ok=True)
                    write = disk.atomic_write if buckets.remote(source) else buckets.put
                    with path.open("rb") as file, write(place) as copy:
                        shutil.copyfileobj(file, copy, 1 << 20)
    except OSError as error:
        print(f"small downloads are not copied to {target}: {clean(error)}", flush=True)


def _note(pack: Any) -> Any:
    return pack.with_name(pack.name + ".json")
