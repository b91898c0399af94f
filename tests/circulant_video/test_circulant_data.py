"""Reading TFRecord files, sound and damaged, held against TensorFlow's own reader, parser and writer."""

import gzip
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from helpers import runtime

runtime.quiet_start()

import tensorflow as tf

from helpers.circulant_video import data
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import vocabulary

SMALL = {"feature_sizes": (64, 16), "classes": 24}
SHARED = runtime.repo_root().parent / "shared" / "data"


def read(path, **options):
    """All videos and the table of problems."""
    problems = []
    return list(data.read_frame_level(path, **{**SMALL, "problems": problems, **options})), problems


def parse_by_tensorflow(path, names=("rgb", "audio"), id_key="id"):
    """What TensorFlow's reader, checksums and parser make of a sound frame-level file."""
    context = {id_key: tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)}
    lists = {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in names}
    for record in tf.data.TFRecordDataset(str(path)):
        values, frames = tf.io.parse_single_sequence_example(record, context, lists)
        decoded = [tf.io.decode_raw(frames[name], tf.uint8).numpy() for name in names]
        yield values[id_key].numpy().decode(), set(tf.sparse.to_dense(values["labels"]).numpy().tolist()), decoded


# --- quantisation ---


def test_dequantize_follows_the_published_formula():
    assert data.dequantize(np.array([0, 127, 128, 255], np.uint8)) == pytest.approx(
        [-1.9921875, -0.0000306, 0.0156556, 2.0078125], abs=1e-6
    )
    assert data.dequantize(np.zeros((2, 3), np.uint8)).shape == (2, 3)
    assert data.dequantize(np.zeros(1, np.uint8)).dtype == np.float32


def test_quantize_inverts_dequantize_on_all_codes_and_clips():
    codes = np.arange(256, dtype=np.uint8)
    assert (data.quantize(data.dequantize(codes)) == codes).all()
    assert data.quantize([-9.0, -2.0, -1.99, 0.0, 1.0, 2.0, 9.0]).tolist() == [0, 0, 1, 128, 191, 255, 255]


def test_converting_imports_neither_tensorflow_nor_keras(folder, tmp_path):
    code = f"""
import sys
from helpers.circulant_video import data
layout = {{"feature_names": ("rgb", "audio"), "max_frames": 300, **{SMALL!r}}}
row = data.convert_shard({str(folder / "frame" / "train0000.tfrecord")!r}, {str(tmp_path)!r}, **layout)
means = list(data.read_video_level({str(folder / "video" / "train0000.tfrecord")!r}, **{SMALL!r}))
print(row["videos"], len(means), sorted({{"tensorflow", "keras"}} & set(sys.modules)))
"""
    options = {"cwd": runtime.repo_root(), "capture_output": True, "text": True, "timeout": 120}
    run = subprocess.run([sys.executable, "-c", code], **options)
    assert (run.stdout, run.stderr) == ("30 30 []\n", "")


# --- frame level ---


def test_frames_and_labels_are_those_that_tensorflow_parses(folder):
    files = [folder / "frame" / "train0000.tfrecord", folder / "frame" / "train0001.tfrecord"]
    videos, problems = read(files)
    expected = [video for path in files for video in parse_by_tensorflow(path)]
    assert (len(videos), problems) == (50, [])
    for video, (name, labels, (rgb, audio)) in zip(videos, expected, strict=True):
        assert video["id"] == name
        assert set(np.flatnonzero(video["labels"])) == labels
        assert video["labels"].shape == (24,)
        assert video["num_frames"] == len(rgb)
        assert (video["rgb"] == rgb).all() and (video["audio"] == audio).all()
        assert video["rgb"].dtype == np.uint8


DAMAGES = {1: "checksum", 3: "length", 5: "width", 7: "label", 9: "empty", 25: "cut"}
REASONS = {
    "checksum": "payload's checksum", "length": "length's checksum", "width": "rgb: frame 0 has 63 bytes, expected 64",
    "label": "label 1000000 is out of range: 0 to 23", "empty": "no frame", "cut": "cut off",
}  # fmt: skip


def test_damaged_records_are_named_and_skipped_and_all_others_read(folder, tmp_path):
    sound, _ = read(folder / "frame" / "train0000.tfrecord")
    path = dataset.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "bad.tfrecord", DAMAGES)
    videos, problems = read(path)
    assert [video["id"] for video in videos] == [sound[k]["id"] for k in range(25) if k not in DAMAGES]
    assert {(row["file"], row["record"]) for row in problems} == {("bad.tfrecord", record) for record in DAMAGES}
    for row in problems:
        assert REASONS[DAMAGES[row["record"]]] in row["reason"]
    with pytest.raises(tf.errors.DataLossError):  # why this reader exists
        list(tf.data.TFRecordDataset(str(path)))


