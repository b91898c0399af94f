"""The five steps of boat_detection end to end: on a local folder, and on a little Open Images drawn or served nearby."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import workspace
from helpers.boat_detection import darknet, data, metrics, runs, splits, steps
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import finders, scoring
from helpers.boat_detection.formats.darknet import text_files
from helpers.boat_detection.metrics.overlap import in_pixels
from helpers.boat_detection.mini import dataset
from helpers.boat_detection.sources import cleaning, collect, open_images, photos

CONFIG = BoatDetectionConfig(
    source="local", local_folder="set by the fixture", split_by="run", folds=4, network="yolov3-tiny", width=0.05, size=64,
    anchors="kmeans", resize="stretch", optimizer="adam", learning_rate=2e-3, burn_in=0, schedule="cosine", batch_size=4,
    subdivisions=1, iterations=12, evaluate_every=6, watch_images=4, batch_norm_momentum=0.9, jitter=0.0, multi_scale=False,
    allow_cpu=True, backup_every=5,
)  # fmt: skip
BOAT_MIDS = [dataset.MIDS[name] for name in ("Boat", "Barge", "Gondola", "Canoe")]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A small Open Images as `mini` draws it."""
    folder = tmp_path_factory.mktemp("drawn")
    dataset.make_dataset(folder, images=48, size=(64, 96), jobs=1)
    return folder


@pytest.fixture(scope="module")
def album(drawn, tmp_path_factory):
    """A user's folder: pictures with Darknet labels beside them, one cut off; their names look like numbers."""
    folder = tmp_path_factory.mktemp("album")
    boxes = open_images.filter_boxes(drawn / open_images.BOXES, BOAT_MIDS)
    table = cleaning.to_boxes(cleaning.apply_policy(boxes, "all"), dict.fromkeys(BOAT_MIDS, 0))
    sound = [path for path in sorted((drawn / "images" / "train").glob("*.jpg")) if path.stem not in dataset.BROKEN]
    for number, path in enumerate(sound):
        target = folder / f"{number:05d}.jpg"
        target.write_bytes(path.read_bytes())
        rows = table[table["image"] == path.stem]
        corners = rows[["x1", "y1", "x2", "y2"]].to_numpy(float)
        line = np.c_[rows["class"], (corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]]
        text_files.write_labels(target.with_suffix(".txt"), line)
    cut = folder / "00900.jpg"
    cut.write_bytes(sound[0].read_bytes()[:-200])
    text_files.write_labels(cut.with_suffix(".txt"), np.empty((0, 5)))
    return folder


@pytest.fixture(scope="module")
def finished(album, tmp_path_factory):
    place = tmp_path_factory.mktemp("workspace")
    config = dataclasses.replace(CONFIG, local_folder=str(album))
    return config, place, {step.name: step(config, place) for step in steps.STEPS}


def test_counts_agree_from_step_to_step(finished, album):
    _, _, done = finished
    count = len(list(album.glob("*.jpg")))
    assert (done["build_dataset"]["pictures"], done["preprocess"]["failed"]) == (count, 1)
    assert done["preprocess"]["pictures"] == count - 1 == sum(done["split"]["pictures"].values())
    bad = done["preprocess"].table("pictures").query("error != ''")
    assert bad["image"].tolist() == ["00900"] and "cut off" in bad["error"].iloc[0]
    assert done["preprocess"]["boxes"] == done["build_dataset"]["boxes"] == len(done["preprocess"].table("boxes"))


def test_darknet_could_train_from_what_is_left(finished):
    _, _, done = finished
    folder = done["split"].folder
    data = dict(line.split(" = ") for line in (folder / "obj.data").read_text().splitlines())
    assert data["classes"] == "1" and text_files.read_names(folder / data["names"]) == ["Boat"]
    for key in ("train", "valid"):
        for picture in text_files.read_list(folder / data[key]):
            path = (folder / picture).resolve()
            apart = path.parents[1] / "labels" / f"{path.stem}.txt"
            assert path.is_file() and path.with_suffix(".txt").read_text() == apart.read_text()


def test_training_leaves_darknets_files(finished):
    config, _, done = finished
    folder = done["train"].folder
    log = darknet.parse_log(folder / "train.log")
    assert log.iterations["iteration"].tolist() == list(range(1, 13)) and len(log.regions) == 24
    assert log.iterations["images"].iloc[-1] == 12 * config.batch_size
    cfg = darknet.read_cfg(folder / "network.cfg")
    assert {path.name for path in (folder / "backup").iterdir()} == {"network_last.weights", "network_final.weights"}
    fresh = darknet.build_from_cfg(cfg)
    loaded, seen = darknet.load_weights(fresh, folder / finders.FINAL)
    assert (loaded, seen) == (13, 12 * config.batch_size)


