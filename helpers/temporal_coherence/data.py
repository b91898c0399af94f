"""UCF101 on disk: names, a table of clips, and one clip cut into the frames of its pairs; `cutting` has the rule.

What a network sees of a pair (its frames or their difference) is read in `batches`.
"""

import os
import re
import shutil
from pathlib import Path

import pandas as pd

from helpers import intake
from helpers.temporal_coherence import cutting
from helpers.temporal_coherence.config import TemporalCoherenceConfig as Defaults

NAME = re.compile(r"^v_(?P<label>\w+)_g(?P<group>\d{2})_c(?P<clip>\d{2})(?:\.\w+)?$")
COLUMNS = ["class", "label", "group", "clip", "video"]


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


def find_clips(root: str | os.PathLike | intake.Walk, classes: tuple[str, ...] = ()) -> pd.DataFrame:
    """List the clips of a folder `Class/clip.avi`, or of deeper ones.

    Folders around all clips say nothing, and folders train and test are no classes, where all clips lie in such. The class is
    then the folder's name, or UCF101's name of a file that lies in none.

    Args:
        root: folder, or what `intake.walk` found in it: what cannot be used is added to what it left out.
        classes: take these only; empty takes all. Their sorted order gives the labels, from 0.

    Returns:
        One row a clip: class, label, group, clip, video (path from `root`, with /). Files without a UCF101 name each make a
        group of their own, numbered from 1001, since nothing is known of what they share.

    Raises:
        FileNotFoundError: no folder, or no video in it.
        ValueError: a class that was asked for has no clip.
    """
    found = intake.walk(root, {intake.VIDEO})
    below = intake.own_folders(found.files)
    if below and all(parts and intake.split_of(parts[0]) for parts in below.values()):
        sides = sorted({parts[0] for parts in below.values()})
        print(f"folders {', '.join(sides)} of {found.root.name} are no classes; `split_by` draws the sides anew")
        below = {path: parts[1:] for path, parts in below.items()}
    names = {path: _class_of(path, parts) for path, parts in below.items()}
    for path in [path for path, name in names.items() if not name]:
        found.leave_out(path, "in no folder that names its class, such as Archery/clip.avi")
    names = {path: name for path, name in names.items() if name}
    if not names:
        expected = f"expected files such as Archery/clip.avi{found.first_reason()}"
        raise FileNotFoundError(f"no video in {found.root.name}: {expected}")
    if missing := [name for name in classes if name not in names.values()]:
        has = ", ".join(sorted({*names.values()}))
        raise ValueError(f"classes {', '.join(missing)} have no clip in {found.root.name}; found: {has}")
    return pd.DataFrame(_rows(names, sorted(classes or {*names.values()})), columns=COLUMNS)


def _class_of(path: Path, folders: tuple[str, ...]) -> str:
    match = NAME.match(path.name)
    return folders[0] if folders else match["label"] if match else ""


def _rows(names: dict[Path, str], classes: list[str]) -> list[tuple]:
    rows = []
    for label, name in enumerate(classes):
        for number, path in enumerate(sorted(path for path in names if names[path] == name), 1):
            match = NAME.match(path.name)
            group, clip = (int(match["group"]), int(match["clip"])) if match else (1000 + number, 1)
            rows.append((name, label, group, clip, path.as_posix()))
    return rows


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
        One row a query with the columns `cutting.PAIR_COLUMNS`; `split` is empty, `path_next` is empty for negative pairs.
        `decoded_frames` counts what decodes, `header_frames` repeats what the file's header claims. No rows if the clip has no
        more than `gap` frames.

    Raises:
        FileNotFoundError, ValueError: see `video.read_frames`.
    """
    clip, out_dir = Path(clip), Path(out_dir)
    shutil.rmtree(out_dir, ignore_errors=True)
    found = cutting.cut_pairs(clip, out_dir, step, negative_every, gap, size, quality)
    match = NAME.match(clip.name)
    group, number = (int(match["group"]), int(match["clip"])) if match else (-1, -1)
    name = match["label"] if match else clip.parent.name
    row = {"class": name, "label": label, "group": group, "clip": number, "video": clip.name} | found
    folder = f"{out_dir}{os.sep}"
    return cutting.list_pairs(pd.DataFrame([row]), folder, step=step, negative_every=negative_every)
