"""A server on this machine that does everything a server should not do, for the tests of downloads."""

import contextlib
import hashlib
import http.server
import random
import re
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace

import requests

from helpers.fetch import manifests

BODY = random.Random(0).randbytes(2_000_000)
OTHER = random.Random(1).randbytes(2_000_000)
FAST = {"timeout": 0.5, "backoff": 0.001, "max_wait": 0.01}


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `state.body`; `state.plan` holds what to do with the next requests, then all goes well.

    As Zenodo does, it refuses whoever calls itself by the name of a library.
    """

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def unnamed(self):
        return (
            self.headers.get("User-Agent", "").lower().startswith(("python", "curl", "wget"))
            or "User-Agent" not in self.headers
        )

    def do_HEAD(self):
        self.head(403, 0, {}) if self.unnamed() else self.head(200, len(self.server.state.body), {})

    def do_GET(self):
        state = self.server.state
        if self.unnamed():
            return self.head(403, 0, {})
        action = state.plan.pop(0) if state.plan else ""
        asked = {"range": self.headers.get("Range"), "if_range": self.headers.get("If-Range")}
        self.request_notes = {"path": self.path, "sent": 0, **asked}
        state.requests.append(self.request_notes)
        with contextlib.suppress(ConnectionError):
            self.answer(state, action)
        self.close_connection = True

    def answer(self, state, action):
        if action.startswith("change"):
            state.body, state.etag = OTHER, '"two"'
        if action.startswith("status"):
            return self.head(int(action.split()[1]), 0, {"Retry-After": state.retry_after} if state.retry_after else {})
        if action == "redirect":
            return self.head(302, 0, {"Location": "http://example.com/data"})
        if action in ("html", "hidden html"):
            page = b"<!DOCTYPE html><html>please log in</html>"
            self.head(200, len(page), {"Content-Type": "text/html" if action == "html" else "application/zip"})
            return self.wfile.write(page)
        if action == "too long":
            self.head(200, None, {})
            return self.wfile.write(state.body + b"more")
        first, last = self.span(state, action)
        if action == "shifted":
            first -= 1000
        headers = {"ETag": state.etag} if state.etag else {}
        if first is None:
            first, last, status = 0, len(state.body) - 1, 200
        else:
            status = 206
            headers["Content-Range"] = f"bytes {first}-{last}/{len(state.body)}"
        self.head(status, last + 1 - first, headers)
        end = first + (last + 1 - first) // 2 if action in ("truncate", "stall") else last + 1
        self.send(state, first, first if action == "silent" else end)
        if action == "stall":
            state.released.wait(20)

    def span(self, state, action):
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        stale = self.headers.get("If-Range") not in (None, state.etag) and action != "change carelessly"
        if asked is None or stale or state.no_ranges or action == "whole":
            return None, None
        if not asked[1]:
            return max(0, len(state.body) - int(asked[2])), len(state.body) - 1
        return int(asked[1]), min(int(asked[2] or len(state.body)), len(state.body) - 1)

    def send(self, state, first, end):
        for start in range(first, end, 50_000):
            piece = state.body[start : min(start + 50_000, end)]
            self.wfile.write(piece)
            self.request_notes["sent"] += len(piece)
            time.sleep(state.pause)

    def head(self, status, length, headers):
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        for key, value in (headers | self.server.state.more).items():
            self.send_header(key, value)
        self.end_headers()


@contextlib.contextmanager
def running(httpd: http.server.ThreadingHTTPServer) -> Iterator[None]:
    """Answer within the body; what waits for `state.released` is let go at its end."""
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        httpd.state.released.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextlib.contextmanager
def serve(monkeypatch) -> Iterator[SimpleNamespace]:
    """`state` of a server on 127.0.0.1; `state.url` is its address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.state = SimpleNamespace(
        body=BODY, etag='"one"', plan=[], requests=[], pause=0, no_ranges=False, retry_after="",
        more={}, released=threading.Event(), url=f"http://127.0.0.1:{httpd.server_port}/data.bin",
    )  # fmt: skip
    with running(httpd):
        yield httpd.state


def end_in_silence(monkeypatch):
    """A connection that breaks just ends: urllib3 2 says so itself, its predecessors do not."""
    loud = requests.Response.iter_content

    def silent(self, size):
        with contextlib.suppress(requests.RequestException):
            yield from loud(self, size)

    monkeypatch.setattr(requests.Response, "iter_content", silent)


def sent(state):
    return sum(request["sent"] for request in state.requests)


def file_at(*urls, body=BODY, **changes):
    sources = tuple(manifests.Source(url=url) for url in urls)
    return manifests.File(**{"name": "data.bin", "sources": sources, "size": len(body), "sha256": sha(body), **changes})


def names(folder):
    return sorted(path.name for path in folder.iterdir())