def test_final_weights_are_the_trained_ones(finished):
    config, _, done = finished
    folder = done["train"].folder
    cfg = darknet.read_cfg(folder / "network.cfg")
    trained = runs.compile_detector(config, cfg)
    trained.load_weights(folder / "final.weights.h5")
    finder = finders.load_finder(config, folder)
    images = np.random.default_rng(0).random((2, 64, 64, 3), "float32")
    pairs = zip(darknet.heads(trained.network, images), darknet.heads(finder.network, images), strict=True)
    assert all(np.array_equal(*map(keras.ops.convert_to_numpy, pair)) for pair in pairs)


def test_scores_belong_to_the_saved_detections(finished):
    config, _, done = finished
    scores = done["evaluate"].table("scores")
    assert scores["finder"].unique().tolist() == list(scoring.FINDERS)
    truth = done["evaluate"].table("truth")
    pictures, boxes = data.side_of(done["preprocess"], done["split"], "test")
    assert set(truth["image"]) <= set(pictures["image"]) and len(truth) == len(boxes) == done["evaluate"]["boats"]
    for name in scoring.FINDERS:
        found = done["evaluate"].table(scoring.slug(name))
        again = scoring.score_all({name: found}, truth, ["Boat"], confidence=config.confidence)
        kept = scores[scores["finder"] == name].reset_index(drop=True)
        pd.testing.assert_frame_equal(again[kept.columns], kept, check_dtype=False, atol=1e-6)


def test_only_what_decides_makes_new_folders(finished):
    config, place, done = finished
    same = dataclasses.replace(config, backup_every=50, save_every=2, allow_cpu=False)
    assert steps.evaluate.folder(same, place) == done["evaluate"].folder
    other = dataclasses.replace(config, learning_rate=1e-3)
    assert steps.split.folder(other, place) == done["split"].folder
    assert steps.train.folder(other, place) != done["train"].folder


