"""Pairs of frames cut out of clips: the window that finds them, the frames written, a table of all clips' pairs.

What training makes of them stands in `batches`: the other frame of a negative pair, and differences. `step`, `gap` and
`negative_every` are fields of `config`.
"""

import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
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


def cut_pairs(clip: Path, out_dir: Path, step: int, negative_every: int, gap: int, size: int, quality: int) -> dict:
    """Write the frames of one clip's pairs.

    Returns:
        `decoded_frames`, `header_frames` (what the header claims), `pairs`, and `note`: "" or what is odd about the clip's times.
    """

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
    found = {"decoded_frames": decoded, "header_frames": header["frames"], "pairs": k}
    return found | {"note": video.Timing.of(header).note}


def list_pairs(clips: pd.DataFrame, folders: str | pd.Series, *, step: int, negative_every: int) -> pd.DataFrame:
    """The table of all pairs, one row a query: `PAIR_COLUMNS`, of which `split` is empty.

    Args:
        clips: one row a clip, with what `cut_pairs` found.
        folders: where their frames are, with a slash at the end.
    """
    rows = clips.assign(split="", folder=folders)
    rows = rows.loc[rows.index.repeat(rows["pairs"])].assign(k=lambda table: table.groupby(level=0).cumcount())
    number = rows["k"].astype(str).str.zfill(5)
    rows = rows.assign(
        frame_index=rows["k"] * step,
        path_query=rows["folder"] + "query_frame_" + number + ".jpg",
        path_next=(rows["folder"] + "next_frame_" + number + ".jpg").where(rows["k"] % negative_every > 0, ""),
    )
    return rows[PAIR_COLUMNS].reset_index(drop=True)


def _write_frame(path: Path, frame: np.ndarray, quality: int) -> None:
    path.write_bytes(encode_picture(frame, ".jpg", quality))


def preprocess_clip(row: dict, root: Path, folder: Path, options: dict) -> dict:
    """Cut one clip of the table of clips into `folder/frames/<Class>/<clip>/`; a clip that is done is not touched again.

    Returns:
        The row with what `cut_pairs` found, which also stands beside the clip's folder as JSON.
    """
    out_dir = Path(folder) / frames_name(row["video"])
    done = out_dir.with_name(out_dir.name + ".counts.json")  # unfinished work of older code has other files
    if not out_dir.is_dir():
        done.unlink(missing_ok=True)
    with disk.explain_disk_errors(out_dir):
        found = disk.remember(done, partial(cut_pairs, **options), Path(root) / row["video"], out_dir)
    if not found["pairs"]:
        raise ValueError(f"{row['video']}: too short for a pair of frames")
    return row | found


def frames_name(name: str) -> str:
    """Where a clip's frames go, below the step's folder; holiday.avi and holiday.mp4 of one class stay apart."""
    return "frames/" + name.removesuffix(".avi")
