"""Batches of frames that depend on (seed, step) alone, so that a training can go on from any step."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from helpers.temporal_coherence import data

CACHE_BYTES = 512 * 2**20


class Frames:
    """Reads frames below a folder, keeping them in memory while all of them fit into `CACHE_BYTES`.

    Args:
        folder: folder that the paths start from.
        count: how many different frames will be asked for.
        size: their side in pixels.
    """

    def __init__(self, folder: Path, *, count: int, size: int) -> None:
        self.folder = Path(folder)
        self.cache: dict[str, np.ndarray] | None = {} if count * size * size * 3 <= CACHE_BYTES else None

    def read(self, path: str) -> np.ndarray:
        """One frame, (size, size, 3) uint8 RGB."""
        if self.cache is None:
            return data.read_frame(self.folder / path)
        if path not in self.cache:
            self.cache[path] = data.read_frame(self.folder / path)
        return self.cache[path]

    def stack(self, paths: list[str]) -> np.ndarray:
        """Frames as network input: (N, size, size, 3) float32 in [0, 1]."""
        return np.stack([self.read(path) for path in paths]).astype(np.float32) / 255.0


class Batches:
    """What the samplers share: order of the rows, reading of frames. `batch(step)` gives (x, y).

    Args:
        pairs: rows of the table of pairs to draw from.
        frames: reader of the frames.
        batch_size: examples per batch.
        seed: decides everything.
        least_videos: an error comes if the rows are of fewer videos.
    """

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
        self.batch_size = min(batch_size, len(self.pairs))
        self.seed = seed
        self.steps_per_epoch = len(self.pairs) // self.batch_size

    def rows(self, step: int) -> pd.DataFrame:
        """The rows of one batch: each epoch is a new permutation of all of them."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng([self.seed, 0, epoch]).permutation(len(self.pairs))
        return self.pairs.iloc[order[place * self.batch_size : (place + 1) * self.batch_size]]

    def generator(self, step: int) -> np.random.Generator:
        """The random choices inside one batch."""
        return np.random.default_rng([self.seed, 1, step])

    def stack(self, paths: list[list[str]]) -> np.ndarray:
        """Paths (B, V) -> (B, V, size, size, 3) float32 in [0, 1]."""
        flat = self.frames.stack([path for row in paths for path in row])
        return flat.reshape(len(paths), -1, *flat.shape[1:])

    def other_video(self, row, generator: np.random.Generator, *, other_group: bool = False) -> str:
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

    def __init__(self, pairs, frames, *, negatives: str = "clean", everything=None, **options) -> None:
        super().__init__(pairs, frames, least_videos=1 if negatives == "seed" else 2, **options)
        self.negatives = negatives
        if negatives == "other_group" and len(self.pairs.groupby(["class", "group"])) < 2:
            raise ValueError("negatives: other_group needs at least 2 groups. Received: 1")
        self.tree = {}
        for row in everything.itertuples() if negatives == "seed" else ():
            files = self.tree.setdefault(row.label, {}).setdefault(row.video, [])
            files += [row.path_query] + ([row.path_next] if row.path_next else [])

    def paths(self, step: int) -> tuple[list[list[str]], np.ndarray]:
        """Paths (B, 2) of one batch and y (B,) float32."""
        generator = self.generator(step)
        rows = self.rows(step)
        same = (rows["path_next"] != "").to_numpy()
        partners = [row["path_next"] or self.partner(row, generator) for row in rows.to_dict("records")]
        return [[q, p] for q, p in zip(rows["path_query"], partners, strict=True)], same.astype(np.float32)

    def partner(self, row, generator: np.random.Generator) -> str:
        """The second frame of a negative pair."""
        if self.negatives != "seed":
            return self.other_video(row, generator, other_group=self.negatives == "other_group")
        videos = self.tree[sorted(self.tree)[generator.integers(len(self.tree))]]
        files = videos[sorted(videos)[generator.integers(len(videos))]]
        return files[generator.integers(len(files))]

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, 2, size, size, 3) float32 in [0, 1] and y (B,) float32, 1 = same."""
        paths, same = self.paths(step)
        return self.stack(paths), same


class QuadrupletBatches(Batches):
    """Anchor, consecutive frame, another frame of the same video, frame of another video; y is all zeros."""

    def __init__(self, pairs, frames, **options) -> None:
        super().__init__(pairs[pairs["path_next"] != ""], frames, least_videos=2, **options)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, 4, size, size, 3) float32 in [0, 1] and y (B,) zeros."""
        generator = self.generator(step)
        rows = self.rows(step)
        paths = []
        for row in rows.to_dict("records"):
            own = self.pairs.iloc[generator.choice(self.videos[row["video"]])]["path_query"]
            paths.append([row["path_query"], row["path_next"], own, self.other_video(row, generator)])
        return self.stack(paths), np.zeros(len(rows), np.float32)


