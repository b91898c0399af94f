"""From a config to batches, network, loss, optimiser and finder: every setting arrives where it acts, and nothing trains."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
import pytest

from helpers.boat_detection import darknet, metrics, runs
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import finders, scoring
from helpers.boat_detection.formats.darknet import keras_weights, networks
from helpers.boat_detection.formats.darknet.optimizers import DarknetSGD
from helpers.boat_detection.sources import local, published

CONFIG = BoatDetectionConfig(
    source="mini", network="yolov3-tiny", width=0.05, size=64, resize="stretch", optimizer="adam", learning_rate=2e-3,
    burn_in=0, schedule="cosine", batch_size=4, subdivisions=1, iterations=12, evaluate_every=6, batch_norm_momentum=0.9,
    jitter=0.0, multi_scale=False,
)  # fmt: skip


def change(**values):
    return dataclasses.replace(CONFIG, **values)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Eight pictures, one of them with two boats, one with an area to ignore."""
    folder = tmp_path_factory.mktemp("photos")
    names = [f"p{number}" for number in range(8)]
    for number, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}.jpg"), np.full((40, 80, 3), 20 * number, np.uint8))
    pictures = pd.DataFrame(
        {"image": names, "width": 80, "height": 40, "path": [str(folder / f"{n}.jpg") for n in names]}
    )
    corners = {"x1": 0.25, "y1": 0.5, "x2": 0.75, "y2": 0.9}
    boxes = pd.DataFrame({"image": [*names, "p0"], "class": 0, **corners, "ignore": [False] * 7 + [True, False]})
    boxes.loc[8, "x2"] = 0.5
    return pictures, boxes


# --- the .cfg ---


def test_the_cfg_says_what_the_config_says():
    config = change(
        saturation=1.4, exposure=1.3, hue=0.2, jitter=0.15, ignore_thresh=0.6, burn_in=3, subdivisions=2, mosaic=True,
        multi_scale=True, resize="letterbox", iterations=120, evaluate_every=60,
    )  # fmt: skip
    cfg = darknet.parse_cfg(
        runs.write_cfg(config, 2, np.array([[3.4, 20.6], [8, 9], [10, 11], [12, 13], [30, 5], [40, 50]]))
    )
    same = ("saturation", "exposure", "hue", "learning_rate", "burn_in", "subdivisions")
    expected = {name: getattr(config, name) for name in same} | {
        "width": 64, "height": 64, "batch": 4, "max_batches": 120, "steps": (96, 108), "scales": (0.1, 0.1), "letter_box": 1,
        "mosaic": 1,
    }  # fmt: skip
    assert {name: cfg.net[name] for name in expected} == expected
    options = {"jitter": 0.15, "ignore_thresh": 0.6, "random": 1, "classes": 2}
    assert all({name: head.options[name] for name in options} == options for head in cfg.yolo)
    assert cfg.yolo[0].anchors == ((3, 21), (8, 9), (10, 11), (12, 13), (30, 5), (40, 50)), "width before height"
    assert [head.mask for head in cfg.yolo] == [(3, 4, 5), (0, 1, 2)], "the coarse head has the large ones"
    assert cfg.layers[0].channels == 1, "a twentieth of 16 filters"


def test_anchors_are_of_the_boxes_that_count(photos):
    pictures, boxes = photos
    boxes = boxes.assign(x2=np.linspace(0.3, 0.9, len(boxes)))
    found = runs.choose_anchors(change(anchors="kmeans"), pictures, boxes)
    assert found.shape == (6, 2) and (np.diff(found.prod(axis=1)) > 0).all()
    assert found[:, 1] == pytest.approx(0.4 * 64) and found[:, 0].max() <= 64 * 0.65
    wild = boxes.assign(x1=np.where(boxes["ignore"], 0.0, boxes["x1"]), y1=np.where(boxes["ignore"], 0.0, boxes["y1"]))
    assert np.array_equal(found, runs.choose_anchors(change(anchors="kmeans"), pictures, wild)), (
        "areas to ignore do not"
    )
    assert runs.choose_anchors(CONFIG, pictures, boxes) is None


