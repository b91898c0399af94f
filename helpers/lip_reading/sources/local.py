"""A folder of clips in one of the usual layouts -> the manifest table that all later steps read."""

import functools
import os
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from helpers import intake, video
from helpers.lip_reading.config import LAYOUTS
from helpers.parallel import parallel

COLUMNS = ("path", "label", "speaker", "split", "frames", "fps", "start", "end")


def find_clips(root: str | os.PathLike | intake.Walk, layout: str) -> pd.DataFrame:
    """List the clips below a folder; nothing is opened yet.

    Layouts: "split/speaker/class" (OpenAV: train/s1/1_Left/clip.mp4), "class/split" (LRW: ABOUT/train/ABOUT_00001.mp4), and others.
    Names are compared and kept in Unicode's composed form (NFC), since some systems store "й" as two characters; classes that
    differ only in case are one.

    Args:
        root: folder, or what `intake.walk` found in it.
        layout: one of `config.LAYOUTS`; "auto" is guessed from the depth and the names of split folders, of which one must be
            train's, and printed.

    Returns:
        One row per clip, by path: path (from `root`, as on disk, with slashes), label (name of the class folder), speaker ("" if
        no folder tells), split ("" or one of `splits.SIDES`), frames and fps (NaN: see `measure`), start and end (seconds
        in the file; NaN is the whole clip).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: no clip, clips at different depths, or folders that do not fit the layout.
    """
    found = intake.walk(root, {intake.VIDEO})
    files = list(found.files)
    if not files:
        expected = "films in folders named by words"
        raise ValueError(f"no clip below {found.root.name}; expected {expected}{found.first_reason()}")
    folders = [tuple(unicodedata.normalize("NFC", part) for part in path.parts[:-1]) for path in files]
    if layout not in LAYOUTS:
        raise ValueError(f"layout: received {layout!r}; allowed: {', '.join(LAYOUTS)}")
    if layout == "auto":
        layout = _guess(files, folders)
        print(f"folders of {found.root.name} are read as {layout}; if they are not, write `layout`", flush=True)
    meaning = ["label" if part == "class" else part for part in layout.split("/")]
    rows = [_row(path, parts, meaning) for path, parts in zip(files, folders, strict=True)]
    table = pd.DataFrame(rows, columns=list(COLUMNS)).sort_values("path", ignore_index=True)
    for name in ("label", "speaker"):
        table[name] = _one_spelling(table[name])
    return table


def _guess(files: list[Path], folders: list[tuple[str, ...]]) -> str:
    depths = {len(parts): path for path, parts in zip(files, folders, strict=True)}
    if len(depths) > 1:
        examples = ", ".join(path.as_posix() for _, path in sorted(depths.items()))
        raise ValueError(
            f"the clips lie at different depths ({examples}); expected one layout of {', '.join(LAYOUTS[1:])}"
        )
    sides = [_are_sides(names) for names in zip(*folders, strict=True)]
    for layout in LAYOUTS[1:]:
        meaning = layout.split("/")
        fits = len(meaning) == len(sides) and all(sides[at] for at, part in enumerate(meaning) if part == "split")
        if fits and sides != [True]:  # sides alone leave no words
            return layout
    raise ValueError(f"cannot tell what the folders of {files[0].as_posix()} mean; expected {', '.join(LAYOUTS[1:])}")


def _are_sides(names: Iterable[str]) -> bool:
    """Whether folders are sides of a split. Without one for training they may as well be words, or speakers, called test."""
    sides = {intake.split_of(name) for name in names}
    return "train" in sides and None not in sides


def _row(path: Path, parts: tuple[str, ...], meaning: list[str]) -> dict:
    if len(parts) != len(meaning):
        raise ValueError(f"{path.as_posix()}: received {len(parts)} folders; allowed: {'/'.join(meaning)}/clip")
    row = {"path": path.as_posix(), "speaker": "", "split": "", "frames": np.nan, "fps": np.nan}
    row |= {"start": np.nan, "end": np.nan, **dict(zip(meaning, parts, strict=True))}
    if "split" in meaning:
        if intake.split_of(row["split"]) is None:
            raise ValueError(f"{path.as_posix()}: received split {row['split']!r}; allowed: {', '.join(intake.SPLITS)}")
        row["split"] = intake.split_of(row["split"])
    return row


def _one_spelling(names: pd.Series) -> pd.Series:
    """The first spelling, in sorted order, of names that differ in case only."""
    spelling: dict[str, str] = {}
    for name in sorted(names.unique()):
        spelling.setdefault(name.casefold(), name)
    return names.map(lambda name: spelling[name.casefold()])


def class_names(labels: Iterable[str]) -> list[str]:
    """The classes in order: by their numbers where all folders have one (`2_Right` before `10_Cut`), else by the alphabet."""
    names = sorted(set(labels))
    numbers = [re.match(r"(\d+)_", name) for name in names]
    if all(numbers):
        return [name for _, name in sorted((int(number[1]), name) for number, name in zip(numbers, names, strict=True))]
    return names


def phrase(label: str) -> str:
    """A class as it is shown: `12_Shut_down` is "Shut down"."""
    return re.sub(r"^\d+_(?=.)", "", label).replace("_", " ").strip()


def measure(table: pd.DataFrame, root: str | os.PathLike, *, jobs: int | None = -1) -> pd.DataFrame:
    """Count the frames of every clip by decoding it, and read their times.

    Returns `table` with `frames`, `fps`, `error` ("" or why nothing decodes) and `note` ("" or what is odd about its times).
    """
    work = functools.partial(_measure, root=Path(root))
    found = parallel(work, table["path"], what="clips", jobs=jobs, label="counting frames")
    found = found.reindex(columns=["frames", "fps", "error", "note"]).fillna({"note": ""})
    found["error"] = found["error"].str.replace(f"{Path(root)}{os.sep}", "", regex=False)
    return table.assign(**{name: found[name].to_numpy() for name in found})


def _measure(path: str, root: Path) -> dict:
    timing = video.read_timing(root / path)
    return {"frames": len(timing.times), "fps": round(timing.fps, 3), "note": timing.note}
