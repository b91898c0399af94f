"""Who trains, who watches, who is tested, decided over images and never over boxes; and a look for what leaks across.

Photos of one harbour, one photographer or one minute look alike. A detector that has seen the twin of a test photo is
tested for its memory: `leaks` counts such photos, `without_twins` takes them out of the training.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers.batches import SIDES, stream

WAYS = ("random", "hash", "author", "run", "official")


def assign_sides(
    ids: Iterable[str],
    *,
    by: str = "random",
    shares: Sequence[float] = (0.8, 0.1, 0.1),
    seed: int = 0,
    authors: Iterable[str] | None = None,
    subsets: Iterable[str] | None = None,
    folds: int | None = None,
    fold: int | None = None,
) -> pd.Series:
    """Put every image on one side: "train", "validation" or "test".

    Args:
        ids: of the images, all different; for "run" they end in a number (a suffix such as .jpg may follow).
        by: how.
            "random" shuffles the sorted ids with `seed`. Validation and test take their share of the images rounded to the
            nearest whole (halves up), at least 1 if the share is not 0; training takes the rest: 7 810 -> 6 248, 781, 781.
            "hash" goes by the SHA-256 of the id: an image stays on its side whatever is added; shares come out roughly.
            "author" does so with the author's name, so that nobody's pictures stand on two sides; an image without an
            author goes by its id.
            "run" cuts the ids, in order of their numbers, into `folds` runs (see `runs`). Run number `fold` is for testing,
            the images behind it (after the last run: the first ones) for validation, as many as "random" would take.
            "official" keeps the data set's own subsets.
        shares: of training, validation, test; they sum to 1. "run" uses the second only.
        seed: of "random".
        authors: one per id, for "author"; None, NaN or "" is unknown.
        subsets: one side per id, for "official".
        folds, fold: for "run", which needs both; `fold` counts from 0.

    Returns:
        Series named `side` with the ids as its index, in the order given.

    Raises:
        ValueError: unknown way, shares that do not sum to 1, an id twice, no `authors`, no `folds`, a side that stays empty.
    """
    ids = [str(name) for name in ids]
    if by not in WAYS or len(shares) != 3 or min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
        raise ValueError(
            f"by must be one of {', '.join(WAYS)}, and shares three numbers that sum to 1. "
            f"Received: by={by!r}, shares={shares!r}"
        )
    if len({*ids}) < len(ids):
        raise ValueError(f"every image must come once. Received: {len(ids)} ids, {len({*ids})} different")
    if by == "random":
        sides = _shuffled(ids, shares, seed)
    elif by == "official":
        sides = np.array([] if subsets is None else list(subsets), dtype=object)
    elif by == "run":
        if folds is None or fold is None:
            raise ValueError(f"by='run' needs folds and fold. Received: folds={folds}, fold={fold}")
        sides = _around_run(ids, runs(ids, folds), fold, _count(shares[1], len(ids)))
    else:
        keys = ids if by == "hash" else _author_keys(ids, authors)
        bounds = np.cumsum([shares[2], shares[1], 2.0])  # test lowest; 2: the last bound is never reached
        sides = np.array(SIDES[::-1])[np.searchsorted(bounds, [_place(key) for key in keys], side="right")]
    _check_full(sides, shares, by)
    return pd.Series(sides, index=pd.Index(ids, name="image"), name="side", dtype=object)


def _count(share: float, total: int) -> int:
    return max(int(round(share * total, 6) + 0.5), int(share > 0))


def _shuffled(ids: list[str], shares: Sequence[float], seed: int) -> np.ndarray:
    validation, test = (_count(share, len(ids)) for share in shares[1:])
    order = np.argsort(np.array(ids, dtype=object))[stream(seed, "choice").permutation(len(ids))]
    sides = np.full(len(ids), SIDES[0], dtype=object)
    sides[order[len(ids) - validation - test :]] = SIDES[1]
    sides[order[len(ids) - test :]] = SIDES[2]
    return sides


def _place(key: str) -> float:
    """A place in [0, 1) that only the text decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def _author_keys(ids: list[str], authors: Iterable[str] | None) -> list[str]:
    authors = [] if authors is None else list(authors)
    if len(authors) != len(ids):
        raise ValueError(f"by='author' needs one author per image. Received: {len(ids)} ids, {len(authors)} authors")
    return [name if pd.isna(author) or author == "" else str(author) for name, author in zip(ids, authors, strict=True)]


