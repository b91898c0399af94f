"""Reading TFRecord files, sound and damaged, held against TensorFlow's own reader, parser and writer."""

import gzip
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from helpers import runtime

runtime.quiet_start()

import tensorflow as tf

from helpers import training
from helpers.circulant_video import cache, data, mini, records

SMALL = {"feature_sizes": (64, 16), "classes": 24}
SHARED = runtime.repo_root().parent / "shared" / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A mini data set of two shards, frame and video level."""
    path = tmp_path_factory.mktemp("mini")
    mini.make_dataset(path, shards={"train0000": 30, "train0001": 20, "test0000": 5})
    return path


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


# --- records ---


@pytest.mark.parametrize(
    ("message", "crc"),
    [  # RFC 3720, appendix B.4, and the check value of the Castagnoli polynomial
        (b"", 0x00000000),
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
    ],
)
def test_checksums_are_castagnolis(message, crc):
    masked = int(records.checksums(np.frombuffer(message, np.uint8)[None])[0])
    turned = (masked - 0xA282EAD8) % 2**32
    assert (turned >> 17 | turned << 15) % 2**32 == crc


def test_records_of_every_length_are_read_as_tensorflow_wrote_them(tmp_path):
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(length) for length in [*range(20), 1000, 4095, 4096, 4097, 70_001]]
    assert records.write_records(tmp_path / "a.tfrecord", payloads) == len(payloads)
    problems = []
    found = list(records.read_records(tmp_path / "a.tfrecord", problems))
    assert [index for index, _ in found] == list(range(len(payloads)))
    assert [payload.tobytes() for _, payload in found] == payloads
    assert problems == []


def test_any_flipped_bit_costs_one_record_and_is_named(tmp_path):
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(40) for _ in range(3)]
    path = tmp_path / "a.tfrecord"
    records.write_records(path, payloads)
    content, size = path.read_bytes(), 40 + 16
    for byte in range(size, 2 * size):  # all of the record in the middle: length, its checksum, payload, its checksum
        broken = bytearray(content)
        broken[byte] ^= 1 << byte % 8
        path.write_bytes(broken)
        problems = []
        found = [payload.tobytes() for _, payload in records.read_records(path, problems)]
        assert found == [payloads[0], payloads[2]], byte
        assert [(row["file"], row["record"]) for row in problems] == [("a.tfrecord", 1)], byte
        assert ("length's" if byte < size + 12 else "payload's") in problems[0]["reason"]


def test_a_file_cut_anywhere_gives_its_whole_records(tmp_path):
    path = tmp_path / "a.tfrecord"
    records.write_records(path, [b"x" * 30, b"y" * 30])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        problems = []
        assert len(list(records.read_records(path, problems))) == size // 46
        assert len(problems) == (size in (0, *range(1, 46), *range(47, 92)))


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>please log in</html>" * 9, bytes(5), gzip.compress(bytes(99), mtime=0)]
)
def test_what_is_no_tfrecord_file_is_one_problem(tmp_path, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    videos, problems = read(tmp_path / "a.tfrecord")
    assert (videos, len(problems)) == ([], 1)


def test_a_header_is_found_again_across_the_blocks_of_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SEARCH", 16)
    path = tmp_path / "a.tfrecord"
    records.write_records(path, [bytes(200), b"after"])
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert [payload.tobytes() for _, payload in records.read_records(path, [])] == [b"after"]


def test_bytes_that_only_look_like_a_header_are_passed_over(tmp_path):
    path = tmp_path / "a.tfrecord"
    records.write_records(path, [bytes(50)])
    lookalike = path.read_bytes()[: records.HEADER]  # a sound header, and behind it no record of 50 bytes
    records.write_records(path, [b"begin" + lookalike + b"end" * 9, b"after" * 9])
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    problems = []
    assert [payload.tobytes() for _, payload in records.read_records(path, problems)] == [b"after" * 9]
    assert len(problems) == 1


# --- messages ---


def fill_messages(kinds):
    """A SequenceExample and an Example with all kinds of values, from `tf.train` or a namespace like it."""
    lists = {
        "bytes": kinds.Feature(bytes_list=kinds.BytesList(value=[b"", bytes(range(256)), b"aBc1"])),
        "int64": kinds.Feature(int64_list=kinds.Int64List(value=[0, 1, -1, 3861, 2**63 - 1, -(2**63)])),
        "float": kinds.Feature(float_list=kinds.FloatList(value=[0.0, -1.5, 1e-30, float("inf")])),
        "empty list": kinds.Feature(int64_list=kinds.Int64List()),
        "nothing": kinds.Feature(),
    }
    features = kinds.Features(feature=lists)
    frames = {"rgb": kinds.FeatureList(feature=list(lists.values())), "none": kinds.FeatureList()}
    whole = kinds.SequenceExample(context=features, feature_lists=kinds.FeatureLists(feature_list=frames))
    return whole, kinds.Example(features=features)


@pytest.mark.parametrize("place", [0, 1])
def test_messages_are_read_and_written_as_tensorflow_does(place):
    ours, theirs = fill_messages(records.messages())[place], fill_messages(tf.train)[place]
    assert type(ours) is not type(theirs) and theirs.ByteSize() > 300
    written = [message.SerializeToString(deterministic=True) for message in (ours, theirs)]
    assert written[0] == written[1]
    read = [type(message).FromString(written[0]) for message in (ours, theirs)]
    assert read[0] == ours and read[1] == theirs and str(read[0]) == str(read[1])
    for message in read:
        feature = (message.features if place else message.context).feature["nothing"]
        for kind, value in (("bytes_list", b"x"), ("float_list", 1.0), ("int64_list", 1), ("bytes_list", b"y")):
            getattr(feature, kind).value.append(value)
            assert [(field.name, list(found.value)) for field, found in feature.ListFields()] == [(kind, [value])]


def test_converting_imports_neither_tensorflow_nor_keras(folder, tmp_path):
    code = f"""
