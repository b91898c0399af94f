"""The stopping rule against Keras's own, and the best weights after training was broken off at the worst moments."""

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pytest

from helpers import training
from helpers.training.early_stop import EarlyStop, best_epoch, best_files, load_best

STEPS = 2
NAN = float("nan")


class Broken(Exception):
    """Stands for a kill: files are whole (they are renamed), memory is gone."""


def build():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.05), "mse", run_eagerly=True)
    return model


def batches(start):
    for step in range(start, 1000):
        rng = np.random.default_rng(step)
        yield rng.normal(size=(4, 3)).astype("float32"), rng.normal(size=(4, 2)).astype("float32")


def run(folder, script, *, patience, breaker=None, weights=None, **options):
    """Train; epoch e (from 1) has the accuracy script[e - 1], and its weights go to weights[e]."""
    model = build()

    def validation():
        epoch = int(model.optimizer.iterations) // STEPS
        if weights is not None:
            if hasattr(model, "jax_state_sync"):
                model.jax_state_sync()
            weights[epoch] = model.get_weights()
        return {"validation_accuracy": script[epoch - 1]}

    callbacks = [EarlyStop(folder, patience=patience), *([breaker] if breaker else [])]
    options = {"epochs": len(script), "steps_per_epoch": STEPS, "validation": validation, **options}
    return training.fit(model, batches, run_dir=folder, callbacks=callbacks, **options)


