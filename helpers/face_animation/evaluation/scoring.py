"""Test clips reconstructed, their keypoints followed (scores and ridge regression: see `metrics`), and pairs of clips animated."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from helpers import video
from helpers.face_animation import data, metrics, splits
from helpers.face_animation.animate import Animator
from helpers.face_animation.config import FaceAnimationConfig
from helpers.face_animation.evaluation import visualiser
from helpers.workspace import StepResult

COPY = "copy of the source"  # the trivial drawer: nothing moves
MEAN = "mean of training"  # the trivial finder of points
SCORES = ("l1", "psnr", "ssim", "sharpness")
BATCH = 16  # frames at a time
TIMED = 32  # frames of a timing


def read_clips(clips: pd.DataFrame, root: Path, *, frames: int | None = None) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per clip (rows with path and frames) the frames, (T, H, W, 3) uint8, and their numbers; evenly spaced if told how many."""
    return list(_stream_clips(clips, root, frames))


def _stream_clips(clips: pd.DataFrame, root: Path, frames: int | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for path, count in zip(clips["path"], clips["frames"], strict=True):
        numbers = np.unique(np.linspace(0, count - 1, min(frames or count, count)).round().astype(int))
        yield data.read_frames(root / path, numbers), numbers


def reconstruct(clip: np.ndarray, animator: Animator | None) -> np.ndarray:
    """A clip drawn from its first frame and the keypoints of all; without an animator its first frame all the time."""
    return np.repeat(clip[:1], len(clip), axis=0) if animator is None else animator.reconstruct(clip)


def score_clip(clip: np.ndarray, drawn: np.ndarray) -> dict[str, float]:
    """Means over the frames, without the first, which the drawer was given; see `helpers.face_animation.metrics`."""
    return {name: float(np.mean(getattr(metrics, name)(drawn[1:], clip[1:]))) for name in SCORES}


def score_all(
    animators: Mapping[str, Animator | None], clips: pd.DataFrame, root: Path, *, frames: int | None = None
) -> pd.DataFrame:
    """One row for each drawer (an animator by its name) and clip of `read_clips`: drawer, clip, frames and `SCORES`."""
    rows = []
    for name, (clip, _) in zip(clips["clip"], _stream_clips(clips, root, frames), strict=True):
        for drawer, animator in animators.items():
            scores = score_clip(clip, reconstruct(clip, animator))
            rows.append({"drawer": drawer, "clip": name, "frames": len(clip) - 1, **scores})
    return pd.DataFrame(rows)


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Means over all frames of all clips by drawer: every frame weighs the same, as in the original."""
    weighted = table[list(SCORES)].mul(table["frames"], axis=0).groupby(table["drawer"], sort=False).sum()
    return weighted.div(table.groupby("drawer", sort=False)["frames"].sum(), axis=0).reset_index()


def look_inside(animator: Animator, source: np.ndarray, driving: np.ndarray) -> dict[str, np.ndarray]:
    """`visualiser.columns` of pairs of frames (B, H, W, 3) uint8 of the networks' size, with absolute keypoints."""
    inputs = {"source": ops.convert_to_tensor(source / np.float32(255))}
    for side, images in (("source", source), ("driving", driving)):
        for name, part in animator.keypoints(images).items():
            inputs[f"kp_{side}_{name}"] = ops.convert_to_tensor(part)
    outputs = inputs | animator.generator(inputs, training=False)
    corners = animator.generator.get_layer("warp").align_corners
    return visualiser.columns(source, driving, outputs, align_corners=corners)


def follow_points(
    animators: Mapping[str, Animator | None], train: list[tuple[np.ndarray, ...]], test: list[tuple[np.ndarray, ...]]
) -> pd.DataFrame:
    """How far from known points each detector's keypoints lead on the test frames, in pixels; see `metrics.regress_points`.

    `train` and `test` are frames (N, H, W, 3) uint8 and true points (N, P, 2) of several clips. Without an animator the points are
    where they are on average in training.
    """
    wanted = np.concatenate([points for _, points in test])
    known = np.concatenate([points for _, points in train])
    rows = []
    for drawer, animator in animators.items():
        if animator is None:
            found = np.broadcast_to(known.mean(axis=0), wanted.shape)
        else:
            values = [np.concatenate([animator.keypoints(f)["value"] for f, _ in part]) for part in (train, test)]
            found = metrics.regress_points(values[0], known)(values[1])
        rows.append({"drawer": drawer, "keypoint_error": float(metrics.keypoint_error(found, wanted).mean())})
    return pd.DataFrame(rows)


def time_frames(animator: Animator, clip: np.ndarray) -> float:
    """Milliseconds per frame of animating a clip, measured on its second run: the first one traces."""
    clip = np.resize(clip, (TIMED, *clip.shape[1:]))
    animator.animate(clip[0], clip)
    began = time.perf_counter()
    animator.animate(clip[0], clip)
    return (time.perf_counter() - began) / len(clip) * 1000


def count_products(network: keras.Model) -> int:
    """Multiplications of all convolutions for one picture, those of an `UpConv2D` counted at its enlarged size."""
    convs = (layer for layer in network.layers if isinstance(layer, keras.layers.Conv2D))
    return sum(math.prod(conv.kernel.shape) * math.prod(conv.output.shape[1:3]) for conv in convs)


def count_parameters(network: keras.Model) -> int:
    """Trained numbers; the moving statistics of normalisations are none, as in the original's counts."""
    return sum(math.prod(weight.shape) for weight in network.trainable_weights)


def measure_all(animators: Mapping[str, Animator], clips: pd.DataFrame, root: Path) -> pd.DataFrame:
    """Each variant's parameters and million products of its two networks, and ms per animated frame of the first of the clips."""
    clip = data.read_clip(root / clips["path"].iloc[0])
    rows = []
    for variant, animator in animators.items():
        row: dict[str, Any] = {"variant": variant}
        for part, network in (("detector", animator.kp_detector), ("generator", animator.generator)):
            row |= {f"{part}_parameters": count_parameters(network), f"{part}_mmac": count_products(network) / 1e6}
        rows.append(row | {"ms_per_frame": time_frames(animator, clip)})
    return pd.DataFrame(rows)


def animate_pairs(
    pairs: pd.DataFrame,
    clips: pd.DataFrame,
    root: Path,
    animators: Mapping[str, Animator],
    folder: Path,
    **options: Any,
) -> pd.DataFrame:
    """Write `<number>.mp4` for every pair: source, driving clip, and the source moved by each animator, side by side.

    Pairs are names of `clips`; options relative, adapt_scale and start of `animate.animate`. Returns the pairs with a column file.
    """
    paths = dict(zip(clips["clip"], clips["path"], strict=True))
    files = []
    for number, (source, driving) in enumerate(zip(pairs["source"], pairs["driving"], strict=True)):
        files.append(f"{number:03d}.mp4")
        if not (folder / files[-1]).exists():
            picture = data.read_frames(root / paths[source], [0])[0]
            moving = data.read_clip(root / paths[driving])
            drawn = [animator.animate(picture, moving, **options) for animator in animators.values()]
            still = np.broadcast_to(picture, moving.shape)
            video.write_video(folder / files[-1], np.concatenate([still, moving, *drawn], axis=2), 25)
    return pairs.assign(file=files)


def on_test(
    config: FaceAnimationConfig, done: Mapping[str, StepResult], networks: Mapping[str, keras.Model] | None
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]:
    """Persons of the test clips, and the scores on those that a mask keeps; without networks of a copy of the source."""
    clips = splits.clips_on(done["split"].table("clips"), "test").head(config.test_clips)
    drawer = Animator(networks["kp_detector"], networks["generator"], batch_size=BATCH) if networks else None
    table = score_all({"it": drawer}, clips, done["preprocess"].source_root, frames=config.test_frames)

    def score(kept: np.ndarray) -> dict[str, float]:
        return summarise(table[kept]).loc[0, ["l1", "ssim", "sharpness"]].astype(float).to_dict()

    return clips["person"].to_numpy(), score
