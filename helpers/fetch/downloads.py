"""From an address to a local file: insistent, over TLS only, continued after an interruption or a kill, and verified.

When a run's mirror (a sheet, Drive) is asked again is `helpers.training.remote_errors`.
"""

import contextlib
import dataclasses
import hashlib
import json
import random
import threading
import time
import urllib.parse
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import requests
import urllib3

from helpers import config, runtime
from helpers.workspace import disk

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 1 << 15  # bytes; what a connection that breaks may lose, so small
TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
REFUSED = "the host is there and refuses this file, program or network; a browser or another network may be let in"
HTML_PAGE = "sends a web page (HTML) in place of the file"


class SourceFailed(Exception):
    """This source cannot give the file; the next one is tried."""


class TryAgain(Exception):
    """What failed may pass."""

    def __init__(self, reason: object, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def is_safe_url(url: object) -> bool:
    """Whether it is an https address, or an http one of this machine itself."""
    parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
    return bool(parts.hostname) and (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK))


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long to insist.

    Attributes:
        retries: attempts in a row, after the first, that may bring no new byte.
        timeout: seconds without an answer or a byte.
        backoff: seconds before the first repetition; doubles each time, with jitter.
        max_wait: most seconds between two attempts, whatever a server's Retry-After asks for.
    """

    retries: int = 5
    timeout: float = 30.0
    backoff: float = 1.0
    max_wait: float = 60.0

    def insist(self, action: Callable[[], Result], bytes_so_far: Callable[[], int] = lambda: 0) -> Result:
        """Call `action` until it raises TryAgain no more; SourceFailed when patience ends."""
        most, failures = bytes_so_far(), 0
        while True:
            try:
                return action()
            except TryAgain as error:
                failures = 1 if bytes_so_far() > most else failures + 1
                most = max(most, bytes_so_far())
                if failures > self.retries:
                    raise SourceFailed(f"{error} (tried {failures} times)") from error
                pause = max(self.backoff * 2 ** (failures - 1) * random.uniform(0.5, 1.0), error.retry_after)
                time.sleep(min(pause, self.max_wait))


def in_threads(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int,
    label: str = "",
    unit: str = "file",
    stop: threading.Event | None = None,
) -> list[Result]:
    """`function` of each item, in their order; an error or Ctrl-C begins no other item, and those under way end.

    `stop` is set before these are waited for, so that they need not insist any longer.
    """
    executor = ThreadPoolExecutor(jobs)
    try:
        futures = [executor.submit(function, item) for item in items]
        for future in runtime.progress(as_completed(futures), total=len(futures), label=label, unit=unit):
            future.result()
        return [future.result() for future in futures]
    finally:
        executor.shutdown(wait=False, cancel_futures=True)  # before `stop`, with which those under way end
        if stop:
            stop.set()
        executor.shutdown()


@contextlib.contextmanager
def network_errors() -> Iterator[None]:
    """Turn what a connection can raise into TryAgain, and a refused certificate into SourceFailed; disk errors pass."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError, ConnectionError, TimeoutError) as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise SourceFailed(f"the certificate of the host is not valid: {error}") from error
        raise TryAgain(f"{type(error).__name__}: {error}") from error


def retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 where it is absent or unreadable."""
    try:
        return urllib3.Retry().parse_retry_after(value or "0")
    except (urllib3.exceptions.InvalidHeader, ValueError, TypeError, OverflowError):
        return 0.0


class Session(requests.Session):
    """Never leaves TLS, even when redirected; has a timeout; a bad status or a web page is TryAgain or SourceFailed."""

    def __init__(self, timeout: float) -> None:
        super().__init__()
        self.timeout = timeout
        self.headers["User-Agent"] = runtime.user_agent()  # Zenodo refuses that of `requests` with 403
        self.headers["Accept-Encoding"] = "identity"  # else Content-Length is not the size of the file

    def get_adapter(self, url: str) -> requests.adapters.BaseAdapter:
        if not is_safe_url(url):
            raise SourceFailed(f"redirects to {url}, which is not https")
        return super().get_adapter(url)

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", self.timeout)
        silent = contextlib.nullcontext()
        if kwargs.get("verify") is False:  # `pinned` asks for it; never in several threads, whose filters are one
            silent = warnings.catch_warnings(action="ignore", category=urllib3.exceptions.InsecureRequestWarning)
        with network_errors(), silent:
            response = super().request(*args, **kwargs)
        status = f"HTTP {response.status_code} {response.reason}"
        if response.status_code in TRANSIENT:
            raise TryAgain(status, retry_after(response.headers.get("Retry-After")))
        if response.status_code == 403:
            raise SourceFailed(f"{status}: {REFUSED}")
        if response.status_code not in (200, 206, 416):
            raise SourceFailed(status)
        if response.ok and response.headers.get("Content-Type", "").startswith("text/html"):
            raise SourceFailed(HTML_PAGE)
        return response


@dataclasses.dataclass(frozen=True, kw_only=True)
class Expected:
    """What a file must be; None where it is not known.

    Attributes:
        size: bytes.
        sha256: 64 hexadecimal digits in lower case.
        md5: 32 of them, for servers that tell no better sum.
    """

    size: int | None = config.option(None, low=1)
    sha256: str | None = None
    md5: str | None = None

    def check_size(self, found: int) -> None:
        """SourceFailed where the size is another."""
        if self.size not in (None, found):
            raise SourceFailed(f"found {found} bytes, expected {self.size}")

    def check(self, path: Path) -> None:
        """SourceFailed where there is no file, a web page in its place, or another file."""
        if not path.is_file():
            raise SourceFailed("no such file")
        with path.open("rb") as opened:
            if opened.read(64).lstrip().lower().startswith((b"<!doctype html", b"<html")):
                raise SourceFailed(HTML_PAGE)
        self.check_size(path.stat().st_size)
        for kind, expected in (("sha256", self.sha256), ("MD5", self.md5)):
            if expected is not None:
                with path.open("rb") as opened:
                    found = hashlib.file_digest(opened, kind.lower()).hexdigest()
                if found != expected:
                    raise SourceFailed(f"found {kind} {found}, expected {expected}")


class Download:
    """From `url` to `target`: `bring` can be called again after any interruption, also by another process.

    `<name>.part` holds the bytes so far, `<name>.part.json` of which version of which file they are.

    Args:
        target: gets its name once it is whole and verified; its folder exists.
        pinned: the certificate is not checked for this url, as the file's sha256 vouches for it; no redirects.
    """

    def __init__(self, url: str, target: Path, expected: Expected, *, pinned: bool = False) -> None:
        self.url, self.target, self.expected, self.pinned = url, target, expected, pinned
        self.path = target.with_name(target.name + ".part")
        self.notes_path = target.with_name(target.name + ".part.json")

    def bring(self, patience: Patience) -> None:
        """Download what is missing; SourceFailed when patience ended, or what came is not the file expected."""
        with Session(patience.timeout) as session:
            patience.insist(partial(self._attempt, session), self.size)
        disk.replace(self.path, self.target)
        self._discard()

    def size(self) -> int:
        """Bytes that are here."""
        return self.path.stat().st_size if self.path.exists() else 0

    def _attempt(self, session: Session) -> None:
        """Once: bring the part to its full, verified length."""
        notes = self._notes()
        offset = self.size() if notes else 0
        if not notes or offset != notes["total"]:
            headers = {"Range": f"bytes={offset}-", "If-Range": notes["validator"]} if notes else {}
            options = {"verify": False, "allow_redirects": False} if self.pinned else {}
            with session.get(self.url, headers=headers, stream=True, **options) as response:
                if response.status_code == 200:  # all of it: new, or changed, or a server that knows no ranges
                    offset, notes = 0, self._start(response)
                elif not notes:
                    raise SourceFailed(f"HTTP {response.status_code} to a request for the whole file")
                elif not continues(response, offset, notes["total"], notes["validator"]):
                    self._discard()
                    raise TryAgain("the file changed on the server between two requests")
                self._append(response, notes["total"])
        if notes["total"] is not None and self.size() < notes["total"]:
            raise TryAgain(f"the connection ended after {self.size()} of {notes['total']} bytes")
        try:
            self.expected.check(self.path)
        except SourceFailed as error:
            self._discard()
            if offset:  # perhaps the pieces were of two versions: once more, from the start
                raise TryAgain(error) from error
            raise

    def _notes(self) -> dict[str, Any] | None:
        """What is known of the bytes here, or None where they cannot be continued."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            notes = json.loads(self.notes_path.read_text(encoding="utf-8"))
            if notes["url"] == self.url and notes["validator"] and 0 < self.size() <= notes["total"]:
                return notes
        return None

    def _start(self, response: requests.Response) -> dict[str, Any]:
        """Empty the part, then note what it will be: notes must never speak of other bytes, wherever a kill falls."""
        if (total := length(response)) is not None:
            self.expected.check_size(total)
        total = self.expected.size if total is None else total
        notes = {"url": self.url, "validator": validator(response), "total": total}
        self._discard()
        self.path.touch()
        disk.write_json(self.notes_path, notes)
        return notes

    def _append(self, response: requests.Response, total: int | None) -> None:
        """Write the body after the bytes that are here."""
        bar = runtime.progress(total=total, initial=self.size(), label=self.target.name, unit="B", unit_scale=True)
        with network_errors(), bar, self.path.open("ab") as out:
            for chunk in response.iter_content(CHUNK):
                if total is not None and out.tell() + len(chunk) > total:
                    raise SourceFailed(f"sends more than the {total} bytes expected")
                out.write(chunk)
                bar.update(len(chunk))

    def _discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.notes_path.unlink(missing_ok=True)


def length(response: requests.Response) -> int | None:
    """Bytes that a server announces; None where it does not."""
    found = response.headers.get("Content-Length", "")
    return int(found) if found.isdigit() else None


def validator(response: requests.Response) -> str | None:
    """What If-Range may hold: a strong ETag, else the date."""
    tag = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def continues(response: requests.Response, offset: int, total: int | None, before: str | None) -> bool:
    """Whether an answer is of the file whose validator was `before`: all of it, or the rest from byte `offset`."""
    rest = f"bytes {offset}-{(total or 0) - 1}/{total}"
    part = response.status_code == 206 and response.headers.get("Content-Range") == rest
    whole = response.status_code == 200 and length(response) == total
    return (part or whole) and validator(response) in (None, before)
