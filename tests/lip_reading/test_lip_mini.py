"""The mini lip-reading data: real files, true points, and words that only the order of the mouth shapes tells."""

import dataclasses
import hashlib
import inspect
import re

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC

from helpers import runtime, video
from helpers.lip_reading.mini import dataset, faces, scenes

NAME = re.compile(r"^(s\d\d)/(?P<word>[a-z]+)/\1_(?P=word)_(\d+|cut|away|empty)\.mp4$")
SPEAKERS = [f"s{number:02d}" for number in range(1, 13)]
YUNET = runtime.repo_root().parent / "shared/data/models/face_detection_yunet_2023mar.onnx"
CUT, AWAY, EMPTY = scenes.BROKEN


def path_of(speaker: str, word: str, take: int = 1) -> str:
    return f"{speaker}/{word}/{speaker}_{word}_{take}.mp4"


def digest(file) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lips")
    return folder, dataset.make_dataset(folder, speakers=2, repeats=1, jobs=2)


def test_words_are_balanced_permutations_of_the_same_shapes():
    orders = list(scenes.WORDS.values())
    assert len(set(orders)) == 8 and all(sorted(order) == sorted(scenes.VISEMES) for order in orders)
    for place in zip(*orders, strict=True):
        assert sorted(place) == sorted(2 * list(scenes.VISEMES))
    assert {order[::-1] for order in orders} == set(orders)  # each word backwards is another word


def test_comments_tell_which_word_is_which_backwards():
    told = re.findall(r'"(\w+)": \(.*\),  # (\w+) backwards', inspect.getsource(scenes))
    assert {word for pair in told for word in pair} == set(scenes.WORDS) and len(told) == 4
    assert all(scenes.WORDS[word] == scenes.WORDS[other][::-1] for word, other in told)


def test_files_have_the_layout_and_the_table_tells_the_truth(drawn):
    folder, table = drawn
    assert list(table.columns) == ["path", "label", "speaker", "frames", "fps", "broken"]
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.mp4"))
    assert files == list(table["path"]) and len(files) == 2 * 8 + 3 and all(NAME.match(file) for file in files)
    assert set(table.loc[table["broken"] != "", "path"]) == set(scenes.BROKEN)
    for row in table[table["path"] != CUT].itertuples():
        assert (row.speaker, row.label) == tuple(row.path.split("/")[:2])
        info = video.header_info(folder / row.path)
        assert (info["fps"], info["width"], info["height"]) == (row.fps, 112, 128)
        assert video.count_frames(folder / row.path) == row.frames and 1.95 < row.frames / row.fps < 2.65


def test_files_hold_what_was_planned(drawn):
    folder, _ = drawn
    drawn = np.stack(list(scenes.plan_clip(path_of("s02", "wisp")).frames())).astype(int)
    stored = np.stack(list(video.read_frames(folder / path_of("s02", "wisp"))))
    assert drawn.shape == stored.shape and np.abs(drawn - stored).mean() < 4
    assert np.abs(drawn[..., ::-1] - stored).mean() > 8  # red and blue are not swapped
    assert np.abs(drawn - drawn[:1]).mean() > 1  # it moves


def test_number_of_jobs_changes_nothing_and_the_seed_everything(drawn, tmp_path):
    folder, table = drawn
    again = dataset.make_dataset(tmp_path, speakers=2, repeats=1, jobs=1)
    pd.testing.assert_frame_equal(again, table)
    for name in [*table["path"], "points.csv"]:
        assert digest(tmp_path / name) == digest(folder / name)
    other = scenes.plan_clip(path_of("s01", "plow"), seed=1)
    assert other.speaker != scenes.plan_clip(path_of("s01", "plow")).speaker
    assert (
        scenes.plan_clip(path_of("s01", "plow", 2)).spans[0, 0] != scenes.plan_clip(path_of("s01", "plow")).spans[0, 0]
    )


def test_a_second_call_keeps_what_stands_and_makes_what_is_missing(drawn):
    folder, table = drawn
    kept, lost = folder / table["path"][4], folder / table["path"][7]
    before, content = kept.stat().st_mtime_ns, digest(lost)
    lost.unlink()
    dataset.make_dataset(folder, speakers=2, repeats=1, jobs=1)
    assert kept.stat().st_mtime_ns == before and digest(lost) == content


def test_points_are_written_for_every_frame(drawn):
    folder, table = drawn
    points = dataset.read_points(folder)
    assert {name: len(found) for name, found in points.items()} == {
        row.path: row.frames for row in table.itertuples() if row.frames
    }
    truth = scenes.plan_clip(path_of("s01", "opal")).points
    assert points[path_of("s01", "opal")].dtype == np.float32 and truth.shape[1:] == (5, 2)
    np.testing.assert_allclose(points[path_of("s01", "opal")], truth, atol=0.006)


