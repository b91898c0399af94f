"""One video file -> the cached lip clip, in worker processes: decoded, found, cropped once, and never again.

Worker processes import this module, so it must never pull in TensorFlow or Keras.
"""

import functools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import video
from helpers.lip_reading import faces, lips
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.timing import RATE, frame_span, pick_frames
from helpers.parallel import parallel, stop_at_disk_errors
from helpers.workspace import disk

SWAPPED = -0.03  # a clip less red than this has red and blue exchanged; real mouths have 0.09 to 0.6
MEASURES = ("frames", "fps", "found", "share", "longest_gap", "eye_distance", "tilt", "jitter", "redness")


def prepare_clip(
    row: Mapping,
    *,
    root: str | os.PathLike,
    folder: str | os.PathLike,
    config: LipReadingConfig,
    model_path: str | os.PathLike | None = None,
) -> dict:
    """Cut the lips out of one clip and cache them as `<folder>/<path>.npz`; a clip that is there is not read again.

    The file holds `frames` (T, height, width, channels) uint8 at the clip's own rate, `found` (T,) bool, `fps`, and `points`
    (T, 5, 2) float32 as tracked (no rows where nothing was looked for). To change `len_video` costs no detection.

    Args:
        row: of the manifest table: path, start, end; `points` (T, 5, 2) of the whole file, where they are known already.
        root: folder that paths start from.
        folder: of the cache.
        config: lips, window, size_lips, padding_lips, channels_lips, swap_channels, min_found, source.
        model_path: see `faces.find_face_points`.

    Returns:
        cache (file name), and the measures: frames (decoded), fps, what `lips.statistics` tells, redness.

    Raises:
        ValueError, FileNotFoundError: nothing decodes, or too few frames with a face; names the file and the numbers.
    """
    name = _cache_name(row)
    target = Path(folder) / name
    if not target.is_file():
        clip = _Clip(row, Path(root), config.swap_channels)
        try:
            arrays, measures = _cut(clip, row.get("points"), config, model_path)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(row["path"]) in text else f"{row['path']}: {text}") from error
        measures |= {"fps": clip.fps}
        with disk.atomic_write(target) as file:
            np.savez(file, **arrays, fps=clip.fps, measures=json.dumps({key: measures[key] for key in MEASURES}))
    with np.load(target) as stored:
        return {"cache": name, **json.loads(str(stored["measures"]))}


def prepare_all(
    table: pd.DataFrame,
    root: str | os.PathLike,
    folder: str | os.PathLike,
    config: LipReadingConfig,
    *,
    points: Mapping[str, np.ndarray] | None = None,
    model_path: str | os.PathLike | None = None,
    jobs: int | None = -1,
) -> pd.DataFrame:
    """`prepare_clip` for every row of a manifest table, in parallel; no clip can stop the others.

    Args:
        points: known face points by path, (T, 5, 2) with NaN, instead of a detector; clips without any get none found.
        others: see `prepare_clip`.

    Returns:
        `table` with `cache`, the measures, and `error`: "" or why the clip cannot be used.

    Raises:
        OSError: the disk is full or read-only.
    """
    rows = table[["path", "start", "end"]].to_dict("records")
    if points is not None:
        nothing = np.zeros((0, 5, 2), np.float32)
        rows = [row | {"points": points.get(row["path"], nothing)} for row in rows]
    work = functools.partial(prepare_clip, root=root, folder=folder, config=config, model_path=model_path)
    done = parallel(work, rows, jobs=jobs, label="cutting lips")
    stop_at_disk_errors(done, "clips")
    done = done.reindex(columns=["cache", *MEASURES, "error"])
    done["cache"] = done["cache"].fillna("")
    done["error"] = done["error"].str.replace(
        f"{Path(root)}{os.sep}", "", regex=False
    )  # the table is shown in notebooks
    return table.assign(**{name: done[name].to_numpy() for name in done})


def check_channels(table: pd.DataFrame) -> str:
    """A warning where most clips are bluer than any mouth is, else "".

    Args:
        table: of `prepare_all`.
    """
    known = table.loc[table["redness"].notna(), "redness"]
    swapped = int((known < SWAPPED).sum())
    if 2 * swapped <= len(known):
        return ""
    return (
        f"{swapped} of {len(known)} clips are bluer than skin and lips can be: their red and blue are exchanged. "
        "Set swap_channels: true to put that right (if it is true already, set it to false)."
    )


