"""One video file -> the cached lip clip, in worker processes: decoded, found, cropped once, and never again; then of one length.

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
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.faces import find_face_points
from helpers.lip_reading.lips import Cut, crop_lips, cut_lips
from helpers.parallel import parallel, usable
from helpers.workspace import StepResult, disk

__all__ = ["crop_lips", "find_face_points"]  # that others call here; their rooms are `lips` and `faces`
SWAPPED = -0.03  # a clip less red than this has red and blue exchanged; real mouths have 0.09 to 0.6
MEASURES = ("frames", "fps", "found", "share", "longest_gap", "eye_distance", "tilt", "jitter", "redness", "note")
MODES = ("resample", "pad", "center")
RATE = 25.0  # frames per second at which "pad" and "center" look


def usable_clips(result: StepResult) -> pd.DataFrame:
    """The rows without an error of a step's `clips.csv`."""
    return usable(result.table("clips"), "clips").reset_index(drop=True).astype({"frames": int})


def prepare_clip(
    row: Mapping, *, root: str | os.PathLike, folder: str | os.PathLike, cut: Cut | LipReadingConfig,
    model_path: str | os.PathLike | None = None,
) -> dict:  # fmt: skip
    """Cut the lips out of one clip and cache them as `<folder>/<path>.npz`; a clip that is there is not read again.

    The file holds `frames` (T, height, width, channels) uint8, their `times` (T,) in seconds, `found` (T,) bool, `fps`, and
    `points` (T, 5, 2) float32 as tracked (no rows where nothing was looked for). To change `len_video` costs no detection.

    Args:
        row: of the manifest table: path, start, end; `points` (T, 5, 2) of the whole file, where they are known already.
        root: folder that paths start from.
        folder: of the cache.

    Returns:
        cache (file name), and the measures: frames (decoded), fps, what `faces.statistics` tells, redness, and note: "" or what
        is odd about the file's times (see `video.Timing`) and about the faces (see `faces.follow_face`).

    Raises:
        ValueError, FileNotFoundError: nothing decodes, or too few frames with a face; names the file and the numbers.
    """
    start = _seconds(row, "start")
    name = f"{row['path']}.npz" if np.isnan(start) else f"{row['path']}@{start:.3f}.npz"
    target = Path(folder) / name
    if not target.is_file():
        clip = _Clip(row, Path(root), cut.swap_channels)
        points = row.get("points")
        if points is not None:
            points = np.asarray(points, np.float32)[clip.numbers[clip.numbers < len(points)]]
        try:
            arrays, measures = cut_lips(clip, cut, points=points, model_path=model_path)
        except ValueError as error:
            text = str(error)
            raise ValueError(text if str(row["path"]) in text else f"{row['path']}: {text}") from error
        measures |= {"fps": clip.fps, "note": "; ".join(filter(None, (clip.timing.note, measures["note"])))}
        arrays |= {"fps": clip.fps, "times": clip.timing.times[clip.numbers]}
        with disk.atomic_write(target) as file:
            np.savez(file, **arrays, measures=json.dumps({key: measures[key] for key in MEASURES}))
    with np.load(target) as stored:
        return {"cache": name, **json.loads(str(stored["measures"]))}


def prepare_all(
    table: pd.DataFrame, root: str | os.PathLike, folder: str | os.PathLike, cut: Cut | LipReadingConfig, *,
    points: Mapping[str, np.ndarray] | None = None, model_path: str | os.PathLike | None = None,
    jobs: int | None = -1,
) -> pd.DataFrame:  # fmt: skip
    """`prepare_clip` for every row of a manifest table, in parallel; no clip can stop the others, OSError of a full disk can.

    Args:
        points: known face points by path, (T, 5, 2) with NaN, instead of a detector; clips without any get none found.

    Returns:
        `table` with `cache`, the measures, and `error`: "" or why the clip cannot be used.
    """
    rows = table[["path", "start", "end"]].to_dict("records")
    if points is not None:
        nothing = np.zeros((0, 5, 2), np.float32)
        rows = [row | {"points": points.get(row["path"], nothing)} for row in rows]
    work = functools.partial(prepare_clip, root=root, folder=folder, cut=cut, model_path=model_path)
    done = parallel(work, rows, what="clips", jobs=jobs, label="cutting lips")
    done = done.reindex(columns=["cache", *MEASURES, "error"]).fillna({"cache": "", "note": ""})
    done["error"] = done["error"].str.replace(f"{Path(root)}{os.sep}", "", regex=False)  # a notebook shows the table
    return table.assign(**{name: done[name].to_numpy() for name in done})


def check_channels(table: pd.DataFrame) -> str:
    """A warning where most clips of `prepare_all` are bluer than any mouth is, else ""."""
    known = table.loc[table["redness"].notna(), "redness"]
    swapped = int((known < SWAPPED).sum())
    if 2 * swapped <= len(known):
        return ""
    return (
        f"{swapped} of {len(known)} clips are bluer than skin and lips can be: their red and blue are exchanged. "
        "Set swap_channels: true to put that right (if it is true already, set it to false)."
    )


