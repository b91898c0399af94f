"""Downloads through `manifests.fetch` from a server on this machine that does everything a server should not do."""

import hashlib
import json
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from types import SimpleNamespace

import pytest
from download_server import BODY, FAST, OTHER, end_in_silence, file_at, names, sent, serve, sha

from helpers import runtime
from helpers.fetch import downloads, manifests


@pytest.fixture
def server(monkeypatch):
    with serve(monkeypatch) as state:
        yield state


MD5 = hashlib.md5(BODY).hexdigest()

# (what the server does request by request, requests it must see, bytes it may send)
WAYS_THROUGH = {
    "no trouble": ([], 1, 2_000_000),
    "closes early": (["truncate"], 2, 2_050_000),
    "closes early, again and again": (["truncate"] * 7, 8, 2_300_000),
    "stalls": (["stall"], 2, 2_050_000),
    "busy, then well": (["status 503", "status 500", "status 429"], 4, 2_000_000),
    "ignores the range": (["truncate", "whole"], 2, 3_000_000),
    "busy in the middle": (["truncate", "status 502", "truncate"], 4, 2_100_000),
    "another range than asked for": (["truncate", "shifted"], 3, 4_100_000),
    "a range that cannot be": (["truncate", "status 416"], 3, 3_000_000),
}


@pytest.mark.parametrize("case", WAYS_THROUGH)
def test_a_download_gets_through(server, tmp_path, case):
    server.plan, count, most = list(WAYS_THROUGH[case][0]), *WAYS_THROUGH[case][1:]
    path = manifests.fetch(file_at(server.url), tmp_path, retries=3, **FAST)
    assert path.read_bytes() == BODY
    assert names(tmp_path) == ["data.bin"]
    assert len(server.requests) == count
    assert 2_000_000 <= sent(server) <= most
    manifests.fetch(file_at(server.url), tmp_path, **FAST)
    assert len(server.requests) == count  # what is there and right is not asked for again


@pytest.mark.parametrize(
    ("plan", "words", "requests"),
    [
        (["html"], "web page", 1),
        (["hidden html"], "web page", 1),
        (["status 403"], "HTTP 403 .*refuses this file, program or network; a browser", 1),
        (["status 404"], "HTTP 404", 1),
        (["status 416"], "HTTP 416 to a request for the whole file", 1),
        (["status 500"] * 9, "HTTP 500 .*tried 3 times", 3),
        (["stall"] * 9, "timed out", None),
        (["redirect"], "not https", 1),
        (["too long"], "sends more than the 2000000 bytes expected", 1),
    ],
)
def test_a_source_that_fails_is_named(server, tmp_path, plan, words, requests):
    server.plan = list(plan)
    file = (
        file_at(server.url, size=None, by_hand="Ask Ann.")
        if "hidden html" in plan
        else file_at(server.url, by_hand="Ask Ann.")
    )
    with pytest.raises(manifests.DownloadError, match=words) as caught:
        manifests.fetch(file, tmp_path, retries=2, **FAST | {"timeout": 0.2})
    for part in (server.url, "By hand: Ask Ann.", "data.bin in the folder", str(tmp_path), sha(BODY)):
        assert part in str(caught.value)
    assert requests is None or len(server.requests) == requests
    assert "data.bin" not in names(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sha256": sha(OTHER)}, f"found sha256 {sha(BODY)}, expected {sha(OTHER)}"),
        ({"sha256": None, "size": None, "md5": "0" * 32}, f"found MD5 {MD5}, expected {'0' * 32}"),
        ({"size": 1_999_999}, "found 2000000 bytes, expected 1999999"),
    ],
)
def test_wrong_content_is_refused_and_the_next_source_tried(server, tmp_path, changes, words):
    wrong = file_at(server.url, **changes)
    with pytest.raises(manifests.DownloadError, match=words):
        manifests.fetch(wrong, tmp_path, **FAST)
    assert names(tmp_path) == []
    server.plan = ["html"]
    path = manifests.fetch(file_at(server.url + "?first", server.url + "?second"), tmp_path, **FAST)
    assert path.read_bytes() == BODY
    assert [request["path"] for request in server.requests][-2:] == ["/data.bin?first", "/data.bin?second"]


@pytest.mark.parametrize(("etag", "change"), [('"one"', "change"), ('"one"', "change carelessly"), (None, "change")])
def test_a_file_that_changes_between_two_requests_starts_over(server, tmp_path, etag, change):
    """A careless server ignores If-Range, and sends a part of the new file with its new ETag."""
    server.etag, server.plan = etag, ["truncate", change]
    path = manifests.fetch(file_at(server.url, sha256=None), tmp_path, **FAST)
    assert path.read_bytes() == OTHER  # no mixture of both, though nothing but the size is pinned
    # Without a validator nothing may be continued at all.
    continued = server.requests[1]["range"]
    assert continued is None if etag is None else re.fullmatch(r"bytes=9\d{5}-", continued)
    assert server.requests[1]["if_range"] == etag


def test_an_end_that_comes_early_in_silence_is_noticed(server, tmp_path, monkeypatch):
    end_in_silence(monkeypatch)
    server.plan = ["truncate"]
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert len(server.requests) == 2


def test_an_md5_alone_is_enough(server, tmp_path):
    file = file_at(server.url, sha256=None, size=None, md5=MD5)
    assert manifests.fetch(file, tmp_path, **FAST).read_bytes() == BODY
    (tmp_path / "data.bin").write_bytes(OTHER)  # of the same size
    assert manifests.fetch(file, tmp_path, **FAST).read_bytes() == BODY
    with pytest.raises(manifests.DownloadError, match=f"MD5 {'0' * 32}\\."):
        manifests.fetch(file_at(server.url, md5="0" * 32), tmp_path, **FAST)


