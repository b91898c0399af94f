"""Files that are whole or not there: atomic writes, tables, locks, and errors that name the folder.

All of it holds on Windows too: there a file must be open for writing to be flushed to the disk, nothing that is open elsewhere can
be replaced or removed, and text files get other ends of lines unless told.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

# gs://, s3://, http://, also after `Path` took one slash away; C:/ is a drive
ADDRESS = re.compile(r"[A-Za-z][\w+.-]+:/")
WAITS = (0.05, 0.1, 0.2, 0.4)  # seconds
AWAITED = 60.0  # seconds that a process waits for the file of another one
ANOTHER = "choose another workspace (COURSE_WORKSPACE)"
REASONS = {
    errno.ENOSPC: f"the disk is full: free some space or {ANOTHER}",
    errno.EDQUOT: f"the quota is used up: free some space or {ANOTHER}",
    errno.EFBIG: f"the disk or a limit of this process takes no file that large: {ANOTHER}",
    errno.EROFS: f"the folder is read-only: {ANOTHER}",
    errno.EACCES: f"no permission to write there: {ANOTHER}",
    errno.EPERM: f"no permission to write there: {ANOTHER}",
    errno.EIO: f"the disk fails: call again, or {ANOTHER}",
    errno.ENOTDIR: f"a file is in the way: remove it or {ANOTHER}",
    errno.EEXIST: f"a file is in the way: remove it or {ANOTHER}",
    errno.ENAMETOOLONG: f"the path is too long for this disk: {ANOTHER}",
}

discards = False  # this process takes part in what another one writes down


def local_path(value: str | os.PathLike, what: str) -> Path:
    """A path of this machine, `~` resolved, as the setting `what` names it.

    ValueError: an address such as gs://bucket/runs, or bytes that are no text.
    """
    text = os.fspath(value)
    if ADDRESS.match(text):
        raise ValueError(
            f"{what}: received {text!r}; allowed: a folder of this machine, since steps read, write and lock many small files; "
            "copy data here first (gcloud storage rsync --recursive ADDRESS FOLDER), and name the bucket in --keep (COURSE_KEEP): "
            "finished steps and trainings under way are packed there"
        )
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(
            f"{what}: received {text!r}, whose name holds bytes that are no UTF-8, which video libraries cannot open; "
            "allowed: a folder with another name"
        )
    return Path(text).expanduser()


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn the errors of a full or read-only disk into one OSError that names the folder and the way out."""
    try:
        yield
    except OSError as error:
        code = errno.ENOSPC if " requested and " in str(error) else error.errno  # NumPy's words, without a number
        here, place = path.parent.absolute(), error.filename and Path(os.fsdecode(error.filename)).absolute()
        elsewhere = place and not (place.is_relative_to(here) or here.is_relative_to(place))
        if code not in REASONS or elsewhere or "COURSE_WORKSPACE" in str(error):  # the last: explained already
            raise
        raise OSError(code, f"cannot write {path.name} in {path.parent}: {REASONS[code]}") from error


def replace(source: Path, target: str | os.PathLike) -> None:
    """`source.replace(target)`, tried for a second where Windows refuses because another program has a file open."""
    for wait in WAITS:
        try:
            source.replace(target)
            return
        except PermissionError:
            time.sleep(wait)
    source.replace(target)


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike, *, room: int = 0) -> Iterator[Path]:
    """Yield a temporary path beside `path` with the same suffix; on success it becomes `path`, on failure it is removed.

    For writers that want a name, such as `model.save_weights`. Where this process `discards`, the path lies elsewhere and goes;
    what another process writes stands when the body has ended.

    Args:
        room: bytes that the writer needs; a disk without them is an error before it begins. HDF5 ends the process otherwise.
    """
    path = Path(path)
    if discards:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
        end = time.monotonic() + AWAITED
        while not path.is_file() and time.monotonic() < end:  # so that this process can read it
            time.sleep(0.05)
        return
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        suffix = "".join(path.suffixes)[-20:]  # both short, for a name has 255 bytes, four of which may be one letter
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:20]}-", suffix=suffix, dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb"):
                _look_for_room(handle, path.parent, room)
            yield temporary
            _flush(temporary, path)
            replace(temporary, path)
        finally:
            with contextlib.suppress(PermissionError):  # open elsewhere; the error that led here counts
                temporary.unlink(missing_ok=True)


