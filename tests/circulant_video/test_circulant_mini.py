"""The mini data set: genuine format, the same from a seed, and learnable: labels can be told from frames, not from chance."""

import csv
import hashlib

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import average_precision_score

from helpers import runtime

runtime.quiet_start()

import tensorflow as tf

from helpers.circulant_video import data, splits
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import vocabulary

SMALL = {"feature_sizes": (64, 16), "classes": 24}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The whole mini data set."""
    path = tmp_path_factory.mktemp("mini")
    table = dataset.make_dataset(path)
    assert table["videos"].sum() == 1200
    return path


def read(folder, split):
    """Every video of one side of the paper's split."""
    problems = []
    files = splits.split_shards((folder / "frame").iterdir())[split]
    videos = list(data.read_frame_level(files, **SMALL, problems=problems))
    assert problems == []
    return videos


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*.*")
    }


def test_the_papers_split_leaves_800_and_300(folder):
    assert [len(read(folder, split)) for split in ("train", "validation", "test")] == [800, 300, 100]


def test_tensorflow_reads_every_record(folder):
    for kind in ("frame", "video"):
        files = sorted(map(str, (folder / kind).iterdir()))
        assert sum(1 for _ in tf.data.TFRecordDataset(files)) == 1200


def test_videos_are_as_described(folder):
    videos = read(folder, "train") + read(folder, "validation")
    assert {int(video["labels"].sum()) for video in videos} == {1, 2, 3}
    lengths = {video["num_frames"] for video in videos}
    assert (min(lengths), max(lengths)) == (20, 40)
    assert len({video["id"] for video in videos}) == 1100 and all(len(video["id"]) == 4 for video in videos)
    share = np.mean([video["labels"] for video in videos], axis=0)
    assert share[0] == max(share) and share[0] > 4 * share[-8:].mean() > 0.1
    assert not any(video["labels"].any() for video in read(folder, "test"))


def test_labels_can_be_learnt_from_frames(folder):
    def table(split):
        videos = read(folder, split)
        rows = [
            np.concatenate([data.dequantize(video[name]).mean(axis=0) for name in ("rgb", "audio")]) for video in videos
        ]
        return np.array(rows), np.array([video["labels"] for video in videos])

    (x, y), (x_held_out, y_held_out) = table("train"), table("validation")
    scores = Ridge(10).fit(x, y).predict(x_held_out)
    prior = np.tile(y.mean(axis=0), (len(y_held_out), 1))
    assert average_precision_score(y_held_out.ravel(), scores.ravel()) > 0.7
    assert average_precision_score(y_held_out.ravel(), prior.ravel()) < 0.3


def test_a_seed_decides_every_byte(tmp_path):
    shards = {"train0000": 8, "validate0000": 4}
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        dataset.make_dataset(tmp_path / name, seed=seed, shards=shards)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    changed = {key for key, value in digests(tmp_path / "a").items() if digests(tmp_path / "c")[key] != value}
    assert changed == {f"{kind}/{shard}.tfrecord" for kind in ("frame", "video") for shard in shards}
    before = digests(tmp_path / "a")
    (tmp_path / "a" / "frame" / "validate0000.tfrecord").unlink()
    dataset.make_dataset(tmp_path / "a", seed=3, shards=shards)  # makes what is missing, the same
    assert digests(tmp_path / "a") == before


def test_other_sizes(tmp_path):
    dataset.make_dataset(tmp_path, classes=5, features={"audio_embedding": 8}, frames=(2, 3), shards={"train0000": 6})
    options = {"feature_names": ("audio_embedding",), "feature_sizes": (8,), "classes": 5, "problems": []}
    videos = list(data.read_frame_level(tmp_path / "frame", **options))
    assert len(videos) == 6 and {video["num_frames"] for video in videos} <= {2, 3} and options["problems"] == []


def test_the_vocabulary_is_as_awkward_as_the_genuine_one(folder):
    with (folder / "vocabulary.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[:4] == ["Index", "TrainVideoCount", "KnowledgeGraphId", "Name"]
    assert [row["Index"] for row in rows][:2] == ["1", "0"] and "\n" in rows[0]["WikiDescription"]
    table = vocabulary.read_vocabulary(folder / "vocabulary.csv", classes=24)
    assert table["name"].tolist() == list(dataset.ENTITIES)
    assert table["TrainVideoCount"].max() == 900


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            lambda path: dataset.damage_records(path / "frame" / "train0000.tfrecord", path / "x", {0: "tooth"}),
            "checksum, length",
        ),
        (
            lambda path: dataset.damage_records(path / "frame" / "train0000.tfrecord", path / "x", {100: "cut"}),
            "records 0 to 99",
        ),
    ],
)
def test_wrong_arguments(folder, call, words):
    with pytest.raises(ValueError, match=words):
        call(folder)
