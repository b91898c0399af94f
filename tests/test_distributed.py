"""Several devices and several processes give the losses of one. As a script, one such run: FOLDER KIND [INDEX PORT]."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
STEPS, EPOCHS = 4, 2


def make_batch(step: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng([0, step])
    return generator.normal(size=(8, 4)).astype("float32"), generator.integers(0, 3, 8)


def build_model(*, random: bool):
    """With `random`, BatchNorm and dropout: JAX divides one global computation, TensorFlow computes per replica."""
    import keras

    keras.utils.set_random_seed(3)
    extra = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)] * random
    layers = [keras.layers.Dense(8, activation="relu"), *extra, keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((4,)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss, metrics=["accuracy"])
    return model


def train(folder: Path, model, **options) -> dict:
    """Train in `folder`; log and weights as plain lists."""
    from helpers import training

    def data(start_step):
        return training.prefetch(make_batch, start_step)

    def watch():  # each process alone, and its random layers and their seeds stay as they are
        return {
            "mean": float(model.predict_on_batch(make_batch(99)[0]).mean()),
            "whole": float(len(model(np.zeros((3, 4))))),
        }

    settings = {"validation": watch, "epochs": EPOCHS, "steps_per_epoch": STEPS, "checkpoint_every": 3}
    log = training.fit(model, data, run_dir=folder, **settings, **options)
    weights = [float(np.asarray(value, "float64").sum()) for value in model.get_weights()]
    log = log.drop(columns=["time", "hours", "steps_per_second"])
    return {"log": log.to_dict("list"), "weights": weights}


def crash_after(count: int):
    import keras

    class Crash(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.seen = getattr(self, "seen", 0) + 1
            if self.seen == count:
                raise ConnectionError("crash")

    return Crash()


def mirrored(folder: Path) -> dict:
    """Two logical CPUs against one, and against a crash and a resume on two."""
    from helpers import runtime

    with runtime.quiet_stderr():
        import tensorflow as tf

        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    runtime.quiet_start()
    from helpers import training
    from helpers.training import devices

    def two():
        with training.strategy(["CPU:0", "CPU:1"]).scope():
            return build_model(random=False)

    model = two()
    found = {"replicas": devices.replicas(model), "two": train(folder / "two", model)}
    found["one"] = train(folder / "one", build_model(random=False))
    try:
        train(folder / "crash", two(), callbacks=[crash_after(7)])
    except ConnectionError:
        found["resumed"] = train(folder / "crash", two())
    with training.strategy().scope():
        found["default"] = devices.replicas(build_model(random=False))
    return found


def one_process(folder: Path) -> dict:
    """One process on JAX: straight, and crashed within an epoch and resumed."""
    found = {"one": train(folder / "one", build_model(random=True))}
    try:
        train(folder / "crash", build_model(random=True), callbacks=[crash_after(7)])
    except ConnectionError:
        found["resumed"] = train(folder / "crash", build_model(random=True))
    return found


def one_of_two(folder: Path, index: str, port: str) -> dict:
    """One of two processes on JAX that train together."""
    from helpers import training
    from helpers.training import devices

    assert training.initialize_processes(f"127.0.0.1:{port}", 2, int(index)) == int(index)

    def two():
        with training.strategy().scope():
            return build_model(random=True)

    model = two()
    found = {"replicas": devices.replicas(model), "two": train(folder / "two", model)}
    try:
        train(folder / "crash", two(), callbacks=[crash_after(7)])
    except ConnectionError:
        found["resumed"] = train(folder / "crash", two())
    return found


def call(*arguments, **environment) -> subprocess.CompletedProcess:
    options = {"capture_output": True, "text": True, "timeout": 180, "cwd": ROOT}
    return subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2"} | environment,
        **options,
    )


def answer(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def assert_close(got: dict, expected: dict) -> None:
    for name, values in expected["log"].items():
        np.testing.assert_allclose(got["log"][name], values, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got["weights"], expected["weights"], atol=1e-4)


def test_two_devices_equal_one(tmp_path):
    done = call(tmp_path, "mirrored", KERAS_BACKEND="tensorflow")
    found = answer(done)
    assert found["replicas"] == 2 and found["default"] == 1
    assert_close(found["two"], found["one"])
    assert found["resumed"]["weights"] == found["two"]["weights"]
    assert_close(found["resumed"], found["two"])
    assert done.stderr == ""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")
def test_two_processes_equal_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo"}
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda index: call(tmp_path, "one_of_two", index, port, **environment), range(2)))
    alone = answer(call(tmp_path / "alone", "one_process", **environment))
    assert alone["resumed"] == alone["one"]
    for found in map(answer, both):
        assert found["replicas"] == 2
        assert_close(found["two"], alone["one"])
        assert found["resumed"] == found["two"]
    assert ["resumed at step 6 (epoch 2)" in done.stdout for done in both] == [True, False]
    assert len(list((tmp_path / "two" / "checkpoints").iterdir())) == 3


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    kind, folder, *rest = sys.argv[2], Path(sys.argv[1]), *sys.argv[3:]
    print(json.dumps({"mirrored": mirrored, "one_process": one_process, "one_of_two": one_of_two}[kind](folder, *rest)))
