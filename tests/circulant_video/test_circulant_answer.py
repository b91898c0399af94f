"""A file of features of one's own: its labels are evaluate's, its names the vocabulary's; what is refused, and what is said."""

import dataclasses
import json

import numpy as np
import pytest

from helpers import runtime, video

runtime.quiet_start()

from helpers.circulant_video import answer, data, evaluation, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import vocabulary

CONFIG = CirculantVideoConfig(
    source="mini", feature_names=("rgb", "audio"), feature_sizes=(64, 16), classes=24, max_frames=40,
    experiments=("diagonal",), clusters=32, hidden=16, mixtures=2, bags=2, iterations=3, allow_cpu=True,
)  # fmt: skip
SHARDS = {"train0000": 12, "validate3224": 30}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A workspace with a few drawn shards, split."""
    root = tmp_path_factory.mktemp("workspace")
    with pytest.MonkeyPatch.context() as patch:
        draw = dataset.make_dataset
        patch.setattr(dataset, "make_dataset", lambda folder: draw(folder, shards=SHARDS))
        for step in steps.STEPS[:3]:
            step(CONFIG, root)
    return root


@pytest.fixture(scope="module")
def networks():
    return {name: runs.build_network(CONFIG, name, seed) for seed, name in enumerate(("dbof", "dbof fc"))}


def shard(place, level="frame"):
    return steps.build_dataset.load(CONFIG, place).source_root / level / "validate3224.tfrecord"


def test_a_held_out_file_has_the_labels_that_evaluate_gives_it(place, networks):
    _, validation = steps.open_sides(CONFIG, place)
    parts = evaluation.predict(networks["dbof"], validation, np.arange(len(validation)), length=CONFIG.max_frames)
    wanted = np.concatenate([part for part, _ in parts])
    found = answer.answer(shard(place), networks, CONFIG)
    table = found.table
    assert found.kind == "table" and table["video"].unique().tolist() == validation.ids[: answer.VIDEOS].tolist()
    names = list(dataset.ENTITIES)
    for number, (_, rows) in enumerate(table.groupby("video", sort=False)):
        best = sorted(range(24), key=lambda label: -wanted[number, label])[: answer.TOP]
        assert rows["label"].tolist() == [names[label] for label in best]
        assert np.allclose(rows["dbof"], wanted[number, best], atol=6e-4)  # rounded to three digits
        there = validation.labels([number])[0]
        assert [bool(word) for word in rows["in the file"]] == [there[label] == 1 for label in best]
    assert found.text[0] == "the 5 surest labels of the first 5 of 30 videos" and list(table)[2:4] == list(networks)
    assert "The network: trained on records of rgb (64 numbers a second) and audio (16 numbers" in found.text[-1]


def test_one_network_has_a_column_of_its_own(place, networks):
    table = answer.answer(shard(place), networks["dbof"], CONFIG).table
    assert list(table) == ["video", "label", "probability", "in the file"]


def test_a_video_level_record_is_a_video_of_one_frame(place, networks):
    found = answer.answer(shard(place, "video"), networks, CONFIG)
    means = next(data.read_video_level(shard(place, "video"), feature_sizes=(64, 16), classes=24))
    frame = np.concatenate([data.quantize(means[name]) for name in ("mean_rgb", "mean_audio")])
    inputs = {"frames": np.pad(frame[None, None], ((0, 0), (0, 39), (0, 0))), "num_frames": np.array([1], np.int32)}
    wanted = np.asarray(networks["dbof"].predict_on_batch(inputs))[0]
    assert found.table["dbof"].iloc[0] == pytest.approx(wanted.max(), abs=6e-4)
    assert "as one frame" in found.text[1]


def test_damaged_records_are_left_out_and_told(place, networks, tmp_path):
    path = dataset.damage_records(shard(place), tmp_path / "own.tfrecord", {0: "checksum", 2: "label", 29: "cut"})
    found = answer.answer(path, networks, CONFIG)
    assert found.text[0].endswith("first 5 of 27 videos")
    assert found.text[1].startswith("3 records cannot be used and are left out, the first is record 0: the payload's")


def audioset(path, classes=527, count=2):
    """Records as AudioSet's: ten seconds of sound, other names and sizes."""
    rng = np.random.default_rng(0)
    sounds = [{"audio_embedding": rng.integers(0, 256, (10, 128), np.uint8)} for _ in range(count)]
    records = [examples.encode_frame_level(f"id{n}", [n], sound, id_key="video_id") for n, sound in enumerate(sounds)]
    tfrecord.write_records(path, records)


