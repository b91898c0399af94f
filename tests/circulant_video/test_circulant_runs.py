"""Trainings of circulant_video: one network serves all seeds, and what decides a training decides its folder's name."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import json
import pickle
import subprocess
import sys

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import workspace
from helpers.circulant_video import experiments, model, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.mini import dataset

CLOCKS = ["time", "hours", "steps_per_second"]
NAME = "dbof fixed fc"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A config and a workspace in which the steps before train are done."""
    folder = tmp_path_factory.mktemp("runs")
    dataset.make_dataset(folder / "drawn", shards={"train0000": 40, "validate3224": 12})
    config = CirculantVideoConfig(
        source="local", local_folder=str(folder / "drawn" / "frame"), feature_sizes=(64, 16), classes=24, max_frames=40,
        experiments=("diagonal",), seeds=(0, 1), clusters=32, vlad_clusters=4, hidden=16, mixtures=2, bags=2, iterations=3,
        momentum=0.9, batch_size=16, epochs=2, learning_rate=0.004, watch_videos=8, allow_cpu=True,
    )  # fmt: skip
    place = workspace.as_workspace(folder / "workspace")
    for step in steps.STEPS[:3]:
        step(config, place)
    return config, place


@pytest.mark.parametrize(
    "precision", ["float32", "mixed_float16"]
)  # the latter's optimiser has a scale, which is not 0
def test_a_network_that_starts_anew_is_as_good_as_new(prepared, tmp_path, precision):
    config, place = prepared
    videos = steps.open_sides(config, place)
    with runtime.precision(precision):
        new, used = runs.compile_network(config, NAME), runs.compile_network(config, NAME)
        runs.train_one(config, NAME, 0, videos, tmp_path / "before", network=used)
        traced = used.train_function
        for variable in used.optimizer.variables:
            variable.assign(variable + 1)  # no state is right by chance
        runs.start_anew(used, config, NAME, 1)
        runtime.set_seeds(1)
        fresh = model.build_classifier(**experiments.arguments(NAME, config), seed=1)
        for variable, value in zip(used.variables, fresh.variables, strict=True):  # moving averages, random states too
            np.testing.assert_array_equal(variable, value, err_msg=variable.path)
        state = {variable.path.split("/", 1)[1]: variable for variable in new.optimizer.variables}
        for variable in used.optimizer.variables:
            np.testing.assert_array_equal(variable, state[variable.path.split("/", 1)[1]], err_msg=variable.path)
        again = runs.train_one(config, NAME, 1, videos, tmp_path / "again", network=used)
        first = runs.train_one(config, NAME, 1, videos, tmp_path / "first")
    assert used.train_function is traced, "traced once for both seeds"
    assert again.drop(columns=CLOCKS).equals(first.drop(columns=CLOCKS))
    assert (again["loss"].diff()[1:] < 0).all()


def test_a_second_seed_has_the_bits_of_a_process_of_its_own(prepared, tmp_path):
    config, place = prepared
    videos = steps.open_sides(config, place)
    network = runs.compile_network(config, NAME)
    for seed in (0, 1):
        log = runs.train_one(config, NAME, seed, videos, tmp_path / f"here-{seed}", network=network)
    (tmp_path / "config.pickle").write_bytes(pickle.dumps((config, place)))
    code = f"""
from helpers import runtime
runtime.quiet_start()
import pickle
from pathlib import Path
from helpers.circulant_video import runs, steps
folder = Path({str(tmp_path)!r})
config, place = pickle.loads((folder / "config.pickle").read_bytes())
runs.train_one(config, {NAME!r}, 1, steps.open_sides(config, place), folder / "alone").to_pickle(folder / "log")
"""
    subprocess.run([sys.executable, "-c", code], cwd=runtime.repo_root(), check=True, timeout=300, capture_output=True)
    alone = pickle.loads((tmp_path / "log").read_bytes())
    assert log.drop(columns=CLOCKS).equals(alone.drop(columns=CLOCKS))
    here, there = (runs.build_network(config, NAME) for _ in range(2))
    here.load_weights(tmp_path / "here-1" / "final.weights.h5")
    there.load_weights(tmp_path / "alone" / "final.weights.h5")
    for a, b in zip(here.weights, there.weights, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=a.path)


def test_what_makes_a_network_decides_the_folders_name(prepared, monkeypatch):
    config, place = prepared
    before = [step.folder(config, place) for step in steps.STEPS]
    monkeypatch.setitem(experiments.RUNS, "netvlad", {"embedding": "netvlad", "factors": 2})
    assert [step.folder(config, place) for step in steps.STEPS] == before, "not one of this config's networks"
    monkeypatch.setitem(experiments.RUNS, "dbof fc", {"compact": ("fc",), "factors": 3})
    after = [step.folder(config, place) for step in steps.STEPS]
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, True, False, False]
    monkeypatch.setitem(experiments.EXPERIMENTS, "diagonal", ("dbof fc",))
    assert steps.train.folder(config, place) != after[3], "an experiment with fewer networks"


def test_a_network_that_is_added_is_trained_in_a_folder_of_its_own(prepared, monkeypatch):
    config, place = prepared
    quick = dataclasses.replace(config, seeds=(0,), epochs=1)
    before = steps.train.folder(quick, place)
    monkeypatch.setitem(experiments.RUNS, "mine", {"compact": ("fc",), "factors": 3})
    curves = steps.train(quick, place).table("curves").set_index("network")
    assert steps.train.folder(quick, place) != before
    assert list(curves.index) == ["dbof fc", "dbof fixed fc", "mine"]
    assert curves.loc["mine", "parameters"] - curves.loc["dbof fc", "parameters"] == 4 * (32 + 16)  # two more factors
    assert steps.evaluate(quick, place)["gap"].keys() == {"class prior", *curves.index}


