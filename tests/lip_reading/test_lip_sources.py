"""Folders in every layout, GRID's names and alignments, and GRID's archives from a server on this machine."""

import contextlib
import hashlib
import io
import json
import unicodedata
import zipfile

import download_server
import numpy as np
import pytest

from helpers import runtime, video
from helpers.fetch import manifests
from helpers.lip_reading.sources import grid, local

SHARED = runtime.repo_root().parent / "shared/data/lips"


def make_tree(root, paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"\1\2\xfe" * 9)  # no film, but nothing else either: the suffix decides
    return root


@pytest.mark.parametrize(
    "layout, paths, rows",
    [
        (
            "split/speaker/class",
            ["train/s1/1_Left/a.mp4", "Val/s2/1_Left/b.mov", "test/s3/2_Right/c.webm"],
            [("1_Left", "s1", "train"), ("1_Left", "s2", "validation"), ("2_Right", "s3", "test")],
        ),
        (
            "class/split",
            ["ABOUT/train/ABOUT_00001.mp4", "ABOUT/val/ABOUT_00001.mp4", "YEARS/test/YEARS_00001.mp4"],
            [("ABOUT", "", "train"), ("ABOUT", "", "validation"), ("YEARS", "", "test")],
        ),
        ("split/class", ["train/cat/a.mp4", "validation/cat/b.mp4"], [("cat", "", "train"), ("cat", "", "validation")]),
        ("speaker/class", ["s1/cat/a.mp4", "s2/dog/a.mp4"], [("cat", "s1", ""), ("dog", "s2", "")]),
        ("class", ["cat/1.avi", "dog/1.mpg"], [("cat", "", ""), ("dog", "", "")]),
    ],
)
@pytest.mark.parametrize("told", [True, False])
def test_layouts(tmp_path, layout, paths, rows, told):
    hidden = [f".cache/{paths[0]}", paths[0].replace(".", "_x.").replace("/", "/.", 1), "notes.txt"]
    make_tree(tmp_path, [*paths, *hidden, f"{paths[0]}.txt"])
    table = local.find_clips(tmp_path, layout if told else "auto")
    assert list(table.columns) == list(local.COLUMNS) and sorted(paths) == list(table["path"])
    found = dict(
        zip(table["path"], table[["label", "speaker", "split"]].itertuples(index=False, name=None), strict=True)
    )
    assert found == dict(zip(paths, rows, strict=True))
    assert table[["frames", "fps", "start", "end"]].isna().all(axis=None)