@pytest.mark.parametrize("speaker", SPEAKERS)
def test_points_lie_on_the_drawn_features(speaker):
    """Features get colours of their own and are found by them; x runs along the tilted head."""
    clip = scenes.plan_clip(path_of(speaker, "limbo"), fps=12)
    plain = {"hair": (240,) * 3, "shirt": (240,) * 3, "skin": (140,) * 3, "iris": (0, 0, 255), "glasses": False}
    marked = dataclasses.replace(clip.speaker, lips=(0, 255, 0), light=1.0, **plain)
    room = np.full_like(clip.room, 240)
    for head, mouth, points in list(zip(clip.heads, clip.mouths, clip.points, strict=True))[::3]:
        image = faces.draw_face(room, marked, dataclasses.replace(head, eyelids=1.0), mouth).astype(int)
        red, green, blue = np.moveaxis(image, 2, 0)
        y, x = np.mgrid[: image.shape[0], : image.shape[1]]
        upright = (x + 1j * y) * np.exp(-1j * np.angle(head.turn))
        expected = points @ [1, 1j] * np.exp(-1j * np.angle(head.turn))

        lips = upright[(green > 90) & (green - np.maximum(red, blue) > 40)]
        assert abs(lips.real.min() - expected[3].real) < 2 and abs(lips.real.max() - expected[4].real) < 2
        assert lips.imag.min() < expected[3].imag < lips.imag.max()

        for eye in (0, 1):
            pupil = (image.max(axis=2) < 100) & (abs(upright - expected[eye]) < 7)
            assert pupil.sum() > 3 and abs(upright[pupil].mean() - expected[eye]) < 1.4

        tip = (image.min(axis=2) > 144) & (image.max(axis=2) < 154) & (abs(upright - expected[2]) < 6)
        assert tip.sum() > 4 and abs(upright[tip].mean() - expected[2]) < 1.5


def test_rates_are_mixed_alike_in_all_words_and_change_no_motion():
    rates = {word: sorted(scenes.plan_clip(path_of(name, word)).fps for name in SPEAKERS) for word in scenes.WORDS}
    assert all(mix == 8 * [25] + 2 * [30] + 2 * [60] for mix in rates.values())
    slow, fast = (scenes.plan_clip(path_of("s03", "atop"), fps=fps) for fps in (25, 60))
    np.testing.assert_array_equal(slow.points[::5], fast.points[::12][: len(slow.points[::5])])
    assert slow.mouths[10] == fast.mouths[24] and slow.heads[10] == fast.heads[24]


def test_onset_and_tempo_are_random():
    plans = [scenes.plan_clip(path_of(name, word)) for name in SPEAKERS for word in scenes.WORDS]
    onsets, ends = np.array([(plan.spans[0, 0], plan.spans[-1, 1]) for plan in plans]).T
    lengths = np.array([len(plan.points) / plan.fps for plan in plans])
    assert onsets.std() > 0.15 and (ends - onsets).max() > 3 * (ends - onsets).min()
    hesitating = [(plan.spans[1:, 0] > plan.spans[:-1, 1] + 1e-6).any() for plan in plans]
    assert 0.3 < np.mean(hesitating) < 0.7, "about half of the words are broken by a hesitation"
    assert onsets.min() > 0.04 and (lengths - ends).min() > 0.02  # whole words: the mouth rests before and after
    assert abs(onsets.mean() - (lengths - ends).mean()) < 0.08  # backwards they begin at the same times


def test_speakers_differ_and_share_out_every_trait():
    speakers = [faces.draw_speaker(number) for number in range(12)]
    assert {speaker.style for speaker in speakers} == set(faces.STYLES)
    assert {speaker.skin for speaker in speakers} == set(faces.SKINS)
    assert sum(speaker.glasses for speaker in speakers) == 3
    for trait, low, high in (("light", 0.72, 1.06), ("width", 0.74, 0.92), ("tempo", 0.9, 1.12)):
        places = [int(12 * (getattr(speaker, trait) - low) / (high - low)) for speaker in speakers]
        assert sorted(places) == list(range(12)), trait
    assert faces.draw_speaker(12) != speakers[0]


