"""The five steps of lip_reading end to end on a few drawn clips of the user's own folder, and one file read."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import re
import shutil

import numpy as np
import pytest

from helpers import config as configs
from helpers import video
from helpers.lip_reading import evaluation, metrics, runs, steps
from helpers.lip_reading.batches import Lips
from helpers.lip_reading.config import LipReadingConfig, LipSize, greeting
from helpers.lip_reading.mini import scenes
from helpers.training import early_stop

WORDS = ("about", "pony")
CONFIG = LipReadingConfig(
    hide_metadata=False, hide_libs_vers=True, path_to_dataset="set by the fixture", len_video=8, size_lips=LipSize(16, 16),
    padding_lips=True, seed=3, batch_size=6, channels_lips=1, lr=0.01, epoch=3, epoch_stop=0, lips="fixed",
    window=(20, 20, 100, 100), model="tiny", allow_cpu=True, validation_share=0.25, test_share=0.25,
    shift=0.0, scale=0.0, rotate=0.0, flip=0.0, brightness=0.0, contrast=0.0, time_shift=0, time_mask=0.0, frame_drop=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four speakers, two words, three takes each, and a file that is no video."""
    folder = tmp_path_factory.mktemp("clips")
    for speaker in range(1, 5):
        for word in WORDS:
            for take in range(1, 4):
                path = f"s{speaker:02d}/{word}/s{speaker:02d}_{word}_{take}.mp4"
                video.write_video(folder / path, scenes.plan_clip(path).frames(), scenes.plan_clip(path).fps)
    (folder / "s01" / "pony" / "broken.mp4").write_bytes(b"\1\2 no video at all")
    return folder


@pytest.fixture(scope="module")
def finished(folder, tmp_path_factory):
    place = tmp_path_factory.mktemp("workspace")
    config = dataclasses.replace(CONFIG, path_to_dataset=str(folder))
    return config, place, {step.name: step(config, place) for step in steps.STEPS}


def test_counts_agree_from_step_to_step(finished):
    config, place, done = finished
    assert (done["build_dataset"]["clips"], done["build_dataset"]["left_out"], done["build_dataset"]["speakers"]) == (
        24,
        1,
        4,
    )
    assert done["build_dataset"]["words"] == list(WORDS)
    assert (done["preprocess"]["clips"], done["preprocess"]["detector"]) == (24, "fixed")
    assert done["split"]["rule"] == "speaker" and done["split"]["clips"] == {
        "split": {"train": 12, "validation": 6, "test": 6}
    }
    lips = Lips.of(steps.split.load(config, place))
    assert lips.clips.shape == (24, 8, 16, 16, 1) and lips.clips.dtype == np.uint8 and set(lips.labels) == {0, 1}
    curves = done["train"].table("curves")
    assert curves["epoch"].tolist() == [1, 2, 3] and curves["loss"].iloc[-1] < curves["loss"].iloc[0]
    assert done["evaluate"]["clips"] == 6 and done["train"]["trainings"] == 1


def test_a_rerun_does_nothing_and_only_what_decides_makes_new_folders(finished, capsys):
    config, place, done = finished
    stamps = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file() and path.suffix != ".lock"}
    for step in steps.STEPS:
        assert step(config, place).folder == done[step.name].folder
    assert stamps == {path: path.stat().st_mtime_ns for path in stamps}
    same = dataclasses.replace(config, checkpoint_every=2, allow_cpu=False, hide_metadata=True)
    assert steps.evaluate.folder(same, place) == done["evaluate"].folder
    for step, changes in (
        ("split", {"len_video": 9}),
        ("preprocess", {"swap_channels": True}),
        ("train", {"epoch": 4}),
    ):
        other, index = dataclasses.replace(config, **changes), [s.name for s in steps.STEPS].index(step)
        moved = [one.folder(other, place) != done[one.name].folder for one in steps.STEPS]
        assert moved == [number >= index for number in range(5)], step


def test_the_broken_file_is_listed_with_its_reason(finished):
    _, _, done = finished
    table = done["build_dataset"].table("clips").set_index("path")
    assert "not one frame" in table.loc["s01/pony/broken.mp4", "error"]
    assert (table["error"] != "").sum() == 1 and table.loc[table["error"] == "", "frames"].min() > 10
    assert "s01/pony/broken.mp4" not in set(done["split"].table("clips")["path"])