import sys
from helpers.circulant_video import cache, data
row = cache.convert_shard({str(folder / "frame" / "train0000.tfrecord")!r}, {str(tmp_path)!r}, **{SMALL!r})
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
    path = mini.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "bad.tfrecord", DAMAGES)
    videos, problems = read(path)
    assert [video["id"] for video in videos] == [sound[k]["id"] for k in range(25) if k not in DAMAGES]
    assert {(row["file"], row["record"]) for row in problems} == {("bad.tfrecord", record) for record in DAMAGES}
    for row in problems:
        assert REASONS[DAMAGES[row["record"]]] in row["reason"]
    with pytest.raises(tf.errors.DataLossError):  # why this reader exists
        list(tf.data.TFRecordDataset(str(path)))


def test_without_a_table_a_warning_counts_the_problems(folder, tmp_path):
    path = mini.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "bad.tfrecord", DAMAGES)
    with pytest.warns(UserWarning, match=r"6 records were skipped; the first is bad.tfrecord, record 1: .*checksum"):
        assert len(list(data.read_frame_level(path, **SMALL))) == 20


def write_one(path, rgb=3, audio=3, sizes=(64, 16), labels=(1,), **options):
    """A file of one record with so many frames of each feature."""
    features = {"rgb": np.full((rgb, sizes[0]), 7, np.uint8), "audio": np.full((audio, sizes[1]), 9, np.uint8)}
    records.write_records(path, [records.encode_frame_level("aBc1", labels, features, **options)])
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
    records.write_records(tmp_path / "a.tfrecord", [b"\xff\xff\xff"])
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


def test_long_videos_are_cropped_and_chosen_frames_are_drawn_from_what_is_left(folder):
    path = folder / "frame" / "train0000.tfrecord"
    whole, _ = read(path)
    cropped, _ = read(path, max_frames=25)
    assert {len(video["rgb"]) for video in cropped} >= {20, 25} and max(len(video["rgb"]) for video in cropped) == 25
    seen = []
    chosen, _ = read(path, max_frames=25, check=False, choose=lambda n: seen.append(n) or np.array([n - 1, 0, 0]))
    assert seen == [video["num_frames"] for video in cropped] == [video["num_frames"] for video in chosen]
    for video, part in zip(whole, chosen, strict=True):
        n = part["num_frames"]
        assert (part["rgb"] == video["rgb"][[n - 1, 0, 0]]).all() and (
            part["audio"] == video["audio"][[n - 1, 0, 0]]
        ).all()


