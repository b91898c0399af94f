"""Watching a training, scoring its result beside baselines, fine-tuning: the larger parts of steps train and evaluate."""

from pathlib import Path

import numpy as np
import pandas as pd

from helpers import training
from helpers.temporal_coherence import metrics, model, sampling
from helpers.workspace import disk

PIXELS = 16  # side of the pictures that the row "raw pixels" clusters


def embed(network, frames: sampling.Frames, paths: list[str], *, normalize: bool, batch: int = 64) -> np.ndarray:
    """Outputs of a network for frames: (N, D) float32, scaled to length 1 if `normalize`."""
    parts = []
    for start in range(0, len(paths), batch):  # called directly: `predict` would trace anew for every network
        outputs = network(frames.stack(paths[start : start + batch]), training=False)
        parts.append(np.asarray(outputs, dtype=np.float32))
    features = np.concatenate(parts)
    if normalize:
        features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return features


class Watch:
    """Called at each epoch's end of a training: are neighbours nearer than strangers, and is anything collapsing?

    Args:
        trunk: the network in training.
        pairs: pairs of the validation clips.
        frames: reader of the frames.
        config: gives normalize, margin and seed.
    """

    def __init__(self, trunk, pairs: pd.DataFrame, frames: sampling.Frames, config) -> None:
        self.trunk, self.frames, self.config = trunk, frames, config
        self.paths, self.same = sampling.watch_pairs(pairs, seed=config.seed)

    def __call__(self) -> dict[str, float]:
        """Pair-AUC, mean distances, share of negative pairs inside the margin, and `metrics.collapse_monitors`."""
        flat = [path for pair in self.paths for path in pair]
        features = embed(self.trunk, self.frames, flat, normalize=self.config.normalize)
        distances = np.linalg.norm(features[0::2] - features[1::2], axis=1)
        positive, negative = distances[self.same == 1], distances[self.same == 0]
        return {
            "pair_auc": metrics.pair_auc(distances, self.same),
            "positive_distance": float(positive.mean()),
            "negative_distance": float(negative.mean()),
            "active_hinge": float((negative < self.config.margin).mean()),
            **metrics.collapse_monitors(features[0::2]),
        }


def cluster_count(config, pairs: pd.DataFrame) -> int:
    """k of k-means: from the config, else one cluster per class."""
    return config.clusters or int(pairs["label"].nunique())


def class_entropy(pairs: pd.DataFrame) -> float:
    """H(X) in bits of the test frames."""
    return metrics.entropy(pairs.loc[pairs["split"] == "test", "label"])


def load_trunk(config, trained=None, run: str = ""):
    """The trunk with its first weights, or with those that a run of step train left."""
    import keras

    keras.utils.set_random_seed(config.seed)
    trunk = model.build_trunk(config.variant, config.embedding_dim, config.size)
    if trained is not None:
        trunk.load_weights(trained.folder / run / "trunk.weights.h5")
    return trunk


def raw_pixels(frames: sampling.Frames, paths: list[str]) -> np.ndarray:
    """Frames shrunk to 16x16 pixels and laid out flat: (N, 768)."""
    import cv2

    small = [cv2.resize(frames.read(path), (PIXELS, PIXELS), interpolation=cv2.INTER_AREA) for path in paths]
    return np.stack(small).reshape(len(paths), -1).astype(np.float32) / 255.0


def score_all(config, pairs: pd.DataFrame, frames: sampling.Frames, trained, folder: Path) -> pd.DataFrame:
    """One row per set of features: chance, raw pixels, random start, and every trained run.

    A finished row is kept as JSON, so that a killed evaluation goes on with the next. The main run's plane goes to `plane.csv`.
    """
    rows = pairs[pairs["split"].isin(("train", "test"))].reset_index(drop=True)
    options = {"k": cluster_count(config, pairs), "seeds": config.cluster_seeds}
    paths = rows["path_query"].tolist()
    makers = {
        "chance": lambda: np.random.default_rng(config.seed).normal(size=(len(rows), 32)),
        "raw pixels": lambda: raw_pixels(frames, paths),
        "random start": lambda: embed(load_trunk(config), frames, paths, normalize=config.normalize),
    }
    for run in trained["runs"]:
        makers[run] = lambda run=run: embed(load_trunk(config, trained, run), frames, paths, normalize=config.normalize)
    return pd.DataFrame(
        [
            disk.remember(
                folder / "scores" / f"{name.replace(' ', '_')}.json",
                score_one,
                name,
                maker,
                rows,
                config,
                options,
                folder,
            )
            for name, maker in makers.items()
        ]
    )


