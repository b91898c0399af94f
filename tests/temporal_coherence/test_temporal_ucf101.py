"""Fetching UCF101's clips: from a server on this machine that counts every byte, through a manifest of its own."""

import contextlib
import hashlib
import http.server
import random
import re
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from helpers.fetch import manifests
from helpers.temporal_coherence import data
from helpers.temporal_coherence.sources import ucf101

# In the order of the zip. Both spellings of one class; the last class fills the end of the file, which is read along with
# the zip's directory (64 kB and more).
NAMES = [
    *(f"v_Archery_g01_c{clip:02d}.avi" for clip in (1, 2, 3)),
    *(f"v_Rowing_g02_c{clip:02d}.avi" for clip in (1, 2, 3)),
    "v_HandstandPushups_g01_c01.avi",
    "v_HandStandPushups_g01_c02.avi",
    *(f"v_RowingBoat_g09_c{clip:02d}.avi" for clip in (1, 2)),  # no class of UCF101; its name begins like one
    *(f"v_YoYo_g25_c{clip:02d}.avi" for clip in range(1, 7)),
]
CLIPS = {name: random.Random(name).randbytes(40_000) for name in NAMES}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `state.body` in parts; what touches a byte of `state.broken` gets a 404."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        state, size = self.server.state, len(self.server.state.body)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", "")) if state.ranges else None
        first, last = 0, size - 1
        if asked and not asked[1]:
            first = max(0, size - int(asked[2]))
        elif asked:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if any(first <= byte <= last for byte in state.broken):
            return self.send_error(404)
        state.sent.append((first, last))
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(last + 1 - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(state.body[first : last + 1])


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The zip, flat as the genuine one, and where in it each clip's bytes are."""
    path = tmp_path_factory.mktemp("zip") / ucf101.ZIP
    with zipfile.ZipFile(path, "w") as opened:
        for name, content in CLIPS.items():
            opened.writestr(f"UCF101/{name}", content)
        starts = {Path(info.filename).name: info.header_offset + 100 for info in opened.infolist()}
    return SimpleNamespace(path=path, body=path.read_bytes(), starts=starts)


@pytest.fixture
def server(archive, tmp_path, monkeypatch):
    """`state` of the server, with the manifest that points to it, and a folder for the clips and one for archives."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    file = {
        "name": ucf101.ZIP, "kind": "zip", "size": len(archive.body), "unpacked_size": 2 * len(archive.body),
        "sha256": hashlib.sha256(archive.body).hexdigest(),
        "sources": [{"url": f"http://127.0.0.1:{httpd.server_port}/{ucf101.ZIP}"}],
    }  # fmt: skip
    about = dict.fromkeys(("name", "title", "homepage", "licence", "citation", "terms"), "a test")
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({**about, "files": [file]}))
    httpd.state = SimpleNamespace(
        body=archive.body, sent=[], broken=[], ranges=True, manifest=manifests.load_manifest(tmp_path / "small.yaml"),
        root=tmp_path / "UCF-101", cache=tmp_path / "downloads", starts=archive.starts,
    )  # fmt: skip
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield httpd.state
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def fetch(state, *classes):
    ucf101.fetch_clips(state.root, classes, cache=state.cache, manifest=state.manifest)


def sent_of(state) -> set[str]:
    """Clips whose bytes left the server."""
    return {name for name, byte in state.starts.items() if any(first <= byte <= last for first, last in state.sent)}


def clips_in(root) -> dict[str, bytes]:
    """Files by path below the root, what a fetch keeps for itself left out."""
    paths = [path for path in root.rglob("*") if path.is_file() and ".fetching" not in path.parts]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}


def expected(*classes) -> dict[str, bytes]:
    """What a folder of these classes should hold; the file names stay as they are in the zip."""
    return {
        f"{label}/{name}": content
        for name, content in CLIPS.items()
        for label in classes
        if data.parse_name(name)[0].lower() == label.lower()
    }


def test_only_the_wanted_clips_travel(server):
    fetch(server, "Rowing")
    assert clips_in(server.root) == expected("Rowing") and len(expected("Rowing")) == 3
    rowing = {name for name in NAMES if "_Rowing_" in name}
    assert rowing <= sent_of(server) <= rowing | {name for name in NAMES if "_YoYo_" in name}
    assert data.find_clips(server.root)["video"].tolist() == sorted(expected("Rowing"))
    assert not server.cache.exists()


def test_both_spellings_land_in_one_folder(server):
    fetch(server, "HandstandPushups")
    assert clips_in(server.root) == expected("HandstandPushups")
    assert [path.split("/")[0] for path in clips_in(server.root)] == ["HandstandPushups"] * 2


def test_a_class_that_is_there_is_not_asked_for_again(server):
    fetch(server, "Rowing")
    server.sent.clear()
    fetch(server, "Rowing")
    assert server.sent == []
    fetch(server, "Archery", "Rowing")
    assert clips_in(server.root) == expected("Archery", "Rowing")
    assert not any("Rowing" in name for name in sent_of(server))


def test_after_a_failure_only_the_rest_is_fetched(server):
    server.broken = [server.starts["v_Rowing_g02_c02.avi"]]
    with pytest.raises(
        manifests.DownloadError, match=r"Rowing: 1 of 3 clips.*call again.*v_Rowing_g02_c02\.avi: HTTP 404"
    ):
        fetch(server, "Archery", "Rowing")
    assert clips_in(server.root) == expected("Archery")  # a class is there whole or not at all
    server.broken = []
    server.sent.clear()
    fetch(server, "Archery", "Rowing")
    assert clips_in(server.root) == expected("Archery", "Rowing")
    assert {name for name in sent_of(server) if "YoYo" not in name} == {"v_Rowing_g02_c02.avi"}


@pytest.mark.parametrize("count", range(4))
def test_a_kill_while_a_class_gets_its_folder(server, monkeypatch, count):
    replace, done = Path.replace, []

    def replace_or_die(self, target):
        if ".whole" in str(self) + str(target):
            done.append(target)
            if len(done) > count:
                raise KeyboardInterrupt
        return replace(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", replace_or_die)
        fetch(server, "Archery")
    assert clips_in(server.root) == {}
    fetch(server, "Archery")
    assert clips_in(server.root) == expected("Archery")


def test_a_server_without_parts_gives_the_whole_archive_once(server):
    server.ranges = False
    fetch(server, "Archery")
    assert clips_in(server.root) == expected("Archery")
    assert [path.name for path in server.cache.iterdir()] == [ucf101.ZIP]
    server.sent.clear()
    fetch(server, "HandstandPushups", "Archery")
    assert clips_in(server.root) == expected("Archery", "HandstandPushups") and server.sent == []


def test_an_archive_in_the_cache_needs_no_network(server, archive):
    server.cache.mkdir()
    (server.cache / ucf101.ZIP).write_bytes(archive.body)
    fetch(server, "Rowing", "HandstandPushups")
    assert clips_in(server.root) == expected("Rowing", "HandstandPushups") and server.sent == []


def test_a_damaged_archive_in_the_cache_is_fetched_anew(server, archive):
    server.cache.mkdir()
    (server.cache / ucf101.ZIP).write_bytes(archive.body[:-1000])
    fetch(server, "Rowing")
    assert clips_in(server.root) == expected("Rowing") and server.sent == [(0, len(archive.body) - 1)]


@pytest.mark.parametrize("where", ["server", "cache"])
def test_a_class_that_the_archive_lacks_leaves_no_empty_folder(server, archive, where):
    if where == "cache":
        server.cache.mkdir()
        (server.cache / ucf101.ZIP).write_bytes(archive.body)
    with pytest.raises(manifests.DownloadError, match="holds no clip of class Skiing"):
        fetch(server, "Archery", "Skiing")
    assert clips_in(server.root) == expected("Archery") and not (server.root / "Skiing").exists()


def test_unknown_classes_are_named(server):
    with pytest.raises(ValueError, match=r"received Chess, rowing; allowed: ApplyEyeMakeup, .*YoYo"):
        fetch(server, "Chess", "Rowing", "rowing")
    assert server.sent == [] and not server.root.exists()