def test_a_call_with_wrong_arguments_says_so_at_once(tmp_path):
    for arguments, error, words in [
        ({"files": tmp_path / "none.tfrecord"}, FileNotFoundError, "none.tfrecord"),
        ({"files": tmp_path}, FileNotFoundError, "expected .tfrecord files"),
        ({"files": []}, FileNotFoundError, "expected"),
        ({"feature_names": ("rgb",), "feature_sizes": (64, 16)}, ValueError, "as many sizes as names"),
        ({"feature_names": "rgb", "feature_sizes": (1, 2, 3)}, ValueError, "feature_names='rgb'"),
        ({"classes": 0}, ValueError, "every number positive"),
        ({"max_frames": 0}, ValueError, "1 or more"),
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
    records.write_records(tmp_path / "a.tfrecord", [records.encode_video_level("aBc1", [1], means)])
    problems = []
    assert list(data.read_video_level(tmp_path / "a.tfrecord", **SMALL, problems=problems)) == []
    assert pd.Series(problems[0]["reason"]).str.fullmatch(reason).all()


def test_a_file_of_the_other_level_is_recognised(folder):
    videos, problems = read(folder / "video" / "train0000.tfrecord")
    assert (videos, len(problems)) == ([], 30)
    assert "mean_rgb" in problems[0]["reason"]


# --- converted files ---


@pytest.fixture(scope="module")
def videos(folder, tmp_path_factory):
    """Both training shards, converted."""
    target = tmp_path_factory.mktemp("cache")
    for name in ("train0000", "train0001"):
        cache.convert_shard(folder / "frame" / f"{name}.tfrecord", target, **SMALL)
    return cache.Videos(target, ["train0001", "train0000"])


def test_converted_videos_are_those_of_the_files(folder, videos):
    expected = [
        video for name in ("train0001", "train0000") for video in read(folder / "frame" / f"{name}.tfrecord")[0]
    ]
    assert list(videos.ids) == [video["id"] for video in expected]
    assert (videos.labels(range(50)) == np.stack([video["labels"] for video in expected])).all()
    for row, video in enumerate(expected):
        assert (videos.frames(row) == np.concatenate([video["rgb"], video["audio"]], axis=1)).all()
    picks = np.stack([np.random.default_rng(0).integers(videos.num_frames[row], size=7) for row in (49, 0, 19, 20)])
    gathered = videos.gather([49, 0, 19, 20], picks)
    assert gathered.shape == (4, 7, 80) and (gathered[2] == videos.frames(19)[picks[2]]).all()


def test_conversion_runs_once_counts_problems_and_refuses_a_file_without_videos(folder, tmp_path):
    bad = mini.damage_records(folder / "frame" / "train0000.tfrecord", tmp_path / "train0009.tfrecord", DAMAGES)
    row = cache.convert_shard(bad, tmp_path / "cache", **SMALL)
    assert (row["shard"], row["videos"], len(row["problems"])) == ("train0009", 20, 6)
    written = (tmp_path / "cache" / "train0009.frames").stat()
    assert written.st_size == row["bytes"] == 80 * row["frames"]
    assert cache.convert_shard(bad, tmp_path / "cache", **SMALL) == row
    assert (tmp_path / "cache" / "train0009.frames").stat().st_mtime_ns == written.st_mtime_ns
    assert cache.convert_shard(bad, tmp_path / "cache", **SMALL, max_frames=5)["frames"] == 100  # other settings: anew
    with pytest.raises(
        ValueError, match=r"train0000.tfrecord: none of its 30 records can be used: rgb: frame 0 has 64 bytes"
    ):
        cache.convert_shard(folder / "frame" / "train0000.tfrecord", tmp_path / "cache", classes=24)
    with pytest.raises(FileNotFoundError, match="not converted yet: train0000"):
        cache.Videos(tmp_path / "cache", ["train0009", "train0000"])


@pytest.mark.parametrize(
    ("frames", "counts"),
    [(300, [150, 150]), (299, [150, 149]), (7, [4, 3]), (1, [1, 0]), (0, [0, 0]), (400, [150, 150])],
)
def test_sizes_of_halves(frames, counts):
    halves, found = cache.pad_videos([np.ones((frames, 2), np.float32)], 300, halves=True)
    assert found.tolist() == counts and halves.shape == (2, 150, 2) and halves.dtype == np.float32
    assert halves.sum(axis=(1, 2)).tolist() == [2 * count for count in counts]


def test_halves_are_neighbours_in_order_and_filled_up_with_zeros():
    videos = [np.arange(1, n + 1, dtype=np.uint8)[:, None] for n in (9, 8, 7, 12)]
    halves, _ = cache.pad_videos(videos, 9, halves=True)
    assert halves[..., 0].tolist() == [
        [1, 2, 3, 4, 5], [6, 7, 8, 9, 0], [1, 2, 3, 4, 0], [5, 6, 7, 8, 0], [1, 2, 3, 4, 0], [5, 6, 7, 0, 0],
        [1, 2, 3, 4, 5], [6, 7, 8, 9, 0],
    ]  # fmt: skip
    whole, counts = cache.pad_videos(videos, 9)
    assert whole[2:, :, 0].tolist() == [[1, 2, 3, 4, 5, 6, 7, 0, 0], list(range(1, 10))]
    assert counts.tolist() == [9, 8, 7, 9]


def test_rows_are_padded_as_videos_are(videos):
    for halves in (False, True):
        found = videos.padded([31, 4, 20], 30, halves=halves)
        for one, other in zip(
            found, cache.pad_videos([videos.frames(k) for k in (31, 4, 20)], 30, halves=halves), strict=True
        ):
            assert one.dtype == other.dtype and (one == other).all()


def test_files_of_one_name_in_two_folders_stay_apart(folder, tmp_path):
    for name, source in (("bal_train/00", "train0000"), ("eval/00", "train0001")):
        row = cache.convert_shard(folder / "frame" / f"{source}.tfrecord", tmp_path, shard=name, **SMALL)
        assert row["shard"] == name
    both = cache.Videos(tmp_path, ["bal_train/00", "eval/00"])
    expected = [
        video for name in ("train0000", "train0001") for video in read(folder / "frame" / f"{name}.tfrecord")[0]
    ]
    assert list(both.ids) == [video["id"] for video in expected]
    assert all((both.frames(row)[:, :64] == video["rgb"]).all() for row, video in enumerate(expected))


def test_thousands_of_shards_need_no_thousands_of_open_files(tmp_path, monkeypatch):
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(cache, "OPEN_FILES", 5)
    names = [f"train{number:04d}" for number in range(60)]
    for number, name in enumerate(names):
        write_one(tmp_path / f"{name}.tfrecord", rgb=number + 1, audio=number + 1)
        cache.convert_shard(tmp_path / f"{name}.tfrecord", tmp_path / "cache", **SMALL)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (max(int(file.name) for file in Path("/dev/fd").iterdir()) + 15, limits[1])
        )
        many = cache.Videos(tmp_path / "cache", names)
        assert [len(many.frames(row)) for row in range(60)] == list(range(1, 61))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_batches_depend_on_seed_and_step_alone_and_visit_every_video_once(videos):
    batches = cache.Batches(videos, batch_size=10, length=40, seed=1)
    assert batches.steps_per_epoch == 5
    first = [batches.batch(step) for step in range(5)]
    again = next(training.prefetch(cache.Batches(videos, batch_size=10, length=40, seed=1).batch, 3))
    assert (again[0]["frames"] == first[3][0]["frames"]).all() and (again[1] == first[3][1]).all()
    assert first[0][0]["frames"].shape == (20, 20, 80) and first[0][1].shape == (20, 24)
    assert (first[0][1][::2] == first[0][1][1::2]).all()
    counts = sorted(n for inputs, _ in first for n in inputs["num_frames"].reshape(-1, 2).sum(axis=1))
    assert counts == sorted(videos.num_frames)
    assert (batches.batch(5)[0]["frames"] != first[0][0]["frames"]).any()
    whole = cache.Batches(videos, batch_size=3, length=40, halves=False).batch(2)[0]
    assert whole["frames"].shape == (3, 40, 80) and whole["num_frames"].shape == (3,)
    with pytest.raises(ValueError, match="allowed: 1 to 50"):
        cache.Batches(videos, batch_size=51)


