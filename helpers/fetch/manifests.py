"""From a data manifest (`data_manifests/*.yaml`) to local files, whose size and sha256 are checked before they get their names."""

import dataclasses
import hashlib
import importlib
import os
import re
import shutil
import urllib.parse
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import Any

import requests

from helpers import config, runtime
from helpers.fetch import downloads
from helpers.fetch.downloads import Patience, SourceFailed
from helpers.workspace import disk

LARGE = 100_000_000  # bytes; a download above it is announced


class DownloadError(RuntimeError):
    """No source gave the right file; the message lists each source with its reason, and what to fetch by hand."""


def check_name(name: str) -> PurePosixPath:
    """The name of a file or of an archive's member as a relative path.

    ValueError: it is absolute, climbs with `..`, or holds a drive letter, backslash or control character.
    """
    path = PurePosixPath(name)
    strange = "\\" in name or re.match(r"[A-Za-z]:", name) or any(ord(letter) < 32 for letter in name)
    if strange or path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"name: received {name!r}; allowed: relative, with forward slashes, inside the folder")
    return path


def _require(key: str, received: object, good: object, allowed: str) -> None:
    if not good:
        raise ValueError(f"{key}: received {received!r}; allowed: {allowed}")


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What the public says of an address: whether it works. For people who read the manifest; nothing is fetched by it.

    Attributes:
        date: of the evidence, not of its reading: "YYYY-MM-DD" or "YYYY-MM", in quotes.
        source: https address of the evidence.
        address: which address is meant, where the evidence does not stand below a source.
    """

    date: str
    source: str
    found: str
    address: str = ""

    def __post_init__(self) -> None:
        month = re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?", self.date)
        _require("date", self.date, month, "YYYY-MM-DD or YYYY-MM, in quotes")
        _require("source", self.source, self.source.startswith("https://"), "the https:// address of the evidence")
        _require("found", self.found, self.found.strip(), "a sentence")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a file can be had: exactly one of `url`, `gdrive` and `python`.

    Attributes:
        python: "package.module:function" that writes the file to the path it is given.
        tls: "pinned" switches the certificate check off for this url alone; the file's sha256 then vouches for it.
    """

    url: str | None = None
    gdrive: str | None = None
    python: str | None = None
    tls: str = config.option("verified", choices=("verified", "pinned"))
    checked: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        given = [name for name in ("url", "gdrive", "python") if getattr(self, name) is not None]
        _require("place", given, len(given) == 1, "exactly one of url, gdrive, python")
        value = getattr(self, given[0])
        good, allowed = {
            "url": (downloads.is_safe_url(value), "an https:// address (http:// only on this machine itself)"),
            "gdrive": (re.fullmatch(r"[\w-]{8,}", str(value)), "the id of a file, which its link shows"),
            "python": (re.fullmatch(r"[\w.]+:\w+", str(value)), "package.module:function"),
        }[given[0]]
        _require(given[0], value, good, allowed)
        _require("tls", self.tls, self.tls == "verified" or self.url, "pinned only together with url")

    def __str__(self) -> str:
        return self.url or (f"Google Drive {self.gdrive}" if self.gdrive else f"made by {self.python}")


@dataclasses.dataclass(frozen=True)
class File(downloads.Expected):
    """One file of a data set; `size` is null only where a checksum is given or python makes it, `sha256` where TLS is verified.

    Attributes:
        name: path relative to the destination folder, with forward slashes.
        sources: tried in order.
        kind: "file", or the archive it is: "zip", "rar", "tar".
        unpacked_size: most bytes that unpacking may write.
        instead_of: name of the file that this one replaces when that one cannot be had.
        by_hand: what a person should do when every source fails.
    """

    name: str
    sources: tuple[Source, ...]
    kind: str = config.option("file", choices=("file", "zip", "rar", "tar"))
    unpacked_size: int | None = config.option(None, low=1)
    instead_of: str | None = None
    by_hand: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        _require("sources", self.sources, self.sources, "a list, each one of url, gdrive, python")
        for key, digits in (("sha256", 64), ("md5", 32)):
            value = getattr(self, key)
            good = value is None or re.fullmatch(f"[0-9a-f]{{{digits}}}", value)
            _require(key, value, good, f"{digits} hexadecimal digits in lower case, in quotes, or null")
        pinned = any(source.tls == "pinned" for source in self.sources)
        _require("sha256", None, self.sha256 or not pinned, "64 hexadecimal digits, because a source has tls: pinned")
        made_here = all(source.python for source in self.sources)
        known = self.size or self.sha256 or self.md5 or made_here
        _require("size", None, known, "a number of bytes, as there is no sha256 either")


