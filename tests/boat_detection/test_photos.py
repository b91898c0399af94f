"""Fetching images by id from a server on this machine that breaks off, lies about its checksums, and runs out of patience."""

import contextlib
import errno
import hashlib
import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from helpers import runtime
from helpers.boat_detection.sources import photos

FAST = {"timeout": 10.0, "backoff": 0.001, "max_wait": 0.01, "retries": 2}
IDS = [f"{number:016x}" for number in range(2**60, 2**60 + 12)]


def jpeg(seed, size=(60, 80)):
    picture = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def md5(content):
    return hashlib.md5(content).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Sends `state.files[path]`; `state.plan[path]` holds what to do with its next requests, then all goes well."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        state = self.server.state
        with state.lock:
            state.requests.append(self.path)
            action = (state.plan.get(self.path) or [""]).pop(0)
            state.busy += 1
            state.most = max(state.most, state.busy)
        try:
            with contextlib.suppress(ConnectionError):
                self.answer(state, action)
        finally:
            with state.lock:
                state.busy -= 1

    def answer(self, state, action):
        time.sleep(state.pause)
        content = state.files.get(self.path)
        if content is None or action.startswith("status"):
            return self.send(int(action.split()[1]) if action else 404, b"<Error><Code>NoSuchKey</Code></Error>", "")
        etag = state.etags.get(self.path, md5(content))
        if action == "flip":
            content = content[:200] + bytes([content[200] ^ 255]) + content[201:]
        if action == "html":
            return self.send(200, b"<!DOCTYPE html><html></html>", "", "text/html")
        self.send(200, content, etag, cut=len(content) // 2 if action == "truncate" else None)

    def send(self, status, content, etag, kind="image/jpeg", cut=None):
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", kind)
        if etag:
            self.send_header("ETag", f'"{etag}"')
        self.end_headers()
        self.wfile.write(content[:cut])
        self.close_connection = cut is not None


@pytest.fixture
def server(monkeypatch):
    """A bucket with twelve pictures."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.state = SimpleNamespace(
        files={path(name): jpeg(number) for number, name in enumerate(IDS)}, etags={}, plan={}, requests=[], pause=0,
        busy=0, most=0, lock=threading.Lock(), url=f"http://127.0.0.1:{httpd.server_port}",
    )  # fmt: skip
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd.state
    httpd.shutdown()
    httpd.server_close()


def path(name, subset="train"):
    return f"/{subset}/{name}.jpg"


def get(server, folder, ids=IDS, **options):
    return photos.fetch_images(ids, folder, base_url=server.url, **{**FAST, **options})


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_all_come_and_are_not_asked_for_again(server, tmp_path):
    folder = tmp_path / "new" / "images"
    table = get(server, folder, [*IDS, IDS[0]])
    assert list(table.columns) == ["image", "outcome", "bytes", "detail"]
    assert table["image"].tolist() == IDS and set(table["outcome"]) == {"ok"} and set(table["detail"]) == {""}
    for name, size in zip(table["image"], table["bytes"], strict=True):
        content = (folder / f"{name}.jpg").read_bytes()
        assert content == server.files[path(name)] and len(content) == size
    assert sorted(server.requests) == [path(name) for name in IDS]
    again = get(server, folder)
    assert len(server.requests) == 12 and set(again["detail"]) == {"was there"}
    assert again[["image", "outcome", "bytes"]].equals(table[["image", "outcome", "bytes"]])
    assert names(folder) == [f"{name}.jpg" for name in IDS]


@pytest.mark.parametrize("subset", ["validation", "test"])
def test_other_subsets_lie_in_other_folders(server, tmp_path, subset):
    server.files = {path("0123456789abcdef", subset): jpeg(1)}
    assert get(server, tmp_path, ["0123456789abcdef"], subset=subset, workers=1)["outcome"].tolist() == ["ok"]
    assert get(server, tmp_path / "train", ["0123456789abcdef"])["outcome"].tolist() == ["missing"]


HALF = jpeg(50)[: len(jpeg(50)) // 2]
CASES = {  # name: (what the server holds, its ETag or None for the right one, actions, outcome, requests, words of the detail)
    "sound": (jpeg(1), None, [], "ok", 1, ""),
    "large": (jpeg(2, (700, 1000)), None, [], "ok", 1, ""),
    "no ETag": (jpeg(3), "", [], "ok", 1, ""),
    "ETag of parts": (jpeg(4), md5(b"other") + "-2", [], "ok", 1, ""),
    "busy": (jpeg(5), None, ["status 503", "status 500"], "ok", 3, ""),
    "breaks off once": (jpeg(6), None, ["truncate"], "ok", 2, ""),
    "wrong bytes once": (jpeg(7), None, ["flip"], "ok", 2, ""),
    "absent": (None, None, [], "missing", 1, "HTTP 404"),
    "forbidden": (jpeg(8), None, ["status 403"], "failed", 1, "HTTP 403"),
    "always busy": (jpeg(9), None, ["status 503"] * 9, "failed", 3, "HTTP 503"),
    "always breaks off": (jpeg(10), None, ["truncate"] * 9, "failed", 3, "tried 3 times"),
    "page": (jpeg(11), None, ["html"], "failed", 1, "web page"),
    "always wrong bytes": (jpeg(12), None, ["flip"] * 9, "corrupt", 3, "found MD5"),
    "wrong ETag": (jpeg(13), md5(b"other"), [], "corrupt", 3, md5(b"other")),
    "no JPEG": (b"GIF89a" + bytes(500), None, [], "corrupt", 1, "does not begin"),
    "half on the server": (HALF, None, [], "corrupt", 1, "no end"),
    "half, no ETag": (HALF, "", [], "corrupt", 3, "no end"),
    "both ends right": (b"\xff\xd8\xff\xe0" + bytes(500) + b"\xff\xd9", None, [], "corrupt", 1, "decoded"),
    "empty": (b"", None, [], "corrupt", 1, "does not begin"),
}  # fmt: skip


def test_each_outcome_is_told_and_only_sound_images_stay(server, tmp_path, capfd):
    ids = {case: f"{number:016x}" for number, case in enumerate(CASES)}
    server.files = {path(ids[case]): row[0] for case, row in CASES.items() if row[0] is not None}
    server.etags = {path(ids[case]): row[1] for case, row in CASES.items() if row[1] is not None}
    server.plan = {path(ids[case]): list(row[2]) for case, row in CASES.items()}
    table = get(server, tmp_path, ids.values()).set_index("image")
    for case, (content, _, _, outcome, requests, words) in CASES.items():
        row = table.loc[ids[case]]
        found = row["outcome"], server.requests.count(path(ids[case]))
        assert found == (outcome, requests), f"{case}: {row['detail']}"
        assert words in row["detail"] and bool(words) == bool(row["detail"]), case
        assert row["bytes"] == (len(content) if outcome == "ok" else 0), case
        assert (tmp_path / f"{ids[case]}.jpg").is_file() == (outcome == "ok"), case
    assert names(tmp_path) == sorted(f"{ids[case]}.jpg" for case, row in CASES.items() if row[3] == "ok")
    assert capfd.readouterr().err == ""


def test_what_lies_there_damaged_is_fetched_anew(server, tmp_path):
    good, bad = server.files[path(IDS[0])], server.files[path(IDS[1])]
    (tmp_path / f"{IDS[0]}.jpg").write_bytes(good)
    (tmp_path / f"{IDS[1]}.jpg").write_bytes(bad[:-100])
    (tmp_path / f".{IDS[2]}-x7a.jpg").write_bytes(b"left by a kill")
    (tmp_path / "gone.jpg").write_bytes(b"")
    table = get(server, tmp_path, [*IDS[:3], "gone"])
    assert table["outcome"].tolist() == ["ok", "ok", "ok", "missing"]
    assert path(IDS[0]) not in server.requests
    assert (tmp_path / f"{IDS[1]}.jpg").read_bytes() == bad
    assert names(tmp_path) == [f"{name}.jpg" for name in IDS[:3]]


def test_as_many_threads_as_asked_for(server, tmp_path):
    server.pause = 0.1
    get(server, tmp_path / "one", IDS[:3], workers=1)
    assert server.most == 1
    get(server, tmp_path / "six", workers=6)
    assert 3 <= server.most <= 6


def test_no_ids_no_requests(server, tmp_path):
    assert len(get(server, tmp_path, [])) == 0 and server.requests == []


@pytest.mark.parametrize(
    ("ids", "options", "words"),
    [
        (["../../etc/passwd"], {}, "passwd"), (["a/b"], {}, "a/b"), (["a.jpg"], {}, "without .jpg"), ([5], {}, "5"),
        ([""], {}, "ids"), (["a"], {"workers": 0}, "workers"),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be(server, tmp_path, ids, options, words):
    with pytest.raises(ValueError, match=words):
        get(server, tmp_path, ids, **options)
    assert server.requests == []


def test_a_server_without_tls_is_not_asked(tmp_path):
    table = photos.fetch_images(["a"], tmp_path, base_url="http://example.com", **FAST)
    assert table["outcome"].tolist() == ["failed"] and "not https" in table["detail"][0]


def test_a_full_disk_stops_everything(server, tmp_path, monkeypatch):
    server.pause = 0.02
    written = []

    def full(handle):
        written.append(handle)
        if len(written) > 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="the disk is full: free some space"):
        get(server, tmp_path, workers=2)
    assert len(server.requests) < 8
    monkeypatch.undo()
    assert len(names(tmp_path)) == 2 and all(name.endswith(".jpg") for name in names(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert set(get(server, tmp_path)["outcome"]) == {"ok"}
    assert len(names(tmp_path)) == 12


def test_a_folder_that_cannot_be_made_is_named(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        get(server, tmp_path / "file")


SCRIPT = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
from helpers.boat_detection.sources import photos
print("begin", flush=True)
photos.fetch_images(sys.argv[3:], sys.argv[2], base_url=sys.argv[1], workers=2, backoff=0.01)
print("end", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_or_a_kill_leave_sound_images_and_the_rest_comes_next_time(server, tmp_path, number):
    server.pause = 0.15
    environment = {**os.environ, "PYTHONPATH": str(runtime.repo_root())}
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, server.url, str(tmp_path), *IDS],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("[!.]*.jpg"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert output.split() == ["begin"] and process.returncode not in (0, None)
    asked = len(server.requests)
    assert 2 <= asked < 12
    there = list(tmp_path.glob("[!.]*"))  # what is not whole yet begins with a dot
    assert all(file.read_bytes() == server.files[path(file.stem)] for file in there)
    server.pause = 0
    assert set(get(server, tmp_path)["outcome"]) == {"ok"}
    assert names(tmp_path) == [f"{name}.jpg" for name in IDS]
    assert len(server.requests) - asked == 12 - len(there)
