"""Manifests: the order of a file's sources, what is wrong with a bad one, and the packaged lists of UCF101."""

import csv
import datetime
import shutil
from types import SimpleNamespace

import pytest
import yaml
from download_server import BODY, FAST, OTHER, file_at, names, serve, sha

from helpers import runtime
from helpers.fetch import manifests


@pytest.fixture
def server(monkeypatch):
    with serve(monkeypatch) as state:
        yield state


def test_what_lies_in_the_folder_comes_first_if_it_is_right(server, tmp_path):
    (tmp_path / "data.bin").write_bytes(BODY)
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert server.requests == []
    (tmp_path / "data.bin").write_bytes(OTHER)
    assert manifests.fetch(file_at(server.url), tmp_path, **FAST).read_bytes() == BODY
    assert len(server.requests) == 1
    assert names(tmp_path) == ["data.bin"]


def test_a_python_maker_is_checked_like_any_source(tmp_path, monkeypatch):
    (tmp_path / "maker_of_data.py").write_text(
        "def right(path): path.write_bytes(b'right')\ndef wrong(path): path.write_bytes(b'wrong')\ndef dies(path): 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    sources = [manifests.Source(python=f"maker_of_data:{name}") for name in ("dies", "wrong", "absent", "right")]
    made = manifests.fetch(file_at(sources=tuple(sources), body=b"right"), tmp_path / "out")
    assert made.read_bytes() == b"right"
    with pytest.raises(manifests.DownloadError, match=r"(?s)ZeroDivisionError.*found sha256.*AttributeError"):
        manifests.fetch(file_at(sources=tuple(sources[:3]), body=b"right"), tmp_path / "none")
    assert names(tmp_path / "none") == []


def test_gdown_is_called_by_id(tmp_path, monkeypatch):
    """gdown.download is replaced here: only how it is called, and what becomes of its file, is tested."""
    gdown = pytest.importorskip("gdown")
    calls, results = [], [b"<html>quota</html>", None, BODY]

    def download(url=None, output=None, quiet=False, *, id=None, resume=False):
        calls.append((url, id))
        if (result := results.pop(0)) is None:
            raise RuntimeError("too many users")
        with open(output, "wb") as file:  # noqa: PTH123  (gdown takes and gives text)
            file.write(result)

    monkeypatch.setattr(gdown, "download", download)
    sources = tuple(manifests.Source(gdrive=f"abcdefgh-{number}") for number in range(3))
    with pytest.raises(manifests.DownloadError, match=r"(?s)web page.*RuntimeError: too many users"):
        manifests.fetch(file_at(sources=sources[:2]), tmp_path)
    assert manifests.fetch(file_at(sources=sources[2:]), tmp_path).read_bytes() == BODY
    assert calls == [(None, f"abcdefgh-{number}") for number in range(3)]
    assert names(tmp_path) == ["data.bin"]


def test_large_downloads_are_announced_and_must_fit(tmp_path, monkeypatch, capsys):
    file = file_at("https://a.org/x", size=6_960_400_115)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=5_000_000_000))
    with pytest.raises(OSError, match=r"5\.00 GB free.*6\.96 GB"):
        manifests.fetch(file, tmp_path)
    assert capsys.readouterr().out == "data.bin: 6.96 GB from a.org\n"


def test_fetch_all_takes_a_replacement_only_when_needed(server, tmp_path):
    right, other = file_at(server.url), file_at(server.url, name="other.bin", instead_of="data.bin")
    wrong = file_at(server.url, sha256=sha(OTHER))
    manifest = SimpleNamespace(files=(right, other), file=lambda name: right)
    assert manifests.fetch_all(manifest, tmp_path / "1", names=["data.bin"], **FAST) == {
        "data.bin": tmp_path / "1" / "data.bin"
    }
    manifest = SimpleNamespace(files=(wrong, other), file=lambda name: wrong)
    assert manifests.fetch_all(manifest, tmp_path / "2", names=["data.bin"], **FAST) == {
        "other.bin": tmp_path / "2" / "other.bin"
    }
    manifest = SimpleNamespace(files=(wrong,), file=lambda name: wrong)
    with pytest.raises(manifests.DownloadError, match="found sha256"):
        manifests.fetch_all(manifest, tmp_path / "3", names=["data.bin"], **FAST)


GOOD_MANIFEST = {
    "name": "toy", "title": "Toy", "homepage": "https://a.org", "licence": "CC0", "citation": "none", "terms": "none",
    "files": [{"name": "a.zip", "size": 5, "sha256": "a" * 64, "sources": [{"url": "https://a.org/a.zip"}]}],
    "counts": {"clips": 3},
}  # fmt: skip


