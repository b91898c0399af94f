"""UCF101 on disk: names, a table of clips, and the frames of their pairs, cut by the thesis's rule."""

import errno
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers import video
from helpers.temporal_coherence.config import TemporalCoherenceConfig as Defaults
from helpers.workspace import disk

NAME = re.compile(r"^v_(?P<label>\w+)_g(?P<group>\d{2})_c(?P<clip>\d{2})(?:\.\w+)?$")
SUFFIXES = {".avi", ".mp4", ".mkv", ".mov", ".mpg", ".webm"}
PAIR_COLUMNS = [
    *("split", "class", "label", "group", "clip", "video", "k", "frame_index", "path_query", "path_next"),
    *("decoded_frames", "header_frames"),
]


def parse_name(name: str) -> tuple[str, int, int]:
    """Read class, group and clip from a UCF101 file name.

    Args:
        name: such as "v_Archery_g01_c02.avi", with or without folder and suffix.

    Returns:
        ("Archery", 1, 2). A group is one source video: same people, same place.

    Raises:
        ValueError: the name has another form.
    """
    match = NAME.match(Path(name).name)
    if match is None:
        raise ValueError(f"not a UCF101 name: received {name!r}; expected v_<Class>_g<2 digits>_c<2 digits>.avi")
    return match["label"], int(match["group"]), int(match["clip"])


def find_clips(root: str | Path, classes: tuple[str, ...] = ()) -> pd.DataFrame:
    """List the clips of a folder `Class/clip.avi`.

    Args:
        root: folder with one folder per class.
        classes: take these only; empty takes all. Their sorted order gives the labels, from 0.

    Returns:
        One row a clip: class, label, group, clip, video (path from `root`, with /). Files without a UCF101 name each make a
        group of their own, numbered from 1001, since nothing is known of what they share.

    Raises:
        FileNotFoundError: no folder, or no video in it.
        ValueError: a class that was asked for has no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"no folder {root}: expected one with a folder per class, such as Archery/clip.avi")
    folders = {path.name: path for path in sorted(root.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    missing = [name for name in classes if name not in folders]
    if missing:
        raise ValueError(f"classes {', '.join(missing)} have no folder in {root.name}; found: {', '.join(folders)}")
    rows = []
    for label, name in enumerate(sorted(classes or folders)):
        for number, path in enumerate(sorted(p for p in folders[name].iterdir() if p.suffix.lower() in SUFFIXES), 1):
            match = NAME.match(path.name)
            group, clip = (int(match["group"]), int(match["clip"])) if match else (1000 + number, 1)
            rows.append((name, label, group, clip, f"{name}/{path.name}"))
    if not rows:
        raise FileNotFoundError(
            f"no video in {root.name}: expected files such as Archery/clip.avi ({', '.join(sorted(SUFFIXES))})"
        )
    return pd.DataFrame(rows, columns=["class", "label", "group", "clip", "video"])


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


def extract_pairs(
    clip: str | Path, out_dir: str | Path, step: int = Defaults.step, negative_every: int = Defaults.negative_every,
    gap: int = Defaults.gap, size: int = Defaults.size, *, quality: int = Defaults.quality, label: int = -1,
) -> pd.DataFrame:  # fmt: skip
    """Cut one clip into the frames of its pairs, by the rule of the thesis.

    Frame i, for i = 0, step, 2 step, ..., becomes `query_frame_<k>.jpg` with k counting the queries, provided that frame
    i + gap decodes too; that one becomes `next_frame_<k>.jpg` unless k is a multiple of `negative_every`: those pairs are
    negative, and training draws their partner from another video. Frames are resized to size x size without keeping the
    aspect. The frames are written to a temporary folder that becomes `out_dir` at the end, in place of an older one.

    Args:
        clip: the video file.
        out_dir: folder for the frames.
        step, negative_every, gap, size: see above.
        quality: JPEG quality.
        label: goes into the table as it is.

    Returns:
        One row a query with the columns `PAIR_COLUMNS`; `split` is empty, `path_next` is empty for negative pairs.
        `decoded_frames` counts what decodes, `header_frames` repeats what the file's header claims. No rows if the clip has no
        more than `gap` frames.

    Raises:
        FileNotFoundError, ValueError: see `video.read_frames`.
    """
    clip, out_dir = Path(clip), Path(out_dir)
    shutil.rmtree(out_dir, ignore_errors=True)
    counts = _cut(clip, out_dir, step, negative_every, gap, size, quality)
    match = NAME.match(clip.name)
    group, number = (int(match["group"]), int(match["clip"])) if match else (-1, -1)
    name = match["label"] if match else clip.parent.name
    row = {"class": name, "label": label, "group": group, "clip": number, "video": clip.name}
    return pd.DataFrame(_columns(row, f"{out_dir}{os.sep}", *counts, step, negative_every), columns=PAIR_COLUMNS)


def _cut(
    clip: Path, out_dir: Path, step: int, negative_every: int, gap: int, size: int, quality: int
) -> tuple[int, ...]:
    """Write the frames of one clip's pairs; (queries, decoded frames, frames that the header claims)."""

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
            temporary.replace(out_dir)
        except OSError as error:  # another process was faster, with the same frames
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
    return k, decoded, header["frames"]


