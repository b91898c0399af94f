"""Several GPUs, several machines: what divides a training and what its processes agree on.

Which devices a machine has, and the error where a GPU is missing, stand in `helpers.runtime`.
"""

import contextlib
import os
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from helpers import runtime
from helpers.course import door
from helpers.workspace import disk
from helpers.workspace import processes as workspace_processes

GONE = re.compile("gloo|nccl|coordination service|heartbeat", re.IGNORECASE)  # in what JAX says then
_apart = False  # joined by the runner: each process acts alone but in steps that train


class LostProcessError(door.NotReadyError):
    """Another process of a training is gone; a notebook shows the message alone."""


def device_line(model: keras.Model) -> str:
    """One line: the devices, the precision, and how to use all GPUs where only one of several is used."""
    devices = runtime.devices()
    names = ", ".join(device["name"] for device in devices)
    line = f"device: {names}; precision {model.dtype_policy.name}"
    if len(devices) > 1 and replicas(model) == 1:
        line += "; only one of them is used: build and compile the model under `with training.strategy().scope():`"
    return line


def replicas(model: keras.Model) -> int:
    """Over how many devices each batch of `model` is divided."""
    strategy = getattr(model, "distribute_strategy", None)  # the TensorFlow trainer's
    if strategy is not None:
        return strategy.num_replicas_in_sync
    distribution = keras.distribution.distribution()
    return distribution.device_mesh.devices.size if distribution else 1


def strategy(devices: Sequence[str] | None = None) -> Any:
    """Data parallelism over all GPUs: `with strategy().scope():` build and compile; nothing happens with one.

    Each batch is divided over the devices and their gradients are averaged: the batch size is the global one.

    Args:
        devices: names, such as `["GPU:0", "GPU:1"]` on TensorFlow or `["gpu:0", "gpu:1"]` on JAX; None takes the
            visible GPUs, on JAX the devices of all processes.

    Returns:
        An object with `scope()`. `tf.distribute.MirroredStrategy` on TensorFlow; on JAX
        `keras.distribution.DataParallel`, which entering the scope sets for the rest of the process,
        because Keras's fit looks it up.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        names = list(devices or [device.name for device in tf.config.list_logical_devices("GPU")])
        if len(names) > 1:
            return tf.distribute.MirroredStrategy(names)
    else:
        names = list(devices or _all_devices())
        if len(names) > 1:
            # Each process hands over its own share of a batch (see `share`), so nothing is left to be divided.
            parallel = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
            distribute = partial(keras.distribution.set_distribution, parallel)
            return types.SimpleNamespace(scope=lambda: contextlib.nullcontext(distribute()))
    return types.SimpleNamespace(scope=contextlib.nullcontext)


def _all_devices() -> list[str]:
    """Names of the devices of all processes, or of this one's where it acts alone."""
    if not _apart:
        return keras.distribution.list_devices()
    import jax

    return [f"{device.platform}:{device.id}" for device in jax.local_devices()]


def initialize_processes(
    job_addresses: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> int:
    """Join the processes, on one machine or several, that train one model together, and return this one's index.

    Call it first of all, before anything is computed, then build the model under `strategy().scope()`. Without
    arguments it reads KERAS_DISTRIBUTION_JOB_ADDRESSES, KERAS_DISTRIBUTION_NUM_PROCESSES and
    KERAS_DISTRIBUTION_PROCESS_ID; without these either it does nothing. On CPUs also set
    JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo. RuntimeError: the backend is not JAX, for TensorFlow's MultiWorkerMirroredStrategy
    fails inside Keras 3's fit.

    Args:
        job_addresses: "host:port" of process 0.
    """
    if job_addresses is None and "KERAS_DISTRIBUTION_JOB_ADDRESSES" not in os.environ:
        return 0
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            f"several processes need the JAX backend, this one runs {keras.backend.backend()}: "
            "set KERAS_BACKEND=jax before Python starts; several GPUs of one machine need `strategy` only"
        )
    import jax

    if hasattr(jax.config, "jax_enable_preemption_service"):  # it would take SIGTERM away from everybody else
        jax.config.update("jax_enable_preemption_service", False)
    keras.distribution.initialize(job_addresses, num_processes, process_id)
    disk.discards = processes()[0] > 0
    return processes()[0]


