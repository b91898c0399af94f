"""The stand-ins of the public servers, and how a copy of the course is turned to them."""

import hashlib

import pytest
import requests
import yaml
from rehearsal import __main__ as rehearsal
from rehearsal.site import serve

from helpers import runtime
from helpers.fetch import manifests

NAMED = {"User-Agent": runtime.user_agent()}
BODY = bytes(range(256)) * 4


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(tmp_path / "site") as site:
        site.put("https://host.example/folder/data.bin", BODY)
        yield site


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        ({}, 200, BODY),
        ({"Range": "bytes=10-19"}, 206, BODY[10:20]),
        ({"Range": "bytes=1000-"}, 206, BODY[1000:]),
        ({"Range": "bytes=-6"}, 206, BODY[-6:]),
        ({"Range": "bytes=10-19", "If-Range": '"another"'}, 200, BODY),
        ({"Range": "bytes=1024-"}, 416, b""),
    ],
)
def test_parts_of_a_file_and_what_was_sent(site, asked, status, content):
    answer = requests.get(f"{site.address}/host.example/folder/data.bin", headers=NAMED | asked, timeout=5)
    assert (answer.status_code, answer.content) == (status, content)
    assert site.requests == [("GET", "host.example", "/folder/data.bin", len(content))]


def test_nobody_without_a_name_and_nothing_that_is_not_there(site):
    address = f"{site.address}/host.example/folder"
    assert requests.get(f"{address}/data.bin", timeout=5).status_code == 403
    assert requests.get(f"{address}/none.bin", headers=NAMED, timeout=5).status_code == 404
    answer = requests.head(f"{address}/data.bin", headers=NAMED, timeout=5)
    assert (answer.status_code, answer.headers["Content-Length"], answer.content) == (200, str(len(BODY)), b"")
    assert site.sent() == {"host.example/folder/data.bin": 0, "host.example/folder/none.bin": 0}


def test_a_copy_asks_the_site_alone_and_expects_what_it_holds(site, tmp_path):
    copy = tmp_path / "copy"
    (copy / "helpers").mkdir(parents=True)
    (copy / "data_manifests").mkdir()
    (copy / "helpers" / "room.py").write_text('BASE = "https://host.example"\nPAGE = "https://other.example/a"\n')
    file = {
        "name": "data.bin",
        "size": 9,
        "sha256": "0" * 64,
        "sources": [{"url": "https://host.example/folder/data.bin"}],
    }
    unknown = {"name": "more.bin", "size": 9, "sources": [{"url": "https://other.example/more.bin"}]}
    about = dict.fromkeys(("name", "title", "homepage", "licence", "citation", "terms"), "a test")
    (copy / "data_manifests" / "small.yaml").write_text(yaml.safe_dump(about | {"files": [file, unknown]}))
    rehearsal.redirect(site, copy)
    changed = f'BASE = "{site.address}/host.example"\nPAGE = "https://other.example/a"\n'
    assert (copy / "helpers" / "room.py").read_text() == changed
    manifest = manifests.load_manifest(copy / "data_manifests" / "small.yaml")
    assert (manifest.file("data.bin").size, manifest.file("data.bin").sha256) == (
        1024,
        hashlib.sha256(BODY).hexdigest(),
    )
    assert manifests.fetch(manifest.file("data.bin"), tmp_path).read_bytes() == BODY
    with pytest.raises(manifests.DownloadError, match="HTTP 404"):
        manifests.fetch(manifest.file("more.bin"), tmp_path)


def test_a_run_that_fails_tells_the_notebook_and_the_error(tmp_path, monkeypatch):
    folder = tmp_path / "helpers"
    folder.mkdir()
    said = "mine/00_first  2/2 cells  3 s  ok", "mine/01_second  1/2 cells  4 s  failed", "ValueError: no boat"
    (folder / "__main__.py").write_text(f"import sys\nprint(*{said!r}, sep='\\n')\nsys.exit(1)\n")
    rows = rehearsal.run(tmp_path, "mine", "t4", tmp_path / "workspace")
    assert [(row.name, row.seconds, row.problem) for row in rows] == [
        ("t4: mine/00_first", 3, ""),
        ("t4: mine/01_second", 4, "failed: ValueError: no boat"),
    ]
