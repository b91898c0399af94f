"""A folder of clips of any form, size and length into the one form that a training reads: folders of pictures, or videos."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers import parallel, video
from helpers.face_animation import data
from helpers.workspace import disk

Cut = Callable[[np.ndarray], np.ndarray]


def write_folder(path: str | os.PathLike, frames: Iterable[np.ndarray]) -> None:
    """Write frames as `<path>/0000000.png`, ...; the folder appears whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as temporary:
        half = Path(temporary) / "frames"
        half.mkdir()
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(half / f"{number:07d}.png", compress_level=1)
        disk.replace(half, path)


def _resized(frames: Iterable[np.ndarray], path: Path, size: tuple[int, int], cut: Cut | None) -> Iterator[np.ndarray]:
    count = 0
    for frame in frames:
        count += 1
        try:
            frame = cut(frame) if cut else frame
        except ValueError as error:
            raise ValueError(f"{path.name}: {error}") from error
        yield data.resize(frame, size)
    if count < 2:
        raise ValueError(f"{path.name}: {count} frame; expected a clip of 2 or more")


def prepare_clip(
    path: str, *, root: str, folder: str, size: tuple[int, int], form: str, cut: Cut | None = None
) -> dict:
    """Write one clip to the same place below `folder`, called `....mp4` in either form; one that stands is left as it is.

    FileNotFoundError, ValueError: it is no clip, does not decode, has a single frame, or `cut` refuses its frames.
    """
    source, target = Path(root) / path, Path(folder) / target_of(path)
    if not target.exists():
        if form == "png":
            write_folder(target, _resized(data.stream(source), source, size, cut))
        else:
            timing = data.read_timing(source)
            frames = _resized(data.stream_steadily(source, timing), source, size, cut)
            video.write_video(target, frames, timing.fps)
    return {"frames": data.count_frames(target)}


def target_of(path: str) -> str:
    """Where a clip goes: the same folder, the same name with the suffix .mp4."""
    return Path(path).with_suffix(".mp4").as_posix()


def prepare_all(
    clips: pd.DataFrame, root: str | os.PathLike, folder: str | os.PathLike, *, size: tuple[int, int], form: str,
    cut: Cut | None = None, jobs: int | None = -1,
) -> pd.DataFrame:  # fmt: skip
    """Prepare every clip of a table, in parallel; what fails is told and stops nothing.

    Args:
        clips: rows of `data.find_clips`, below `root`.
        size: (height, width) in pixels, aspect ratio not kept, as in the original.
        cut: from a frame to the part of it that is kept, before it is resized; None: all of it.

    Returns:
        The table with path, form and frames of the prepared clips, and error, "" or the reason why there is none.

    Raises:
        OSError: the disk is full or read-only.
    """
    targets = clips["path"].map(target_of)
    double = targets.duplicated()
    work = partial(prepare_clip, root=str(root), folder=str(folder), size=tuple(size), form=form, cut=cut)
    paths = clips.loc[~double, "path"].tolist()
    done = parallel.parallel(work, paths, what="clips", jobs=jobs, label="preparing clips")
    done = done.reindex(columns=["frames", "error"]).set_axis(clips.index[~double])
    done = done.reindex(clips.index).fillna(
        {"frames": 0, "error": "another clip has this name with another suffix: rename one"}
    )
    return with_results(clips, targets, form, done)


def with_results(clips: pd.DataFrame, paths: pd.Series, form: str, done: pd.DataFrame) -> pd.DataFrame:
    """The table of some clips after they were prepared: with `paths`, `form`, and the frames and error of `done`."""
    form = {"png": "folder", "mp4": "video"}[form]
    return clips.assign(path=paths, form=form, frames=done["frames"].astype(int), error=done["error"])