def test_counts_of_anchors(tmp_path):
    assert [runs.count_anchors(name) for name in ("yolov3", "yolov3-spp", "yolov3-tiny")] == [9, 9, 6]
    (tmp_path / "own.cfg").write_text(darknet.yolov3_tiny_cfg(1))
    assert runs.count_anchors(str(tmp_path / "own.cfg")) == 6


def test_ones_own_files_are_part_of_the_result(tmp_path):
    own = tmp_path / "own.cfg"
    own.write_text("[net]")
    config = change(network=str(own))
    first = runs.fingerprint(config)
    assert first[0][:2] == ("own.cfg", 5) and runs.fingerprint(CONFIG) is None
    own.write_text("[net]\n")
    assert runs.fingerprint(config) != first


# --- batches ---


@pytest.mark.parametrize(
    ("values", "where", "expected"),
    [
        ({"jitter": 0.2}, "augmentation.jitter", 0.2),
        ({"hue": 0.3}, "augmentation.hue", 0.3),
        ({"saturation": 1.7}, "augmentation.saturation", 1.7),
        ({"exposure": 1.8}, "augmentation.exposure", 1.8),
        ({"dialect": "pjreddie"}, "augmentation.dialect", "pjreddie"),
        ({"resize": "letterbox"}, "augmentation.letterbox", True),
        ({"resize": "letterbox", "dialect": "pjreddie"}, "augmentation.letterbox", False),
        ({}, "augmentation.letterbox", False),
        ({"mosaic": True}, "mosaic", 0.5),
        ({}, "mosaic", 0.0),
        ({"batch_size": 8, "subdivisions": 2}, "batch_size", 4),
        ({"seed": 7}, "seed", 7),
    ],
)
def test_settings_of_the_batches(photos, values, where, expected):
    found = runs.build_batches(change(**values), *photos)
    for name in where.split("."):
        found = getattr(found, name)
    assert found == expected


def test_sizes_of_the_batches(photos):
    assert runs.build_batches(CONFIG, *photos).size(0) == (64, 64)
    many = runs.build_batches(change(multi_scale=True, iterations=600, evaluate_every=60, subdivisions=2), *photos)
    sizes = {many.size(step) for step in range(0, 1200, 20)}
    assert many.size(0) == many.size(1199) == (128, 128) == max(sizes) and len(sizes) > 2
    assert many.size(20) == many.size(39), "ten iterations of two parts"


# --- network, loss, optimiser ---


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"dialect": "pjreddie"}, {"dialect": "pjreddie", "iou_normalizer": 1.0}),
        ({}, {"dialect": "alexeyab", "iou_normalizer": 0.75, "coordinates": "mse", "ignore_thresh": 0.7}),
        ({"coordinates": "ciou", "ignore_thresh": 0.55}, {"coordinates": "ciou", "ignore_thresh": 0.55}),
        ({"box_weight": 5.0}, {"iou_normalizer": 5.0}),
    ],
)
def test_settings_of_the_loss(values, expected):
    config = change(**values)
    loss = runs.compile_detector(config, darknet.parse_cfg(runs.write_cfg(config, 1, None))).yolo_loss
    assert {name: getattr(loss, name) for name in expected} == expected


def test_settings_of_the_optimiser():
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))
    plain = runs.compile_detector(CONFIG, cfg)
    assert isinstance(plain.optimizer, keras.optimizers.Adam) and not plain.optimizer.use_ema
    assert plain.optimizer.gradient_accumulation_steps is None
    assert plain.network.get_layer("bn_0").momentum == 0.9 and plain.network.get_layer("bn_0").epsilon == 1e-5
    other = runs.compile_detector(change(optimizer="darknet", subdivisions=2, ema=True, freeze=8), cfg)
    assert isinstance(other.optimizer, DarknetSGD) and other.optimizer.gradient_accumulation_steps == 2
    assert other.optimizer.use_ema and other.optimizer.ema_momentum == 0.999
    assert len(other.trainable_variables) < len(plain.trainable_variables)
    rates = [float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) for model in (plain, other)]
    assert rates == pytest.approx([2e-3, 2e-3])


