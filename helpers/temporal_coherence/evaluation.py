"""Scoring trained networks beside baselines, the t-SNE plane, and fine-tuning: the larger parts of step evaluate.

Each single score, the linear probe too, is in `metrics`.
"""

import functools
import itertools
import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import keras
import numpy as np
import pandas as pd

from helpers import training
from helpers.batches import stream
from helpers.temporal_coherence import metrics, model
from helpers.temporal_coherence.batches import Frames, LabelBatches, see
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.losses import build_loss
from helpers.temporal_coherence.runs import embed, load_trunk
from helpers.workspace import StepResult, disk

PIXELS = 16  # side of the pictures that the row "raw pixels" clusters
RANDOM = "random start"
STEPS_PER_EPOCH = 50  # of fine-tuning, at most
FINETUNE_RATES = {"seed": 1e-4, "paper": 1e-4, "tiny": 1e-3}  # learning rates of Adam, by variant


def cluster_count(clusters: int | None, pairs: pd.DataFrame) -> int:
    """k of k-means: as the config says, else one cluster per class."""
    return clusters or int(pairs["label"].nunique())


def raw_pixels(frames: Frames, paths: list[str]) -> np.ndarray:
    """Frames shrunk to 16x16 pixels and laid out flat: (N, 768)."""
    small = [cv2.resize(frames.read(path), (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) for path in paths]
    return np.stack(small).reshape(len(paths), -1).astype(np.float32) / 255.0


def score_all(
    config: TemporalCoherenceConfig, pairs: pd.DataFrame, frames: Frames, trained: StepResult, folder: Path
) -> pd.DataFrame:
    """One row per set of features: chance, raw pixels, random start, and every trained run.

    A finished row is kept as JSON, so that a killed evaluation goes on with the next. The main run's plane goes to `plane.csv`.
    """
    rows = pairs[pairs["split"].isin(("train", "test"))].reset_index(drop=True)
    paths = rows["path_query"].tolist()

    def embedded(start: StepResult | None, run: str) -> np.ndarray:
        return embed(load_trunk(config, start, run), frames, paths, normalize=config.normalize)

    makers: dict[str, Callable[[], np.ndarray]] = {
        "chance": lambda: stream(config.seed, "chance", 1).normal(size=(len(rows), 32)),
        "raw pixels": lambda: raw_pixels(frames, paths),
        RANDOM: lambda: embedded(None, ""),
        **{run: lambda run=run: embedded(trained, run) for run in trained["runs"]},
    }
    return pd.DataFrame(
        disk.remember(
            folder / "scores" / f"{name}.json".replace(" ", "_"), score_one, name, maker, rows, config, folder
        )
        for name, maker in makers.items()
    )


def score_one(
    name: str, maker: Callable[[], np.ndarray], rows: pd.DataFrame, config: TemporalCoherenceConfig, folder: Path
) -> dict:
    """One row of the table of scores: of the features that `maker` gives for the rows of training and test clips."""
    features, k = maker(), cluster_count(config.clusters, rows)
    test = (rows["split"] == "test").to_numpy()
    scores = {
        "features": name,
        "pair_auc": query_pair_auc(rows[test], features[test], seed=config.seed),
        **metrics.score_features(rows, features, k=k, seeds=config.cluster_seeds),
    }
    if name == config.loss:
        plane = make_plane(rows[test], features[test], k=k, most=config.tsne_frames, seed=config.seed)
        disk.write_table(folder / "plane.csv", plane)
    return scores


def query_pair_auc(rows: pd.DataFrame, features: np.ndarray, *, seed: int) -> float:
    """Pair-AUC of successive query frames of one clip against frames of two clips, on features of query frames."""
    videos = rows["video"].to_numpy()
    first = np.flatnonzero(videos[:-1] == videos[1:])
    other = stream(seed, "chance", 0).integers(len(rows), size=4 * len(first))
    mine = np.tile(first, 4)
    strangers = videos[mine] != videos[other]
    near = np.linalg.norm(features[first] - features[first + 1], axis=1)
    far = np.linalg.norm(features[mine[strangers]] - features[other[strangers]], axis=1)
    distances = np.concatenate([near, far])
    return metrics.pair_auc(distances, np.repeat([1, 0], [len(first), int(strangers.sum())]))


def make_plane(rows: pd.DataFrame, features: np.ndarray, *, k: int, most: int, seed: int) -> pd.DataFrame:
    """Test frames on the t-SNE plane: class, group, video, path_query, cluster, x, y; at most `most` of them."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    clusters = metrics.kmeans(features, k, seed=0)
    chosen = np.sort(stream(seed, "choice", 0).permutation(len(rows))[:most])
    small = PCA(min(50, *features[chosen].shape), random_state=0).fit_transform(features[chosen])
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    x, y = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(small).T
    columns = ["class", "label", "group", "video", "path_query"]
    return rows.iloc[chosen][columns].assign(cluster=clusters[chosen], x=x, y=y)


def finetune_all(
    config: TemporalCoherenceConfig, pairs: pd.DataFrame, frames: Frames, trained: StepResult, folder: Path
) -> pd.DataFrame:
    """Test accuracy of a classifier that starts from random or from learned weights, at equal budget, per share of labels."""
    starts = {RANDOM: None} | dict.fromkeys(
        (run for run in trained["runs"] if run not in ("inverted", "labels")), trained
    )
    rows = []
    for share, (name, start) in itertools.product(config.label_shares, starts.items()):
        record = folder / "finetuning" / f"{name}-{share:g}.json".replace(" ", "_")
        # A classifier is scored and not used again: its states, up to a gigabyte each, go to no Drive.
        with tempfile.TemporaryDirectory() as place:
            rows.append(disk.remember(record, finetune, name, share, config, pairs, frames, start, Path(place)))
    return pd.DataFrame(rows)


def labelled_part(pairs: pd.DataFrame, share: float, *, seed: int) -> pd.DataFrame:
    """Frames of a share of the training clips, at least one clip per class."""
    chosen = []
    rows = pairs[pairs["split"] == "train"]
    for _, part in rows.groupby("label"):
        videos = stream(seed, "labels").permutation(sorted(part["video"].unique()))
        chosen += list(videos[: max(1, round(share * len(videos)))])
    return rows[rows["video"].isin(chosen)].reset_index(drop=True)


def finetune(
    name: str, share: float, config: TemporalCoherenceConfig, pairs: pd.DataFrame, frames: Frames,
    start: StepResult | None, folder: Path,
) -> dict:  # fmt: skip
    """Train a classifier on the labelled part in `folder` and score it on the test clips: a row of `finetuning.csv`."""
    rows = labelled_part(pairs, share, seed=config.seed)
    classifier = model.build_classifier(load_trunk(config, start, name), int(pairs["label"].max()) + 1)
    classifier.compile(keras.optimizers.Adam(FINETUNE_RATES[config.variant]), build_loss("labels"))
    batches = LabelBatches(rows, frames, batch_size=config.batch_size, seed=config.seed)
    epochs = math.ceil(config.finetune_steps / STEPS_PER_EPOCH)
    log = training.fit(
        classifier,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        steps_per_epoch=config.finetune_steps // epochs,
        **{"epochs": epochs, "save_every": epochs, "keep": 1, "seed": config.seed},
    )
    return {
        "start": name,
        "labelled_clips": int(rows["video"].nunique()),
        "share": share,
        "clip_accuracy": clip_accuracy(classifier, frames, pairs[pairs["split"] == "test"]),
        "training_loss": float(log["loss"].iloc[-1]),
    }


def clip_accuracy(classifier: keras.Model, frames: Frames, rows: pd.DataFrame) -> float:
    """Share of the clips whose frames' mean logits are greatest for their class."""
    logits = embed(classifier, frames, rows["path_query"].tolist(), normalize=False)
    means, labels = metrics.clip_features(logits, rows)
    return float((means.argmax(axis=1) == labels).mean())


def on_test(
    config: TemporalCoherenceConfig, done: Mapping[str, StepResult], network: keras.Model | None
) -> tuple[np.ndarray, Callable[[np.ndarray], dict[str, float]]]:
    """Groups of the test pictures, and the scores on those that a mask keeps; without a network of raw pixels."""
    pairs = see(config.inputs, done["split"].table("pairs"))
    rows = pairs[pairs["split"].isin(("train", "test"))].reset_index(drop=True)
    frames = Frames(done["preprocess"].folder, count=4 * len(pairs), size=config.size)
    make = functools.partial(embed, network, normalize=config.normalize) if network else raw_pixels
    features, test = make(frames, rows["path_query"].tolist()), (rows["split"] == "test").to_numpy()

    def score(kept: np.ndarray) -> dict[str, float]:
        chosen = ~test
        chosen[test] = kept
        options = {"k": cluster_count(config.clusters, pairs), "seeds": config.cluster_seeds}
        found = metrics.score_features(rows[chosen].reset_index(drop=True), features[chosen], **options)
        return {name: found[name] for name in ("linear_probe", "recall@1", "share_of_entropy")}

    return (rows["class"] + rows["group"].astype(str)).to_numpy()[test], score
