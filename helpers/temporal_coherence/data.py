"""UCF101 on disk: names, a table of clips, and one clip cut into the frames of its pairs; `pairing` has the rule."""

import os
import re
import shutil
from pathlib import Path

import pandas as pd

from helpers.temporal_coherence import pairing
from helpers.temporal_coherence.config import TemporalCoherenceConfig as Defaults

NAME = re.compile(r"^v_(?P<label>\w+)_g(?P<group>\d{2})_c(?P<clip>\d{2})(?:\.\w+)?$")
SUFFIXES = {".avi", ".mp4", ".mkv", ".mov", ".mpg", ".webm"}


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
        One row a query with the columns `pairing.PAIR_COLUMNS`; `split` is empty, `path_next` is empty for negative pairs.
        `decoded_frames` counts what decodes, `header_frames` repeats what the file's header claims. No rows if the clip has no
        more than `gap` frames.

    Raises:
        FileNotFoundError, ValueError: see `video.read_frames`.
    """
    clip, out_dir = Path(clip), Path(out_dir)
    shutil.rmtree(out_dir, ignore_errors=True)
    counts = pairing.cut_pairs(clip, out_dir, step, negative_every, gap, size, quality)
    match = NAME.match(clip.name)
    group, number = (int(match["group"]), int(match["clip"])) if match else (-1, -1)
    name = match["label"] if match else clip.parent.name
    row = {"class": name, "label": label, "group": group, "clip": number, "video": clip.name}
    columns = pairing.pair_columns(row, f"{out_dir}{os.sep}", *counts, step, negative_every)
    return pd.DataFrame(columns, columns=pairing.PAIR_COLUMNS)