def join() -> None:
    """Join the processes that the runner named in the environment, for a notebook: they act together only in steps that train."""
    global _apart
    with runtime.quiet_stderr():
        number, count = (int(os.environ[name]) for name in ("COURSE_PROCESS_ID", "COURSE_PROCESSES"))
        initialize_processes(os.environ["COURSE_COORDINATOR"], count, number)
    _apart, disk.discards, workspace_processes.joined = True, False, sys.modules[__name__]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Within the body the joined processes act as one; what others than process 0 write is discarded."""
    global _apart
    before = keras.distribution.distribution()
    _apart = False
    disk.discards = processes()[0] > 0
    try:
        yield
        wait("all are done")  # before process 0 moves what they read
    except Exception as error:
        if not GONE.search(str(error)):
            raise
        raise LostProcessError(
            "another process of this training ended or cannot be reached: start the same command on all of them again, they go "
            f"on from the last saved state ({str(error).splitlines()[0][:200]})"
        ) from None
    finally:
        _apart, disk.discards = True, False
        keras.distribution.set_distribution(before)


@contextlib.contextmanager
def alone(model: keras.Model) -> Iterator[None]:
    """Within the body each of several processes has a model of its own, the same in all, for what is no training step."""
    global _apart
    if processes()[1] == 1:
        yield
        return
    import jax.numpy as jnp

    model.jax_state_sync()
    distribution, kept = keras.distribution.distribution(), [(v, v._value, v._layout) for v in model.variables]
    for variable, value, _ in kept:  # there is no public way from an array of all processes to one of this
        variable._value, variable._layout = jnp.asarray(np.asarray(value)), None
    try:
        _apart = True
        keras.distribution.set_distribution(None)
        yield
    finally:
        _apart = False
        keras.distribution.set_distribution(distribution)
        for variable, value, layout in kept:
            variable._value, variable._layout = value, layout


def of_first(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers of process 0 in all, lest they stop at different epochs."""
    if processes()[1] == 1:
        return dict(numbers)
    from jax.experimental import multihost_utils

    words = np.array(list(numbers.values()), "float64").view("uint32")  # JAX would round them to 32 bits
    words = np.asarray(multihost_utils.broadcast_one_to_all(words), "uint32")
    return dict(zip(numbers, words.view("float64").tolist(), strict=True))


def processes() -> tuple[int, int]:
    """Index of this process and number of processes that train together: (0, 1) unless JAX joined several."""
    if _apart or keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def tell(key: str, word: str) -> None:
    """Write a word under a new key for all joined processes."""
    _service().key_value_set(key, word)


def ask(key: str) -> str:
    """Wait for the word of another joined process."""
    while True:
        try:
            return _service().blocking_key_value_get(key, 1000)
        except Exception as error:  # it has no class of its own
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def _service() -> Any:
    """JAX's store of words that all joined processes see; None where there are none."""
    if keras.backend.backend() != "jax":
        return None
    from jax._src import distributed  # it has no public name; Orbax takes this one too

    return distributed.global_state.client


def notice(name: str, text: str) -> str | None:
    """Write a word that all joined processes see, unless one of them wrote it before; returns what stands there."""
    if processes()[1] > 1:
        with contextlib.suppress(Exception):  # an error says that it stands there already
            tell(name, text)
    return noticed(name)


def noticed(name: str) -> str | None:
    """What `notice` wrote in any process; None if nothing."""
    if processes()[1] > 1:
        with contextlib.suppress(Exception):  # NOT_FOUND has no class of its own
            return _service().key_value_try_get(name)
    return None


def agree(step: int) -> None:
    """Wait for all processes, and RuntimeError unless all found the same state (-1: none) in one folder, before anyone writes."""
    if processes()[1] == 1:
        return
    from jax.experimental import multihost_utils

    steps = multihost_utils.process_allgather(np.array(step)).ravel().tolist()
    if len(set(steps)) > 1:
        raise RuntimeError(
            f"the processes found states of different steps: {steps} (-1: none). "
            "run_dir must be on a disk that all of them see; process 0 writes there and all read."
        )


def wait(name: str) -> None:
    """Wait until every process is here, so that none runs ahead of the one that writes."""
    if processes()[1] > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(name)