class ViewBatches(Batches):
    """Pairs that belong together, each of another video, for losses that take the rest of the batch as negatives.

    Args:
        augment: change every frame at random (`augment_frame`), so that colour and place alone do not solve the task.
        **options: see `Batches`.
    """

    def __init__(self, pairs, frames, *, augment: bool = False, **options) -> None:
        super().__init__(pairs[pairs["path_next"] != ""], frames, least_videos=2, **options)
        self.augment = augment
        self.batch_size = min(self.batch_size, len(self.names))
        self.steps_per_epoch = max(1, len(pairs) // options["batch_size"])

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, 2, size, size, 3) float32 in [0, 1] and y (B,) ones; B is at most the number of videos."""
        generator = self.generator(step)
        chosen = generator.choice(len(self.names), self.batch_size, replace=False)
        rows = self.pairs.iloc[[generator.choice(self.videos[self.names[i]]) for i in chosen]]
        x = self.stack(rows[["path_query", "path_next"]].to_numpy().tolist())
        if self.augment:
            x = np.stack([[augment_frame(frame, generator) for frame in views] for views in x])
        return x, np.ones(len(rows), np.float32)


class LabelBatches(Batches):
    """Single frames with their class, for fine-tuning; small sets are gone through again and again."""

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """x (B, size, size, 3) float32 in [0, 1], mirrored at random, and y (B,) int32 labels."""
        rows = self.rows(step)
        x = self.frames.stack(rows["path_query"].tolist())
        mirror = self.generator(step).random(len(x)) < 0.5
        x[mirror] = x[mirror, :, ::-1]
        return x, rows["label"].to_numpy(np.int32)


def augment_frame(frame: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Random crop (half to all of the area), mirror, brightness, contrast and colour balance; float32 in [0, 1], same shape."""
    side = frame.shape[0]
    cut = round(side * np.sqrt(generator.uniform(0.5, 1.0)))
    top, left = generator.integers(0, side - cut + 1, 2)
    frame = cv2.resize(frame[top : top + cut, left : left + cut], (side, side))
    if generator.random() < 0.5:
        frame = frame[:, ::-1]
    gain = generator.uniform(0.6, 1.4) * generator.uniform(0.7, 1.3, 3)
    frame = (frame - frame.mean()) * generator.uniform(0.6, 1.4) + frame.mean() * gain
    return np.clip(frame, 0.0, 1.0).astype(np.float32)


def build_batches(loss: str, pairs: pd.DataFrame, frames: Frames, config, *, everything: pd.DataFrame) -> Batches:
    """The sampler that goes with a loss.

    Args:
        loss: name of the loss.
        pairs: pairs of the training clips.
        frames: reader of the frames.
        config: gives batch_size, seed, negatives, augment.
        everything: pairs of all splits, used by negatives "seed" only.
    """
    options = {"batch_size": config.batch_size, "seed": config.seed}
    if loss == "quadruplet":
        return QuadrupletBatches(pairs, frames, **options)
    if loss == "nt_xent":
        return ViewBatches(pairs, frames, augment=config.augment, **options)
    return PairBatches(pairs, frames, negatives=config.negatives, everything=everything, **options)


def watch_pairs(pairs: pd.DataFrame, *, seed: int, most: int = 400) -> tuple[list[list[str]], np.ndarray]:
    """A fixed set of positive and negative pairs to watch a training by: paths (P, 2) and same (P,) of 0 and 1."""
    generator = np.random.default_rng([seed, 2])
    positive = pairs[pairs["path_next"] != ""]
    positive = positive.iloc[np.sort(generator.permutation(len(positive))[: most // 2])]
    sampler = PairBatches(pairs, None, batch_size=len(pairs), seed=seed)
    paths = [[row["path_query"], row["path_next"]] for row in positive.to_dict("records")]
    paths += [[row["path_query"], sampler.other_video(row, generator)] for row in positive.to_dict("records")]
    return paths, np.repeat([1, 0], len(positive))
