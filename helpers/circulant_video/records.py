"""TFRecord files, read record by record past any damage, and the two messages that YouTube-8M keeps in them.

A record is: length (8 bytes), its checksum (4), payload, the payload's checksum (4), all little endian. TensorFlow's own
reader ends at the first wrong checksum and leaves the rest of the file unread; this one names what is wrong and goes on.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from helpers.workspace import disk

CASTAGNOLI = np.uint32(0x82F63B78)  # CRC-32C, bits reversed
START = np.uint32(0x641F6454)  # these 4 bytes in front of a message stand for the register's initial value, all ones
HEADER, FOOTER = 12, 4  # bytes around a payload
SEARCH = 1 << 18  # bytes searched for a header at a time
MESSAGES = {  # TensorFlow's example.proto and feature.proto: message -> its fields, numbered from 1
    "BytesList": {"value": "repeated bytes"},
    "FloatList": {"value": "repeated float"},
    "Int64List": {"value": "repeated int64"},
    "Feature": {"bytes_list": "oneof BytesList", "float_list": "oneof FloatList", "int64_list": "oneof Int64List"},
    "Features": {"feature": "map Feature"},
    "FeatureList": {"feature": "repeated Feature"},
    "FeatureLists": {"feature_list": "map FeatureList"},
    "Example": {"features": "optional Features"},
    "SequenceExample": {"context": "optional Features", "feature_lists": "optional FeatureLists"},
}


@cache
def _shift(level: int) -> np.ndarray:
    """What 2**level words of zeros do to the register, as a table per byte of it: (4, 256) uint32."""
    if level:
        half = _shift(level - 1)
        return np.stack([_advance(half, row) for row in half])
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ CASTAGNOLI, table >> 1)
    word = np.arange(256, dtype=np.uint32) << np.array([[0], [8], [16], [24]], np.uint32)
    for _ in range(4):
        word = table[word & 255] ^ word >> 8
    return word


def _advance(shift: np.ndarray, words: np.ndarray) -> np.ndarray:
    parts = np.ascontiguousarray(words).view(np.uint8).reshape(-1, 4)
    moved = shift[0].take(parts[:, 0])
    for place in (1, 2, 3):
        moved ^= shift[place].take(parts[:, place])
    return moved.reshape(words.shape)


def checksums(rows: np.ndarray) -> np.ndarray:
    """CRC-32C, masked as in TFRecord files, of each row: (N, length) uint8 -> (N,) uint32.

    The checksum is linear over bits, so a message is folded: its first half, moved to the place of the second, is added
    to it, until one word is left. NumPy does that with half a gigabyte a second.
    """
    count, length = rows.shape
    level = ((length + 7) // 4 - 1).bit_length()
    padded = np.zeros((count, 4 << level), np.uint8)  # leading zeros do not count
    words = padded.view("<u4")
    padded[:, padded.shape[1] - length :] = rows
    padded[:, padded.shape[1] - length - 4 : padded.shape[1] - length] = START[None].view(np.uint8)
    while level:
        level -= 1
        words = _advance(_shift(level), words[:, : 1 << level]) ^ words[:, 1 << level :]
    crc = ~_advance(_shift(0), words[:, 0])
    return (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)


def note(problems: list[dict], path: str | os.PathLike, record: int, reason: str) -> None:
    """Add a row to a table of problems: file (its name), record (from 0), reason."""
    problems.append({"file": Path(path).name, "record": record, "reason": reason})


def read_records(
    path: str | os.PathLike, problems: list[dict], *, check: bool = True
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, payload) of each sound record; what is damaged becomes a row of `problems`.

    A wrong payload costs that record. A wrong length costs what lies before the next record that can be found: the
    indices after it count found records only.

    Args:
        path: TFRecord file, not compressed.
        problems: rows `file`, `record`, `reason` are added to it.
        check: compare the payloads' checksums; without, it is about ten times faster, and lengths are still checked.

    Yields:
        Index from 0, and the payload as uint8; `.tobytes()` copies it.
    """
    size = Path(path).stat().st_size
    if not size:
        note(problems, path, 0, "the file is empty")
        return
    data = np.memmap(path, np.uint8, "r")
    start = index = 0
    while start < size:
        end = _record_end(data, start)
        if end is None:
            following = _find_record(data, start + 1)
            reason = "the length's checksum is wrong" if size - start >= HEADER else "cut off inside the header"
            note(problems, path, index, f"{reason}: {following - start} of the file's {size} bytes skipped")
            end = following
        elif end > size:
            note(problems, path, index, f"cut off: {size - start} of {end - start} bytes are there")
        elif check and not _is_sound(data, start, end):
            note(problems, path, index, "the payload's checksum is wrong")
        else:
            yield index, data[start + HEADER : end - FOOTER]
        start, index = end, index + 1


