"""Batches of frames, or of the differences of two: pairs, quadruplets, views and labelled frames, from (seed, step) alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from helpers import batches, pictures
from helpers.temporal_coherence.augment import augment_frame

CACHE_BYTES = 512 * 2**20
MINUS, BRIGHTER = "//", 4  # between the paths of two frames (in none of them): what changed, dark but for this factor
Paths = list[list[str]]  # of the views of each example


class Frames:
    """Reads frames below a folder; keeps them if `count` different ones of `size` pixels a side fit into `CACHE_BYTES`."""

    def __init__(self, folder: Path, *, count: int, size: int) -> None:
        self.folder = Path(folder)
        self.cache: dict[str, np.ndarray] | None = {} if count * size * size * 3 <= CACHE_BYTES else None

    def read(self, path: str) -> np.ndarray:
        """One frame, (size, size, 3) uint8 RGB."""
        if self.cache is not None and path in self.cache:
            return self.cache[path]
        if MINUS in path:
            frame = cv2.convertScaleAbs(cv2.absdiff(*map(self.read, path.split(MINUS))), alpha=BRIGHTER)
        else:
            frame = pictures.read_picture(self.folder / path)
        if self.cache is not None:
            self.cache[path] = frame
        return frame

    def stack(self, paths: list[str]) -> np.ndarray:
        """Frames as network input: (N, size, size, 3) float32 in [0, 1]."""
        return np.divide(np.stack([self.read(path) for path in paths]), 255.0, dtype=np.float32)


def see(inputs: str, pairs: pd.DataFrame) -> pd.DataFrame:
    """The table of pairs for `inputs` "frames" (as it is) or "differences": an item is then what changed within one pair.

    Pairs without a partner have no difference. The partner of a difference is the next one of its clip.
    """
    if inputs == "frames":
        return pairs
    pairs = pairs[pairs["path_next"] != ""].reset_index(drop=True)
    pairs["path_query"] += MINUS + pairs["path_next"]
    pairs["path_next"] = pairs.groupby("video")["path_query"].shift(-1).fillna("")
    return pairs


class Batches(batches.Batches):
    """What the kinds of batches share: checks, reading of frames, frames of other videos.

    Args:
        pairs: rows of the table of pairs to draw from.
        batch_size: examples per batch; fewer if there are fewer pairs.
        least_videos: an error comes if the rows are of fewer videos.
    """

    augment: Sequence[str] = ()

    def __init__(
        self, pairs: pd.DataFrame, frames: Frames, *, batch_size: int, seed: int, least_videos: int = 1
    ) -> None:
        self.pairs = pairs.reset_index(drop=True)
        self.frames = frames
        self.videos = {name: np.array(rows) for name, rows in self.pairs.groupby("video").indices.items()}
        self.names = sorted(self.videos)
        if len(self.names) < least_videos:
            raise ValueError(
                f"{type(self).__name__} needs pairs of at least {least_videos} videos. Received: {len(self.names)}; "
                "use more clips, or longer ones"
            )
        count = len(self.pairs)
        super().__init__(count, batch_size=min(batch_size, count), seed=seed, items="pairs")

    def choose(self, step: int, generator: np.random.Generator) -> tuple[Paths, np.ndarray]:
        """Paths (B, V) of one batch and y (B,). The kinds of batches write it."""
        raise NotImplementedError

    def change(self, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """What happens to the frames (B, V, size, size, 3) before the network sees them: each changed on its own."""
        for place in np.ndindex(x.shape[:2]) if self.augment else ():
            x[place] = augment_frame(x[place], generator, self.augment)
        return x

    def paths(self, step: int) -> tuple[Paths, np.ndarray]:
        """Paths (B, V) of one batch and y (B,)."""
        return self.choose(step, self.stream("changes", step))

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, V, size, size, 3) float32 in [0, 1] and y (B,)."""
        generator = self.stream("changes", step)
        paths, y = self.choose(step, generator)
        flat = self.frames.stack([path for views in paths for path in views])
        return self.change(flat.reshape(len(paths), -1, *flat.shape[1:]), generator), y

    def other_video(self, row: dict, generator: np.random.Generator, *, other_group: bool = False) -> str:
        """A query frame of another video of the same table, uniform over videos."""
        while True:
            name = self.names[generator.integers(len(self.names))]
            candidate = self.pairs.iloc[generator.choice(self.videos[name])]
            same_group = candidate["group"] == row["group"] and candidate["class"] == row["class"]
            if name != row["video"] and not (other_group and same_group):
                return candidate["path_query"]


class PairBatches(Batches):
    """Pairs (query, next) with y = 1 and (query, frame of another video) with y = 0.

    Args:
        negatives: "clean" draws the partner of a negative pair from another video of the same table, "other_group" from
            another group, "seed" as the thesis did: random class, random video, random file of `everything`, so that test
            clips, the anchor's class and even its own video come up.
        everything: all pairs of all splits, for "seed".
        **options: see `Batches`.
    """

    def __init__(
        self, pairs: pd.DataFrame, frames: Frames, *, negatives: str, everything: pd.DataFrame | None = None,
        **options: Any,
    ) -> None:  # fmt: skip
        super().__init__(pairs, frames, least_videos=1 if negatives == "seed" else 2, **options)
        self.negatives = negatives
        if negatives == "other_group" and len(self.pairs.groupby(["class", "group"])) < 2:
            raise ValueError("negatives: other_group needs at least 2 groups. Received: 1")
        self.tree: dict[int, dict[str, list[str]]] = {}
        for row in everything.itertuples() if negatives == "seed" else ():
            files = self.tree.setdefault(row.label, {}).setdefault(row.video, [])
            files += [row.path_query] + ([row.path_next] if row.path_next else [])

    def choose(self, step: int, generator: np.random.Generator) -> tuple[Paths, np.ndarray]:
        """Paths (B, 2) and y (B,) float32, 1 = same."""
        rows = self.pairs.iloc[self.rows(step)].to_dict("records")
        paths = [[row["path_query"], row["path_next"] or self.partner(row, generator)] for row in rows]
        return paths, np.array([row["path_next"] != "" for row in rows], np.float32)

    def partner(self, row: dict, generator: np.random.Generator) -> str:
        """The second frame of a negative pair."""
        if self.negatives != "seed":
            return self.other_video(row, generator, other_group=self.negatives == "other_group")
        videos = self.tree[sorted(self.tree)[generator.integers(len(self.tree))]]
        files = videos[sorted(videos)[generator.integers(len(videos))]]
        return files[generator.integers(len(files))]


