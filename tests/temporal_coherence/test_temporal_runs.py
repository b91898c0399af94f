"""What a config makes of a training: optimiser, schedule, first weights, and what is watched, by hand."""

from helpers import runtime

runtime.quiet_start()

import dataclasses
import functools
import types

import keras
import numpy as np
import pandas as pd
import pytest

from helpers.temporal_coherence import metrics, runs
from helpers.temporal_coherence.config import LOSSES, TemporalCoherenceConfig

CONFIG = TemporalCoherenceConfig(source="mini", variant="tiny", embedding_dim=4, size=35, learning_rate=0.3)


@pytest.mark.parametrize(
    "name, expected",
    [
        ("steps", {0: 0.3, 99: 0.3, 101: 0.03, 199: 0.03, 201: 0.003}),
        ("thesis", {0: 0.3, 10: 0.15, 1000: 0.3 / 101}),
        ("constant", {0: 0.3, 299: 0.3}),
    ],
)
def test_schedules_by_hand(name, expected):
    optimizer = runs.build_optimizer("sgd", runs.build_schedule(name, 0.3, 300))
    optimizer.build([keras.Variable([0.0])])
    for step, rate in expected.items():
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate), step


@pytest.mark.parametrize(
    "name, kind, momentum", [("sgd", keras.optimizers.SGD, 0.9), ("adam", keras.optimizers.Adam, None)]
)
def test_optimizers_clip_the_norm_of_all_gradients_together(name, kind, momentum):
    optimizer = runs.build_optimizer(name, 0.1)
    assert isinstance(optimizer, kind) and getattr(optimizer, "momentum", None) == momentum
    assert (optimizer.global_clipnorm, optimizer.clipnorm, optimizer.clipvalue) == (5.0, None, None)


def test_every_loss_starts_from_the_same_weights_and_another_seed_from_others():
    networks = {loss: runs.build_network(CONFIG, loss, total_steps=3)[1] for loss in LOSSES}
    first = networks["contrastive"].get_weights()
    for network in networks.values():
        assert all((a == b).all() for a, b in zip(network.get_weights(), first, strict=True))
    other = runs.build_network(dataclasses.replace(CONFIG, seed=1), "contrastive", total_steps=3)[1]
    assert (other.get_weights()[0] != first[0]).any()


@pytest.mark.parametrize("loss", [loss for loss in LOSSES if loss != "labels"])
def test_the_network_follows_loss_margin_temperature_and_normalize(loss):
    config = dataclasses.replace(CONFIG, margin=0.7, temperature=0.9, normalize=loss == "linear")
    network, trunk = runs.build_network(config, loss, total_steps=3)
    views = 4 if loss == "quadruplet" else 2
    assert network.output_shape == (None, views, 4) and trunk.output_shape == (None, 4)
    if hasattr(network.loss, "margin"):
        assert network.loss.margin == (0.5 if loss == "quadruplet" else 0.7)
    assert hasattr(network.loss, "temperature") == (loss == "nt_xent")
    assert getattr(network.loss, "temperature", 0.9) == 0.9
    assert getattr(network.loss, "inverted", loss == "inverted") == (loss == "inverted")
    frames = np.random.default_rng(0).random((3, views, 35, 35, 3)).astype(np.float32)
    lengths = np.linalg.norm(network(frames), axis=-1)
    assert np.allclose(lengths, 1, atol=1e-5) == (loss == "linear")


