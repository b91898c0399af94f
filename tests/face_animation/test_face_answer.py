"""A clip of one's own drives a picture: as evaluate animates, side by side; what is refused, what is said, which picture moves."""

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

from helpers import runtime, video

runtime.quiet_start()

from helpers.__main__ import main
from helpers.course import weights
from helpers.face_animation import answer, data, runs, splits, steps
from helpers.face_animation.animate import Animator
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import scoring
from helpers.face_animation.mini import dataset

CONFIG = FaceAnimationConfig(
    source="mini", size=32, n_groups=2, by_person=True, seed=3, pairs=2, variants=("fomm",), network="tiny64",
    perceptual="stand_in", generator_gan=0.0, allow_cpu=True, adapt_scale=False, start="best",
)  # fmt: skip
TINY = {
    "num_keypoints": 3,
    "detector": {"width": 4, "max_width": 8, "num_blocks": 1, "scale": 0.5},
    "generator": {"width": 4, "max_width": 8, "num_downs": 1, "num_residuals": 1, "motion_width": 4, "motion_max_width": 8}
    | {"motion_blocks": 1, "scale": 0.5},
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "MINI", {"people": (2, 4), "clips": 1})
        patch.setitem(runs.WIDTHS, "tiny64", TINY)
        patch.setenv("COURSE_PROGRESS", "0")
        yield


@pytest.fixture(scope="module")
def networks(small):
    return dict(zip(runs.PARTS, runs.load_networks(CONFIG, "fomm"), strict=True))


@pytest.fixture(scope="module")
def place(small, tmp_path_factory):
    """A workspace with a few puppets, split: a GIF, a strip, a folder of pictures and a film are for the test."""
    root = tmp_path_factory.mktemp("workspace")
    for step in steps.STEPS[:3]:
        step(CONFIG, root)
    return root


def test_a_test_clip_drives_as_in_the_animations_of_evaluate(place, networks, monkeypatch, tmp_path):
    table = splits.clips_on(steps.split.load(CONFIG, place).table("clips"), "test")
    before = steps.build_dataset.load(CONFIG, place)
    found = before.table("clips").set_index("clip")
    written = []
    monkeypatch.setattr(scoring.video, "write_video", lambda path, frames, fps: written.append(np.asarray(frames)))
    prepared = steps.preprocess.load(CONFIG, place).source_root
    options = {name: getattr(CONFIG, name) for name in ("relative", "adapt_scale", "start")}
    animator = Animator(*networks.values(), batch_size=scoring.BATCH)
    pairs = table[["clip"]].rename(columns={"clip": "driving"}).assign(source=table["clip"].iloc[0])
    scoring.animate_pairs(pairs, table, prepared, {"fomm": animator}, tmp_path, **options)
    monkeypatch.undo()
    forms = set()
    for name, wanted in zip(pairs["driving"], written, strict=True):
        forms.add(found.loc[name, "form"])
        still = prepared / table.set_index("clip").loc[pairs["source"].iloc[0], "path"]
        made = answer.answer(before.source_root / found.loc[name, "path"], networks, CONFIG, source=still)
        assert made.kind == "clip" and made.frames.shape == (len(wanted), 192, 3 * 192, 3)
        for frame, small in zip(made.frames[::9], wanted[::9], strict=True):
            result = cv2.resize(small[:, -32:], (192, 192), interpolation=cv2.INTER_CUBIC)
            assert np.array_equal(frame[:, -192:], result)
    assert forms == {"gif", "strip", "folder", "video"}


def film(frames=6, shape=(40, 60)):
    return lambda path: video.write_video(
        path, np.random.default_rng(0).integers(0, 255, (frames, *shape, 3), np.uint8), 30
    )


def test_a_drawn_puppet_moves_if_no_picture_is_given(networks, tmp_path):
    film()(tmp_path / "own.mp4")
    found = answer.answer(tmp_path / "own.mp4", networks, CONFIG)
    puppet = dataset.make_pair(2, 3, size=32).source  # the first of the test
    drawn = cv2.resize(puppet, (192, 192), interpolation=cv2.INTER_CUBIC)
    assert all(np.array_equal(frame[:, :192], drawn) for frame in found.frames) and found.fps == 30
    asked = next(iter(video.read_frames(tmp_path / "own.mp4")))
    assert np.array_equal(found.frames[0, :, 192:384], cv2.resize(asked, (192, 192), interpolation=cv2.INTER_CUBIC))
    assert found.text[1:] == [
        "its 60x40 pixels are squeezed into a square: cut it to the face first",
        f"The network: trained on {answer.LIMITS['mini']}",
        "Animate only people who have agreed to it, and say of every animation that it is one.",
    ]


