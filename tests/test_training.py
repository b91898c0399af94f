"""helpers.training and helpers.training.checkpoints. As a script it trains in a folder and kills itself: FOLDER MOMENT."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np
import pandas as pd
import pytest

from helpers import training
from helpers.training import checkpoints, devices, loop

STEPS, EPOCHS = 5, 3
TIMES = ["time", "hours", "steps_per_second"]
MOMENTS = ("inside_an_epoch", "before_the_rename", "at_an_epoch_end")


def build_model(optimizer: str = "momentum", *, units: int = 8, graph: bool = False) -> keras.Model:
    """Dropout, BatchNorm, a metric, a learning rate that changes at each step; eager (starts fast) unless `graph`."""
    keras.utils.set_random_seed(3)
    layers = [
        keras.layers.Dense(units, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.5),
    ]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])
    optimizers = {
        "momentum": lambda: keras.optimizers.SGD(
            keras.optimizers.schedules.ExponentialDecay(0.1, 4, 0.8), momentum=0.9
        ),
        "adam": lambda: keras.optimizers.Adam(0.01),
        "averaged": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_momentum=0.5),
        "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    }
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizers[optimizer](), loss, metrics=["accuracy"], run_eagerly=not graph)
    return model


def make_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([0, step])
    return generator.normal(size=(8, 4)).astype("float32"), generator.integers(0, 3, 8)


def train_data(start_step: int):
    return training.prefetch(make_batch, start_step)


def fit(folder, model=None, *, data=train_data, epochs=EPOCHS, **options):
    options = {"checkpoint_every": 3} | options
    model = model or build_model()
    return training.fit(model, data, run_dir=folder, epochs=epochs, steps_per_epoch=STEPS, **options), model


class Fail(keras.callbacks.Callback):
    """Do something after `count` steps: by default raise, as a crash would."""

    def __init__(self, count: int, action=None):
        super().__init__()
        self.left, self.action = count, action or self.crash

    def crash(self):
        raise ConnectionError("crash")

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            self.action()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(folder: str, moment: str) -> None:
    """States are written at steps 0, 3, 5, 6, 9, 10, ..."""
    replace = Path.replace

    def replace_or_die(self, target):
        if moment == "before_the_rename" and target.name == "state-000000006.h5":
            die()
        replace(self, target)
        second_epoch = target.name == "state-000000010.h5" or (
            target.name == "log.jsonl" and len(target.read_text().splitlines()) == 2
        )
        if moment == "at_an_epoch_end" and second_epoch:  # after the first of the two writes
            die()

    Path.replace = replace_or_die
    fit(folder, build_model(graph=True), callbacks=[Fail(8, die)] if moment == "inside_an_epoch" else [])


def assert_same(got, expected) -> None:
    """Weights bit for bit, and all of the log but its times."""
    (log, model), (expected_log, expected_model) = got, expected
    for value, other in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    pd.testing.assert_frame_equal(log.drop(columns=TIMES), expected_log.drop(columns=TIMES), check_exact=True)


@pytest.fixture(scope="module", autouse=True)
def no_fsync():
    """It guards against a power cut, which no test can cause, and takes most of the time on a slow disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """(log, model) of runs that nothing disturbed, by optimiser; made when first asked for."""
    cache = {}

    def get(optimizer="momentum", *, graph=False, **options):
        key = (optimizer, graph, *options.items())
        if key not in cache:
            cache[key] = fit(tmp_path_factory.mktemp(optimizer), build_model(optimizer, graph=graph), **options)
        return cache[key]

    return get


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Folders of runs that SIGKILL ended, by moment; two processes at a time."""

    def run(moment):
        folder = tmp_path_factory.mktemp(moment)
        done = subprocess.run([sys.executable, __file__, folder, moment], capture_output=True, text=True, timeout=120)
        assert done.returncode == -signal.SIGKILL, done.stderr
        return folder

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MOMENTS, pool.map(run, MOMENTS), strict=True))


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_run_ends_as_if_never_killed(killed, straight, moment, capfd):
    folder = killed[moment]
    resumed_at = {"inside_an_epoch": 6, "before_the_rename": 5, "at_an_epoch_end": 9}[moment]
    assert_same(fit(folder, build_model(graph=True)), straight(graph=True))
    assert f"resumed at step {resumed_at} (epoch 2)" in capfd.readouterr().out
    assert not list(folder.rglob(".*")), "a kill's temporary files are cleared"


def as_dataset(start_step):
    import tensorflow as tf

    steps = tf.data.Dataset.range(start_step, 2**40)
    signature = [tf.float32, tf.int64]
    return steps.map(lambda step: tf.numpy_function(make_batch, [step], signature)).map(
        lambda x, y: (tf.ensure_shape(x, (8, 4)), tf.ensure_shape(y, (8,)))
    )


@pytest.mark.parametrize(
    ("optimizer", "graph", "data", "crash", "options", "resumed"),
    [
        ("momentum", False, train_data, 1, {}, 0),
        ("momentum", True, as_dataset, 9, {}, 6),
        ("adam", False, train_data, 5, {"checkpoint_every": 1}, 4),
        ("adam", False, train_data, 14, {"checkpoint_every": None}, 10),
        ("averaged", True, train_data, 8, {}, 6),
        ("averaged", True, train_data, 13, {"checkpoint_every": 4, "save_every": 2}, 12),
        ("momentum", False, train_data, 12, {"checkpoint_every": None, "save_every": 3}, 0),
    ],
)
def test_crashed_run_ends_as_if_never_crashed(
    tmp_path, straight, capfd, optimizer, graph, data, crash, options, resumed
):
    with pytest.raises(ConnectionError):
        fit(tmp_path, build_model(optimizer, graph=graph), data=data, callbacks=[Fail(crash)], **options)
    got = fit(tmp_path, build_model(optimizer, graph=graph), data=data, **options)
    assert f"resumed at step {resumed} " in capfd.readouterr().out
    log, model = straight(optimizer, graph=graph)
    assert_same((got[0].assign(saved=True), got[1]), (log, model))


def test_a_built_optimizer_is_not_built_again(tmp_path, straight):
    """LossScaleOptimizer, float16's, adds its variables at every build: then states of two sessions would not fit."""
    model = build_model("scaled")
    model.optimizer.build(model.trainable_variables)
    count = len(model.optimizer.variables)
    with pytest.raises(ConnectionError):
        fit(tmp_path, model, callbacks=[Fail(8)])
    assert len(model.optimizer.variables) == count
    assert_same(fit(tmp_path, build_model("scaled")), straight("scaled"))


