"""Rows out of large tables, in every form that a file may come in, and over a line that breaks."""

import base64
import gzip
import hashlib
import io
import random
import re
from functools import partial

import download_server
import pytest
from download_server import FAST, end_in_silence, serve

from helpers.fetch import manifests, streams

RANDOM = random.Random(0)
ROWS = [[f"id{n:05d}", RANDOM.choice(["/m/cat", "/m/dog"]), str(RANDOM.random())] for n in range(30_000)]
BODY = ("id,label,score\n" + "".join(",".join(row) + "\n" for row in ROWS)).encode()
CATS = [row for row in ROWS if row[1] == "/m/cat"]
OTHER = BODY.replace(b"/m/dog", b"/m/cow")  # as long as the first


def parse(width, line):
    cells = line.decode().split(",")
    if len(cells) != width:
        raise streams.Refused("malformed")
    return cells if cells[1] == "/m/cat" else None


WITH_CAT = partial(streams.lines_with, re.compile(b"/m/cat"))


def cats(source, lines_of=WITH_CAT, **options):
    return streams.collect(source, ("id", "label"), lines_of, parse, options)


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
def test_rows_are_those_of_the_file_whatever_the_block(monkeypatch, block):
    monkeypatch.setattr(streams, "BLOCK", block)
    body = b"".join(BODY.splitlines(keepends=True)[:500])
    rows, found = cats(io.BytesIO(body))
    assert rows == [row for row in ROWS[:499] if row in CATS]
    assert (found["rows"], found["refused"], found["problems"]) == (499, {}, [])
    wanted = {b"id00003", b"id00498", b"id0", b"/m/cat"}
    rows, _ = cats(io.BytesIO(body), partial(streams.lines_beginning_with, wanted))
    assert rows == [ROWS[n] for n in (3, 498) if ROWS[n] in CATS]


def test_a_file_may_come_in_many_forms(tmp_path):
    half = len(BODY) // 2
    forms = {
        "plain.csv": BODY,
        "packed.csv.gz": gzip.compress(BODY),
        "two.gz": gzip.compress(BODY[:half]) + gzip.compress(BODY[half:]),
        "crlf.csv": BODY.replace(b"\n", b"\r\n"),
        "bom.csv": b"\xef\xbb\xbf" + BODY,
        "no_end.csv": BODY.rstrip(),
    }
    for name, content in forms.items():
        (tmp_path / name).write_bytes(content)
        for source in (tmp_path / name, str(tmp_path / name)):
            rows, found = cats(source)
            assert rows == CATS and (found["source"], found["rows"]) == (name, len(ROWS))
    with (tmp_path / "two.gz").open("rb") as file:
        assert cats(file)[0] == CATS
        assert not file.closed


def test_rows_that_cannot_be_used_are_counted_and_twenty_are_named(monkeypatch):
    monkeypatch.setattr(streams, "BLOCK", 50)
    body = b"id,label\na,/m/cat\n" + b"b,/m/cat,too many\n" * 30 + b"c,/m/cat"
    rows, found = cats(io.BytesIO(body))
    assert rows == [["a", "/m/cat"], ["c", "/m/cat"]]
    assert (found["rows"], found["refused"], len(found["problems"])) == (32, {"malformed": 30}, 20)
    assert found["problems"][1] == {"line": 4, "reason": "malformed", "text": "b,/m/cat,too many"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "table.csv: found the header ''; expected 'id,label"),
        (b"label,id\n", "found the header 'label,id'"),
        (gzip.compress(BODY)[:-2000], "table.csv: a damaged gzip"),
        (gzip.compress(BODY)[:5000] + b"x" * 500 + gzip.compress(BODY)[5500:], "table.csv: a damaged gzip"),
    ],
)
def test_another_file_is_an_error_that_names_it(tmp_path, content, words):
    (tmp_path / "table.csv").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        cats(tmp_path / "table.csv")


@pytest.mark.parametrize(("source", "error"), [(io.StringIO("x"), TypeError), (5, TypeError), ("no.csv", OSError)])
def test_what_is_no_file_is_refused(source, error):
    with pytest.raises(error):
        cats(source)


# --- over HTTP ---


@pytest.fixture
def server(monkeypatch):
    """Sends `BODY` with the MD5 that Google's storage sends."""
    with serve(monkeypatch) as state:
        md5 = base64.b64encode(hashlib.md5(BODY).digest()).decode()
        state.body, state.more = BODY, {"x-goog-hash": f"crc32c=AAAAAA==, md5={md5}"}
        yield state


@pytest.mark.parametrize("no_ranges", [False, True])
@pytest.mark.parametrize("etag", ['"one"', None])
@pytest.mark.parametrize(
    "plan", [[], ["truncate"], ["truncate"] * 4, ["stall"], ["status 503", "truncate", "silent"], ["truncate", "whole"]]
)
def test_a_stream_that_breaks_loses_and_doubles_no_byte(server, plan, no_ranges, etag):
    server.plan, server.no_ranges, server.etag = list(plan), no_ranges, etag
    waits = {"stall", "silent"} & set(plan)
    with io.BufferedReader(streams.Stream(server.url, **FAST | ({} if waits else {"timeout": 20.0}))) as stream:
        assert stream.read() == BODY
    needed = len(plan) + (plan[-1:] != ["whole"])
    assert len(server.requests) >= needed if waits else len(server.requests) == needed
    if plan == ["truncate"] and not no_ranges:
        assert server.requests[1]["range"].startswith("bytes=") and server.requests[1]["if_range"] == etag


def test_an_end_that_comes_early_in_silence_is_noticed(server, monkeypatch):
    end_in_silence(monkeypatch)
    server.plan, server.more = ["truncate"], {}
    assert cats(server.url, **FAST)[0] == CATS
    assert len(server.requests) == 2


@pytest.mark.parametrize("count", range(7))
def test_what_was_read_already_is_dropped(count):
    assert b"".join(streams._drop(iter([b"abc", b"", b"d", b"ef"]), count)) == b"abcdef"[count:]


def test_a_gzip_over_http(server):
    server.body, server.plan, server.more = gzip.compress(BODY), ["truncate"], {}
    rows, found = cats(server.url, **FAST)
    assert rows == CATS and found["source"] == server.url


@pytest.mark.parametrize(
    ("plan", "more", "words"),
    [
        (["status 404"], {}, "HTTP 404"),
        (["status 503"] * 9, {}, "HTTP 503.*tried 3 times"),
        (["html"], {}, "web page"),
        (["redirect"], {}, "not https"),
        (["truncate", "change"], {}, "changed on the server"),
        (["truncate", "change carelessly"], {}, "changed on the server"),
        (["truncate", "status 416"], {}, "changed on the server"),
        ([], {"x-goog-hash": "md5=AAAAAAAAAAAAAAAAAAAAAA=="}, "found MD5 .* promised 0000"),
    ],
)
def test_what_no_patience_mends(server, monkeypatch, plan, more, words):
    server.plan = list(plan)
    server.more |= more
    monkeypatch.setattr(download_server, "OTHER", OTHER)
    with pytest.raises(manifests.DownloadError, match=words) as caught:
        cats(server.url, retries=2, **FAST)
    assert server.url in str(caught.value)


def test_no_other_address_than_https():
    with pytest.raises(manifests.DownloadError, match="not https"):
        cats("http://example.com/boxes.csv")