def _around_run(ids: list[str], run: np.ndarray, fold: int, validation: int) -> np.ndarray:
    if not 0 <= fold <= run.max():
        raise ValueError(f"fold must be from 0 to {run.max()}. Received: fold={fold}")
    sides = np.where(run == fold, SIDES[2], SIDES[0]).astype(object)
    order = np.array(_in_order(ids))
    behind = np.flatnonzero(run[order] == fold)[-1] + 1 + np.arange(validation)
    behind = order[behind % len(ids)]
    sides[behind[sides[behind] != SIDES[2]]] = SIDES[1]
    return sides


def _check_full(sides: np.ndarray, shares: Sequence[float], by: str) -> None:
    wanted = [side for side, share in zip(SIDES, shares, strict=True) if share > 0]
    empty = [side for side in wanted if side not in sides]
    if empty:
        count = {side: int((sides == side).sum()) for side in SIDES}
        raise ValueError(
            f"by={by!r} leaves {' and '.join(empty)} empty: {count}. Take more images or larger shares"
            + (", or by='random', which fills every side" if by in ("hash", "author") else "")
        )


def runs(ids: Iterable[str], folds: int) -> np.ndarray:
    """Cut images into runs of neighbouring file numbers.

    The ids are sorted by what stands before their last number, then by that number. Cuts belong at k N / folds; each moves
    by up to a quarter of a run to where the numbers jump most (of equal jumps the nearest), for there a series is likely
    to end.

    Args:
        ids: of N images, in any order.
        folds: number of runs, from 2 to N.

    Returns:
        (N,) int, the run of each, from 0 to folds - 1.

    Raises:
        ValueError: an id without a number, more folds than images.
    """
    ids = list(ids)
    if not 2 <= folds <= len(ids):
        raise ValueError(f"folds must be from 2 to the number of images, {len(ids)}. Received: folds={folds}")
    order = _in_order(ids)
    keys = [_number(ids[index]) for index in order]
    jumps = [np.inf if a[0] != b[0] else b[1] - a[1] for a, b in pairwise(keys)]  # jumps[i - 1] lies before image i
    length, cuts = len(ids) / folds, []
    for ideal in length * np.arange(1, folds):
        near = np.arange(np.ceil(ideal - length / 4), np.floor(ideal + length / 4) + 1).astype(int)
        near = near if len(near) else np.array([round(ideal)])
        cuts.append(max(near, key=lambda cut: (jumps[cut - 1], -abs(cut - ideal))))
    run = np.empty(len(ids), int)
    run[order] = np.searchsorted(cuts, np.arange(len(ids)), side="right")
    return run


def _number(name: str) -> tuple[str, int]:
    found = re.search(r"(\d+)\D*$", name)
    if not found:
        raise ValueError(f"runs need ids that end in a number, such as harbour_00017. Received: {name!r}")
    return name[: found.start()], int(found[1])


def _in_order(ids: Sequence[str]) -> list[int]:
    return sorted(range(len(ids)), key=lambda index: _number(ids[index]))


def difference_hash(picture: np.ndarray) -> int:
    """64 bits that say where a picture grows brighter to the right: pictures that look alike differ in few of them.

    Args:
        picture: (H, W) or (H, W, 3) RGB uint8.
    """
    grey = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def hash_files(paths: Mapping[str, str | Path]) -> dict[str, int]:
    """`difference_hash` of image files: id -> path in, id -> hash out.

    Raises:
        ValueError: a file that is not a picture.
    """

    def read(path: str | Path) -> int:
        data = np.frombuffer(Path(path).read_bytes(), np.uint8)
        grey = cv2.imdecode(data, cv2.IMREAD_REDUCED_GRAYSCALE_2) if len(data) else None  # half size: twice as fast
        if grey is None:
            raise ValueError(f"{Path(path).name} is not a picture that OpenCV reads: delete it and fetch it again")
        return difference_hash(grey)

    with ThreadPoolExecutor() as pool:  # OpenCV decodes without Python's lock
        return dict(zip(paths, pool.map(read, paths.values()), strict=True))