def test_an_input_that_is_no_square(photos, tmp_path):
    config = change(size=96, height=64, anchors="kmeans", num_anchors=1)
    assert config.input_size == (64, 96) and runs.build_batches(config, *photos).size(0) == (64, 96)
    text = runs.write_cfg(config, 1, runs.choose_anchors(config, *photos))
    cfg = darknet.parse_cfg(text)
    assert (cfg.net["width"], cfg.net["height"], len(cfg.yolo)) == (96, 64, 1)
    assert cfg.yolo[0].anchors == ((45, 26),), "the mean of seven halves and a quarter of 96; 0.4 of 64"
    assert finders.build_finder(config, cfg, None).size == (64, 96)
    (tmp_path / "own.cfg").write_text(text)
    with pytest.raises(ValueError, match=r"height=64: the setting height is 32"):
        runs.own_cfg(change(size=96, height=32, network=str(tmp_path / "own.cfg")), 1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"height": 100}, "height: received 100; allowed: a multiple of 32"),
        (
            {"num_anchors": 3},
            "num_anchors: received 3 for yolov3-tiny; allowed: a multiple of its heads; 1 for yolov3-tiny",
        ),
        ({"network": "yolov3", "num_anchors": 1}, "num_anchors: received 1 for yolov3"),
        ({"mosaic": True, "dialect": "pjreddie"}, "mosaic: received true with dialect: pjreddie; allowed: false"),
    ],
)
def test_settings_that_do_not_fit(values, words):
    with pytest.raises(ValueError, match=words):
        change(**values)


def test_a_network_of_ones_own_comes_back_without_a_weights_file(tmp_path, monkeypatch):
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))

    def plain(config, cfg, *, downloads=None):
        keras.utils.set_random_seed(config.seed)
        inputs = keras.Input((None, None, 3))
        coarse = keras.layers.Conv2D(18, 32, 32)(inputs)
        return keras.Model(inputs, [coarse, keras.layers.Conv2D(18, 16, 16)(inputs)])

    monkeypatch.setattr(runs, "build_network", plain)
    detector = runs.compile_detector(CONFIG, cfg)
    assert not keras_weights.has_numbers(detector.network)
    detector.network.layers[1].kernel.assign_add(keras.ops.ones_like(detector.network.layers[1].kernel))
    detector.save_weights(tmp_path / "final.weights.h5")
    found = runs.load_network(CONFIG, cfg, tmp_path)
    images = np.random.default_rng(0).random((2, 64, 64, 3), "float32")
    for mine, again in zip(darknet.heads(detector.network, images), darknet.heads(found, images), strict=True):
        np.testing.assert_array_equal(mine, again)


def test_the_seed_decides_the_first_weights():
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))
    first, again, other = (runs.build_network(change(seed=seed), cfg).get_weights() for seed in (1, 1, 2))
    assert all(map(np.array_equal, first, again)) and not all(map(np.array_equal, first, other))


def test_learning_rates():
    steady = runs.rate_schedule(
        dataclasses.replace(CONFIG, schedule="steps", burn_in=4, iterations=100, evaluate_every=50)
    )
    rates = [float(keras.ops.convert_to_numpy(steady(step))) for step in (0, 2, 10, 79, 90)]
    assert rates == pytest.approx([2e-3 / 256, 2e-3 * (3 / 4) ** 4, 2e-3, 2e-4, 2e-5])
    halves = dataclasses.replace(CONFIG, schedule="cosine", subdivisions=2, iterations=100, evaluate_every=50)
    cosine = runs.rate_schedule(halves)
    middle = float(keras.ops.convert_to_numpy(cosine(100)))
    assert middle == pytest.approx(2e-3 * (0.5 * 0.99 + 0.01)), "half of 100 iterations are 100 calls of two each"