class ShiftRegister(keras.layers.Layer):
    """Remembers the first number of each of the last 15 training batches."""

    def build(self, shape):
        self.seen = self.add_weight(shape=(15,), initializer="zeros", trainable=False)
        self.scale = self.add_weight(shape=(), initializer="ones")

    def call(self, inputs, training=False):
        if training:
            self.seen.assign(keras.ops.concatenate([self.seen[1:], inputs[:1, 0]]))
        return inputs * self.scale


@pytest.mark.parametrize("metrics", [None, ["mae"]])
@pytest.mark.parametrize("crash", [None, 3, 7])
def test_batches_come_in_order(tmp_path, crash, metrics):
    def data(start_step):
        return training.prefetch(lambda step: (np.full((2, 1), step, "float32"),) * 2, start_step)

    def model():
        built = keras.Sequential([keras.Input((1,)), ShiftRegister()])
        built.compile("sgd", "mse", metrics=metrics)
        return built

    if crash:
        with pytest.raises(ConnectionError):
            fit(tmp_path, model(), data=data, callbacks=[Fail(crash)], checkpoint_every=2)
    _, trained = fit(tmp_path, model(), data=data, checkpoint_every=2)
    np.testing.assert_array_equal(trained.layers[0].seen, np.arange(15))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage", [flip, lambda path: path.write_bytes(path.read_bytes()[:-100]), lambda path: path.write_bytes(b"")]
)
@pytest.mark.parametrize("keep", [1, 3])
def test_damaged_state_is_passed_over(tmp_path, straight, capfd, damage, keep):
    with pytest.raises(ConnectionError):
        fit(tmp_path, callbacks=[Fail(8)])
    newest = checkpoints.states(tmp_path / "checkpoints")[0]
    damage(newest)
    got = fit(tmp_path, keep=keep)
    out = capfd.readouterr().out
    assert f"skipped {newest.name}" in out and "resumed at step 5 (epoch 2)" in out
    assert_same(got, straight())
    assert [path.name for path in checkpoints.states(tmp_path / "checkpoints")] == [
        f"state-{step:09d}.h5" for step in (15, 12, 10)[:keep]
    ]