def test_a_killed_training_goes_on(finished, album, tmp_path, monkeypatch):
    config, _, done = finished
    for step in steps.STEPS[:3]:
        step(config, tmp_path)
    genuine, calls = runs.Watch.__call__, []

    def fragile(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return genuine(self)

    monkeypatch.setattr(runs.Watch, "__call__", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.train(config, tmp_path)
    again = steps.train(config, tmp_path)
    columns = ["iteration", "loss", "avg_loss", "rate", "images"]
    logs = [darknet.parse_log(run.folder / "train.log").iterations[columns] for run in (again, done["train"])]
    assert logs[0].equals(logs[1]), "line by line what an uninterrupted training wrote, but for the seconds"
    contents = [(run.folder / finders.FINAL).read_bytes() for run in (again, done["train"])]
    assert contents[0] == contents[1]


def test_classes_of_a_folder_may_stay_apart(album, tmp_path):
    (album / "obj.names").write_text("Boat\nBuoy\n")
    try:
        config = dataclasses.replace(CONFIG, local_folder=str(album), merge_classes=False)
        for step in steps.STEPS[:2]:
            result = step(config, tmp_path)
        assert result["names"] == ["Boat", "Buoy"]
        text = runs.write_cfg(config, 2, None)
        assert "classes=2" in text and "filters=21" in text
    finally:
        (album / "obj.names").unlink()


# --- Open Images ---


@pytest.fixture(scope="module")
def served(drawn, monkeypatch_module):
    """`open_images` finds its files in the drawn folder, and its pictures too."""
    table = {"train": {"boxes": str(drawn / open_images.BOXES), "images": str(drawn / open_images.IMAGES)}}
    monkeypatch_module.setattr(open_images, "sources", table.__getitem__)
    small = {f"oidv7-{open_images.CLASSES}": drawn / open_images.CLASSES, open_images.TREE: drawn / open_images.TREE}
    monkeypatch_module.setattr(collect.manifests, "fetch_all", lambda *_, **__: small)

    def fetch_images(ids, folder, *, subset):
        rows = []
        for name in ids:
            gone = name in dataset.BROKEN
            if not gone:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / f"{name}.jpg").write_bytes((drawn / "images" / subset / f"{name}.jpg").read_bytes())
            rows.append((name, "missing" if gone else "ok", 1, ""))
        return pd.DataFrame(rows, columns=["image", "outcome", "bytes", "detail"])

    monkeypatch_module.setattr(photos, "fetch_images", fetch_images)
    return drawn


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize(("subclasses", "policy"), [(False, "all"), (True, "clean")])
def test_open_images_through_the_first_steps(served, tmp_path, subclasses, policy):
    config = dataclasses.replace(
        CONFIG, source="open_images", local_folder=None, subclasses=subclasses, policy=policy, images=20,
        negatives="House", split_by="author", upright=True,
    )  # fmt: skip
    built = steps.build_dataset(config, tmp_path)
    pictures, boxes = built.table("pictures"), built.table("boxes")
    wanted = set(BOAT_MIDS) if subclasses else {dataset.MIDS["Boat"]}
    genuine = pd.read_csv(served / open_images.BOXES, dtype={"ImageID": str})
    sailing = set(genuine.loc[genuine["LabelName"].isin(wanted), "ImageID"])
    with_boat = pictures[pictures["image"].isin(sailing)]
    assert len(with_boat) == 20 and set(boxes["LabelName"]) <= wanted
    afloat = {
        dataset.MIDS[name] for name in ("Boat", "Barge", "Canoe", "Gondola", "Watercraft", "Jet ski", "Submarine")
    }
    without = set(pictures["image"]) - set(with_boat["image"])
    assert not genuine[genuine["ImageID"].isin(without)]["LabelName"].isin(afloat).any()
    ready = steps.preprocess(config, tmp_path)
    groups = boxes[boxes["ImageID"].isin(pictures.query("outcome == 'ok'")["image"])]
    if policy == "clean":
        assert (
            ready["ignored"]
            == ((groups["IsGroupOf"] == 1) & (groups[["IsDepiction", "IsInside"]] != 1).all(axis=1)).sum()
        )
    turned = (
        ready.table("pictures").merge(pictures[["image"]], on="image").query("rotation in (90, 270) and error == ''")
    )
    assert (turned["height"] < turned["width"]).all(), "upright pictures of mini lie on their long side"
    assert (ready.folder / "labels").is_dir()
    credit = pd.read_csv(built.folder / "images" / "train" / "ATTRIBUTION.csv")
    assert set(credit["ImageID"].astype(str)) == set(pictures["image"])


def test_a_second_look_at_the_tables_is_not_needed(served, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, source="open_images", local_folder=None, images=10, split_by="hash")
    monkeypatch.setattr(photos, "fetch_images", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        steps.build_dataset(config, tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr(open_images, "filter_boxes", lambda *_: pytest.fail("read twice"))
    assert steps.build_dataset(config, tmp_path)["pictures"] >= 8


def test_published_networks_are_scored_on_the_test_pictures_beside_usual_boxes_of_the_training(
    served, tmp_path, monkeypatch
):
    monkeypatch.setattr(splits, "SHARES", {"train": 0.3, "validation": 0.3, "test": 0.4})
    config = dataclasses.replace(
        CONFIG, source="open_images", local_folder=None, split_by="random", subclasses=True, merge_classes=False, nms=0.3,
        policy="clean", seed=1,
    )  # fmt: skip
    done = {step.name: step(config, tmp_path) for step in steps.STEPS[:3]}
    pictures, truth = data.side_of(done["preprocess"], done["split"], "test")
    kept = np.arange(len(pictures)) % 3 > 0
    some = pictures[kept]
    wanted = in_pixels(truth[truth["image"].isin(some["image"])], pictures)

    def expected(found):
        means = [metrics.average_precision(in_pixels(found, some), wanted)]
        each = [metrics.average_precision(in_pixels(found, some), wanted, level, "coco") for level in metrics.COCO_IOU]
        return pytest.approx({"AP50 (Darknet)": means[0], "AP75": each[5], "AP50:95": np.mean(each)}, abs=1e-9)

    authors, score = scoring.on_test(config, done, None)
    assert authors.tolist() == pictures["author"].tolist()
    train = data.side_of(done["preprocess"], done["split"], "train")[1]
    usual = scoring.usual_boxes(train, some["image"].tolist(), seed=config.seed)
    assert score(kept) == expected(usual) and score(kept)["AP50:95"] > 0
    assert score(kept) != score(~kept)
    cfg = darknet.parse_cfg(runs.write_cfg(config, len(done["preprocess"]["names"]), None))
    network = runs.build_network(config, cfg)
    network.cfg = cfg
    finder = finders.Finder(network, cfg, size=config.input_size, resize=config.resize, nms=config.nms)
    _, by_network = scoring.on_test(config, done, network)
    assert by_network(kept) == expected(finder.find([Path(path) for path in some["path"]]))
    assert 0 < by_network(kept)["AP50 (Darknet)"] != score(kept)["AP50 (Darknet)"]


# --- configs ---


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"local_folder": None}, ["local_folder", "missing"]),
        ({"split_by": "author"}, ["split_by", "'author'"]),
        ({"network": "yolov9"}, ["network", "yolov3-tiny"]),
        ({"start": "imagenet"}, ["start", ".weights"]),
        ({"start": "backbone"}, ["width", "0.05"]),
        ({"size": 100}, ["size", "32"]),
        ({"subdivisions": 3}, ["subdivisions", "divisor"]),
        ({"evaluate_every": 5}, ["evaluate_every", "12 iterations"]),
        ({"fold": 4}, ["fold", "3"]),
    ],
)
def test_configs_that_contradict_themselves(change, words):
    with pytest.raises(ValueError) as error:
        dataclasses.replace(CONFIG, **change)
    assert all(word in str(error.value) for word in words)


def test_no_folder_is_a_clear_error(tmp_path):
    config = dataclasses.replace(CONFIG, local_folder=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="local_folder"):
        steps.build_dataset(config, workspace.Workspace(tmp_path))