def test_frozen_layers_do_not_move():
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))
    built = runs.build_network(CONFIG, cfg)
    runs.freeze(built, 8)
    names = {variable.path.split("/")[0] for variable in built.trainable_variables}
    assert "conv_8" in names and "conv_6" not in names and "bn_0" not in names


@pytest.mark.parametrize(("start", "loaded"), [("coco", 11), ("backbone", 9)])
def test_published_weights(start, loaded, tmp_path, monkeypatch):
    """COCO's tiny network, here random, as a detector of boats, and its first 15 layers as a start."""
    coco = darknet.build_from_cfg(darknet.parse_cfg(darknet.yolov3_tiny_cfg(80)))
    darknet.save_weights(coco, tmp_path / "yolov3-tiny.weights")
    monkeypatch.setattr(published, "fetch_published", lambda name, downloads: downloads / name)
    config = dataclasses.replace(CONFIG, start=start, network="yolov3-tiny", width=1.0, size=416)
    cfg = darknet.parse_cfg(runs.write_cfg(config, 1, None))
    assert cfg.yolo[1].mask == ((1, 2, 3) if start == "coco" else (0, 1, 2)), "the heads come from the file, or are new"
    built = runs.build_network(config, cfg, downloads=tmp_path)
    same = [
        np.array_equal(*(keras.ops.convert_to_numpy(found.conv.kernel) for found in pair))
        for pair in zip(darknet.convolutions(built), darknet.convolutions(coco), strict=True)
        if pair[0].conv.kernel.shape == pair[1].conv.kernel.shape
    ]
    assert sum(same) == loaded and len(same) == 11
    if start == "coco":
        head = [keras.ops.convert_to_numpy(model.get_layer("conv_15").kernel) for model in (built, coco)]
        assert np.array_equal(head[0][..., 5], head[1][..., 5 + 8]), "the class boat of the first anchor"


# --- looking ---


TINY_WEIGHTS = runtime.repo_root().parent / "shared" / "data" / "models" / "yolov3-tiny.weights"
HARBOUR = TINY_WEIGHTS.parents[1] / "boats" / "harbour"


@pytest.mark.skipif(not TINY_WEIGHTS.is_file(), reason="needs ../shared")
def test_the_published_network_finds_boats_with_the_masks_of_its_training():
    """Darknet's yolov3-tiny.cfg, read right to the last bit, gives the second head anchors that its weights never had."""
    images = local.find_images(HARBOUR)
    truths = local.read_boxes(HARBOUR, images, classes=9).assign(**{"class": 0})
    truths["image"] = truths["image"].map(lambda name: Path(name).stem)
    found = {}
    for masks in (None, networks.TINY_MASKS):
        cfg = darknet.parse_cfg(networks.yolov3_tiny_cfg(1, masks=masks))
        network = darknet.build_from_cfg(cfg)
        darknet.load_weights(network, TINY_WEIGHTS, head=[published.COCO_BOAT])
        finder = finders.Finder(network, cfg, size=416, resize="letterbox", nms=0.45)
        boxes = finder.find([HARBOUR / name for name in images["image"]])
        found[masks] = [metrics.average_precision(boxes, truths, iou=iou) for iou in (0.3, 0.5)]
    assert found[None] == pytest.approx([0.07, 0.01], abs=0.01)
    assert found[networks.TINY_MASKS] == pytest.approx([0.23, 0.07], abs=0.01)


def test_settings_of_a_finder():
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))
    finder = finders.build_finder(change(nms=0.3, resize="letterbox"), cfg, "a network")
    assert (finder.network, finder.size, finder.resize, finder.nms) == ("a network", (64, 64), "letterbox", 0.3)


