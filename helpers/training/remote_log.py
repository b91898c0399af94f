"""Google Sheets and Drive mirrors of a training run that can never stop it.

The local files are the record, and the queue of the rows: an outage of any length costs no memory and no row. Each row goes out
once, but for a process killed after a service took a batch and before the cursor was written: the `id` column tells duplicates.
"""

import contextlib
import datetime
import functools
import hashlib
import importlib.util
import itertools
import json
import math
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from helpers import config as configs
from helpers.training import remote_errors, sinks
from helpers.training.remote_errors import why
from helpers.workspace import Workspace, disk
from helpers.workspace.redact import clean

FIRST_COLUMNS = ("id", "time", "epoch", "hours", "saved", "loss")
BATCH = 500  # rows per append


def _safe(method: Callable) -> Callable:
    """Turn any error of a method into a line of errors.jsonl: nothing of the mirror may raise into `fit`."""

    @functools.wraps(method)
    def call(self, *args, **kwargs):
        try:
            return method(self, *args, **kwargs)
        except Exception as error:
            self._note(method.__name__.strip("_"), error)

    return call


class RemoteLog(contextlib.AbstractContextManager):
    """Rows and files of a run, kept locally and mirrored by one daemon thread; no method raises or waits for a service.

    A sink that fails is tried again: `max_tries` times in a round, `base_delay` to `max_delay` seconds apart (a
    Retry-After is honoured up to `max_delay`); after `breaker_failures` rounds in a row it rests for `breaker_pause`
    seconds, then one probe decides. 401 signs in again, once a round. Another 4xx drops an upload, and for rows ends
    the round. Every failure is a line in `errors.jsonl`, without secrets.

    Args:
        folder: receives `rows.jsonl` (every row), `sent.json` (the cursor) and `errors.jsonl`.
        rows: has `append_rows(rows)` and `reauthorise()`, as `sinks.SheetsRows`; None keeps rows locally only.
        files: has `upload(path)`, and `reauthorise()` if it signs in, as `sinks.DriveFiles`; None ignores uploads.
        events: has `row(values)`, as `sinks.EventFiles`, and is told at once; None without.
        pace: the five numbers named above.
    """

    queue_size = 256  # most uploads that wait; beyond it the oldest goes

    def __init__(
        self, folder: str | os.PathLike, *, rows: Any = None, files: Any = None, events: Any = None, **pace: float
    ) -> None:
        self._folder, self._events = Path(folder), events
        self._sinks = {name: sink for name, sink in (("rows", rows), ("files", files)) if sink is not None}
        self._paces = {name: remote_errors.Pace(**pace) for name in self._sinks}
        self._lock, self._news = threading.RLock(), threading.Event()
        self._uploads: dict[Path, object] = {}  # oldest first; the object tells a file queued again while it is sent
        self._lines = self._cursor = 0  # lines in rows.jsonl, and how many of them are done
        self._columns: list[str] | None = None  # None until the header row is sent
        self._counts = dict.fromkeys(("sent", "uploaded", "dropped", "failures"), 0)
        self._last_error: str | None = None
        self._deadline: float | None = None
        self._stop = False
        self._thread: threading.Thread | None = None
        self._restore()
        self._start()

    @_safe
    def row(self, values: Mapping[str, Any]) -> None:
        """Write one row, made by `loop`, to `rows.jsonl` and have it sent; `time` (UTC, ISO 8601) and a unique `id` are added.

        The first row of a folder fixes the columns; values under other names share one cell after the last column.
        """
        plain = {str(key): _plain(value) for key, value in values.items()}
        row = {"time": _now(), **plain, "id": uuid.uuid4().hex[:12]}
        with self._lock:
            self._append(row)
        self._news.set()
        if self._events:
            self._events.row(plain)

    @_safe
    def upload(self, path: str | os.PathLike) -> None:
        """Have a file sent; one that waits already is sent once, as it is then."""
        if "files" in self._sinks:
            with self._lock:
                self._enqueue(Path(path).absolute())
            self._news.set()

    def status(self) -> dict[str, Any]:
        """A snapshot: rows `sent` and files `uploaded` by this object, `queued`, `dropped` uploads, `failures` of services
        and of the disk, `breaker` ("closed" or "open" for each sink) and `last_error` (text or None).
        """
        with self._lock:
            breaker = {name: "open" if pace.open else "closed" for name, pace in self._paces.items()}
            queued = sum(map(self._waiting, self._sinks))
            return {**self._counts, "queued": queued, "breaker": breaker, "last_error": self._last_error}

    @_safe
    def close(self, timeout: float = 30.0) -> None:
        """Try once more to send what waits, for at most `timeout` seconds, and print one line if something is left."""
        if self._stop:
            return
        with self._lock:
            self._deadline = time.monotonic() + timeout
            for pace in self._paces.values():
                pace.due = 0.0
        self._news.set()
        if self._thread:
            self._thread.join(timeout)
        self._stop = True  # a request in work may still end; nothing new begins
        self._news.set()
        left = [f"{self._waiting(name)} {name}" for name in self._sinks if self._waiting(name)]
        if left:
            reason = self._last_error or "no time left"
            print(f"remote log: {' and '.join(left)} not sent yet, the next run will send them ({reason})")

    def __exit__(self, *_) -> None:
        self.close()

    # What follows touches the local files.

    @_safe
    def _restore(self) -> None:
        """Take up the cursor of an earlier run. A cursor beyond the file belongs to rows that were deleted."""
        self._folder.mkdir(parents=True, exist_ok=True)
        rows, cursor = self._folder / "rows.jsonl", self._folder / "sent.json"
        if rows.exists():
            self._lines = rows.read_bytes().count(b"\n")
        if cursor.exists():
            state = json.loads(cursor.read_text(encoding="utf-8"))
            self._cursor = state["sent"] if state["sent"] <= self._lines else 0
            self._columns = state["columns"]
            if "files" in self._sinks:
                for name in state["uploads"]:
                    self._enqueue(Path(os.path.normpath(self._folder.absolute() / name)))

    def _append(self, row: dict) -> None:
        line = json.dumps(row).encode() + b"\n"
        with (self._folder / "rows.jsonl").open("a+b") as file:
            if size := file.seek(0, os.SEEK_END):
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a killed process or a full disk left half a line
                    line = b"\n" + line
            file.write(line)
            file.flush()
            self._lines += line.count(b"\n")
            os.fsync(file.fileno())

    def _enqueue(self, path: Path) -> None:
        self._uploads.pop(path, None)
        self._uploads[path] = object()
        while len(self._uploads) > self.queue_size:
            self._drop(next(iter(self._uploads)), f"dropped, {self.queue_size} newer files wait")

    def _drop(self, path: Path, error: BaseException | str) -> None:
        with self._lock:
            self._uploads.pop(path, None)
            self._counts["dropped"] += 1
            self._note(path.name, error)

    def _waiting(self, name: str) -> int:
        return len(self._uploads) if name == "files" else self._lines - self._cursor

    def _note(self, item: str, error: BaseException | str) -> None:
        """Count a failure and write it to errors.jsonl; if even that fails, the count and `last_error` remain."""
        text = clean(error)
        with self._lock, contextlib.suppress(Exception):
            self._counts["failures"] += 1
            self._last_error = text
            with (self._folder / "errors.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": _now(), "item": item, "error": text}) + "\n")

    @_safe
    def _save_cursor(self) -> None:
        with self._lock:
            here = self._folder.absolute()
            uploads = [os.path.relpath(path, here) for path in self._uploads]  # the folder may be renamed
            state = {"sent": self._cursor, "columns": self._columns, "uploads": uploads}
        disk.write_json(self._folder / "sent.json", state)

    # What follows runs in the worker thread.

    @_safe
    def _start(self) -> None:
        if self._sinks:
            thread = threading.Thread(target=self._work, name="remote-log", daemon=True)
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        while not self._stop:
            self._news.clear()
            try:
                wait = self._turn()
            except BaseException as error:  # the thread must outlive any surprise
                self._note("worker", error)
                wait = 1.0
            if self._deadline is not None and (wait is None or time.monotonic() + wait > self._deadline):
                return
            self._news.wait(wait)

    def _turn(self) -> float | None:
        """Try each sink that is due once; the seconds until the next one is due, None when all is done."""
        waits = []
        for name, pace in self._paces.items():
            if not self._stop and self._waiting(name) and pace.due <= time.monotonic():
                self._try(name, pace)
            if self._waiting(name):
                waits.append(max(0.0, pace.due - time.monotonic()))
        return min(waits, default=None)

    def _try(self, name: str, pace: remote_errors.Pace) -> None:
        with self._lock:
            path = next(iter(self._uploads)) if name == "files" else None
        try:
            if path is None:
                self._send_rows(self._sinks[name])
            elif path.is_file():
                self._send_file(self._sinks[name], path)
            else:
                self._drop(path, "dropped, the file is gone")
                return
            pace.answered()
        except BaseException as error:  # a library that calls sys.exit must not end the thread either
            self._plan(name, pace, path, error)
        finally:
            self._save_cursor()

    def _plan(self, name: str, pace: remote_errors.Pace, path: Path | None, error: BaseException) -> None:
        kind, wait = remote_errors.judge(error)
        if kind == "permanent" and path:
            self._drop(path, error)
            return
        self._note(path.name if path else name, error)
        if kind == "auth" and not pace.reauthorised:
            pace.reauthorised = True
            try:
                self._sinks[name].reauthorise()
                return  # and the next turn tries again at once
            except BaseException as second:
                self._note(f"{name}: sign in again", second)
        pace.failed(time.monotonic(), wait=wait, again=kind == "retry")
        with self._lock:
            if pace.tries == 0 and path in self._uploads:  # the round is over: another file has the next one
                self._uploads[path] = self._uploads.pop(path)

    def _send_rows(self, sink: Any) -> None:
        lines, rows = self._backlog()
        columns = self._columns
        if rows:
            columns = columns or [*dict.fromkeys(name for name in (*FIRST_COLUMNS, *rows[0]) if name in rows[0])]
            sink.append_rows(([] if self._columns else [columns]) + [_cells(row, columns) for row in rows])
        with self._lock:
            self._cursor += lines
            self._columns = columns
            self._counts["sent"] += len(rows)

    def _backlog(self) -> tuple[int, list[dict]]:
        """How many lines beyond the cursor were read, and their rows; half a line of a killed process is skipped."""
        end = self._lines
        with (self._folder / "rows.jsonl").open("rb") as file:
            lines = list(itertools.islice(file, self._cursor, min(end, self._cursor + BATCH)))
        rows = []
        for line in lines:
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                rows += [row] if isinstance(row, dict) and "id" in row else []
        return len(lines) or end - self._cursor, rows  # no lines: somebody emptied the file while we ran

    def _send_file(self, sink: Any, path: Path) -> None:
        queued = self._uploads.get(path)
        self._save_cursor()  # killed in a long upload, the next run knows of it
        sink.upload(path)
        with self._lock:
            self._counts["uploaded"] += 1
            if self._uploads.get(path) is queued:
                self._uploads.pop(path, None)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _plain(value: Any) -> Any:
    """A value that JSON and a sheet's cell can hold: NumPy and tensor scalars as numbers, NaN and infinity as text."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    try:
        number = value.item() if hasattr(value, "item") else float(value)
        return number if isinstance(number, (bool, int)) or math.isfinite(number) else str(number)
    except Exception:
        return clean(value)


def _cells(row: dict, columns: list[str]) -> list:
    """Values in the order of the columns. A cell holds 50 000 characters; one that is too long would block all rows."""
    more = [f"{name}={value}" for name, value in row.items() if name not in columns]
    cells = ["" if row.get(name) is None else row[name] for name in columns] + ([", ".join(more)] if more else [])
    return [cell[:5000] if isinstance(cell, str) else cell for cell in cells]


def from_config(
    folder: str | os.PathLike, *, sheet: str | None = None, drive_folder: str | None = None, run: str = ""
) -> RemoteLog | None:
    """The mirror that a config asks for, None when nobody asks for one.

    What is wrong (a package, the credentials, a sheet that is not shared) is tried here and costs one printed line, never the run:
    local files are kept all the same. Call it in the main thread: Colab may have to ask the user.

    Args:
        sheet, drive_folder: address or key of a Google Sheet; address or id of a Drive folder, or the path of a mounted
            one (with a `/`, or one that exists).
        run: folder of this run's events in the one that COURSE_TENSORBOARD names, if it does.
    """
    board = os.environ.get("COURSE_TENSORBOARD")
    if not (sheet or drive_folder or board):
        return None
    events = None
    if board and _installed("tensorboard", "tensorboard"):
        events = sinks.EventFiles(disk.local_path(board, "COURSE_TENSORBOARD") / run)
    rows = sinks.SheetsRows(sheet) if sheet and _installed("gspread", "gspread") else None
    files = None
    if drive_folder:
        address = drive_folder.startswith("http")
        if not address and ("/" in drive_folder or Path(drive_folder).is_dir()):
            files = sinks.FolderFiles(Path(drive_folder).expanduser())
        elif _installed("googleapiclient", "google-api-python-client"):
            files = sinks.DriveFiles(re.split(r"[?#]", drive_folder)[0].rstrip("/").rsplit("/", 1)[-1])
    _try_out(rows, files if isinstance(files, sinks.DriveFiles) else None)
    return RemoteLog(folder, rows=rows, files=files, events=events)


def _try_out(rows: Any, files: Any) -> None:
    """Sign in and touch the sheet and the folder; one line for each that does not work."""
    wanted = [(sink, what) for sink, what in ((rows, "the sheet"), (files, "the Drive folder")) if sink]
    try:
        account = getattr(sinks.credentials(), "service_account_email", "") if wanted else ""
    except Exception as error:
        print(f"remote log: {why(error, 'the login')}; training goes on and keeps local files")
        return
    for sink, what in wanted:
        try:
            sink.try_out()
        except Exception as error:
            later = "training goes on, and what is missing is sent once it can be"
            print(f"remote log: {why(error, what, account)}; {later}")


@contextlib.contextmanager
def mirror(config: configs.BaseConfig, place: Workspace) -> Iterator[RemoteLog | None]:
    """The mirror that a config asks for, or None, closed at the end; it lies where the run's kept files go, if that is a disk."""
    if disk.discards:  # another process's rows are the ones that count
        yield None
        return
    folder = (place.kept if isinstance(place.kept, Path) else place.root) / "mirror"
    whole = configs.whole(config)
    run = f"{type(whole).__module__.split('.')[-2:][0]}-{hashlib.sha256(repr(whole).encode()).hexdigest()[:8]}"
    made = from_config(folder, sheet=config.sheet, drive_folder=config.drive_folder, run=run)
    with made or contextlib.nullcontext() as log:
        yield log


def _installed(module: str, packages: str) -> bool:
    if importlib.util.find_spec(module) is not None:
        return True
    print(f"remote log: {module} is missing, this run keeps local files only; to mirror it: pip install {packages}")
    return False