def test_train_one_hands_the_config_to_batches_and_watch(monkeypatch, tmp_path):
    config = dataclasses.replace(
        CONFIG,
        negatives="other_group",
        positives="clip",
        augment=("crop",),
        batch_size=7,
        seed=5,
        margin=0.6,
        normalize=False,
        epochs=4,
    )
    pairs = pd.DataFrame({"split": ["train", "validation", "test"], "video": ["a", "b", "c"], "label": [0, 1, 2]})
    calls = {}

    def take(name, answer, *arguments, **options):
        calls[name] = (arguments, options)
        return answer

    batches = types.SimpleNamespace(steps_per_epoch=10, batch_size=7, batch=None)
    log = pd.DataFrame({"step": [40], "loss": [0.5]})
    monkeypatch.setattr(runs, "build_batches", functools.partial(take, "batches", batches))
    monkeypatch.setattr(runs, "Watch", functools.partial(take, "watch", None))
    monkeypatch.setattr(runs.training, "fit", functools.partial(take, "fit", log))
    row = runs.train_one(config, "linear", pairs, "frames", tmp_path)
    assert row == {"run": "linear", "pairs_seen": 280, "step": 40, "loss": 0.5}
    (loss, rows, frames), options = calls["batches"]
    assert (loss, frames, rows["video"].tolist()) == ("linear", "frames", ["a"])
    assert options.pop("everything") is pairs
    expected = {"negatives": "other_group", "positives": "clip", "augment": ("crop",), "batch_size": 7, "seed": 5}
    assert options == expected
    (_, rows, frames), options = calls["watch"]
    assert (frames, rows["video"].tolist()) == ("frames", ["b"])
    assert options == {"normalize": False, "margin": 0.6, "seed": 5}
    (siamese, _), options = calls["fit"]
    assert (options["epochs"], options["steps_per_epoch"], options["seed"]) == (4, 10, 5)
    assert options["config"]["loss"] == "linear" and options["run_dir"] == tmp_path / "linear"
    siamese.optimizer.iterations.assign(14)
    assert float(siamese.optimizer.learning_rate) == pytest.approx(0.03)  # a tenth after one third of 40 steps


class Table:
    """Frames and a network in one: the embedding of a frame stands in a table."""

    def __init__(self, rows: dict[str, list[float]]) -> None:
        self.rows = rows

    def stack(self, paths):
        return np.array([self.rows[path] for path in paths], np.float32)


def test_watch_by_hand():
    """Two clips of one pair each: the partner of a clip's negative pair can only be the other's query frame."""
    table = Table({"a0": [3, 0], "a1": [3, 0.3], "b0": [0, 2], "b1": [0.4, 2]})
    pairs = pd.DataFrame(
        {"video": ["a", "b"], "group": 1, "class": "A", "path_query": ["a0", "b0"], "path_next": ["a1", "b1"]}
    )
    network = types.SimpleNamespace(predict_on_batch=lambda x: x)
    found = runs.Watch(network, pairs, table, normalize=False, margin=3.5, seed=0)()
    assert found["positive_distance"] == pytest.approx((0.3 + 0.4) / 2)
    assert found["negative_distance"] == pytest.approx(13**0.5)
    assert found["pair_auc"] == 1 and found["active_hinge"] == 0  # 13 ** 0.5 = 3.606
    monitors = metrics.collapse_monitors([[3, 0], [0, 2], [3, 0], [0, 2]])
    assert {name: found[name] for name in monitors} == pytest.approx(monitors)
    unit = runs.Watch(network, pairs, table, normalize=True, margin=1.5, seed=0)()
    assert unit["negative_distance"] == pytest.approx(2**0.5) and unit["active_hinge"] == 1


def test_labels_train_a_classifier_on_the_same_trunk():
    network, trunk = runs.build_network(CONFIG, "labels", total_steps=3, num_classes=5)
    assert network.output_shape == (None, 5) and trunk.output_shape == (None, 4)
    assert all(any(mine is theirs for theirs in network.weights) for mine in trunk.weights)
    x = np.zeros((2, 35, 35, 3), np.float32)
    logits = np.array(network(x))
    truth = np.log(np.exp(logits).sum(1)) - logits[[0, 1], [4, 0]]  # cross-entropy by hand
    assert float(network.loss(np.array([4, 0]), network(x))) == pytest.approx(truth.mean(), rel=1e-5)