def test_a_finder_suppresses_and_goes_back_to_the_picture(photos, monkeypatch):
    """Two boxes in the letterboxed square that overlap by 0.6, and one beyond its picture's edge."""
    pictures, _ = photos
    cfg = darknet.parse_cfg(runs.write_cfg(CONFIG, 1, None))
    boxes = np.array([[[0.0, 0.25, 0.5, 0.5], [0.0, 0.25, 0.5, 0.65], [0.5, 0.5, 1.2, 0.75]]])
    proposed = boxes, np.array([[0.9, 0.8, 0.4]]), np.ones((1, 3, 1))
    monkeypatch.setattr(finders.Finder, "propose", lambda self, images: proposed)
    for nms, kept in ((0.5, [0, 2]), (0.7, [0, 1, 2])):
        finder = finders.build_finder(change(nms=nms, resize="letterbox"), cfg, None)
        found = finder.find(pictures["path"].head(1).map(finders.Path))
        expected = np.array([[0.0, 0.0, 0.5, 0.5], [0.0, 0.0, 0.5, 0.8], [0.5, 0.5, 1.0, 1.0]])[kept]
        np.testing.assert_allclose(found[finders.CORNERS], expected, atol=1e-6)
        assert found["image"].tolist() == ["p0"] * len(kept) and found["score"].tolist() == [
            [0.9, 0.8, 0.4][i] for i in kept
        ]
    assert len(finder.find(pictures["path"].head(1).map(finders.Path), threshold=0.5)) == 2


class Knows:
    """A finder that finds these boxes."""

    def __init__(self, boxes):
        self.boxes, self.asked = boxes, []

    def find(self, paths, **options):
        self.asked += [path.stem for path in paths]
        return self.boxes[self.boxes["image"].isin(self.asked)].assign(score=0.5)


def test_the_watch_looks_at_the_first_pictures(photos):
    pictures, boxes = photos
    finder = Knows(boxes.drop(columns="ignore"))
    assert runs.Watch(finder, pictures, boxes, 3)() == {"ap50": 1.0} and finder.asked == ["p0", "p1", "p2"]
    half = Knows(boxes.drop(columns="ignore").drop(index=8))
    assert runs.Watch(half, pictures, boxes, 1)() == {"ap50": 0.5}


def test_the_usual_boxes_are_where_boxes_count(photos):
    _, boxes = photos
    far = boxes.assign(x1=np.where(boxes["ignore"], 0.0, boxes["x1"]))
    usual = scoring.usual_boxes(far, ["a", "b"], count=2)
    assert usual["image"].tolist() == ["a", "a", "b", "b"] and (usual["class"] == 0).all()
    ours = usual[usual["image"] == "b"].sort_values("x2")
    np.testing.assert_allclose(ours[["x1", "y1", "x2", "y2"]], [[0.25, 0.5, 0.5, 0.9], [0.25, 0.5, 0.75, 0.9]])
    assert ours["score"].tolist() == pytest.approx([1 / 8, 7 / 8]), "the share of the boxes"


def test_scores_of_three_finders(photos):
    pictures, boxes = photos
    train = boxes[boxes["image"] == "p1"]
    tables = scoring.detect_all(Knows(boxes.iloc[:0]), Knows(boxes.drop(columns="ignore")), pictures, train, seed=0)
    assert tuple(tables) == scoring.FINDERS
    truth = scoring.in_pixels(boxes, pictures)
    scores = scoring.score_all(tables, truth, ["Boat"], confidence=0.4).query("`class` == 'mean'").set_index("finder")
    assert scores["AP50 (Darknet)"].tolist() == [pytest.approx(7 / 8), 0.0, 1.0] and scores["recall"].iloc[-1] == 1
    unsure = scoring.score_all(tables, truth, ["Boat"], confidence=0.6).query("`class` == 'mean'").set_index("finder")
    assert unsure["recall"].tolist() == [7 / 8, 0, 0], "0.5 is not sure enough"
