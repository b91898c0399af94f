"""Who trains, who watches, who is tested: splits by the official lists, by groups or by clips, and a check for leaks."""

import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.batches import stream
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.sources import ucf101

LISTS = "ucfTrainTestlist"  # folder of the lists, beside the drawn clips


def official_lists(config: TemporalCoherenceConfig, built: Path) -> tuple[list[str], ...]:
    """Training and test clips of the config's fold: of the data set drawn into the folder `built`, or of UCF101 itself."""
    if config.source == "mini":
        return ucf101.read_lists(built / LISTS, 1)
    return ucf101.official_lists(config.fold)


def assign_sides(
    clips: pd.DataFrame, *, by: str, seed: int = 0, test_share: float, validation_groups: int, test_room: str = "",
    lists: tuple[list[str], ...] | None = None, last_group: int | None = None,
) -> pd.Series:  # fmt: skip
    """Put every clip on one side: "train", "validation" or "test"; "" for clips that are in neither official list.

    Args:
        clips: table of `find_clips`.
        by: "official" takes `lists`; "group" and "clip" draw `test_share` of each class's groups or clips for testing, at
            least one; "room" tests the clips with `test_room` in their path. Validation takes the last `validation_groups` training
            groups (or clips) of each class, whole.
        lists: training and test clips of the official fold.
        last_group: the last that validation may take; those with a higher number are for training. None: any.

    Raises:
        ValueError: a class has too few groups (or clips) for the sides, or no clip of the room.
    """
    unit = clips["video"] if by == "clip" else clips["group"]
    side = pd.Series("train", index=clips.index)
    if by == "official":
        train, test = ({ucf101.clip_key(name) for name in names} for names in lists)
        keys = clips["video"].map(ucf101.clip_key)
        side = pd.Series(np.where(keys.isin(test), "test", np.where(keys.isin(train), "train", "")), index=clips.index)
    for name, rows in clips.groupby("class"):
        if by == "room":
            side[rows.index[rows["video"].str.contains(test_room, regex=False)]] = "test"
        elif by != "official":
            units = stream(seed, "choice", zlib.crc32(name.encode())).permutation(sorted(unit[rows.index].unique()))
            chosen = units[: max(1, round(test_share * len(units)))]
            side[rows.index[unit[rows.index].isin(chosen)]] = "test"
        training = rows.index[(side[rows.index] == "train") & (rows["group"] <= (last_group or rows["group"].max()))]
        units = sorted(unit[training].unique())
        if len(units) <= validation_groups:
            kind = "clips" if by == "clip" else "groups"
            raise ValueError(
                f"class {name}: {len(units)} {kind} are left for training, and validation takes {validation_groups}; expected "
                f"more. Lower validation_groups{'' if by == 'clip' else ', or choose split_by: clip'}"
            )
        side[training[unit[training].isin(units[len(units) - validation_groups :])]] = "validation"
    if by == "room" and not (side == "test").any():
        raise ValueError(
            f"test_room: received {test_room!r}; expected a part of a path such as {clips['video'].iloc[0]}"
        )
    return side


def check_leaks(clips: pd.DataFrame, *, by: str) -> list[str]:
    """Groups with clips on more than one side, as "Class g01", where the split was made by clips on purpose; else none.

    Raises:
        ValueError: both sides share groups: same people, same place, so a test score would measure memory.
    """
    sides = clips[clips["split"] != ""].groupby(["class", "group"])["split"].nunique()
    leaks = [f"{name} g{group:02d}" for name, group in sides.index[sides > 1]]
    if leaks and by != "clip":
        raise ValueError(f"split_by {by}: {len(leaks)} groups are on both sides of the split: {', '.join(leaks[:5])}")
    return leaks