def test_scores_are_those_of_the_best_epoch(finished):
    config, place, done = finished
    scores = done["evaluate"].table("scores").set_index("reader")
    assert scores.index.tolist() == list(evaluation.READERS) and (scores["chance"] == 0.5).all()
    lips = Lips.of(steps.split.load(config, place))
    network = runs.build_network(config, 2)
    best = early_stop.load_best(network, done["train"].folder / "split")
    test = lips.rows("test")
    logits = network.predict(np.asarray(lips.clips[test], "float32") / 255, verbose=0)
    assert scores.loc["the network", "accuracy"] == pytest.approx(np.mean(logits.argmax(1) == lips.labels[test]))
    predictions = done["evaluate"].table("predictions")
    assert predictions["row"].tolist() == test.tolist() and set(predictions["speaker"]) == {
        lips.table["speaker"][test[0]]
    }
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    found = np.load(done["evaluate"].folder / "probabilities.npy")
    np.testing.assert_allclose(found, exponents / exponents.sum(1, keepdims=True), atol=1e-5)
    curves = done["train"].table("curves").set_index("epoch")
    assert best == curves["validation_accuracy"].idxmax() == done["train"]["best_epochs"][0]
    watched = runs.Watch(network, lips)()
    assert watched["validation_loss"] == pytest.approx(curves.loc[best, "validation_loss"], abs=1e-5)


def test_the_readers_get_what_their_names_say(finished, monkeypatch):
    config, place, done = finished
    lips = Lips.of(steps.split.load(config, place))
    seen = []
    genuine = evaluation.predict
    monkeypatch.setattr(evaluation, "predict", lambda n, clips: seen.append((n, clips)) or genuine(n, clips))
    trained, fresh = (
        runs.load_network(config, Lips.of(steps.split.load(config, place)), done["train"].folder),
        runs.build_network(config, 2),
    )
    loaded = []
    found = evaluation.read_parts(lips, network=trained, untrained=fresh, load=loaded.append, seed=0)
    assert loaded == ["split"]
    test = lips.clips[lips.rows("test")]
    assert [n is fresh for n, _ in seen] == [False, False, False, True]
    np.testing.assert_array_equal(seen[1][1], test[:, ::-1])
    np.testing.assert_array_equal(np.sort(seen[2][1], axis=1), np.sort(test, axis=1))
    assert not np.array_equal(seen[2][1], test)
    assert set(found) == set(evaluation.READERS) and all(scores.shape == (6, 2) for scores in found.values())


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70])
def test_predictions_do_not_depend_on_the_batch(count):
    rng = np.random.default_rng(0)
    clips = rng.integers(0, 256, (70, 4, 8, 8, 1), np.uint8)

    class Network:
        def predict_on_batch(self, batch):
            assert batch.shape == (evaluation.BATCH, 4, 8, 8, 1) and batch.max() <= 1
            return np.log(batch[:, 0, 0, :3, 0] + 0.1).astype("float32")

    rows = rng.permutation(70)[:count]
    weights = clips[rows, 0, 0, :3, 0] / 255 + 0.1
    found = evaluation.predict(Network(), clips, rows)
    np.testing.assert_allclose(found, weights / weights.sum(1, keepdims=True), rtol=1e-5)


def test_one_file_is_read_as_the_clips_were(finished, folder):
    config, place, done = finished
    lips = Lips.of(steps.split.load(config, place))
    row = int(lips.rows("test")[0])
    network = runs.load_network(config, Lips.of(steps.split.load(config, place)), done["train"].folder)
    guesses, seen = evaluation.read_file(network, folder / lips.table["path"][row], config, lips.words, top=1)
    np.testing.assert_array_equal(seen, lips.clips[row])
    first = done["evaluate"].table("predictions").iloc[0]
    assert guesses["word"].tolist() == [first["predicted"]]
    assert guesses["probability"][0] == pytest.approx(first["probability"], abs=1e-5)


