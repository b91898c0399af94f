"""The five steps of circulant_video end to end on a few drawn shards, and the table of networks."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import functools
import gzip
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from helpers import parallel
from helpers.circulant_video import evaluation, experiments, metrics, model, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.formats import examples
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import youtube8m

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
    network = runs.build_network(config, "dbof fc", seed=5)
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


def test_published_networks_are_scored_on_the_videos_held_out_beside_the_prior_of_the_training(finished):
    config, place, done = finished
    train, validation = steps.open_sides(config, place)
    rows, score = evaluation.on_test(config, done, None)
    kept = rows % 2 == 0
    assert rows.tolist() == list(range(30))
    prior = metrics.class_prior_predictions(train.labels(np.arange(64)), 15)
    expected = metrics.gap(prior, validation.labels(rows[kept]))
    assert score(kept) == pytest.approx({"dbof: GAP": expected, "dbof fc: GAP": expected}, abs=1e-6)
    networks = {name: runs.build_network(config, name, seed=1) for name in experiments.PUBLISHED}
    _, score = evaluation.on_test(config, done, networks)
    for name, network in networks.items():
        alone = evaluation.score(network, validation, rows[kept], length=config.max_frames)
        assert score(kept)[f"{name}: GAP"] == pytest.approx(alone["gap"], abs=1e-6)


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


def test_a_training_without_a_label_is_refused(records, tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    for name, source in (("train0000", "test0000"), ("validate3224", "validate3224")):  # those of test have none
        (folder / f"{name}.tfrecord").write_bytes((records / f"{source}.tfrecord").read_bytes())
    config = dataclasses.replace(CONFIG, local_folder=str(folder))
    for step in steps.STEPS[:2]:
        step(config, tmp_path)
    with pytest.raises(ValueError, match="not one training video has a label"):
        steps.split(config, tmp_path)


@pytest.mark.parametrize("features", [1, 2])
def test_shared_networks_are_trained_once(features):
    names = experiments.run_names(tuple(experiments.EXPERIMENTS), features=features)
    assert len(names) == len(set(names))
    assert not any(name.startswith("video") for name in names) or features == 2
    sizes = (64, 16)[:features]
    config = dataclasses.replace(CONFIG, feature_names=("rgb", "audio")[:features], feature_sizes=sizes)
    arguments = {name: experiments.arguments(name, config) for name in names}
    assert len({str(sorted(value.items(), key=str)) for value in arguments.values()}) == len(names), "all differ"
    for name, value in arguments.items():
        assert ("fc" in value.get("compact", ())) == (name.split()[-1] in ("fc", "all"))
        assert value.get("branches") == (1 if name.startswith("video") else None)
        network = model.build_classifier(**value)
        assert experiments.count_weights(**value) == network.count_params()


def test_a_narrow_rival_is_as_wide_as_its_twins_weights_allow():
    config = dataclasses.replace(CONFIG, clusters=256, vlad_clusters=16, hidden=64)
    sizes = {name: runs.build_network(config, name).count_params() for name in experiments.RUNS}
    twins = [(name, own["as_small_as"]) for name, own in experiments.RUNS.items() if "as_small_as" in own]
    assert len(twins) == 5
    for name, twin in twins:
        found = experiments.arguments(name, config)
        wider = model.build_classifier(**found | {"hidden": found["hidden"] + 1}).count_params()
        assert sizes[name] <= sizes[twin] < wider and not found.get("compact")
    for family in ("dbof", "netvlad", "netfv", "video"):
        assert 0 < sizes[f"{family} low rank"] - sizes[f"{family} fc"] < 300, "the low-rank rival has no fewer"


def test_parameters_are_counted_without_random_states():
    network = model.build_classifier((64, 16), 24, "dbof", 256, 64, 2, bags=4, iterations=6, seed=0)
    assert network.count_params() == 61_136
    assert sum(v.name.startswith("seed_generator") for v in network.variables) == 1


@pytest.fixture
def mirrored(records, monkeypatch):
    """Stands for the server's lists; `manifests.fetch` copies the drawn shards. What was listed and fetched, in order."""
    seen = SimpleNamespace(listed=[], fetched=[])

    def list_files(partition, folder, *, shard, mirror):
        folder.mkdir(parents=True, exist_ok=True)
        seen.listed.append((partition, mirror))
        names = ("train0000", "train0001") if partition.endswith("train") else ("validate3224",)
        return [youtube8m.make_entry(f"{name}.tfrecord", f"https://x.org/a/b/c/{name}", "0" * 32) for name in names]

    def fetch(entry, folder, **options):
        seen.fetched.append(entry.name)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(records / entry.name, folder))

    monkeypatch.setattr(youtube8m, "list_files", list_files)
    monkeypatch.setattr(youtube8m.manifests, "fetch", fetch)
    monkeypatch.setattr(steps.vocabulary, "fetch_names", lambda *_, **__: None)
    return seen


def test_shards_come_from_the_mirror_that_the_config_names(mirrored, tmp_path):
    for mirror in ("eu", "asia"):
        config = dataclasses.replace(CONFIG, source="youtube8m", mirror=mirror)
        assert steps.build_dataset(config, tmp_path / mirror)["shards"] == 3
    assert [name for _, name in mirrored.listed] == ["eu", "eu", "asia", "asia"]
    assert steps.build_dataset.digest(config) == steps.build_dataset.digest(dataclasses.replace(config, mirror="us"))


def test_files_that_are_converted_as_they_come_give_the_same_arrays_and_leave_no_records(
    mirrored, tmp_path, monkeypatch
):
    monkeypatch.setattr(youtube8m, "to_look_at", lambda entries: entries[:1])
    monkeypatch.setattr(parallel, "parallel", functools.partial(parallel.parallel, jobs=1))  # where `fetch` is patched
    prepared = []
    for keep in (True, False):
        config = dataclasses.replace(CONFIG, source="youtube8m", keep_records=keep)
        built = steps.build_dataset(config, tmp_path / str(keep))
        assert len(list(built.folder.rglob("*.tfrecord"))) == (3 if keep else 2)
        assert built["shards"] == 3
        mirrored.fetched.clear()
        prepared.append(steps.preprocess(config, tmp_path / str(keep)))
        assert mirrored.fetched == ([] if keep else ["train0001.tfrecord"])
        assert not list(prepared[-1].folder.rglob("*.tfrecord"))
    folders = [result.folder / "frames" for result in prepared]
    names = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert names[0] == names[1] and len(names[0]) == 9
    assert all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names[0])


def test_a_file_that_cannot_be_had_stops_the_step_and_not_the_next_call(mirrored, tmp_path, monkeypatch):
    monkeypatch.setattr(youtube8m, "to_look_at", lambda entries: entries[:1])
    monkeypatch.setattr(parallel, "parallel", functools.partial(parallel.parallel, jobs=1))
    config = dataclasses.replace(CONFIG, source="youtube8m", keep_records=False)
    steps.build_dataset(config, tmp_path)
    genuine = youtube8m.manifests.fetch

    def refuse(entry, folder, **options):
        raise youtube8m.manifests.DownloadError(f"{entry.name}: HTTP 404")

    monkeypatch.setattr(youtube8m.manifests, "fetch", refuse)
    with pytest.raises(youtube8m.manifests.DownloadError, match=r"1 of 3 files .* train0001\.tfrecord: HTTP 404"):
        steps.preprocess(config, tmp_path)
    monkeypatch.setattr(youtube8m.manifests, "fetch", genuine)
    assert steps.preprocess(config, tmp_path)["shards"] == 3