@pytest.mark.parametrize(
    "paths, layout, words",
    [
        ([], "auto", "no clip below"),
        (["cat/a.txt"], "auto", "such as cat/a.txt: of no kind that is known; used here: video"),
        (["s1/test/a.mp4", "s1/val/a.mp4"], "class/split/x", "layout: received"),
        (["cat/a.mp4", "s1/cat/a.mp4"], "auto", "different depths (cat/a.mp4, s1/cat/a.mp4)"),
        (["a.mp4"], "auto", "cannot tell what the folders"),
        (["train/a.mp4", "test/b.mp4"], "auto", "cannot tell what the folders"),
        (["x/s1/cat/a.mp4"], "auto", "cannot tell what the folders"),
        (["x/s1/cat/a.mp4"], "split/speaker/class", "received split 'x'"),
        (["cat/a.mp4"], "speaker/class", "received 1 folders; allowed: speaker/label/clip"),
        (["cat/a.mp4"], "class/speaker", "layout: received 'class/speaker'"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, paths, layout, words):
    with pytest.raises(ValueError) as caught:
        local.find_clips(make_tree(tmp_path, paths), layout)
    assert words in str(caught.value)
    with pytest.raises(FileNotFoundError, match="no folder"):
        local.find_clips(tmp_path / "none", "auto")


def test_words_called_test_and_val_are_no_sides(tmp_path, capsys):
    table = local.find_clips(make_tree(tmp_path, ["s1/test/a.mp4", "s2/val/a.mp4"]), "auto")
    assert table["label"].tolist() == ["test", "val"] and table["speaker"].tolist() == ["s1", "s2"]
    assert "are read as speaker/class; if they are not, write `layout`" in capsys.readouterr().out


def test_one_class_however_it_is_written(tmp_path):
    word = "26_Калибровкой"
    apart = unicodedata.normalize("NFD", word)
    assert apart != word
    make_tree(tmp_path, [f"s1/{apart}/a.mp4", f"s2/{word}/a.mp4", "s1/Cat/a.mp4", "s2/cat/a.mp4"])
    table = local.find_clips(tmp_path, "auto")
    assert set(table["label"]) == {word, "Cat"}
    assert all((tmp_path / path).is_file() for path in table["path"])  # the path stays as it is on disk


def test_order_and_wording_of_classes():
    assert local.class_names(["10_Cut", "2_Right", "1_Left", "2_Right"]) == ["1_Left", "2_Right", "10_Cut"]
    assert local.class_names(["b", "a", "10_c"]) == ["10_c", "a", "b"]
    assert [local.phrase(name) for name in ("12_Shut_down", "cat", "7_", "ABOUT")] == ["Shut down", "cat", "7", "ABOUT"]


def test_frames_are_counted_and_broken_clips_named(tmp_path):
    frames = [np.full((32, 32, 3), 9 * t, np.uint8) for t in range(7)]
    video.write_video(tmp_path / "cat/a.mp4", frames, 30)
    (tmp_path / "cat/b.mp4").write_bytes(b"\1\2no video")
    table = local.measure(local.find_clips(tmp_path, "auto"), tmp_path, jobs=1)
    assert table.loc[0, ["frames", "fps", "error"]].tolist() == [7, 30, ""]
    assert np.isnan(table.loc[1, "frames"]) and "'cat/b.mp4'" in table.loc[1, "error"]


ALIGN = "0 12250 sil\n12250 19250 set\n19250 27250 white\n27250 30500 with\n30500 36000 p\n36000 43250 two\n43250 55250 soon\n55250 74500 sil\n"  # noqa: E501


@pytest.mark.parametrize(
    "name, words",
    [
        ("bbaf2n.mpg", "bin blue at f two now"),
        ("pgwzza", "place green with z zero again"),
        ("pgwzzs", "place green with z zero soon"),
        ("id2_vcd_swwp2s.mpg", "set white with p two soon"),
        ("lrby9a", "lay red by y nine again"),
        ("sgiw1p", None),  # no letter w
        ("bbaf2nn", None),
        ("cat.mpg", None),
    ],
)
def test_names_tell_sentences(name, words):
    if words is None:
        with pytest.raises(ValueError, match="such as bbaf2n"):
            grid.parse_name(name)
    else:
        assert " ".join(grid.parse_name(name).values()) == words


def grid_tree(root):
    """Two talkers whose alignment folders have each other's names, as in the genuine record, and some odd files."""
    for talker, folder, names in (("s5", "s6", ["swwp2s", "bbaf2n"]), ("s6", "s5", ["lrby9a", "swwp2s", "pgwzzs"])):
        for name in names:
            make_tree(root, [f"{talker}/{talker}/{name}.mpg", f"alignments/alignments/{folder}/{name}.align"])
            said = iter(grid.parse_name(name).values())
            lines = [
                " ".join([*line.split()[:2], next(said) if "sil" not in line else "sil"]) for line in ALIGN.splitlines()
            ]
            lines.insert(3, "27250 27250 sp")
            (root / f"alignments/alignments/{folder}/{name}.align").write_text("\n".join(lines))
    return make_tree(root, ["s5/s5/.DS_Store", "__MACOSX/s5/bbaf2n.mpg"])


def test_words_are_cut_by_the_alignment(tmp_path):
    table, problems = grid.read_table(grid_tree(tmp_path), slot="digit", margin=3)
    assert problems.empty and list(table.columns) == list(local.COLUMNS)
    assert sorted(zip(table["speaker"], table["label"], strict=True)) == [
        ("s5", "two"), ("s5", "two"), ("s6", "nine"), ("s6", "two"), ("s6", "zero"),
    ]  # fmt: skip
    # "two" lasts from 36000 to 43250: frames 36 to 43.25, and three more on both sides
    assert table["start"].unique() == pytest.approx([33 / 25]) and table["end"].unique() == pytest.approx([46.25 / 25])
    first = grid.read_table(tmp_path, slot="command", margin=20)[0]
    assert set(first["start"]) == {0.0} and set(first["fps"]) == {25}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_alignments_as_other_programs_write_them(tmp_path, encoding):
    (tmp_path / "a.align").write_text(ALIGN, encoding="utf-8")
    (tmp_path / "b.align").write_bytes(ALIGN.upper().replace("\n", "\r\n").encode(encoding))
    assert grid.read_align(tmp_path / "b.align").equals(grid.read_align(tmp_path / "a.align"))


@pytest.mark.parametrize("time", ["²", "9" * 5000, "-1", "1_0"])
def test_times_that_are_no_numbers_are_told_with_their_line(tmp_path, time):
    (tmp_path / "a.align").write_text(f"0 5 sil\n{time} 9 bin\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"^a\.align, line 2: received"):
        grid.read_align(tmp_path / "a.align")


def test_what_cannot_be_used_is_told(tmp_path):
    root = grid_tree(tmp_path)
    make_tree(root, ["s5/s5/bbax9n.mpg", "s6/s6/nonsense.mpg"])
    align = root / "alignments/alignments/s5"
    (align / "lrby9a.align").write_text(ALIGN)
    (align / "pgwzzs.align").write_text("0 5 place\n5 2 green\n")
    table, problems = grid.read_table(root, slot="colour")
    assert len(table) == 3
    assert dict(zip(problems["file"].str.rsplit("/", n=1).str[-1], problems["reason"], strict=True)) == {
        "bbax9n.mpg": "no alignment of this sentence",
        "nonsense.mpg": grid_error("nonsense.mpg"),
        "lrby9a.mpg": "the name says red, the alignment white",
        "pgwzzs.mpg": "pgwzzs.align, line 2: received '5 2 green'; allowed: start end word",
    }
    with pytest.raises(ValueError, match="slot: received 'color'"):
        grid.read_table(root, slot="color")
    with pytest.raises(ValueError, match=r"no sentence of GRID .* no \.mpg"):
        grid.read_table(root / "alignments")


def grid_error(name):
    with pytest.raises(ValueError) as caught:
        grid.parse_name(name)
    return str(caught.value)


def test_talkers_find_their_alignments():
    clips = {"s1": {"a", "b"}, "s5": {"c", "d", "e"}, "s20": {"x", "y", "c"}}
    aligned = {"s1": {"a", "b", "q"}, "s6": {"c", "d", "e"}, "s5": {"y"}, "s2": {"a", "b"}}
    assert grid.match_alignments(clips, aligned) == {"s1": "s1", "s5": "s6"}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real clips")
def test_real_alignment():
    told = grid.read_align(SHARED / "grid/swwp2s.align")
    assert list(told["word"]) == list(grid.parse_name("id2_vcd_swwp2s").values())
    assert told["start"].iloc[0] == 0.49 and told["end"].iloc[-1] == 2.21


NAMES = ["bbaf2n", "lrby9a", "pgwzzs", "swwp2s"]


def zipped(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def zenodo(monkeypatch):
    """The record with the alignments and one talker."""
    files = {
        "s3.zip": zipped(
            {f"s3/{name}.mpg": name.encode() * 50 for name in NAMES} | {"__MACOSX/s3/x.mpg": b"", "s3/a.txt": b""}
        ),
        "alignments.zip": zipped({f"alignments/s3/{name}.align": ALIGN for name in NAMES}),
    }
    notes = [
        {"key": key, "size": len(body), "checksum": f"md5:{hashlib.md5(body).hexdigest()}"}
        for key, body in files.items()
    ]

    class Handler(download_server.Handler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            self.server.state.body = files.get(name) or json.dumps({"files": notes}).encode()
            super().do_GET()

    monkeypatch.setattr(download_server, "Handler", Handler)
    with download_server.serve(monkeypatch) as state:
        monkeypatch.setattr(grid, "SITE", state.url.rsplit("/", 1)[0])
        state.files, state.notes = files, notes
        yield state


def mpgs(folder):
    return sorted(path.stem for path in folder.rglob("*.mpg"))


def test_whole_archives_are_fetched_once_and_checked(zenodo, tmp_path):
    out, cache = tmp_path / "grid", tmp_path / "cache"
    grid.fetch(out, [3], cache=cache, **download_server.FAST)
    assert mpgs(out) == NAMES and len(list(out.rglob("*.align"))) == 4 and not list(out.rglob("__MACOSX"))
    asked = len(zenodo.requests)
    grid.fetch(out, [3], cache=cache, **download_server.FAST)
    assert len(zenodo.requests) == asked
    table, problems = grid.read_table(out, slot="letter")
    assert list(table["label"]) == ["p"] and len(problems) == 3  # all four alignments are of one sentence
    grid.fetch(tmp_path / "again", [3], cache=cache, **download_server.FAST)
    assert len(zenodo.requests) == asked  # from the cache


@pytest.mark.parametrize("ranges", [True, False])
def test_some_sentences_only(zenodo, tmp_path, ranges):
    zenodo.no_ranges = not ranges
    grid.fetch(tmp_path / "grid", [3], clips=2, cache=tmp_path, **download_server.FAST)
    chosen = mpgs(tmp_path / "grid")
    assert chosen == [name[3:-4] for name in grid.choose([f"s3/{name}.mpg" for name in reversed(NAMES)], 2)]
    assert len(chosen) == 2 and (tmp_path / "s3.zip").exists() != ranges
    for path in (tmp_path / "grid").rglob("*.mpg"):
        assert path.read_bytes() == path.stem.encode() * 50
    grid.fetch(tmp_path / "grid", [3], clips=2, cache=tmp_path, **download_server.FAST)


def test_a_wrong_archive_is_refused(zenodo, tmp_path):
    zenodo.notes[0]["checksum"] = "md5:" + "0" * 32
    with pytest.raises(manifests.DownloadError, match="MD5"):
        grid.fetch(tmp_path / "grid", [3], cache=tmp_path, **download_server.FAST)
    assert not (tmp_path / "s3.zip").exists()
    with pytest.raises(manifests.DownloadError, match=r"has no s4\.zip"):
        grid.fetch(tmp_path / "grid", [4], clips=2, cache=tmp_path, **download_server.FAST)
    with contextlib.suppress(KeyError):
        del zenodo.notes[1]["size"]
    with pytest.raises(manifests.DownloadError, match="api/records"):
        grid.fetch(tmp_path / "other", [3], clips=2, cache=tmp_path, **download_server.FAST)


def test_the_manifest_counts_what_the_names_can_say():
    manifest = manifests.load_manifest("grid")
    assert len(manifest.files) == manifest.counts["speakers"] + 1
    assert "s21.zip" not in {file.name for file in manifest.files}
    assert np.prod([len(codes) for codes in grid.WORDS.values()]) == 64_000  # as the corpus's makers count
