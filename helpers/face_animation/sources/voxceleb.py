"""VoxCeleb as the original cut it: the table of 20 075 clips, its flaws, and the clips out of a user's own videos.

Nothing here downloads a video. `data_manifests/voxceleb.yaml` has the facts, the terms, and a command for the owner of a right.
"""

import os
import tempfile
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers import intake, parallel, video
from helpers.face_animation import data
from helpers.face_animation.sources import local
from helpers.pictures import encode_picture
from helpers.workspace import disk

METADATA = "vox-metadata.csv"
COLUMNS = ["video_id", "start", "end", "bbox", "fps", "width", "height", "partition", "person_id"]
BOX = ["left", "top", "right", "bottom"]


def read_metadata(path: str | os.PathLike) -> pd.DataFrame:
    """Read and check vox-metadata.csv.

    Returns:
        Its nine columns, left, top, right, bottom (pixels at the reference size), frames (end - start), clip (file name).

    Raises:
        ValueError: a column is missing, or rows hold what cannot be; one error with the first of them.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        kind = intake.describe(path) or "a file of no known kind"
        raise ValueError(
            f"{Path(path).name}: {kind}, no metadata ({error!s:.100}); expected {', '.join(COLUMNS)}"
        ) from error
    if missing := set(COLUMNS) - set(table.columns):
        raise ValueError(f"{Path(path).name}: no column {', '.join(sorted(missing))}; expected: {', '.join(COLUMNS)}")
    if table.empty:
        raise ValueError(f"{Path(path).name}: no row; expected one for each clip")
    table = table[COLUMNS]
    whole = table[["start", "end", "fps", "width", "height"]]
    good = whole.apply(lambda column: column.str.fullmatch(r"\d{1,9}")).all(axis=1)
    good &= table["bbox"].str.fullmatch(r"\d{1,6}(-\d{1,6}){3}") & table["partition"].isin(["train", "test"])
    good &= table["person_id"].str.fullmatch(r"[\w.]+") & table["video_id"].str.fullmatch(r"[\w-]+")
    _stop_at(path, table, ~good)
    table = table.assign(**{name: whole[name].astype(int) for name in whole})
    table[BOX] = table["bbox"].str.split("-", expand=True).astype(int).to_numpy()
    table["frames"] = table["end"] - table["start"]
    positive = (table[["fps", "width", "height", "frames"]] > 0).all(axis=1)
    _stop_at(path, table, ~positive | (table["left"] >= table["right"]) | (table["top"] >= table["bottom"]))
    names = zip(table["person_id"], table["video_id"], table["start"], table["end"], strict=True)
    table["clip"] = [data.clip_name(*name) for name in names]
    return table


def _stop_at(path: str | os.PathLike, table: pd.DataFrame, bad: pd.Series) -> None:
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        received = dict(table.iloc[first][COLUMNS].items())
        raise ValueError(
            f"{Path(path).name}: {int(bad.sum())} bad rows, the first in line {first + 2}: received {received}; allowed: whole "
            "numbers with start < end, a box left-top-right-bottom, partition train or test"
        )


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Per partition: rows, unique (without exact doubles), videos, persons, frames (min, median, mean, max, total), hours."""
    rows = []
    for partition in ("train", "test"):
        part = table[table["partition"] == partition]
        row = {"partition": partition, "rows": len(part), "unique": len(part.drop_duplicates())}
        row |= {"videos": part["video_id"].nunique(), "persons": part["person_id"].nunique()}
        row |= {name: getattr(part["frames"], name)() for name in ("min", "median", "mean", "max", "sum")}
        rows.append(row | {"hours": (part["frames"] / part["fps"]).sum() / 3600})
    return pd.DataFrame(rows).rename(columns={"sum": "total"})


def find_flaws(table: pd.DataFrame) -> dict:
    """What a user should know: exact doubles, what is on both sides of the split, boxes that leave the picture.

    Returns doubles (rows), persons, videos, clips (lists of those in train and test), outside (rows whose box ends beyond the
    reference size).
    """
    both = {}
    for name, column in (("persons", "person_id"), ("videos", "video_id"), ("clips", "clip")):
        sides = table.groupby(column)["partition"].nunique()
        both[name] = sorted(sides.index[sides > 1])
    outside = (table["right"] > table["width"]) | (table["bottom"] > table["height"])
    return {"doubles": int(table.duplicated().sum()), **both, "outside": int(outside.sum())}


def clean(table: pd.DataFrame) -> pd.DataFrame:
    """The table without exact doubles, and without the train rows of a person or video that the test has too."""
    table = table.drop_duplicates()
    test = table[table["partition"] == "test"]
    shared = table["person_id"].isin(test["person_id"]) | table["video_id"].isin(test["video_id"])
    return table[(table["partition"] == "test") | ~shared].reset_index(drop=True)


def in_clip(seconds: float, start: int, end: int, reference: float = 25) -> bool:
    """Whether a frame that begins to show at `seconds` is in the clip of frames [start, end) at the reference rate."""
    return start <= seconds * reference + 1e-4 < end


