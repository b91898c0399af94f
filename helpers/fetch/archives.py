"""Unpack an archive that one does not trust: no member leaves the folder, and no more bytes land than were allowed.

`extract` unpacks a local archive; `fetch_members` takes single members out of a zip on a server.
"""

import contextlib
import dataclasses
import gzip
import hashlib
import json
import lzma
import os
import shutil
import stat
import struct
import subprocess
import tarfile
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

import rarfile
import remotezip

from helpers.fetch import downloads, manifests
from helpers.fetch.downloads import Patience, Session
from helpers.workspace import disk

if TYPE_CHECKING:
    import pandas as pd

Name = str | os.PathLike
Wanted = Callable[[str], bool] | Collection[str] | None

CHUNK = 1 << 20
BROKEN = (
    *(zipfile.BadZipFile, tarfile.TarError, rarfile.Error, zlib.error, lzma.LZMAError, gzip.BadGzipFile, struct.error),
    *(EOFError, NotImplementedError, ValueError, OverflowError, IndexError),
)
RAR_MAGIC = b"Rar!\x1a\x07"
# How each program writes all members to its output, one after the other, in order of trust in its rar (libarchive knows no
# solid archives, and a 7z of Debian knows no rar at all).
RAR_TOOLS = {
    "unrar": ("p", "-inul", "-p-", "--"),
    "unar": ("-q", "-o", "-", "-p", "", "--"),
    "7z": ("e", "-so", "-p", "--"),
    "7zz": ("e", "-so", "-p", "--"),
    "bsdtar": ("-x", "--to-stdout", "-f"),
}


class RangesNotSupported(manifests.DownloadError):
    """The server sends whole files only: get the archive with `manifests.fetch` and unpack it with `extract`."""


class ArchiveError(ValueError):
    """The archive is broken, hostile, or larger than it may be; nothing of it was left in the folder."""


def _require_plain(name: str, plain: bool) -> None:
    if not plain:
        raise ArchiveError(f"refused member {name!r}: it is a link or a device; allowed are plain files")


def _check_name(name: str) -> PurePosixPath:
    try:
        return manifests.check_name(name)
    except ValueError as error:
        raise ArchiveError(f"refused a member: {error}; fetch the archive again from its official host") from error


def _selector(wanted: Wanted) -> Callable[[str], bool]:
    if wanted is None:
        return lambda name: True
    return wanted if callable(wanted) else frozenset(wanted).__contains__


def _choose(names: list[str], wanted: Wanted) -> list[PurePosixPath | None]:
    """Names as safe relative paths, None for those that are not wanted, which are checked as well.

    ArchiveError also where two are one on a file system that ignores case, or where one asked for is missing.
    """
    seen: dict[str, str] = {}
    paths, chosen = [], _selector(wanted)
    for name in names:
        path = _check_name(name)
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in seen:
            raise ArchiveError(f"refused two members of one name: {seen[key]!r} and {name!r}; expected every name once")
        seen[key] = name
        paths.append(path if chosen(name) else None)
    missing = [] if wanted is None or callable(wanted) else sorted({*wanted} - {*names})
    if missing:
        much = f"{len(missing)} of the members asked for, such as {missing[0]!r}"
        raise ArchiveError(f"the archive lacks {much}: check their spelling")
    return paths


