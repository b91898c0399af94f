"""A trained network as one LiteRT file (once TensorFlow Lite), which phones and small computers run without Keras."""

import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from helpers import runtime
from helpers.course import weights
from helpers.workspace import disk

SUFFIX = ".tflite"
PRECISIONS = ("float32", "float16", "int8")
EXPORTED = ("boat_detection", "lip_reading", "temporal_coherence")


def to_litert(
    model: keras.Model, path: str | os.PathLike, input_shape: tuple[int, ...] | None = None, *,
    precision: str = "float32",
) -> Path:  # fmt: skip
    """Write a model with one input as a LiteRT file for one item at a time; returns the path.

    ValueError: another backend than TensorFlow, a side of unknown length, or an operation that LiteRT lacks.

    Args:
        input_shape: of an item, without the batch; None takes the model's own.
        precision: "float32"; "float16", weights in half the bytes; "int8", weights in a quarter, layers that count in whole
            numbers, their scale taken from each item.
    """
    shape = tuple(model.input_shape[1:] if input_shape is None else input_shape)
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            f"LiteRT files are written by TensorFlow. Received: Keras on {keras.backend.backend()}; "
            "start anew with KERAS_BACKEND=tensorflow"
        )
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}. Received: precision={precision!r}")
    if None in shape:
        raise ValueError(f"input_shape must say every side in numbers. Received: {shape} of {model.name}")
    disk.write(path, _convert(model, shape, precision))
    return Path(path)


def _convert(model: keras.Model, shape: tuple[int, ...], precision: str) -> bytes:
    import tensorflow as tf

    def outputs(inputs):
        found = keras.tree.flatten(model(inputs, training=False))
        return {f"output_{number}": tensor for number, tensor in enumerate(found)}

    holder = tf.Module()  # the converter looks for variables here: without them it writes a file without weights
    holder.weights = [variable.value for variable in model.variables]
    traced = tf.function(outputs, input_signature=[tf.TensorSpec((1, *shape), tf.float32, name="inputs")])
    with runtime.quiet_stderr(), warnings.catch_warnings(action="ignore"):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.get_concrete_function()], holder)
        if precision != "float32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if precision == "float16":
            converter.target_spec.supported_types = [tf.float16]
        try:
            return converter.convert()
        except Exception as error:  # TensorFlow's ConverterError has no public name
            lacks = sorted(set(re.findall(r"'(tf\.\w+)' op is neither", str(error)))) or str(error).splitlines()[:1]
    raise ValueError(f"{model.name} cannot be written as LiteRT, which lacks {', '.join(lacks)}: build it without")


def load_litert(path: str | os.PathLike) -> Callable[[np.ndarray], list[np.ndarray]]:
    """A LiteRT file as a function from inputs (N, ...) to the list of its outputs (N, ...), in the order that Keras has them.

    By the package ai_edge_litert where it is installed, else by TensorFlow's interpreter, which is the same. FileNotFoundError or
    ValueError where there is none of `to_litert`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}: python -m helpers export PROJECT writes one")
    with runtime.quiet_stderr(), warnings.catch_warnings(action="ignore"):
        try:
            try:
                from ai_edge_litert.interpreter import Interpreter
            except ImportError:
                import tensorflow as tf

                Interpreter = tf.lite.Interpreter  # its notice that this will move is silenced above
            interpreter = Interpreter(model_content=path.read_bytes(), num_threads=runtime.cpu_count())
            interpreter.allocate_tensors()
            runner = interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise ValueError(f"{path.name} is no LiteRT file that can be run ({error}): write it anew") from None
    names = sorted(runner.get_output_details(), key=lambda name: int(re.sub(r"\D", "", name) or 0))

    def run(inputs: np.ndarray) -> list[np.ndarray]:
        found = [runner(inputs=np.asarray(item, "float32")[None]) for item in inputs]
        return [np.concatenate([outputs[name] for outputs in found]) for name in names]

    return run


def difference(model: keras.Model, path: str | os.PathLike, inputs: np.ndarray) -> float:
    """The largest absolute difference between a LiteRT file's outputs and those of the model that it was made from."""
    with runtime.quiet_stderr():  # where a model is compiled by XLA, TensorFlow 2.20 says so
        expected = keras.tree.flatten(model.predict_on_batch(inputs))
    found = load_litert(path)(inputs)
    return max(float(np.abs(one - np.asarray(other)).max()) for one, other in zip(found, expected, strict=True))


def build(project: str, network: keras.Model | None = None) -> keras.Model:
    """What is exported of a project: its published network, or one of its `runs.build_network`, up to what a user wants to know.

    Boats give boxes, objectness and classes, `lip_reading` probabilities of words, `temporal_coherence` an embedding of length 1.
    """
    network = network or weights.room(project, "runs").load_published()
    more = [network.cfg] if project == "boat_detection" else []
    return weights.room(project, "model").build_inference_model(network, *more)


def command(project: str, out: str | None, precision: str) -> int:
    """`python -m helpers export`; returns the exit code, or raises ValueError for a project without a network to export."""
    if project not in EXPORTED:
        raise ValueError(f"no network of {project!r} can be exported; there are: {', '.join(EXPORTED)}")
    model = build(project)
    path = to_litert(model, out or f"{project}{SUFFIX}", precision=precision)
    items = np.random.default_rng(0).random((2, *model.input_shape[1:]), dtype="float32")
    within = f"within {difference(model, path, items):.0e} of Keras on random inputs"
    print(f"{path}: {path.stat().st_size:,} bytes, {within}")
    return 0
