"""helpers.video: frames that carry their own number, real and broken files, workers that fail and die."""

import base64
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers import runtime, video
from helpers.video import writing
from tests.films import number_of, numbered

DATA = runtime.repo_root().parent / "shared" / "data"
HARD = DATA / "ucf101" / "hard"
VIDEOS = {".avi", ".mp4", ".mov", ".mkv", ".mpg"}
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real clips are not here")


def write_plainly(
    path: Path, count: int, *, code="XVID", backend=cv2.CAP_FFMPEG, shape=(120, 160), colour=True
) -> Path:
    """The oracle's own writer: OpenCV alone."""
    options = [cv2.VIDEOWRITER_PROP_IS_COLOR, int(colour)]
    writer = cv2.VideoWriter(str(path), backend, cv2.VideoWriter_fourcc(*code), 25.0, shape[::-1], options)
    assert writer.isOpened()
    for index in range(count):
        frame = numbered(index, *shape)
        writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR) if colour else frame[..., 1])
    writer.release()
    return path


def read_plainly(path: Path, *, rotate: bool = True) -> list[np.ndarray]:
    """The oracle's own reader: default threads, every frame, BGR."""
    capture = cv2.VideoCapture(str(path))
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, int(rotate))
    frames = []
    while True:
        decoded, frame = capture.read()
        if not decoded:
            return frames
        frames.append(frame)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return write_plainly(tmp_path_factory.mktemp("clip") / "v_Archery_g01_c01.avi", 187)