class Clipped(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.losses.binary_crossentropy(y_true, y_pred)


def test_a_learners_network_and_loss_are_trained_and_scored(prepared):
    config, place = prepared
    quick = dataclasses.replace(config, seeds=(0,), epochs=1)

    def build_network(config, name, seed=None):
        return model.build_classifier(**experiments.arguments(name, config) | {"hidden": 5}, seed=seed)

    def build_loss(config):
        return Clipped()

    with workspace.own(runs, build_network=build_network, build_loss=build_loss):
        curves = steps.train(quick, place).table("curves")
        scores = steps.evaluate(quick, place).table("scores").set_index("network")
    small = model.build_classifier(**experiments.arguments("dbof fc", config) | {"hidden": 5}).count_params()
    assert curves["parameters"].iloc[0] == scores.loc["dbof fc", "parameters"] == small
    assert curves["loss"].max() < 1.5, "the mean over the labels, not the sum"


@pytest.mark.parametrize(
    ("field", "value"), [("clusters", 64), ("vlad_clusters", 8), ("diagonal", None), ("initializer", None)]
)
def test_a_network_is_made_of_the_config(prepared, field, value):
    config, _ = prepared
    if field == "diagonal":
        assert experiments.arguments(NAME, config)["diagonal"] == "fixed"
        assert "diagonal" not in experiments.arguments("dbof fc", config)
        return
    if field == "initializer":
        original = dataclasses.replace(config, initializer="original")
        assert [experiments.arguments("dbof fc", it)["initializer"] for it in (config, original)] == [
            "paper",
            "original",
        ]
        assert experiments.arguments("dbof original fc", config)["initializer"] == "original"
        signs = [np.abs(runs.build_network(it, "dbof fc").get_layer("fc_0").d) for it in (config, original)]
        assert (signs[0] == 1).all() and not (signs[1] == 1).any()
        return
    changed = dataclasses.replace(config, **{field: value})
    for name, own in (("dbof", "clusters"), ("netvlad", "vlad_clusters"), ("netfv fc", "vlad_clusters")):
        assert experiments.arguments(name, changed)["clusters"] == getattr(changed, own)


def test_an_unknown_network_is_an_error():
    with pytest.raises(KeyError):
        experiments.own_arguments("dbof fcc", features=2)


def test_the_log_of_a_training_names_what_decided_it(prepared, tmp_path):
    config, place = prepared
    small = dataclasses.replace(config, epochs=1)
    runs.train_one(small, "dbof fc", 0, steps.open_sides(config, place), tmp_path)
    note = json.loads((tmp_path / "config.json").read_text())
    assert note.keys() == {"network", *runs.TRAIN} and note["network"] == "dbof fc"


def test_the_watch_scores_the_first_videos_held_out(prepared):
    config, place = prepared
    _, validation = steps.open_sides(config, place)
    network = runs.build_network(config, "dbof")
    for count, expected in ((5, 5), (100, len(validation))):
        watch = runs.Watch(network, validation, count=count, length=40)
        frames, counts = validation.padded(np.arange(expected), 40)
        truth = validation.labels(np.arange(expected))
        outputs = np.asarray(network({"frames": frames, "num_frames": counts}, training=False))
        best = outputs.argmax(axis=1)
        assert watch()["hit_at_one"] == pytest.approx(truth[np.arange(expected), best].mean())


def test_networks_are_compiled_as_the_originals(prepared):
    config, _ = prepared
    config = dataclasses.replace(config, decay_examples=160, decay=0.5)  # ten steps of 16 videos
    network = runs.compile_network(config, "dbof")
    options = network.optimizer.get_config()
    assert type(network.optimizer).__name__ == "Adam"
    assert (options["clipnorm"], options["epsilon"]) == (1.0, 1e-8)
    rate = network.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 9, 10, 25)] == pytest.approx([0.004, 0.004, 0.002, 0.001])
    assert type(network.loss).__name__ == "SummedCrossEntropy"


@pytest.mark.parametrize("halves", [True, False])
def test_a_training_is_what_the_config_says(prepared, tmp_path, monkeypatch, halves):
    config, place = prepared
    videos = steps.open_sides(config, place)
    config = dataclasses.replace(config, halves=halves, checkpoint_every=7, save_every=2, max_frames=30)
    calls = []

    def fit(network, train_data, **options):
        source = train_data(1)
        calls.append((next(source)[0]["frames"], options))
        source.close()
        return pd.DataFrame({"loss": [0.0], "gap": [0.0]})

    monkeypatch.setattr(runs.training, "fit", fit)
    for seed in (3, 3, 4):
        runs.train_one(config, "dbof", seed, videos, tmp_path)
    frames, options = calls[0]
    assert frames.shape == ((32, 15, 80) if halves else (16, 30, 80))
    assert {key: options[key] for key in ("epochs", "steps_per_epoch", "checkpoint_every", "save_every", "seed")} == {
        "epochs": 2, "steps_per_epoch": 2, "checkpoint_every": 7, "save_every": 2, "seed": 3,
    }  # fmt: skip
    assert (calls[1][0] == frames).all() and not (calls[2][0] == frames).all(), "the order depends on the seed"
    assert (options["validation"].rows == np.arange(8)).all() and options["validation"].videos is videos[1]
