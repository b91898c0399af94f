"""Rows out of CSV files of gigabytes, in one pass and constant memory: a path, a .gz, an address or an open file.

`collect` reads a table; `Stream` is any file behind an address, read once and never stored.
"""

import base64
import contextlib
import gzip
import hashlib
import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from helpers import runtime
from helpers.fetch import downloads, manifests
from helpers.fetch.downloads import SourceFailed, TryAgain

Csv = str | os.PathLike | BinaryIO

BLOCK = 1 << 20  # bytes in memory at a time
EXAMPLES = 20  # refused rows that are named


class Refused(ValueError):
    """A row that cannot be used; the message says why."""


def lines_with(text: re.Pattern[bytes], block: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the lines in which `text` is found; much faster than line by line."""
    end = 0
    for match in text.finditer(block):
        if match.start() >= end:
            start = block.rfind(b"\n", 0, match.start()) + 1
            end = block.find(b"\n", match.start()) + 1 or len(block)
            yield start, end


def lines_beginning_with(ids: set[bytes], block: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of the lines that begin with one of `ids` and a comma; no field holds a line break."""
    end = 0
    for line in io.BytesIO(block):
        start, end = end, end + len(line)
        if line.partition(b",")[0].strip(b'"') in ids:
            yield start, end


def collect(csv: Csv, columns: tuple, lines_of: Callable, parse: Callable, options: dict) -> tuple[list, dict]:
    """Some rows of a file in order, and what was seen on the way: `source, rows, refused, problems` as plain values.

    Args:
        csv: path (also of a .gz), address, or open binary file.
        columns: with which the header has to begin.
        lines_of: from a block of whole lines to the start and end of those of interest.
        parse: `(columns of the file, line) -> item`, or None to skip it; may raise `Refused`.
        options: of `downloads.Patience`, for an address.
    """
    items, number, refused, problems = [], 2, Counter(), []  # the header is line 1
    with _open(csv, options) as (name, stream):
        width = _check_header(name, stream.readline(1 << 16), columns)
        while block := stream.read(BLOCK):
            block += stream.readline()
            for start, end in lines_of(block):
                line = block[start:end].rstrip(b"\r\n")
                try:
                    items.append(parse(width, line))
                except Refused as error:
                    refused[str(error)] += 1
                    if len(problems) < EXAMPLES:
                        place = number + block.count(b"\n", 0, start)
                        text = line[:200].decode("utf-8", "replace")
                        problems.append({"line": place, "reason": str(error), "text": text})
            number += block.count(b"\n") + (not block.endswith(b"\n"))
    found = {"source": name, "rows": number - 2, "refused": dict(refused), "problems": problems}
    return [item for item in items if item is not None], found


def _check_header(name: str, line: bytes, columns: tuple[str, ...]) -> int:
    """How many columns the file has."""
    found = [name.strip('"') for name in line.decode("utf-8-sig", "replace").strip().split(",")]
    if tuple(found[: len(columns)]) != columns:
        raise ValueError(f"{name}: found the header {','.join(found)[:200]!r}; expected {','.join(columns)!r}")
    return len(found)


@contextlib.contextmanager
def _open(csv: Csv, options: dict) -> Iterator[tuple[str, BinaryIO]]:
    """Name and bytes of a path, an address or an open file; unpacked where it is a gzip."""
    with contextlib.ExitStack() as stack:
        if isinstance(csv, str) and csv.startswith(("https://", "http://")):
            name, stream = csv, stack.enter_context(io.BufferedReader(Stream(csv, **options), BLOCK))
        elif isinstance(csv, str | os.PathLike):
            name, stream = Path(csv).name, stack.enter_context(Path(csv).open("rb"))
        elif hasattr(csv, "readinto"):
            name, stream = str(getattr(csv, "name", "the open file")), io.BufferedReader(csv)
            stack.callback(stream.detach)  # else the caller's file is closed with it
        else:
            raise TypeError(f"csv: received {csv!r:.80}; allowed: a path, an https address, a file opened in mode 'rb'")
        try:
            packed = stream.peek(2)[:2] == b"\x1f\x8b"
            yield name, gzip.GzipFile(fileobj=stream) if packed else stream
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{name}: a damaged gzip file ({error}): fetch it again") from error


class Stream(io.RawIOBase):
    """The bytes behind a URL, read once from start to end, through `io.BufferedReader`; nothing is stored.

    When the connection breaks, the next one goes on at that byte (`Range`). At the end the length and, where Google's
    storage sends one (`x-goog-hash`), the MD5 of all bytes are compared. `options` are those of `downloads.Patience`.
    manifests.DownloadError, when reading: patience ended, or what came is not what the server promised.
    """

    _session = _bar = None

    def __init__(self, url: str, **options: float) -> None:
        super().__init__()
        self.url, self.position, self.total = url, 0, None
        self._patience = downloads.Patience(**options)
        self._session = downloads.Session(self._patience.timeout)
        self._chunks: Iterator[bytes] | None = None
        self._rest, self._ended = memoryview(b""), False
        self._md5, self._promised_md5, self._validator = hashlib.md5(usedforsecurity=False), None, None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        """Fill the start of `buffer`; how many bytes, 0 at the verified end."""
        if not self._rest and not self._ended:
            try:
                self._rest = memoryview(self._patience.insist(self._next, lambda: self.position))
            except SourceFailed as error:
                raise manifests.DownloadError(f"{self.url}: {error} (after {self.position} bytes)") from error
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        for part in (self._session, self._bar):
            if part is not None:
                part.close()
        super().close()

    def _next(self) -> bytes:
        """The next piece, once; b"" when all are there and right."""
        if self._chunks is None:
            self._chunks = self._connect()
        chunks, self._chunks = self._chunks, None  # stays None when the connection breaks
        with downloads.network_errors():
            chunk = next(chunks, b"")
        if not chunk and self.total not in (None, self.position):
            raise TryAgain(f"the connection ended after {self.position} of {self.total} bytes")
        self._md5.update(chunk)
        if not chunk and self._promised_md5 not in (None, self._md5.hexdigest()):
            raise SourceFailed(f"found MD5 {self._md5.hexdigest()}, the server promised {self._promised_md5}")
        self._chunks, self._ended = chunks, not chunk
        self.position += len(chunk)
        self._bar.update(len(chunk))
        return chunk

    def _connect(self) -> Iterator[bytes]:
        headers = {"Range": f"bytes={self.position}-", "If-Range": self._validator} if self.position else {}
        response = self._session.get(self.url, headers=headers, stream=True)
        if not self.position:
            self.total, self._validator = downloads.length(response), downloads.validator(response)
            promised = re.search(r"md5=([A-Za-z0-9+/]{22}==)", response.headers.get("x-goog-hash", ""))
            self._promised_md5 = base64.b64decode(promised[1]).hex() if promised else None
            if self._bar is None:
                self._bar = runtime.progress(total=self.total, label=self.url[-40:], unit="B", unit_scale=True)
        elif not downloads.continues(response, self.position, self.total, self._validator):
            raise SourceFailed("the file changed on the server while it was read")
        # 200: all of it, also from a server that knows no ranges
        return _drop(response.iter_content(downloads.CHUNK), self.position if response.status_code == 200 else 0)


def _drop(chunks: Iterator[bytes], count: int) -> Iterator[bytes]:
    """`chunks` without their first `count` bytes."""
    for chunk in chunks:
        if count < len(chunk):
            yield chunk[count:]
        count = max(0, count - len(chunk))
