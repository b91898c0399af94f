"""The table of VoxCeleb and the cutting of clips, on drawn videos and, where it is there, the genuine table."""

import numpy as np
import pytest

from helpers import runtime, video
from helpers.face_animation import data
from helpers.face_animation.sources import voxceleb
from helpers.fetch import manifests
from tests.films import SLOW_THEN_FAST, film, numbered

GENUINE = runtime.repo_root().parent / "shared" / "data" / "faces" / "vox-metadata.csv"
HEADER = "video_id,start,end,bbox,fps,width,height,partition,person_id"
ROW = "vid_-1,10,20,40-10-120-90,25,160,120,train,id10001"


@pytest.fixture
def read(tmp_path):
    def read(*rows, header=HEADER):
        (tmp_path / "table.csv").write_text("\n".join([header, *rows]) + "\n")
        return voxceleb.read_metadata(tmp_path / "table.csv")

    return read


def test_reads_a_row(read):
    (row,) = read(ROW).to_dict("records")
    expected = {"left": 40, "top": 10, "right": 120, "bottom": 90, "frames": 10, "fps": 25, "start": 10, "end": 20}
    assert {key: row[key] for key in expected} == expected
    assert row["clip"] == "id10001#vid_-1#000010#000020.mp4"


@pytest.mark.parametrize(
    ("old", "new"),
    [("10,20", "20,20"), ("10,20", "-1,20"), ("40-10-120-90", "120-10-40-90"), ("40-10-120-90", "40-10-120"), ("train", "dev"),
     ("25,", "0,"), ("160", "x"), ("id10001", "../x"), ("vid_-1", "a b"), ("10,20", "10,"), ("40-10-120-90", "40--10-120-90")],
)  # fmt: skip
def test_bad_rows(read, old, new):
    with pytest.raises(ValueError, match=r"table.csv: 1 bad rows, the first in line 3: received .*allowed"):
        read(ROW, ROW.replace(old, new))


def test_missing_column(read):
    with pytest.raises(ValueError, match="no column bbox; expected"):
        read(ROW, header=HEADER.replace("bbox", "box"))


@pytest.mark.parametrize(
    ("header", "words"), [(HEADER, "no row"), ("", "an? .* no metadata"), ('"', "a text, no metadata")]
)
def test_what_is_no_table_is_named(read, header, words):
    with pytest.raises(ValueError, match=rf"^table\.csv: {words}"):
        read(header=header)


def test_flaws_and_cleaning(read):
    table = read(
        ROW,
        ROW,  # double
        ROW.replace("10,20", "30,36").replace("120-90", "170-90"),  # outside
        ROW.replace("id10001", "id2").replace("vid_-1", "b"),
        ROW.replace("id10001", "id2").replace("vid_-1", "c").replace("train", "test"),  # id2 on both sides
        ROW.replace("id10001", "id3").replace("vid_-1", "d"),
        ROW.replace("id10001", "id4").replace("vid_-1", "d").replace("train", "test"),  # video d on both sides
        ROW.replace("id10001", "id5").replace("vid_-1", "e"),
    )
    flaws = voxceleb.find_flaws(table)
    assert flaws == {"doubles": 1, "persons": ["id2"], "videos": ["d"], "clips": [], "outside": 1}
    cleaned = voxceleb.clean(table)
    assert sorted(cleaned["person_id"]) == ["id10001", "id10001", "id2", "id4", "id5"]
    assert cleaned["partition"].value_counts().to_dict() == {"train": 3, "test": 2}
    train = voxceleb.summarise(table).set_index("partition").loc["train"]
    assert (train["rows"], train["unique"], train["videos"], train["persons"]) == (6, 5, 4, 4)
    assert (train["min"], train["median"], train["max"], train["total"]) == (6, 10, 10, 56)
    assert train["mean"] == pytest.approx(56 / 6) and train["hours"] == pytest.approx(56 / 25 / 3600)


@pytest.mark.skipif(not GENUINE.is_file(), reason="the genuine table is not here")
def test_genuine_table_has_the_counts_of_the_manifest():
    counts = manifests.load_manifest("voxceleb").counts
    manifests.load_manifest("voxceleb").file("vox-metadata.csv").check(GENUINE)
    table = voxceleb.read_metadata(GENUINE)
    flaws, sides = voxceleb.find_flaws(table), voxceleb.summarise(table).set_index("partition")
    assert (len(table), flaws["doubles"], flaws["outside"]) == (counts["rows"], counts["doubles"], counts["outside"])
    assert flaws["persons"] == counts["both_sides"]["persons"] and flaws["videos"] == counts["both_sides"]["videos"]
    assert len(flaws["clips"]) == counts["both_sides"]["clips"] and len(voxceleb.clean(table)) == counts["clean"]
    for side in ("train", "test"):
        found = sides.loc[side].rename({"total": "frames"})
        assert {key: int(found[key]) for key in counts[side]} == counts[side]
        assert [int(sides.loc[side, "min"]), int(sides.loc[side, "max"])] == counts["frames"]
    assert round(sides.loc["train", "mean"], 1) == 204.8 and round(sides.loc["train", "hours"], 1) == 44.5