def write_manifest(folder, changes, file_changes):
    text = {**GOOD_MANIFEST, **changes}
    if file_changes:
        text["files"] = [{**GOOD_MANIFEST["files"][0], **file_changes}]
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in text.items() if value is not None}))
    return path


URL = {"url": "https://a.org/a"}
SEEN = {"date": "2026-01-23", "source": "https://a.org/issues/1", "found": "It answers 403."}


@pytest.mark.parametrize(
    ("changes", "file_changes", "words"),
    [
        ({"titel": "x"}, {}, "titel"),
        ({"licence": None}, {}, "licence"),
        ({"files": 3}, {}, "files"),
        ({"files": [GOOD_MANIFEST["files"][0]] * 2}, {}, "'a.zip' comes twice"),
        ({"lists": [{"path": "absent.csv", "sha256": "0" * 64, "format": ""}]}, {}, r"lists\[0\].path: .*absent.csv"),
        ({"lists": [{"path": "toy.yaml", "sha256": "0" * 64, "format": ""}]}, {}, r"lists\[0\].sha256: .*expected 000"),
        ({}, {"siez": 5}, r"files\[0\].siez: unknown key"),
        ({}, {"name": "../a"}, r"files\[0\].name: received '../a'"),
        ({}, {"name": 5}, r"files\[0\].name: received 5"),
        ({}, {"size": "5"}, r"files\[0\].size: received '5'"),
        ({}, {"size": True}, r"files\[0\].size: received True"),
        ({}, {"sha256": "ABC"}, r"files\[0\].sha256: received 'ABC'"),
        ({}, {"md5": "a" * 64}, r"files\[0\].md5: received 'aaa.*32 hexadecimal digits"),
        ({}, {"kind": "7z"}, r"files\[0\].kind: received '7z'"),
        ({}, {"sha256": None, "size": None}, r"files\[0\].size"),
        ({}, {"instead_of": "b.zip"}, r"files\[0\].instead_of: received 'b.zip'"),
        ({}, {"instead_of": "a.zip"}, r"files\[0\].instead_of: received 'a.zip'"),
        ({}, {"unpacked_size": 0}, r"files\[0\].unpacked_size: received 0"),
        ({}, {"sources": []}, r"files\[0\].sources"),
        ({}, {"sources": ["https://a.org"]}, r"files\[0\].sources\[0\]: received 'https://a.org'"),
        ({}, {"sources": [URL, {"url": "http://a.org/a"}]}, r"sources\[1\].url: received 'http://a.org/a'"),
        ({}, {"sources": [{"url": "file:///etc/passwd"}]}, "https://"),
        ({}, {"sources": [{"url": "http://localhost.evil.org/a"}]}, "https://"),
        ({}, {"sources": [{**URL, "gdrive": "abcdefgh"}]}, "exactly one"),
        ({}, {"sources": [{"tls": "pinned"}]}, "exactly one"),
        ({}, {"sources": [{"gdrive": "abcdefgh", "tls": "pinned"}]}, "only together with url"),
        ({}, {"sources": [{**URL, "tls": "off"}]}, "verified, pinned"),
        ({}, {"sources": [{"python": "os.system"}]}, "package.module:function"),
        ({}, {"sources": [{**URL, "tls": "pinned"}], "sha256": None}, "sha256: received None.*tls: pinned"),
        ({"checked": [{**SEEN, "date": "2026-13"}]}, {}, r"checked\[0\].date: received '2026-13'"),
        ({"checked": [{**SEEN, "date": datetime.date(2026, 1, 23)}]}, {}, r"checked\[0\].date: .*quote it"),
        ({"checked": [{**SEEN, "source": "a forum"}]}, {}, r"checked\[0\].source: received 'a forum'"),
        ({}, {"sources": [{**URL, "checked": [{**SEEN, "found": " "}]}]}, r"sources\[0\].checked\[0\].found"),
        ({}, {"sources": [{**URL, "checked": [{"date": "2026-01"}]}]}, r"sources\[0\].checked\[0\].source: missing"),
    ],
)
def test_a_bad_manifest_is_one_error_with_file_and_key(tmp_path, changes, file_changes, words):
    path = write_manifest(tmp_path, changes, file_changes)
    with pytest.raises(ValueError, match=words) as caught:
        manifests.load_manifest(path)
    assert "toy.yaml" in str(caught.value)


def test_the_checksum_of_a_list_is_of_its_text(tmp_path):
    """Git on Windows writes CRLF."""
    (tmp_path / "list.csv").write_bytes(b"a,b\r\n1,2\r\n")
    lists = [{"path": "list.csv", "sha256": sha(b"a,b\n1,2\n"), "format": "columns a and b"}]
    loaded = manifests.load_manifest(write_manifest(tmp_path, {"lists": lists}, {}))
    assert loaded.lists == (manifests.PackedList(tmp_path / "list.csv", lists[0]["sha256"], "columns a and b"),)


