"""Face points and lip pictures: drawn crosses say where the mouth must land; real faces where the data are present."""

import itertools

import cv2
import numpy as np
import pytest

from helpers import runtime, video
from helpers.fetch import manifests
from helpers.lip_reading import data, faces, lips
from helpers.lip_reading.mini import scenes

SHARED = runtime.repo_root().parent / "shared/data"
YUNET = SHARED / "models/face_detection_yunet_2023mar.onnx"
LIPS = SHARED / "lips"
CASES = SHARED.parent / "cases/files"
needs_data = pytest.mark.skipif(not (YUNET.is_file() and LIPS.is_dir()), reason="needs the real clips and the detector")


def face_at(x, y, *, eyes=40.0, degrees=0.0):
    """Points of a face whose mouth is at (x, y), turned about the mouth; in distances of the eyes, y down."""
    shape = np.array([[-0.5, -1.1], [0.5, -1.1], [0.05, -0.5], [-0.4, 0.0], [0.4, 0.0]])
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (eyes * shape @ turn.T + (x, y)).astype(np.float32)


def cross_at(x, y, *, eyes=40.0, degrees=0.0, height=200, width=240):
    """A black picture with a white dot at (x, y) and a red one half an eye distance along the line of the eyes."""
    frame = np.zeros((height, width, 3), np.uint8)
    dx, dy = eyes / 2 * np.cos(np.radians(degrees)), eyes / 2 * np.sin(np.radians(degrees))
    for at, color in (((x, y), (255, 255, 255)), ((x + dx, y + dy), (255, 0, 0))):
        cv2.circle(frame, [round(16 * value) for value in at], round(16 * eyes / 12), color, -1, cv2.LINE_AA, 4)
    return frame


def middle_of(channel):
    """Centre of mass of a picture, x and y."""
    rows, columns = np.indices(channel.shape)
    weight = channel.astype(float)
    return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("degrees", [-35, -4, 0, 12, 90])
@pytest.mark.parametrize("eyes", [12.0, 40.0, 70.0])
@pytest.mark.parametrize("size", [32, 96, (48, 64)])
def test_the_mouth_lands_in_the_middle_and_the_eyes_are_level(degrees, eyes, size):
    x, y = 121.3, 97.7
    crop = data.crop_lips(
        [cross_at(x, y, eyes=eyes, degrees=degrees)], face_at(x, y, eyes=eyes, degrees=degrees)[None], size
    )
    height, width = (size, size) if isinstance(size, int) else size
    assert crop.shape == (1, height, width, 3) and crop.dtype == np.uint8
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    assert np.abs(middle_of(crop[0, ..., 2]) - middle).max() < 1  # the white dot: only it is blue
    only_red = np.clip(crop[0, ..., 0].astype(int) - crop[0, ..., 2], 0, 255)
    # half an eye distance is a third of the picture's width, straight to the right
    assert np.abs(middle_of(only_red) - middle - (width / 3, 0)).max() < 1


def test_one_scale_per_clip_though_the_eyes_seem_to_change():
    eyes = [36, 40, 44, 40, 40]
    points = np.stack([face_at(120, 100, eyes=value) for value in eyes])
    frames = [cross_at(120, 100)] * 5  # the same dots in all frames
    crops = lips.crop_lips(frames, points, 60)
    assert (crops == crops[0]).all()  # nothing grows with the points


def test_jitter_of_points_is_smoothed_and_wrong_faces_are_dropped():
    rng = np.random.default_rng(0)
    xs = np.linspace(90, 150, 31)
    truth = np.stack([face_at(x, 100) for x in xs])
    noisy = truth + rng.normal(0, 1, truth.shape)
    noisy[7] = face_at(20, 30, eyes=15)  # somebody in the background, for one frame
    tracked = faces.track_points(noisy)
    inner = slice(2, -2)
    assert np.abs(tracked - truth)[7].max() < 5
    others = np.delete(np.arange(31), 7)
    assert np.abs(tracked - truth)[inner].std() < 0.9 * np.abs(noisy - truth)[others].std()
    crops = lips.crop_lips([cross_at(x, 100) for x in xs], tracked, 60)
    middles = np.array([middle_of(crop[..., 2]) for crop in crops])
    assert np.abs(middles - 29.5).max() < 60 / 40 / 1.5 * 5