def test_manifests_load():
    assert manifests.load_manifest("voxceleb").files[0].sources[0].url.startswith("https://")
    assert manifests.load_manifest("first_order_motion").counts["assigned"] == {"kp_detector": 64, "generator": 168}


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (25, range(10, 20)),
        (30, range(12, 24)),  # 10*30/25 = 12 to 20*30/25 = 24
        (12.5, range(5, 10)),
        (24, range(10, 20)),  # 9.6 to 19.2
        (29.97, range(12, 24)),  # 11.988 to 23.976
    ],
)
def test_frames_of_a_clip_by_the_rate(rate, expected):
    assert [n for n in range(60) if voxceleb.in_clip(n / rate, 10, 20)] == list(expected)


@pytest.mark.parametrize(
    ("box", "reference", "actual", "expected"),
    [
        ((624, 48, 1018, 553), (720, 1280), (720, 1280), (624, 48, 1018, 553)),
        ((624, 49, 1017, 553), (720, 1280), (360, 640), (312, 24, 508, 276)),  # 24.5, 508.5, 276.5 cut off
        ((10, 20, 30, 40), (100, 200), (300, 400), (20, 60, 60, 120)),  # x by 2, y by 3
        ((389, 0, 956, 776), (720, 1280), (720, 1280), (389, 0, 956, 720)),
        ((1285, 730, 1290, 740), (720, 1280), (720, 1280), (1279, 719, 1280, 720)),
    ],
)
def test_boxes(box, reference, actual, expected):
    assert voxceleb.scale_box(box, reference, actual) == expected


def write_source(path, *, frames=40, rate=30, size=(60, 80)):
    """A video whose grey level is 6 times the frame's number in the box, and 255 outside."""
    pictures = np.full((frames, *size, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        picture[5:45, 20:60] = 6 * number
    video.write_video(path, pictures, rate, codec="MJPG" if path.suffix == ".avi" else None)  # less lossy


def rows_of(read, *rows):
    return read(*rows).to_dict("records")


def test_crops_as_a_folder_of_pictures(tmp_path, read):
    write_source(tmp_path / "vid_-1.avi")
    second = ROW.replace("10,20", "15,28")  # overlaps the first
    late = ROW.replace("10,20", "100,200")
    rows = rows_of(read, ROW, ROW, second, late)  # 160 x 120 reference: the box halves
    found = voxceleb.crop_video(tmp_path / "vid_-1.avi", rows, tmp_path / "out", size=(16, 24), form="png")
    assert [(row["frames"], row["state"]) for row in found] == [
        (12, "made"), (16, "made"), (0, "beyond the end of the video"),
    ]  # fmt: skip
    for name, first, count in (("000010#000020", 12, 12), ("000015#000028", 18, 16)):
        folder = tmp_path / "out" / "train" / f"id10001#vid_-1#{name}.mp4"
        assert sorted(file.name for file in folder.iterdir()) == [f"{n:07d}.png" for n in range(count)]
        clip = data.read_clip(folder)
        assert clip.shape == (count, 16, 24, 3)
        np.testing.assert_allclose(clip[:, 6:10, 8:16].mean((1, 2, 3)), 6 * np.arange(first, first + count), atol=3)
        assert clip[0].max() < 120  # nothing of the white around
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["train"]  # no temporary folder
    again = voxceleb.crop_video(tmp_path / "gone.mp4", rows[:2], tmp_path / "out", size=(16, 24), form="png")
    assert [row["state"] for row in again] == ["there"]


def test_clips_are_cut_by_time(tmp_path, read):
    film(tmp_path / "vid_-1.mp4", map(numbered, range(60)), SLOW_THEN_FAST)
    found = voxceleb.crop_video(
        tmp_path / "vid_-1.mp4", rows_of(read, ROW), tmp_path / "out", size=(16, 24), form="png"
    )
    assert found[0]["frames"] == 4  # from 0.4 to 0.8 s, of which frames 4 to 7 each show 0.1 s


def test_crops_as_videos_in_parallel_and_lists_what_is_gone(tmp_path, read):
    write_source(tmp_path / "own" / "deep" / "a.mp4")
    write_source(tmp_path / "own" / "b.mp4", frames=20)
    (tmp_path / "own" / "broken.mp4").write_bytes(b"no video")
    ids = ("a", "b", "broken", "lost")
    late = ROW.replace("vid_-1", "a").replace("10,20", "100,200").replace("train,id10001", "test,id10002")
    table = read(*(ROW.replace("vid_-1", name) for name in ids), late)
    listed = voxceleb.list_clips(table, tmp_path / "own")
    clips = voxceleb.crop_all(listed, table, tmp_path / "own", tmp_path / "out", size=(16, 16), form="mp4", jobs=2)
    assert clips["path"].tolist() == (clips["partition"] + "/" + clips["clip"]).tolist() and set(clips["form"]) == {
        "video"
    }
    assert clips[["partition", "video", "frames"]].to_numpy().tolist() == [
        ["test", "a", 0], ["train", "a", 12], ["train", "b", 8], ["train", "broken", 0], ["train", "lost", 0],
    ]  # fmt: skip
    beyond, *good, broken, lost = clips["error"]
    assert (beyond, good, lost) == ("beyond the end of the video", ["", ""], "no file of this name")
    assert broken.startswith("ValueError")  # the video of b ends early, and that is no error
    path = tmp_path / "out" / "train" / "id10001#a#000010#000020.mp4"
    assert (video.count_frames(path), video.header_info(path)["fps"]) == (12, 30)
