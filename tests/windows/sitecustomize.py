"""What Windows forbids, forbidden here; Python imports it at its start where this folder is on PYTHONPATH, worker processes too.

- a file must be open for writing to be flushed; a folder cannot be opened at all;
- what is open or mapped, in this process, can be neither replaced, renamed nor removed, nor can the folder around it;
- no rename takes the place of a folder; the first one of each name fails, as if a virus scanner were looking at it;
- text files end their lines in CR LF unless told, and the encoding is not UTF-8 unless told: asking for the default is an error;
- there is no fcntl, no resource, no os.fork, no os.kill.
"""

import builtins
import errno
import fcntl
import io
import os
import shutil
import sys
from pathlib import Path

HELPERS = str(Path(__file__).resolve().parents[2] / "helpers")
GENUINE = {name: getattr(os, name) for name in ("fsync", "open", "replace", "rename", "unlink", "remove", "rmdir")}
PLAIN_OPEN, PLAIN_FCNTL, SEEN = io.open, fcntl.fcntl, set()


def refuse(path):
    error = PermissionError(errno.EACCES, "The process cannot access the file because it is being used", str(path))
    error.winerror = 32
    raise error


def in_use() -> set[str]:
    """Files that this process has open or mapped."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{number}"))
        except OSError:  # the listing's own
            continue
    with PLAIN_OPEN("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        return found | {line.split(maxsplit=5)[5].rstrip("\n") for line in file if line.count("/")}


def check_free(path) -> None:
    place = os.path.abspath(os.fspath(path))
    if any(used == place or used.startswith(place + os.sep) for used in in_use()):
        refuse(path)


def fsync(descriptor) -> None:
    number = descriptor if isinstance(descriptor, int) else descriptor.fileno()
    if PLAIN_FCNTL(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(errno.EBADF, "Bad file descriptor")
    GENUINE["fsync"](number)


def open_descriptor(path, flags, *arguments, **options):
    if isinstance(path, (str, os.PathLike)) and os.path.isdir(path) and _ours():
        refuse(path)
    return GENUINE["open"](path, flags, *arguments, **options)


def replace(source, target, **options) -> None:
    check_free(source)
    check_free(target)
    if os.path.isdir(target):
        refuse(target)
    if str(target) not in SEEN and _ours():
        SEEN.add(str(target))
        refuse(target)
    GENUINE["replace"](source, target, **options)


def rename(source, target, **options) -> None:
    if os.path.exists(target):
        raise FileExistsError(errno.EEXIST, "Cannot create a file when that file already exists", str(target))
    replace(source, target, **options)


def removing(name):
    def remove(path, **options):
        if not options:
            check_free(path)
        return GENUINE[name](path, **options)

    return remove


def _ours() -> bool:
    """Whether a module of the course is among the callers, without another library's file between."""
    frame = sys._getframe(2)
    while frame and Path(frame.f_code.co_filename).name in (
        "pathlib.py",
        "_local.py",
        "sitecustomize.py",
        "contextlib.py",
    ):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_filename.startswith(HELPERS)


def open_file(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, *more, **options):
    text = "b" not in mode
    if text and encoding in (None, "locale") and _ours():
        raise AssertionError(f"{file}: opened as text without an encoding")
    if text and newline is None and set(mode) & set("wax+") and _ours():
        newline = "\r\n"
    return PLAIN_OPEN(file, mode, buffering, encoding, errors, newline, *more, **options)


os.fsync, os.open, os.replace, os.rename = fsync, open_descriptor, replace, rename
os.unlink, os.remove, os.rmdir = map(removing, ("unlink", "remove", "rmdir"))
io.open = builtins.open = open_file
shutil._use_fd_functions = False
sys.modules["fcntl"] = sys.modules["resource"] = None
