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
SHARES = dict(zip(SIDES, (0.8, 0.1, 0.1), strict=True))


def assign_sides(
    ids: Iterable[str],
    *,
    by: str = "random",
    seed: int = 0,
    authors: Iterable[str] = (),
    subsets: Iterable[str] = (),
    folds: int = 5,
    fold: int = 0,
) -> pd.Series:
    """Put every image on one side, by `SHARES`: "train", "validation" or "test".

    Args:
        ids: of the images, all different; for "run" they end in a number (a suffix such as .jpg may follow).
        by: how.
            "random" shuffles the sorted ids with `seed`. Validation and test take their share rounded (halves up), at least
            1, training the rest: 7 810 -> 6 248, 781, 781.
            "hash" goes by the SHA-256 of the id: an image stays on its side whatever is added; shares come out roughly.
            "author" does so with the author's name, so that nobody's pictures stand on two sides; an image without an
            author goes by its id.
            "run" takes run number `fold`, from 0, of `folds` (see `runs`) for testing, the images behind it (after the last
            run: the first ones) for validation, as many as "random" would take.
            "official" keeps the data set's own subsets.
        seed: of "random".
        authors: one per id, for "author"; None, NaN or "" is unknown.
        subsets: one side per id, for "official".

    Returns:
        Series named `side` with the ids as its index, in the order given.

    Raises:
        ValueError: unknown way, an id twice, more folds than images, a side that stays empty.
    """
    ids = [str(name) for name in ids]
    if by not in WAYS:
        raise ValueError(f"by must be one of {', '.join(WAYS)}. Received: by={by!r}")
    if len({*ids}) < len(ids):
        raise ValueError(f"every image must come once. Received: {len(ids)} ids, {len({*ids})} different")
    if by == "random":
        sides = _shuffled(ids, seed)
    elif by == "official":
        sides = np.array(list(subsets), dtype=object)
    elif by == "run":
        sides = _around_run(ids, runs(ids, folds), fold)
    else:
        keys = ids if by == "hash" else _author_keys(ids, authors)
        bounds = np.cumsum([SHARES["test"], SHARES["validation"], 2.0])  # 2: the last bound is never reached
        sides = np.array(SIDES[::-1])[np.searchsorted(bounds, [_place(key) for key in keys], side="right")]
    if empty := [side for side in SIDES if side not in sides]:
        count = {side: int((sides == side).sum()) for side in SIDES}
        raise ValueError(
            f"by={by!r} leaves {' and '.join(empty)} empty: {count}. Take more images"
            + (", or by='random', which fills every side" if by in ("hash", "author") else "")
        )
    return pd.Series(sides, index=pd.Index(ids, name="image"), name="side", dtype=object)


def _count(side: str, total: int) -> int:
    return max(int(round(SHARES[side] * total, 6) + 0.5), 1)


def _shuffled(ids: list[str], seed: int) -> np.ndarray:
    validation, test = (_count(side, len(ids)) for side in SIDES[1:])
    order = np.argsort(np.array(ids, dtype=object))[stream(seed, "choice").permutation(len(ids))]
    sides = np.full(len(ids), SIDES[0], dtype=object)
    sides[order[len(ids) - validation - test :]] = SIDES[1]
    sides[order[len(ids) - test :]] = SIDES[2]
    return sides


def _place(key: str) -> float:
    """A place in [0, 1) that only the text decides."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6], "big") / 2**48


def _author_keys(ids: list[str], authors: Iterable[str]) -> list[str]:
    return [name if pd.isna(author) or author == "" else str(author) for name, author in zip(ids, authors, strict=True)]


def _around_run(ids: list[str], run: np.ndarray, fold: int) -> np.ndarray:
    sides = np.where(run == fold, SIDES[2], SIDES[0]).astype(object)
    order = np.array(_in_order(ids))
    behind = np.flatnonzero(run[order] == fold)[-1] + 1 + np.arange(_count("validation", len(ids)))
    behind = order[behind % len(ids)]
    sides[behind[sides[behind] != SIDES[2]]] = SIDES[1]
    return sides


def runs(ids: Iterable[str], folds: int) -> np.ndarray:
    """Cut N images into `folds` runs of neighbouring file numbers: (N,) int, the run of each, from 0.

    The ids are sorted by what stands before their last number, then by that number. Cuts belong at k N / folds; each moves
    by up to a quarter of a run to where the numbers jump most (of equal jumps the nearest): there a series is likely to end.

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
    """64 bits that say where a picture, (H, W) or (H, W, 3) RGB uint8, grows brighter to the right.

    Pictures that look alike differ in few of them.
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

    6 is strict enough for large sets (at 10 different views of sea and sky begin to meet).

    Returns:
        Table `first, second, distance`, each pair once, in the order of the hashes.
    """
    names, bits = np.array(list(hashes), dtype=object), np.array([*hashes.values()], np.uint64)
    pairs = [np.empty((3, 0), int)]
    for start in range(0, len(bits), 256):  # blocks bound the memory: 256 x N
        differ = np.bitwise_count(bits[start : start + 256, None] ^ bits[None, start:])
        row, column = np.nonzero(np.triu(differ <= distance, 1))
        pairs.append(np.stack([row + start, column + start, differ[row, column].astype(int)]))
    first, second, apart = np.concatenate(pairs, axis=1)
    return pd.DataFrame({"first": names[first], "second": names[second], "distance": apart})


def leaks(
    sides: pd.Series, *, authors: Iterable[str] | None = None, duplicates: pd.DataFrame | None = None
) -> pd.DataFrame:
    """What stands on two sides of a split: authors, and pictures that look alike.

    Args:
        sides: of `assign_sides`; images whose side is none of the three are left out.
        authors: one per image, in the order of `sides`; None, NaN or "" is unknown.
        duplicates: pairs of `near_duplicates`.

    Returns:
        Rows `kind, side, against, found, images, share`: `found` authors (or pairs) have pictures on both sides, so that
        `images` of the first side, a `share` of it, have a companion on the other.
    """
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
    """Test pictures with a companion in training, by kind: one by the same author (if known), one that looks alike.

    `folder` holds the pictures as `<image>.jpg`.
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
    """The same split without the pictures that leak, pairs of `near_duplicates`.

    Side "" for those of training that look like one of validation or test, and of validation that look like one of test.
    """
    sides = sides.copy()
    pairs = [*zip(duplicates["first"], duplicates["second"], strict=True)]
    for side, kept in (("validation", ("test",)), ("train", ("validation", "test"))):
        for name, twin in pairs + [pair[::-1] for pair in pairs]:
            if sides.get(name) == side and sides.get(twin) in kept:
                sides[name] = ""
    return sides
