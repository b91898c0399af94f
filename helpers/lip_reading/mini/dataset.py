"""Draws a small lip-reading dataset as real videos, `<speaker>/<word>/<clip>.mp4`, from a seed, in seconds; see `scenes`."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import video
from helpers.drawing import files
from helpers.lip_reading.faces import POINTS
from helpers.lip_reading.mini.scenes import BROKEN, WORDS, clip_path, parse_path, plan_clip
from helpers.workspace import disk


def make_dataset(
    folder: str | Path, *, speakers: int = 24, repeats: int = 2, seed: int = 0, jobs: int | None = -1
) -> pd.DataFrame:
    """Write `<speaker>/<word>/<clip>.mp4` for all words, those of `BROKEN`, and `points.csv` (see `read_points`).

    The same arguments give the same files, whatever the number of processes. A clip whose file stands already is left as it
    is; so another seed belongs in another folder.

    Args:
        speakers: how many, at least 2, called s01, s02, ...; each says each word `repeats` times.
        jobs: processes, see `helpers.parallel`.

    Returns:
        One row a clip, in order: path (relative to the folder, with slashes), label, speaker, frames (that decode), fps,
        broken ("" or the reason).

    Raises:
        ValueError: fewer than 2 speakers or 1 repeat.
        RuntimeError: clips that could not be written, with the first reason.
        OSError: the disk is full or read-only.
    """
    if speakers < 2 or repeats < 1:
        raise ValueError(f"speakers must be 2 or more, repeats 1 or more. Received: {speakers=}, {repeats=}")
    names = [f"s{number:02d}" for number in range(1, speakers + 1)]
    paths = [clip_path(name, word, take) for name in names for word in WORDS for take in range(1, repeats + 1)]
    write = partial(_write_clip, folder=Path(folder), seed=seed)
    items = sorted([*paths, *BROKEN])
    table = files.draw_all(write, items, what="clips", label="drawing clips", jobs=jobs)
    files.write_points(folder, table, POINTS, key="path")
    return table[["path", "label", "speaker", "frames", "fps", "broken"]]


def _write_clip(path: str, folder: Path, seed: int) -> dict:
    clip, (name, word, take) = plan_clip(path, seed=seed), parse_path(path)
    write = _write_half if take == "cut" else video.write_video
    if not (folder / path).exists():  # a file under its own name is whole: it is renamed when done
        write(folder / path, clip.frames(), clip.fps)
    points = clip.points[: 0 if take == "cut" else None]
    row = {"path": path, "label": word, "speaker": name, "frames": len(points), "fps": clip.fps}
    return {**row, "broken": BROKEN.get(path, ""), "points": points}


def _write_half(path: Path, frames: Iterator[np.ndarray], fps: int) -> None:
    """Half a file, like a broken download: an MP4 has its index at the end, so nothing of it decodes."""
    with tempfile.TemporaryDirectory() as folder:
        video.write_video(Path(folder) / path.name, frames, fps)
        content = (Path(folder) / path.name).read_bytes()
    disk.write(path, content[: len(content) // 2])


def read_points(folder: str | Path) -> dict[str, np.ndarray]:
    """The true face points of every clip from `points.csv`, by path: (T, 5, 2) float32, x, y in pixels, in the order of `POINTS`.

    A frame in which a point is out of the picture is NaN throughout; the file that is cut has no frames, and so no entry.
    FileNotFoundError: the folder was not made by `make_dataset`.
    """
    return files.read_points(folder, POINTS)