def _record_end(data: np.ndarray, start: int) -> int | None:
    """Where the record at `start` ends, or None where no header is."""
    header = data[start : start + HEADER]
    if len(header) < HEADER or checksums(header[None, :8])[0] != header[8:].view("<u4")[0]:
        return None
    return start + HEADER + int(header[:8].view("<u8")[0]) + FOOTER


def _is_sound(data: np.ndarray, start: int, end: int) -> bool:
    payload, footer = data[start + HEADER : end - FOOTER], data[end - FOOTER : end]
    return checksums(payload[None])[0] == np.asarray(footer).view("<u4")[0]


def _find_record(data: np.ndarray, start: int) -> int:
    """Where the next record begins that is sound, payload included; the file's size where there is none."""
    for place in range(start, len(data) - HEADER + 1, SEARCH):
        windows = np.lib.stride_tricks.sliding_window_view(data[place : place + SEARCH + HEADER - 1], HEADER)
        stored = np.ascontiguousarray(windows[:, 8:]).view("<u4")[:, 0]
        for candidate in place + np.flatnonzero(checksums(windows[:, :8]) == stored):
            end = _record_end(data, candidate)
            if end <= len(data) and _is_sound(data, candidate, end):
                return int(candidate)
    return len(data)


@cache
def messages() -> SimpleNamespace:
    """The message classes of `MESSAGES` by name, which read and write what `tf.train` does.

    Made by protobuf alone, in a pool of their own: a worker that converts records need not import TensorFlow for seconds.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for name, fields in MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: pool.FindMessageTypeByName(f"{file.package}.{name}") for name in MESSAGES}
    return SimpleNamespace(**{name: message_factory.GetMessageClass(found[name]) for name in MESSAGES})


def _describe(message, fields: Mapping[str, str]) -> None:
    """Add fields to the description of a message; a map is a repeated message of its own with key and value."""
    for number, (name, text) in enumerate(fields.items(), 1):
        kind, target = text.split()
        if kind == "map":
            entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry", options={"map_entry": True})
            _describe(entry, {"key": "optional string", "value": f"optional {target}"})
            target = f"{message.name}.{entry.name}"
        field = message.field.add(name=name, number=number)
        field.label = field.LABEL_REPEATED if kind in ("map", "repeated") else field.LABEL_OPTIONAL
        field.type = getattr(field, f"TYPE_{target.upper()}", field.TYPE_MESSAGE)
        if field.type == field.TYPE_MESSAGE:
            field.type_name = f".tensorflow.{target}"
        if kind == "oneof":
            field.oneof_index = 0
            if not message.oneof_decl:
                message.oneof_decl.add(name="kind")


def write_records(path: str | os.PathLike, payloads: Iterable[bytes]) -> int:
    """Write a TFRecord file, all or nothing, and return how many records it has."""
    import tensorflow as tf

    count = 0
    with disk.atomic_path(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
        for payload in payloads:
            writer.write(payload)
            count += 1
    return count


def _feature(values: Sequence):
    import tensorflow as tf

    if len(values) and isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if np.asarray(values).dtype.kind == "f":
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def encode_frame_level(
    name: str, labels: Sequence[int] | None, features: Mapping[str, np.ndarray], *, id_key: str = "id", **context
) -> bytes:
    """One video as the `tf.train.SequenceExample` of YouTube-8M.

    Args:
        name: the video's id.
        labels: class indices; None leaves the key out, as the official test set does.
        features: name -> (T, size) uint8, such as rgb and audio.
        id_key: "id", or "video_id" as in 2017 and AudioSet.
        **context: more keys, such as segment_labels, with a sequence of int, float or bytes each.
    """
    import tensorflow as tf

    context = {id_key: [name.encode()]} | ({} if labels is None else {"labels": list(labels)}) | context
    lists = {
        key: tf.train.FeatureList(feature=[_feature([row.tobytes()]) for row in np.asarray(frames, np.uint8)])
        for key, frames in features.items()
    }
    example = tf.train.SequenceExample(
        context=tf.train.Features(feature={key: _feature(values) for key, values in context.items()}),
        feature_lists=tf.train.FeatureLists(feature_list=lists),
    )
    return example.SerializeToString(deterministic=True)


def encode_video_level(
    name: str, labels: Sequence[int] | None, means: Mapping[str, np.ndarray], *, id_key: str = "id"
) -> bytes:
    """One video as the `tf.train.Example` of YouTube-8M: `mean_<feature>` -> (size,) float for each of `means`."""
    import tensorflow as tf

    values = {id_key: [name.encode()]} | ({} if labels is None else {"labels": list(labels)})
    values |= {f"mean_{key}": np.asarray(mean, np.float32) for key, mean in means.items()}
    features = tf.train.Features(feature={key: _feature(value) for key, value in values.items()})
    return tf.train.Example(features=features).SerializeToString(deterministic=True)