def test_an_own_picture_moves_and_an_animator_serves(networks, tmp_path):
    film(shape=(40, 40))(tmp_path / "own.mp4")
    picture = np.random.default_rng(1).integers(0, 255, (50, 50, 3), np.uint8)
    Image.fromarray(picture).convert("RGBA").save(tmp_path / "me.png")
    animator = Animator(*networks.values(), batch_size=2)
    found = answer.answer(tmp_path / "own.mp4", animator, CONFIG, source=tmp_path / "me.png")
    frames = list(video.read_frames(tmp_path / "own.mp4"))
    wanted = animator.animate(picture, frames, adapt_scale=False, start="best")
    assert np.array_equal(found.frames[3, :, 384:], cv2.resize(wanted[3], (192, 192), interpolation=cv2.INTER_CUBIC))
    assert len(found.text) == 3


def test_the_command_moves_a_picture_by_the_published_networks(networks, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(weights, "settings", lambda project: CONFIG)
    monkeypatch.setattr(runs, "load_published", lambda config: networks)
    film(4, (40, 40))(tmp_path / "own.mp4")
    photo(tmp_path / "me.png")
    command = ["try", "face_animation", str(tmp_path / "own.mp4"), "--out", str(tmp_path / "out")]
    assert main([*command, "--source", str(tmp_path / "me.png")]) == 0
    saved = tmp_path / "out" / "own-face_animation.webm"
    assert capsys.readouterr().out.endswith(f"{answer.WARNING}\nsaved: {saved}\n")
    made = list(video.read_frames(saved))
    assert len(made) == 4 and made[0].shape == (192, 576, 3) and made[0][:, :192].mean() < 5  # the black photo


def test_a_long_clip_is_cut_and_that_is_said(networks, tmp_path, monkeypatch):
    film(12, (40, 40))(tmp_path / "own.mp4")
    for longest, count, lines in ((5, 5, 1), (12, 12, 0), (13, 12, 0)):
        monkeypatch.setattr(answer, "LONGEST", longest)
        found = answer.answer(tmp_path / "own.mp4", networks, CONFIG)
        assert len(found.frames) == count and len(found.text) == 3 + lines


def photo(path):
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(path)


REFUSED = [
    (film(1), "own.mp4", ValueError, "own.mp4 has 1 frame, at least 2 are needed: take a clip"),
    (
        lambda path: path.write_text("no film"),
        "own.mp4",
        ValueError,
        "own.mp4 is a text; expected a video or a picture",
    ),
    (lambda path: None, "own.mp4", FileNotFoundError, "own.mp4: check its name"),
    (lambda path: path.mkdir(), "own", ValueError, "own is a folder without pictures; expected a clip"),
    (
        photo,
        "own.png",
        ValueError,
        "own.png is one picture; expected a clip: --source takes the picture that is to move",
    ),
]


@pytest.mark.parametrize(("make", "name", "error", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_sentence(networks, tmp_path, make, name, error, words):
    make(tmp_path / name)
    with pytest.raises(error) as refusal:
        answer.answer(tmp_path / name, networks, CONFIG)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_picture_to_move_that_is_none_is_refused(networks, tmp_path):
    film(2, (40, 40))(tmp_path / "own.mp4")
    (tmp_path / "me.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"me\.png is a text; expected a picture or a video"):
        answer.answer(tmp_path / "own.mp4", networks, CONFIG, source=tmp_path / "me.png")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        answer.answer(tmp_path / "own.mp4", networks, CONFIG, source=tmp_path / "gone.png")


def test_another_source_of_the_data_is_named(networks, tmp_path):
    film(2, (40, 40))(tmp_path / "own.mp4")
    own = dataclasses.replace(CONFIG, source="local", local_folder=".")
    assert "The network: trained on clips of source local." in answer.answer(tmp_path / "own.mp4", networks, own).text


def test_read_frames_are_those_of_the_clip(place):
    root = steps.build_dataset.load(CONFIG, place).source_root
    for path in sorted((root / "test").iterdir()):
        timing = data.read_timing(path)
        assert np.array_equal(np.stack(list(data.stream_steadily(path, timing))), data.read_clip(path))