class BreakAfterEarlyStop(keras.callbacks.Callback):
    """Breaks off when EarlyStop has written its file and `fit` has not yet saved the state of that epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            raise Broken


class BreakInsideEpoch(BreakAfterEarlyStop):
    """Breaks off in the middle of an epoch."""

    on_epoch_end = keras.callbacks.Callback.on_epoch_end

    def on_epoch_begin(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            raise Broken


RULES = [  # accuracies, patience, epochs that run, best epoch
    ([0.1, 0.3, 0.3, 0.2, 0.3, 0.9], 2, 4, 2),
    ([0.1, 0.3, 0.3, 0.2, 0.3, 0.9], 3, 5, 2),
    ([0.1, 0.3, 0.3, 0.2, 0.3, 0.9], 4, 6, 6),
    ([0.0, 0.0, 0.0], 1, 2, 1),  # an accuracy of 0 is kept, too
    ([0.5, 0.4, 0.6, 0.5, 0.6, 0.6], 2, 5, 3),
    ([0.2, NAN, 0.1, 0.3], 2, 3, 1),
    ([0.2, 0.1, 0.1, 0.1], 0, 4, 1),  # 0: off
]


@pytest.mark.parametrize("script, patience, epochs, best", RULES)
def test_the_documented_rule(tmp_path, script, patience, epochs, best, capsys):
    weights = {}
    log = run(tmp_path, script, patience=patience, weights=weights)
    assert len(log) == epochs and best_epoch(log["validation_accuracy"]) == best
    model = build()
    assert load_best(model, tmp_path) == best
    for found, expected in zip(model.get_weights(), weights[best], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert np.any(weights[best][0] != build().get_weights()[0]) and list(best_files(tmp_path)) == [best]
    told = f"validation_accuracy has not grown for {patience} epochs: stopped; best, {script[best - 1]:.4g} in epoch {best}"
    assert (told in capsys.readouterr().out) == (epochs < len(script) or epochs - best == patience > 0)


@pytest.mark.parametrize("script, patience, epochs, best", [rule for rule in RULES if rule[1]])
def test_the_rule_equals_kerass(script, patience, epochs, best):
    theirs = keras.callbacks.EarlyStopping(monitor="validation_accuracy", mode="max", patience=patience)
    model = build()
    model.stop_training = False
    theirs.set_model(model)
    theirs.on_train_begin()
    for epoch, value in enumerate(script):
        theirs.on_epoch_end(epoch, {"validation_accuracy": value})
        if model.stop_training:
            break
    assert epoch + 1 == epochs and theirs.best_epoch + 1 == best


@pytest.mark.parametrize("values, best", [([], 0), ([NAN], 0), ([NAN, 0.0], 2), ([0.3, 0.3], 1), ([-1.0, -0.5], 2)])
def test_best_epoch(values, best):
    assert best_epoch(values) == best


BREAKS = [  # when, options of fit
    (BreakAfterEarlyStop(3), {}),
    (BreakInsideEpoch(4), {}),
    (BreakInsideEpoch(5), {}),
    (BreakAfterEarlyStop(5), {"save_every": 3}),
    (BreakAfterEarlyStop(6), {"save_every": 4, "checkpoint_every": 1}),
    (BreakInsideEpoch(6), {"save_every": 6, "checkpoint_every": 3}),
]


@pytest.mark.parametrize("breaker, options", BREAKS)
def test_a_broken_run_ends_like_a_whole_one(tmp_path, breaker, options):
    script = [0.1, 0.3, 0.5, 0.4, 0.6, 0.5, 0.5, 0.9]  # stops after 7
    whole = run(tmp_path / "whole", script, patience=2, **options)
    with pytest.raises(Broken):
        run(tmp_path / "broken", script, patience=2, breaker=breaker, **options)
    broken = run(tmp_path / "broken", script, patience=2, **options)
    assert len(whole) == len(broken) == 7
    one, other = build(), build()
    assert load_best(one, tmp_path / "whole") == load_best(other, tmp_path / "broken") == 5
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list((tmp_path / "broken").glob(".*.h5")) and list(best_files(tmp_path / "broken")) == [5]


UNDONE = [  # options of fit, epoch that is broken off, the best one of those that count
    pytest.param({}, 4, 2, id="state"),
    pytest.param({"save_every": 3}, 5, 2, id="two_epochs_undone"),
    pytest.param({"save_every": 6, "checkpoint_every": 3}, 3, 2, id="state_inside_an_epoch"),
]


@pytest.mark.parametrize("options, epoch, best", UNDONE)
def test_weights_of_an_undone_epoch_do_not_count(tmp_path, options, epoch, best):
    """The second time the undone epochs are worse, as may happen on a GPU: the best ones before must still be there."""
    weights = {}
    with pytest.raises(Broken):
        breaker = BreakAfterEarlyStop(epoch)
        run(tmp_path, [0.1, 0.3, 0.2, 0.8, 0.9, 0.9], patience=9, breaker=breaker, weights=weights, **options)
    if epoch > 3:
        assert load_best(build(), tmp_path) == epoch
    log = run(tmp_path, [0.1, 0.3, 0.2, 0.1, 0.2, 0.3], patience=9, **options)
    model = build()
    assert load_best(model, tmp_path) == best == best_epoch(log["validation_accuracy"])
    for found, expected in zip(model.get_weights(), weights[best], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_broken_while_the_file_is_written(tmp_path, monkeypatch):
    def fail(model, path):
        raise Broken

    script = [0.1, 0.3, 0.2, 0.2]
    run(tmp_path, script[:1], patience=3)
    with monkeypatch.context() as patch, pytest.raises(Broken):
        patch.setattr(keras.Model, "save_weights", fail)
        run(tmp_path, script, patience=3)
    assert list(best_files(tmp_path)) == [1]
    run(tmp_path, [0.1, 0.0, 0.0, 0.0], patience=3)
    assert load_best(build(), tmp_path) == 1


def test_goes_on_with_its_patience_when_called_for_more_epochs(tmp_path):
    script = [0.5, 0.4, 0.4, 0.4, 0.4, 0.6]
    assert len(run(tmp_path, script[:2], patience=3)) == 2
    assert len(run(tmp_path, script, patience=3)) == 4


@pytest.mark.parametrize("patience", [-1, 1.5, True, None])
def test_bad_patience(tmp_path, patience):
    with pytest.raises(ValueError, match="patience must be an int of at least 0"):
        EarlyStop(tmp_path, patience=patience)


def test_errors_say_what_to_do(tmp_path):
    with pytest.raises(
        ValueError, match=r"EarlyStop watches 'val_top5'. Received: \['loss', 'validation_accuracy'\]; let"
    ):
        training.fit(
            build(),
            batches,
            run_dir=tmp_path,
            epochs=1,
            steps_per_epoch=1,
            validation=lambda: {"validation_accuracy": 0.1},
            callbacks=[EarlyStop(tmp_path, patience=5, monitor="val_top5")],
        )
    with pytest.raises(FileNotFoundError, match=r"no best weights in .*: train with EarlyStop"):
        load_best(build(), tmp_path)