def _look_for_room(handle: int, folder: Path, room: int) -> None:
    if not room:
        return
    if shutil.disk_usage(folder).free < room:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if hasattr(os, "posix_fallocate"):  # quotas and limits count too
        try:
            os.posix_fallocate(handle, 0, room)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # some disks know no such thing
                raise
        os.ftruncate(handle, 0)


def _flush(temporary: Path, path: Path) -> None:
    """Bring a written file to the disk, with the modes of a plain one."""
    if not temporary.is_file():  # some writers remove what they could not finish, and say nothing
        text = f"nothing was written for {path.name} in {path.parent}: is the disk full? Free some space or {ANOTHER}"
        raise OSError(errno.EIO, text)
    with temporary.open("r+b") as file:
        os.fsync(file.fileno())
    with contextlib.suppress(PermissionError):  # a FAT disk has no modes
        temporary.chmod(0o644)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "wb") -> Iterator[Any]:
    """Yield an open file that replaces `path` only when the body ends well; OSError where the disk is full or read-only."""
    options = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(path) as temporary, temporary.open(mode, **options) as file:
        yield file
        file.flush()


def write(path: str | os.PathLike, content: str | bytes) -> None:
    """Write a whole file, atomically; text in UTF-8 with LF endings."""
    with atomic_write(path, "w" if isinstance(content, str) else "wb") as file:
        file.write(content)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed writers had begun anywhere below a folder: temporary names, of files and folders, begin with a dot."""
    for path in [*folder.rglob(".*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as sorted, indented JSON, atomically."""
    write(path, json.dumps(value, indent=1, sort_keys=True, default=str) + "\n")


def remember(path: str | os.PathLike, function: Callable[..., dict], *arguments: Any) -> dict:
    """The dict that `function(*arguments)` gives, from the file where an earlier call left it if there is one.

    For rows of a table that take long: a killed step goes on with the next. Keys keep their order, they become columns.
    """
    path = Path(path)
    if not path.is_file():
        write(path, json.dumps(function(*arguments), indent=1))
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: str | os.PathLike, table: Any) -> None:
    """Write a pandas DataFrame as CSV without its index, atomically, for `read_table`.

    The header quotes the names of text columns: so `00012` and `nan` are read back as the texts that they were. A missing
    number is `nan`; a missing text becomes empty text. ValueError: a column's name holds a comma, a quote or a line break.
    """
    from pandas.api.types import infer_dtype

    text = [name for name in table if infer_dtype(table[name], skipna=True) in ("string", "mixed", "mixed-integer")]
    if wrong := [name for name in table if set(str(name)) & set(',"\r\n')]:
        raise ValueError(f"columns: received {wrong}; allowed: names without comma, quote and line break")
    with atomic_write(path, "w") as file:
        file.write(",".join(f'"{name}"' if name in text else str(name) for name in table) + "\n")
        table = table.fillna(dict.fromkeys(text, ""))
        table.to_csv(file, index=False, header=False, lineterminator="\n", na_rep="nan")


def read_table(path: str | os.PathLike) -> Any:
    """Read what `write_table` wrote as a pandas DataFrame: text columns as they were, the others as what they look like.

    Floats come back to the last bit.
    """
    import pandas as pd

    with Path(path).open(encoding="utf-8") as file:
        names = file.readline().rstrip("\n").split(",")
    text = {name.strip('"'): str for name in names if name.startswith('"')}
    missing = {name: ["nan"] for name in names if not name.startswith('"')}
    # before 3.1 pandas' quick way of reading floats was wrong in the last bit of one in four; since then it knows no other
    old = tuple(map(int, pd.__version__.split(".")[:2])) < (3, 1)
    exact = {"float_precision": "round_trip"} if old else {}
    return pd.read_csv(path, dtype=text, keep_default_na=False, na_values=missing, **exact)


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold `<path>.lock`; a second process prints one line and waits. The system frees the lock of a killed process."""
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        guard = filelock.FileLock(f"{path}.lock")
        try:
            guard.acquire(timeout=1)
        except filelock.Timeout:
            print(f"another run is working on {path.name}: waiting for it", flush=True)
            guard.acquire()
    try:
        yield
    finally:
        guard.release()
