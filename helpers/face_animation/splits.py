"""Which clips are for what: test and training, exclusive groups by a seed, sides, and pairs of clips to animate."""

import hashlib
import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.batches import SIDES, stream
from helpers.face_animation.config import FaceAnimationConfig as Defaults
from helpers.workspace import disk

NO_GROUP = -1  # of clips of the test, and of those that drop_remainder leaves over
COPY = re.compile(r" \(\d+\)(?=(\.[^.]*)?$)")  # what Google Drive appends to the name of a second copy


def person_of(name: str) -> str:
    """Who is seen: what stands before the first "#" of a clip's name."""
    return name.split("#", 1)[0]


def drop_copies(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Sorted unique names without Drive's copies, such as "clip (1).mp4" beside "clip.mp4", and the names dropped.

    A copy whose original is missing stays: it is the clip.
    """
    kept: dict[str, str] = {}
    unique = set(names)
    for name in sorted(unique, key=lambda name: (name != COPY.sub("", name), name)):
        kept.setdefault(COPY.sub("", name), name)
    return sorted(kept.values()), sorted(unique - set(kept.values()))


def split_names(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Train and test names; whole persons until the test has a fifth, or single clips where there is one person only."""
    names = sorted(names)
    units = sorted({person_of(name) for name in names})
    key = person_of if len(units) > 1 else str
    units = units if len(units) > 1 else names
    test: list[str] = []
    for index in stream(0, "choice").permutation(len(units))[:-1]:
        if len(test) >= 0.2 * len(names):
            break
        test += [name for name in names if key(name) == units[index]]
    return sorted(set(names) - set(test)), sorted(test)


def sample_groups(
    names: Iterable[str], group_size: int | None = None, n_groups: int | None = None, seed: int = Defaults.seed, *,
    by_person: bool = False, drop_remainder: bool = False,
) -> list[list[str]]:  # fmt: skip
    """Draw exclusive groups of clips; the same for every order of `names`, on every machine.

    Args:
        names: of clips; doubles and Drive's copies are taken once, and told of in one printed line.
        group_size: clips in a group; the last one is shorter where it does not come out even.
        n_groups: instead, how many groups; their sizes differ by one at most.
        seed: of a generator of its own.
        by_person: no person is in two groups, so sizes are only about equal.
        drop_remainder: all groups of one size, what is left over in none.

    Returns:
        The groups, each in drawn order.

    Raises:
        ValueError: not exactly one of `group_size` and `n_groups`, or there are too few names or persons for it.
    """
    kept, copies = drop_copies(names)
    if copies:
        print(f"{len(copies)} name(s) are second copies and left out, such as {copies[0]!r}")
    _check_sizes(group_size, n_groups, len(kept), by_person)
    generator = np.random.default_rng(seed)  # no named stream: groups drawn with this seed have been published
    if by_person:
        groups = _by_person(kept, n_groups or max(1, round(len(kept) / group_size)), generator)
        group_size = min(map(len, groups))
    else:
        drawn = [kept[index] for index in generator.permutation(len(kept))]
        if n_groups:
            ends = [len(drawn) * place // n_groups for place in range(n_groups + 1)]
            groups = [drawn[start:end] for start, end in itertools.pairwise(ends)]
            group_size = len(drawn) // n_groups
        else:
            groups = [drawn[start : start + group_size] for start in range(0, len(drawn), group_size)]
    return [group[:group_size] for group in groups if len(group) >= group_size] if drop_remainder else groups


def _check_sizes(group_size: int | None, n_groups: int | None, count: int, by_person: bool) -> None:
    given = {"group_size": group_size, "n_groups": n_groups}
    values = [(name, value) for name, value in given.items() if value is not None]
    if len(values) != 1:
        raise ValueError(f"exactly one of group_size and n_groups is needed. Received: {given}")
    name, value = values[0]
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 1 <= value <= count:
        raise ValueError(f"{name}: received {value!r}; allowed: 1 to {count}, the number of different clips")


def _by_person(names: list[str], n_groups: int, generator: np.random.Generator) -> list[list[str]]:
    """Persons in drawn order, each to the group that is smallest so far."""
    clips = defaultdict(list)
    for name in names:
        clips[person_of(name)].append(name)
    if n_groups > len(clips):
        raise ValueError(
            f"by_person: {n_groups} groups need as many persons, there are {len(clips)}: ask for fewer groups"
        )
    persons = sorted(clips)
    groups: list[list[str]] = [[] for _ in range(n_groups)]
    for index in generator.permutation(len(persons)):
        min(groups, key=len).extend(clips[persons[index]])
    return groups


def _hash(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def write_groups(
    path: str | os.PathLike, groups: Sequence[Sequence[str]], *, seed: int, by_person: bool = False
) -> None:
    """Write groups as JSON: the names themselves, the seed, how many, and the sha256 of the sorted names."""
    names = [name for group in groups for name in group]
    about = {"seed": seed, "by_person": by_person, "n": len(names), "sha256": _hash(names)}
    disk.write_json(path, about | {"groups": [list(group) for group in groups]})


def read_groups(path: str | os.PathLike, *, names: Iterable[str] | None = None) -> list[list[str]]:
    """Read what `write_groups` wrote.

    Args:
        names: the clips that there are; a group that names another is an error.

    Raises:
        ValueError: the file was changed, groups share a clip, or a clip is not among `names`.
    """
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    groups = found["groups"]
    members = [name for group in groups for name in group]
    if _hash(members) != found["sha256"] or len(members) != found["n"]:
        raise ValueError(f"{Path(path).name}: the names are not those that were written (sha256 differs): draw again")
    if len(set(members)) != len(members):
        raise ValueError(f"{Path(path).name}: a clip is in two groups; expected exclusive groups: draw again")
    gone = [] if names is None else sorted(set(members) - set(names))
    if gone:
        raise ValueError(
            f"{Path(path).name}: {len(gone)} clips are not there any more, such as {gone[0]!r}: draw again"
        )
    return groups


def read_pairs(path: str | os.PathLike, *, names: Iterable[str], limit: int) -> pd.DataFrame:
    """The first `limit` rows of a CSV of pairs to animate, columns source and driving, that have both clips among `names`.

    The original's columns distance and frame are not used.

    Raises:
        ValueError: a column is missing, or all pairs are of other clips.
    """
    path = Path(path).expanduser()
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := {"source", "driving"} - set(table.columns):
        raise ValueError(f"{path.name}: no column {', '.join(sorted(missing))}; it has: {', '.join(table.columns)}")
    known = set(names)
    table = table[table["source"].isin(known) & table["driving"].isin(known)]
    if table.empty:
        first = min(known, default="none")
        raise ValueError(
            f"{path.name}: not one pair of clips that are there; expected clips of the test, such as {first!r}"
        )
    return table[["source", "driving"]].head(limit).reset_index(drop=True)


def choose_pairs(names: Sequence[str], count: int, *, seed: int) -> pd.DataFrame:
    """Up to `count` of all ordered pairs of test clips, source and driving; only those of two persons, where there are two."""
    total, persons = len(names), [person_of(name) for name in names]
    drawn = np.random.RandomState(seed).permutation(
        total**2
    )  # as the original draws; numbers, for as text they fill memory
    if len(set(persons)) > 1:
        drawn = (index for index in drawn if persons[index % total] != persons[index // total])
    pairs = [(names[index % total], names[index // total]) for index in itertools.islice(drawn, count)]
    return pd.DataFrame(pairs, columns=["source", "driving"])


def assign_sides(clips: pd.DataFrame, groups: Sequence[Sequence[str]], *, chosen: int) -> pd.DataFrame:
    """Tell each clip (rows with clip and partition) its group and its side; the group `chosen` is trained on.

    Where it is the only group, the person of the clip drawn last is not trained on but watched, if there is another one.

    Returns:
        The clips of the training, then those of the test, with two columns more: group, `NO_GROUP` where it is in none; side,
        of `SIDES`: "train" is the chosen group, "validation" are the others, "test" the test; "" for a clip left over.
    """
    member = {name: number for number, group in enumerate(groups) for name in group}
    train, test = (clips[clips["partition"] == side] for side in ("train", "test"))
    number = train["clip"].map(member).fillna(NO_GROUP).astype(int)
    trained = number == chosen
    if len(groups) == 1:
        others = trained & (train["clip"].map(person_of) != person_of(groups[0][-1]))
        trained = others if others.any() else trained
    side = np.select([trained, number != NO_GROUP], ["train", "validation"], "")
    parts = [train.assign(group=number, side=side), test.assign(group=NO_GROUP, side="test")]
    return pd.concat(parts, ignore_index=True)


def clips_on(clips: pd.DataFrame, side: str) -> pd.DataFrame:
    """The rows of `assign_sides` on a side; where only one group of one person is there the test is the validation too."""
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(SIDES)}. Received: side={side!r}")
    if side == "validation" and not (clips["side"] == side).any():
        side = "test"
    return clips[clips["side"] == side].reset_index(drop=True)