@pytest.mark.parametrize(
    "missing", [[0], [0, 1, 2], [28, 29], [10], [10, 11, 12, 13], [0, 1, 9, 15, 16, 29], list(range(1, 29))]
)
def test_gaps_are_lines_and_the_ends_copies(missing):
    truth = np.stack([face_at(90 + 2 * t, 100 - t) for t in range(30)])
    holed = [None if t in missing else points for t, points in enumerate(truth)]
    tracked = faces.track_points(faces.stack_points(holed))
    known = [t for t in range(30) if t not in missing]
    inside = slice(known[0] + 2, known[-1] - 1)  # the median bends what is next to a copied end
    np.testing.assert_allclose(tracked[inside], truth[inside], atol=1e-3)
    for t in range(known[0]):
        np.testing.assert_allclose(tracked[t], truth[known[0]], atol=2.1)
    assert tracked.dtype == np.float32 and np.isfinite(tracked).all()
    assert (faces.found_mask(faces.stack_points(holed)) == [t not in missing for t in range(30)]).all()
    with pytest.raises(ValueError, match="received 3 frames without a face"):
        faces.track_points(faces.stack_points([None] * 3))


@pytest.mark.parametrize(
    "frames, points, words",
    [
        (3, np.zeros((2, 5, 2)), "eyes 0.0 pixels apart"),
        (3, np.stack([face_at(50, 50)] * 2), "received 3 frames and points of 2"),
        (1, np.stack([face_at(50, 50)] * 2), "received 1 frames and points of 2"),
        (1, np.full((1, 5, 2), np.nan), "without gaps"),
        (1, face_at(50, 50), "(T, 5, 2)"),
    ],
)
def test_bad_points(frames, points, words):
    with pytest.raises(ValueError, match=words.replace("(", r"\(").replace(")", r"\)")):
        lips.crop_lips([cross_at(50, 50)] * frames, points, 32)


def test_beyond_the_frame_the_border_is_repeated():
    frame = np.full((60, 60, 3), 77, np.uint8)
    assert (lips.crop_lips([frame], face_at(2, 58)[None], 32) == 77).all()


def test_letterbox_keeps_shapes_and_stretch_does_not():
    wide = np.full((30, 60, 3), 200, np.uint8)
    boxed, stretched = lips.fit(wide, 40, padding=True), lips.fit(wide, 40, padding=False)
    assert (stretched == 200).all() and boxed.shape == stretched.shape == (40, 40, 3)
    assert (boxed[10:30] == 200).all() and not boxed[:10].any() and not boxed[30:].any()
    tall = lips.fit(np.full((60, 20), 200, np.uint8), (30, 90))
    assert (tall[:, 40:50] == 200).all() and tall.sum() == 30 * 10 * 200
    assert (lips.fit(np.full((1, 500, 3), 9, np.uint8), 16)[7] == 9).all()  # never nothing
    with pytest.raises(ValueError, match="size must be"):
        lips.fit(wide, (0, 4))


def test_fixed_windows():
    frame = np.zeros((288, 360, 3), np.uint8)
    x1, y1, x2, y2 = lips.WINDOWS["grid"]
    frame[y1:y2, x1:x2] = 90
    assert (lips.cut_fixed([frame] * 2, lips.WINDOWS["grid"], (46, 140)) == 90).all()
    boxed = lips.cut_fixed([frame], lips.WINDOWS["grid"], 140)[0]
    assert (boxed[47:93] == 90).all() and not boxed[:47].any() and not boxed[93:].any()
    lrw = lips.cut_fixed([np.ones((256, 256, 3), np.uint8)], lips.WINDOWS["lrw"], 96)
    assert lrw.shape == (1, 96, 96, 3) and lrw.all()
    with pytest.raises(ValueError, match="within 256 x 256 pixels"):
        lips.cut_fixed([np.ones((256, 256, 3), np.uint8)], (200, 0, 260, 10), 96)