def scale_box(box: Sequence[int], reference: tuple[int, int], actual: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box (left, top, right, bottom) from the reference size to the picture's actual one, cut off to whole pixels and to it."""
    factors = [actual[1] / reference[1], actual[0] / reference[0]] * 2
    left, top, right, bottom = (int(side * factor) for side, factor in zip(box, factors, strict=True))
    return min(left, actual[1] - 1), min(top, actual[0] - 1), min(right, actual[1]), min(bottom, actual[0])


def crop_video(
    path: str | os.PathLike, rows: Sequence[dict], folder: str | os.PathLike, *, size: tuple[int, int], form: str,
) -> list[dict]:  # fmt: skip
    """Cut the clips of one video in one pass over it; clips that stand already are not made again.

    Args:
        path: the video; any size and frame rate.
        rows: of `read_metadata`, all of this video.
        folder: clips go to `<folder>/<partition>/<clip>`.
        size: (height, width), aspect ratio not kept, as in the original.
        form: "png", a folder of 0000000.png, ... named `....mp4`; or "mp4", a video at the source's rate.

    Returns:
        Per clip: clip, partition, frames, state ("made", "there", or "beyond the end of the video").

    Raises:
        ValueError: the video does not decode.
    """
    folder = Path(folder)
    targets = {folder / row["partition"] / row["clip"]: row for row in rows}
    todo = {target: row for target, row in targets.items() if not target.exists()}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".cropping-") as name, disk.explain_disk_errors(folder):
        rate = _cut(Path(path), list(todo.values()), Path(name), size) if todo else 0
        for index, target in enumerate(todo):
            pictures = Path(name) / str(index)
            if pictures.exists() and form == "png":
                target.parent.mkdir(exist_ok=True)
                disk.replace(pictures, target)
            elif pictures.exists():
                video.write_video(target, data.stream(pictures), rate)
    found = []
    for target, row in targets.items():
        frames = data.count_frames(target) if target.exists() else 0
        state = "beyond the end of the video" if not frames else "made" if target in todo else "there"
        found.append({"clip": target.name, "partition": row["partition"], "frames": frames, "state": state})
    return found


def _cut(path: Path, rows: list[dict], folder: Path, size: tuple[int, int]) -> float:
    """Write the frames of each row that has any to `folder/<index>`; returns the video's rate."""
    last = max(row["end"] / row["fps"] for row in rows)
    counts, header = [0] * len(rows), {}

    def inside() -> list[int]:
        return [i for i, row in enumerate(rows) if in_clip(header["seconds"][-1], row["start"], row["end"], row["fps"])]

    for _, frame in video.scan_frames(path, lambda _: bool(inside()), header=header):
        for index in inside() if frame is not None else ():
            _write(folder / str(index) / f"{counts[index]:07d}.png", frame, rows[index], size)
            counts[index] += 1
        if header["seconds"][-1] >= last:
            break
    return video.Timing.of(header).fps


def _write(path: Path, frame: np.ndarray, row: dict, size: tuple[int, int]) -> None:
    reference = (row["height"], row["width"])
    left, top, right, bottom = scale_box([row[side] for side in BOX], reference, frame.shape[:2])
    face = data.resize(frame[top : max(bottom, top + 1), left : max(right, left + 1)], size)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode_picture(face, ".png"))


def find_videos(folder: str | os.PathLike, ids: Iterable[str]) -> dict[str, Path]:
    """The user's own copies, `<video_id>.<suffix>` anywhere below `folder`, by the ids that have one."""
    wanted = set(ids)
    root = Path(folder)
    files = [root / path for path, skipped in intake.entries(root) if not skipped and path.stem in wanted]
    files = [path for path in sorted(files) if intake.is_kind(path, intake.VIDEO)]
    return {path.stem: path for path in reversed(files)}


def list_clips(metadata: pd.DataFrame, videos: str | os.PathLike) -> pd.DataFrame:
    """The clips of `read_metadata`, each once, with the user's own copies of their videos, anywhere below a folder.

    Returns:
        As `data.find_clips`: path is that of the whole video, error says which videos are gone.
    """
    found = find_videos(videos, metadata["video_id"])
    rows = metadata.drop_duplicates("clip").sort_values(["partition", "clip"])
    paths = rows["video_id"].map({name: path.relative_to(videos).as_posix() for name, path in found.items()})
    table = rows.rename(columns={"person_id": "person", "video_id": "video"}).assign(
        path=paths.fillna(""), form="video", note="", error=np.where(paths.isna(), "gone: no file of this video", "")
    )
    return table[data.COLUMNS].reset_index(drop=True)


def crop_all(
    clips: pd.DataFrame, metadata: pd.DataFrame, videos: str | os.PathLike, folder: str | os.PathLike, *,
    size: tuple[int, int], form: str, jobs: int | None = -1,
) -> pd.DataFrame:  # fmt: skip
    """Cut the clips of `list_clips` out of the videos, these in parallel; arguments and result as in `local.prepare_all`."""
    found = find_videos(videos, clips["video"])
    wanted = metadata[metadata["clip"].isin(clips["clip"])].drop_duplicates("clip").groupby("video_id")
    items = [(str(found[name]), rows.to_dict("records")) for name, rows in wanted if name in found]
    work = partial(_crop_item, folder=str(folder), size=size, form=form)
    done = parallel.parallel(work, items, what="videos' clips", jobs=jobs, label="cropping")
    outcomes = dict.fromkeys(clips["clip"], (0, "no file of this name"))
    for (_, rows), error in zip(done["item"], done["error"], strict=True):
        outcomes |= {row["clip"]: (0, error) for row in rows if error}
    for cut in done["cut"].dropna() if "cut" in done else ():
        outcomes |= {clip["clip"]: (clip["frames"], "" if clip["frames"] else clip["state"]) for clip in cut}
    results = pd.DataFrame([outcomes[name] for name in clips["clip"]], columns=["frames", "error"], index=clips.index)
    return local.with_results(clips, clips["partition"] + "/" + clips["clip"], form, results)


def _crop_item(item: tuple[str, list[dict]], **options: Any) -> dict:
    return {"cut": crop_video(*item, **options)}
