"""Losses against the hand-worked vectors of the papers' formulas and against plain NumPy loops."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pytest

from helpers.temporal_coherence import losses

A, UP, NEAR, FAR = (1.0, 0.0), (0.0, 1.0), (0.8, 0.6), (0.6, 0.8)


def value(loss, same, *views):
    return float(loss(np.array(same, np.float32), np.array([views] if np.ndim(views[0]) == 1 else views, np.float32)))


@pytest.mark.parametrize(
    "loss, same, other, expected",
    [
        (losses.ContrastiveLoss(), 1, UP, 1.0),
        (losses.ContrastiveLoss(), 0, UP, 0.0),
        (losses.ContrastiveLoss(), 1, NEAR, 0.2),
        (losses.ContrastiveLoss(), 0, NEAR, 0.0675445),
        (losses.ContrastiveLoss(margin=2.0), 0, UP, 0.5 * (2 - 2**0.5) ** 2),
        (losses.LinearContrastiveLoss(1.0), 1, UP, 2**0.5),
        (losses.LinearContrastiveLoss(1.0), 0, NEAR, 1 - 0.4**0.5),
        (losses.LinearContrastiveLoss(1.0, inverted=True), 0, UP, 1.4142136),
        (losses.LinearContrastiveLoss(1.0, inverted=True), 1, NEAR, 1 - 0.4**0.5),
    ],
)
def test_pair_losses_by_hand(loss, same, other, expected):
    assert value(loss, [same], A, other) == pytest.approx(expected, abs=1e-6)


def test_mean_of_the_four_vectors():
    pairs = np.array([[A, UP], [A, UP], [A, NEAR], [A, NEAR]], np.float32)
    assert float(losses.ContrastiveLoss()(np.array([1, 0, 1, 0], np.float32), pairs)) == pytest.approx(
        0.3168861, abs=1e-6
    )


@pytest.mark.parametrize("other, expected", [(UP, 0.0), (FAR, 0.1)])
def test_quadruplets_by_hand(other, expected):
    assert value(losses.QuadrupletLoss(), [0], A, A, NEAR, other) == pytest.approx(expected, abs=1e-6)


def test_quadruplets_decide_one_by_one():
    """The released layer takes one hinge decision per batch; then the mean of two would not be the loss of both."""
    one, two = (A, A, NEAR, UP), (A, UP, NEAR, A)
    both = value(losses.QuadrupletLoss(), [0, 0], one, two)
    assert both == pytest.approx(
        (value(losses.QuadrupletLoss(), [0], *one) + value(losses.QuadrupletLoss(), [0], *two)) / 2
    )


def nt_xent_by_loops(views, temperature):
    flat = [row / np.linalg.norm(row) for row in np.concatenate([views[:, 0], views[:, 1]]).astype(np.float64)]
    count, total = len(flat), 0.0
    for i in range(count):
        partner = (i + count // 2) % count
        others = sum(np.exp(flat[i] @ flat[j] / temperature) for j in range(count) if j != i)
        total += -np.log(np.exp(flat[i] @ flat[partner] / temperature) / others)
    return total / count


@pytest.mark.parametrize("temperature", [0.2, 0.7])
def test_nt_xent_against_loops(temperature):
    views = np.random.default_rng(0).normal(size=(5, 2, 7)).astype(np.float32)
    found = float(losses.NTXentLoss(temperature)(np.zeros(5, np.float32), views))
    assert found == pytest.approx(nt_xent_by_loops(views, temperature), rel=1e-5)
    assert float(losses.NTXentLoss(temperature)(np.zeros(5, np.float32), 3 * views)) == pytest.approx(found, rel=1e-5)


ALL = [
    (losses.ContrastiveLoss(margin=0.7), 2),
    (losses.LinearContrastiveLoss(margin=0.7), 2),
    (losses.LinearContrastiveLoss(margin=0.7, inverted=True), 2),
    (losses.QuadrupletLoss(margin=0.3), 4),
    (losses.NTXentLoss(temperature=0.3), 2),
]


@pytest.mark.parametrize("loss, views", ALL)
def test_every_row_counts_and_order_does_not(loss, views):
    """The thesis's loss read only the first row of a batch; there every change behind it passed unseen."""
    generator = np.random.default_rng(1)
    x = (0.05 * generator.normal(size=(6, views, 4))).astype(np.float32)  # inside every margin
    same = np.array([1, 0, 1, 0, 1, 0], np.float32)
    found = float(loss(same, x))
    order = generator.permutation(6)
    assert float(loss(same[order], x[order])) == pytest.approx(found, rel=1e-5)
    for row in range(6):
        changed = x.copy()
        changed[row] += 0.05 * generator.normal(size=(views, 4))
        assert abs(float(loss(same, changed)) - found) > 1e-6


@pytest.mark.parametrize("loss, views", ALL)
def test_gradient_is_finite_where_frames_are_equal(loss, views):
    x = keras.Variable(np.ones((3, views, 4), np.float32))
    model = keras.Sequential([keras.layers.Dense(2, use_bias=False), keras.layers.Reshape((views, 2))])
    model.build((None, views, 4))
    model.compile(keras.optimizers.SGD(0.1), loss)
    model.train_on_batch(np.array(x), np.array([1, 0, 1], np.float32))
    assert all(np.isfinite(np.array(weight)).all() for weight in model.trainable_variables)


@pytest.mark.parametrize("loss, views", ALL)
def test_config_comes_back(loss, views):
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    passed = {"margin": 0.7} if hasattr(loss, "inverted") or type(loss) is losses.ContrastiveLoss else {}
    for key, number in passed.items():
        assert loss.get_config()[key] == number


def test_loss_is_float32_under_mixed_precision():
    views = np.random.default_rng(2).normal(size=(4, 2, 3)).astype(np.float16)
    assert keras.backend.standardize_dtype(losses.ContrastiveLoss()(np.ones(4), views).dtype) == "float32"


def test_names_of_a_config():
    assert losses.build_loss("contrastive", 0.4).margin == 0.4
    assert losses.build_loss("inverted", 1.0).inverted and not losses.build_loss("linear", 1.0).inverted
    assert losses.build_loss("quadruplet", 1.0).margin == 0.5
    assert losses.build_loss("nt_xent", temperature=0.7).temperature == 0.7
    assert losses.build_loss("nt_xent").temperature == losses.NTXentLoss().temperature == 0.2
    with pytest.raises(ValueError, match="name must be one of contrastive"):
        losses.build_loss("triplet", 1.0)
