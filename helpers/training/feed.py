"""How batches reach the training step: handed to Keras's fit, shared by several processes; made ahead in `prefetching`."""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from helpers.training.devices import processes, replicas


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
        self.data = (batch for batch in itertools.chain([self.example], self.batches))  # Keras asks for a generator
        if on_tensorflow and replicas(model) > 1:
            self.close()
            self._use_dataset(self._wrap(model, lambda: self._read(iter(train_data(start)), start, end)), end - start)
        elif on_tensorflow and None in _input_sides(model):
            batches = self.data  # left to itself Keras would take the shapes of the first two batches for those of all
            self._use_dataset(self._wrap(model, lambda: batches), end - start)

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
    """This process's contiguous share of a global batch, all if it is alone; ValueError where it cannot be divided equally."""
    index, count = processes()
    if count == 1:
        return batch

    def cut(array):
        size, rest = divmod(len(array), count)
        if rest:
            raise ValueError(
                f"a batch of {len(array)} cannot be shared by {count} processes: take a multiple of {count}"
            )
        return array[index * size : (index + 1) * size]

    return keras.tree.map_structure(cut, batch)
