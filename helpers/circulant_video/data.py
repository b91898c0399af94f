"""YouTube-8M and AudioSet on disk: videos out of TFRecord files, the quantisation of their features, plain arrays."""

import contextlib
import json
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from helpers.circulant_video.config import CirculantVideoConfig as Defaults
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.sources import youtube8m
from helpers.fetch import manifests
from helpers.workspace import disk

Files = str | os.PathLike | Iterable[str | os.PathLike]


def dequantize(codes: np.ndarray) -> np.ndarray:
    """Codes 0..255 as float32 of the same shape: code * 4 / 255 + 4 / 512 - 2, so from -1.992 to 2.008.

    In a network it is `layers.sampling.dequantize`.
    """
    return (np.asarray(codes, np.float64) * examples.CODE_STEP + examples.LOWEST_VALUE).astype(np.float32)


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
    files: Files, *, feature_names: tuple[str, ...] = Defaults.feature_names,
    feature_sizes: tuple[int, ...] = Defaults.feature_sizes, classes: int = Defaults.classes,
    max_frames: int = Defaults.max_frames, problems: list[dict] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Read videos from frame-level TFRecord files, one after another.

    A record that cannot be used (cut off, a wrong checksum or feature width, a label out of range, no frame, lists of
    different length) is skipped and named.

    Args:
        files: see `list_files`.
        feature_names: lists to read; AudioSet has ("audio_embedding",).
        feature_sizes: bytes of one frame, per name.
        classes: labels are 0 to classes - 1.
        max_frames: a longer video is cropped to so many frames.
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
    decode = partial(examples.decode_frame_level, layout=layout, classes=classes, max_frames=max_frames)
    return _read(list_files(files), decode, problems)


