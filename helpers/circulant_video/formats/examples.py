"""The two messages that YouTube-8M keeps in TFRecord files: a video frame by frame, or the means of its frames.

Frames are uint8 codes here; a code stands for `code * CODE_STEP + LOWEST_VALUE`; the way back is `data.quantize`.

Made by protobuf alone, in a pool of their own: a worker that converts records need not import TensorFlow for seconds.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

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
CODE_STEP, LOWEST_VALUE = 4 / 255, 4 / 512 - 2  # what codes 0..255 stand for, as in the official reader
IDS = ("id", "video_id")  # of 2018 and 2019; of 2017 and AudioSet
SEGMENTS = dict.fromkeys(("segment_labels", "segment_start_times", "segment_end_times"), ("int64_list", np.int64))
SEGMENTS |= {"segment_scores": ("float_list", np.float32)}


class BadRecord(ValueError):
    """A record that holds no usable video; the message says why."""


@cache
def messages() -> SimpleNamespace:
    """The message classes of `MESSAGES` by name, which read and write what `tf.train` does."""
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for name, fields in MESSAGES.items():
        _describe(file.message_type.add(name=name), fields)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: pool.FindMessageTypeByName(f"{file.package}.{name}") for name in MESSAGES}
    return SimpleNamespace(**{name: message_factory.GetMessageClass(found[name]) for name in MESSAGES})


def _describe(message: Any, fields: Mapping[str, str]) -> None:
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


# --- from videos to bytes ---


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
    example = messages().SequenceExample()
    _fill(example.context, {id_key: [name.encode()], "labels": labels} | context)
    for key, frames in features.items():
        rows = example.feature_lists.feature_list[key].feature
        rows.extend(_feature([row.tobytes()]) for row in np.asarray(frames, np.uint8))
    return example.SerializeToString(deterministic=True)


def encode_video_level(name: str, labels: Sequence[int] | None, means: Mapping[str, np.ndarray]) -> bytes:
    """One video as the `tf.train.Example` of YouTube-8M: `mean_<feature>` -> (size,) float for each of `means`."""
    example = messages().Example()
    values = {f"mean_{key}": np.asarray(mean, np.float32) for key, mean in means.items()}
    _fill(example.features, {"id": [name.encode()], "labels": labels} | values)
    return example.SerializeToString(deterministic=True)


def _fill(features: Any, values: Mapping[str, Sequence | None]) -> None:
    for key, value in values.items():
        if value is not None:
            features.feature[key].CopyFrom(_feature(value))


def _feature(values: Sequence) -> Any:
    kind = {"f": "float_list", "S": "bytes_list"}.get(np.asarray(values).dtype.kind, "int64_list")
    feature = messages().Feature()
    getattr(feature, kind).SetInParent()
    getattr(feature, kind).value.extend(values)
    return feature


# --- from bytes to videos ---


def _decode(message: type, payload: bytes) -> Any:
    try:
        return message.FromString(payload)
    except DecodeError as error:
        raise BadRecord(f"no {message.__name__}: {error}") from error


def decode_frame_level(payload: bytes, *, layout: Mapping[str, int], classes: int, max_frames: int) -> dict[str, Any]:
    """One video of `data.read_frame_level`, where the arguments are explained; `layout` is feature name -> size.

    Raises:
        BadRecord: nobody can use it.
    """
    example = _decode(messages().SequenceExample, payload)
    lists, context = example.feature_lists.feature_list, example.context.feature
    if missing := [name for name in layout if name not in lists]:
        raise BadRecord(f"no frames of {', '.join(missing)}; it has: {', '.join(sorted([*lists, *context]))}")
    counts = {name: len(lists[name].feature) for name in layout}
    if len(set(counts.values())) > 1:
        raise BadRecord("the lists differ in length: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    num_frames = min(max_frames, *counts.values())
    if not num_frames:
        raise BadRecord("the video has no frame")
    frames = {name: _join_frames(name, lists[name].feature[:num_frames], size) for name, size in layout.items()}
    segments = {
        name: np.array(getattr(context[name], kind).value, dtype)
        for name, (kind, dtype) in SEGMENTS.items()
        if name in context
    }
    return {**_decode_context(context, classes), "num_frames": num_frames, **frames, **segments}


def _join_frames(name: str, features: Any, size: int) -> np.ndarray:
    """(frames, size) uint8 of one list."""
    try:
        rows = [feature.bytes_list.value[0] for feature in features]
    except IndexError:
        raise BadRecord(f"{name}: a frame without bytes") from None
    for index, row in enumerate(rows):
        if len(row) != size:
            raise BadRecord(f"{name}: frame {index} has {len(row)} bytes, expected {size}")
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, size)


def decode_video_level(payload: bytes, *, layout: Mapping[str, int], classes: int) -> dict[str, Any]:
    """One video of `data.read_video_level`, where the arguments are explained; `layout` is feature name -> size.

    Raises:
        BadRecord: nobody can use it.
    """
    features = _decode(messages().Example, payload).features.feature
    means = {}
    for name, size in layout.items():
        key = f"mean_{name}"
        if key not in features:
            raise BadRecord(f"no {key}; it has: {', '.join(sorted(features)) or 'nothing'}")
        mean = means[key] = np.array(features[key].float_list.value, np.float32)
        if mean.shape != (size,) or not np.isfinite(mean).all():
            raise BadRecord(f"{key}: {mean.size} numbers ({np.isfinite(mean).sum()} finite), expected {size}")
    return {**_decode_context(features, classes), "num_frames": 1, **means}


def _label_list(context: Any) -> Sequence[int]:
    """The values of `labels`; none in the official test set, which has no such key.

    Raises:
        BadRecord: the labels stand under another key, or are no whole numbers.
    """
    if "labels" not in context:
        if other := sorted(key for key in context if "label" in key.lower() and key not in SEGMENTS):
            raise BadRecord(f"no labels, but {', '.join(other)}; expected the key labels, int64")
        return []
    kind = context["labels"].WhichOneof("kind")
    if kind not in ("int64_list", None):
        raise BadRecord(f"labels are {kind.removesuffix('_list')}; expected int64, numbers of classes")
    return context["labels"].int64_list.value


def _decode_context(context: Any, classes: int) -> dict[str, Any]:
    """The id and the labels of one record."""
    key = next((key for key in IDS if key in context), None)
    name = None if key is None else next(iter(context[key].bytes_list.value), None)
    if name is None:
        raise BadRecord(f"no {' or '.join(IDS)}; it has: {', '.join(sorted(context)) or 'nothing'}")
    indices = np.array(_label_list(context), np.int64)
    if wrong := indices[(indices < 0) | (indices >= classes)].tolist():
        raise BadRecord(f"label {wrong[0]} is out of range: 0 to {classes - 1}")
    labels = np.zeros(classes, np.uint8)
    labels[indices] = 1
    return {"id": name.decode(errors="replace"), "labels": labels}
