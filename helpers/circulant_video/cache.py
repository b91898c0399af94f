"""Videos as plain arrays on disk: made once from TFRecord files, then read at random without parsing, on any backend."""

import json
import os
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from helpers.circulant_video import data
from helpers.workspace import disk

OPEN_FILES = 100  # of frames, kept open at a time; a side has up to 7068 shards, and systems allow 256 or 1024


def convert_shard(
    path: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    shard: str | None = None,
    feature_names: tuple[str, ...] = ("rgb", "audio"),
    feature_sizes: tuple[int, ...] = (1024, 128),
    classes: int = 3862,
    max_frames: int = 300,
) -> dict:
    """Turn one frame-level TFRecord file into `<shard>.frames`, `.npz` and `.json`; a file that is done is not read again.

    `<shard>.frames` holds the uint8 frames of all videos one after another, features side by side, and needs as many bytes as
    the TFRecord file. The JSON file is written last.

    Args:
        path: TFRecord file.
        folder: where the three files go.
        shard: their name, which may have folders, such as "bal_train/00"; default the stem of `path`.
        feature_names, feature_sizes, classes, max_frames: see `data.read_frame_level`.

    Returns:
        shard, videos, frames, bytes, problems (rows of file, record, reason: the records that were skipped).

    Raises:
        ValueError: no record of the file can be used; says what is wrong with the first.
    """
    layout = {
        "feature_names": list(feature_names), "feature_sizes": list(feature_sizes),
        "classes": classes, "max_frames": max_frames,
    }  # fmt: skip
    shard = Path(path).stem if shard is None else shard
    target = Path(folder) / shard
    done = target.with_name(target.name + ".json")
    if done.is_file() and (found := json.loads(done.read_text(encoding="utf-8")))["layout"] == layout:
        return found["shard"]
    done.unlink(missing_ok=True)
    problems: list[dict] = []
    videos = data.read_frame_level(path, **layout, problems=problems)
    ids, labels, counts = _write_frames(target, videos, feature_names)
    if not ids:
        reason = problems[0]["reason"] if problems else "it has none"
        raise ValueError(f"{Path(path).name}: none of its {len(problems)} records can be used: {reason}")
    _write_index(target, ids, labels, counts)
    row = {"shard": shard, "videos": len(ids), "frames": int(sum(counts))}
    row |= {"bytes": row["frames"] * sum(feature_sizes), "problems": problems}
    disk.write_json(done, {"layout": layout, "shard": row})
    return row


def convert_row(row: dict, root: Path, folder: Path, layout: dict) -> dict:
    """`convert_shard` for one row of the table of shards, for `video.parallel`: a worker needs this module, not Keras."""
    return row | convert_shard(root / row["path"], folder / "frames", shard=str(row["shard"]), **layout)


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


def _write_index(target: Path, ids: list[str], labels: list[np.ndarray], counts: list[int]) -> None:
    with disk.atomic_write(target.with_name(target.name + ".npz")) as file:
        np.savez(
            file,
            ids=np.array(ids),
            counts=np.array(counts, np.int32),
            labels=np.concatenate(labels).astype(np.int32),
            labels_per_video=np.array([len(row) for row in labels], np.int32),
        )


