"""Workers fit for the course: the same Python, the caller's code, the same disk; asked before the first item and when they join."""

import contextlib
import functools
import hashlib
import io
import logging
import os
import platform
import secrets
import socket
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from helpers import runtime

TIMEOUT, PATIENCE = 10, 60  # seconds for the scheduler to answer, and for a first worker
SENT = ("helpers/**/*.py", "data_manifests/**/*.*", "pyproject.toml")  # what `runtime.repo_root` and its users look for
HERE = f"{platform.node()} {os.getpid()}"
Traces = tuple[tuple[str, int], ...]  # paths with their bytes, -1 for a folder
Stand = tuple[str, str, Traces]  # who sends, which course, what must be seen


def look(sender: str, digest: str, traces: Traces) -> str:
    """On a worker: what it lacks to work for `sender`, or ""; a worker that stood once is not asked again."""
    if (sender, digest, traces) in _STOOD:
        return ""
    if sender != HERE and digest not in __file__:
        return "has another version of the course: start it again"
    advice = "mount the same disk under the same name there, or choose a workspace and data on a disk that all machines share"
    for path, size in traces:
        if _size(path) != size:
            return f"does not see {path} as {sender.split()[0]} does: {advice}, then call again"
    _STOOD.add((sender, digest, traces))
    return ""


_STOOD: set[tuple] = set()


def _size(path: str | os.PathLike) -> int | None:
    """Bytes of a file that can be read, -1 for a folder, None for neither."""
    try:
        if Path(path).is_dir():
            return -1
        with Path(path).open("rb") as file:
            return os.fstat(file.fileno()).st_size
    except (OSError, ValueError):
        return None


@contextlib.contextmanager
def session(address: str, places: Iterable[Path], workspace: Path) -> Iterator[tuple[Any, Stand]]:
    """A client of a cluster whose workers are fit for work, and what workers that join later are asked."""
    with _connect(address) as client, _tokens(places, workspace) as traces:
        try:
            _compare_python(client)
            stand = (HERE, _give_course(client), traces)
            answers = client.run(look, *stand, on_error="return")
            for worker, answer in answers.items():
                if answer and not isinstance(answer, OSError):  # that: it died meanwhile
                    raise ConnectionError(f"worker {worker} {answer}")
            yield client, stand
        except (CancelledError, OSError) as error:
            gone = "the cluster is gone; what is done is kept, call again to go on"
            text = error if isinstance(error, ConnectionError) else gone
            raise ConnectionError(f"Dask at {address}: {text}") from error


def _connect(address: str) -> Any:
    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        missing = "Dask is not installed: pip install distributed"
        raise ValueError(f"COURSE_DASK: received {address!r}; {missing}") from error
    try:
        with socket.create_connection(get_address_host_port(address), TIMEOUT) as there:  # Dask's client waits for ever
            if "tls:" not in address and not there.recv(1):  # a scheduler greets, the dashboard beside it does not
                raise OSError("no greeting")
        logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # what it would tell, the errors here tell
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"COURSE_DASK: received {address!r}, where no Dask cluster answers; allowed: the address that `dask scheduler` "
            "prints, such as tcp://10.0.0.5:8786"
        ) from error
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
    except OSError as error:
        client.close()
        start = f"start one on each machine with: dask worker {address}"
        raise ConnectionError(f"COURSE_DASK: the cluster at {address} has no worker: {start}") from error
    return client


def _compare_python(client: Any) -> None:
    """Functions that are sent whole need the same Python everywhere, the scheduler included."""
    versions = client.get_versions()
    here = ".".join(platform.python_version_tuple()[:2])
    for name, part in {"the scheduler": versions["scheduler"], **versions["workers"]}.items():
        version = ".".join(part["packages"]["python"].split(".")[:2]) if part else here
        if version != here:
            raise ConnectionError(f"COURSE_DASK: {name} runs Python {version}, this is {here}: start it with {here}")


def places_of(value: Any) -> Iterator[Path]:
    """The paths that a call carries: every `Path`, and text that is the absolute path of something."""
    if isinstance(value, functools.partial):
        value = [*value.args, *value.keywords.values()]
    elif isinstance(value, Mapping):
        value = [*value.values()]
    if isinstance(value, list | tuple):
        for part in value:
            yield from places_of(part)
    elif isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute() and _size(value) is not None):
        yield Path(value)


@contextlib.contextmanager
def _tokens(places: Iterable[Path], workspace: Path) -> Iterator[Traces]:
    """What a worker must find: a file of chance in the folder that the step works in, else in the workspace; and the data."""
    places = list(dict.fromkeys(places))
    working = {path: next((p for p in (path, *path.parents) if p.suffix == ".partial"), None) for path in places}
    traces = [trace for path in places if not working[path] for trace in _trace(path)]
    tokens = [folder / f".shared-{secrets.token_hex(8)}" for folder in {*working.values()} - {None} or {workspace}]
    try:
        for token in tokens:
            token.parent.mkdir(parents=True, exist_ok=True)
            token.write_bytes(b"shared")
        yield (*((str(token), 6) for token in tokens), *traces)
    finally:
        for token in tokens:
            token.unlink(missing_ok=True)


def _trace(path: Path) -> Iterator[tuple[str, int]]:
    """A path that is there, and the first entry of a folder."""
    if (size := _size(path)) is not None:
        yield str(path), size
    if size == -1:
        first = next((entry for entry in path.iterdir() if not entry.name.startswith(".")), None)
        if first and (inside := _size(first)) is not None:
            yield str(first), inside


@functools.cache
def _course() -> tuple[str, bytes]:
    """A hash of the course as it stands here, and a zip of it."""
    root, digest, archive = runtime.repo_root(), hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as pack:
        for path in sorted(path for pattern in SENT for path in root.glob(pattern)):
            name, data = path.relative_to(root).as_posix(), path.read_bytes()
            digest.update(f"{name} {len(data)} ".encode() + data)
            pack.writestr(name, data)
    return f"course-{digest.hexdigest()[:12]}", archive.getvalue()


def _give_course(client: Any) -> str:
    """Let every worker have this course, whatever it has, and those that join later; returns its hash."""
    from distributed import WorkerPlugin

    (digest, archive), sender = _course(), HERE

    def has_course() -> bool:  # sent whole: a new worker knows no name of the course
        import os
        import platform
        import sys

        return digest in sys.path[0] or sender == f"{platform.node()} {os.getpid()}"

    class Course(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            import importlib
            import io
            import sys
            import zipfile
            from pathlib import Path

            if has_course():
                return
            target = Path(worker.local_directory).resolve() / digest
            with zipfile.ZipFile(io.BytesIO(archive)) as pack:
                pack.extractall(target)
            for name in [name for name in sys.modules if name.split(".")[0] == "helpers"]:
                del sys.modules[name]
            sys.path.insert(0, str(target))
            importlib.invalidate_caches()

    if not all(client.run(has_course, on_error="ignore").values()):
        client.register_plugin(Course(), name="learning-from-video")
    return digest
