"""The five steps of circulant_video end to end on a few drawn shards, and the table of networks."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import gzip
import shutil

import numpy as np
import pytest

from helpers.circulant_video import evaluation, experiments, metrics, model, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.formats import examples
from helpers.circulant_video.mini import dataset

SHARDS = {"train0000": 40, "train0001": 24, "validate3224": 30, "test0000": 10}
CONFIG = CirculantVideoConfig(
    source="local", local_folder="set by the fixture", feature_names=("rgb", "audio"), feature_sizes=(64, 16), classes=24,
    max_frames=40, experiments=("diagonal",), seeds=(0, 1), clusters=32, vlad_clusters=4, hidden=16, mixtures=2, bags=2,
    iterations=3, momentum=0.9, batch_size=16, epochs=2, learning_rate=0.004, watch_videos=30, allow_cpu=True,
)  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    dataset.make_dataset(folder, shards=SHARDS)
    return folder / "frame"


@pytest.fixture(scope="module")
def finished(records, tmp_path_factory):
    place = tmp_path_factory.mktemp("workspace")
    config = dataclasses.replace(CONFIG, local_folder=str(records))
    return config, place, {step.name: step(config, place) for step in steps.STEPS}


def test_counts_agree_from_step_to_step(finished):
    _, _, done = finished
    assert done["build_dataset"]["shards"] == 4 and done["preprocess"]["videos"] == sum(SHARDS.values())
    assert done["split"]["videos"] == {"train": 64, "validation": 30, "test": 10}
    assert done["train"]["networks"] == ["dbof fc", "dbof fixed fc"] and done["train"]["trainings"] == 4
    curves = done["train"].table("curves")
    assert curves.groupby(["network", "seed"])["epoch"].apply(list).map(lambda e: e == [1, 2]).all()
    assert (curves[curves["epoch"] == 1]["loss"].to_numpy() > curves[curves["epoch"] == 2]["loss"].to_numpy()).all()


def test_scores_are_those_of_the_saved_networks(finished):
    config, place, done = finished
    scores = done["evaluate"].table("scores")
    assert scores["network"].tolist() == ["class prior", *["dbof fc"] * 2, *["dbof fixed fc"] * 2]
    _, validation = steps.open_sides(config, place)
    network = model.build_classifier(**runs.build_arguments("dbof fc", config), seed=5)
    network.load_weights(done["train"].folder / "dbof_fc-1" / "final.weights.h5")
    frames, counts = validation.padded(np.arange(30), 40)
    expected = metrics.measure(
        np.asarray(network({"frames": frames, "num_frames": counts})), validation.labels(np.arange(30))
    )
    row = scores.iloc[2]
    assert row["gap"] == pytest.approx(expected["gap"], abs=1e-6) and row["perr"] == pytest.approx(
        expected["perr"], abs=1e-6
    )
    last = done["train"].table("curves").query("network == 'dbof fc' and seed == 1 and epoch == 2")["gap"].iloc[0]
    assert row["gap"] == pytest.approx(last, abs=1e-4)


def test_the_class_prior_row(finished):
    config, place, done = finished
    train, validation = steps.open_sides(config, place)
    prior = metrics.class_prior_predictions(train.labels(np.arange(64)), 30)
    found = done["evaluate"].table("scores").iloc[0]
    assert found["gap"] == pytest.approx(metrics.gap(prior, validation.labels(np.arange(30))), abs=1e-6)


def test_only_what_decides_makes_new_folders(finished):
    config, place, done = finished
    assert (
        steps.train.folder(dataclasses.replace(config, checkpoint_every=3, allow_cpu=False), place)
        == done["train"].folder
    )
    longer = dataclasses.replace(config, epochs=3)
    assert steps.split.folder(longer, place) == done["split"].folder
    assert steps.train.folder(longer, place) != done["train"].folder


def test_a_killed_training_goes_on_with_the_next_network(finished, records, tmp_path, monkeypatch):
    config, _, done = finished
    config = dataclasses.replace(config, local_folder=str(records))
    for step in steps.STEPS[:3]:
        step(config, tmp_path)
    genuine, calls = runs.train_one, []

    def fragile(config, name, seed, *rest, **options):
        calls.append((name, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return genuine(config, name, seed, *rest, **options)

    monkeypatch.setattr(runs, "train_one", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.train(config, tmp_path)
    assert not steps.train.done(config, tmp_path)
    again = steps.train(config, tmp_path).table("curves")
    keys = ["network", "seed", "epoch", "loss", "gap"]
    assert again[keys].equals(done["train"].table("curves")[keys]), "bit for bit what an uninterrupted run gave"


def test_bad_records_and_files_are_listed_and_not_fatal(records, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for path in records.glob("*.tfrecord"):
        (folder / path.name).write_bytes(path.read_bytes())
    dataset.damage_records(
        records / "train0000.tfrecord", folder / "train0000.tfrecord", {3: "checksum", 5: "width", 7: "label"}
    )
    (folder / "train0002.tfrecord").write_bytes(b"\1\2\xfe" * 9)
    config = dataclasses.replace(CONFIG, local_folder=str(folder))
    steps.build_dataset(config, tmp_path)
    result = steps.preprocess(config, tmp_path)
    assert (result["shards"], result["failed"], result["skipped_records"]) == (4, 1, 3)
    assert result.table("problems")["record"].tolist() == [3, 5, 7]
    table = result.table("shards").set_index("shard")
    assert table.loc["train0002", "error"].startswith("ValueError") and table.loc["train0000", "videos"] == 37
    assert steps.split(config, tmp_path)["videos"]["train"] == 61


def test_nothing_usable_and_nothing_there_are_errors(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    config = dataclasses.replace(CONFIG, local_folder=str(folder))
    with pytest.raises(FileNotFoundError, match="no TFRecord file in records"):
        steps.build_dataset(config, tmp_path)
    (folder / "train0000.tfrecord").write_bytes(b"\1\2\xfe" * 9)
    steps.build_dataset(config, tmp_path)
    with pytest.raises(ValueError, match="not one of 1 shards can be used"):
        steps.preprocess(config, tmp_path)


def test_what_is_no_record_is_named_before_the_work(records, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    genuine = (records / "train0000.tfrecord").read_bytes()
    (folder / "train0000.tfrecord").write_bytes(genuine)
    (folder / "train0001.tfrecord").write_bytes(gzip.compress(genuine))
    (folder / "train0002.tfrecord").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1\n")
    (folder / "labels.csv").write_text("id,label\n")
    config = dataclasses.replace(CONFIG, local_folder=str(folder))
    built = steps.build_dataset(config, tmp_path)
    reasons = dict(built.table("left_out").itertuples(index=False))
    assert built["shards"] == 1 and built["left_out"] == len(reasons) == 3
    assert "gzip file (unpack it first)" in reasons["train0001.tfrecord"]
    assert "git lfs pull" in reasons["train0002.tfrecord"] and "a text" in reasons["labels.csv"]
    (folder / "data-00000-of-00002.tfrecord").write_bytes(genuine)
    with pytest.raises(ValueError, match=r"received 'data-00000-of-00002\.tfrecord'"):
        steps.build_dataset(config, tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("label", [1], "no labels, but label"),
        ("labels", [1.0], "labels are float"),
        ("labels", [b"3"], "labels are bytes"),
    ],
)
def test_labels_that_cannot_be_used_are_no_missing_labels(tmp_path, key, value, words):
    frames = {"rgb": np.zeros((2, 64), np.uint8), "audio": np.zeros((2, 16), np.uint8)}
    payload = examples.messages().SequenceExample.FromString(examples.encode_frame_level("v", None, frames))
    payload.context.feature[key].CopyFrom(examples._feature(value))
    with pytest.raises(examples.BadRecord, match=words):
        examples.decode_frame_level(
            payload.SerializeToString(), layout={"rgb": 64, "audio": 16}, classes=24, max_frames=9
        )


def test_a_video_on_two_sides_is_refused(records, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("train0000", "validate3224"):
        (folder / f"{name}.tfrecord").write_bytes((records / "train0000.tfrecord").read_bytes())
    config = dataclasses.replace(CONFIG, local_folder=str(folder))
    for step in steps.STEPS[:2]:
        step(config, tmp_path)
    with pytest.raises(ValueError, match="40 videos are on both sides"):
        steps.split(config, tmp_path)


@pytest.mark.parametrize("features", [1, 2])
def test_shared_networks_are_trained_once(features):
    names = experiments.run_names(tuple(experiments.EXPERIMENTS), features=features)
    assert len(names) == len(set(names))
    assert not any(name.startswith("video") for name in names) or features == 2
    sizes = (64, 16)[:features]
    config = dataclasses.replace(CONFIG, feature_names=("rgb", "audio")[:features], feature_sizes=sizes)
    arguments = {name: runs.build_arguments(name, config) for name in names}
    assert len({str(sorted(value.items(), key=str)) for value in arguments.values()}) == len(names), "all differ"
    for name, value in arguments.items():
        assert ("fc" in value.get("compact", ())) == (name.split()[-1] in ("fc", "all"))
        assert value.get("branches") == (1 if name.startswith("video") else None)


def test_parameters_are_counted_without_random_states():
    network = model.build_classifier((64, 16), 24, "dbof", 256, 64, 2, bags=4, iterations=6, seed=0)
    assert evaluation.count_parameters(network) == 61_136
    assert sum(v.name.startswith("seed_generator") for v in network.variables) == 1


def test_shards_come_from_the_mirror_that_the_config_names(records, tmp_path, monkeypatch):
    asked = []

    def fetch(partition, folder, *, mirror, **options):
        asked.append((partition, mirror))
        folder.mkdir(parents=True, exist_ok=True)
        name = "train0000" if partition.endswith("train") else "validate3224"
        shutil.copy(next(records.rglob(f"{name}.tfrecord")), folder)

    monkeypatch.setattr(steps.youtube8m, "fetch_shards", fetch)
    monkeypatch.setattr(steps.vocabulary, "fetch_names", lambda *_, **__: None)
    for mirror in ("eu", "asia"):
        config = dataclasses.replace(CONFIG, source="youtube8m", mirror=mirror)
        assert steps.build_dataset(config, tmp_path / mirror)["shards"] == 2
    assert [name for _, name in asked] == ["eu", "eu", "asia", "asia"]
    assert steps.build_dataset.digest(config) == steps.build_dataset.digest(dataclasses.replace(config, mirror="us"))
