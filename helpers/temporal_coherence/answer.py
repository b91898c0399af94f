"""A clip of one's own among the training clips: which are nearest, how near that is, and what the network saw. See `tryout`."""

import tempfile
from dataclasses import replace
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd
from sklearn import preprocessing

from helpers import intake, plots, video, workspace
from helpers.course import tryout, weights
from helpers.temporal_coherence import data, metrics, runs, steps
from helpers.temporal_coherence.batches import Frames, see
from helpers.temporal_coherence.config import TemporalCoherenceConfig

NEAREST, MOMENTS = 8, 4  # training clips shown, and moments of the asked one
TILE = (120, 160)  # height and width of a thumbnail
LIMITS = {  # source -> what a network that was trained on it cannot do
    "mini": "They are drawings before a camera that stands still, and it puts a clip from life beside one of them all the same.",
}


def answer(
    path: str | Path, network: keras.Model | None = None, config: TemporalCoherenceConfig | None = None
) -> tryout.Answer:
    """The training clips that are nearest to a clip, in one picture, and whether that is near.

    Args:
        path: a video.
        network: the trunk, without it the published one.
        config: with which the network was trained, without it that of the published one; its data are made if they are missing,
            but for `more_groups`.

    Raises:
        FileNotFoundError, ValueError: no such file, no video, or one that is too short; says what to do.
    """
    tryout.kind_of(path, intake.VIDEO)
    config = config or weights.settings("temporal_coherence")
    network = network or runs.load_published(config)
    with tempfile.TemporaryDirectory() as folder:
        features, seen = embed_clip(path, network, config, Path(folder))
        looked = [seen.iloc[row] for row in np.linspace(0, len(seen) - 1, MOMENTS).round().astype(int)]
        frames = Frames(Path(folder), count=len(seen), size=config.size)
        moments = [frames.read(row["path_query"]) for row in looked]
    table, usual, root = rank(features, network, config)
    near = table.head(NEAREST)
    picture = draw(Path(path), [row["frame_index"] for row in looked], moments, near, root, config)
    return tryout.Answer("picture", explain(near, usual, table, config), picture=picture, table=near)


def embed_clip(
    path: str | Path, network: keras.Model, config: TemporalCoherenceConfig, folder: Path
) -> tuple[np.ndarray, pd.DataFrame]:
    """What the network makes of a clip, cut as step preprocess cuts: features (N, D) and the rows (N) that they are of.

    Args:
        folder: for the frames of the pairs.

    Raises:
        ValueError: too short for one input.
    """
    cut = {name: getattr(config, name) for name in steps.CUT}
    pairs = data.extract_pairs(path, folder / "clip", **cut)
    pairs = pairs if pairs.empty else see(config.inputs, pairs)
    if pairs.empty:
        least = 1 + config.gap + (config.step if config.inputs == "differences" else 0)  # the first pair has no partner
        count = video.count_frames(path)
        name = intake.shown(Path(path).name)
        raise ValueError(f"{name} has {count} frames that decode, at least {least} are needed: take a longer clip")
    frames = Frames(folder, count=2 * len(pairs), size=config.size)
    return runs.embed(network, frames, pairs["path_query"].tolist(), normalize=config.normalize), pairs


def rank(
    features: np.ndarray, network: keras.Model, config: TemporalCoherenceConfig
) -> tuple[pd.DataFrame, np.ndarray, Path]:
    """Training clips from the nearest on, how far test clips are from theirs, and the folder of the clips.

    Nearness is what `metrics.retrieval_recall` sorts by: the cosine of mean features; a distance is 1 - cosine.
    """
    place = workspace.open_workspace()
    config = replace(config, more_groups=0)  # mini's own clips are drawn in seconds, and are enough to compare with
    done = workspace.ensure(steps.STEPS, "split", config, place)
    pairs = see(config.inputs, done["split"].table("pairs"))
    frames, means, clips = steps.frames_of(config, place, pairs), {}, {}
    for side, rows in pairs[pairs["split"].isin(("train", "test"))].groupby("split"):
        found = runs.embed(network, frames, rows["path_query"].tolist(), normalize=config.normalize)
        means[side] = preprocessing.normalize(metrics.clip_features(found, rows)[0])
        clips[side] = rows.groupby("video")[["class", "group"]].first().reset_index()
    distance = 1 - means["train"] @ preprocessing.normalize([features.mean(axis=0, dtype=np.float64)])[0]
    table = clips["train"].assign(distance=distance).sort_values("distance", kind="stable", ignore_index=True)
    return table, (1 - means["test"] @ means["train"].T).min(axis=1), done["build_dataset"].source_root


def explain(near: pd.DataFrame, usual: np.ndarray, table: pd.DataFrame, config: TemporalCoherenceConfig) -> list[str]:
    """The lines of an answer: what lies around the clip, whether that is near, and what the network knows."""
    counts, classes = near["class"].value_counts(), ", ".join(sorted(table["class"].unique()))
    nearest, (half, most) = near["distance"].iloc[0], np.quantile(usual, (0.5, 0.95))
    verdict = (
        "as near as most" if nearest <= half else "farther than most" if nearest <= most else "farther than nearly all"
    )
    what = "what changes between two moments of" if config.inputs == "differences" else "frames of"
    return [
        f"{counts.iloc[0]} of the {len(near)} nearest training clips are {counts.index[0]}",
        f"the nearest is at {nearest:.3f}, {verdict} of {len(usual)} test clips have theirs: half within {half:.3f}, 95 % within "
        f"{most:.3f}",
        f"The network: trained on {what} clips of {classes}, without these names. Which of {len(table)} such clips yours resembles "
        f"is all that it can say. {LIMITS.get(config.source, f'They came from source {config.source}.')}",
    ]


def draw(
    path: Path, numbers: list[int], moments: list[np.ndarray], near: pd.DataFrame, root: Path,
    config: TemporalCoherenceConfig,
) -> np.ndarray:  # fmt: skip
    """One picture: some moments of the clip, what the network saw of them, and its nearest training clips."""
    seen = dict(video.scan_frames(path, set(numbers).__contains__))
    tiles, titles = [seen[number] for number in numbers], [f"your clip, frame {number}" for number in numbers]
    if config.inputs == "differences":
        tiles += moments
        titles += ["what the network sees"] * len(moments)
    for row in near.itertuples():
        frames = list(video.read_frames(root / row.video))
        tiles.append(frames[len(frames) // 2])
        titles.append(f"{row.Index + 1}. {row[2]}: {row.distance:.3f}")
    return plots.as_array(plots.frames_figure([_fit(tile) for tile in tiles], titles, columns=MOMENTS))


def _fit(frame: np.ndarray) -> np.ndarray:
    """A frame of any form as a thumbnail, its shape kept, white around it."""
    scale = min(TILE[0] / frame.shape[0], TILE[1] / frame.shape[1])
    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    tile = np.full((*TILE, 3), 255, np.uint8)
    top, left = (TILE[0] - height) // 2, (TILE[1] - width) // 2
    tile[top : top + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return tile
