"""Where a network looks, on networks of which it is known."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pandas as pd
import pytest
from keras import ops
from sklearn.linear_model import RidgeClassifier
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier

from helpers.lip_reading import evaluation, metrics, model

T, H, W = 6, 8, 10


@keras.saving.register_keras_serializable("tests")
class Motion(keras.layers.Layer):
    """Logits (B, 2): 0, and fifty times how far frame 4, rows 0-3, columns 0-4 are from the clip's mean frame."""

    def call(self, inputs):
        rest = (inputs - ops.mean(inputs, axis=1, keepdims=True))[:, 4, :4, :5, 0]
        seen = 50.0 * ops.mean(ops.square(rest), axis=(1, 2))
        return ops.stack([0.0 * seen, seen], axis=1)


def watcher():
    inputs = keras.Input((T, H, W, 1))
    return keras.Model(inputs, Motion()(inputs))


def clip(seed=0):
    return np.random.default_rng(seed).random((T, H, W, 1)).astype("float32")


def test_occlusion_finds_the_moment_and_the_place():
    net, x = watcher(), clip()
    over_time = evaluation.occlude_time(net, x, 1, width=1)
    assert over_time.shape == (T,) and over_time.argmax() == 4 and over_time[4] > 0.4
    logit = float(np.asarray(net(x[None]))[0, 1])
    whole, left = (1 / (1 + np.exp(-value)) for value in (logit, logit / T**2))  # the mean frame itself moves by 1 / T
    assert over_time[4] == pytest.approx(whole - left, abs=1e-4)
    np.testing.assert_allclose(np.delete(over_time, 4), 0, atol=2e-2)  # they change the mean frame a little
    wide = evaluation.occlude_time(net, x, 1, width=3)
    assert set(np.flatnonzero(wide > 0.2)) == {3, 4, 5}
    space = evaluation.occlude_space(net, x, 1, patch=2)
    assert space.shape == (H, W)
    np.testing.assert_allclose(space[5:], 0, atol=1e-6)
    np.testing.assert_allclose(space[:, 6:], 0, atol=1e-6)
    assert np.all(space[:4, :4] > 1e-5)
    np.testing.assert_allclose(evaluation.occlude_space(net, x, 0, patch=2), -space, atol=1e-6)


@pytest.mark.parametrize("length, patch, starts", [(8, 4, [0, 2, 4]), (9, 4, [0, 2, 4, 5]), (3, 8, [0])])
def test_patches_cover_all(length, patch, starts):
    assert evaluation._starts(length, patch) == starts


def test_gradient_equals_numeric_differences():
    net, x = watcher(), clip(1)
    found = evaluation.gradient(net, x, 1)
    assert found.shape == x.shape
    for place in [(4, 0, 0, 0), (4, 3, 4, 0), (0, 1, 1, 0), (2, 7, 9, 0)]:
        ends = []
        for side in (0.05, -0.05):  # quadratic in each value: exact over any distance
            moved = x.copy()
            moved[place] += side
            ends.append(float(np.asarray(net(moved[None]))[0, 1]))
        assert found[place] == pytest.approx((ends[0] - ends[1]) / 0.1, abs=1e-3)
    assert evaluation.gradient_over_time(net, x, 1).argmax() == 4
    np.testing.assert_allclose(evaluation.gradient_over_time(net, x, 0), 0)


def test_the_network_stays_as_it_is():
    net, x = model.build_tiny(3, size=16, frames=T), np.random.default_rng(0).random((T, 16, 16, 1)).astype("float32")
    before, flags = net.get_weights(), [layer.trainable for layer in net.layers]
    found = evaluation.gradient(net, x, 2)
    assert np.isfinite(found).all() and np.abs(found).max() > 0 and not net.compiled
    assert [layer.trainable for layer in net.layers] == flags
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_probabilities_of_logits():
    logits = watcher()
    softmax = keras.Model(logits.input, keras.layers.Softmax()(logits.output))
    x = np.stack([clip(), clip(1), clip(2)])
    expected = softmax.predict_on_batch(x)
    np.testing.assert_allclose(evaluation.predict(logits, x), expected, rtol=1e-5)
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-5)


class Split(dict):
    """What step split leaves: 90 clips of two words, each by a speaker of its own, whose sides take turns.

    `told` says how the motion tells the word: by one pattern in much noise, which only a reader of many clips sees, or by
    two patterns together, which no sum of pixels tells. In the validation every clip has the other word's name.
    """

    def __init__(self, folder, told):
        super().__init__(words=["about", "pony"])
        self.folder, rng = folder, np.random.default_rng(0)
        numbers, one, other = np.arange(90), *rng.choice([-1.0, 1.0], (2, 4, 8, 8, 1))
        first, second = rng.choice([-1, 1], (2, 90, 1, 1, 1, 1))
        noise = rng.normal(size=(90, 4, 8, 8, 1))
        motion = {
            "by one pattern": 0.2 * first * one + noise,
            "by two together": first * one + second * other + 0.2 * noise,
        }
        np.save(folder / "clips.npy", np.clip(128 + 20 * motion[told], 0, 255).astype(np.uint8))
        said = (first > 0) if told == "by one pattern" else (first == second)
        sides = np.array(["train", "test", "train", "validation", "train", "test"])[numbers % 6]
        labels = said.ravel() ^ (sides == "validation")
        self.clips = pd.DataFrame({"speaker": [f"s{n}" for n in numbers], "number": labels.astype(int), "split": sides})

    def table(self, name):
        return {"clips": self.clips}[name]


@pytest.mark.parametrize(
    "told, better", [("by one pattern", RidgeClassifier), ("by two together", KNeighborsClassifier)]
)
def test_a_published_network_is_scored_on_the_test_beside_the_better_template(tmp_path, told, better):
    split = Split(tmp_path, told)
    clips, labels = np.load(tmp_path / "clips.npy").astype(float), split.clips["number"].to_numpy()
    train, test = (np.flatnonzero(split.clips["split"] == side) for side in ("train", "test"))
    rows = clips - clips.mean(axis=1, keepdims=True)
    rows = (rows / rows.std(axis=(1, 2, 3, 4), keepdims=True)).reshape(90, -1)
    readers = [RidgeClassifier(alpha=metrics.RIDGE), KNeighborsClassifier(1)]
    said = {type(reader): reader.fit(rows[train], labels[train]).predict(rows[test]) for reader in readers}
    assert max(said, key=lambda kind: (said[kind] == labels[test]).mean()) is better
    kept = test % 4 == 1

    def expected(words):
        f1 = f1_score(labels[test][kept], words[kept], average="macro")
        return pytest.approx({"accuracy": (words == labels[test])[kept].mean(), "macro_f1": f1})

    speakers, score = evaluation.on_test(None, {"split": split}, None)
    assert speakers.tolist() == [f"s{number}" for number in test] and score(kept) == expected(said[better])

    class Network:
        def predict_on_batch(self, batch):
            bright = batch[:, 0, 0, :1, 0] * 255 - 128
            return np.concatenate([0 * bright, bright], axis=1)

    _, score = evaluation.on_test(None, {"split": split}, Network())
    assert score(kept) == expected((clips[test, 0, 0, 0, 0] > 128).astype(int))
    assert score(kept) != score(~kept)