# --- vocabularies ---


def test_vocabulary_is_put_in_the_order_of_labels(tmp_path):
    text = 'Index,KnowledgeGraphId,Name\n1,/m/b,"Bread, rye\n(two lines)"\n0,/m/a,NA\n2,/m/c,\n'
    with gzip.open(tmp_path / "vocabulary.csv.gz", "wt") as file:
        file.write(text)
    table = data.read_vocabulary(tmp_path / "vocabulary.csv.gz", classes=3)
    assert table["name"].tolist() == ["NA", "Bread, rye\n(two lines)", "/m/c"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "received columns a, b"),
        ("index,mid,display_name\n0,/m/a,A\n0,/m/b,B\n", "each label from 0 to 1 once"),
        ("index,mid,display_name\n0,/m/a,A\n", "received 1 rows up to label 0"),
    ],
)
def test_what_is_no_vocabulary_is_refused(tmp_path, text, words):
    (tmp_path / "v.csv").write_text(text)
    with pytest.raises(ValueError, match=words):
        data.read_vocabulary(tmp_path / "v.csv", classes=2)


# --- genuine files ---


@pytest.mark.skipif(not (SHARED / "youtube8m").is_dir(), reason="no genuine files beside the repository")
def test_the_genuine_vocabularies():
    table = data.read_vocabulary(SHARED / "youtube8m" / "vocabulary.csv.gz", classes=3862)
    assert table.loc[[0, 1], "name"].tolist() == ["Game", "Video game"]
    assert (table["name"] != "").all() and (table["Name"] == "").sum() == 56
    assert data.read_vocabulary(SHARED / "audioset" / "class_labels_indices.csv", classes=527)["name"][0] == "Speech"


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


def test_records_begin_with_length_and_checksum_as_documented(tmp_path):
    records.write_records(tmp_path / "a.tfrecord", [b"abc"])
    content = (tmp_path / "a.tfrecord").read_bytes()
    assert struct.unpack("<Q", content[:8]) == (3,) and content[12:15] == b"abc" and len(content) == 19
    assert (
        int(records.checksums(np.frombuffer(content[:8], np.uint8)[None])[0]) == struct.unpack("<I", content[8:12])[0]
    )