def near_duplicates(hashes: Mapping[str, int], *, distance: int = 6) -> pd.DataFrame:
    """Pairs of images that look alike: hashes that differ in at most `distance` of 64 bits.

    6 is strict enough for large sets (at 10 different views of sea and sky begin to meet); pictures of one fixed camera
    in another light can be further apart.

    Returns:
        Table `first, second, distance`, each pair once, in the order of the hashes.
    """
    names, bits = list(hashes), np.array([*hashes.values()], np.uint64)
    rows, columns, apart = [], [], []
    for start in range(0, len(bits), 256):  # blocks bound the memory: 256 x N
        differ = np.bitwise_count(bits[start : start + 256, None] ^ bits[None, start:])
        row, column = np.nonzero(np.triu(differ <= distance, 1))
        rows.append(row + start)
        columns.append(column + start)
        apart.append(differ[row, column].astype(int))
    if not names:
        return pd.DataFrame({"first": [], "second": [], "distance": []})
    first, second = (np.array(names, dtype=object)[np.concatenate(part)] for part in (rows, columns))
    return pd.DataFrame({"first": first, "second": second, "distance": np.concatenate(apart)})


def leaks(
    sides: pd.Series, *, authors: Iterable[str] | None = None, duplicates: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What stands on two sides of a split: authors, and pictures that look alike.

    Args:
        sides: of `assign_sides`; images whose side is none of the three are left out.
        authors: one per image, in the order of `sides`; None, NaN or "" is unknown.
        duplicates: pairs of `near_duplicates`.

    Returns:
        Two rows or more, `kind, side, against, found, images, share`: `found` authors (or pairs) have pictures on both
        sides, so that `images` of the first side, a `share` of it, have a companion on the other. Read the row "test"
        against "train" first.

    Raises:
        ValueError: neither authors nor duplicates; another number of authors than of images.
    """
    if authors is None and duplicates is None:
        raise ValueError("leaks needs authors=, duplicates=, or both. Received: neither")
    rows = []
    for against, side in combinations(SIDES, 2):
        here, there = (sides.index[sides == name] for name in (side, against))
        if authors is not None:
            rows.append(("author", side, against, *_shared_authors(pd.Series(list(authors), sides.index), here, there)))
        if duplicates is not None:
            rows.append(("near-duplicate", side, against, *_twins(duplicates, here, there)))
    table = pd.DataFrame(rows, columns=["kind", "side", "against", "found", "images"])
    table["share"] = table["images"] / table["side"].map((sides.value_counts()).clip(lower=1)).fillna(1)
    return table.sort_values("kind", kind="stable", ignore_index=True)


def leaks_into_test(pictures: pd.DataFrame, sides: pd.Series, folder: Path) -> dict[str, int]:
    """Test pictures with a companion in training, by kind: one by the same author, one that looks alike.

    Args:
        pictures: image, and author if it is known.
        sides: of `assign_sides`.
        folder: of the pictures, called `<image>.jpg`.
    """
    hashes = hash_files({image: folder / f"{image}.jpg" for image in pictures["image"]})
    found = leaks(sides, authors=pictures.get("author"), duplicates=near_duplicates(hashes))
    rows = found[(found["side"] == "test") & (found["against"] == "train")]
    return rows.set_index("kind")["images"].to_dict()


def _shared_authors(authors: pd.Series, here: pd.Index, there: pd.Index) -> tuple[int, int]:
    known = authors[authors.notna() & (authors != "")]
    mine, theirs = (known[known.index.isin(names)] for names in (here, there))
    shared = mine[mine.isin(theirs)]
    return shared.nunique(), len(shared)


def _twins(duplicates: pd.DataFrame, here: pd.Index, there: pd.Index) -> tuple[int, int]:
    """Number of pairs across, and of images `here` in them."""
    first, second = (duplicates[column] for column in ("first", "second"))
    forward, backward = first.isin(here) & second.isin(there), second.isin(here) & first.isin(there)
    return int((forward | backward).sum()), len({*first[forward], *second[backward]})


def without_twins(sides: pd.Series, duplicates: pd.DataFrame) -> pd.Series:
    """The same split without the pictures that leak: side "" for those of training that look like one of validation or
    test, and for those of validation that look like one of test.

    Args:
        sides: of `assign_sides`.
        duplicates: pairs of `near_duplicates`.
    """
    sides = sides.copy()
    pairs = [*zip(duplicates["first"], duplicates["second"], strict=True)]
    for side, kept in (("validation", ("test",)), ("train", ("validation", "test"))):
        for pair in pairs:
            for name, twin in (pair, pair[::-1]):
                if sides.get(name) == side and sides.get(twin) in kept:
                    sides[name] = ""
    return sides
