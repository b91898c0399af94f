"""When frames are shown: films whose times are known, in the files that browsers, phones and broken disks leave."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from helpers import runtime, video
from tests.films import JITTER, SLOW_THEN_FAST, damaged, film, number_of, numbered

CASES = runtime.repo_root().parent / "shared/cases/files"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="the files of others are not here")
EVEN = np.arange(20) / 25


def draw(path: Path, times=EVEN, **options) -> Path:
    return film(path, map(numbered, range(len(times))), times, **options)


KINDS = {  # file -> how it is encoded
    "av1.mp4": {"codec": "libsvtav1"},
    "ten_bit.mp4": {"codec": "libx265", "pixels": "yuv420p10le"},
    "ten_bit.mkv": {"pixels": "yuv420p10le"},
    "later_first.mp4": {"bf": 3},
    "later_first.avi": {"codec": "mpeg4", "bf": 2, "tick": 25},
    "later_first.mpg": {"codec": "mpeg1video", "bf": 2, "tick": 25},
    "later_first.ts": {"codec": "mpeg2video", "bf": 2, "tick": 25},
    "phone.3gp": {"codec": "mpeg4", "tick": 25},
    "full_range.avi": {"codec": "mjpeg", "pixels": "yuvj420p", "tick": 25},
    "old.wmv": {"codec": "wmv2", "tick": 25},
    "pixels.gif": {"codec": "gif", "pixels": "rgb8", "tick": 100},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_file_has_its_frames_and_times(tmp_path, capfd, name):
    if KINDS[name].get("codec", "libx264") not in av.codecs_available:
        pytest.skip("this FFmpeg cannot write it")
    path = draw(tmp_path / name, **KINDS[name])
    capfd.readouterr()  # encoders speak of themselves
    assert [number_of(frame) for frame in video.read_frames(path)] == list(range(20)) and video.count_frames(path) == 20
    timing = video.read_timing(path)
    np.testing.assert_allclose(timing.times, EVEN, atol=1e-6)
    assert timing.fps == pytest.approx(25) and timing.note == ""
    assert capfd.readouterr().err == ""


def test_a_moving_webp_is_read_and_timed(tmp_path):
    pictures = [Image.fromarray(numbered(index)) for index in range(6)]
    steps = [80, 80, 40, 80, 80, 80]
    pictures[0].save(tmp_path / "a.webp", save_all=True, append_images=pictures[1:], duration=steps, lossless=True)
    assert [number_of(frame) for frame in video.read_frames(tmp_path / "a.webp")] == list(range(6))
    timing = video.read_timing(tmp_path / "a.webp")
    np.testing.assert_allclose(timing.times, np.cumsum([0, *steps[:-1]]) / 1000)
    assert timing.fps == pytest.approx(12.5) and "40 to 80 ms" in timing.note and "header" not in timing.note


def test_a_browsers_film_has_its_own_rate(tmp_path):
    path = draw(tmp_path / "a.webm", JITTER, codec="libvpx", rate=1000, live=True)
    assert video.header_info(path)["fps"] == 1000 and video.header_info(path)["frames"] == 0
    timing = video.read_timing(path)
    np.testing.assert_allclose(timing.times, JITTER, atol=1e-6)
    assert timing.fps == pytest.approx(27, abs=0.5) and "header says 1000 frames a second" in timing.note


def resampled(path: Path) -> list[np.ndarray]:
    """The oracle: FFmpeg's own filter makes the film one of constantly 25 frames a second."""
    graph = av.filter.Graph()
    with av.open(str(path)) as container:
        source = graph.add_buffer(template=container.streams.video[0])
        rate, sink = graph.add("fps", "fps=25:round=up:start_time=0"), graph.add("buffersink")
        source.link_to(rate)
        rate.link_to(sink)
        graph.configure()
        frames = []
        for frame in [*container.decode(video=0), None]:
            graph.push(frame)
            while True:
                try:
                    frames.append(graph.pull().to_ndarray(format="rgb24"))
                except (BlockingIOError, EOFError):
                    break
    return frames


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", pytest.param("variable_rate.mp4", marks=needs_cases)])
def test_a_variable_rate_shows_what_a_constant_one_shows(tmp_path, name):
    path = CASES / name if name == "variable_rate.mp4" else tmp_path / name
    if not path.is_file():
        draw(path, SLOW_THEN_FAST, codec="libvpx" if name == "a.webm" else "libx264", deadline="realtime")
    timing, frames = video.read_timing(path), list(video.read_frames(path))
    np.testing.assert_allclose(timing.times, SLOW_THEN_FAST, atol=1e-6)
    assert "variable rate: 20 to 100 ms" in timing.note
    expected = resampled(path)[:48]
    shown = timing.shown(np.arange(len(expected)) / 25)
    assert all(np.array_equal(frames[number], theirs) for number, theirs in zip(shown, expected, strict=True))
    assert timing.shown([-1.0, 0.5, 99.0]).tolist() == [0, 5, 59]


