"""Videos out of the plain arrays that `data.convert_shard` left: read at random without parsing, on any backend."""

import json
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import batches

OPEN_FILES = 100  # of frames, kept open at a time; a side has up to 7068 shards, and systems allow 256 or 1024


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

    def label_shares(self) -> np.ndarray:
        """(classes,) float32, which share of the videos has each label."""
        return np.bincount(self._labels, minlength=self.classes).astype(np.float32) / len(self)

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

    def padded(self, rows: Sequence[int], length: int, *, halves: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """`pad_videos` for B rows of the table."""
        return pad_videos([self.frames(row) for row in rows], length, halves=halves)


def open_side(folder: Path, shards: pd.DataFrame, side: str) -> Videos:
    """The converted videos of one side of the split: of the folder of step preprocess and the table of step split.

    Raises:
        ValueError: no shard is on that side.
    """
    names = shards.loc[shards["split"] == side, "shard"].tolist()
    if not names:
        raise ValueError(f"no shard is on the side {side}; expected train* and validate*, or bal_train/ and eval/")
    return Videos(folder / "frames", names)


def open_sides(folder: Path, shards: pd.DataFrame) -> tuple[Videos, Videos]:
    """Videos to train with and videos held out, sides "train" and "validation" of `open_side`."""
    return open_side(folder, shards, "train"), open_side(folder, shards, "validation")


class Batches(batches.Batches):
    """Training batches that depend on (seed, step) alone; every epoch another order, its last partial batch left out.

    Args:
        batch_size: videos in a batch; with `halves`, see `pad_videos`, it holds twice as many examples.
        length: frames to which a video is cropped or filled up.
    """

    def __init__(self, videos: Videos, *, batch_size: int, length: int, halves: bool, seed: int = 0) -> None:
        super().__init__(len(videos), batch_size=batch_size, seed=seed, items="videos")
        self.videos, self.length, self.halves = videos, length, halves

    def batch(self, step: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The batch of a step, from 0: {"frames", "num_frames"} and labels."""
        rows = self.rows(step)
        frames, counts = self.videos.padded(rows, self.length, halves=self.halves)
        labels = self.videos.labels(rows)
        return {"frames": frames, "num_frames": counts}, np.repeat(labels, 2, axis=0) if self.halves else labels
