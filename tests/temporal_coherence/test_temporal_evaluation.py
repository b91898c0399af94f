"""Scores of features and of classifiers, on small tables worked by hand."""

from helpers import runtime

runtime.quiet_start()

import types

import numpy as np
import pandas as pd
import pytest

from helpers.temporal_coherence import evaluation


class Numbers:
    """Frames that are numbers: path "7" is a frame of the one value 7."""

    def __init__(self) -> None:
        self.read = []

    def stack(self, paths):
        self.read += paths
        return np.array([[float(path)] for path in paths], np.float32)


def test_embeddings_come_in_the_order_of_the_paths_and_each_frame_is_computed_once():
    frames, paths = Numbers(), ["5", "1", "3", "5", "2", "1"]
    network = types.SimpleNamespace(predict_on_batch=lambda x: np.concatenate([3 * x, 4 * x], axis=1))
    found = evaluation.embed(network, frames, paths, normalize=False, batch=3)
    np.testing.assert_array_equal(found, [[3 * float(p), 4 * float(p)] for p in paths])
    assert sorted(frames.read) == ["1", "2", "3", "5"] and found.dtype == np.float32
    unit = evaluation.embed(network, frames, paths, normalize=True)
    np.testing.assert_allclose(unit, [[0.6, 0.8]] * 6, rtol=1e-6)


def test_an_output_per_replica_counts_once():
    network = types.SimpleNamespace(predict_on_batch=lambda x: np.concatenate([x, x]))
    assert evaluation.embed(network, Numbers(), ["1", "2", "3"], normalize=False, batch=2).tolist() == [[1], [2], [3]]


def test_query_pair_auc_by_hand():
    """Frames of one clip lie within 1.6 of each other, those of two clips 1 to 2.4 apart or more: AUC by counting."""
    rows = pd.DataFrame({"video": ["a", "a", "a", "b", "b"]})
    features = np.array([[0.0], [0.5], [1.0], [10.0], [13.0]])
    assert evaluation.query_pair_auc(rows, features, seed=0) == 1  # 0.5, 0.5, 3 against 9 and more
    mixed = np.array([[0.0], [4.0], [8.0], [4.0], [5.0]])  # 4, 4, 1 against pairs of {0, 4, 8} and {4, 5}
    found = evaluation.query_pair_auc(rows, mixed, seed=0)
    strangers = evaluation.stream(0, "chance", 0).integers(5, size=12)
    asked = np.tile([0, 1, 3], 4)
    apart = [abs(mixed[a, 0] - mixed[o, 0]) for a, o in zip(asked, strangers, strict=True) if (a < 3) != (o < 3)]
    wins = [(d < e) + 0.5 * (d == e) for d in (4, 4, 1) for e in apart]
    assert found == pytest.approx(np.mean(wins)) and 0 < found < 1


def test_clip_accuracy_is_of_the_mean_logits_of_a_clip():
    rows = pd.DataFrame({"path_query": list("12345"), "video": ["v", "w", "v", "v", "w"], "label": [0, 1, 0, 0, 1]})
    logits = {1: [9, 0], 3: [0, 1], 4: [0, 1], 2: [3, 0], 5: [0, 2]}  # v: (3, 0.7) right; w: (1.5, 1) wrong
    network = types.SimpleNamespace(predict_on_batch=lambda x: np.array([logits[int(n)] for n in x[:, 0]], float))
    assert evaluation.clip_accuracy(network, Numbers(), rows) == 0.5


def test_labelled_part_takes_whole_training_clips_of_every_class():
    rows = [
        (side, label, f"{side}{label}{clip}", k)
        for side in ("train", "validation", "test")
        for label in (0, 1)
        for clip in range(10)
        for k in range(3)
    ]
    pairs = pd.DataFrame(rows, columns=["split", "label", "video", "k"])
    for share, clips in ((0.3, 3), (1.0, 10), (0.01, 1)):
        part = evaluation.labelled_part(pairs, share, seed=0)
        assert set(part["split"]) == {"train"} and len(part) == 2 * clips * 3
        assert part.groupby("label")["video"].nunique().tolist() == [clips, clips]
    few = evaluation.labelled_part(pairs, 0.3, seed=0)["video"]
    assert set(few) != set(evaluation.labelled_part(pairs, 0.3, seed=1)["video"])


def test_clusters_follow_the_config_else_the_classes():
    pairs = pd.DataFrame({"label": [0, 1, 2, 2]})
    assert evaluation.cluster_count(None, pairs) == 3 and evaluation.cluster_count(7, pairs) == 7