def load_clips(
    folder: str | os.PathLike, names: Sequence[str], *, length: int, mode: str = "resample"
) -> Iterator[np.ndarray]:
    """Cached clips, one by one, each brought to `length` frames (see `pick_frames`): (length, height, width, channels) uint8.

    ValueError: no names, or clips of different sizes.

    Args:
        folder, names: of the cache, and its column `cache`.
        length, mode: `len_video` and `resample` of the configuration.
    """
    if not len(names):
        raise ValueError("names: received none; allowed: at least one clip of the cache")
    first = None
    for name in names:
        clip = read_clip(folder, name)
        frames = clip["frames"]
        first = first or frames.shape[1:]
        if frames.shape[1:] != first:
            raise ValueError(f"{name} holds frames of {frames.shape[1:]}, {names[0]} of {first}")
        yield frames[pick_frames(len(frames), length, fps=float(clip["fps"]), mode=mode, times=clip["times"])]


def write_clips(path: str | os.PathLike, folder: str | os.PathLike, names: Sequence[str], **options: int | str) -> None:
    """Write the clips of `load_clips` as one array, a `.npy` file; all of them need not fit into memory."""
    with disk.atomic_write(path) as file:
        for place, clip in enumerate(load_clips(folder, names, **options)):
            if place == 0:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(names), *clip.shape)}
                np.lib.format.write_array_header_1_0(file, header)
            file.write(clip.tobytes())


def read_clip(folder: str | os.PathLike, name: str) -> dict[str, np.ndarray]:
    """One cached clip: frames, times, found, points, fps."""
    with np.load(Path(folder) / name) as stored:
        return {key: stored[key] for key in ("frames", "times", "found", "points", "fps")}


def read_word(row: Mapping, root: str | os.PathLike, *, size: int | Sequence[int] | None = None) -> list[np.ndarray]:
    """The frames (H, W, 3) RGB uint8 of a row of the manifest table: of the whole file, or from `start` to `end` where told.

    `size` and errors are those of `video.read_frames`; `root` is the folder that paths start from.
    """
    return list(_Clip(row, Path(root), swapped=False, size=size))


class _Clip:
    """The frames of one row, which can be gone through more than once: two passes need no memory for large pictures."""

    def __init__(self, row: Mapping, root: Path, swapped: bool, size: int | Sequence[int] | None = None) -> None:
        self.path, self.swapped, self.size = root / str(row["path"]), swapped, size
        self.timing = video.read_timing(self.path)
        self.fps = round(self.timing.fps, 3)
        self.numbers = frames_within(self.timing, _seconds(row, "start"), _seconds(row, "end"))

    def __iter__(self) -> Iterator[np.ndarray]:
        wanted = set(self.numbers.tolist())
        for number, frame in video.scan_frames(self.path, lambda number: number in wanted, size=self.size):
            if frame is not None:
                yield frame[..., ::-1].copy() if self.swapped else frame
            if number >= max(wanted, default=0):
                return


def _seconds(row: Mapping, key: str) -> float:
    """A time of the manifest table; what is empty there (a CSV file writes NaN so) is NaN."""
    value = row.get(key, np.nan)
    return np.nan if value in ("", None) else float(value)


def pick_frames(
    count: int, length: int, *, fps: float = RATE, mode: str = "resample", times: np.ndarray | None = None
) -> np.ndarray:
    """Numbers of the frames to take, so that the same film at 25, 30, 60 or a changing number of frames per second gives the same
    pictures: those that are seen at certain moments.

    Args:
        fps: frames per second of the clip.
        mode: "resample" spreads them evenly from the first to the last frame, so that every word fills the clip; "pad" keeps
            the tempo: frames at 25 per second from the beginning, the last repeated, or what is too long cut off; "center"
            does so around the middle of the clip, as LRW is cut, with the first frame repeated as well.
        times: (count,) seconds at which the frames begin to show; by default evenly apart, by `fps`.

    Returns:
        (length,) int64, from 0 to count - 1.

    Raises:
        ValueError: no frames, or a mode that does not exist.
    """
    if mode not in MODES or count < 1 or length < 1 or not fps > 0:
        raise ValueError(
            f"received {count} frames, length {length}, fps {fps}, mode {mode!r}; allowed: at least 1 frame, length 1, fps above "
            f"0 and one of {', '.join(MODES)}"
        )
    times = np.arange(count) / fps if times is None else times - times[0]
    edges = np.append(times, times[-1] + 1 / fps)  # a frame is seen until the next one begins
    if mode == "resample":
        first, last = edges[:2].mean(), edges[-2:].mean()
        scale = (count - 1) / (last - first) if count > 1 else 0.0  # evenly apart, the edges are at -0.5, 0.5, 1.5, ...
        places = np.interp(np.linspace(0, count - 1, length), ((edges - first) * scale).round(6), np.arange(count + 1))
        return np.clip(np.round(places - 0.5), 0, count - 1).astype(np.int64)
    steps = np.arange(length, dtype=np.float64)
    if mode == "center":
        steps += (round(round(edges[-1] * RATE, 6)) - length) // 2  # rounded twice: a half is a half
    return video.Timing(times, fps).shown((steps + 0.5) / RATE)


def frames_within(timing: video.Timing, start: float, end: float) -> np.ndarray:
    """Numbers of the frames whose middle lies in [start, end) seconds: (N,) int64; NaN means the clip's own limits."""
    middles = timing.times + 0.5 / timing.fps + 1e-6
    low, high = np.nan_to_num(start, nan=-np.inf), np.nan_to_num(end, nan=np.inf)
    return np.flatnonzero((middles >= low) & (middles < high))
