"""From video files to cached lip clips: frame rates, channels, cuts in time, and clips that cannot be used."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from helpers import config, runtime, video
from helpers.lip_reading import data, faces, lips
from helpers.lip_reading.config import LipReadingConfig, LipSize
from helpers.lip_reading.data import frames_within, pick_frames
from helpers.lip_reading.mini import scenes
from tests.films import JITTER, SLOW_THEN_FAST, damaged, film, number_of, numbered

SHARED = runtime.repo_root().parent / "shared/data"
YUNET = SHARED / "models/face_detection_yunet_2023mar.onnx"
MINI = config.load(runtime.repo_root() / "notebooks/lip_reading/mini.yaml", LipReadingConfig)
NAME = "s03/opal/s03_opal_1.mp4"
WHOLE = {"start": np.nan, "end": np.nan}


def local(**changes):
    """A configuration for a folder of one's own."""
    return dataclasses.replace(MINI, source="local", **changes)


@pytest.mark.parametrize(
    "count, length, fps, mode, picked",
    [
        (5, 5, 25, "resample", [0, 1, 2, 3, 4]),
        (9, 5, 60, "resample", [0, 2, 4, 6, 8]),
        (3, 5, 25, "resample", [0, 0, 1, 2, 2]),
        (1, 3, 25, "resample", [0, 0, 0]),
        (3, 5, 25, "pad", [0, 1, 2, 2, 2]),
        (9, 4, 25, "pad", [0, 1, 2, 3]),
        (9, 4, 50, "pad", [1, 3, 5, 7]),
        (5, 3, 25, "center", [1, 2, 3]),
        (3, 7, 25, "center", [0, 0, 0, 1, 2, 2, 2]),
        (10, 3, 50, "center", [3, 5, 7]),
    ],
)
def test_frames_that_are_picked(count, length, fps, mode, picked):
    assert pick_frames(count, length, fps=fps, mode=mode).tolist() == picked


@pytest.mark.parametrize("change", [{"count": 0}, {"length": 0}, {"fps": 0.0}, {"fps": np.nan}, {"mode": "stretch"}])
def test_bad_picks(change):
    with pytest.raises(ValueError, match="allowed: at least 1 frame"):
        pick_frames(**{"count": 5, "length": 3, "fps": 25, "mode": "pad"} | change)