@pytest.mark.parametrize("suffix", ["mpg", "avi", "mp4", "ts"])
def test_damage_leaves_a_gap_and_the_times_of_the_rest(tmp_path, suffix):
    codec = {"mpg": "mpeg1video", "ts": "mpeg2video", "avi": "mpeg4", "mp4": "libx264"}[suffix]
    noise = np.random.default_rng(1).integers(0, 60, (75, 120, 160, 3), dtype=np.uint8)
    frames = [np.maximum(numbered(index), noise[index]) for index in range(75)]
    path = damaged(
        film(tmp_path / f"a.{suffix}", frames, np.arange(75) / 25, codec=codec, tick=25, g=12, bf=0), count=6000
    )
    timing = video.read_timing(path)
    read = [number_of(frame) for frame in video.read_frames(path)]
    assert len(read) == len(timing.times) < 75
    assert timing.fps == 25 and timing.note.startswith("no picture from ")
    late = timing.times > 2.2  # the key frames behind the damage are whole again
    assert late.sum() > 15 and (np.round(timing.times * 25).astype(int) == read)[late].all()


@needs_cases
def test_the_damaged_sentence_of_grid(tmp_path):
    path = tmp_path / "a.mpg"
    path.write_bytes((CASES / "undamaged.mpg").read_bytes())
    assert video.read_timing(path).note == ""
    timing = video.read_timing(damaged(path))
    assert len(timing.times) == 67 and timing.times[-1] == pytest.approx(74 / 25)
    assert timing.note == "no picture from 1.44 to 1.76 s" and timing.fps == 25


def test_a_file_without_times_is_counted_and_says_so(tmp_path):
    timing = video.read_timing(draw(tmp_path / "a.h264"))
    np.testing.assert_allclose(timing.times, EVEN)
    assert "no timestamps" in timing.note


def test_tags_in_another_encoding_do_no_harm(tmp_path):
    path = draw(tmp_path / "a.avi", codec="mpeg4", tick=25)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"Lavf", b"L\xe9vf"))
    assert video.count_frames(path) == 20


def test_sound_that_begins_first_sets_the_clock(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        sound, picture = container.add_stream("pcm_s16le", rate=8000), container.add_stream("ffv1", rate=25)
        picture.height, picture.width, picture.pix_fmt = 120, 160, "yuv420p"
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        samples.sample_rate, samples.pts = 8000, 0
        container.mux(sound.encode(samples))
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(numbered(index), format="rgb24")
            frame.pts = index + 10  # at 25 a second: 0.4 s after the sound
            container.mux(picture.encode(frame))
        container.mux(picture.encode())
    timing = video.read_timing(path)
    np.testing.assert_allclose(timing.times, 0.4 + np.arange(10) / 25, atol=1e-3)
    assert timing.note == "no picture from 0.00 to 0.40 s"