def test_known_points_stand_in_for_a_detector(finished, folder, tmp_path):
    config, place, done = finished
    path = "s02/about/s02_about_1.mp4"
    points = scenes.plan_clip(path).points
    settings = dataclasses.replace(config, lips="detect", window=None)
    network = runs.load_network(config, Lips.of(steps.split.load(config, place)), done["train"].folder)
    _, seen = evaluation.read_file(network, folder / path, settings, list(WORDS), points=points)
    assert seen.shape == (8, 16, 16, 1)
    _, part = evaluation.read_file(network, folder / path, settings, list(WORDS), points=points, start=0, end=0.3)
    assert part.shape == seen.shape and (part != seen).any(), "the word alone, not the whole file"
    with pytest.raises(ValueError, match="found in 0 of"):
        evaluation.read_file(network, folder / path, settings, list(WORDS), points=points * np.nan)


def test_a_cross_validation_reads_every_clip_once_and_goes_on_after_a_kill(folder, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, path_to_dataset=str(folder), folds=2, split_by="random", epoch=1)
    for step in steps.STEPS[:3]:
        step(config, tmp_path)
    genuine, calls = runs.train_one, []

    def fragile(config, lips, part, *rest, **options):
        calls.append(part)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return genuine(config, lips, part, *rest, **options)

    monkeypatch.setattr(runs, "train_one", fragile)
    with pytest.raises(KeyboardInterrupt):
        steps.train(config, tmp_path)
    assert not steps.train.done(config, tmp_path)
    assert steps.train(config, tmp_path)["trainings"] == 2 and calls == ["split1", "split2", "split1", "split2"]
    result = steps.evaluate(config, tmp_path)
    predictions = result.table("predictions")
    assert result["clips"] == 24 and sorted(predictions["row"]) == list(range(24))
    right = metrics.accuracy(predictions["number"].to_numpy(), np.load(result.folder / "probabilities.npy"))
    assert result["accuracy"]["the network"] == pytest.approx(right, abs=1e-4)
    assert (predictions["label"] == predictions["predicted"]).mean() == pytest.approx(right)


def test_a_training_that_is_killed_ends_as_if_it_never_was(finished, tmp_path, monkeypatch):
    config, place, done = finished
    lips, genuine, seen = Lips.of(steps.split.load(config, place)), runs.Watch.__call__, []

    def fragile(*arguments):
        seen.append(1)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return genuine(*arguments)

    monkeypatch.setattr(runs.Watch, "__call__", fragile)
    with pytest.raises(KeyboardInterrupt):
        runs.train_one(config, lips, "split", tmp_path / "run")
    again = runs.train_one(config, lips, "split", tmp_path / "run")
    keys = ["epoch", "loss", "accuracy", "validation_loss", "validation_accuracy"]
    assert again[keys].equals(done["train"].table("curves")[keys])
    assert list(early_stop.best_files(tmp_path / "run")) == done["train"]["best_epochs"]


def test_blue_lips_are_warned_about_and_put_right(tmp_path, capsys):
    for number in range(4):
        word = WORDS[number % 2]
        path = f"s0{1 + number}/{word}/s0{1 + number}_{word}_1.mp4"
        frames = (frame[60:140, 60:140, ::-1] for frame in scenes.plan_clip(path).frames())
        video.write_video(tmp_path / "clips" / word / f"{number}.mp4", frames, 25)
    config = dataclasses.replace(CONFIG, path_to_dataset=str(tmp_path / "clips"), lips="cropped", window=None)
    steps.build_dataset(config, tmp_path)
    assert "swap_channels: true" in steps.preprocess(config, tmp_path)["warning"]
    assert "of 4 clips are bluer" in capsys.readouterr().out
    right = dataclasses.replace(config, swap_channels=True)
    assert steps.preprocess(right, tmp_path)["warning"] == "" and "warning" not in capsys.readouterr().out


def test_names_that_look_like_numbers_stay_names(tmp_path):
    for speaker in ("001", "002", "010"):
        for word in ("7", "012"):
            video.write_video(tmp_path / "clips" / speaker / word / "1.mp4", np.zeros((9, 32, 32, 3), np.uint8), 25)
    config = dataclasses.replace(CONFIG, path_to_dataset=str(tmp_path / "clips"), lips="cropped", window=None)
    for step in steps.STEPS[:3]:
        step(config, tmp_path)
    lips = Lips.of(steps.split.load(config, tmp_path))
    assert lips.words == ["012", "7"] and lips.labels.tolist() == [0, 1] * 3
    assert set(lips.table["speaker"]) == {"001", "002", "010"}


