"""Names, split and downloads of YouTube-8M, the latter from a server on this machine that counts every byte."""

import contextlib
import hashlib
import http.server
import json
import random
import re
import threading
from types import SimpleNamespace

import pytest

from helpers import runtime
from helpers.circulant_video import splits
from helpers.circulant_video.sources import audioset, vocabulary, youtube8m
from helpers.fetch import downloads, manifests

FAST = {"timeout": 2.0, "backoff": 0.001, "max_wait": 0.01, "retries": 2}
PLAN = "/data.yt8m.org/2/download_plans/frame_train.json"
NAMES = [f"train{a}{b}.tfrecord" for a in youtube8m.LETTERS for b in youtube8m.LETTERS[:10]]


# --- names ---


@pytest.mark.parametrize(
    ("letters", "digits"),
    [
        ("trainaa", "train0000"), ("trainab", "train0001"), ("trainaZ", "train0051"), ("traina0", "train0052"),
        ("trainba", "train0062"), ("trainpj", "train0939"), ("validateZ9", "validate3223"), ("validate0a", "validate3224"),
        ("test99", "test3843"),
    ],
)  # fmt: skip
def test_both_forms_of_a_name(letters, digits):
    letters, digits = f"{letters}.tfrecord", f"{digits}.tfrecord"
    assert youtube8m.to_digits(letters) == youtube8m.to_digits(digits) == digits
    assert youtube8m.to_letters(digits) == youtube8m.to_letters(letters) == letters


def test_names_map_one_to_one():
    every = [f"train{number:04d}.tfrecord" for number in range(3844)]
    letters = [youtube8m.to_letters(name) for name in every]
    assert len(set(letters)) == 3844 and [youtube8m.to_digits(name) for name in letters] == every


@pytest.mark.parametrize(
    "name", ["train3844.tfrecord", "traina.tfrecord", "trainabc.tfrecord", "dev00.tfrecord", "train00.tfr"]
)
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        youtube8m.parse_shard(name)


# --- split ---


@pytest.mark.parametrize("rename", [youtube8m.to_digits, youtube8m.to_letters])
def test_the_papers_split_in_both_forms(rename):
    files = [
        rename(f"{split}{number:04d}.tfrecord") for split in ("train", "validate", "test") for number in range(3844)
    ]
    random.Random(0).shuffle(files)
    sides = splits.split_shards(files)
    assert {side: len(paths) for side, paths in sides.items()} == {
        "train": 3844 + 3224,
        "validation": 620,
        "test": 3844,
    }
    # the glob of the original, which only fits the server's names: validate[A-Za-z]*
    held_out = {path.name for path in sides["validation"]}
    assert held_out == {rename(name) for name in map(youtube8m.to_letters, files) if re.match(r"validate\d", name)}
    official = splits.split_shards(files, rule="official")
    assert {side: len(paths) for side, paths in official.items()} == {"train": 3844, "validation": 3844, "test": 3844}


def test_a_shard_under_two_names_is_refused():
    with pytest.raises(ValueError, match="same shard"):
        splits.split_shards(["trainpj.tfrecord", "train0939.tfrecord"])


def test_parts_are_disjoint_cover_all_and_follow_md5():
    parts = [youtube8m.select_shards(NAMES, part, 7) for part in range(1, 8)]
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    for name in parts[2][:5]:
        assert int(hashlib.md5(name.encode()).hexdigest(), 16) % 7 == 2


# --- downloads ---


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `state.files`, parts too; `state.cut` names paths whose next answer ends in the middle."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        state = self.server.state
        content = state.files.get(self.path)
        if content is None:
            return self.send_error(404)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("ETag", '"one"')
        self.send_header("Content-Length", str(len(content) - first))
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            end = (first + len(content)) // 2 if self.path in state.cut else len(content)
            state.cut.discard(self.path)
            state.sent.append((self.path, end - first))
            with contextlib.suppress(ConnectionError):
                self.wfile.write(content[first:end])