@dataclasses.dataclass(frozen=True)
class PackedList:
    """A list that comes with the repository; `format` says how to read it, sha256 is of its text with LF endings."""

    path: Path
    sha256: str
    format: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A data set: what it is, under which terms, its files, the packaged lists, and counts that a reader can assert.

    `checked` is evidence of addresses that stand below no file.
    """

    name: str
    title: str
    homepage: str
    licence: str
    citation: str
    terms: str
    files: tuple[File, ...]
    lists: tuple[PackedList, ...] = ()
    counts: dict = dataclasses.field(default_factory=dict)
    checked: tuple[Evidence, ...] = ()

    def __post_init__(self) -> None:
        names = [file.name for file in self.files]
        checks = [(names.count(name) > 1, f"files: name {name!r} comes twice") for name in sorted(set(names))]
        for index, file in enumerate(self.files):
            received = f"files[{index}].instead_of: received {file.instead_of!r}"
            wrong = file.instead_of not in {None, *names} - {file.name}
            checks.append((wrong, f"{received}; allowed: the name of another file"))
        config.problems_between(*checks)

    def file(self, name: str) -> File:
        """The file called `name`; KeyError naming those that there are."""
        for file in self.files:
            if file.name == name:
                return file
        raise KeyError(f"{self.name} has no file {name!r}; it has: {', '.join(file.name for file in self.files)}")


def load_manifest(name_or_path: str | os.PathLike) -> Manifest:
    """Read and check a manifest, by its name or the path of a YAML file, and the checksums of the lists packaged with it.

    ValueError: one error that names the file and every bad key, what was received and what is allowed.
    """
    path = _find(name_or_path)
    manifest = config.load(path, Manifest)
    lists = tuple(dataclasses.replace(entry, path=path.parent / entry.path) for entry in manifest.lists)
    problems = [f"lists[{i}].{text}" for i, entry in enumerate(lists) if (text := _problem(entry))]
    config.refuse(f"{path.name} has", problems)
    return dataclasses.replace(manifest, lists=lists)


def _problem(entry: PackedList) -> str:
    """What is wrong with a packaged list; "" if nothing."""
    if not entry.path.is_file():
        return f"path: received {entry.path.name!r}; allowed: a file beside the manifest"
    found = hashlib.sha256(entry.path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()
    if found == entry.sha256:
        return ""
    return f"sha256: {entry.path.name} has {found}, expected {entry.sha256}: restore it from git"


def _find(name_or_path: str | os.PathLike) -> Path:
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = runtime.repo_root() / "data_manifests"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if str(name_or_path) not in known:
        there = ", ".join(known)
        raise ValueError(f"no manifest called {str(name_or_path)!r}; there are: {there}, or give a .yaml file")
    return folder / f"{name_or_path}.yaml"


def _announce(file: File, source: Source, folder: Path, here: int = 0) -> None:
    """Before a large download: its size on one line, and an error now rather than after hours if it cannot fit."""
    missing = (file.size or 0) - here
    if missing <= LARGE:
        return
    print(f"{file.name}: {missing / 1e9:.2f} GB from {urllib.parse.urlsplit(source.url or '').hostname or source}")
    free = shutil.disk_usage(folder).free
    if free < missing:
        raise OSError(f"{folder} has {free / 1e9:.2f} GB free, {file.name} needs {missing / 1e9:.2f} GB: make room")


def _bring(source: Source, file: File, target: Path, patience: Patience) -> None:
    """Have a source give the file, which becomes `target` once it is verified; SourceFailed says why it does not."""
    if source.url:
        download = downloads.Download(source.url, target, file, pinned=source.tls == "pinned")
        _announce(file, source, target.parent, download.size())
        download.bring(patience)
        return
    if source.gdrive:
        _announce(file, source, target.parent)
    temporary = target.with_name(target.name + ".unverified")
    try:
        _make(source, temporary)
        file.check(temporary)
        disk.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _make(source: Source, path: Path) -> None:
    """Let gdown or a function of ours write the file; whatever it raises is the reason why the next source is tried."""
    try:
        if source.gdrive:
            import gdown

            gdown.download(id=source.gdrive, output=str(path), quiet=True, resume=True)
        else:
            module, name = source.python.split(":")
            getattr(importlib.import_module(module), name)(path)
    except Exception as error:
        raise SourceFailed(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def fetch(file: File, folder: str | os.PathLike, **options: float) -> Path:
    """Make sure that `file` lies in `folder`, verified; from there, or from its sources in order.

    Args:
        folder: where it belongs; an interrupted download waits there as `<name>.part`.
        **options: retries, timeout, backoff, max_wait of `Patience`.

    Raises:
        DownloadError: no source gave the right file; says why of each, and what to do by hand.
        OSError: the disk is full or read-only.
    """
    folder, patience, reasons = Path(folder), Patience(**options), []
    target = folder / file.name
    with disk.explain_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        for source in (None, *file.sources):  # None: what lies there already
            try:
                if source:
                    _bring(source, file, target, patience)
                else:
                    file.check(target)
                return target
            except SourceFailed as error:
                reasons.append(f"{source or target}: {error}")
    raise DownloadError(explain(file, folder, reasons))


def ask(url: str, method: str = "GET", **options: float) -> requests.Response:
    """The whole answer of a server, for what is small; DownloadError when `Patience` (of the options) ended or it refuses."""
    patience = Patience(**options)
    try:
        with downloads.Session(patience.timeout) as session:
            return patience.insist(lambda: session.request(method, url, allow_redirects=True))
    except SourceFailed as error:
        raise DownloadError(f"{url}: {error}") from error


def fetch_url(url: str, path: Path, **options: float) -> Path:
    """Fetch a large file of which only the address is known: the server tells its size first, which is checked in the end.

    DownloadError: it could not be had, or the server does not tell its size.
    """
    size = downloads.length(ask(url, "HEAD", **options))
    if not size:
        raise DownloadError(f"{url}: the server does not say how large it is: open it in a browser")
    return fetch(File(path.name, (Source(url=url),), size=size), path.parent, **options)


def explain(file: File, folder: Path, reasons: list[str]) -> str:
    """The text of a DownloadError: every source with its reason, then what to fetch by hand and where to put it."""
    urls = [f"open {source.url} in a browser" for source in file.sources if source.url]
    by_hand = " ".join(file.by_hand.split()) or (urls or ["ask the makers of the data"])[0]
    size = "unknown" if file.size is None else f"{file.size} bytes"
    md5 = f", MD5 {file.md5}" if file.md5 else ""
    lines = [f"{file.name} could not be had from any source:", *(f"  - {reason}" for reason in reasons)]
    lines += [f"By hand: {by_hand}", f"Put it at {file.name} in the folder {folder}, then run again."]
    return "\n".join([*lines, f"Size {size}, sha256 {file.sha256 or 'unknown'}{md5}."])


def fetch_all(manifest: Manifest, folder: Path, *, names: Collection[str], **options: Any) -> dict[str, Path]:
    """Fetch the files of a manifest; one with `instead_of` comes only when the file it replaces cannot be had.

    Returns the paths of the files that came by their names.

    Raises:
        DownloadError: neither a file nor its replacements could be had.
        KeyError: the manifest has no file of one of `names`.
    """
    found = {}
    for name in names:
        reasons = []
        for file in (manifest.file(name), *(other for other in manifest.files if other.instead_of == name)):
            try:
                found[file.name] = fetch(file, folder, **options)
                break
            except DownloadError as error:
                reasons.append(str(error))
        else:
            raise DownloadError("\n".join(reasons))
    return found