def test_nothing_usable_and_nothing_there_are_errors(tmp_path):
    config = dataclasses.replace(CONFIG, path_to_dataset=str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="path_to_dataset: no folder"):
        steps.build_dataset(config, tmp_path)
    path = tmp_path / "clips" / "about" / "one.mp4"
    video.write_video(path, np.zeros((5, 32, 32, 3), np.uint8), 25)
    config = dataclasses.replace(CONFIG, path_to_dataset=str(tmp_path / "clips"))
    steps.build_dataset(config, tmp_path)
    with pytest.raises(ValueError, match=r"not one of 1 clips can be used; the first says: .*window"):
        steps.preprocess(config, tmp_path)


def test_without_a_gpu_own_data_ask_for_one(finished, monkeypatch):
    config, place, _ = finished
    monkeypatch.setattr(runtime, "devices", lambda: [{"kind": "CPU"}])
    with pytest.raises(RuntimeError, match="expects a GPU"):
        steps.train(dataclasses.replace(config, allow_cpu=False, epoch=5), place)


TWELVE = """
hide_metadata: {hide_metadata}
hide_libs_vers: {hide_libs_vers}
path_to_dataset: {path}
len_video: 29
size_lips: {{width: 112, height: 112}}
padding_lips: true
seed: 42
batch_size: 8
channels_lips: 3
lr: 0.0001
epoch: 100
epoch_stop: 5
"""


@pytest.mark.parametrize(
    "metadata, libraries", [("false", "false"), ("true", "false"), ("false", "true"), ("true", "true")]
)
def test_the_greeting_of_the_original_file(tmp_path, metadata, libraries):
    path = tmp_path / "openav.yaml"
    path.write_text(TWELVE.format(hide_metadata=metadata, hide_libs_vers=libraries, path="LRW_TEST"))
    text = greeting(path)
    assert bool(re.search("^learning-from-video .*\nlicence: Apache", text)) == (metadata == "false")
    assert bool(re.search(r"^keras +\d", text, re.MULTILINE)) == (libraries == "false")


def test_the_original_file_is_enough_for_the_steps_before_training(folder, tmp_path):
    path = tmp_path / "openav.yaml"
    (tmp_path / "data").mkdir()
    for side, speaker in (("train", "s01"), ("train", "s02"), ("val", "s03"), ("test", "s04")):
        for word in WORDS:
            target = tmp_path / "data" / side / speaker / f"1_{word}"
            target.mkdir(parents=True)
            (target / "a.mp4").write_bytes((folder / speaker / word / f"{speaker}_{word}_1.mp4").read_bytes())
    path.write_text(TWELVE.format(hide_metadata=True, hide_libs_vers=True, path=tmp_path / "data"))
    config = dataclasses.replace(configs.load(path, LipReadingConfig), lips="fixed", window=(20, 20, 100, 100))
    for step in steps.STEPS[:3]:
        result = step(config, tmp_path)
    assert result["rule"] == "given" and result["clips"] == {"split": {"train": 4, "validation": 2, "test": 2}}
    lips = Lips.of(steps.split.load(config, tmp_path))
    assert lips.clips.shape == (8, 29, 112, 112, 3) and lips.words == ["1_about", "1_pony"]
    assert set(lips.table.loc[lips.rows("test"), "speaker"]) == {"s04"}


def test_the_last_epochs_weights_are_not_asked_for(finished, tmp_path):
    config, place, done = finished
    copy = tmp_path / "workspace"
    shutil.copytree(place, copy)
    (copy / done["train"].folder.relative_to(place) / "split" / "final.weights.h5").unlink()
    shutil.rmtree(copy / done["evaluate"].folder.relative_to(place))
    again = steps.evaluate(config, copy)
    assert again.folder.is_relative_to(copy) and again["accuracy"] == done["evaluate"]["accuracy"]
