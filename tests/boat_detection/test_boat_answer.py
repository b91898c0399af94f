"""A photo or clip of one's own: boxes are those that step evaluate finds, and every answer says what its network has seen."""

from helpers import runtime

runtime.quiet_start()


import numpy as np
import pytest
from test_sides import load

from helpers import video
from helpers.boat_detection import answer, data, runs, steps
from helpers.boat_detection.evaluation import finders
from helpers.boat_detection.metrics.overlap import CORNERS


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny training: its config, its finder, its test pictures and what step evaluate found in them."""
    config, place = (
        load("boat_detection").prepare(tmp_path_factory.mktemp("album")),
        tmp_path_factory.mktemp("workspace"),
    )
    done = {step.name: step(config, place) for step in steps.STEPS}
    pictures, _ = data.side_of(done["preprocess"], done["split"], "test")
    finder = finders.load_finder(config, done["train"].folder)
    return config, finder, pictures, done["evaluate"].table("trained")


def test_a_picture_of_the_test_side_gets_the_boxes_of_step_evaluate(trained):
    _, finder, pictures, evaluated = trained
    assert len(pictures) >= 2
    for picture in pictures.itertuples():
        found = answer.answer(picture.path, finder, confidence=finders.LEAST_SCORE)
        expected = evaluated[evaluated["image"] == picture.image]
        assert len(expected) and len(found.table) == len(expected)
        columns = [*CORNERS, "score"]  # pixels
        assert np.allclose(found.table[columns].to_numpy(float), expected[columns].to_numpy(float), atol=1e-3)
        assert found.kind == "picture" and found.picture.shape == (32 * 12, 48 * 12, 3), "enlarged to be legible"
        assert found.text[0].startswith(f"{len(expected)} boat") and "48 x 32 pixels" in found.text[0]
        assert found.text[2].split()[:2] == ["boat", f"{expected['score'].max():.2f}"]


def test_no_boat_is_an_answer_too(trained):
    _, finder, pictures, _ = trained
    found = answer.answer(pictures["path"][0], finder, confidence=0.9999)
    assert found.text == [
        f"no boats in {pictures['image'][0]}.jpg (48 x 32 pixels), certainty above 0.9999",
        "The network: one that you trained.",
    ]


@pytest.mark.parametrize(("fps", "count", "looked"), [(16, 40, range(0, 40, 2)), (4, 9, range(9)), (25, 60, None)])
def test_a_clip_is_looked_at_eight_times_a_second_for_a_while(trained, tmp_path, monkeypatch, fps, count, looked):
    monkeypatch.setattr(answer, "SECONDS", 30 if looked else 2)
    _, finder, pictures, _ = trained
    photos = [data.read_image(path) for path in pictures["path"]]
    path = tmp_path / "clip.avi"
    video.write_video(path, (photos[number % len(photos)] for number in range(count)), fps, codec="MJPG")
    found = answer.answer(path, finder, confidence=finders.LEAST_SCORE)
    assert found.kind == "clip" and found.fps == min(8, fps) and found.frames.shape[1:] == (32 * 12, 48 * 12, 3)
    if looked is None:
        assert len(found.frames) == 16 and max(found.table["image"]) < 50
        assert "16 of 60 frames of clip.avi, 2.0 of its 2.4 s" in found.text[1]
        return
    frames = list(video.read_frames(path))
    expected = finder.look([frames[number] for number in looked], names=list(looked), threshold=finders.LEAST_SCORE)
    assert len(found.frames) == len(looked) and found.table["image"].tolist() == expected["image"].tolist()
    relative = found.table[CORNERS].to_numpy(float) / [48, 32, 48, 32]
    assert np.allclose(relative, expected[CORNERS].to_numpy(float), atol=1e-4)
    assert found.text[0].startswith(f"boats in {expected['image'].nunique()} of {len(looked)} frames, up to ")


@pytest.fixture
def published(trained, monkeypatch):
    """The tiny training as the published one; weights of COCO are loaded in pretence, and the list says which."""
    config, finder, _, _ = trained
    finder.network.cfg, loaded = finder.cfg, []
    monkeypatch.setattr(answer.weights, "settings", lambda project: config)
    monkeypatch.setattr(runs, "load_published", lambda: finder.network, raising=False)
    monkeypatch.setattr(
        answer.published, "load_published", lambda network, name, start, folder: loaded.append((name, start))
    )
    return loaded


ASKED = [  # files that are there, what was asked for, the network that looks
    ((), None, "drawn"),
    ((), "mini", "drawn"),
    ((), "coco", "yolov3-tiny"),
    (("yolov3-tiny.weights",), None, "yolov3-tiny"),
    (("yolov3-tiny.weights",), "mini", "drawn"),
    (("yolov3-tiny.weights", "yolov3.weights"), None, "yolov3"),
]


@pytest.mark.parametrize(("there", "asked", "network"), ASKED)
def test_photos_weights_are_used_where_they_are_or_are_asked_for(
    trained, published, monkeypatch, there, asked, network
):
    monkeypatch.setattr(answer, "_is_there", lambda name, folder: name in there)
    write = answer.networks.yolov3_tiny_cfg
    thin = {name: lambda classes, **_: write(classes, width=0.02) for name in answer.networks.WRITERS}
    monkeypatch.setattr(answer.networks, "WRITERS", thin)
    about = answer.answer(trained[2]["path"][0], weights=asked).text[-1]
    assert published == ([] if network == "drawn" else [(network, "coco")])
    told = (
        "trained on drawn harbours alone. A photo is something else" if network == "drawn" else f"Darknet's {network}, "
    )
    assert told in about


def test_only_a_whole_file_counts_as_there(tmp_path):
    (tmp_path / "yolov3-tiny.weights").write_bytes(bytes(1000))
    assert not answer._is_there("yolov3-tiny.weights", tmp_path) and not answer._is_there("yolov3.weights", tmp_path)


def test_what_cannot_be_answered_is_refused(tmp_path, trained):
    (tmp_path / "list.jpg").write_text("bread, milk\n" * 20)
    with pytest.raises(ValueError, match=r"list.jpg is a text; expected a picture or a video"):
        answer.answer(tmp_path / "list.jpg")
    with pytest.raises(ValueError, match="weights: received 'cocoa'; allowed: mini, coco, yolov3"):
        answer.answer(trained[2]["path"][0], weights="cocoa")
