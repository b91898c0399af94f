"""A bucket on this machine: the part of Google Cloud Storage's JSON API that gcsfs speaks, with faults on demand.

Written from the API's reference (objects: get, list, insert by multipart and resumable upload). An object appears when its
upload is complete, never before. Checksums are computed here, not by the library that the course uses.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import re
import threading
import urllib.parse
from collections.abc import Iterator
from types import SimpleNamespace

from download_server import running

WAIT = 30.0  # seconds until a request that hangs on purpose gives up


def _table() -> list[int]:
    rows = list(range(256))
    for _ in range(8):
        rows = [row >> 1 ^ (0x82F63B78 if row & 1 else 0) for row in rows]  # Castagnoli's polynomial, reflected
    return rows


TABLE = _table()


def crc32c(data: bytes) -> str:
    """Base64 of the big-endian checksum, as the service reports it."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ TABLE[(value ^ byte) & 255]
    return base64.b64encode((value ^ 0xFFFFFFFF).to_bytes(4, "big")).decode()


class Handler(http.server.BaseHTTPRequestHandler):
    """`state.objects` holds the bucket; `state.faults` lists (method, part of the address, what goes wrong) and is used up."""

    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16  # head and body in one packet

    def log_message(self, *_):
        pass

    def answer(self, status=200, body=None, content=None, **headers):
        content = json.dumps(body or {}).encode() if content is None else content
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": len(content), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status, text):
        self.answer(status, {"error": {"code": status, "message": text}})

    def any(self):
        state, address = self.server.state, urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(address.query))
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.fault(state, urllib.parse.unquote(self.path) + data[:300].decode(errors="replace"))
        state.requests.append(f"{self.command} {address.path}")
        if isinstance(fault, int):
            return self.refuse(fault, f"planned fault {fault}")
        if fault == "hang":
            state.hanging.set()
            state.released.wait(WAIT)
            self.close_connection = True
            return None
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", address.path)
        if found is None or found[2] != state.bucket:
            return self.refuse(404, "The specified bucket does not exist.")
        key = urllib.parse.unquote(found[3] or "")
        if self.command == "POST":
            return self.insert(state, query, data, corrupt=fault == "corrupt")
        return self.read(state, key, query, address.path, cut=fault == "cut")

    do_GET = do_POST = do_DELETE = any

    def fault(self, state, seen):
        for index, (method, part, fault) in enumerate(state.faults):
            if method == self.command and part in seen:
                if fault != "always 403":
                    del state.faults[index]
                return 403 if fault == "always 403" else fault
        return None

    def read(self, state, key, query, path, cut):
        if not key:
            return self.answer(body=self.listing(state, query) if path.endswith("/o") else {"name": state.bucket})
        if key not in state.objects:
            return self.refuse(404, f"No such object: {state.bucket}/{key}")
        if query.get("alt") != "media":
            return self.answer(body=self.about(state, key))
        data = state.objects[key]
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        part = data[int(asked[1]) : int(asked[2]) + 1] if asked else data
        if asked and not part:
            return self.refuse(416, "Range not satisfiable")
        if cut:
            self.close_connection = True
            self.send_response(200)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            return self.wfile.write(part[: len(part) // 2])
        return self.answer(206 if asked else 200, content=part)

    def listing(self, state, query):
        names = sorted(name for name in state.objects if name.startswith(query.get("prefix", "")))
        below = {re.match(re.escape(query.get("prefix", "")) + "[^/]*/", name) for name in names}
        prefixes = sorted({found[0] for found in below if found}) if query.get("delimiter") else []
        items = [name for name in names if not any(name.startswith(prefix) for prefix in prefixes)]
        return {"items": [self.about(state, name) for name in items], "prefixes": prefixes}

    def about(self, state, key):
        data = state.objects[key]
        return {
            "kind": "storage#object", "name": key, "bucket": state.bucket, "size": str(len(data)), "generation": "1",
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(), "crc32c": crc32c(data),
            "timeCreated": "2026-01-01T00:00:00Z", "updated": "2026-01-01T00:00:00Z",
        }  # fmt: skip

    def insert(self, state, query, data, *, corrupt):
        if query.get("uploadType") == "multipart":
            boundary = re.search(r'boundary="?([^";]+)', self.headers["Content-Type"])[1].encode()
            _, about, content, _ = data.split(b"--" + boundary)
            name = json.loads(about.split(b"\n\n", 1)[1])["name"]
            return self.store(state, name, content.split(b"\n\n", 1)[1][:-1], corrupt)
        if "upload_id" not in query:
            state.sessions.append([query["name"], b""])
            name = urllib.parse.quote(query["name"], safe="")  # so that a fault can be told which object it is for
            place = f"o?uploadType=resumable&upload_id={len(state.sessions) - 1}&of={name}!"
            return self.answer(Location=f"{state.url}/upload/storage/v1/b/{state.bucket}/{place}")
        session = state.sessions[int(query["upload_id"])]
        span, total = self.headers["Content-Range"].removeprefix("bytes ").split("/")
        assert span == "*" or int(span.split("-")[0]) == len(session[1]), "a chunk out of order"
        assert total != "*" or len(data) % 2**18 == 0, "chunks but the last are multiples of 256 KiB"
        session[1] += data
        if total == "*":
            return self.answer(308, Range=f"bytes=0-{len(session[1]) - 1}")
        return self.store(state, *session, corrupt)

    def store(self, state, name, data, corrupt):
        if corrupt and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        state.objects[name] = data
        return self.answer(body=self.about(state, name))


@contextlib.contextmanager
def serve(bucket: str = "bucket") -> Iterator[SimpleNamespace]:
    """`state` of a server on 127.0.0.1; `state.url` is its address, for STORAGE_EMULATOR_HOST."""
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.state = SimpleNamespace(
        bucket=bucket, objects={}, sessions=[], faults=[], requests=[], hanging=threading.Event(),
        released=threading.Event(), url=f"http://127.0.0.1:{httpd.server_port}",
    )  # fmt: skip
    with running(httpd):
        yield httpd.state
