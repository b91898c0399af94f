"""The same numbers as OpenCV 4's Darknet reader: golden/make_darknet.py says how they were made."""

from helpers import runtime

runtime.quiet_start()

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pytest

from helpers.boat_detection import darknet, model
from helpers.boat_detection.formats.darknet import cfg_files

SPEC = importlib.util.spec_from_file_location("make_darknet", Path(__file__).parent / "golden" / "make_darknet.py")
MAKE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MAKE)
CASES = [pytest.param(*case, id="{}-{}x{}".format(*case)) for case in MAKE.CASES]
FACE = runtime.repo_root().parent / "shared" / "data" / "boats" / "darknet" / "yoloface-50k.cfg"


@pytest.fixture(scope="module")
def golden():
    with np.load(MAKE.GOLDEN) as file:
        return dict(file)


def build(name, epsilon, folder):
    """The network of a case with the weights of its seed."""
    text, seed = MAKE.NETWORKS[name]
    cfg = cfg_files.parse_cfg(text)
    values = MAKE.make_weights(cfg, seed)
    MAKE.write_weights(folder / "a.weights", values)
    network = darknet.build_from_cfg(cfg, epsilon=epsilon)
    count = sum(layer.kind == "convolutional" for layer in cfg.layers)
    assert darknet.load_weights(network, folder / "a.weights") == (count, 0)
    return network, cfg, values


def opencv_rows(found):
    """Boxes, objectness and classes as OpenCV lays them out: x, y, w, h, objectness, objectness x class."""
    boxes, objectness, classes = (keras.ops.convert_to_numpy(part)[0] for part in found)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([centre, size, objectness[:, None], objectness[:, None] * classes], axis=1)


def assert_close(rows, expected):
    assert rows.shape == expected.shape
    np.testing.assert_allclose(rows[:, 2:4], expected[:, 2:4], rtol=1e-3)
    np.testing.assert_allclose(np.delete(rows, (2, 3), 1), np.delete(expected, (2, 3), 1), atol=1e-5)


@pytest.mark.parametrize(("name", "height", "width"), CASES)
def test_boxes_of_opencv(name, height, width, golden, tmp_path):
    network, cfg, values = build(name, 1e-6, tmp_path)
    image, key = MAKE.make_image(height, width), f"{name}-{height}x{width}"
    assert MAKE.digest(values, image) == str(golden[f"{key}-digest"]), (
        "weights or image are not those of the golden file"
    )
    rows = opencv_rows(darknet.decode(darknet.heads(network, image), cfg, (height, width)))
    assert_close(rows[:: MAKE.STEP], golden[key])


def test_compiled_detector_gives_the_same(golden, tmp_path):
    network, cfg, _ = build("tiny", 1e-6, tmp_path)
    found = model.build_inference_model(network, cfg, (96, 160)).predict_on_batch(MAKE.make_image(96, 160))
    assert_close(opencv_rows(found)[:: MAKE.STEP], golden["tiny-96x160"])


@pytest.mark.parametrize("epsilon", [1e-5, 1e-3])
def test_epsilon_shows(epsilon, golden, tmp_path):
    """Darknet's own epsilon, and Keras's, give other boxes than OpenCV's: the test above can fail."""
    network, cfg, _ = build("tiny", epsilon, tmp_path)
    rows = opencv_rows(darknet.decode(darknet.heads(network, MAKE.make_image(96, 96)), cfg, 96))
    assert np.abs(rows[:: MAKE.STEP] - golden["tiny-96x96"]).max() > 1e-3


def test_genuine_weights(golden):
    """yoloface-50k as its authors trained it: depthwise convolutions, pools of size 8 and 4, shortcuts."""
    if not FACE.is_file():
        pytest.skip("needs ../shared")
    network = darknet.build_from_cfg(FACE, epsilon=1e-6)
    assert darknet.load_weights(network, FACE.with_suffix(".weights")) == (24, 504_704)
    rows = opencv_rows(darknet.decode(darknet.heads(network, MAKE.make_image(*MAKE.FACE)), FACE, MAKE.FACE))
    assert len(rows) == 7 * 7 * 3
    assert_close(rows[golden["yoloface-place"]], golden["yoloface"])


def test_genuine_weights_are_saved_bit_for_bit(tmp_path):
    if not FACE.is_file():
        pytest.skip("needs ../shared")
    network = darknet.build_from_cfg(FACE)
    _, seen = darknet.load_weights(network, FACE.with_suffix(".weights"))
    darknet.save_weights(network, tmp_path / "a.weights", seen=seen)
    assert (tmp_path / "a.weights").read_bytes()[12:] == FACE.with_suffix(".weights").read_bytes()[12:]
