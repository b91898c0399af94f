"""Clips of any form, size and length into the one form that a training reads: a folder of pictures, or a video."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from helpers import parallel, video
from helpers.face_animation import data, voxceleb


def write_folder(path: str | os.PathLike, frames: Iterable[np.ndarray]) -> int:
    """Write frames as `<path>/0000000.png`, ...; the folder appears whole or not at all. Returns how many there are."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as temporary:
        half = Path(temporary) / "frames"
        half.mkdir()
        for frame in frames:
            Image.fromarray(frame).save(half / f"{count:07d}.png", compress_level=1)
            count += 1
        half.replace(path)
    return count


def _resized(path: Path, size: tuple[int, int]) -> Iterator[np.ndarray]:
    count = 0
    for frame in data.stream(path):
        count += 1
        yield data.resize(frame, size)
    if count < 2:
        raise ValueError(f"{path.name}: {count} frame; expected a clip of 2 or more")


def prepare_clip(path: str, *, root: str, folder: str, size: tuple[int, int], form: str) -> dict:
    """Write one clip to the same place below `folder`, called `....mp4` in either form; one that stands is left as it is.

    Raises:
        FileNotFoundError, ValueError: it is no clip, does not decode, or has a single frame.
    """
    source, target = Path(root) / path, Path(folder) / target_of(path)
    if not target.exists():
        frames = _resized(source, size)
        if form == "png":
            write_folder(target, frames)
        else:
            video.write_video(target, frames, data.frame_rate(source))
    return {"frames": data.count_frames(target)}


def target_of(path: str) -> str:
    """Where a clip goes: the same folder, the same name with the suffix .mp4."""
    return Path(path).with_suffix(".mp4").as_posix()


def prepare_all(
    clips: pd.DataFrame,
    root: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    size: tuple[int, int],
    form: str,
    jobs: int | None = -1,
) -> pd.DataFrame:
    """Prepare every clip of a table, in parallel; what fails is told and stops nothing.

    Args:
        clips: rows of `data.find_clips`.
        root: folder of their paths.
        folder: gets the prepared clips.
        size: (height, width) in pixels, aspect ratio not kept, as in the original.
        form: "png" or "mp4".
        jobs: processes.

    Returns:
        The table with path, form and frames of the prepared clips, and error, "" or the reason why there is none.

    Raises:
        OSError: the disk is full or read-only.
    """
    targets = clips["path"].map(target_of)
    double = targets.duplicated()
    work = partial(prepare_clip, root=str(root), folder=str(folder), size=tuple(size), form=form)
    done = parallel.parallel(work, clips.loc[~double, "path"].tolist(), jobs=jobs, label="preparing clips")
    parallel.stop_at_disk_errors(done, "clips")
    done = done.reindex(columns=["frames", "error"]).set_axis(clips.index[~double])
    done = done.reindex(clips.index).fillna(
        {"frames": 0, "error": "another clip has this name with another suffix: rename one"}
    )
    return _with_results(clips, targets, form, done)


def _with_results(clips: pd.DataFrame, paths: pd.Series, form: str, done: pd.DataFrame) -> pd.DataFrame:
    form = {"png": "folder", "mp4": "video"}[form]
    return clips.assign(path=paths, form=form, frames=done["frames"].astype(int), error=done["error"])


def list_voxceleb(metadata: pd.DataFrame, videos: str | os.PathLike) -> pd.DataFrame:
    """The clips of VoxCeleb's table, each once, with the user's own copies of their videos.

    Args:
        metadata: of `voxceleb.read_metadata`.
        videos: folder of the copies.

    Returns:
        As `data.find_clips`: path is that of the whole video, error says which videos are gone.
    """
    found, _ = voxceleb.find_videos(videos, metadata["video_id"].unique())
    rows = metadata.drop_duplicates("clip").sort_values(["partition", "clip"])
    paths = rows["video_id"].map({name: path.relative_to(videos).as_posix() for name, path in found.items()})
    table = rows.rename(columns={"person_id": "person", "video_id": "video"}).assign(
        path=paths.fillna(""), form="video", error=np.where(paths.isna(), "gone: no file of this video", "")
    )
    return table[data.COLUMNS].reset_index(drop=True)


def crop_voxceleb(
    clips: pd.DataFrame,
    metadata: pd.DataFrame,
    videos: str | os.PathLike,
    folder: str | os.PathLike,
    *,
    size: tuple[int, int],
    form: str,
    jobs: int | None = -1,
) -> pd.DataFrame:
    """Cut the clips of `list_voxceleb` out of the videos; arguments and result as in `prepare_all`."""
    wanted = metadata[metadata["clip"].isin(clips["clip"])].drop_duplicates("clip")
    made, gone = voxceleb.crop_all(wanted, videos, folder, size=size, form=form, jobs=jobs)
    paths = clips["partition"] + "/" + clips["clip"]
    states = dict(zip(made["clip"], made["state"], strict=True))
    broken = dict(zip(gone["video_id"], gone["error"], strict=True))
    rows = []
    for name, video_id, path in zip(clips["clip"], clips["video"], paths, strict=True):
        if states.get(name) in ("made", "there"):
            rows.append((data.count_frames(Path(folder) / path), ""))
        else:
            rows.append((0, states.get(name) or broken[video_id]))
    return _with_results(clips, paths, form, pd.DataFrame(rows, columns=["frames", "error"], index=clips.index))