def test_a_good_manifest_is_read(tmp_path):
    loaded = manifests.load_manifest(write_manifest(tmp_path, {}, {"sources": [{"url": "http://127.0.0.1:8/a"}, URL]}))
    assert (loaded.name, loaded.counts, loaded.files[0].size) == ("toy", {"clips": 3}, 5)
    assert [source.url for source in loaded.file("a.zip").sources] == ["http://127.0.0.1:8/a", "https://a.org/a"]
    with pytest.raises(KeyError, match=r"it has: a\.zip"):
        loaded.file("b.zip")
    with pytest.raises(ValueError, match=r"no manifest called 'nope'; there are: .*ucf101"):
        manifests.load_manifest("nope")


def test_evidence_is_read_below_a_source_and_below_the_manifest(tmp_path):
    path = write_manifest(
        tmp_path, {"checked": [{**SEEN, "address": "b.org"}]}, {"sources": [{**URL, "checked": [SEEN]}]}
    )
    loaded = manifests.load_manifest(path)
    assert loaded.files[0].sources[0].checked == (manifests.Evidence(**SEEN),)
    assert loaded.checked == (manifests.Evidence(**SEEN, address="b.org"),)


def test_ravdess_sums_to_what_another_reader_of_the_record_saw():
    """Sizes and checksums come from two readers of the record; the second tells a sum of 12.44 GiB for the 24 archives."""
    files = manifests.load_manifest("ravdess").files
    assert [file.name for file in files] == [f"Video_Speech_Actor_{actor:02d}.zip" for actor in range(1, 25)]
    assert round(sum(file.size for file in files) / 2**30, 2) == 12.44
    assert len({file.md5 for file in files}) == len({file.size for file in files}) == 24
    assert all(file.sources[0].url.endswith(f"/records/1188976/files/{file.name}") for file in files)


def packed_lists():
    """Read the packaged table as its `format` in the manifest says: ({class: label}, {fold: (train, test)})."""
    labels, folds = {}, {fold: (set(), set()) for fold in (1, 2, 3)}
    with manifests.load_manifest("ucf101").lists[0].path.open(newline="") as file:
        for row in csv.DictReader(file):
            labels[row["class"]] = int(row["label"])
            for group in range(1, 26):
                for clip in range(1, int(row[f"g{group:02d}"]) + 1):
                    name = f"{row['class']}/v_{row['name_in_files']}_g{group:02d}_c{clip:02d}.avi"
                    for fold, (train, test) in folds.items():
                        (test if 7 * fold - 6 <= group <= 7 * fold else train).add(name)
    return labels, folds


def test_ucf101_counts_are_those_of_the_packaged_lists():
    manifest = manifests.load_manifest("ucf101")
    labels, folds = packed_lists()
    counts = manifest.counts
    assert len(labels) == counts["classes"]
    assert sorted(labels.values()) == list(range(1, 102))
    for fold, (train, test) in folds.items():
        assert {"train": len(train), "test": len(test)} == counts["folds"][fold]
        assert len(train | test) == counts["clips"]
    sums = {"train": 0, "test": 0}
    for name, expected in counts["ten_classes"].items():
        found = {
            side: sum(clip.startswith(name + "/") for clip in clips) for side, clips in zip(sums, folds[1], strict=True)
        }
        assert {"label": labels[name], **found} == expected
        sums = {side: sums[side] + found[side] for side in sums}
    assert {**sums, "clips": sum(sums.values())} == {
        key: counts["ten_classes_sum"][key] for key in ("train", "test", "clips")
    }
    assert [file.instead_of for file in manifest.files] == [None, "UCF101_videos.zip", None]
    assert manifest.file("UCF101.rar").sha256 is None


def test_packaged_lists_equal_the_official_ones():
    official = runtime.repo_root().parent / "shared" / "data" / "ucf101" / "ucfTrainTestlist"
    if not official.is_dir():
        pytest.skip("the official lists are not here")

    def lines(name):
        return [line.split() for line in (official / name).read_text().splitlines() if line.strip()]

    labels, folds = packed_lists()
    assert labels == {name: int(label) for label, name in lines("classInd.txt")}
    for fold, (train, test) in folds.items():
        assert train == {name for name, _ in lines(f"trainlist0{fold}.txt")}
        assert test == {name for (name,) in lines(f"testlist0{fold}.txt")}
        assert all(labels[name.split("/")[0]] == int(label) for name, label in lines(f"trainlist0{fold}.txt"))