def extract(archive: Name, folder: Name, *, members: Wanted = None, max_bytes: int) -> list[Path]:
    """Unpack a zip, tar (also compressed) or rar archive into a new folder, all or nothing; returns the files in its order.

    The work happens in `<folder>.unpacking`, which is renamed at the end; what a killed run left there is removed by
    the next one. Rar needs one of the programs of `RAR_TOOLS`, whose output is read here: it writes no file itself.

    Args:
        archive: its kind is told from its content.
        folder: must not exist, or be empty.
        members: names, or a test of a name; default all.
        max_bytes: how many may be written (`unpacked_size` of a manifest); they are counted, no header is believed.

    Raises:
        ArchiveError: a member would leave the folder or is a link or device, a name comes twice, a member asked for is
            missing, too many bytes, or a broken archive.
        FileExistsError: `folder` holds something.
        RuntimeError: a rar, and no program to read it.
    """
    archive, folder = Path(archive), Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder: remove it or unpack into a new one")
    with disk.explain_disk_errors(folder), _scratch(folder.with_name(folder.name + ".unpacking")) as scratch:
        try:
            paths = _unpacker(archive)(archive, scratch, members, _Budget(archive, max_bytes))
        except ArchiveError as error:
            raise (error if archive.name in str(error) else ArchiveError(f"{archive.name}: {error}")) from error
        except BROKEN as error:
            raise ArchiveError(f"{archive.name} is broken ({error}): remove it and fetch it again") from error
        except MemoryError as error:  # of xz's header, which says how much its reader shall hold
            raise ArchiveError(
                f"{archive.name} asks for more memory than there is, as broken ones do: remove it and fetch it again"
            ) from error
        except (NotADirectoryError, FileExistsError, IsADirectoryError) as error:
            raise ArchiveError(f"{archive.name}: two members claim {Path(error.filename).name!r}") from error
        if folder.exists():
            folder.rmdir()
        disk.replace(scratch, folder)
    return [folder / path for path in paths]


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)  # after the rename there is nothing left to remove


def _unpacker(archive: Path) -> Callable[[Path, Path, Wanted, "_Budget"], list[PurePosixPath]]:
    with archive.open("rb") as file:
        if file.read(len(RAR_MAGIC)) == RAR_MAGIC:
            return _extract_rar
    if tarfile.is_tarfile(archive):  # before zip: a tar whose last member is a zip looks like a zip as well
        return _extract_tar
    if zipfile.is_zipfile(archive):
        return _extract_zip
    raise ArchiveError(f"{archive.name} is no zip, tar or rar archive: remove it and fetch it again")