def film(path):
    video.write_video(path, np.zeros((3, 40, 60, 3), np.uint8), 25)


REFUSED = [
    (film, "own.avi", ValueError, "own.avi is a video; expected a TFRecord file with one row of numbers a second"),
    (film, "own.avi", ValueError, "of your own they are made by feature_extractor of github.com/google/youtube-8m"),
    (lambda path: path.write_bytes(b"RIFF1234WAVEfmt "), "own.wav", ValueError, "own.wav is a RIFF file; expected"),
    (
        lambda path: path.write_bytes(bytes(500)),
        "own.tfrecord",
        ValueError,
        "none of its 1 records can be used: the len",
    ),
    (lambda path: None, "own.tfrecord", FileNotFoundError, "own.tfrecord: check its name"),
    (audioset, "own.tfrecord", ValueError, "no frames of rgb, audio; it has: audio_embedding"),
    (audioset, "own.tfrecord", ValueError, "the network was trained on records of rgb (64 numbers a second)"),
    (audioset, "own.tfrecord", ValueError, "train on those with t4, or with source: audioset"),
]


@pytest.mark.parametrize(("make", "name", "error", "words"), REFUSED)
def test_what_cannot_be_answered_is_refused_in_a_sentence(networks, tmp_path, make, name, error, words):
    make(tmp_path / name)
    with pytest.raises(error) as refusal:
        answer.answer(tmp_path / name, networks, CONFIG)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_a_file_that_is_cut_in_its_first_record_is_refused(place, networks, tmp_path):
    (tmp_path / "own.tfrecord").write_bytes(shard(place).read_bytes()[:400])
    with pytest.raises(ValueError, match=r"own.tfrecord: none of its 1 records can be used: cut off: 400 of \d+ bytes"):
        answer.answer(tmp_path / "own.tfrecord", networks, CONFIG)


OWN = dataclasses.replace(
    CONFIG, source="local", local_folder=".", feature_names=("audio_embedding",), feature_sizes=(128,), classes=3
)


def test_names_stand_beside_the_file_or_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))
    (tmp_path / "records").mkdir()
    audioset(path := tmp_path / "records" / "eval00.tfrecord")
    network = runs.build_network(OWN, "dbof")
    assert set(answer.answer(path, network, OWN).table["label"]) == {"0", "1", "2"}
    rows = ["index,mid,display_name", "0,/m/0,Speech", '1,/m/1,"Bird, call"', "2,/m/2,Rain"]
    (tmp_path / "class_labels_indices.csv").write_text("\n".join(rows))
    found = answer.answer(path, network, OWN)
    assert set(found.table["label"]) == {"Speech", "Bird, call", "Rain"} and "source local" in found.text[-1]


def test_a_vocabulary_of_other_labels_is_not_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))
    (tmp_path / "class_labels_indices.csv").write_text("index,mid,display_name\n0,/m/0,Speech\n")
    assert answer.find_names(tmp_path / "a.tfrecord", OWN) == ["0", "1", "2"]


def test_genuine_labels_get_the_names_of_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))
    asked = []

    def fetch_names(source, cache):
        asked.append((source, cache.relative_to(tmp_path).as_posix()))
        rows = "".join(f"{label},/m/{label},name {label}\n" for label in range(527))
        (tmp_path / "names.csv").write_text("index,mid,display_name\n" + rows)
        return tmp_path / "names.csv"

    monkeypatch.setattr(vocabulary, "fetch_names", fetch_names)
    names = answer.find_names(tmp_path / "a.tfrecord", dataclasses.replace(OWN, classes=527))
    assert asked == [("audioset", "workspace/downloads/audioset")] and len(names) == 527 and names[5] == "name 5"
    assert json.dumps(names)  # plain strings