def read_video_level(
    files: Files, *, feature_names: tuple[str, ...] = Defaults.feature_names,
    feature_sizes: tuple[int, ...] = Defaults.feature_sizes, classes: int = Defaults.classes,
    problems: list[dict] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """Read videos from video-level TFRecord files, which hold the mean of the dequantised frames.

    Args, errors and what is skipped: as for `read_frame_level`; a mean that is not finite is skipped too.

    Yields:
        id (str), labels (classes,) uint8, num_frames (1), and `mean_<name>` (size,) float32 per name.
    """
    layout = _check_layout(feature_names, feature_sizes, classes)
    decode = partial(examples.decode_video_level, layout=layout, classes=classes)
    return _read(list_files(files), decode, problems)


def read_means(files: Files, *, max_frames: int, **options: Any) -> Iterator[dict[str, Any]]:
    """`read_video_level` in the form of `read_frame_level`: a video is its mean, as one frame."""
    for video in read_video_level(files, **options):
        yield video | {name: quantize(video[f"mean_{name}"])[None] for name in options["feature_names"]}


def _check_layout(names: tuple[str, ...], sizes: tuple[int, ...], classes: int) -> dict[str, int]:
    whole = not isinstance(names, str) and 0 < len(names) == len(sizes) == len(set(names))
    if not whole or min(sizes) < 1 or classes < 1:
        raise ValueError(
            f"feature_names={names!r}, feature_sizes={sizes!r}, classes={classes!r}: allowed: as many sizes as names, no "
            "name twice, every number positive, such as ('rgb', 'audio'), (1024, 128), 3862"
        )
    return dict(zip(names, sizes, strict=True))


def _read(files: list[Path], decode: Callable[[bytes], dict], problems: list[dict] | None) -> Iterator[dict[str, Any]]:
    found = [] if problems is None else problems
    for path in files:
        for index, payload in tfrecord.read_records(path, found):
            try:
                video = decode(payload)
            except examples.BadRecord as error:
                tfrecord.note(found, path, index, str(error))
            else:
                yield video
    if problems is None and found:
        first = "{file}, record {record}: {reason}".format(**found[0])
        warnings.warn(f"{len(found)} records were skipped; the first is {first}", stacklevel=2)


# --- videos as plain arrays on disk: made once, then read at random without parsing, see `batches.Videos` ---


def convert_shard(
    path: str | os.PathLike, folder: str | os.PathLike, *, shard: str | None = None, read: Callable = read_frame_level,
    feature_names: tuple[str, ...], feature_sizes: tuple[int, ...], classes: int, max_frames: int,
) -> dict:  # fmt: skip
    """Turn one TFRecord file into `<shard>.frames`, `.npz` and `.json`; a file that is done is not read again.

    `<shard>.frames` holds the uint8 frames of all videos one after another, features side by side, and needs as many bytes as
    the TFRecord file. The JSON file is written last.

    Args:
        shard: name of the three files in `folder`, which may have folders, such as "bal_train/00"; default the stem of `path`.
        read: `read_frame_level`, or `read_means` for a file of the video level.
        feature_names, feature_sizes, classes, max_frames: see `read_frame_level`.

    Returns:
        shard, videos, frames, problems (rows of file, record, reason: the records that were skipped).

    Raises:
        ValueError: no record of the file can be used; says what is wrong with the first.
    """
    layout = {
        "feature_names": list(feature_names), "feature_sizes": list(feature_sizes),
        "classes": classes, "max_frames": max_frames,
    }  # fmt: skip
    shard = Path(path).stem if shard is None else shard
    if found := is_converted(folder, shard, layout):
        return found
    target = Path(folder) / shard
    done = target.with_name(target.name + ".json")
    done.unlink(missing_ok=True)
    problems: list[dict] = []
    videos = read(path, **layout, problems=problems)
    ids, labels, counts = _write_frames(target, videos, feature_names)
    if not ids:
        reason = problems[0]["reason"] if problems else "it has none"
        raise ValueError(f"{Path(path).name}: none of its {len(problems)} records can be used: {reason}")
    numbers = {"counts": counts, "labels": np.concatenate(labels), "labels_per_video": list(map(len, labels))}
    with disk.atomic_write(target.with_name(target.name + ".npz")) as file:
        np.savez(file, ids=np.array(ids), **{name: np.array(values, np.int32) for name, values in numbers.items()})
    row = {"shard": shard, "videos": len(ids), "frames": int(sum(counts)), "problems": problems}
    disk.write_json(done, {"layout": layout, "shard": row})
    return row


def convert_row(row: dict, root: Path, folder: Path, layout: dict) -> dict:
    """`convert_shard` for one row of the table of shards, for `parallel`: a worker needs this module, not Keras.

    A file that is still at the server (`url`) is fetched, converted and removed.
    """
    path, name = root / row["path"], str(row["shard"])
    with contextlib.ExitStack() as stack:
        if row.get("url") and not path.is_file() and not is_converted(folder / "frames", name, layout):
            entry = youtube8m.make_entry(path.name, row["url"], row["md5"])
            path = manifests.fetch(entry, folder / "fetched")
            stack.callback(path.unlink)
        return row | convert_shard(path, folder / "frames", shard=name, **layout)


def is_converted(folder: str | os.PathLike, shard: str, layout: dict) -> dict | None:
    """The row that `convert_shard` left for a shard, if it did with the same settings."""
    note = Path(folder) / f"{shard}.json"
    found = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    return found["shard"] if found.get("layout") == layout else None


def _write_frames(target: Path, videos: Iterable[dict], names: Sequence[str]) -> tuple[list, list, list]:
    """Write the frames one video at a time; ids, label indices and numbers of frames."""
    ids, labels, counts = [], [], []
    with disk.atomic_write(target.with_name(target.name + ".frames")) as file:
        for video in videos:
            file.write(np.concatenate([video[name] for name in names], axis=1).tobytes())
            ids.append(video["id"])
            labels.append(np.flatnonzero(video["labels"]))
            counts.append(video["num_frames"])
    return ids, labels, counts
