"""Folders of a bucket, such as gs://bucket/folder, in the place of a folder that outlives the machine.

universal_pathlib gives them the methods of a path, and fsspec knows the stores (gcsfs: Google's). An object is there whole or not
at all, so nothing is written under a temporary name and renamed. What a store raises becomes one sentence.
"""

import base64
import contextlib
import hashlib
import logging
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c

from helpers import runtime
from helpers.workspace import disk
from helpers.workspace.redact import clean

BLOCK = 2**25  # bytes per request: each waits for an answer
REPORTED = ("md5Hash", "crc32c")  # checksums under Google's names; a store that has none is asked for the size alone
NEEDS = "pip install 'universal_pathlib>=0.3' gcsfs"


def remote(path: Any) -> bool:
    """Whether a path is a bucket's."""
    return not isinstance(path, Path)


def place(value: Any, what: str) -> Any:
    """The folder to keep, of this machine or of a bucket, as the setting `what` names it; asks no network.

    ValueError: an address of nothing that can be written here, or a package is missing; the message says which.
    """
    if not isinstance(value, str | os.PathLike):
        return value  # made here before
    if not disk.ADDRESS.match(os.fspath(value)):
        return disk.local_path(value, what)
    try:
        from upath import UPath

        path = UPath(os.fspath(value), use_listings_cache=False)  # a listing of before would hide what came since
        known = remote(path) and "file" not in path.fs.protocol
    except Exception as error:  # no such store, no library for it, or it looks for credentials at once
        raise _refused(value, what, error) from error
    if not known:
        raise _refused(value, what, "no such kind of store is known")
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # its tracebacks would land in the notebook
    return path


def reach(value: Any, what: str) -> Any:
    """`place`, and a bucket is tried with one small file, so that a ValueError tells what is wrong before anything begins."""
    path = place(value, what)
    if not remote(path):
        return path.resolve()
    try:
        with told(path):
            if "gs" in path.fs.protocol:
                runtime.sign_in()
            (path / "about.txt").write_text("Kept by learning-from-video: packed steps, and trainings under way.\n")
    except OSError as error:
        raise _refused(value, what, error) from error
    return path


def _refused(value: Any, what: str, reason: object) -> ValueError:
    return ValueError(
        f"{what}: received {os.fspath(value)!r}; allowed: a folder of this machine, or of a bucket, such as gs://bucket/folder, "
        "that exists and that you may write, signed in by gcloud auth application-default login, or by the key file that "
        f"GOOGLE_APPLICATION_CREDENTIALS names, after {NEEDS} ({clean(reason)})"
    )


@contextlib.contextmanager
def told(path: Any) -> Iterator[None]:
    """Whatever goes wrong at a bucket becomes an OSError of one sentence that names the path.

    A missing object, a damaged pack, and errors of this machine's disk stay what they are.
    """
    try:
        yield
    except (FileNotFoundError, tarfile.TarError, EOFError):
        raise
    except Exception as error:
        if not remote(path) or getattr(error, "errno", None) in disk.REASONS:
            raise
        raise OSError(f"{path} cannot be read or written ({clean(error)})") from error


class Counted:
    """Passes bytes to or from an open file, counts them and adds up their checksums."""

    def __init__(self, file: Any, *more: str) -> None:
        self.file, self.count = file, 0
        kinds = {"sha256": hashlib.sha256, "md5Hash": hashlib.md5, "crc32c": google_crc32c.Checksum}
        self.sums = {name: kinds[name]() for name in ("sha256", *more)}

    def _see(self, data: bytes) -> None:
        self.count += len(data)
        for checksum in self.sums.values():
            checksum.update(data)

    def write(self, data: bytes) -> int:
        self._see(data)
        return self.file.write(data)

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self._see(data)
        return data


@contextlib.contextmanager
def put(path: Any) -> Iterator[Counted]:
    """A file to write in place. A bucket must then report the size and the checksums that were sent, else OSError."""
    if not remote(path):
        with path.open("wb") as file:
            yield Counted(file)
        return
    with path.open("wb", block_size=BLOCK) as file:
        writer = Counted(file, *REPORTED)
        yield writer
    there = path.fs.info(path.path)
    sent = {name: base64.b64encode(writer.sums[name].digest()).decode() for name in REPORTED} | {"size": writer.count}
    if wrong := [name for name, value in sent.items() if there.get(name, value) != value]:
        raise OSError(f"the {' and '.join(wrong)} that the bucket reports of {path.name} are not those that were sent")