def load_clips(
    folder: str | os.PathLike,
    names: Sequence[str],
    *,
    length: int,
    mode: str = "resample",
    out: str | os.PathLike | None = None,
) -> np.ndarray:
    """Cached clips as one array, each brought to `length` frames (see `timing.pick_frames`).

    Args:
        folder: of the cache.
        names: column `cache`.
        length, mode: `len_video` and `resample` of the configuration.
        out: a `.npy` file to write to and map into memory, for more than fits there; default an array in memory.

    Returns:
        (N, length, height, width, channels) uint8.

    Raises:
        ValueError: no names, or clips of different sizes.
    """
    if not len(names):
        raise ValueError("names: received none; allowed: at least one clip of the cache")
    first = read_clip(folder, names[0])["frames"]
    shape = (len(names), length, *first.shape[1:])
    clips = np.empty(shape, np.uint8) if out is None else np.lib.format.open_memmap(out, "w+", np.uint8, shape)
    for place, name in enumerate(names):
        clip = read_clip(folder, name)
        if clip["frames"].shape[1:] != first.shape[1:]:
            raise ValueError(f"{name} holds frames of {clip['frames'].shape[1:]}, {names[0]} of {first.shape[1:]}")
        picked = pick_frames(len(clip["frames"]), length, fps=float(clip["fps"]), mode=mode)
        clips[place] = clip["frames"][picked]
    return clips


def read_clip(folder: str | os.PathLike, name: str) -> dict[str, np.ndarray]:
    """One cached clip: frames, found, points, fps."""
    with np.load(Path(folder) / name) as stored:
        return {key: stored[key] for key in ("frames", "found", "points", "fps")}


class _Clip:
    """The frames of one row, which can be gone through more than once: two passes need no memory for large pictures."""

    def __init__(self, row: Mapping, root: Path, swapped: bool) -> None:
        self.path, self.swapped = root / str(row["path"]), swapped
        told = video.header_info(self.path)["fps"]
        self.fps = round(told, 3) if 1 <= told <= 1000 else RATE  # NaN fails too
        self.first, self.last = frame_span(_seconds(row, "start"), _seconds(row, "end"), self.fps)

    def __iter__(self) -> Iterator[np.ndarray]:
        wanted = self.last if self.last is not None else float("inf")
        for number, frame in video.scan_frames(self.path, lambda index: self.first <= index < wanted):
            if number >= wanted:
                return
            if frame is not None:
                yield frame[..., ::-1].copy() if self.swapped else frame


def _cut(
    clip: _Clip, points: np.ndarray | None, config: LipReadingConfig, model_path: str | os.PathLike | None
) -> tuple[dict, dict]:
    """The arrays of the cache and the measures."""
    if config.lips == "detect":
        if points is None:
            points = lips.stack_points(faces.find_face_points(frame, model_path) for frame in clip)
        else:
            points = np.asarray(points, np.float32)[clip.first : clip.last]
        measures = lips.statistics(points)
        _require_faces(measures, config.min_found)
        tracked, found = lips.track_points(points), lips.found_mask(points)
        frames = lips.crop_lips(clip, tracked, config.size)
    else:
        frames, tracked = _cut_plain(clip, config), np.zeros((0, 5, 2), np.float32)
        found = np.ones(len(frames), bool)
        measures = lips.statistics(np.full((len(frames), 5, 2), np.nan)) | {"found": len(frames), "share": 1.0}
        measures |= {"longest_gap": 0}
    measures |= {"redness": round(lips.redness(frames), 4)}
    frames = lips.to_grey(frames) if config.channels_lips == 1 else frames
    return {"frames": frames, "found": found, "points": tracked}, measures


def _cut_plain(clip: _Clip, config: LipReadingConfig) -> np.ndarray:
    if config.lips == "fixed":
        window = config.window or lips.WINDOWS["grid"]
        return lips.cut_fixed(clip, window, config.size, padding=config.padding_lips)
    return lips.stack_frames(lips.fit(frame, config.size, padding=config.padding_lips) for frame in clip)


def _require_faces(measures: dict, least: float) -> None:
    if not measures["found"] or measures["share"] < least:
        raise ValueError(
            f"a face was found in {measures['found']} of {measures['frames']} frames ({measures['share']:.0%}); allowed: at least "
            f"{least:.0%} (min_found). Clips that show only a mouth need lips: cropped"
        )


def _cache_name(row: Mapping) -> str:
    start = _seconds(row, "start")
    return f"{row['path']}.npz" if np.isnan(start) else f"{row['path']}@{start:.3f}.npz"


def _seconds(row: Mapping, key: str) -> float:
    """A time of the manifest table; what is empty there (a CSV file writes NaN so) is NaN."""
    value = row.get(key, np.nan)
    return np.nan if value in ("", None) else float(value)