def test_pieces_of_two_versions_are_found_by_the_checksum(server, tmp_path):
    """A server that keeps its ETag while the file changes."""
    (tmp_path / "data.bin.part").write_bytes(OTHER[:1_000_000])
    notes = {"url": server.url, "validator": server.etag, "total": len(BODY)}
    (tmp_path / "data.bin.part.json").write_text(json.dumps(notes))
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert [request["range"] for request in server.requests] == ["bytes=1000000-", None]


ELSEWHERE = {"url": "https://elsewhere.org/x", "validator": '"one"', "total": 2_000_000}


@pytest.mark.parametrize("notes", ["", "[]", "{", json.dumps(ELSEWHERE)])
def test_a_part_without_sound_notes_is_not_continued(server, tmp_path, notes):
    (tmp_path / "data.bin.part").write_bytes(OTHER[:1000])
    (tmp_path / "data.bin.part.json").write_text(notes)
    assert manifests.fetch(file_at(server.url), tmp_path, retries=0, **FAST).read_bytes() == BODY
    assert server.requests[0]["range"] is None


@pytest.mark.parametrize(
    ("retry_after", "expected"), [("7", 7), ("3600", 60), ("Wed, 01 Jan 2020 00:00:00 GMT", 1), ("?", 1)]
)
def test_retry_after_is_honoured_within_the_cap(server, tmp_path, monkeypatch, retry_after, expected):
    waits = []
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=waits.append, time=time.time))
    monkeypatch.setattr(downloads.random, "uniform", lambda low, high: high)
    server.plan, server.retry_after = ["status 429"], retry_after
    manifests.fetch(file_at(server.url), tmp_path, timeout=5, backoff=1, max_wait=60)
    assert waits == [expected]


def test_back_off_doubles_up_to_the_cap(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads, "time", SimpleNamespace(sleep=waits.append, time=time.time))
    monkeypatch.setattr(downloads.random, "uniform", lambda low, high: high)
    server.plan = ["status 500"] * 5
    manifests.fetch(file_at(server.url), tmp_path, retries=5, timeout=5, backoff=1, max_wait=5)
    assert waits == [1, 2, 4, 5, 5]


def test_a_killed_download_continues(server, tmp_path):
    server.pause = 0.02
    code = f"""
        from helpers.fetch import manifests
        file = manifests.File("data.bin", (manifests.Source(url={server.url!r}),), size={len(BODY)}, sha256={sha(BODY)!r})
        manifests.fetch(file, {str(tmp_path)!r})
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=runtime.repo_root())
    part = tmp_path / "data.bin.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 500_000) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    here, server.pause = part.stat().st_size, 0
    assert here < len(BODY)
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert server.requests[-1]["range"] == f"bytes={here}-"
    assert server.requests[-1]["sent"] == len(BODY) - here


def test_a_finished_part_needs_no_request(server, tmp_path):
    """Killed after the last byte, before the rename."""
    (tmp_path / "data.bin.part").write_bytes(BODY)
    notes = {"url": server.url, "validator": server.etag, "total": len(BODY)}
    (tmp_path / "data.bin.part.json").write_text(json.dumps(notes))
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert server.requests == []


def test_pinned_tls_is_off_for_one_request_only(tmp_path, monkeypatch):
    """The arguments that reach requests; no server with a bad certificate is at hand."""
    seen = []

    def request(self, method, url, **options):
        seen.append((url, options.get("verify"), options.get("allow_redirects"), self.verify))
        raise downloads.requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")

    monkeypatch.setattr(downloads.requests.Session, "request", request)
    sources = (
        manifests.Source(url="https://a.org/x"),
        manifests.Source(url="https://a.org/x", tls="pinned"),
        manifests.Source(url="https://b.org/x"),
    )
    with pytest.raises(manifests.DownloadError, match="certificate"):
        manifests.fetch(file_at(sources=sources), tmp_path, **FAST)
    assert seen == [
        ("https://a.org/x", None, True, True),
        ("https://a.org/x", False, False, True),
        ("https://b.org/x", None, True, True),
    ]


def test_a_file_of_unknown_size_is_asked_for_its_size_first(server, tmp_path):
    server.plan = ["truncate"]
    assert manifests.fetch_url(server.url, tmp_path / "data.bin", **FAST).read_bytes() == BODY
    assert manifests.ask(server.url, **FAST).content == BODY
    server.plan = ["status 503"] * 9
    with pytest.raises(manifests.DownloadError, match=r"data.bin: HTTP 503 .*tried 2 times"):
        manifests.ask(server.url, retries=1, **FAST)
    server.body = b""
    with pytest.raises(manifests.DownloadError, match="does not say how large it is: open it"):
        manifests.fetch_url(server.url, tmp_path / "more", **FAST)


def test_threads_keep_the_order_and_an_error_begins_nothing_new(monkeypatch):
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    began, stop, together = [], threading.Event(), threading.Barrier(3, timeout=20)

    def double(number):
        together.wait()
        return 2 * number

    def fail(number):
        began.append(number == 0 or stop.wait(20))
        raise KeyError(number)

    assert downloads.in_threads(double, range(6), jobs=3) == [0, 2, 4, 6, 8, 10]
    with pytest.raises(KeyError):
        downloads.in_threads(fail, range(1000), jobs=2, stop=stop)
    assert len(began) < 5 and all(began)
    assert downloads.in_threads(fail, [], jobs=2) == []