@pytest.fixture(scope="module")
def cut(clip) -> Path:
    data = clip.read_bytes()
    path = clip.with_name("cut.avi")
    path.write_bytes(data[: len(data) * 2 // 3])
    return path


@pytest.mark.parametrize("step", [1, 2, 10, 186, 187, 1000])
def test_every_step_th_frame_in_order(clip, step):
    assert [number_of(frame) for frame in video.read_frames(clip, step)] == list(range(0, 187, step))


def test_frames_are_rgb_uint8_and_those_of_a_plain_loop(clip):
    frames = list(video.read_frames(clip))
    assert frames[0].dtype == np.uint8 and frames[0].shape == (120, 160, 3)
    assert frames[0][10, 10, 0] > 200 and frames[0][10, 10, 2] < 60  # red comes first
    assert all(np.array_equal(ours[..., ::-1], theirs) for ours, theirs in zip(frames, read_plainly(clip), strict=True))


def test_scan_numbers_every_frame_and_converts_the_wanted(clip):
    found = list(video.scan_frames(clip, lambda index: index in (0, 7, 186), size=(60, 80)))
    assert [index for index, _ in found] == list(range(187))
    pictures = {index: frame for index, frame in found if frame is not None}
    assert {index: number_of(frame) for index, frame in pictures.items()} == {0: 0, 7: 7, 186: 186}
    assert {frame.shape for frame in pictures.values()} == {(60, 80, 3)}
    with pytest.raises(FileNotFoundError):
        video.scan_frames(clip.with_name("none.avi"), bool)


@pytest.mark.parametrize(
    ("size", "shape"), [(227, (227, 227)), ((30, 50), (30, 50)), ([7, 9], (7, 9)), (np.int64(5), (5, 5))]
)
def test_size_is_height_then_width_and_bilinear(clip, size, shape):
    frame = next(video.read_frames(clip, size=size))
    expected = cv2.resize(read_plainly(clip)[0], (shape[1], shape[0]))
    assert np.array_equal(frame[..., ::-1], expected)


def test_header_and_decoder_agree_on_a_whole_file(clip):
    assert video.count_frames(clip) == 187
    expected = {"frames": 187, "fps": 25.0, "width": 160, "height": 120, "rotation": 0}
    info = video.header_info(clip)
    assert {key: info[key] for key in expected} == expected
    assert info["fourcc"].isascii() and len(info["fourcc"]) == 4


def test_cut_file_gives_what_decodes_while_its_header_lies(clip, cut):
    assert video.header_info(cut)["frames"] == 187
    numbers = [number_of(frame) for frame in video.read_frames(cut)]
    assert video.count_frames(cut) == len(numbers) == len(read_plainly(cut))
    assert 100 < len(numbers) < 150
    assert numbers[:-1] == list(range(len(numbers) - 1))  # the last one is torn, and shows parts of the one before
    assert len(list(video.read_frames(cut, step=10))) == -(-len(numbers) // 10)


@pytest.mark.parametrize("code", ["FFV1", "mp4v"])
def test_grey_video_has_three_equal_channels(tmp_path, code):
    path = write_plainly(tmp_path / "grey.avi", 5, code=code, colour=False)
    for index, frame in enumerate(video.read_frames(path)):
        assert frame.shape == (120, 160, 3) and number_of(frame) == index
        assert np.array_equal(frame[..., 0], frame[..., 1]) and np.array_equal(frame[..., 1], frame[..., 2])


def test_odd_size(tmp_path):
    path = write_plainly(tmp_path / "odd.avi", 6, code="MJPG", backend=cv2.CAP_OPENCV_MJPEG, shape=(119, 161))
    frames = list(video.read_frames(path))
    assert {frame.shape for frame in frames} == {(119, 161, 3)}
    assert [number_of(frame) for frame in frames] == list(range(6))


@pytest.mark.parametrize("name", ["one.avi", "one.mp4", "one.webm"])
def test_one_frame(tmp_path, name):
    assert video.write_video(tmp_path / name, [numbered(77)]) == 1
    assert [number_of(frame) for frame in video.read_frames(tmp_path / name, step=10)] == [77]


def test_relative_name_with_colon_percent_and_accents(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a:b.avi", "x%03d.avi", "é_001.avi"):
        video.write_video(name, [numbered(3)])
        assert number_of(next(video.read_frames(name))) == 3


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.avi"
    if kind == "folder":
        path.mkdir()
    elif kind == "picture":
        path = path.with_suffix(".png")
        cv2.imwrite(str(path), numbered(0))
    elif kind == "torn_picture":
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    elif kind == "no_index":  # an mp4 whose index, at the end, is gone
        whole = write_plainly(folder / "whole.mp4", 50, code="mp4v").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "blanked":  # opens, claims 5 frames, and not one packet decodes
        data = write_plainly(path, 5).read_bytes()
        start = data.index(b"movi") + 12  # the first chunk keeps its name and length
        path.write_bytes(data[:start] + bytes(data.index(b"idx1") - start) + data[data.index(b"idx1") :])
    elif kind == "header_only":
        path.write_bytes(write_plainly(folder / "whole.avi", 5).read_bytes()[:5000])
    elif kind != "missing":
        path.write_bytes({"text": b"not a video\n" * 99, "empty": b"", "junk": bytes(range(256)) * 99}[kind])
    return path


BAD_FILES = {
    "missing": (FileNotFoundError, "no video at"),
    "folder": (ValueError, "is a folder"),
    "picture": (ValueError, "is a picture"),
    "torn_picture": (ValueError, "is a picture"),
    "text": (ValueError, "1188 bytes"),
    "empty": (ValueError, "0 bytes"),
    "junk": (ValueError, "decodes"),
    "no_index": (ValueError, "decodes"),
    "header_only": (ValueError, "decodes"),
    "blanked": (ValueError, "decodes"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
@pytest.mark.parametrize("read", [video.read_frames, video.count_frames], ids=lambda function: function.__name__)
def test_bad_file_is_refused_when_called_and_in_silence(tmp_path, capfd, kind, read):
    error, words = BAD_FILES[kind]
    path = bad_file(tmp_path, kind)
    with pytest.raises(error, match=words) as caught:
        read(path)  # no next() here
    assert path.name in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"step": 0}, "step=0"),
        ({"step": -1}, "step=-1"),
        ({"step": 1.5}, "step=1.5"),
        ({"step": True}, "step=True"),
        ({"size": 0}, "size=0"),
        ({"size": (10,)}, r"size=\(10,\)"),
        ({"size": (10, 10, 3)}, "size="),
        ({"size": (10, -1)}, "size="),
        ({"size": 22.7}, "size=22.7"),
        ({"size": "big"}, "size='big'"),
    ],
)
def test_bad_option_is_refused_when_called(clip, options, words):
    with pytest.raises(ValueError, match=words):
        video.read_frames(clip, **options)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux to see open files")
@pytest.mark.parametrize("end", ["exhaust", "close", "close_unstarted", "drop", "drop_unstarted", "error"])
@pytest.mark.parametrize("read", [video.read_frames, video.scan_frames], ids=lambda function: function.__name__)
def test_file_is_released(clip, read, end):
    def is_open() -> bool:
        return any(os.path.realpath(link) == os.path.realpath(clip) for link in Path("/proc/self/fd").iterdir())

    frames = read(clip, 50 if read is video.read_frames else bool)
    assert is_open()
    if not end.endswith("unstarted"):
        next(frames)
    if end == "exhaust":
        assert len(list(frames)) == (3 if read is video.read_frames else 186)
    elif end.startswith("close"):
        frames.close()
    elif end == "error":
        with pytest.raises(KeyError):
            frames.throw(KeyError)
    else:
        del frames
        gc.collect()
    assert not is_open()


@needs_data
def test_rotation_is_applied():
    turns = {90: cv2.ROTATE_90_CLOCKWISE, 180: cv2.ROTATE_180, 270: cv2.ROTATE_90_COUNTERCLOCKWISE}
    for degrees, turn in turns.items():
        path = HARD / f"video_{degrees}.mov"
        ours = list(video.read_frames(path))
        stored = read_plainly(path, rotate=False)
        assert len(ours) == len(stored) == 3 and stored[0].shape == (320, 568, 3)
        assert all(np.array_equal(a[..., ::-1], cv2.rotate(b, turn)) for a, b in zip(ours, stored, strict=True))
        info = video.header_info(path)
        assert info["rotation"] == degrees and (info["height"], info["width"]) == ours[0].shape[:2]


@needs_data
def test_unordered_timestamps_with_step():
    every = list(video.read_frames(HARD / "unordered.mov"))
    second = list(video.read_frames(HARD / "unordered.mov", step=2))
    assert len(every) == 4
    assert [np.array_equal(a, b) for a, b in zip(every[::2], second, strict=True)] == [True, True]


@needs_data
def test_counts_of_all_real_files_and_headers_that_lie(capfd):
    lies, files = {}, [path for path in sorted(DATA.rglob("*")) if path.suffix in VIDEOS]
    for path in files:
        count, claimed = video.count_frames(path), video.header_info(path)["frames"]
        if path.parent.name not in ("cat", "coop", "commands", "faces") or claimed != count:
            capture = cv2.VideoCapture(str(path))  # read() on default threads, not grab() on one
            assert count == sum(1 for _ in iter(lambda: capture.read()[0], False)), path.name  # noqa: B023
        if count != claimed:
            lies[path.name] = (claimed, count)
    assert len(files) == 84
    assert lies == {"corrupted.mp4": (50, 28), "flipping_a_pancake.mkv": (311, 310)}
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("name", "codec", "shape"),
    [
        ("a.avi", None, (120, 160)),
        ("a.mp4", None, (120, 160)),
        ("a.webm", None, (120, 160)),
        ("a.AVI", "MJPG", (120, 160)),
        ("odd.avi", None, (119, 161)),
    ],
)
def test_written_video_reads_back_and_repeats_byte_for_byte(tmp_path, capfd, name, codec, shape):
    frames = [numbered(index, *shape) for index in range(30)]
    for folder in ("one", "two"):
        assert video.write_video(tmp_path / folder / name, iter(frames), fps=20, codec=codec) == 30
    assert [path.name for path in (tmp_path / "one").iterdir()] == [name]  # no temporary left
    plain = read_plainly(tmp_path / "one" / name)
    assert [number_of(frame) for frame in plain] == list(range(30))
    assert plain[0].shape == (*shape, 3) and plain[0][10, 10, 2] > 200 > 100 > plain[0][10, 10, 0]  # BGR here
    assert cv2.VideoCapture(str(tmp_path / "one" / name)).get(cv2.CAP_PROP_FPS) == 20
    assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert capfd.readouterr() == ("", "")


F = numbered(0)


@pytest.mark.parametrize(
    ("name", "frames", "codec", "words"),
    [
        ("a.gif", [F], None, "'a.gif'.*.avi"),
        ("a.avi", [F], "MJPEG", "codec='MJPEG'"),
        ("a.avi", [F], "ZZZZ", "codec ZZZZ"),
        ("a.webm", [F], "XVID", "codec XVID"),
        ("a.mp4", [F[:119]], None, "160x119.*even"),
        ("a.avi", [], None, "0 frames"),
        ("a.avi", [F, F, F[:60]], None, r"frame 2 of shape \(60, 160, 3\)"),
        ("a.avi", [F, F / 255], None, "frame 1 .*float64"),
        ("a.avi", [F[..., 0]], None, r"frame 0 of shape \(120, 160\)"),
    ],
)
def test_bad_frames_are_refused_and_the_old_file_stays(tmp_path, capfd, name, frames, codec, words):
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ValueError, match=words):
        video.write_video(tmp_path / name, frames, codec=codec)
    assert (tmp_path / name).read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1
    assert capfd.readouterr() == ("", "")


