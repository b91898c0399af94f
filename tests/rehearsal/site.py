"""A server on this machine in place of the public ones: at `/<host>/<path>` it answers what lies in `<root>/<host>/<path>`."""

import base64
import contextlib
import functools
import hashlib
import http.server
import re
import shutil
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

NAMELESS = ("python", "curl", "wget", "java", "go-http-client")
FREE = ("storage.googleapis.com",)  # where Keras fetches its weights under the name of Python's own library
CHUNK = 1 << 16


@functools.cache
def digest(path: Path, kind: str, size: int, time: int) -> str:
    """Hexadecimal checksum of a file; `size` and `time` tell whether it is still the same one."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, kind).hexdigest()


class Site:
    """What the stand-ins hold, and who asked for what.

    Attributes:
        root: folder of one folder per host.
        requests: (method, host, path, bytes sent) of every request, in order of their ends.
        port: of the server.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.port = root, 0
        self._noted: list[tuple[str, str, str, int]] = []
        self._under_way, self._change = 0, threading.Condition()

    def put(self, url: str, data: bytes | Path) -> None:
        """Answer at this https:// address with these bytes, or those of this file."""
        place = self.root / url.removeprefix("https://")
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            shutil.copyfile(data, place)
        else:
            place.write_bytes(data)

    def find(self, host: str, path: str) -> Path | None:
        """The file behind an address; None if there is none."""
        place = self.root / host / path.lstrip("/")
        return place if ".." not in place.parts and place.is_file() else None

    def digest(self, path: Path, kind: str) -> str:
        """Checksum of a file of the site, "sha256" or "md5"."""
        return digest(path, kind, path.stat().st_size, path.stat().st_mtime_ns)

    @contextlib.contextmanager
    def note(self) -> Iterator[list]:
        """Around a request: the body fills in (method, host, path, bytes sent), which is noted at its end."""
        request: list = []
        with self._change:
            self._under_way += 1
        try:
            yield request
        finally:
            with self._change:
                self._noted.append(tuple(request))
                self._under_way -= 1
                self._change.notify_all()

    @property
    def requests(self) -> list[tuple[str, str, str, int]]:
        """All requests, once those under way have ended: whoever asked may have the last byte before it is noted."""
        with self._change:
            self._change.wait_for(lambda: not self._under_way, timeout=5)
        return self._noted

    @property
    def hosts(self) -> list[str]:
        """The hosts that it stands in for."""
        return sorted(folder.name for folder in self.root.iterdir())

    @property
    def address(self) -> str:
        """What stands before `/<host>/<path>`."""
        return f"http://127.0.0.1:{self.port}"

    def sent(self) -> dict[str, int]:
        """Bytes that left the server, by `host/path`."""
        totals: dict[str, int] = {}
        for _, host, path, count in self.requests:
            totals[f"{host}{path}"] = totals.get(f"{host}{path}", 0) + count
        return totals


class Handler(http.server.BaseHTTPRequestHandler):
    """Parts of files, strong ETags (MD5, as S3 sends them), Google's `x-goog-hash`; no program without a name of its own."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        site: Site = self.server.site
        host, _, rest = urllib.parse.unquote(self.path).lstrip("/").partition("/")
        path = "/" + rest
        # with a query first, as some servers choose the file by it
        file = site.find(host, path) or site.find(host, path.partition("?")[0])
        with site.note() as request, contextlib.suppress(ConnectionError):
            request[:] = self.command, host, path, 0
            if host not in FREE and self.headers.get("User-Agent", "python").lower().startswith(NAMELESS):
                self._head(403, {"Content-Length": "0"})
            elif file is None:
                self._head(404, {"Content-Length": "0"})
            else:
                request[-1] = self._send(file, body=body)

    def _send(self, file: Path, *, body: bool) -> int:
        """The file or the part asked for; how many bytes of it were sent."""
        size, md5 = file.stat().st_size, self.server.site.digest(file, "md5")
        hashed = base64.b64encode(bytes.fromhex(md5)).decode()
        headers = {"ETag": f'"{md5}"', "Accept-Ranges": "bytes", "x-goog-hash": f"md5={hashed}"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range") in (None, headers["ETag"]):
            first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
            last = min(int(asked[2]), size - 1) if asked[1] and asked[2] else size - 1
            if first >= size:
                self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
                return 0
            headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        else:
            first, last = 0, size - 1
        left = last + 1 - first
        headers |= {"Content-Type": "application/octet-stream", "Content-Length": str(left)}
        self._head(206 if "Content-Range" in headers else 200, headers)
        if not body:
            return 0
        sent = 0
        with file.open("rb") as opened, contextlib.suppress(ConnectionError):
            opened.seek(first)
            while chunk := opened.read(min(CHUNK, left - sent)):
                self.wfile.write(chunk)
                sent += len(chunk)
        return sent

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@contextlib.contextmanager
def serve(root: Path) -> Iterator[Site]:
    """A site over the folder `root`, served on a free port of 127.0.0.1 while the body runs."""
    root.mkdir(parents=True, exist_ok=True)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.site = Site(root)
    httpd.site.port = httpd.server_port
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield httpd.site
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