def test_broken_files_are_broken_as_they_say(drawn):
    folder, _ = drawn
    points = dataset.read_points(folder)
    with pytest.raises(ValueError, match="decodes"):
        video.count_frames(folder / CUT)
    assert (folder / CUT).stat().st_size > 1000
    missing = np.isnan(points[AWAY]).all(axis=(1, 2))
    assert 0.27 < missing.mean() < 0.4 and (np.isnan(points[AWAY]).any(axis=(1, 2)) == missing).all()
    frames = np.stack(list(video.read_frames(folder / AWAY))).astype(int)
    room = frames[np.flatnonzero(missing)[len(points[AWAY]) // 6]]
    change = np.abs(frames - room).mean(axis=(1, 2, 3))
    assert change[missing][2:-2].max() < 3 < 10 < change[~missing].min()
    assert np.isnan(points[EMPTY]).all()
    assert np.stack(list(video.read_frames(folder / EMPTY))).std(axis=0).max() < 4  # nobody moves there


def draw_crops(path: str, *, fps: int = 16, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Grey crops of the mouth (T, size, size), standardised per clip, and what is said in each frame ("" between visemes)."""
    clip, crops = scenes.plan_clip(path, fps=fps), []
    for frame, points in zip(clip.frames(), clip.points.astype(float), strict=True):
        eyes, center = points[1] - points[0], points[3:].mean(axis=0)
        turn = np.array([[eyes[0], eyes[1]], [-eyes[1], eyes[0]]]) * size / 1.5 / (eyes @ eyes)
        move = np.column_stack([turn, size / 2 - turn @ center])
        crops.append(cv2.warpAffine(cv2.cvtColor(cv2.blur(frame, (3, 3)), cv2.COLOR_RGB2GRAY), move, (size, size)))
    crops, times = np.stack(crops).astype(np.float32), np.arange(len(crops)) / fps
    said = np.where((times < clip.spans[0, 0]) | (times > clip.spans[-1, 1]), "rest", "").astype(object)
    for name, (begin, end) in zip(scenes.WORDS[path.split("/")[1]], clip.spans, strict=True):
        said[np.abs(times - (begin + end) / 2) < (end - begin) / 4] = name
    return (crops - crops.mean()) / crops.std(), said


def test_only_the_order_of_frames_tells_the_word():
    paths = [path_of(name, word) for name in SPEAKERS for word in scenes.WORDS]
    crops, said = zip(*map(draw_crops, paths), strict=True)
    words = np.array([path.split("/")[1] for path in paths])
    test = np.array([path[:3] in SPEAKERS[8:] for path in paths])

    means = np.stack([clip.mean(axis=0).ravel() for clip in crops])
    for strength in (0.001, 0.1):
        model = LogisticRegression(C=strength, max_iter=200).fit(means[~test], words[~test])
        assert model.score(means[test], words[test]) < 0.3  # chance is 0.125

    # What is left without the mean frame: the shapes one by one, and their order, which is the word.
    moving = [(clip - clip.mean(axis=0)).reshape(len(clip), -1) for clip in crops]
    frames = np.concatenate([clip for clip, unseen in zip(moving, test, strict=True) if not unseen])
    shown = np.concatenate([names for names, unseen in zip(said, test, strict=True) if not unseen])
    shapes = SVC(C=10).fit(frames[shown != ""], shown[shown != ""].astype(str))

    def read(clip: np.ndarray) -> tuple:
        """The visemes in the order in which each is seen best."""
        best = dict(zip(shapes.classes_, shapes.decision_function(clip).argmax(axis=0), strict=True))
        return tuple(sorted(scenes.VISEMES, key=best.get))

    unseen = [(scenes.WORDS[word], clip) for word, clip, there in zip(words, moving, test, strict=True) if there]
    assert np.mean([read(clip) == order for order, clip in unseen]) > 0.75
    assert np.mean([read(clip[::-1]) == order[::-1] for order, clip in unseen]) > 0.75


@pytest.mark.skipif(not YUNET.exists(), reason="YuNet's model file is not here")
def test_yunet_finds_the_drawn_faces_and_no_other():
    detector = cv2.FaceDetectorYN.create(str(YUNET), "", (112, 128), 0.7)
    for number, name in enumerate(SPEAKERS):
        clip = scenes.plan_clip(path_of(name, list(scenes.WORDS)[number % 8]), fps=5)
        for frame, points in zip(clip.frames(), clip.points, strict=True):
            faces = detector.detect(np.ascontiguousarray(frame[..., ::-1]))[1]
            assert faces is not None and len(faces) == 1, name
            distance = np.linalg.norm(faces[0, 4:14].reshape(5, 2) - points, axis=1)
            assert distance.max() < 0.4 * clip.speaker.eyes, name
        assert detector.detect(np.ascontiguousarray(clip.room[..., ::-1]))[1] is None


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda folder: dataset.make_dataset(folder, speakers=1), "speakers must be 2 or more.*speakers=1"),
        (lambda folder: dataset.make_dataset(folder, repeats=0), "repeats 1 or more.*repeats=0"),
        (lambda folder: scenes.plan_clip("s01/hello/s01_hello_1.mp4"), "about, atop.*hello"),
        (lambda folder: scenes.plan_clip("s02/about/s01_about_1.mp4"), "must look like.*s02/about"),
        (lambda folder: scenes.plan_clip("s1/about/s1_about_1.mp4"), "from 1"),
        (lambda folder: scenes.plan_clip("s00/about/s00_about_1.mp4"), "from 1"),
        (lambda folder: scenes.plan_clip("s01/about/s01_about_away.mp4"), "or be one of"),
        (lambda folder: scenes.plan_clip("nothing"), "must look like"),
    ],
)
def test_bad_arguments_are_named(call, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_points_of_another_folder_are_missed(tmp_path):
    with pytest.raises(FileNotFoundError):
        dataset.read_points(tmp_path)