def test_damaged_later_state_does_not_push_out_a_good_one(tmp_path):
    model = build_model()
    for step in (9, 5):
        path = checkpoints.save(tmp_path, model, checkpoints.capture(model), info={"step": step}, keep=1)
    assert checkpoints.states(tmp_path) == [path]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": lambda: build_model(units=9)}, ("another model", "kernel (4, 8)", "kernel (4, 9)", "run_dir")),
        ({"model": lambda: build_model("adam")}, ("another model", "sgd/iteration", "adam/iteration")),
        ({"seed": 4}, ("seed was 0, now 4",)),
    ],
)
def test_foreign_folder_is_refused(tmp_path, change, words):
    with pytest.raises(ConnectionError):
        fit(tmp_path, callbacks=[Fail(2)])
    options = {key: value() if callable(value) else value for key, value in change.items()}
    with pytest.raises(ValueError) as caught:
        fit(tmp_path, **options)
    assert all(word in str(caught.value).lower() for word in words), caught.value


def test_non_finite_loss_stops(tmp_path):
    def data(start_step):
        return training.prefetch(
            lambda step: (make_batch(step)[0] * (np.nan if step == 7 else 1), make_batch(step)[1]), start_step
        )

    with pytest.raises(RuntimeError, match=r"nan at step 8 \(epoch 2\).*state-000000006.*learning rate"):
        fit(tmp_path, data=data)
    assert checkpoints.read_newest(tmp_path / "checkpoints")[0]["step"] == 6


def test_non_finite_weight_is_never_saved(tmp_path):
    model = build_model()
    poison = Fail(6, lambda: model.layers[0].bias.assign(np.full(8, np.inf)))
    with pytest.raises(RuntimeError, match=r"bias holds NaN or infinity at step 6"):
        fit(tmp_path, model, callbacks=[poison])
    newest, path = checkpoints.read_newest(tmp_path / "checkpoints")
    assert newest["step"] == 5
    assert checkpoints.first_non_finite(model, checkpoints.read_arrays(path, model)) is None


def no_data(start_step):
    raise AssertionError("a finished run asked for data")


def test_weights_that_are_nan_before_the_first_step_are_named(tmp_path):
    model = build_model()
    model.trainable_variables[0].assign(model.trainable_variables[0] * np.nan)
    with pytest.raises(RuntimeError, match=r"holds NaN or infinity before the first step: look at the weights"):
        fit(tmp_path, model)
    assert not list((tmp_path / "checkpoints").glob("*"))


@pytest.mark.parametrize("optimizer", ["momentum", "averaged"])
def test_finished_run_is_not_repeated_and_can_be_continued(tmp_path, straight, optimizer):
    fit(tmp_path, build_model(optimizer))
    final = tmp_path / loop.FINAL
    before = final.read_bytes()
    assert_same(fit(tmp_path, build_model(optimizer), data=no_data), straight(optimizer))
    assert final.read_bytes() == before
    longer = straight(optimizer, epochs=5)
    assert_same(fit(tmp_path, build_model(optimizer), epochs=5), longer)
    fresh = build_model(optimizer)
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(final)
    assert_same((longer[0], fresh), longer)


def test_lost_final_weights_are_written_again(tmp_path):
    _, model = fit(tmp_path)
    (tmp_path / loop.FINAL).write_bytes(b"half a file")
    fit(tmp_path, data=no_data)
    fresh = build_model()
    fresh.optimizer.build(fresh.trainable_variables)
    fresh.load_weights(tmp_path / loop.FINAL)
    np.testing.assert_array_equal(fresh.get_weights()[0], model.get_weights()[0])