def pad_videos(videos: Sequence[np.ndarray], length: int, *, halves: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Whole videos, cropped to `length` frames or filled up with zeros, as the networks take them.

    Args:
        videos: B arrays (T, width) of one type.
        length: frames.
        halves: cut each video in two, the first half with the odd frame: 2 B examples of half the length, the two of
            a video side by side. The second half of a video of one frame is empty.

    Returns:
        (B, length, width) of the videos' type and the numbers of genuine frames, (B,) int32.
    """
    parts, size = (2, -(-length // 2)) if halves else (1, length)
    frames = np.zeros((len(videos) * parts, size, videos[0].shape[1]), videos[0].dtype)
    counts = np.zeros(len(frames), np.int32)
    pieces = (piece for video in videos for piece in np.array_split(video[:length], parts))
    for place, piece in enumerate(pieces):
        frames[place, : len(piece)] = piece
        counts[place] = len(piece)
    return frames, counts


class Videos:
    """The videos of some converted files, as one table without a word of TensorFlow; frames stay on disk until asked for.

    Args:
        folder: of `convert_shard`.
        shards: names of the converted files, in this order, such as ["train0000", "train0001"].

    Attributes:
        ids: (N,) str.
        num_frames: (N,) int32.
        classes: number of labels.
        width: bytes of a frame, all features.

    Raises:
        FileNotFoundError: a file was not converted.
        ValueError: the files were converted with different settings, or there is none.
    """

    def __init__(self, folder: str | os.PathLike, shards: Sequence[str]) -> None:
        missing = [name for name in shards if not (Path(folder) / f"{name}.json").is_file()]
        if missing:
            raise FileNotFoundError(
                f"not converted yet: {', '.join(missing)}; run convert_shard for each of them first"
            )
        notes = [json.loads((Path(folder) / f"{name}.json").read_text(encoding="utf-8")) for name in shards]
        if not notes or any(note["layout"] != notes[0]["layout"] for note in notes):
            raise ValueError(
                f"shards: received {list(shards)!r}; expected one or more, converted with the same settings"
            )
        layout = notes[0]["layout"]
        self.classes, self.width = layout["classes"], sum(layout["feature_sizes"])
        index = [dict(np.load(Path(folder) / f"{name}.npz")) for name in shards]
        self.ids, self.num_frames, self._labels, per_video = (
            np.concatenate([part[key] for part in index]) for key in ("ids", "counts", "labels", "labels_per_video")
        )
        self._label_ends = np.cumsum(per_video)
        self._label_starts = self._label_ends - per_video
        paths = [Path(folder) / f"{name}.frames" for name in shards]
        self._map = lru_cache(OPEN_FILES)(lambda shard: np.memmap(paths[shard], np.uint8, "r").reshape(-1, self.width))
        self._shard = np.repeat(np.arange(len(index)), [len(part["ids"]) for part in index])
        self._starts = np.concatenate([np.cumsum(part["counts"], dtype=np.int64) - part["counts"] for part in index])

    def __len__(self) -> int:
        return len(self.ids)

    def frames(self, row: int) -> np.ndarray:
        """All frames of one video, (T, width) uint8, not copied."""
        start = self._starts[row]
        return self._map(self._shard[row])[start : start + self.num_frames[row]]

    def labels(self, rows: Sequence[int]) -> np.ndarray:
        """(B, classes) float32 of 0 and 1."""
        labels = np.zeros((len(rows), self.classes), np.float32)
        for place, row in enumerate(rows):
            labels[place, self._labels[self._label_starts[row] : self._label_ends[row]]] = 1
        return labels

    def gather(self, rows: Sequence[int], picks: np.ndarray) -> np.ndarray:
        """Chosen frames of several videos; nothing else is read from disk.

        Args:
            rows: B videos.
            picks: (B, K) frame numbers, each below its video's `num_frames`.

        Returns:
            (B, K, width) uint8.
        """
        return np.stack([self.frames(row)[pick] for row, pick in zip(rows, picks, strict=True)])

    def padded(self, rows: Sequence[int], length: int, *, halves: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """`pad_videos` for B rows of the table."""
        return pad_videos([self.frames(row) for row in rows], length, halves=halves)


class Batches:
    """Training batches that depend on (seed, step) alone; every epoch another order, its last partial batch left out.

    Args:
        videos: to draw from.
        batch_size: videos in a batch; with `halves` it holds twice as many examples.
        length: frames to which a video is cropped or filled up.
        halves: the original's augmentation, see `pad_videos`.
        seed: of the order.

    Attributes:
        steps_per_epoch: whole batches.

    Raises:
        ValueError: a batch is larger than the data.
    """

    def __init__(
        self, videos: Videos, *, batch_size: int, length: int = 300, halves: bool = True, seed: int = 0
    ) -> None:
        if not 1 <= batch_size <= len(videos):
            raise ValueError(f"batch_size: received {batch_size}; allowed: 1 to {len(videos)}, the number of videos")
        self.videos, self.batch_size, self.length, self.halves = videos, batch_size, length, halves
        self.steps_per_epoch = len(videos) // batch_size
        self._order = lru_cache(2)(lambda epoch: np.random.default_rng([seed, epoch]).permutation(len(videos)))

    def batch(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The batch of a step, from 0: {"frames", "num_frames"} and labels."""
        epoch, place = divmod(step, self.steps_per_epoch)
        rows = self._order(epoch)[place * self.batch_size :][: self.batch_size]
        frames, counts = self.videos.padded(rows, self.length, halves=self.halves)
        labels = self.videos.labels(rows)
        return {"frames": frames, "num_frames": counts}, np.repeat(labels, 2, axis=0) if self.halves else labels
