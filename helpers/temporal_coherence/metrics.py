"""What a set of embeddings is worth: clusters against classes, pairs, neighbours, a linear probe, signs of collapse."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn import cluster, linear_model, metrics, pipeline, preprocessing

RECALL_AT = (1, 5, 10, 20, 50)
QUERIES = 256  # clips that ask at a time
PROBE_C = 0.1  # inverse strength of the linear probe's regularisation


def contingency(labels: ArrayLike, clusters: ArrayLike) -> np.ndarray:
    """Counts of each (label, cluster) pair: int64 (number of labels, number of clusters)."""
    labels, clusters = np.asarray(labels), np.asarray(clusters)
    if labels.shape != clusters.shape or labels.ndim != 1 or not labels.size:
        shapes = f"shapes {labels.shape} and {clusters.shape}"
        raise ValueError(f"labels and clusters must be two sequences of one length, at least 1. Received: {shapes}")
    return metrics.cluster.contingency_matrix(labels, clusters)


def entropy(labels: ArrayLike) -> float:
    """H(X) = -sum p(x) log2 p(x) in bits: how much one does not know of a class before any clustering."""
    share = np.unique(np.asarray(labels), return_counts=True)[1] / len(labels)
    return float(-(share * np.log2(share)).sum()) + 0.0


def conditional_entropy(labels: ArrayLike, clusters: ArrayLike) -> float:
    """H(X|Y) = sum_y p(y) sum_x p(x|y) log2 1/p(x|y) in bits: what a cluster leaves unknown of the class.

    0 when every cluster holds one class, H(X) when the clusters say nothing. More clusters always lower it (one per item:
    0), so compare only at equal k, and as a share of H(X).

    Args:
        labels: (N,) true classes X.
        clusters: (N,) clusters Y.
    """
    table = contingency(labels, clusters)
    inside = table / table.sum(axis=0)
    bits = -np.log2(inside, where=table > 0, out=np.zeros(table.shape))
    return float((table * bits).sum() / table.sum()) + 0.0


def pair_auc(distances: ArrayLike, same: ArrayLike) -> float:
    """Chance that a random pair that belongs together is nearer than one that does not: 1 perfect, 0.5 blind, 0 inverted.

    Args:
        distances: (P,) distances of the pairs.
        same: (P,) 1 where the pair belongs together.
    """
    return float(metrics.roc_auc_score(np.asarray(same), -np.asarray(distances)))


def cluster_scores(labels: ArrayLike, clusters: ArrayLike) -> dict[str, float]:
    """Every clustering score of the course for one clustering; NMI with the arithmetic mean (equal to the V-measure)."""
    bits = conditional_entropy(labels, clusters)
    return {
        "conditional_entropy": bits,
        "share_of_entropy": bits / entropy(labels),
        "homogeneity": metrics.homogeneity_score(labels, clusters),
        "nmi": metrics.normalized_mutual_info_score(labels, clusters),
        "ari": metrics.adjusted_rand_score(labels, clusters),
    }


def kmeans(features: ArrayLike, k: int, *, seed: int = 0) -> np.ndarray:
    """Clusters (N,) of features (N, D) by k-means++ with ten starts, as scikit-learn 0.21 did by default."""
    return cluster.KMeans(k, n_init=10, random_state=seed).fit_predict(np.asarray(features, dtype=np.float64))


def clip_features(features: np.ndarray, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Mean feature (C, D) and label (C,) of each clip of the rows, which have `video` and `label`; sorted by video."""
    clips = pd.DataFrame(np.asarray(features, dtype=np.float64)).groupby(rows["video"].to_numpy())
    return clips.mean().to_numpy(), rows.groupby("video")["label"].first().to_numpy()


def retrieval_recall(
    gallery: ArrayLike, gallery_labels: ArrayLike, queries: ArrayLike, query_labels: ArrayLike, *,
    at: Sequence[int] = RECALL_AT,
) -> dict[str, float]:  # fmt: skip
    """Share of queries with a clip of their own class among the k nearest of the gallery, by cosine.

    The protocol of Xu et al., "Self-supervised spatiotemporal learning via video clip order prediction", CVPR 2019: test
    clips ask, training clips answer.

    Args:
        gallery, queries: (G, D) and (Q, D) clip features.
        gallery_labels, query_labels: (G,) and (Q,) classes.
        at: values of k; those greater than G are left out.
    """
    unit = [preprocessing.normalize(np.asarray(part, dtype=np.float64)) for part in (gallery, queries)]
    at = [k for k in at if k <= len(unit[0])]
    nearest = [  # blocks and copies bound the memory: QUERIES x G
        np.argsort(-unit[1][start : start + QUERIES] @ unit[0].T, axis=1, kind="stable")[:, : max(at, default=0)].copy()
        for start in range(0, len(unit[1]), QUERIES)
    ]
    hits = np.asarray(gallery_labels)[np.concatenate(nearest)] == np.asarray(query_labels)[:, None]
    return {f"recall@{k}": float(hits[:, :k].any(axis=1).mean()) for k in at}


def linear_probe(train: ArrayLike, train_labels: ArrayLike, test: ArrayLike, test_labels: ArrayLike) -> float:
    """Accuracy of a logistic regression on standardised, frozen features: train (N, D), test (M, D)."""
    regression = linear_model.LogisticRegression(C=PROBE_C, max_iter=500)
    return float(
        pipeline.make_pipeline(preprocessing.StandardScaler(), regression)
        .fit(train, train_labels)
        .score(test, test_labels)
    )


def collapse_monitors(features: ArrayLike) -> dict[str, float]:
    """Signs that a network gives everything the same embedding.

    Args:
        features: (N, D).

    Returns:
        `spread`: mean standard deviation of a dimension, over the mean length of an embedding. `dead`: share of dimensions
        that never change. `rank`: effective rank, exp of the entropy of the normalised singular values (Roy and Vetterli, 2007).
    """
    features = np.asarray(features, dtype=np.float64)
    deviation = features.std(axis=0)
    length = np.linalg.norm(features, axis=1).mean()
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    share = values / max(values.sum(), 1e-300)
    share = share[share > 1e-12]
    return {
        "spread": float(deviation.mean() / length) if length else 0.0,
        "dead": float((deviation < 1e-9).mean()),
        "rank": float(np.exp(-(share * np.log(share)).sum())) if share.size else 0.0,
    }


def score_features(frames: pd.DataFrame, features: ArrayLike, *, k: int, seeds: int = 3) -> dict[str, float]:
    """All scores of one set of features, on the test frames; clips are averaged for retrieval and probe.

    Args:
        frames: rows with `split` (train, test), `label` and `video`, one per feature.
        features: (N, D).
        k: number of clusters.
        seeds: k-means runs; scores are means over them, `<score>_sd` the spread of the first three.
    """
    features = np.asarray(features, dtype=np.float64)
    side = frames["split"].to_numpy()
    asked, labels = features[side == "test"], frames.loc[side == "test", "label"]
    runs = pd.DataFrame([cluster_scores(labels, kmeans(asked, k, seed=seed)) for seed in range(seeds)])
    scores = runs.mean().to_dict()
    scores["conditional_entropy_sd"] = float(runs["conditional_entropy"].std(ddof=0))
    train, test = (clip_features(features[rows], frames[rows]) for rows in (side == "train", side == "test"))
    return scores | retrieval_recall(*train, *test) | {"linear_probe": linear_probe(*train, *test)}