def test_full_disk_is_an_error_not_a_short_file(tmp_path):
    """A limit on file size stands in for the full disk: OpenCV reports neither."""
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0).integers(0, 256, (40, 120, 160, 3), dtype=np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="full"):
            video.write_video(tmp_path / "a.avi", noise)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def webm_of(text: str, folder: Path) -> list[np.ndarray]:
    data = re.search(r'src="data:video/webm;base64,([^"]+)"', text)[1]
    (folder / "clip.webm").write_bytes(base64.b64decode(data, validate=True))
    return read_plainly(folder / "clip.webm")


def test_clip_html_plays_and_repeats(tmp_path, capfd):
    frames = [numbered(index) for index in range(20)]
    text = video.clip_html(iter(frames), alt='a "<b>" clip')
    assert text == video.clip_html(np.stack(frames), alt='a "<b>" clip')
    tag = text[: text.index(" src=")]
    for word in ("<video autoplay loop muted playsinline controls", 'width="160"', 'height="120"'):
        assert word in tag
    assert text.count("a &quot;&lt;b&gt;&quot; clip") == 2 and text.endswith("</video>")
    assert [number_of(frame) for frame in webm_of(text, tmp_path)] == list(range(20))
    assert capfd.readouterr() == ("", "")


def test_clip_html_loses_quality_then_size_then_frames_then_gives_up(tmp_path):
    rng = np.random.default_rng(1)
    frames = [np.maximum(numbered(i), rng.integers(0, 100, (120, 160, 3), dtype=np.uint8)) for i in range(24)]
    whole = len(video.clip_html(frames, max_bytes=10**9))
    found = []
    for part in (1.0, 0.5, 0.1, 0.02, 0.011):
        text = video.clip_html(frames, max_bytes=round(whole * part))
        assert len(text) <= round(whole * part) and 'width="160" height="120"' in text
        decoded = webm_of(text, tmp_path)
        every = 24 // len(decoded)
        assert [number_of(cv2.resize(frame, (160, 120))) for frame in decoded] == list(range(0, 24, every))
        fps = cv2.VideoCapture(str(tmp_path / "clip.webm")).get(cv2.CAP_PROP_FPS)
        assert fps == pytest.approx(10 / every)  # the duration stays
        found.append((len(decoded), decoded[0].shape[1]))
    assert found == sorted(found, reverse=True) and found[0] == found[1] == (24, 160)
    assert any(count == 24 and width < 160 for count, width in found) and found[-1][0] < 24
    with pytest.raises(ValueError, match="max_bytes=500"):
        video.clip_html(frames, max_bytes=500)
    with pytest.raises(ValueError, match="0 frames"):
        video.clip_html([])