def test_grey_has_the_weights_of_television():
    colors = np.array([[[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]], np.uint8)
    assert lips.to_grey(colors)[0, 0, :, 0].tolist() == [76, 150, 29]


def as_found(*points):
    """What a detector gives: each face's box, then its points."""
    corners = [np.array([p.min(axis=0) - 15, p.max(axis=0) + 15]) for p in points]
    rows = [np.concatenate([box, p]) for box, p in zip(corners, points, strict=True)]
    return np.array(rows, np.float32).reshape(-1, 7, 2)


def two_people(count=30):
    """Two heads that sway, now the one a little larger, now the other, and found in changing order."""
    rng = np.random.default_rng(3)
    left = [face_at(80 + 4 * np.sin(t / 3), 100, eyes=40 + rng.normal()) for t in range(count)]
    right = [face_at(200 - 4 * np.sin(t / 4), 104, eyes=40 + rng.normal()) for t in range(count)]
    return left, right, [as_found(*[(a, b), (b, a)][rng.integers(2)]) for a, b in zip(left, right, strict=True)]


def test_one_of_two_faces_is_followed_and_the_other_told():
    left, right, found = two_people()
    widest = [faces_here[np.argmax(faces_here[:, 1, 0] - faces_here[:, 0, 0]), 2:] for faces_here in found]
    jumps = np.abs(np.diff(np.stack(widest)[:, 3:, 0].mean(axis=1))) > 50
    assert jumps.sum() > 5  # the widest of each frame is now the one, now the other
    points, note = faces.follow_face(iter(found))
    assert any((points == np.stack(one)).all() for one in (left, right)) and "2 faces of like size" in note
    longer = [part[[i for i in range(2) if part[i, 2, 0] > 140 or t > 3]] for t, part in enumerate(found)]
    assert (faces.follow_face(longer)[0] == np.stack(right)).all()  # it is there from the beginning


def test_a_face_that_is_lost_is_not_swapped_for_the_other():
    _, right, found = two_people()
    for t in range(10, 20):
        found[t] = as_found(right[t])
    found[20] = found[20][:0]
    larger = [
        as_found(*(face_at(*p[3:].mean(axis=0), eyes=90 if p[2, 0] < 140 else 40) for p in part[:, 2:]))
        for part in found
    ]
    points, _ = faces.follow_face(larger)
    assert faces.found_mask(points).tolist() == [t < 10 or t > 20 for t in range(30)]
    assert (points[faces.found_mask(points), 2, 0] < 140).all()


def test_a_single_face_is_followed_wherever_it_goes():
    shown = [face_at(60 + 5 * t if t < 10 else 400 - 5 * t, 100) for t in range(30)]  # leaves, and comes back elsewhere
    found = [as_found() if 8 < t < 14 else as_found(points) for t, points in enumerate(shown)]
    small = face_at(20, 30, eyes=12)
    found = [
        np.concatenate([part, as_found(small)]) if t % 9 == 0 and len(part) else part for t, part in enumerate(found)
    ]
    points, note = faces.follow_face(found)
    there = [not 8 < t < 14 for t in range(30)]
    assert faces.found_mask(points).tolist() == there and note == ""
    assert (points[there] == np.stack(shown)[there]).all()
    assert faces.follow_face([])[0].shape == (0, 5, 2) and np.isnan(faces.follow_face([as_found()] * 3)[0]).all()


@pytest.mark.skipif(not (YUNET.is_file() and CASES.is_dir()), reason="needs the detector and the files of others")
def test_two_equal_faces_do_not_make_the_mouth_jump():
    frames = list(video.read_frames(CASES / "two_equal_faces.mp4"))
    points, note = faces.follow_face(faces.find_faces(frame, YUNET) for frame in frames)
    mouth = points[:, 3:].mean(axis=1)
    assert np.isfinite(mouth).all() and np.hypot(*np.diff(mouth, axis=0).T).max() < 10 and "2 faces" in note


def test_statistics_by_hand():
    points = np.stack([face_at(100 + 2 * t, 100, degrees=10) for t in range(8)])
    points[[0, 3, 4, 7]] = np.nan
    row = faces.statistics(points)
    assert (row["frames"], row["found"], row["share"], row["longest_gap"]) == (8, 4, 0.5, 2)
    assert row["eye_distance"] == pytest.approx(40, abs=0.01) and row["tilt"] == pytest.approx(10, abs=0.01)
    assert row["jitter"] == pytest.approx(2 / 40, abs=1e-3)
    empty = faces.statistics(np.full((3, 5, 2), np.nan))
    assert (empty["found"], empty["longest_gap"]) == (0, 3) and np.isnan(empty["eye_distance"])


def test_redness_tells_mouths_from_swapped_ones():
    skin = np.full((2, 8, 8, 3), (190, 134, 96), np.uint8)
    assert lips.redness(skin) == pytest.approx(94 / 286) and lips.redness(skin[..., ::-1]) == pytest.approx(-94 / 286)
    assert lips.redness(np.zeros_like(skin)) == 0


@pytest.mark.parametrize(
    "frame",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)],
)
def test_only_rgb_pictures_are_searched(frame):
    with pytest.raises(ValueError, match="RGB uint8"):
        data.find_face_points(frame, YUNET)