@pytest.fixture
def server(monkeypatch):
    """A mirror with a plan and all of its files."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    bodies = {name: random.Random(name).randbytes(100_000) for name in youtube8m.select_shards(NAMES, 1, 200)}
    plan = {name: hashlib.md5(bodies.get(name, b"")).hexdigest() for name in NAMES}
    files = {f"/us.data.yt8m.org/2/frame/train/{name}": body for name, body in bodies.items()}
    files[PLAN] = json.dumps({"files": plan}).encode()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    httpd.state = SimpleNamespace(files=files, bodies=bodies, sent=[], cut=set())
    httpd.state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd.state
    httpd.shutdown()
    httpd.server_close()


def fetch(server, folder, **options):
    own = {"shard": (1, 200), "mirror": "us", "base": server.url, **FAST, **options}
    return youtube8m.fetch_shards(youtube8m.list_files("2/frame/train", folder, **own), folder, **FAST)


def test_the_selected_shards_come_under_four_digits(server, tmp_path):
    paths = fetch(server, tmp_path)
    assert len(paths) > 1
    assert [path.name for path in paths] == [youtube8m.to_digits(name) for name in sorted(server.bodies)]
    assert [path.read_bytes() for path in paths] == [server.bodies[name] for name in sorted(server.bodies)]
    sent = len(server.sent)
    assert fetch(server, tmp_path) == paths and len(server.sent) == sent  # nothing is asked for twice


def test_an_interrupted_download_continues(server, tmp_path):
    path = f"/us.data.yt8m.org/2/frame/train/{min(server.bodies)}"
    server.cut = {path}
    fetch(server, tmp_path)
    sizes = [size for asked, size in server.sent if asked == path]
    assert sizes[0] == 50_000 and sizes[1:] and sizes[1] <= 50_000 + downloads.CHUNK  # what arrived is not sent again


def test_a_wrong_checksum_or_a_missing_file_costs_that_file_alone(server, tmp_path):
    first, second, *_ = sorted(server.bodies)
    right = server.files[f"/us.data.yt8m.org/2/frame/train/{first}"]
    server.files[f"/us.data.yt8m.org/2/frame/train/{first}"] = right[::-1]
    del server.files[f"/us.data.yt8m.org/2/frame/train/{second}"]
    with pytest.raises(manifests.DownloadError, match=rf"(?s)2 of {len(server.bodies)} files .*{first}: .*MD5"):
        fetch(server, tmp_path)
    names = {path.name for path in tmp_path.glob("*.tfrecord")}
    assert names == {youtube8m.to_digits(name) for name in server.bodies} - set(
        map(youtube8m.to_digits, (first, second))
    )
    server.files |= {f"/us.data.yt8m.org/2/frame/train/{name}": server.bodies[name] for name in (first, second)}
    assert len(fetch(server, tmp_path)) == len(server.bodies)
    assert (tmp_path / youtube8m.to_digits(first)).read_bytes() == right


def test_a_file_under_the_servers_name_is_taken_as_it_is(server, tmp_path):
    name = min(server.bodies)
    (tmp_path / name).write_bytes(b"by hand")
    assert fetch(server, tmp_path)[0] == tmp_path / name
    assert not any(path.endswith(name) for path, _ in server.sent)


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (b"<Error>NoSuchKey</Error>", "no download plan: received '<Error>"),
        (b"{}", "no download plan: received no file"),
        (b"[1]", "no download plan"),
        (b'{"../../x": "00"}', "no download plan: received .'../../x'"),
        (b'{"trainaa.tfrecord": 3}', "no download plan"),
    ],
)
def test_what_is_no_plan_is_refused(server, tmp_path, plan, words):
    server.files[PLAN] = plan
    with pytest.raises(ValueError, match=words):
        fetch(server, tmp_path)
    assert not list(tmp_path.rglob("*.json"))


def test_no_plan(server, tmp_path):
    del server.files[PLAN]
    with pytest.raises(manifests.DownloadError, match=r"frame_train\.json: HTTP 404"):
        fetch(server, tmp_path)


# --- manifests ---


def test_the_manifests_make_their_tables_and_check_them(server, tmp_path, monkeypatch):
    columns = "index,mid,display_name"
    server.files["/classes.csv"] = "\n".join(
        [columns, *(f"{label},/m/{label},Sound {label}" for label in range(527))]
    ).encode()
    monkeypatch.setattr(audioset, "CLASSES", f"{server.url}/classes.csv")
    monkeypatch.setattr(youtube8m, "VOCABULARY", f"{server.url}/classes.csv")
    manifest = manifests.load_manifest("audioset")
    path = manifests.fetch(manifest.file("class_labels_indices.csv"), tmp_path)
    assert path.read_bytes() == server.files["/classes.csv"]
    with pytest.raises(
        manifests.DownloadError, match="received 527 rows up to label 526; expected each label from 0 to 3861"
    ):
        manifests.fetch(manifests.load_manifest("youtube8m").file("vocabulary.csv"), tmp_path)
    monkeypatch.setattr(audioset, "FEATURES", f"{server.url}{PLAN}")
    path = manifests.fetch(manifest.file("features.tar.gz"), tmp_path)
    assert path.read_bytes() == server.files[PLAN]


def test_names_come_with_the_files_or_a_line_says_that_they_did_not(server, tmp_path, monkeypatch, capsys):
    lines = ["index,mid,display_name", *(f"{label},/m/{label},Sound {label}" for label in range(527))]
    server.files["/classes.csv"] = "\n".join(lines).encode()
    monkeypatch.setattr(audioset, "CLASSES", f"{server.url}/classes.csv")
    path = vocabulary.fetch_names("audioset", tmp_path / "cache")
    assert vocabulary.read_vocabulary(path)["name"][526] == "Sound 526" and path.parent == tmp_path / "cache"
    assert capsys.readouterr().out.count("\n") <= 1
    monkeypatch.setattr(youtube8m, "VOCABULARY", f"{server.url}/classes.csv")  # too few, as an error page would be
    assert vocabulary.fetch_names("youtube8m", tmp_path / "cache") is None
    assert "labels are shown by their numbers" in capsys.readouterr().out


def test_the_manifests_numbers_agree_with_the_code():
    counts = manifests.load_manifest("youtube8m").counts
    assert counts["shards_per_partition"] == youtube8m.SHARDS
    files = [f"validate{number:04d}.tfrecord" for number in range(youtube8m.SHARDS)]
    sides = splits.split_shards(files)
    assert counts["paper"]["held_out_shards"] == len(sides["validation"])
    assert counts["paper"]["training_validate_shards"] == len(sides["train"])
    # 3 224 of 3 844 validate shards: within 0.1 % of the training videos that the paper's authors counted
    expected = counts["videos"]["train"] + counts["videos"]["validate"] * 3224 / 3844
    assert counts["paper"]["training_videos"] == pytest.approx(expected, rel=1e-3)
    assert (runtime.repo_root() / "data_manifests" / "audioset.yaml").is_file()
