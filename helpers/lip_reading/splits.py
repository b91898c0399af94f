"""Which clips are trained on, watched and tested: by speaker, at random, as the folders say, or in parts of a cross-validation."""

from itertools import pairwise

import numpy as np
import pandas as pd

from helpers.batches import SIDES, stream


def choose_rule(table: pd.DataFrame, rule: str, *, folds: int | None = None) -> str:
    """What `auto` comes to: what the folders say if they say it of every clip, else by speaker if all are known, else at random.

    Other rules stay. A cross-validation (`folds`) cannot follow the folders.
    """
    if rule != "auto":
        return rule
    if folds is None and (table["split"] != "").all() and {"train", "test"} <= set(table["split"]):
        return "given"
    return "speaker" if (table["speaker"] != "").all() and table["speaker"].nunique() > 2 else "random"


def assign_sides(
    table: pd.DataFrame, *, rule: str, validation_share: float, test_share: float, folds: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """The side of every clip, once or for each part of a cross-validation.

    By speaker, a speaker is on one side with all clips. At random, each word is spread over the sides in the same shares. As
    given, the folders decide; where they name no clips to watch, those come from the training clips.

    Args:
        table: columns label, speaker and split.
        rule: speaker, random or given.
        validation_share, test_share: of speakers or clips; at least one of each. With `folds` the parts decide what is tested.
        folds: every clip is tested once, in one of so many parts.

    Returns:
        Text columns `split`, or `split1`, `split2`, ... with `folds`; index as `table`'s.

    Raises:
        ValueError: speakers that are not known, fewer speakers or clips than sides or parts, or a word without training clips.
    """
    if rule == "given":
        sides = pd.DataFrame({"split": _given(table, validation_share, seed)}, index=table.index)
    else:
        if rule == "speaker":
            units = table["speaker"]
            if (units == "").any():
                raise ValueError(
                    f"split_by: received 'speaker', but the folders name no speaker of {(units == '').sum()} clips; "
                    "allowed: random, given, or a layout with speakers"
                )
            order = stream(seed, "choice").permutation(np.array(sorted(units.unique()), dtype=object))
        else:
            units, order = pd.Series(np.arange(len(table)), index=table.index), _order_clips(table["label"], seed)
        parts = _blocks(len(order), test_share, folds, rule)
        watched = _count(len(order), validation_share)
        columns = {}
        for number, (first, last) in enumerate(parts, 1):
            turned = np.roll(order, -first)  # what is tested comes first, what is watched next
            counts = [last - first, watched, len(order) - watched - (last - first)]
            names = np.repeat(["test", "validation", "train"], counts)
            columns["split" if folds is None else f"split{number}"] = units.map(dict(zip(turned, names, strict=True)))
        sides = pd.DataFrame(columns, index=table.index)
    _require_training(table["label"], sides)
    return sides


def shared_speakers(table: pd.DataFrame, sides: pd.Series) -> list[str]:
    """Speakers of test clips who are trained on as well."""
    test, train = (set(table.loc[sides == side, "speaker"]) - {""} for side in ("test", "train"))
    return sorted(test & train)


def _count(total: int, share: float) -> int:
    return max(1, round(total * share))


def _blocks(total: int, share: float, folds: int | None, rule: str) -> list[tuple[int, int]]:
    """Places, in the order of speakers or clips, of what is tested."""
    parts = folds or 1
    if total < max(3, parts + (folds is not None)):
        what = "speakers" if rule == "speaker" else "clips"
        raise ValueError(f"received {total} {what} for {', '.join(SIDES)} in {parts} part(s); take more or fewer folds")
    if folds is None:
        return [(0, _count(total, share))]
    return list(pairwise(round(total * part / folds) for part in range(folds + 1)))


def _order_clips(labels: pd.Series, seed: int) -> np.ndarray:
    """Clip numbers in an order of which every stretch holds the words in about the same shares."""
    rng = stream(seed, "choice")
    keys = np.empty(len(labels))
    for _, rows in sorted(labels.reset_index(drop=True).groupby(labels.to_numpy()).indices.items()):
        keys[rows] = (rng.permutation(len(rows)) + rng.random()) / len(rows)
    return np.argsort(keys, kind="stable")


def _given(table: pd.DataFrame, share: float, seed: int) -> np.ndarray:
    sides = table["split"].to_numpy(dtype=object).copy()
    missing = {"train", "test"} - set(sides)
    if missing or (sides == "").any():
        raise ValueError(
            f"split_by: received 'given', but the folders name no clips for {', '.join(sorted(missing)) or 'every clip'}; "
            "allowed: folders train, test (and val), or split_by: speaker, random"
        )
    if "validation" not in sides:
        rows = np.flatnonzero(sides == "train")
        order = _order_clips(table["label"].iloc[rows], seed)
        sides[rows[order[: _count(len(rows), share)]]] = "validation"
    return sides


def _require_training(labels: pd.Series, sides: pd.DataFrame) -> None:
    for column in sides:
        lacking = sorted(set(labels) - set(labels[sides[column] == "train"]))
        if lacking:
            some = ", ".join(map(str, lacking[:5]))
            raise ValueError(f"{column}: no clip to train on of {some}; add clips, or leave it out")


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns of `assign_sides` in a table, in order: one, or one a part."""
    return [name for name in table.columns if name == "split" or name.removeprefix("split").isdigit()]