class Remote:
    def __init__(self, error=None):
        self.error, self.calls = error, []

    def row(self, mapping):
        self.note("row", mapping["epoch"])

    def upload(self, path):
        self.note("upload", Path(path).name)

    def note(self, *call):
        self.calls.append(call)
        if self.error:
            raise self.error


def test_remote_hears_of_everything_and_stops_nothing(tmp_path, straight):
    remote = Remote(OSError("500 Internal Server Error"))
    assert_same(fit(tmp_path, remote=remote), straight())
    rows = [("row", 1), ("row", 2), ("row", 3)]
    assert remote.calls == [*rows, *[("upload", n) for n in ("state-000000015.h5", loop.FINAL, "log.csv")]]


def test_log_and_validation(tmp_path):
    seen = []
    watcher = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["val_gap"]))
    numbers = iter([np.float32(0.5), float("nan"), 2])
    log, _ = fit(
        tmp_path,
        validation=lambda: {"val_gap": next(numbers)},
        callbacks=[watcher],
        save_every=2,
        config={"a": 1},
        checkpoint_every=None,
    )
    assert log["epoch"].tolist() == [1, 2, 3] and log["step"].tolist() == [5, 10, 15]
    assert log["saved"].tolist() == [False, True, True]
    np.testing.assert_array_equal(log["val_gap"], [0.5, np.nan, 2])
    np.testing.assert_array_equal(seen, [0.5, np.nan, 2])
    np.testing.assert_allclose(log["learning_rate"], 0.1 * 0.8 ** (log["step"] / 4), rtol=1e-5)
    assert log["hours"].is_monotonic_increasing
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "log.csv"), log, check_dtype=False)
    pd.testing.assert_frame_equal(
        pd.read_json(tmp_path / "log.jsonl", lines=True, convert_dates=False), log, check_dtype=False
    )
    assert (tmp_path / "config.json").read_text() == '{\n "a": 1\n}\n'


def test_validation_may_not_hide_a_column(tmp_path):
    with pytest.raises(ValueError, match="loss"):
        fit(tmp_path, validation=lambda: {"loss": 0.0})


def test_early_stop_is_the_end_until_epochs_are_raised(tmp_path):
    def stop():
        return [keras.callbacks.EarlyStopping("val", patience=1, mode="min")]

    log, _ = fit(tmp_path, validation=lambda: {"val": 1.0}, callbacks=stop(), epochs=9)
    assert len(log) == 2
    again, _ = fit(tmp_path, data=no_data, epochs=9)
    pd.testing.assert_frame_equal(again, log)
    assert len(fit(tmp_path, epochs=10)[0]) == 10


def test_output(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(loop, "PROGRESS_SECONDS", 0)
    fit(tmp_path / "a", epochs=1)
    assert "epoch 1/1  step 2/5  loss " in capfd.readouterr().out
    monkeypatch.undo()
    for data, epochs, printed in ((train_data, 22, 11), (as_dataset, 2, 2)):
        fit(tmp_path / data.__name__, data=data, epochs=epochs, checkpoint_every=None)
        out, err = capfd.readouterr()
        assert err == ""
        lines = [line for line in out.splitlines() if line.startswith("epoch ")]
        assert (
            len(lines) == printed
            and lines[-1].startswith(f"epoch {epochs}/{epochs}  loss ")
            and lines[-1].endswith("0:00 left")
        )
        assert out.startswith("device: ") and "float32" in out.splitlines()[0]


def test_several_unused_gpus_are_pointed_out(monkeypatch):
    monkeypatch.setattr(runtime, "devices", lambda: [{"name": "T4"}, {"name": "T4"}])
    assert "training.strategy().scope()" in devices.device_line(build_model())
    monkeypatch.setattr(devices, "replicas", lambda model: 2)
    assert "scope" not in devices.device_line(build_model())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, "epochs must be an int of at least 1, received 0"),
        ({"checkpoint_every": 2.0}, "checkpoint_every must be an int"),
        ({"keep": 0, "save_every": True}, "save_every.*True; keep.*0"),
        ({"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])}, "compiled with an optimizer"),
    ],
)
def test_bad_arguments(tmp_path, options, words):
    with pytest.raises(ValueError, match=words):
        fit(tmp_path, **options)