def by_number(count, length, fps, mode):
    """The oracle: what was picked before frames had times, by number alone."""
    if mode == "resample":
        return np.round(np.linspace(0, count - 1, length)).astype(int)
    steps = np.arange(length) + ((round(count * 25 / fps) - length) // 2 if mode == "center" else 0)
    return np.clip(np.floor((steps + 0.5) / 25 * fps + 1e-9), 0, count - 1).astype(int)


@pytest.mark.parametrize("mode", data.MODES)
@pytest.mark.parametrize("fps", [25, 30, 50, 60])
def test_at_a_constant_rate_times_pick_as_numbers_do(fps, mode):
    for count in range(1, 130):
        for length in (1, 2, 12, 16, 20, 29, 75):
            told = pick_frames(count, length, fps=fps, mode=mode, times=0.54 + np.arange(count) / fps)
            assert (told == by_number(count, length, fps, mode)).all(), (count, length)
            assert (pick_frames(count, length, fps=fps, mode=mode) == told).all()


def test_a_changing_rate_gives_the_pictures_of_a_constant_one():
    steady = SLOW_THEN_FAST.searchsorted(np.arange(50) / 25 + 0.02 + 1e-9, side="right") - 1  # what 25 a second show
    for length in (50, 29):
        picked = pick_frames(60, length, fps=50, mode="pad", times=SLOW_THEN_FAST)
        assert (picked == steady[:length]).all()
    picked = pick_frames(60, 20, fps=50, mode="resample", times=SLOW_THEN_FAST)
    seen = np.linspace(0.05, 1.99, 20)
    assert (picked == SLOW_THEN_FAST.searchsorted(seen, side="right") - 1).all() and picked[9] == 9
    assert pick_frames(60, 3, fps=50, mode="center", times=SLOW_THEN_FAST).tolist() == [9, 9, 11]


@pytest.mark.parametrize(
    "start, end, fps, first, end_number",
    [
        (np.nan, np.nan, 25, 0, 80), (0.0, 0.4, 25, 0, 10), (33 / 25, 46.25 / 25, 25, 33, 46), (0.5, np.nan, 30, 15, 80),
        (0.01, 0.1, 50, 0, 5), (0.011, 0.1, 50, 1, 5), (0.5, 0.5, 25, 12, 12),
    ],
)  # fmt: skip
def test_frames_of_a_span(start, end, fps, first, end_number):
    timing = video.Timing(np.arange(80) / fps, fps)
    assert frames_within(timing, start, end).tolist() == list(range(first, end_number))
    lost = np.delete(np.arange(80), range(5, 9))  # four frames were lost: the others keep their times
    numbers = frames_within(video.Timing(lost / fps, fps), start, end)
    assert lost[numbers].tolist() == [number for number in range(first, end_number) if not 5 <= number < 9]


@pytest.fixture(scope="module")
def rates(tmp_path_factory):
    """The same film at three frame rates, with its true points."""
    root = tmp_path_factory.mktemp("rates")
    points = {}
    for fps in (25, 30, 60):
        clip = scenes.plan_clip(NAME, fps=fps)
        video.write_video(root / f"{fps}.mp4", clip.frames(), fps)
        points[f"{fps}.mp4"] = clip.points
    return root, points


def prepare(root, folder, settings, points=None, paths=None, **more):
    table = pd.DataFrame([{"path": path, **WHOLE} for path in paths or sorted(points)])
    return data.prepare_all(table, root, folder, settings, points=points, jobs=1, **more)


@pytest.mark.parametrize("mode", ["resample", "pad", "center"])
def test_frame_rates_make_no_difference(rates, tmp_path, mode):
    root, points = rates
    done = prepare(root, tmp_path, dataclasses.replace(MINI, size_lips=LipSize(48, 48)), points)
    assert list(done["error"]) == [""] * 3 and list(done["fps"]) == [25, 30, 60]
    assert list(done["frames"]) == [len(points[path]) for path in done["path"]] and (done["share"] == 1).all()
    length = 20
    slow, middle, fast = np.stack([*data.load_clips(tmp_path, done["cache"], length=length, mode=mode)]).astype(float)
    assert slow.shape == (length, 48, 48, 1)
    apart = [np.abs(slow - other).mean() for other in (middle, fast)]
    moved = np.abs(slow - np.roll(slow, 4, axis=0)).mean()
    assert max(apart) < 0.35 * moved
    naive = data.read_clip(tmp_path, done["cache"][2])["frames"][:length].astype(float)  # the first N frames at 60 fps
    assert np.abs(slow - naive).mean() > 2 * max(apart)


def test_the_cache_holds_the_clip_and_is_not_made_twice(rates, tmp_path, monkeypatch):
    root, points = rates
    settings = dataclasses.replace(MINI, channels_lips=3, size_lips=LipSize(width=40, height=24))
    done = prepare(root, tmp_path, settings, {"30.mp4": points["30.mp4"]})
    stored = data.read_clip(tmp_path, done["cache"][0])
    count = len(points["30.mp4"])
    assert stored["frames"].shape == (count, 24, 40, 3) and stored["frames"].dtype == np.uint8
    assert stored["found"].shape == (count,) and stored["points"].shape == (count, 5, 2) and stored["fps"] == 30
    frames = list(video.read_frames(root / "30.mp4"))
    expected = lips.crop_lips(frames, faces.track_points(points["30.mp4"]), (24, 40))
    np.testing.assert_array_equal(stored["frames"], expected)
    monkeypatch.setattr(video, "scan_frames", None)  # a second call decodes nothing
    pd.testing.assert_frame_equal(prepare(root, tmp_path, settings, {"30.mp4": points["30.mp4"]}), done)


def test_workers_give_the_same(rates, tmp_path):
    root, points = rates
    table = pd.DataFrame([{"path": path, **WHOLE} for path in sorted(points)])
    one = data.prepare_all(table, root, tmp_path / "a", MINI, points=points, jobs=1)
    two = data.prepare_all(table, root, tmp_path / "b", MINI, points=points, jobs=2)
    pd.testing.assert_frame_equal(one, two)


def test_clips_that_cannot_be_used_are_named(rates, tmp_path):
    root, points = rates
    (root / "cut.mp4").write_bytes((root / "25.mp4").read_bytes()[:2000])
    holed = points["25.mp4"].copy()
    count = len(holed)
    holed[: count // 2] = np.nan
    short = {"25.mp4": holed, "30.mp4": points["30.mp4"][:-1], "cut.mp4": points["25.mp4"]}
    paths = ["25.mp4", "30.mp4", "60.mp4", "cut.mp4", "none.mp4"]
    done = prepare(root, tmp_path, MINI, short, paths)
    left = count - count // 2
    for words, error in zip(
        [
            ["25.mp4", f"found in {left} of {count} frames ({left / count:.0%})", "at least 60%", "lips: cropped"],
            ["30.mp4", f"points of {len(points['30.mp4']) - 1}"],
            ["60.mp4", "found in 0 of 0 frames"],
            ["cut.mp4", "decodes"],
            ["none.mp4", "no video"],
        ],
        done["error"],
        strict=True,
    ):
        assert all(word in error for word in words) and str(root) not in error, error
    assert (done["cache"] == "").all() and not list(tmp_path.rglob("*.npz"))
    assert (done["error"] != "").sum() == 5
    lenient = prepare(root, tmp_path, dataclasses.replace(MINI, min_found=0.3), {"25.mp4": holed})
    row = lenient.iloc[0]
    assert (row["error"], row["found"], row["longest_gap"]) == ("", left, count // 2)
    assert not data.read_clip(tmp_path, row["cache"])["found"][0]


def test_a_browsers_clip_keeps_its_tempo(tmp_path):
    film(tmp_path / "a.webm", map(numbered, range(21)), JITTER, codec="libvpx", rate=1000, live=True)
    done = prepare(tmp_path, tmp_path / "cache", local(lips="cropped", channels_lips=3), paths=["a.webm"])
    assert done["fps"][0] == pytest.approx(27, abs=0.5) and "header says 1000" in done["note"][0]
    stored = data.read_clip(tmp_path / "cache", done["cache"][0])
    np.testing.assert_allclose(stored["times"], JITTER, atol=1e-6)
    (clip,) = data.load_clips(tmp_path / "cache", done["cache"], length=15, mode="pad")
    seen = JITTER.searchsorted(np.arange(15) / 25 + 0.02, side="right") - 1
    assert (clip == stored["frames"][seen]).all() and len(set(seen)) > 12


def test_words_behind_a_gap_are_cut_in_time(tmp_path):
    noise = np.random.default_rng(1).integers(0, 60, (75, 120, 160, 3), dtype=np.uint8)
    frames = [np.maximum(numbered(index), noise[index]) for index in range(75)]
    path = film(tmp_path / "a.mpg", frames, np.arange(75) / 25, codec="mpeg1video", tick=25, g=12)
    word = {"path": "a.mpg", "start": 60 / 25, "end": 68 / 25}
    whole = [number_of(frame) for frame in data.read_word(word, tmp_path)]
    damaged(path, count=4000)
    assert video.count_frames(path) < 70
    assert [number_of(frame) for frame in data.read_word(word, tmp_path)] == whole == list(range(60, 68))
    done = data.prepare_all(pd.DataFrame([word]), tmp_path, tmp_path / "cache", local(lips="cropped"), jobs=1)
    assert done["frames"][0] == 8 and "no picture from" in done["note"][0]


@pytest.fixture(scope="module")
def colors(tmp_path_factory):
    """A clip 64 wide and 32 high: skin on the left, lips on the right, brighter from frame to frame."""
    root = tmp_path_factory.mktemp("colors")
    frames = np.zeros((10, 32, 64, 3), np.uint8)
    for t, frame in enumerate(frames):
        frame[:, :32], frame[:, 32:] = (140 + 8 * t, 100, 70), (150 + 8 * t, 60, 60)
    video.write_video(root / "good.mp4", frames, 25)
    video.write_video(root / "swapped.mp4", frames[..., ::-1].copy(), 25)
    return root, frames


def test_cropped_clips_need_no_detector(colors, tmp_path):
    root, frames = colors
    done = prepare(root, tmp_path, local(lips="cropped", channels_lips=3), paths=["good.mp4"])
    found = data.read_clip(tmp_path, done["cache"][0])["frames"].astype(int)
    assert not found[:, :7].any() and not found[:, 25:].any()  # twice as wide as high: letterbox
    assert (
        np.abs(found[:, 16, 8] - frames[:, 16, 16]).max() < 12
        and np.abs(found[:, 16, 24] - frames[:, 16, 48]).max() < 12
    )
    stretched = prepare(root, tmp_path / "b", local(lips="cropped", padding_lips=False), paths=["good.mp4"])
    grey = data.read_clip(tmp_path / "b", stretched["cache"][0])["frames"]
    assert grey.shape == (10, 32, 32, 1) and grey.all()
    weights = frames[:, 16, 16] @ (0.299, 0.587, 0.114)
    assert np.abs(grey[:, 16, 8, 0] - weights).max() < 8
    assert done.loc[0, ["found", "share", "longest_gap"]].tolist() == [10, 1.0, 0]


def test_fixed_windows_and_cuts_in_time(colors, tmp_path):
    root, frames = colors
    settings = local(lips="fixed", window=(40, 8, 56, 24), channels_lips=3)
    spans = [(0.2, 0.32), ("", ""), (9.0, 9.5)]  # "" is what a table read from a CSV file may hold
    table = pd.DataFrame([{"path": "good.mp4", "start": start, "end": end} for start, end in spans])
    done = data.prepare_all(table, root, tmp_path, settings, jobs=1)
    assert done["frames"].tolist()[:2] == [3, 10] and done["cache"].nunique() == 3
    cut = data.read_clip(tmp_path, done["cache"][0])["frames"].astype(int)
    assert np.abs(cut - frames[5:8, 16:17, 48:49]).max() < 12
    assert "no frame between start and end" in done["error"][2] and "good.mp4" in done["error"][2]
    outside = prepare(root, tmp_path / "b", local(lips="fixed", window=(40, 8, 65, 24)), paths=["good.mp4"])
    assert "window: received [40, 8, 65, 24]" in outside["error"][0]


def test_points_are_cut_with_the_clip(rates, tmp_path):
    root, points = rates
    table = pd.DataFrame([{"path": "25.mp4", "start": 0.4, "end": 1.0}])
    done = data.prepare_all(table, root, tmp_path, MINI, points=points, jobs=1)
    stored = data.read_clip(tmp_path, done["cache"][0])
    np.testing.assert_allclose(stored["points"], faces.track_points(points["25.mp4"][10:25]))
    frames = list(video.read_frames(root / "25.mp4"))[10:25]
    for size in (None, (24, 20)):
        whole = list(video.read_frames(root / "25.mp4", size=size))
        np.testing.assert_array_equal(data.read_word(table.iloc[0], root, size=size), whole[10:25])
        np.testing.assert_array_equal(data.read_word({"path": "25.mp4"} | WHOLE, root, size=size), whole)
    np.testing.assert_array_equal(stored["frames"], lips.to_grey(lips.crop_lips(frames, stored["points"], 32)))


@pytest.mark.parametrize("swap", [False, True])
def test_swapped_channels_are_warned_about_and_put_right(colors, tmp_path, swap):
    root, _ = colors
    settings = local(lips="cropped", swap_channels=swap, padding_lips=False, channels_lips=3)
    done = prepare(root, tmp_path, settings, paths=["good.mp4", "swapped.mp4"])
    good, swapped = (data.read_clip(tmp_path, name)["frames"].astype(int) for name in done["cache"])
    assert np.abs(good - swapped[..., ::-1]).mean() < 4
    assert (done["redness"] < data.SWAPPED).tolist() == [swap, not swap]
    warnings = [data.check_channels(done.iloc[rows]) for rows in ([0], [1], [0, 1])]
    assert [bool(text) for text in warnings] == [swap, not swap, False]
    assert "1 of 1 clips" in "".join(warnings) and "swap_channels: true" in "".join(warnings)


def test_clips_as_one_array(rates, tmp_path):
    root, points = rates
    done = prepare(root, tmp_path, MINI, points)
    found = np.stack([*data.load_clips(tmp_path, done["cache"], length=6)])
    data.write_clips(tmp_path / "all.npy", tmp_path, done["cache"], length=6)
    mapped = np.load(tmp_path / "all.npy", mmap_mode="r")
    assert mapped.dtype == found.dtype == np.uint8 and np.array_equal(mapped, found)
    np.save(tmp_path / "saved.npy", found)
    assert (tmp_path / "saved.npy").read_bytes() == (tmp_path / "all.npy").read_bytes()
    first = data.read_clip(tmp_path, done["cache"][0])["frames"]
    assert (found[0, [0, -1]] == first[[0, -1]]).all()
    other = prepare(root, tmp_path / "b", dataclasses.replace(MINI, channels_lips=3), points)
    with pytest.raises(ValueError, match="holds frames of"):
        data.write_clips(tmp_path / "all.npy", tmp_path, [done["cache"][0], "b/" + other["cache"][0]], length=6)
    assert np.array_equal(np.load(tmp_path / "all.npy"), found), "the file that was there stays"
    with pytest.raises(ValueError, match="received none"):
        list(data.load_clips(tmp_path, [], length=6))


@pytest.mark.skipif(not YUNET.is_file(), reason="needs the detector")
def test_the_detector_finds_what_was_drawn(rates, tmp_path):
    root, points = rates
    done = prepare(root, tmp_path, MINI, paths=["25.mp4"], model_path=YUNET)
    assert done["error"][0] == "" and done["share"][0] == 1
    found = data.read_clip(tmp_path, done["cache"][0])["points"][:, 3:].mean(axis=1)
    truth = points["25.mp4"][:, 3:].mean(axis=1)
    assert np.hypot(*(found - truth).T).mean() < 0.12 * scenes.plan_clip(NAME).speaker.eyes


@pytest.mark.skipif(
    not (YUNET.is_file() and (SHARED / "lips").is_dir()), reason="needs the real clips and the detector"
)
def test_a_real_word_is_cut(tmp_path):
    settings = local(size_lips=LipSize(64, 64))
    table = pd.DataFrame([{"path": "id2_vcd_swwp2s.mpg", "start": 33 / 25, "end": 46.25 / 25}])
    done = data.prepare_all(table, SHARED / "lips/grid", tmp_path, settings, model_path=YUNET, jobs=1)
    assert done["error"][0] == "" and done["frames"][0] == done["found"][0] == 13
    mouths = prepare(SHARED / "lips/mouth_clips", tmp_path, local(lips="cropped"), paths=["cat/3_video.mp4"])
    assert "red and blue are exchanged" in data.check_channels(mouths)
