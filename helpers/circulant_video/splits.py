"""Who trains and who is held out: whole shards, by their names."""

import os
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from helpers.batches import SIDES
from helpers.circulant_video.sources import audioset, youtube8m


def split_shards(files: Iterable[str | os.PathLike], *, rule: str = "paper") -> dict[str, list[Path]]:
    """Who trains and who is held out, file by file.

    Args:
        files: TFRecord files: YouTube-8M's with names of either form, or AudioSet's in their folders, such as
            bal_train/5v.tfrecord, which the folder alone puts on a side.
        rule: "paper" trains on `train*` and on `validate[A-Za-z]*` (0000 to 3223) and holds out the other 620 validate files
            (3224 to 3843); "official" holds out all of them.

    Returns:
        "train", "validation" and "test" -> files in order of number. YouTube-8M's test files have no labels.

    Raises:
        ValueError: a name that is no shard's, or a shard that is there twice.
    """
    first_held_out = len(youtube8m.LETTERS) * 52 if rule == "paper" else 0
    sides: dict[str, list[Path]] = {side: [] for side in SIDES}
    found: dict[tuple, Path] = {}
    for path in map(Path, files):
        match = audioset.NAME.fullmatch(path.as_posix())
        key = match.groups() if match else youtube8m.parse_shard(path)
        if key in found:
            raise ValueError(f"{found[key]} and {path} are the same shard: remove one of them")
        found[key] = path
    for (part, number), path in sorted(found.items()):
        held_out = part == "validate" and number >= first_held_out
        side = "test" if part == "test" else "validation" if held_out else "train"
        sides[audioset.FOLDERS.get(part, side)].append(path)
    return sides


def assign_sides(shards: pd.DataFrame, *, rule: str = "paper") -> pd.DataFrame:
    """The table of shards with the column `split`, the side of each, from its `path`; see `split_shards`."""
    sides = split_shards(shards["path"], rule=rule)
    side_of = {path.as_posix(): side for side, paths in sides.items() for path in paths}
    return shards.assign(split=shards["path"].map(side_of))
