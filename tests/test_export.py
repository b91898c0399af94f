"""`helpers.course.export`: files held against NumPy and against Keras, on what mini draws for its test side."""

from helpers import runtime

runtime.quiet_start()

from importlib import import_module

import cv2
import keras
import numpy as np
import pytest

from helpers import config, video
from helpers.__main__ import main
from helpers.boat_detection import darknet
from helpers.boat_detection.mini import dataset as harbours
from helpers.course import export
from helpers.lip_reading.mini import scenes
from helpers.temporal_coherence.batches import BRIGHTER
from helpers.temporal_coherence.mini import dataset as sports

pytestmark = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the converter is TensorFlow's")


def small(frames, size):
    return np.stack([cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames])


def harbour(folder):
    harbours.make_clip(folder / "harbour.mp4", seconds=1, fps=3)
    return small(video.read_frames(folder / "harbour.mp4"), (128, 192)) / 255


def mouth(folder):
    whole = list(scenes.plan_clip("s01/about/s01_about_1.mp4").frames())  # a speaker of the test side
    height, width = whole[0].shape[:2]
    frames = small([frame[height // 2 :, width // 4 : -width // 4] for frame in whole], (32, 32))
    return frames[None, np.linspace(0, len(frames) - 1, 32).astype(int)].mean(axis=-1, keepdims=True) / 255


def movement(folder):
    frames = small(sports.draw_clip("Rowing", 3, 1), (67, 67)).astype(int)  # group 3 is of the test side
    return np.clip(BRIGHTER * np.abs(frames[4::8] - frames[:-4:8]), 0, 255) / 255


ITEMS = {"boat_detection": harbour, "lip_reading": mouth, "temporal_coherence": movement}


def network_of(project):
    """Mini's network, with averages of batch normalisation that are not 0 and 1."""
    runs = import_module(f"helpers.{project}.runs")
    mini = config.load(config.find(project, "mini"), config.schema_of(project))
    if project == "boat_detection":
        cfg = darknet.parse_cfg(runs.write_cfg(mini, 1, np.array([[40.0, 30.0]])))
        network = runs.build_network(mini, cfg)
        network.cfg = cfg
    else:
        network = runs.build_network(mini, 8) if project == "lip_reading" else runs.build_network(mini, mini.loss)[1]
    rng = np.random.default_rng(1)
    values = network.get_weights()
    zeros = [rng.normal(0, 0.05, value.shape) * (value == 0) for value in values]
    network.set_weights([v * rng.uniform(0.7, 1.4, v.shape) + zero for v, zero in zip(values, zeros, strict=True)])
    return network


@pytest.fixture(scope="module", params=ITEMS)
def exported(request, tmp_path_factory):
    """Of a project: its model for inference, inputs, and the file."""
    folder = tmp_path_factory.mktemp(request.param)
    model, items = export.build(request.param, network_of(request.param)), ITEMS[request.param](folder)
    assert 0.05 < items.max() <= 1 and items.std() > 0.01, "a picture is there"
    return request.param, model, items.astype("float32"), export.to_litert(model, folder / "model.tflite")


def test_a_network_gives_what_keras_gives(exported):
    project, model, items, path = exported
    expected, found = keras.tree.flatten(model.predict_on_batch(items)), export.load_litert(path)(items)
    assert [part.shape for part in found] == [part.shape for part in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5, err_msg=project)
        assert np.ptp(other) > 1e-4, "not the same number everywhere"
    assert export.difference(model, path, items) < 1e-5
    numbers = sum(int(np.prod(weight.shape)) for weight in model.weights)
    assert 4 * numbers * 0.9 < path.stat().st_size < 4 * numbers + 60_000


def test_smaller_numbers_make_smaller_files_that_are_a_little_off(exported, tmp_path):
    project, model, items, whole = exported
    sizes, off = [whole.stat().st_size], [export.difference(model, whole, items)]
    for precision in ("float16", "int8"):
        path = export.to_litert(model, tmp_path / f"{precision}.tflite", precision=precision)
        sizes.append(path.stat().st_size)
        off.append(export.difference(model, path, items))
    assert sizes[0] > 1.5 * sizes[1] > 1.5 * sizes[2], (project, sizes)
    assert off[0] < off[1] < off[2] < 0.3, (project, off)


def test_the_published_form_is_the_networks_own(exported):
    """What is added to a network: a decoding, a softmax, a length of 1."""
    project, model, items, _ = exported
    found = model.predict_on_batch(items)
    if project == "boat_detection":
        assert [part.shape for part in found] == [(3, 96, 4), (3, 96), (3, 96, 1)]
    elif project == "lip_reading":
        logits = model.get_layer("folded").layer.predict_on_batch(items)
        powers = np.exp(logits - logits.max())
        np.testing.assert_allclose(found, powers / powers.sum(), atol=1e-5)
    else:
        np.testing.assert_allclose((found**2).sum(axis=1), 1, rtol=1e-5)


def test_twelve_outputs_keep_their_order(tmp_path, capfd):
    inputs = keras.Input((None,))
    model = keras.Model(inputs, [keras.layers.Rescaling(k + 1.0, offset=0.5)(inputs) for k in range(12)])
    path = export.to_litert(model, tmp_path / "twelve.tflite", (3,))
    items = np.array([[1, 2, 3], [-1, 0, 7]], "float32")
    for k, part in enumerate(export.load_litert(path)(items)):
        np.testing.assert_allclose(part, items * (k + 1) + 0.5, rtol=1e-6)
    assert capfd.readouterr().err == "", "a notebook shows what is written there"


def test_the_command_says_where_and_how_large(tmp_path, monkeypatch, capfd):
    runs, path = import_module("helpers.temporal_coherence.runs"), tmp_path / "t.tflite"
    monkeypatch.setattr(runs, "load_published", lambda: network_of("temporal_coherence"), raising=False)
    assert main(["export", "temporal_coherence", "--out", str(path), "--precision", "float16"]) == 0
    said, errors = capfd.readouterr()
    assert said.startswith(f"{path}: {path.stat().st_size:,} bytes, within ") and errors == ""
    assert main(["export", "circulant_video"]) == 1
    assert "'circulant_video' can be exported; there are: boat_detection, lip_reading" in capfd.readouterr().err


def plain():
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])


def pooling():
    return keras.Sequential([keras.Input((4, 4, 4, 1)), keras.layers.MaxPooling3D(2)], name="pools")


BAD = [
    (lambda folder: export.to_litert(plain(), folder / "a", precision="int4"), ValueError, "one of float32, float16, int8"),
    (lambda folder: export.to_litert(plain(), folder / "a", (None, 2)), ValueError, r"every side in numbers.*\(None, 2\)"),
    (lambda folder: export.to_litert(pooling(), folder / "a"), ValueError, "pools cannot be .* which lacks tf.MaxPool3D: build"),
    (lambda folder: export.load_litert(folder / "none.tflite"), FileNotFoundError, "none.tflite: python -m helpers export"),
    (lambda folder: export.load_litert(folder / "text.tflite"), ValueError, "text.tflite is no LiteRT file"),
    (lambda folder: export.load_litert(folder / "empty.tflite"), ValueError, "empty.tflite is no LiteRT file"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "words"), BAD)
def test_bad_input_is_one_sentence(call, kind, words, tmp_path, capfd):
    (tmp_path / "text.tflite").write_text("no network but a text that is long enough to be read")
    (tmp_path / "empty.tflite").touch()
    with pytest.raises(kind, match=words):
        call(tmp_path)
    assert not (tmp_path / "a").exists() and capfd.readouterr().err == ""
