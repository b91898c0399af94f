"""What runs beside the training step: batches made ahead in threads, several GPUs, several machines."""

import contextlib
import itertools
import os
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np

from helpers import runtime


def prefetch(
    make_batch: Callable[[int], Any], start_step: int = 0, *, workers: int = 2, ahead: int = 4
) -> Iterator[Any]:
    """Yield make_batch(start_step), make_batch(start_step + 1), ... in order, computed ahead of use in threads.

    Closing the generator ends the threads (after the batches in work).

    Args:
        make_batch: called from several threads at once; what it returns depends on the step alone.
        workers: threads; NumPy and OpenCV let go of Python's lock, so they truly run side by side.
        ahead: at most so many batches exist or are being made that nobody has asked for yet.

    Raises:
        RuntimeError: make_batch failed; names the step and comes when that step is asked for.
    """
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        stack.callback(pool.shutdown, cancel_futures=True)
        steps = itertools.count(start_step)
        pending = deque((step, pool.submit(make_batch, step)) for step in itertools.islice(steps, max(1, ahead)))
        while True:
            step, future = pending.popleft()
            try:
                batch = future.result()
            except Exception as error:
                raise RuntimeError(
                    f"making the batch of step {step} failed: {type(error).__name__}: {error}"
                ) from error
            following = next(steps)
            pending.append((following, pool.submit(make_batch, following)))
            yield batch


class Feed:
    """The batches of steps start..end-1 as Keras's fit takes them.

    Attributes:
        data: a tf.data.Dataset that knows its length, or a generator.
        example: the first batch, or the specs of one.
        error: what `train_data` raised, which TensorFlow wraps in pages of its own.
    """

    def __init__(self, model: keras.Model, train_data: Callable[[int], Iterable], start: int, end: int) -> None:
        self.error: Exception | None = None
        self.batches = None
        source = train_data(start)
        is_dataset, on_tensorflow = hasattr(source, "element_spec"), keras.backend.backend() == "tensorflow"
        if is_dataset and on_tensorflow:
            self._use_dataset(source, end - start)
            return
        self.batches = self._read(source.as_numpy_iterator() if is_dataset else iter(source), start, end)
        self.example = next(self.batches)
        self.data = itertools.chain([self.example], self.batches)
        if on_tensorflow and replicas(model) > 1:
            self.close()
            self._use_dataset(self._wrap(model, lambda: self._read(iter(train_data(start)), start, end)), end - start)
        elif on_tensorflow and None in _input_sides(model):
            batches = self.data  # left to itself Keras would take the shapes of the first two batches for those of all
            self._use_dataset(self._wrap(model, lambda: batches), end - start)
        else:
            self.data = (batch for batch in self.data)  # Keras asks for a generator

    def _use_dataset(self, dataset: Any, length: int) -> None:
        import tensorflow as tf

        options = tf.data.Options()  # nothing to divide between files: TensorFlow 2.20 would write a warning about it
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        # A dataset of unknown length makes TensorFlow write to standard error when it ends.
        known = dataset.take(length).apply(tf.data.experimental.assert_cardinality(length))
        self.data = known.with_options(options)
        self.example = dataset.element_spec

    def _wrap(self, model: keras.Model, batches: Callable[[], Iterator]) -> Any:
        """A dataset that calls `batches` when it is opened: under a strategy fit throws its first iterator away.

        Sides of the images that the model leaves open may change from batch to batch.
        """
        import tensorflow as tf

        def spec(array, sides=()):
            return tf.TensorSpec((None, *(sides or array.shape[1:])), array.dtype)

        x, *rest = keras.tree.map_structure(spec, self.example)
        sides = _input_sides(model)
        signature = (spec(self.example[0], sides) if None in sides else x, *rest)
        return tf.data.Dataset.from_generator(batches, output_signature=signature).prefetch(tf.data.AUTOTUNE)

    def _read(self, source: Iterator, start: int, end: int) -> Iterator:
        try:
            for step in range(start, end):
                batch = next(source, None)
                if batch is None:
                    raise ValueError(f"train_data({start}) ended before step {step}, it must reach step {end - 1}")
                yield share(batch)
        except Exception as error:
            self.error = error
            raise
        finally:
            getattr(source, "close", lambda: None)()  # ends the threads of `prefetch`

    def close(self) -> None:
        """Close the generator that `train_data` returned."""
        # After an error TensorFlow's thread may be inside it (ValueError); it is then closed with the dataset.
        with contextlib.suppress(ValueError):
            if self.batches:
                self.batches.close()


def _input_sides(model: keras.Model) -> tuple[int | None, ...]:
    """Shape of the input without the batch, None for what may vary; nothing for a model with several inputs."""
    shape = getattr(model, "input_shape", None)
    return shape[1:] if isinstance(shape, tuple) and not any(isinstance(side, tuple) for side in shape) else ()


def share(batch: Any) -> Any:
    """This process's contiguous share of a global batch: all of it, unless JAX was initialised for several processes.

    Raises:
        ValueError: the batch cannot be divided equally.
    """
    index, count = processes()
    if count == 1:
        return batch

    def cut(array):
        if len(array) % count:
            raise ValueError(
                f"a batch of {len(array)} cannot be shared by {count} processes: use a multiple of {count}"
            )
        return array[index * len(array) // count : (index + 1) * len(array) // count]

    return keras.tree.map_structure(cut, batch)


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
        names = list(devices or keras.distribution.list_devices())
        if len(names) > 1:
            # Each process hands over its own share of a batch (see `share`), so nothing is left to be divided.
            parallel = keras.distribution.DataParallel(devices=names, auto_shard_dataset=False)
            return types.SimpleNamespace(
                scope=lambda: contextlib.nullcontext(keras.distribution.set_distribution(parallel))
            )
    return types.SimpleNamespace(scope=contextlib.nullcontext)


def initialize_processes(
    job_addresses: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> int:
    """Join the processes, on one machine or several, that train one model together, and return this one's index.

    Call it first of all, before anything is computed, then build the model under `strategy().scope()`. Without
    arguments it reads KERAS_DISTRIBUTION_JOB_ADDRESSES, KERAS_DISTRIBUTION_NUM_PROCESSES and
    KERAS_DISTRIBUTION_PROCESS_ID; without these either it does nothing. On CPUs also set
    JAX_CPU_COLLECTIVES_IMPLEMENTATION=gloo.

    Args:
        job_addresses: "host:port" of process 0.
        num_processes: how many there are.
        process_id: which one this is, from 0.

    Raises:
        RuntimeError: the backend is not JAX. TensorFlow's MultiWorkerMirroredStrategy fails inside Keras 3's fit.
    """
    if job_addresses is None and "KERAS_DISTRIBUTION_JOB_ADDRESSES" not in os.environ:
        return 0
    if keras.backend.backend() != "jax":
        raise RuntimeError(
            f"several processes need the JAX backend, this one runs {keras.backend.backend()}: "
            "set KERAS_BACKEND=jax before Python starts; several GPUs of one machine need `strategy` only"
        )
    keras.distribution.initialize(job_addresses, num_processes, process_id)
    return processes()[0]


def processes() -> tuple[int, int]:
    """Index of this process and number of processes that train together: (0, 1) unless JAX joined several."""
    if keras.backend.backend() != "jax":
        return 0, 1
    import jax

    return jax.process_index(), jax.process_count()


def agree(step: int) -> None:
    """Wait for all processes and check that they found the same state (-1: none), before anyone writes.

    Raises:
        RuntimeError: they read different folders.
    """
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