def test_steps_per_execution(tmp_path):
    model = build_model()
    model.steps_per_execution = 2
    with pytest.raises(ValueError, match="multiple of the model's steps_per_execution"):
        fit(tmp_path, model)


@pytest.mark.parametrize(("last", "error"), [(0, ValueError), (7, ValueError), (1, OSError), (8, OSError)])
def test_errors_of_the_data_come_through(tmp_path, last, error):
    def data(start_step):
        for step in range(start_step, last):
            yield make_batch(step)
        if error is OSError:
            raise OSError("cannot read clip.avi")

    with pytest.raises(error, match=f"ended before step {last}" if error is ValueError else r"clip\.avi"):
        fit(tmp_path, data=data)


def test_a_dataset_that_ends_is_an_error(tmp_path):
    with pytest.raises(Exception, match=r"expected to contain 15 elements|ended at step 7"):
        fit(tmp_path, data=lambda start_step: as_dataset(start_step).take(7 - start_step))


def test_state_holds_every_dtype(tmp_path):
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(3, dtype="bfloat16"), keras.layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.Adam(), "mse")
    model.optimizer.build(model.trainable_variables)
    arrays = checkpoints.capture(model)
    path = checkpoints.save(tmp_path, model, arrays, info={"step": 1}, keep=1)
    checkpoints.assign(model, {group: [np.zeros_like(value) for value in values] for group, values in arrays.items()})
    checkpoints.assign(model, checkpoints.read_arrays(path, model))
    for group, values in checkpoints.capture(model).items():
        for value, expected in zip(values, arrays[group], strict=True):
            assert value.dtype == expected.dtype and value.tobytes() == expected.tobytes()


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_prefetch_keeps_the_order_and_ends_its_threads():
    release, made = threading.Event(), []

    def make(step):
        if step == 5:
            assert release.wait(20)
        made.append(step)
        return step

    batches = training.prefetch(make, 5, workers=3, ahead=4)
    timer = threading.Timer(0.2, release.set)
    timer.start()
    assert [next(batches) for _ in range(3)] == [5, 6, 7]
    assert set(running())
    batches.close()
    assert running() == [] and made != sorted(made) and max(made) <= 7 + 4


def test_prefetch_names_the_step_that_failed():
    def make(step):
        if step == 3:
            raise KeyError("clip")
        return step

    batches = training.prefetch(make, 1)
    assert [next(batches), next(batches)] == [1, 2]
    with pytest.raises(RuntimeError, match="step 3 failed: KeyError") as caught:
        next(batches)
    assert isinstance(caught.value.__cause__, KeyError) and running() == []


def test_fit_leaves_no_thread(tmp_path):
    sources = []  # held, so that no garbage collection closes them

    def data(start_step):
        sources.append(train_data(start_step))
        return sources[-1]

    fit(tmp_path, data=data)
    assert sources and running() == []


if __name__ == "__main__":
    train_and_die(*sys.argv[1:])


@pytest.mark.parametrize("graph", [False, True])
def test_images_may_change_their_size_from_batch_to_batch(tmp_path, graph):
    """Multi-scale training: Keras alone would take the first batches' shape for that of all."""

    def build():
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(2, 3, padding="same"), keras.layers.GlobalAveragePooling2D()]
        model = keras.Sequential([keras.Input((None, None, 1)), *layers])
        model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=not graph)
        return model

    def batch(step):
        side = (8, 8, 12, 16)[step % 4]
        generator = np.random.default_rng(step)
        return generator.random((2, side, side, 1), "float32"), generator.random((2, 2), "float32")

    def run(folder, model, callbacks=()):
        data = lambda start: training.prefetch(batch, start)  # noqa: E731
        return training.fit(
            model, data, run_dir=folder, epochs=2, steps_per_epoch=5, checkpoint_every=2, callbacks=callbacks
        )

    straight = build()
    run(tmp_path / "straight", straight)
    with pytest.raises(ConnectionError):
        run(tmp_path / "killed", build(), [Fail(7)])
    resumed = build()
    run(tmp_path / "killed", resumed)
    for one, two in zip(straight.get_weights(), resumed.get_weights(), strict=True):
        assert np.array_equal(one, two)
