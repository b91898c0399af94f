"""Clips on disk: against pictures drawn here, Pillow and scipy."""

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from helpers import intake, video
from helpers.face_animation import data, splits
from helpers.face_animation.sources import local
from tests.films import SLOW_THEN_FAST, film, number_of, numbered

NAMES = [f"id{person}#v{person}#{start:06d}#{start + 9:06d}.mp4" for person in range(6) for start in range(person + 2)]


def frames_of(count, size=16, seed=0):
    """Frames that differ in their mean level by 8, smooth enough for any codec."""
    ramp = np.linspace(0, 30, size)[:, None, None] + np.zeros((1, size, 3))
    return np.stack([ramp + 8 * number + [0, 20, 40] for number in range(count)]).astype(np.uint8)


def write_folder(path, frames, *, name="{:07d}.png"):
    path.mkdir(parents=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(path / name.format(number))


def write_form(form, path, frames):
    if form == "folder":
        write_folder(path, frames)
    elif form == "gif":
        first, *rest = [Image.fromarray(frame) for frame in frames]
        first.save(path, save_all=True, append_images=rest, duration=40)
    elif form == "strip":
        Image.fromarray(np.concatenate(frames, axis=1)).save(path)
    else:
        video.write_video(path, frames)


FORMS = [("folder", "a#b.mp4", 0), ("video", "a.mp4", 6), ("gif", "a.gif", 10), ("strip", "a.png", 0)]


@pytest.mark.parametrize(("form", "name", "tolerance"), FORMS)
def test_four_forms_give_the_same_frames(tmp_path, form, name, tolerance):
    frames, path = frames_of(12), tmp_path / name
    write_form(form, path, frames)
    assert data.form_of(path) == form
    found = data.read_clip(path)
    assert found.shape == frames.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - frames).max() <= tolerance
    numbers = [7, 2, 7, 11]
    np.testing.assert_array_equal(data.read_frames(path, numbers), found[numbers])
    for bad in ([12], [-1]):
        with pytest.raises(IndexError, match=f"no frame {bad[0]}"):
            data.read_frames(path, bad)