def test_clips_are_half_as_large_as_opencvs_and_as_close(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (140, 180, 3), dtype=np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 2)
    frames = [np.ascontiguousarray(picture[i : i + 120, i : i + 160]) for i in range(20)]
    video.write_video(tmp_path / "theirs.webm", frames, 10)
    ours = writing._webm(frames, 10, (120, 160), crf=16)
    assert len(ours) < (tmp_path / "theirs.webm").stat().st_size / 2
    (tmp_path / "ours.webm").write_bytes(ours)
    read = [read_plainly(tmp_path / name) for name in ("ours.webm", "theirs.webm")]
    ours, theirs = (np.mean([cv2.PSNR(*pair) for pair in zip(frames, clip, strict=True)]) for clip in read)
    assert ours > theirs - 0.5


def test_odd_clip_and_asked_width(tmp_path):
    text = video.clip_html([numbered(9, 119, 161)] * 3, width=322)
    assert 'width="322" height="238"' in text
    assert webm_of(text, tmp_path)[0].shape == (238, 322, 3)


def test_show_clip_is_html_with_the_clip():
    pytest.importorskip("IPython")
    frames = [numbered(index) for index in range(3)]
    assert video.show_clip(frames, fps=5)._repr_html_() == video.clip_html(frames, fps=5)