def score_one(name: str, maker, rows: pd.DataFrame, config, options: dict, folder: Path) -> dict:
    """One row of the table of scores."""
    features = maker()
    test = (rows["split"] == "test").to_numpy()
    scores = {"features": name, "pair_auc": np.nan} | metrics.score_features(rows, features, **options)
    scores["pair_auc"] = query_pair_auc(rows[test], features[test], seed=config.seed)
    if name == config.loss:
        plane = make_plane(rows[test], features[test], config, k=options["k"])
        disk.write_table(folder / "plane.csv", plane)
    return scores


def query_pair_auc(rows: pd.DataFrame, features: np.ndarray, *, seed: int) -> float:
    """Pair-AUC of successive query frames of one clip against frames of two clips, on features of query frames."""
    videos = rows["video"].to_numpy()
    first = np.flatnonzero(videos[:-1] == videos[1:])
    generator = np.random.default_rng([seed, 3])
    other = generator.integers(len(rows), size=4 * len(first))
    mine = np.tile(first, 4)
    strangers = videos[mine] != videos[other]
    distances = np.concatenate(
        [
            np.linalg.norm(features[first] - features[first + 1], axis=1),
            np.linalg.norm(features[mine[strangers]] - features[other[strangers]], axis=1),
        ]
    )
    return metrics.pair_auc(distances, np.repeat([1, 0], [len(first), int(strangers.sum())]))


def make_plane(rows: pd.DataFrame, features: np.ndarray, config, *, k: int) -> pd.DataFrame:
    """Test frames on the t-SNE plane: class, group, video, path_query, cluster, x, y; at most `tsne_frames` of them."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    clusters = metrics.kmeans(features, k, seed=0)
    chosen = np.sort(np.random.default_rng([config.seed, 4]).permutation(len(rows))[: config.tsne_frames])
    small = PCA(min(50, *features[chosen].shape), random_state=0).fit_transform(features[chosen])
    perplexity = min(30.0, (len(chosen) - 1) / 3)
    x, y = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(small).T
    columns = ["class", "label", "group", "video", "path_query"]
    return rows.iloc[chosen][columns].assign(cluster=clusters[chosen], x=x, y=y)


def finetune_all(config, pairs: pd.DataFrame, frames: sampling.Frames, trained, folder: Path) -> pd.DataFrame:
    """Test accuracy of a classifier that starts from random or from learned weights, at equal budget, per share of labels."""
    starts = {"random start": None} | dict.fromkeys((run for run in trained["runs"] if run != "inverted"), trained)
    return pd.DataFrame(
        [
            disk.remember(
                folder / "finetuning" / f"{name.replace(' ', '_')}-{share:g}.json",
                *(finetune, name, share, config, pairs, frames, start, folder),
            )
            for share in config.label_shares
            for name, start in starts.items()
        ]
    )


def labelled_part(pairs: pd.DataFrame, share: float, *, seed: int) -> pd.DataFrame:
    """Frames of a share of the training clips, at least one clip per class."""
    chosen = []
    rows = pairs[pairs["split"] == "train"]
    for _, part in rows.groupby("label"):
        videos = np.random.default_rng([seed, 5]).permutation(sorted(part["video"].unique()))
        chosen += list(videos[: max(1, round(share * len(videos)))])
    return rows[rows["video"].isin(chosen)].reset_index(drop=True)


def finetune(
    name: str, share: float, config, pairs: pd.DataFrame, frames: sampling.Frames, start, folder: Path
) -> dict:
    """Train a classifier on the labelled part and score it on test clips by the mean of their frames' logits."""
    import keras

    rows = labelled_part(pairs, share, seed=config.seed)
    trunk = load_trunk(config, start, name)
    classifier = model.build_classifier(trunk, int(pairs["label"].max()) + 1)
    classifier.compile(
        keras.optimizers.Adam(1e-3 if config.variant == "tiny" else 1e-4),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    batches = sampling.LabelBatches(rows, frames, batch_size=config.batch_size, seed=config.seed)
    steps = min(config.finetune_steps, 50)
    log = training.fit(
        classifier,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder / "finetuning" / f"{name.replace(' ', '_')}-{share:g}",
        epochs=max(1, config.finetune_steps // steps),
        steps_per_epoch=steps,
        seed=config.seed,
    )
    test = pairs[pairs["split"] == "test"]
    logits = embed(classifier, frames, test["path_query"].tolist(), normalize=False)
    means, videos = metrics.clip_means(logits, test["video"])
    labels = test.drop_duplicates("video").set_index("video")["label"].loc[videos].to_numpy()
    return {
        "start": name,
        "labelled_clips": int(rows["video"].nunique()),
        "share": share,
        "clip_accuracy": float((means.argmax(axis=1) == labels).mean()),
        "training_loss": float(log["loss"].iloc[-1]),
    }
