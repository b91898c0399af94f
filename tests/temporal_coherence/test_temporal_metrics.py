"""Metrics against scikit-learn, SciPy and hand-worked examples."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import sklearn.metrics
from sklearn.linear_model import LogisticRegression

from helpers.temporal_coherence import metrics

LABELS, CLUSTERS = list("AAABBBCC"), [0, 0, 0, 0, 1, 1, 1, 1]


def test_entropy_by_hand():
    assert metrics.entropy(LABELS) == pytest.approx(1.5612781)
    assert metrics.conditional_entropy(LABELS, CLUSTERS) == pytest.approx(0.9056391)
    assert metrics.conditional_entropy(LABELS, LABELS) == 0
    assert metrics.conditional_entropy(LABELS, [7] * 8) == pytest.approx(metrics.entropy(LABELS))
    assert metrics.conditional_entropy(LABELS, range(8)) == 0


def test_cluster_scores_by_hand():
    scores = metrics.cluster_scores(LABELS, CLUSTERS)
    for name, value in {"homogeneity": 0.4199374, "nmi": 0.5119624, "ari": 0.3076923}.items():
        assert scores[name] == pytest.approx(value, abs=1e-6)
    assert scores["share_of_entropy"] == pytest.approx(0.9056391 / 1.5612781)


@pytest.mark.parametrize("seed", range(5))
def test_conditional_entropy_against_scipy_and_homogeneity(seed):
    generator = np.random.default_rng(seed)
    labels, clusters = generator.integers(0, 6, 200), generator.integers(0, 9, 200)
    expected = sum(
        (clusters == c).mean() * scipy.stats.entropy(np.bincount(labels[clusters == c]), base=2)
        for c in np.unique(clusters)
    )
    found = metrics.conditional_entropy(labels, clusters)
    assert found == pytest.approx(expected)
    assert 1 - found / metrics.entropy(labels) == pytest.approx(sklearn.metrics.homogeneity_score(labels, clusters))


@pytest.mark.parametrize("labels, clusters", [([], []), ([1, 2], [1]), ([[1]], [[1]])])
def test_bad_labels(labels, clusters):
    with pytest.raises(ValueError, match="labels and clusters must be"):
        metrics.conditional_entropy(labels, clusters)


def test_the_figures_of_the_thesis_on_one_scale():
    """2.60 bits of ten classes against 3.91 of 101: as shares of H(class) the order turns round."""
    ten = [
        name
        for name, count in zip(range(10), (41, 40, 43, 39, 45, 35, 36, 40, 41, 49), strict=True)
        for _ in range(count)
    ]
    assert metrics.entropy(ten) == pytest.approx(3.3155, abs=1e-4)
    assert 2.60 / metrics.entropy(ten) == pytest.approx(0.784, abs=1e-3)
    assert pytest.approx(0.589, abs=1e-3) == 3.91 / 6.641


def test_pair_auc_counts_ordered_pairs():
    distances, same = np.array([0.1, 0.4, 0.3, 0.9]), np.array([1, 1, 0, 0])
    wins = np.mean([d < e for d in distances[same == 1] for e in distances[same == 0]])
    assert metrics.pair_auc(distances, same) == pytest.approx(wins)
    assert metrics.pair_auc(-distances, same) == pytest.approx(1 - wins)


def test_retrieval_by_hand():
    gallery, labels = [[1, 0], [0, 1], [-1, 0]], [0, 1, 2]
    queries, asked = [[2, 0.1], [0.6, 0.5], [5, -1]], [0, 1, 2]
    found = metrics.retrieval_recall(gallery, labels, queries, asked, at=(1, 2, 3, 4))
    assert found == {"recall@1": pytest.approx(1 / 3), "recall@2": pytest.approx(2 / 3), "recall@3": 1.0}


def test_retrieval_is_by_angle_whatever_the_lengths():
    gallery, queries = [[0.1, 0.0], [0.0, 100.0]], [[3.0, 1.0], [0.01, 0.02]]  # by product or by distance: both wrong
    assert metrics.retrieval_recall(gallery, [0, 1], queries, [0, 1], at=(1,)) == {"recall@1": 1.0}


def test_retrieval_in_blocks_is_retrieval_at_once_and_needs_little_memory():
    generator = np.random.default_rng(0)
    gallery, queries = generator.normal(size=(1000, 8)), generator.normal(size=(2001, 8))
    gallery[500:600] = gallery[:100]  # ties
    labels, asked = generator.integers(20, size=1000), generator.integers(20, size=2001)
    unit = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (gallery, queries)]
    hits = labels[np.argsort(-unit[1] @ unit[0].T, axis=1, kind="stable")] == asked[:, None]
    tracemalloc.start()
    found = metrics.retrieval_recall(gallery, labels, queries, asked)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found == {f"recall@{k}": hits[:, :k].any(axis=1).mean() for k in metrics.RECALL_AT}
    assert peak < 8e6  # all products at once are 16e6, their order as much


def test_linear_probe_against_scikit_learn():
    """Noise in most dimensions: how strong the penalty is, and that all dimensions count alike, decides the accuracy."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 360)
    features = generator.normal(size=(360, 30)) * generator.uniform(0.1, 10, 30) + np.eye(3, 30)[labels] * 4 + 5
    train, test = features[:60], features[60:]
    scaled = [(part - train.mean(axis=0)) / train.std(axis=0) for part in (train, test)]

    def accuracy(strength, train, test):
        learner = LogisticRegression(C=strength, max_iter=2000).fit(train, labels[:60])
        return learner.score(test, labels[60:])

    expected, others = accuracy(0.1, *scaled), [accuracy(c, *scaled) for c in (0.01, 1, 100)]
    assert min(abs(expected - other) for other in [*others, accuracy(0.1, train, test)]) > 0.01
    assert metrics.linear_probe(train, labels[:60], test, labels[60:]) == pytest.approx(expected, abs=0.004)


