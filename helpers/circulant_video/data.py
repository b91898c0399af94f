"""YouTube-8M and AudioSet on disk: videos out of TFRecord files, the quantisation of their features, the vocabulary."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.circulant_video import records

Files = str | os.PathLike | Iterable[str | os.PathLike]
IDS = ("id", "video_id")  # of 2018 and 2019; of 2017 and AudioSet
SEGMENTS = {
    "segment_labels": np.int64,
    "segment_start_times": np.int64,
    "segment_end_times": np.int64,
    "segment_scores": np.float32,
}


class BadRecord(ValueError):
    """A record that holds no usable video; the message says why."""


def dequantize(codes: np.ndarray) -> np.ndarray:
    """Codes 0..255 as float32 of the same shape: code * 4 / 255 + 4 / 512 - 2, so from -1.992 to 2.008."""
    return (np.asarray(codes, np.float64) * (4 / 255) + (4 / 512 - 2)).astype(np.float32)


def quantize(values: np.ndarray) -> np.ndarray:
    """Numbers as uint8 codes, as the official feature extractor does: clipped to [-2, 2], rounded.

    The inverse of `dequantize` on all 256 codes. Silence is code 127 or 128, not 0.
    """
    return np.round((np.clip(np.asarray(values, np.float64), -2, 2) + 2) * (255 / 4)).astype(np.uint8)


def list_files(files: Files) -> list[Path]:
    """One path, several, or a folder's `*.tfrecord` in order of name, as a list.

    Raises:
        FileNotFoundError: a file is missing, or the folder has none.
    """
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(path) for path in files]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(paths[0].glob("*.tfrecord"))
    missing = [path.name for path in paths if not path.is_file()]
    if missing or not paths:
        raise FileNotFoundError(f"files: received {missing or files!r}, which are not there; expected .tfrecord files")
    return paths


def read_frame_level(
    files: Files,
    *,
    feature_names: tuple[str, ...] = ("rgb", "audio"),
    feature_sizes: tuple[int, ...] = (1024, 128),
    classes: int = 3862,
    max_frames: int = 300,
    choose: Callable[[int], np.ndarray] | None = None,
    check: bool = True,
    problems: list[dict] | None = None,
) -> Iterator[dict[str, Any]]:
    """Read videos from frame-level TFRecord files, one after another.

    A record that cannot be used (cut off, a wrong checksum or feature width, a label out of range, no frame, lists of
    different length) is skipped and named.

    Args:
        files: see `list_files`.
        feature_names: lists to read; AudioSet has ("audio_embedding",).
        feature_sizes: bytes of one frame, per name.
        classes: labels are 0 to classes - 1.
        max_frames: a longer video is cropped to so many frames.
        choose: the number of frames -> indices of those to decode; all without. Far faster than decoding all first.
        check: compare the checksums of whole records; leave out only for files that were checked before.
        problems: gets a row (dict of file, record, reason) for each record skipped. Without it a warning counts them.

    Yields:
        id (str), labels (classes,) uint8 of 0 and 1 (all 0 in the official test set, which has none), num_frames, per
        name (T, size) uint8, and segment_labels, segment_start_times, segment_end_times, segment_scores where
        the record has them.

    Raises:
        FileNotFoundError: a file is missing; raised by the call itself.
        ValueError: names and sizes do not fit together.
    """
    layout = _check_layout(feature_names, feature_sizes, classes)
    if max_frames < 1:
        raise ValueError(f"max_frames: received {max_frames}; allowed: 1 or more")
    parse = partial(_parse_frames, layout=layout, classes=classes, max_frames=max_frames, choose=choose)
    return _read(list_files(files), parse, check, problems)


def read_video_level(
    files: Files,
    *,
    feature_names: tuple[str, ...] = ("rgb", "audio"),
    feature_sizes: tuple[int, ...] = (1024, 128),
    classes: int = 3862,
    check: bool = True,
    problems: list[dict] | None = None,
) -> Iterator[dict[str, Any]]:
    """Read videos from video-level TFRecord files, which hold the mean of the dequantised frames.

    Args, errors and what is skipped: as for `read_frame_level`; a mean that is not finite is skipped too.

    Yields:
        id (str), labels (classes,) uint8, num_frames (1), and `mean_<name>` (size,) float32 per name.
    """
    layout = _check_layout(feature_names, feature_sizes, classes)
    return _read(list_files(files), partial(_parse_means, layout=layout, classes=classes), check, problems)


def _check_layout(names: tuple[str, ...], sizes: tuple[int, ...], classes: int) -> dict[str, int]:
    whole = not isinstance(names, str) and 0 < len(names) == len(sizes) == len(set(names))
    if not whole or min(sizes) < 1 or classes < 1:
        raise ValueError(
            f"feature_names={names!r}, feature_sizes={sizes!r}, classes={classes!r}: allowed: as many sizes as names, no "
            "name twice, every number positive, such as ('rgb', 'audio'), (1024, 128), 3862"
        )
    return dict(zip(names, sizes, strict=True))


def _read(
    files: list[Path], parse: Callable[[bytes], dict], check: bool, problems: list[dict] | None
) -> Iterator[dict[str, Any]]:
    found = [] if problems is None else problems
    for path in files:
        for index, payload in records.read_records(path, found, check=check):
            try:
                video = parse(payload.tobytes())
            except BadRecord as error:
                records.note(found, path, index, str(error))
            else:
                yield video
    if problems is None and found:
        first = "{file}, record {record}: {reason}".format(**found[0])
        warnings.warn(f"{len(found)} records were skipped; the first is {first}", stacklevel=2)


def _decode(message: type, payload: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return message.FromString(payload)
    except DecodeError as error:
        raise BadRecord(f"no {message.__name__}: {error}") from error


def _parse_frames(
    payload: bytes, *, layout: dict[str, int], classes: int, max_frames: int, choose: Callable | None
) -> dict[str, Any]:
    example = _decode(records.messages().SequenceExample, payload)
    lists, context = example.feature_lists.feature_list, example.context.feature
    if missing := [name for name in layout if name not in lists]:
        raise BadRecord(f"no frames of {', '.join(missing)}; it has: {', '.join(sorted([*lists, *context]))}")
    counts = {name: len(lists[name].feature) for name in layout}
    if len(set(counts.values())) > 1:
        raise BadRecord("the lists differ in length: " + ", ".join(f"{name} {n}" for name, n in counts.items()))
    num_frames = min(max_frames, *counts.values())
    if not num_frames:
        raise BadRecord("the video has no frame")
    chosen = range(num_frames) if choose is None else np.asarray(choose(num_frames)).tolist()
    frames = {name: _join_frames(name, lists[name].feature, chosen, size) for name, size in layout.items()}
    segments = {
        name: np.array(_values(context[name], "float" if dtype is np.float32 else "int64"), dtype)
        for name, dtype in SEGMENTS.items()
        if name in context
    }
    return {**_parse_context(context, classes), "num_frames": num_frames, **frames, **segments}


def _join_frames(name: str, features: Any, chosen: Iterable[int], size: int) -> np.ndarray:
    """(frames, size) uint8 of the chosen frames of one list."""
    try:
        rows = [features[index].bytes_list.value[0] for index in chosen]
    except IndexError:
        raise BadRecord(f"{name}: a frame without bytes") from None
    for index, row in zip(chosen, rows, strict=True):
        if len(row) != size:
            raise BadRecord(f"{name}: frame {index} has {len(row)} bytes, expected {size}")
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, size)


def _parse_means(payload: bytes, *, layout: dict[str, int], classes: int) -> dict[str, Any]:
    features = _decode(records.messages().Example, payload).features.feature
    means = {}
    for name, size in layout.items():
        key = f"mean_{name}"
        if key not in features:
            raise BadRecord(f"no {key}; it has: {', '.join(sorted(features)) or 'nothing'}")
        mean = means[key] = np.array(_values(features[key], "float"), np.float32)
        if mean.shape != (size,) or not np.isfinite(mean).all():
            raise BadRecord(f"{key}: {mean.size} numbers ({np.isfinite(mean).sum()} finite), expected {size}")
    return {**_parse_context(features, classes), "num_frames": 1, **means}


def _values(feature: Any, kind: str) -> Any:
    return getattr(feature, f"{kind}_list").value


def _parse_context(context: Any, classes: int) -> dict[str, Any]:
    """The id and the labels of one record."""
    key = next((key for key in IDS if key in context), None)
    name = None if key is None else next(iter(_values(context[key], "bytes")), None)
    if name is None:
        raise BadRecord(f"no {' or '.join(IDS)}; it has: {', '.join(sorted(context)) or 'nothing'}")
    indices = np.array(_values(context["labels"], "int64") if "labels" in context else [], np.int64)
    if wrong := indices[(indices < 0) | (indices >= classes)].tolist():
        raise BadRecord(f"label {wrong[0]} is out of range: 0 to {classes - 1}")
    labels = np.zeros(classes, np.uint8)
    labels[indices] = 1
    return {"id": name.decode(errors="replace"), "labels": labels}


def read_vocabulary(path: str | os.PathLike, *, classes: int | None = None) -> pd.DataFrame:
    """Read YouTube-8M's `vocabulary.csv` or AudioSet's `class_labels_indices.csv`, also gzipped.

    The rows of YouTube-8M's file are sorted by number of videos, not by label, and some entities have no name.

    Args:
        path: the file.
        classes: how many labels there must be, from 0 without a gap; not checked without.

    Returns:
        One row a label, in order, with the file's columns and `name`: the entity's name, or its id where that is empty.

    Raises:
        ValueError: no such table, a label twice, or not the labels that `classes` asks for.
    """
    table = pd.read_csv(path, keep_default_na=False)
    index, name, entity = (
        next((column for column in options if column in table), None)
        for options in (("Index", "index"), ("Name", "display_name"), ("KnowledgeGraphId", "mid"))
    )
    if index is None or name is None or entity is None:
        raise ValueError(
            f"{Path(path).name} is no vocabulary: received columns {', '.join(table)}; expected Index, Name, KnowledgeGraphId"
        )
    table = table.set_index(index).sort_index().rename_axis("label")
    table["name"] = table[name].where(table[name] != "", table[entity])
    if not table.index.is_unique or (classes is not None and table.index.tolist() != list(range(classes))):
        wanted = "each label once" if classes is None else f"each label from 0 to {classes - 1} once"
        raise ValueError(
            f"{Path(path).name}: received {len(table)} rows up to label {table.index.max()}; expected {wanted}"
        )
    return table