def test_files_that_are_no_detector(tmp_path):
    frame, path = np.zeros((40, 40, 3), np.uint8), tmp_path / "model.onnx"
    with pytest.raises(FileNotFoundError, match="fetch_model"):
        faces.find_face_points(frame, path)
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:8f2383e4\nsize 232589\n")
    with pytest.raises(ValueError, match=r"git-LFS pointer .*232589 bytes.*fetch_model"):
        faces.find_face_points(frame, path)
    other = tmp_path / "other.onnx"
    other.write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"other.onnx .1000 bytes. is none: .*expected the face detector"):
        faces.find_face_points(frame, other)


def test_the_manifest_vouches_for_the_file(tmp_path, capfd):
    file = manifests.load_manifest("yunet").files[0]
    assert (file.size, file.sha256[:8]) == (232_589, "8f2383e4") and faces.local_model(tmp_path) is None
    (tmp_path / file.name).write_text("version https://git-lfs.github.com/spec/v1\n")
    assert faces.local_model(tmp_path) is None
    if YUNET.is_file():
        (tmp_path / file.name).write_bytes(YUNET.read_bytes())
        assert faces.local_model(tmp_path) == faces.fetch_model(tmp_path) == tmp_path / file.name
        faces.find_face_points(np.zeros((40, 40, 3), np.uint8), tmp_path / file.name)
        assert capfd.readouterr().err == ""


@pytest.fixture
def bare(monkeypatch):
    """No answer of an earlier call is remembered, neither before nor after."""
    for cache in (faces._default_model, faces._detector):
        cache.cache_clear()
        monkeypatch.setattr(faces, cache.__name__, cache)
    yield monkeypatch
    for cache in (faces._default_model, faces._detector):
        cache.cache_clear()


def test_an_opencv_without_the_detector_is_named(bare, tmp_path):
    bare.delattr(cv2, "FaceDetectorYN", raising=False)
    with pytest.raises(RuntimeError, match=r"OpenCV .* has no FaceDetectorYN.*lips: fixed with a window"):
        faces.find_face_points(np.ones((90, 90, 3), np.uint8), tmp_path / "model.onnx")


def test_without_network_the_error_says_what_to_do(bare):
    def refuse(*_, **__):
        raise manifests.DownloadError("By hand: open the page")

    bare.setattr(faces.manifests, "fetch", refuse)
    with pytest.raises(manifests.DownloadError, match="By hand"):
        faces.find_face_points(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.skipif(not YUNET.is_file(), reason="needs the detector")
def test_drawn_faces_are_found_where_they_were_drawn():
    clip = scenes.plan_clip("s03/opal/s03_opal_1.mp4")
    for frame, truth in itertools.islice(zip(clip.frames(), clip.points, strict=True), 0, None, 12):
        found = faces.find_face_points(frame, YUNET)
        assert np.hypot(*(found[3:].mean(axis=0) - truth[3:].mean(axis=0))) < 0.15 * clip.speaker.eyes
        larger = faces.find_face_points(np.kron(frame, np.ones((5, 5, 1), np.uint8)), YUNET)
        np.testing.assert_allclose(larger, 5 * found + 2, atol=0.15 * 5 * clip.speaker.eyes)
    assert faces.find_face_points(clip.room, YUNET) is None


@needs_data
@pytest.mark.parametrize(
    "name, every, widths", [("commands/phrase_2.mp4", 6, (100, 150)), ("grid/sbwe5n.mpg", 15, (40, 60))]
)
def test_real_faces(name, every, widths):
    frames = list(video.read_frames(LIPS / name, step=every))
    points = faces.stack_points(faces.find_face_points(frame, YUNET) for frame in frames)
    row = faces.statistics(points)
    assert row["share"] == 1 and widths[0] < row["eye_distance"] < widths[1]
    mouth, eyes = points[:, 3:].mean(axis=1), points[:, :2].mean(axis=1)
    assert (mouth[:, 1] > eyes[:, 1]).all() and (points[:, 0, 0] < points[:, 1, 0]).all()
    assert lips.redness(lips.crop_lips(frames, faces.track_points(points), 48)) > 0.05


@needs_data
def test_real_mouth_clips_have_swapped_channels():
    for path in ("cat/3_video.mp4", "coop/6_video.mp4"):
        frames = np.stack(list(video.read_frames(LIPS / "mouth_clips" / path)))
        assert lips.redness(frames) < -0.1 and lips.redness(frames[..., ::-1]) > 0.1