def test_clip_features_have_the_label_of_their_clip():
    rows = pd.DataFrame({"video": ["b", "a", "b"], "label": [2, 7, 2]}, index=[5, 1, 3])
    means, labels = metrics.clip_features(np.array([[1.0], [3.0], [5.0]]), rows)
    assert labels.tolist() == [7, 2] and means.tolist() == [[3.0], [3.0]]


def test_collapse_is_seen():
    generator = np.random.default_rng(0)
    alive = metrics.collapse_monitors(generator.normal(size=(400, 8)))
    assert metrics.collapse_monitors(100 + generator.normal(size=(400, 8)))["rank"] > 7.9  # wherever the cloud lies
    line = metrics.collapse_monitors(generator.normal(size=(400, 1)) @ generator.normal(size=(1, 8)))
    dead = metrics.collapse_monitors(np.tile(generator.normal(size=(1, 8)), (400, 1)))
    assert alive["spread"] == pytest.approx(1 / 8**0.5, rel=0.05)  # lengths of about 8 ** 0.5, deviations of 1
    assert alive["rank"] > 7.9 and alive["dead"] == 0
    assert line["rank"] == pytest.approx(1.0, abs=1e-6)
    assert dead["dead"] == 1 and dead["spread"] < 1e-9


def test_training_clips_answer_and_test_clips_ask():
    """Each test clip lies at the training clip of the other class, and the validation clip at a test clip of its own."""
    frames = pd.DataFrame(
        [("train", 0, "a"), ("train", 1, "b"), ("test", 1, "c"), ("test", 0, "d"), ("validation", 1, "e")],
        columns=["split", "label", "video"],
    )
    features = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 0.1], [0.1, 1.0], [1.0, 0.1]])
    scores = metrics.score_features(frames, features, k=2, seeds=1)
    assert scores["recall@1"] == scores["linear_probe"] == 0
    assert scores["nmi"] == pytest.approx(1)


def test_scores_of_good_and_of_random_features():
    generator = np.random.default_rng(0)
    rows = [
        (side, label, f"{side}{label}{clip}")
        for side in ("train", "test")
        for label in range(3)
        for clip in range(4)
        for _ in range(5)
    ]
    frames = pd.DataFrame(rows, columns=["split", "label", "video"])
    good = np.eye(3)[frames["label"]] + 0.05 * generator.normal(size=(len(frames), 3))
    scores = metrics.score_features(frames, good, k=3)
    assert scores["conditional_entropy"] < 0.01 and scores["recall@1"] == 1 and scores["linear_probe"] == 1
    assert scores["conditional_entropy_sd"] < 0.01
    noise = metrics.score_features(frames, generator.normal(size=(len(frames), 3)), k=3)
    assert noise["share_of_entropy"] > 0.85
    assert "recall@20" not in scores
