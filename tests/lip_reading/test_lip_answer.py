"""A clip of one's own: read as step evaluate reads the test side, and refused with the frames in which there is no face."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import functools

import cv2
import numpy as np
import pytest

from helpers import config as configs
from helpers import video
from helpers.lip_reading import answer, faces, runs, steps
from helpers.lip_reading.batches import Lips
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.mini import dataset


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Mini with four speakers and one epoch, all five steps: config, folder of the clips, network, words, what evaluate found."""
    config = configs.load(configs.find("lip_reading", "mini"), LipReadingConfig)
    config = dataclasses.replace(config, epoch=1, validation_share=0.25, test_share=0.25)
    place = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "make_dataset", functools.partial(dataset.make_dataset, speakers=4, repeats=1))
        done = {step.name: step(config, place) for step in steps.STEPS}
    lips = Lips.of(done["split"])
    network = runs.load_network(config, lips, done["train"].folder)
    return config, done["build_dataset"].source_root, network, lips.words, done["evaluate"]


@pytest.fixture
def published(trained, monkeypatch, tmp_path):
    """That network as the published one, and no face detector in the workspace."""
    config, _, network, words, _ = trained
    monkeypatch.setattr(answer.weights, "settings", lambda project: config)
    monkeypatch.setattr(runs, "load_published", lambda: network, raising=False)
    monkeypatch.setattr(runs, "published_words", lambda: words, raising=False)
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))


def test_a_clip_of_the_test_side_is_read_as_step_evaluate_reads_it(trained, published):
    config, root, network, words, evaluated = trained
    probabilities = np.load(evaluated.folder / "probabilities.npy")
    predictions = evaluated.table("predictions")
    assert len(predictions) >= 8
    for row, scores in list(zip(predictions.itertuples(), probabilities, strict=True))[::3]:
        found = answer.answer(root / row.path)
        best = np.argsort(-scores, kind="stable")[:5]
        assert found.table["word"].tolist() == [words[number] for number in best]
        assert np.allclose(found.table["probability"], scores[best], atol=1e-5)
        assert found.text[0].startswith(
            f"{row.path.rsplit('/')[-1]} is read as {row.predicted} {row.probability:.2f}; less sure: "
        )
        assert "trained on drawn faces alone, which say 8 words. A real face is something else" in found.text[-1]
        assert found.picture.dtype == np.uint8 and found.picture.shape == (240, 720, 3)
    own = answer.answer(root / row.path, network, config=config, words=words)
    assert own.table.equals(found.table) and own.text[-1] == "The network: one that you trained."


def test_a_clip_from_elsewhere_gets_the_detector(trained, published, tmp_path, monkeypatch):
    _, root, _, _, evaluated = trained
    path = evaluated.table("predictions")["path"][0]
    points = dataset.read_points(root)[path]
    (tmp_path / "mine.mp4").write_bytes((root / path).read_bytes())
    seen, fetched = iter(points), []

    def find_faces(frame, model):
        assert model == tmp_path / "yunet.onnx"
        corners = next(seen)
        box = [corners.min(axis=0) - 20, corners.max(axis=0) + 20]
        return np.concatenate([box, corners])[None].astype(np.float32)

    monkeypatch.setattr(faces, "fetch_model", lambda folder: fetched.append(folder) or tmp_path / "yunet.onnx")
    monkeypatch.setattr(faces, "find_faces", find_faces)
    found = answer.answer(tmp_path / "mine.mp4")
    assert fetched == [tmp_path / "workspace" / "downloads" / "yunet"]
    assert found.table.equals(answer.answer(root / path).table)


def test_a_clip_without_a_face_is_refused_with_its_frames(trained, published):
    _, root, _, _, _ = trained
    with pytest.raises(
        ValueError, match=r"empty\.mp4: a face was found in 0 of .* none in frames 0 to [0-9]+. Take a clip of"
    ):
        answer.answer(root / "s02" / "opal" / "s02_opal_empty.mp4")
    points = np.zeros((10, 5, 2), np.float32)
    points[[0, 3, 4, 9]] = np.nan
    answer._check(root / "a.mp4", points, 0.6)
    points[5] = np.nan
    with pytest.raises(
        ValueError,
        match=r"a\.mp4: .* in 5 of 10 frames, needed are 60%; .* none in frames 0, 3 to 5, 9\. Take",
    ):
        answer._check(root / "a.mp4", points, 0.6)


def test_a_long_clip_is_one_word_and_the_answer_says_so(trained, published, tmp_path):
    _, root, _, _, evaluated = trained
    path = root / evaluated.table("predictions")["path"][0]
    frames = list(video.read_frames(path))
    (tmp_path / "clips").mkdir()
    points = (root / "points.csv").read_text().splitlines()
    video.write_video(tmp_path / "clips" / "long.mp4", frames, 5)
    rows = [line.split(",", 1)[1] for line in points if line.startswith(path.relative_to(root).as_posix())]
    (tmp_path / "clips" / "points.csv").write_text("\n".join([points[0], *(f"long.mp4,{row}" for row in rows)]))
    found = answer.answer(tmp_path / "clips" / "long.mp4")
    assert (
        f"long.mp4 lasts {len(frames) / 5:.1f} s and is read as one word: cut a clip of about 2 s around the word"
        in found.text
    )


def test_a_picture_is_no_clip(trained, published, tmp_path):
    cv2.imwrite(str(tmp_path / "face.jpg"), np.zeros((40, 40, 3), np.uint8))
    with pytest.raises(ValueError, match=r"face.jpg is a picture; expected a video"):
        answer.answer(tmp_path / "face.jpg")
