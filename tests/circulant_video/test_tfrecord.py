"""TFRecord files and their messages, held against TensorFlow's own reader, writer and parser, and against damage."""

import gzip
import struct

import numpy as np
import pytest

from helpers import runtime

runtime.quiet_start()

import tensorflow as tf

from helpers.circulant_video.formats import examples, tfrecord

SMALL = {"feature_sizes": (64, 16), "classes": 24}
SHARED = runtime.repo_root().parent / "shared" / "data"


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
    masked = tfrecord.checksum(message)
    turned = (masked - 0xA282EAD8) % 2**32
    assert (turned >> 17 | turned << 15) % 2**32 == crc


PAYLOADS = [np.random.default_rng(0).bytes(length) for length in [*range(20), 1000, 4095, 4096, 4097, 70_001]]


def test_what_tensorflow_writes_is_read_here(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for payload in PAYLOADS:
            writer.write(payload)
    problems = []
    assert list(tfrecord.read_records(tmp_path / "a.tfrecord", problems)) == list(enumerate(PAYLOADS))
    assert problems == []


def test_what_is_written_here_tensorflow_reads(tmp_path):
    assert tfrecord.write_records(tmp_path / "a.tfrecord", iter(PAYLOADS)) == len(PAYLOADS)
    assert [record.numpy() for record in tf.data.TFRecordDataset(str(tmp_path / "a.tfrecord"))] == PAYLOADS


def test_a_file_of_zeros_is_searched_in_no_time(tmp_path):
    """What a broken download has set aside; a checksum for each of its bytes would take minutes."""
    path = tmp_path / "a.tfrecord"
    tfrecord.write_records(path, [b"after" * 9])
    path.write_bytes(bytes(30_000_000) + path.read_bytes())
    counted, genuine = [0], tfrecord.checksum

    def checksum(data):
        counted[0] += 1
        return genuine(data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tfrecord, "checksum", checksum)
        problems = []
        assert [payload for _, payload in tfrecord.read_records(path, problems)] == [b"after" * 9]
    assert len(problems) == 1 and counted[0] < 100


def test_any_flipped_bit_costs_one_record_and_is_named(tmp_path):
    rng = np.random.default_rng(0)
    payloads = [rng.bytes(40) for _ in range(3)]
    path = tmp_path / "a.tfrecord"
    tfrecord.write_records(path, payloads)
    content, size = path.read_bytes(), 40 + 16
    for byte in range(size, 2 * size):  # all of the record in the middle: length, its checksum, payload, its checksum
        broken = bytearray(content)
        broken[byte] ^= 1 << byte % 8
        path.write_bytes(broken)
        problems = []
        found = [payload for _, payload in tfrecord.read_records(path, problems)]
        assert found == [payloads[0], payloads[2]], byte
        assert [(row["file"], row["record"]) for row in problems] == [("a.tfrecord", 1)], byte
        assert ("length's" if byte < size + 12 else "payload's") in problems[0]["reason"]


def test_a_file_cut_anywhere_gives_its_whole_records(tmp_path):
    path = tmp_path / "a.tfrecord"
    tfrecord.write_records(path, [b"x" * 30, b"y" * 30])
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        problems = []
        assert len(list(tfrecord.read_records(path, problems))) == size // 46
        assert len(problems) == (size in (0, *range(1, 46), *range(47, 92)))


@pytest.mark.parametrize(
    "content", [b"<!DOCTYPE html><html>please log in</html>" * 9, bytes(5), gzip.compress(bytes(99), mtime=0)]
)
def test_what_is_no_tfrecord_file_is_one_problem(tmp_path, content):
    (tmp_path / "a.tfrecord").write_bytes(content)
    problems = []
    assert (list(tfrecord.read_records(tmp_path / "a.tfrecord", problems)), len(problems)) == ([], 1)


def test_a_header_is_found_again_across_the_blocks_of_the_search(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "SEARCH", 16)
    path = tmp_path / "a.tfrecord"
    tfrecord.write_records(path, [bytes(200), b"after"])
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    assert [payload for _, payload in tfrecord.read_records(path, [])] == [b"after"]


def test_bytes_that_only_look_like_a_header_are_passed_over(tmp_path):
    path = tmp_path / "a.tfrecord"
    tfrecord.write_records(path, [bytes(50)])
    lookalike = path.read_bytes()[: tfrecord.HEADER]  # a sound header, and behind it no record of 50 bytes
    tfrecord.write_records(path, [b"begin" + lookalike + b"end" * 9, b"after" * 9])
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    problems = []
    assert [payload for _, payload in tfrecord.read_records(path, problems)] == [b"after" * 9]
    assert len(problems) == 1


def test_records_begin_with_length_and_checksum_as_documented(tmp_path):
    tfrecord.write_records(tmp_path / "a.tfrecord", [b"abc"])
    content = (tmp_path / "a.tfrecord").read_bytes()
    assert struct.unpack("<Q", content[:8]) == (3,) and content[12:15] == b"abc" and len(content) == 19
    assert tfrecord.checksum(content[:8]) == struct.unpack("<I", content[8:12])[0]


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
    ours, theirs = fill_messages(examples.messages())[place], fill_messages(tf.train)[place]
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


def test_a_compressed_file_is_named_for_what_it_is(tmp_path):
    tfrecord.write_records(tmp_path / "a.tfrecord", [b"payload"] * 3)
    (tmp_path / "b.tfrecord").write_bytes(gzip.compress((tmp_path / "a.tfrecord").read_bytes()))
    problems = []
    assert list(tfrecord.read_records(tmp_path / "b.tfrecord", problems)) == []
    assert [problem["reason"] for problem in problems] == [
        "it is a gzip file (unpack it first); expected a TFRecord file, not compressed"
    ]