def _columns(row: dict, prefix: str, queries: int, decoded: int, header: int, step: int, negative_every: int) -> dict:
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
    done, data = cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"{path.name}: OpenCV cannot encode a frame of shape {frame.shape} as JPEG")
    path.write_bytes(data)  # unlike cv2.imwrite, tells of a full disk


def read_frame(path: str | Path) -> np.ndarray:
    """Read one frame: (H, W, 3) uint8 RGB.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or no picture.
    """
    data = np.frombuffer(Path(path).read_bytes(), dtype=np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise ValueError(
            f"{path} is no readable picture ({data.size} bytes): delete the folder of step preprocess, run it again"
        )
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def preprocess_clip(row: dict, root: Path, folder: Path, options: dict) -> dict:
    """Cut one clip of the table of clips into `folder/frames/<Class>/<clip>/`; a clip that is done is not touched again.

    Returns:
        The row with `decoded_frames`, `header_frames`, `pairs`. The clip's own table stands beside its folder as JSON.
    """
    name = frames_name(row["video"])
    out_dir = Path(folder) / name
    done = out_dir.with_name(out_dir.name + ".json")
    if not (done.is_file() and out_dir.is_dir()):
        with disk.explain_disk_errors(out_dir):
            counts = _cut(Path(root) / row["video"], out_dir, **options)
        if not counts[0]:
            raise ValueError(f"{row['video']}: too short for a pair of frames")
        columns = _columns(row, f"{name}/", *counts, options["step"], options["negative_every"])
        disk.write_json(done, columns)
    pairs = json.loads(done.read_text(encoding="utf-8"))
    frames = {name: pairs[name][0] for name in ("decoded_frames", "header_frames")}
    return row | frames | {"pairs": len(pairs["k"])}


def frames_name(name: str) -> str:
    """Where a clip's frames go, below the step's folder; holiday.avi and holiday.mp4 of one class stay apart."""
    return "frames/" + name.removesuffix(".avi")


def remove_leftovers(folder: Path) -> None:
    """Remove what killed workers had begun to write."""
    for path in list((Path(folder) / "frames").glob("*/.*")):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def count_bytes(folder: Path, name: str) -> int:
    """Bytes that the frames of one clip take."""
    return sum(entry.stat().st_size for entry in os.scandir(Path(folder) / frames_name(name)))


def collect_pairs(folder: Path, videos: list[str]) -> pd.DataFrame:
    """Join the tables that `preprocess_clip` left for these videos."""
    tables = [json.loads((folder / f"{frames_name(name)}.json").read_text(encoding="utf-8")) for name in videos]
    return pd.DataFrame({name: list(itertools.chain(*(table[name] for table in tables))) for name in PAIR_COLUMNS})