def test_without_a_table_a_warning_counts_the_problems(folder, tmp_path):
    path = dataset.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "bad.tfrecord", DAMAGES)
    with pytest.warns(UserWarning, match=r"6 records were skipped; the first is bad.tfrecord, record 1: .*checksum"):
        assert len(list(data.read_frame_level(path, **SMALL))) == 20


def write_one(path, rgb=3, audio=3, sizes=(64, 16), labels=(1,), **options):
    """A file of one record with so many frames of each feature."""
    features = {"rgb": np.full((rgb, sizes[0]), 7, np.uint8), "audio": np.full((audio, sizes[1]), 9, np.uint8)}
    tfrecord.write_records(path, [examples.encode_frame_level("aBc1", labels, features, **options)])
    return path


@pytest.mark.parametrize(
    ("changes", "options", "reason"),
    [
        ({"audio": 2}, {}, "the lists differ in length: rgb 3, audio 2"),
        ({"sizes": (63, 16)}, {}, "rgb: frame 0 has 63 bytes, expected 64"),
        ({}, {"feature_names": ("rgb", "sound")}, "no frames of sound; it has: audio, id, labels, rgb"),
        ({"labels": [-1]}, {}, "label -1 is out of range: 0 to 23"),
        ({"labels": [24]}, {}, "label 24 is out of range: 0 to 23"),
        ({"id_key": "name"}, {}, "no id or video_id; it has: labels, name"),
        ({"rgb": 0, "audio": 0}, {}, "the video has no frame"),
    ],
)
def test_unusable_content_is_named(tmp_path, changes, options, reason):
    videos, problems = read(write_one(tmp_path / "a.tfrecord", **changes), **options)
    assert videos == []
    assert problems == [{"file": "a.tfrecord", "record": 0, "reason": reason}]


def test_bytes_that_are_no_message_are_named(tmp_path):
    tfrecord.write_records(tmp_path / "a.tfrecord", [b"\xff\xff\xff"])
    assert "no SequenceExample" in read(tmp_path / "a.tfrecord")[1][0]["reason"]
    problems = []
    assert list(data.read_video_level(tmp_path / "a.tfrecord", problems=problems)) == []
    assert "no Example" in problems[0]["reason"]


def test_both_id_keys_duplicate_labels_and_segments(tmp_path):
    segments = {"segment_labels": [3, 3], "segment_start_times": [0, 25], "segment_end_times": [5, 30]}
    for key in ("id", "video_id"):
        path = write_one(tmp_path / key, labels=[5, 2, 5], id_key=key, segment_scores=[1.0, 0.0], **segments)
        (video,), problems = read(path)
        assert (video["id"], np.flatnonzero(video["labels"]).tolist(), problems) == ("aBc1", [2, 5], [])
        assert {name: video[name].tolist() for name in segments} == segments
        assert video["segment_scores"].tolist() == [1.0, 0.0]
    assert "segment_labels" not in read(write_one(tmp_path / "plain"))[0][0]


def test_hidden_labels_are_zeros(folder):
    videos, problems = read(folder / "frame" / "test0000.tfrecord")
    assert (len(videos), problems) == (5, [])
    assert not any(video["labels"].any() for video in videos)


def test_long_videos_are_cropped(folder):
    path = folder / "frame" / "train0000.tfrecord"
    whole, _ = read(path)
    cropped, _ = read(path, max_frames=25)
    assert {len(video["rgb"]) for video in cropped} >= {20, 25} and max(len(video["rgb"]) for video in cropped) == 25
    for video, part in zip(whole, cropped, strict=True):
        assert (part["rgb"] == video["rgb"][:25]).all() and (part["audio"] == video["audio"][:25]).all()
        assert part["num_frames"] == min(25, video["num_frames"])


def test_a_call_with_wrong_arguments_says_so_at_once(tmp_path):
    for arguments, error, words in [
        ({"files": tmp_path / "none.tfrecord"}, FileNotFoundError, "none.tfrecord"),
        ({"files": tmp_path}, FileNotFoundError, "expected .tfrecord files"),
        ({"files": []}, FileNotFoundError, "expected"),
        ({"feature_names": ("rgb",), "feature_sizes": (64, 16)}, ValueError, "as many sizes as names"),
        ({"feature_names": "rgb", "feature_sizes": (1, 2, 3)}, ValueError, "feature_names='rgb'"),
        ({"classes": 0}, ValueError, "every number positive"),
    ]:
        arguments = {"files": write_one(tmp_path / "one"), **arguments}
        with pytest.raises(error, match=words):
            data.read_frame_level(arguments.pop("files"), **arguments)


# --- video level ---


