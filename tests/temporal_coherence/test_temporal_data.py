"""Names, lists and frames: against the thesis's own loop, the official lists and closed forms."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from helpers import intake, pictures, runtime, video
from helpers.temporal_coherence import cutting, data
from helpers.temporal_coherence.config import SPORTS
from helpers.temporal_coherence.sources import ucf101
from tests.films import damaged, film

SHARED = runtime.repo_root().parent / "shared" / "data" / "ucf101"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="real clips are not here")
OFFICIAL = {
    "Archery": (104, 41), "Billiards": (110, 40), "Bowling": (112, 43), "GolfSwing": (100, 39), "HammerThrow": (105, 45),
    "HorseRace": (89, 35), "Rowing": (101, 36), "Skiing": (95, 40), "SoccerPenalty": (96, 41), "TennisSwing": (117, 49),
}  # fmt: skip


@pytest.mark.parametrize(
    "name, parts",
    [
        ("v_Archery_g01_c02.avi", ("Archery", 1, 2)),
        ("HandstandPushups/v_HandStandPushups_g25_c07.avi", ("HandStandPushups", 25, 7)),
        ("v_YoYo_g10_c01", ("YoYo", 10, 1)),
        ("v_Two_Words_g09_c03.mp4", ("Two_Words", 9, 3)),
    ],
)
def test_parse_name(name, parts):
    assert data.parse_name(name) == parts


@pytest.mark.parametrize(
    "name", ["Archery.avi", "v_Archery_g1_c02.avi", "v_Archery_g01_c2.avi", "x_v_A_g01_c01.avi", ""]
)
def test_parse_name_refuses(name):
    with pytest.raises(ValueError, match="not a UCF101 name"):
        data.parse_name(name)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lists_in_both_line_ends(tmp_path, end):
    (tmp_path / "trainlist01.txt").write_bytes(f"Archery/v_Archery_g08_c01.avi 3{end}B/b.avi 4{end}".encode())
    (tmp_path / "testlist01.txt").write_bytes(f"Archery/v_Archery_g01_c01.avi{end}{end}".encode())
    train, test = ucf101.read_lists(tmp_path, 1)
    assert train == ["Archery/v_Archery_g08_c01.avi", "B/b.avi"] and test == ["Archery/v_Archery_g01_c01.avi"]


def test_official_lists_hold_the_known_counts():
    train, test = ucf101.official_lists(1)
    assert (len(train), len(test), len(set(train) | set(test))) == (9537, 3783, 13320)
    for label, counts in OFFICIAL.items():
        assert tuple(sum(Path(name).parts[0] == label for name in side) for side in (train, test)) == counts
    assert tuple(OFFICIAL) == SPORTS
    assert sum(a for a, _ in OFFICIAL.values()) == 1029 and sum(b for _, b in OFFICIAL.values()) == 409
    assert {data.parse_name(name)[1] for name in test} == set(range(1, 8))
    assert {data.parse_name(name)[1] for name in train} == set(range(8, 26))


@needs_shared
@pytest.mark.parametrize("fold", [1, 2, 3])
def test_official_lists_equal_the_genuine_files(fold):
    for ours, theirs in zip(
        ucf101.official_lists(fold), ucf101.read_lists(SHARED / "ucfTrainTestlist", fold), strict=True
    ):
        assert sorted(ours) == sorted(theirs)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """37 frames, each with its number as a brightness, under a UCF101 name."""
    folder = tmp_path_factory.mktemp("clips") / "Rowing"
    frames = [np.full((48, 64, 3), 40 + 5 * i, np.uint8) for i in range(37)]
    video.write_video(folder / "v_Rowing_g08_c01.avi", frames)
    return folder / "v_Rowing_g08_c01.avi"


def thesis_loop(path, out, step, negative_every, size):
    """The window of two frames as the thesis wrote it, with OpenCV only."""
    out.mkdir(parents=True)
    capture = cv2.VideoCapture(str(path))
    done, current = capture.read()
    following_done, following = capture.read()
    i = k = 0
    while done and following_done:
        if i % step == 0:
            cv2.imwrite(str(out / f"query_frame_{k:05d}.jpg"), cv2.resize(current, (size, size)))
            if k % negative_every != 0:
                cv2.imwrite(str(out / f"next_frame_{k:05d}.jpg"), cv2.resize(following, (size, size)))
            k += 1
        current = following
        following_done, following = capture.read()
        i += 1


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("step, negative_every", [(10, 5), (1, 5), (3, 2), (7, 1)])
def test_same_files_as_the_thesis_loop(clip, tmp_path, step, negative_every):
    thesis_loop(clip, tmp_path / "theirs", step, negative_every, 50)
    table = data.extract_pairs(clip, tmp_path / "ours", step, negative_every, 1, 50)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    assert list(table.columns) == cutting.PAIR_COLUMNS
    assert table["frame_index"].tolist() == [step * k for k in range(len(table))]
    assert ((table["path_next"] == "") == (table["k"] % negative_every == 0)).all()
    assert (table[["class", "group", "clip", "decoded_frames"]] == ["Rowing", 8, 1, 37]).all(axis=None)
    assert all(Path(path).is_file() for path in table["path_query"])


@needs_shared
def test_same_files_as_the_thesis_loop_on_a_real_clip(tmp_path):
    real = next((SHARED / "UCF-101" / "Diving").glob("*.avi"))
    thesis_loop(real, tmp_path / "theirs", 10, 5, 227)
    data.extract_pairs(real, tmp_path / "ours")
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")


@pytest.mark.parametrize("n, counts", [(0, (0, 0, 0)), (1, (0, 0, 0)), (2, (1, 1, 0)), (11, (1, 1, 0)), (12, (2, 1, 1)),
                                       (22, (3, 1, 2)), (51, (5, 1, 4)), (52, (6, 2, 4)), (187, (19, 4, 15))])  # fmt: skip
def test_closed_form(n, counts):
    assert cutting.expected_counts(n, step=10, negative_every=5, gap=1) == counts


@pytest.mark.parametrize("n", [1, 2, 11, 12, 22])
@pytest.mark.parametrize("gap", [1, 5, 10])
def test_files_follow_the_closed_form(tmp_path, n, gap):
    path = tmp_path / "v_A_g01_c01.avi"
    video.write_video(path, [np.full((32, 32, 3), 10 * i, np.uint8) for i in range(n)])
    table = data.extract_pairs(path, tmp_path / "out", gap=gap, size=32)
    queries, negatives, nexts = cutting.expected_counts(n, step=10, negative_every=5, gap=gap)
    assert len(table) == queries and (table["path_next"] == "").sum() == negatives
    names = [p.name for p in (tmp_path / "out").iterdir()]
    assert sum(name.startswith("next_") for name in names) == nexts and len(names) == queries + nexts


@pytest.mark.parametrize("gap", [1, 4, 10])
def test_partner_is_gap_frames_later(clip, tmp_path, gap):
    table = data.extract_pairs(clip, tmp_path / "out", gap=gap, size=32)
    for row in table[table["path_next"] != ""].itertuples():
        levels = [pictures.read_picture(path).mean() for path in (row.path_query, row.path_next)]
        assert levels == pytest.approx([40 + 5 * row.frame_index, 40 + 5 * (row.frame_index + gap)], abs=3)


def test_rerun_replaces_and_leaves_no_rest(clip, tmp_path):
    out = tmp_path / "out"
    data.extract_pairs(clip, out, step=5, size=32)
    data.extract_pairs(clip, out, size=32)
    assert len(list(out.glob("query*"))) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("make, error", [
    (lambda p: None, FileNotFoundError), (lambda p: p.mkdir(), ValueError),
    (lambda p: p.write_text("no video"), ValueError), (lambda p: p.touch(), ValueError)])  # fmt: skip
def test_bad_clips_leave_nothing(tmp_path, make, error):
    make(tmp_path / "v_A_g01_c01.avi")
    with pytest.raises(error):
        data.extract_pairs(tmp_path / "v_A_g01_c01.avi", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_a_truncated_clip_gives_what_decodes(clip, tmp_path):
    cut = tmp_path / "v_Rowing_g08_c02.avi"
    cut.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    table = data.extract_pairs(cut, tmp_path / "out", step=2, size=32)
    assert (table["header_frames"] == 37).all() and 2 <= table["decoded_frames"].iloc[0] < 37
    assert len(table) == cutting.expected_counts(table["decoded_frames"].iloc[0], step=2, negative_every=5, gap=1)[0]


def make_tree(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\1\2\xfe" * 9)  # no film, but nothing else either: the suffix decides
    return root


def test_find_clips(tmp_path):
    root = make_tree(
        tmp_path / "clips",
        ["B/v_B_g01_c01.avi", "A/v_A_g02_c03.MP4", "A/holiday.mov", "A/notes.txt", ".x/v_C_g01_c01.avi"],
    )
    found = data.find_clips(root)
    assert found.to_dict("split")["data"] == [
        ["A", 0, 1001, 1, "A/holiday.mov"],
        ["A", 0, 2, 3, "A/v_A_g02_c03.MP4"],
        ["B", 1, 1, 1, "B/v_B_g01_c01.avi"],
    ]
    assert data.find_clips(root, ("B",))["label"].tolist() == [0]
    with pytest.raises(ValueError, match="C, D have no clip in clips; found: A, B"):
        data.find_clips(root, ("C", "D", "A"))
    with pytest.raises(FileNotFoundError, match="no folder"):
        data.find_clips(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no video in empty"):
        data.find_clips(make_tree(tmp_path / "empty", ["A/notes.txt"]))


TREES = {  # files -> class and group of each, in order of name; None: left out
    "official lists' folders, flat": {"train/v_A_g08_c01.avi": ("A", 8), "test/v_B_g01_c01.avi": ("B", 1)},
    "a folder of sides": {"train/A/x.avi": ("A", 1001), "val/A/y.avi": ("A", 1002), "test/B/x.avi": ("B", 1001)},
    "a class called test": {"test/x.avi": ("test", 1001), "walk/x.avi": ("walk", 1001)},
    "one folder more": {"UCF-101/A/v_A_g01_c01.avi": ("A", 1), "UCF-101/B/v_B_g02_c01.avi": ("B", 2)},
    "deeper": {"A/2024/x.avi": ("A", 1001), "A/2025/x.avi": ("A", 1002), "B/x.avi": ("B", 1001)},
    "flat, by their names": {"v_A_g01_c01.avi": ("A", 1), "v_B_g02_c01.webm": ("B", 2), "holiday.mov": None},
    "all suffixes": {
        f"A/x{n:02d}.{s}": ("A", 1001 + n) for n, s in enumerate(("3gp", "GIF", "m4v", "MPG", "ts", "wmv"))
    },
}


@pytest.mark.parametrize("name", TREES)
def test_folders_of_any_depth(tmp_path, name):
    expected = TREES[name]
    found = intake.walk(make_tree(tmp_path, expected), {intake.VIDEO})
    clips = data.find_clips(found).set_index("video")
    assert {path: (row["class"], row["group"]) for path, row in clips.iterrows()} == {
        path: row for path, row in expected.items() if row
    }
    assert sorted(found.left_out["file"]) == sorted(path for path, row in expected.items() if row is None)


def test_folders_of_sides_are_told(tmp_path, capsys):
    data.find_clips(make_tree(tmp_path / "mine", ["train/A/x.avi", "test/A/x.avi"]))
    assert capsys.readouterr().out == ("folders test, train of mine are no classes; `split_by` draws the sides anew\n")


def test_preprocess_clip_is_done_once(clip, tmp_path):
    row = {"class": "Rowing", "label": 4, "group": 8, "clip": 1, "video": "Rowing/v_Rowing_g08_c01.avi"}
    options = {"step": 10, "negative_every": 5, "gap": 1, "size": 32, "quality": 95}
    done = cutting.preprocess_clip(row, clip.parents[1], tmp_path, options)
    assert done == {**row, "decoded_frames": 37, "header_frames": 37, "pairs": 4, "note": ""}
    frame = tmp_path / "frames/Rowing/v_Rowing_g08_c01/query_frame_00000.jpg"
    before = frame.stat().st_mtime_ns
    assert cutting.preprocess_clip(row, tmp_path / "gone", tmp_path, options) == done
    assert frame.stat().st_mtime_ns == before
    shutil.rmtree(frame.parent)
    assert cutting.preprocess_clip(row, clip.parents[1], tmp_path, options) == done
    folders = cutting.frames_name(row["video"]) + "/"
    pairs = cutting.list_pairs(pd.DataFrame([done]), folders, step=10, negative_every=5)
    assert (
        pairs["path_query"][0] == "frames/Rowing/v_Rowing_g08_c01/query_frame_00000.jpg" and (pairs["label"] == 4).all()
    )


def test_a_gap_in_the_film_is_told_with_the_clip(tmp_path):
    rng = np.random.default_rng(0)
    frames = (np.full((96, 128, 3), 3 * n, np.uint8) + rng.integers(0, 90, (96, 128, 3), np.uint8) for n in range(50))
    path = film(tmp_path / "holiday.mpg", frames, np.arange(50) / 25, codec="mpeg1video", tick=25, g=10)
    damaged(path, count=3000)
    row = {"class": "A", "label": 0, "group": 1, "clip": 1, "video": path.name}
    options = {"step": 10, "negative_every": 5, "gap": 1, "size": 32, "quality": 95}
    for _ in range(2):  # the second time from what the first left
        done = cutting.preprocess_clip(row, tmp_path, tmp_path / "out", options)
        assert done["decoded_frames"] < 50 and done["note"].startswith("no picture from")