class _Budget:
    """Counts the bytes that really arrive."""

    def __init__(self, archive: Path, max_bytes: int) -> None:
        self.archive, self.max_bytes, self.spent = archive, max_bytes, 0

    def spend(self, count: int) -> None:
        self.spent += count
        if self.spent > self.max_bytes:
            raise ArchiveError(
                f"{self.archive.name} unpacks to more than the {self.max_bytes} bytes allowed, so it was stopped; "
                "if the archive is right, raise unpacked_size in its manifest"
            )

    def copy(self, source: IO[bytes], path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as out:
            while chunk := source.read(CHUNK):
                self.spend(len(chunk))
                out.write(chunk)


def _check_zip(archive: zipfile.ZipFile, wanted: Wanted) -> list[tuple[zipfile.ZipInfo, PurePosixPath]]:
    """The wanted files with their safe paths. All are checked: an archive that tries a trick is not to be trusted."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    for info in files:
        _require_plain(info.filename, stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG))
        if info.flag_bits & 1:
            raise ArchiveError(f"refused member {info.filename!r}: it is encrypted; fetch a copy without a password")
        if not 0 <= info.header_offset < 1 << 62:
            raise ArchiveError(f"refused member {info.filename!r}: it lies outside the archive; fetch it again")
    paths = _choose([info.filename for info in files], wanted)
    return [(info, path) for info, path in zip(files, paths, strict=True) if path]


def _extract_zip(archive: Path, scratch: Path, members: Wanted, budget: _Budget) -> list[PurePosixPath]:
    with zipfile.ZipFile(archive) as opened:
        chosen = _check_zip(opened, members)
        for info, path in chosen:
            with opened.open(info) as source:
                budget.copy(source, scratch / path)
    return [path for _, path in chosen]


def _extract_tar(archive: Path, scratch: Path, members: Wanted, budget: _Budget) -> list[PurePosixPath]:
    # One pass in stream order, so that a compressed tar is unpacked once. `filter="data"` would keep harmless links and
    # strip leading slashes; data sets need neither, so both are refused, and the bytes are counted on the way.
    chosen, names = _selector(members), []
    with tarfile.open(archive) as opened:
        for member in opened:
            if member.isdir():
                continue
            _require_plain(member.name, member.isreg())
            names.append(member.name)
            path = _check_name(member.name)
            if chosen(member.name):
                budget.copy(opened.extractfile(member), scratch / path)
    return [path for path in _choose(names, members) if path]


def _extract_rar(archive: Path, scratch: Path, members: Wanted, budget: _Budget) -> list[PurePosixPath]:
    opened = rarfile.RarFile(archive, errors="strict")
    if opened.needs_password():
        raise ArchiveError(f"{archive.name} is encrypted: fetch a copy without a password")
    files = [info for info in opened.infolist() if not info.is_dir()]
    for info in files:
        _require_plain(info.filename, info.is_file() and not info.file_redir)
    paths = _choose([info.filename for info in files], members)
    reasons = []
    for tool, options in RAR_TOOLS.items():  # the first that can read this archive
        if not (program := shutil.which(tool)):
            continue
        command = [program, *options, str(archive.resolve())]
        reason = _pour(command, [*zip(files, paths, strict=True)], scratch, budget)
        if not reason:
            return [path for path in paths if path]
        reasons.append(f"{tool}: {reason}")
        budget.spent = 0
        shutil.rmtree(scratch)
        scratch.mkdir()
    if reasons:
        advice = "install unrar, or fetch it again"
        raise ArchiveError(f"{archive.name} cannot be unpacked ({'; '.join(reasons)}): {advice}")
    raise RuntimeError(
        f"a rar archive needs one of the programs {', '.join(RAR_TOOLS)}, and none was found: install one "
        "(Debian: apt-get install unar; Ubuntu and Colab: apt-get install unrar; macOS: brew install unar)"
    )


class _Piece:
    """The next `left` bytes of a stream, and their CRC-32."""

    def __init__(self, stream: IO[bytes], left: int) -> None:
        self.stream, self.left, self.crc = stream, left, 0

    def read(self, count: int) -> bytes:
        chunk = self.stream.read(min(count, self.left))
        self.left, self.crc = self.left - len(chunk), zlib.crc32(chunk, self.crc)
        return chunk


def _pour(command: list[str], files: list[tuple[Any, PurePosixPath | None]], scratch: Path, budget: _Budget) -> str:
    """Cut the output of `command` into files; a member without a path is read and dropped. What is wrong with it, or ""."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env={**os.environ, "LC_ALL": "C.UTF-8"}, **pipes) as process:
        try:
            for info, path in files:
                piece = _Piece(process.stdout, info.file_size)
                if path:
                    budget.copy(piece, scratch / path)
                while piece.read(CHUNK):
                    pass
                if piece.left or info.CRC not in (None, piece.crc):
                    return f"does not give {info.filename} as it was packed"
            if process.stdout.read(1) or process.wait():
                return f"gives too much, or fails at the end (exit code {process.poll()})"
        finally:
            process.kill()
    return ""


def directory_digest(archive: zipfile.ZipFile) -> str:
    """The sha256 of a zip's directory: a line with name, size, CRC-32, packed size and offset of each member, in order.

    The same for the file on a server and a local copy of it.
    """
    lines = (
        f"{info.filename}\t{info.file_size}\t{info.CRC}\t{info.compress_size}\t{info.header_offset}\n"
        for info in archive.infolist()
    )
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def fetch_members(
    file: manifests.File, folder: Name, *, wanted: Wanted, jobs: int = 4, **options: float
) -> "pd.DataFrame":
    """Take single members out of a zip on a server, without the rest of it.

    Members already there with the right size and CRC-32 are kept, so a killed fetch continues. The sha256 of the whole
    zip cannot be checked this way. Instead: certificates are always verified, the total size must be the manifest's,
    each member has the CRC-32 of the zip's directory, and the directory is trusted on first use: its digest is kept in
    `<name>.directory.json` in `folder`, and later calls must find the same.

    Args:
        file: a zip of a manifest; its https sources are tried in order.
        folder: members go to `folder / name`.
        **options: retries, timeout, backoff, max_wait of `downloads.Patience`.

    Returns:
        DataFrame in the order of the zip: `member`, `path`, `bytes`, `error` (empty text where all went well). A member
        that failed does not stop the others.

    Raises:
        RangesNotSupported: no source can send parts.
        manifests.DownloadError: no source works, or the directory is not the expected one.
        ArchiveError: a hostile name, a link, a member asked for that is missing, more bytes than `unpacked_size`.
    """
    import pandas as pd

    folder = Path(folder)
    patience = Patience(**options)
    with disk.explain_disk_errors(folder / file.name), Session(patience.timeout) as session:
        folder.mkdir(parents=True, exist_ok=True)
        remote = _first_remote(file, folder, session, patience)
        chosen = _check_zip(remote.zip(), wanted)
        total = sum(info.file_size for info, _ in chosen)
        if file.unpacked_size is not None and total > file.unpacked_size:
            raise ArchiveError(f"{file.name}: the members hold {total} bytes, allowed are {file.unpacked_size}")
        rows = downloads.in_threads(partial(_fetch_member, remote, folder), chosen, jobs=jobs, label=file.name)
    return pd.DataFrame(rows, columns=["member", "path", "bytes", "error"])


@dataclasses.dataclass
class _Remote:
    """A zip on a server. A RemoteZip has one position, so each thread opens its own; one that failed is dropped."""

    url: str
    file: manifests.File
    session: Session
    patience: Patience
    digest: str | None
    _local: threading.local = dataclasses.field(default_factory=threading.local)

    def zip(self) -> zipfile.ZipFile:
        """This thread's view; SourceFailed where the zip is not the one that was opened first."""
        if getattr(self._local, "zip", None) is None:
            with _remote_errors():
                opened = remotezip.RemoteZip(self.url, session=self.session)
            self.file.check_size(opened.size())
            digest = directory_digest(opened)
            if self.digest not in (None, digest):
                raise downloads.SourceFailed(f"found a directory of sha256 {digest}, expected {self.digest}")
            self.digest, self._local.zip = digest, opened
        return self._local.zip

    def copy(self, info: zipfile.ZipInfo, path: Path) -> None:
        """Write one member to `path`; zipfile checks its CRC-32."""
        try:
            with _remote_errors(), self.zip().open(info) as source, path.open("wb") as out:
                shutil.copyfileobj(source, out, CHUNK)
        except BaseException:
            self._local.zip = None
            raise


@contextlib.contextmanager
def _remote_errors() -> Iterator[None]:
    try:
        with downloads.network_errors():
            yield
    except remotezip.RangeNotSupported:
        raise
    except (remotezip.RemoteIOError, EOFError, struct.error) as error:  # the last two: a body that ended early
        raise downloads.TryAgain(f"{type(error).__name__}: {error}") from error
    except (remotezip.RemoteZipError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise downloads.SourceFailed(f"not a sound zip: {error}") from error


def _first_remote(file: manifests.File, folder: Path, session: Session, patience: Patience) -> _Remote:
    """The first source that sends parts of the zip that is expected."""
    notes = folder / f"{file.name}.directory.json"
    expected = json.loads(notes.read_text(encoding="utf-8"))["directory_sha256"] if notes.exists() else None
    reasons, no_ranges = [], False
    for source in file.sources:
        if not source.url or source.tls == "pinned":
            reasons.append(f"{source}: parts of a file need an https address with a verified certificate")
            continue
        remote = _Remote(source.url, file, session, patience, expected)
        try:
            patience.insist(remote.zip)
        except downloads.SourceFailed as error:
            reasons.append(f"{source}: {error}")
        except remotezip.RangeNotSupported:
            no_ranges = True
            reasons.append(f"{source}: the server sends whole files only")
        else:
            disk.write_json(notes, {"url": source.url, "directory_sha256": remote.digest})
            return remote
    advice = f"The directory was recorded in {notes.name}; remove that only if you trust the new archive.\n"
    text = (advice if expected else "") + manifests.explain(file, folder, reasons)
    raise (RangesNotSupported if no_ranges else manifests.DownloadError)(text)


def _fetch_member(remote: _Remote, folder: Path, member: tuple[zipfile.ZipInfo, PurePosixPath]) -> tuple:
    """One row of the table of `fetch_members`."""
    info, name = member
    path = folder / name
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    error = ""
    complete = path.is_file() and path.stat().st_size == info.file_size and zlib.crc32(path.read_bytes()) == info.CRC
    if not complete:
        try:
            remote.patience.insist(partial(remote.copy, info, part))
            disk.replace(part, path)
        except (downloads.SourceFailed, remotezip.RangeNotSupported) as failure:
            error = str(failure)
        finally:
            part.unlink(missing_ok=True)
    return info.filename, str(path), 0 if error else info.file_size, error