def test_video_level_holds_the_means_of_the_dequantised_frames(folder):
    frames, _ = read(folder / "frame" / "train0000.tfrecord")
    videos = list(data.read_video_level(folder / "video" / "train0000.tfrecord", **SMALL, problems=[]))
    spec = {
        "id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64),
        "mean_rgb": tf.io.FixedLenFeature([64], tf.float32), "mean_audio": tf.io.FixedLenFeature([16], tf.float32),
    }  # fmt: skip
    parsed = tf.data.TFRecordDataset(str(folder / "video" / "train0000.tfrecord")).map(
        lambda record: tf.io.parse_single_example(record, spec)
    )
    for video, twin, row in zip(videos, frames, parsed, strict=True):
        assert (video["id"], video["num_frames"]) == (twin["id"], 1) and (video["labels"] == twin["labels"]).all()
        assert video["id"] == row["id"].numpy().decode()
        for name in ("rgb", "audio"):
            assert (video[f"mean_{name}"] == row[f"mean_{name}"].numpy()).all()
            mean = (twin[name].astype(float) * 4 / 255 + 4 / 512 - 2).mean(axis=0)
            assert video[f"mean_{name}"] == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    ("means", "reason"),
    [
        ({"rgb": np.zeros(64)}, "no mean_audio; it has: id, labels, mean_rgb"),
        ({"rgb": np.zeros(64), "audio": np.zeros(15)}, r"mean_audio: 15 numbers \(15 finite\), expected 16"),
        ({"rgb": np.full(64, np.nan), "audio": np.zeros(16)}, r"mean_rgb: 64 numbers \(0 finite\), expected 64"),
    ],
)
def test_unusable_means_are_named(tmp_path, means, reason):
    tfrecord.write_records(tmp_path / "a.tfrecord", [examples.encode_video_level("aBc1", [1], means)])
    problems = []
    assert list(data.read_video_level(tmp_path / "a.tfrecord", **SMALL, problems=problems)) == []
    assert pd.Series(problems[0]["reason"]).str.fullmatch(reason).all()


def test_a_file_of_the_other_level_is_recognised(folder):
    videos, problems = read(folder / "video" / "train0000.tfrecord")
    assert (videos, len(problems)) == ([], 30)
    assert "mean_rgb" in problems[0]["reason"]


# --- vocabularies ---


def test_vocabulary_is_put_in_the_order_of_labels(tmp_path):
    text = 'Index,KnowledgeGraphId,Name\n1,/m/b,"Bread, rye\n(two lines)"\n0,/m/a,NA\n2,/m/c,\n'
    with gzip.open(tmp_path / "vocabulary.csv.gz", "wt") as file:
        file.write(text)
    table = vocabulary.read_vocabulary(tmp_path / "vocabulary.csv.gz", classes=3)
    assert table["name"].tolist() == ["NA", "Bread, rye\n(two lines)", "/m/c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "received columns a, b"),
        ("index,mid,display_name\n0,/m/a,A\n0,/m/b,B\n", "each label from 0 to 1 once"),
        ("index,mid,display_name\n0,/m/a,A\n", "received 1 rows up to label 0"),
        ("", "an empty file .*no vocabulary"),
        ("a,b\n1,2,3,4\n5,6,7,8,9\n", "a text, no vocabulary"),
        ("\x1f\x8b\x08\0\0", "a gzip file"),
        ("index,\xff\n", "no vocabulary"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, text, words):
    (tmp_path / "v.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=rf"^v\.csv.*{words}"):
        vocabulary.read_vocabulary(tmp_path / "v.csv", classes=2)


# --- genuine files ---


@pytest.mark.skipif(not (SHARED / "youtube8m").is_dir(), reason="no genuine files beside the repository")
def test_the_genuine_vocabularies():
    table = vocabulary.read_vocabulary(SHARED / "youtube8m" / "vocabulary.csv.gz", classes=3862)
    assert table.loc[[0, 1], "name"].tolist() == ["Game", "Video game"]
    assert (table["name"] != "").all() and (table["Name"] == "").sum() == 56
    assert (
        vocabulary.read_vocabulary(SHARED / "audioset" / "class_labels_indices.csv", classes=527)["name"][0] == "Speech"
    )


@pytest.mark.skipif(not (SHARED / "audioset").is_dir(), reason="no genuine files beside the repository")
def test_audioset_is_read_as_tensorflow_reads_it():
    options = {"feature_names": ("audio_embedding",), "feature_sizes": (128,), "classes": 527}
    for split, count in (("train", 6000), ("validate", 1000)):
        problems = []
        files = sorted((SHARED / "audioset").glob(f"{split}*.tfrecord"))
        videos = list(data.read_frame_level(files, **options, problems=problems))
        assert (len(videos), problems) == (count, [])
        assert all(
            video["labels"].any() and video["audio_embedding"].shape == (video["num_frames"], 128) for video in videos
        )
    expected = parse_by_tensorflow(files[0], ("audio_embedding",), id_key="video_id")
    for video, (name, labels, (frames,)) in zip(videos, expected, strict=False):
        assert (video["id"], set(np.flatnonzero(video["labels"]))) == (name, labels)
        assert (video["audio_embedding"] == frames).all()
