"""Pairs of frames out of clips: the window that finds them, the frames cut and written, a table of all clips' pairs.

The other frame of a negative pair is drawn while training, in `batches`. `step`, `gap` and `negative_every` are fields of `config`.
"""

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import video
from helpers.pictures import encode_picture
from helpers.workspace import disk

PAIR_COLUMNS = [
    *("split", "class", "label", "group", "clip", "video", "k", "frame_index", "path_query", "path_next"),
    *("decoded_frames", "header_frames"),
]


def expected_counts(frames: int, *, step: int, negative_every: int, gap: int) -> tuple[int, int, int]:
    """Closed form of the window: (queries, negative pairs, next frames) of a clip of so many decoded frames."""
    queries = max(0, -(-(frames - gap) // step))
    negatives = -(-queries // negative_every)
    return queries, negatives, queries - negatives


def window_pairs(
    frames: Iterable[tuple[int, np.ndarray | None]], step: int, gap: int
) -> Iterator[tuple[int, np.ndarray | None, np.ndarray | None]]:
    """Slide a window over numbered frames: yields (frames so far, query, partner `gap` frames later), or Nones between.

    A frame that comes as None, because it was not asked for, stays None as a partner.
    """
    waiting = {}  # queries whose partner has not decoded yet
    for index, frame in frames:
        if index % step == 0:
            waiting[index] = frame
        query = waiting.pop(index - gap, None)
        yield index + 1, query, None if query is None else frame


def cut_pairs(
    clip: Path, out_dir: Path, step: int, negative_every: int, gap: int, size: int, quality: int
) -> tuple[tuple[int, int, int], str]:
    """Write the frames of one clip's pairs; (queries, decoded frames, frames that the header claims), note of `video.Timing`."""

    def wanted(i: int) -> bool:  # the others are decoded only
        return i % step == 0 or (i >= gap and (i - gap) % step == 0 and (i - gap) // step % negative_every != 0)

    header: dict = {}
    frames = video.scan_frames(clip, wanted, size=size, header=header)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    # A folder of its own: the worker processes of a killed run live on for a while, and may be cutting the same clip.
    with tempfile.TemporaryDirectory(
        prefix=f".{out_dir.name}-", dir=out_dir.parent, ignore_cleanup_errors=True
    ) as name:
        temporary = Path(name)
        k = decoded = 0
        for decoded, query, partner in window_pairs(frames, step, gap):  # noqa: B007
            if query is None:
                continue
            _write_frame(temporary / f"query_frame_{k:05d}.jpg", query, quality)
            if k % negative_every != 0:
                _write_frame(temporary / f"next_frame_{k:05d}.jpg", partner, quality)
            k += 1
        temporary.chmod(0o755)
        try:
            disk.replace(temporary, out_dir)
        except OSError:
            if not out_dir.is_dir():  # else another process was faster, with the same frames
                raise
    return (k, decoded, header["frames"]), video.Timing.of(header).note


def pair_columns(
    row: dict, prefix: str, queries: int, decoded: int, header: int, step: int, negative_every: int
) -> dict:
    """The columns `PAIR_COLUMNS` of one clip's table; plain lists, since a DataFrame per clip takes time."""
    ks = range(queries)
    same = {"split": ""} | row | {"decoded_frames": decoded, "header_frames": header}
    return {name: [value] * queries for name, value in same.items() if name in PAIR_COLUMNS} | {
        "k": list(ks),
        "frame_index": [k * step for k in ks],
        "path_query": [f"{prefix}query_frame_{k:05d}.jpg" for k in ks],
        "path_next": [f"{prefix}next_frame_{k:05d}.jpg" if k % negative_every else "" for k in ks],
    }


def _write_frame(path: Path, frame: np.ndarray, quality: int) -> None:
    path.write_bytes(encode_picture(frame, ".jpg", quality))


def preprocess_clip(row: dict, root: Path, folder: Path, options: dict) -> dict:
    """Cut one clip of the table of clips into `folder/frames/<Class>/<clip>/`; a clip that is done is not touched again.

    Returns:
        The row with `decoded_frames`, `header_frames`, `pairs`, and `note`: "" or what is odd about the clip's times. The clip's
        own table stands beside its folder as JSON.
    """
    name = frames_name(row["video"])
    out_dir = Path(folder) / name
    done = out_dir.with_name(out_dir.name + ".json")
    if not (done.is_file() and out_dir.is_dir()):
        with disk.explain_disk_errors(out_dir):
            counts, note = cut_pairs(Path(root) / row["video"], out_dir, **options)
        if not counts[0]:
            raise ValueError(f"{row['video']}: too short for a pair of frames")
        columns = pair_columns(row, f"{name}/", *counts, options["step"], options["negative_every"])
        disk.write_json(done, columns | {"note": note})
    pairs = json.loads(done.read_text(encoding="utf-8"))
    frames = {name: pairs[name][0] for name in ("decoded_frames", "header_frames")}
    return row | frames | {"pairs": len(pairs["k"]), "note": pairs.get("note", "")}


def frames_name(name: str) -> str:
    """Where a clip's frames go, below the step's folder; holiday.avi and holiday.mp4 of one class stay apart."""
    return "frames/" + name.removesuffix(".avi")


def collect_pairs(folder: Path, videos: list[str]) -> pd.DataFrame:
    """Join the tables that `preprocess_clip` left for these videos."""
    tables = [json.loads((folder / f"{frames_name(name)}.json").read_text(encoding="utf-8")) for name in videos]
    return pd.DataFrame({name: list(itertools.chain(*(table[name] for table in tables))) for name in PAIR_COLUMNS})