def test_strips_of_other_shapes_and_colours(tmp_path):
    frames = frames_of(4)
    strip = np.concatenate(frames, axis=1)
    alpha = np.dstack([strip, np.full(strip.shape[:2], 9, np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    Image.fromarray(strip[:, :, 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(data.read_clip(tmp_path / "alpha.png"), frames)
    np.testing.assert_array_equal(data.read_clip(tmp_path / "grey.png"), frames[..., :1].repeat(3, axis=-1))
    Image.fromarray(strip[:, :60]).save(tmp_path / "cut.png")
    with pytest.raises(ValueError, match="60x16 pixels are no row of square frames"):
        data.read_clip(tmp_path / "cut.png")


def test_pictures_of_a_folder_in_order_of_time(tmp_path):
    frames = frames_of(12)
    write_folder(tmp_path / "clip", frames[::-1], name="frame-{}.png")
    (tmp_path / "clip" / "notes.txt").write_text("no picture")
    np.testing.assert_array_equal(data.read_clip(tmp_path / "clip"), frames[::-1])
    Image.fromarray(frames[0, :8]).save(tmp_path / "clip" / "frame-12.png")
    with pytest.raises(ValueError, match="different sizes"):
        data.read_clip(tmp_path / "clip")
    (tmp_path / "clip" / "frame-12.png").write_bytes(b"")
    with pytest.raises(ValueError, match="no picture that can be read"):
        data.read_clip(tmp_path / "clip")


@pytest.mark.parametrize(("name", "error"), [("none", FileNotFoundError), ("a.txt", ValueError), ("empty", ValueError)])
def test_what_is_no_clip(tmp_path, name, error):
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(error, match=r"no clip at .*expected"):
        data.read_clip(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("id10001#7#_x#000012#000234.mp4", ("id10001", "7#_x", 12, 234)), ("id1#v#000001#000002 (1).mp4", ("id1", "v", 1, 2)),
     ("id1#v#000001#000002", ("id1", "v", 1, 2)), ("me#holiday.gif", ("me", "", -1, -1)), ("me.mov", ("me", "", -1, -1))],
)  # fmt: skip
def test_names(name, expected):
    assert data.parse_name(name) == expected
    if expected[2] > 0 and name.endswith(".mp4") and "(" not in name:
        assert data.clip_name(*expected) == name


def test_table_of_clips(tmp_path):
    write_form("folder", tmp_path / "train" / "id1#v#000001#000004.mp4", frames_of(3))
    write_form("gif", tmp_path / "train" / "me.gif", frames_of(4))
    (tmp_path / "train" / "broken.mp4").write_bytes(b"\1\2\xfe")
    (tmp_path / "train" / ".hidden.mp4").write_bytes(b"\1\2\xfe")
    (tmp_path / "test").mkdir()
    write_form("strip", tmp_path / "test" / "you.png", frames_of(5))
    table = data.find_clips(tmp_path)
    rows = table.set_index("clip")[["person", "partition", "path", "form", "frames"]]
    assert rows.loc["id1#v#000001#000004.mp4"].tolist() == [
        "id1", "train", "train/id1#v#000001#000004.mp4", "folder", 3,
    ]  # fmt: skip
    assert rows.loc["me.gif"].tolist() == ["me", "train", "train/me.gif", "gif", 4]
    assert rows.loc["you.png"].tolist() == ["you", "test", "test/you.png", "strip", 5]
    assert len(table) == 4 and table.set_index("clip").loc["broken.mp4", ["frames"]].item() == 0
    assert "not one frame" in table.set_index("clip").loc["broken.mp4", "error"]
    (tmp_path / "test" / "you.png").unlink()
    (tmp_path / "test").rmdir()
    with pytest.raises(FileNotFoundError, match="expected a folder with train/ and test/"):
        data.find_clips(tmp_path)


def test_a_folder_without_sides_is_split_by_person(tmp_path):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"\1\2\xfe")
    table = data.find_clips(tmp_path)
    sides = table.groupby("person")["partition"].nunique()
    assert (sides == 1).all() and set(table["partition"]) == {"train", "test"}
    train, test = splits.split_names([f"me#{n}.mp4" for n in range(10)])
    assert (len(train), len(test)) == (8, 2) and not set(train) & set(test)


def test_a_film_of_changing_rate_is_prepared_in_time(tmp_path):
    film(tmp_path / "a.mp4", map(numbered, range(60)), SLOW_THEN_FAST)
    timing = data.read_timing(tmp_path / "a.mp4")
    seen = [number_of(frame) for frame in data.stream_steadily(tmp_path / "a.mp4", timing)]
    moments = (np.arange(100) + 0.5) / 50
    assert timing.fps == pytest.approx(50) and seen == (SLOW_THEN_FAST.searchsorted(moments, side="right") - 1).tolist()
    options = {"root": str(tmp_path), "folder": str(tmp_path / "out"), "size": (120, 160)}
    assert local.prepare_clip("a.mp4", form="mp4", **options) == {"frames": 100}
    made = video.read_timing(tmp_path / "out" / "a.mp4")
    assert made.times[-1] == pytest.approx(timing.times[-1], abs=0.02) and made.note == ""
    (tmp_path / "even").mkdir()
    video.write_video(tmp_path / "even" / "a.mp4", [numbered(index) for index in range(9)], 29.97)
    assert data.read_timing(tmp_path / "even" / "a.mp4").steady().tolist() == list(range(9))
    table = data.find_clips(tmp_path / "even")
    assert table.loc[0, ["frames", "note"]].tolist() == [9, ""]


def test_timestamps_that_jump_for_hours_are_refused(tmp_path):
    film(tmp_path / "a.mkv", map(numbered, range(6)), [0, 0.04, 0.08, 0.12, 0.16, 9000])
    with pytest.raises(ValueError, match=r"a\.mkv: 6 frames in 9000 s"):
        list(data.stream_steadily(tmp_path / "a.mkv", data.read_timing(tmp_path / "a.mkv")))


def test_resize_is_bilinear_after_a_gaussian():
    image = np.random.default_rng(0).integers(0, 256, (60, 45, 3), np.uint8)
    smooth = scipy.ndimage.gaussian_filter(image.astype(float), (1, 0.25, 0), mode="mirror")  # (60/20-1)/2, (45/30-1)/2
    rows, columns = (np.arange(20) + 0.5) * 3 - 0.5, (np.arange(30) + 0.5) * 1.5 - 0.5
    grid = np.meshgrid(rows, columns, indexing="ij")
    expected = np.stack(
        [scipy.ndimage.map_coordinates(smooth[..., c], grid, order=1, mode="nearest") for c in range(3)], -1
    )
    assert np.abs(data.resize(image, (20, 30)) - expected).max() <= 1
    assert data.resize(image, (60, 45)) is image


def test_folders_of_any_depth_and_kind(tmp_path, capsys):
    for name in (
        "training/ann/walk/1.png",
        "training/ann/walk/2.png",
        "training/ann/a.webm",
        "testing/bob.MOV",
        "extra/c.mp4",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\1\2\xfe" * 9)
    (tmp_path / "training/notes.txt").write_text("hello")
    found = intake.walk(tmp_path, {intake.VIDEO, intake.PICTURE})
    table = data.find_clips(found)
    assert table[["clip", "person", "partition", "path", "form"]].to_numpy().tolist() == [
        ["ann#a.webm", "ann", "train", "training/ann/a.webm", "video"],
        ["ann#walk", "ann", "train", "training/ann/walk", "folder"],
        ["bob.MOV", "bob", "test", "testing/bob.MOV", "video"],
    ]
    assert dict(found.left_out.itertuples(index=False)) == {
        "extra/c.mp4": "beside training and testing",
        "training/notes.txt": "a text; used here: picture, video",
    }