class QuadrupletBatches(Batches):
    """Anchor, consecutive frame, another frame of the same video, frame of another video; y is all zeros."""

    def __init__(self, pairs: pd.DataFrame, frames: Frames, **options: Any) -> None:
        super().__init__(pairs[pairs["path_next"] != ""], frames, least_videos=2, **options)

    def choose(self, step: int, generator: np.random.Generator) -> tuple[Paths, np.ndarray]:
        """Paths (B, 4) and y (B,) zeros."""
        paths = []
        for row in self.pairs.iloc[self.rows(step)].to_dict("records"):
            own = self.pairs.iloc[generator.choice(self.videos[row["video"]])]["path_query"]
            paths.append([row["path_query"], row["path_next"], own, self.other_video(row, generator)])
        return paths, np.zeros(len(paths), np.float32)


class ViewBatches(Batches):
    """Pairs that belong together, each of another video, for losses that take the rest of the batch as negatives.

    Args:
        positives: the partner of a frame: "next" the one a gap later, "same" the frame itself, "clip" any of its clip, "group"
            any of another clip of its group (then each pair is of another group).
        augment: the changes by chance that every frame gets, see `augment_frame`.
        **options: see `Batches`.
    """

    def __init__(
        self, pairs: pd.DataFrame, frames: Frames, *, positives: str, augment: Sequence[str], **options: Any
    ) -> None:
        super().__init__(pairs[pairs["path_next"] != ""], frames, least_videos=2, **options)
        self.positives, self.augment = positives, augment
        unit = ["class", "group"] if positives == "group" else "video"
        self.units = [sorted(set(part)) for _, part in self.pairs.groupby(unit)["video"]]
        self.batch_size = min(self.batch_size, len(self.units))
        self.steps_per_epoch = max(1, len(pairs) // options["batch_size"])  # the same budget as the pair losses

    def choose(self, step: int, generator: np.random.Generator) -> tuple[Paths, np.ndarray]:
        """Paths (B, 2) and y (B,) ones; B is at most the number of videos (or groups)."""
        paths = []
        for unit in generator.choice(len(self.units), self.batch_size, replace=False):
            videos = generator.permutation(self.units[unit])
            row, other = (self.pairs.iloc[generator.choice(self.videos[videos[i]])] for i in (0, -1))
            partners = {"next": row["path_next"], "same": row["path_query"]}
            paths.append([row["path_query"], partners.get(self.positives, other["path_query"])])
        return paths, np.ones(len(paths), np.float32)


class LabelBatches(Batches):
    """Single frames, changed by chance, with their class; small sets are gone through again and again."""

    augment = ("mirror",)

    def choose(self, step: int, generator: np.random.Generator) -> tuple[Paths, np.ndarray]:
        """Paths (B, 1) and y (B,) int32 labels."""
        rows = self.pairs.iloc[self.rows(step)]
        return rows[["path_query"]].to_numpy().tolist(), rows["label"].to_numpy(np.int32)

    def change(self, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The only view of each: (B, size, size, 3)."""
        return super().change(x, generator)[:, 0]


def build_batches(
    loss: str, pairs: pd.DataFrame, frames: Frames, *, everything: pd.DataFrame, negatives: str, positives: str,
    augment: Sequence[str], **options: Any,
) -> Batches:  # fmt: skip
    """The batches that go with a loss, of pairs of the training clips; see `PairBatches`, `ViewBatches` and `Batches`."""
    if loss == "quadruplet":
        return QuadrupletBatches(pairs, frames, **options)
    if loss == "nt_xent":
        return ViewBatches(pairs, frames, positives=positives, augment=augment, **options)
    if loss == "labels":
        batches = LabelBatches(pairs, frames, **options)
        batches.augment = augment or batches.augment
        return batches
    return PairBatches(pairs, frames, negatives=negatives, everything=everything, **options)


def watch_pairs(pairs: pd.DataFrame, *, seed: int, most: int = 400) -> tuple[Paths, np.ndarray]:
    """A fixed set of positive and negative pairs to watch a training by: paths (P, 2) and same (P,) of 0 and 1."""
    generator = batches.stream(seed, "watch")
    positive = pairs[pairs["path_next"] != ""]
    positive = positive.iloc[np.sort(generator.permutation(len(positive))[: most // 2])].to_dict("records")
    strangers = PairBatches(pairs, None, negatives="clean", batch_size=len(pairs), seed=seed)
    paths = [[row["path_query"], row["path_next"]] for row in positive]
    paths += [[row["path_query"], strangers.other_video(row, generator)] for row in positive]
    return paths, np.repeat([1, 0], len(positive))