def test_ids_are_replaced_only_in_the_header():
    track, other = bytes(range(8)), b"pictures"
    webm = b"\x73\xc5\x88" + track + b"|\x63\xc5\x88" + track + b"|\x73\xc5\x88" + other
    one = bytes(7) + b"\x01"
    assert (
        writing._without_random_ids(webm) == b"\x73\xc5\x88" + one + b"|\x63\xc5\x88" + one + b"|\x73\xc5\x88" + other
    )


def test_tile_fills_rows_and_holds_the_last_frame():
    clips = [[np.full((2, 3, 3), 10 * c + t, np.uint8) for t in range(length)] for c, length in enumerate((2, 3, 1))]
    frames = video.tile(clips, 2)
    assert [frame[::2, ::3, 0].tolist() for frame in frames] == [
        [[0, 10], [20, 0]],
        [[1, 11], [20, 0]],
        [[1, 12], [20, 0]],
    ]
    assert frames[0].shape == (4, 6, 3)
    assert video.tile(clips)[0].shape == (2, 9, 3)
    for bad in ([], [[]], [clips[0], [np.zeros((2, 2, 3), np.uint8)]]):
        with pytest.raises(ValueError, match="Received"):
            video.tile(bad, 2)


QUIET = """
import cv2, json, sys
from helpers import parallel, video
if __name__ == "__main__":
    table = parallel.parallel(lambda path: {"frames": video.count_frames(path)}, sys.argv[1:], jobs=2)
    print(json.dumps(table.astype(object).where(table.notna(), None).to_dict("list")))
    assert not {"tensorflow", "keras"} & set(sys.modules)
"""


def test_broken_files_are_recorded_and_nothing_is_printed(tmp_path, clip, cut):
    script = tmp_path / "quiet.py"
    script.write_text(QUIET)
    paths = [clip, cut, *(bad_file(tmp_path, kind) for kind in BAD_FILES)]
    paths += [HARD / "corrupted.mp4"] if HARD.is_dir() else []
    environment = {**os.environ, "COURSE_PROGRESS": "0", "PYTHONPATH": str(runtime.repo_root())}
    environment.pop("OPENCV_FFMPEG_LOGLEVEL", None)
    done = subprocess.run(
        [sys.executable, script, *map(str, paths)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    table = json.loads(done.stdout)
    assert table["frames"][:2] == [187, len(read_plainly(cut))] and table["error"][:2] == ["", ""]
    assert [error.partition(":")[0] for error in table["error"][2:12]] == [e.__name__ for e, _ in BAD_FILES.values()]
    assert table["frames"][12:] in ([], [28])
