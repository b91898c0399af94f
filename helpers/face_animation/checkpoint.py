"""The authors' `.pth.tar` files: read as NumPy arrays, and put into the Keras networks by name."""

import contextlib
from typing import Any

import numpy as np

from helpers.face_animation.formats.torch_files import reader
from helpers.face_animation.formats.torch_files.reader import load_torch
from helpers.face_animation.formats.torch_files.values import CheckpointError

__all__ = ["CheckpointError", "load_torch", "to_keras"]

LEAVES = {
    "kernel": "weight", "gamma": "weight", "bias": "bias", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip
RECOMPUTED = ("num_batches_tracked", "down.weight")  # a counter that nothing reads, and the constant of the anti-alias


def to_keras(
    state: dict[str, dict[str, np.ndarray]], kp_detector: Any, generator: Any, *, discriminator: Any = None
) -> dict[str, dict[str, Any]]:
    """Put a checkpoint's weights into the networks, by name; nothing is changed unless every tensor has its place.

    A Keras variable belongs to the torch tensor whose name, with "." as "_", ends the variable's path; the longest such name
    counts. Kernels (out, in, h, w) become (h, w, in, out).

    Args:
        state: of `load_torch`, with the entries kp_detector and generator (and discriminator where one is passed), side by side, in
            it or deeper, such as under "state_dict"; as dicts, or as beginnings of the tensors' names.
        kp_detector, generator, discriminator: built Keras models of the same variant and size.

    Returns:
        Per network: assigned (tensors that were set), skipped (names of those that are recomputed).

    Raises:
        KeyError: a network has no entry in `state`.
        ValueError: one error with every tensor left over, every variable without a tensor, every other shape, and tensors that hold
            infinite or undefined numbers.
    """
    models = {"kp_detector": kp_detector, "generator": generator, "discriminator": discriminator}
    models = {name: model for name, model in models.items() if model is not None}
    prefixes: set[str] = set()
    parts = reader.find_parts(reader.strip_prefixes(state, prefixes), models, prefixes)
    reader.tell(prefixes)
    if parts is None:
        missing = ", ".join(name for name in models if name not in state) or "weights"
        raise KeyError(f"{missing}: not in the checkpoint; it has: {', '.join(map(str, state))}")
    plans, report, problems = [], {}, []
    for name, model in models.items():
        plan, skipped, wrong = _plan(parts[name], model.weights)
        plans += plan
        report[name] = {"assigned": len(plan), "skipped": skipped}
        problems += [f"{name}: {problem}" for problem in wrong]
    if problems:
        more = [f"... and {len(problems) - 20} more"] if len(problems) > 20 else []
        raise ValueError("\n  ".join([f"{len(problems)} tensor(s) do not fit these networks:", *problems[:20], *more]))
    for variable, array in plans:
        variable.assign(array)
    return report


def _plan(tensors: dict[str, np.ndarray], variables: list) -> tuple[list, list[str], list[str]]:
    tensors = {
        key: array for key, array in tensors.items() if isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
    }
    skipped = [key for key in tensors if key.endswith(RECOMPUTED)]
    left = {key: array for key, array in tensors.items() if key not in skipped}
    prefixes = {prefix.replace(".", "_"): prefix for prefix in {key.rpartition(".")[0] for key in left}}
    plan, problems = [], []
    for variable in variables:
        key = _torch_name(variable.path, prefixes)
        if key not in left:
            problems.append(
                f"no tensor for the variable {variable.path}" + (f" ({key} is gone or taken)" if key else "")
            )
            continue
        array = left.pop(key)
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
        if array.shape != tuple(variable.shape):
            problems.append(f"{key} has shape {array.shape}, the variable {variable.path} {tuple(variable.shape)}")
        elif not np.isfinite(array).all():
            problems.append(f"{key} holds infinite or undefined numbers")
        plan.append((variable, array))
    return plan, skipped, problems + [f"no variable for the tensor {key} {array.shape}" for key, array in left.items()]


def _torch_name(path: str, prefixes: dict[str, str]) -> str:
    *layers, leaf = path.split("/")
    place = "_".join(layers)
    fitting = [name for name in prefixes if place == name or place.endswith(f"_{name}")]
    with contextlib.suppress(ValueError, KeyError):
        return f"{prefixes[max(fitting, key=len)]}.{LEAVES[leaf]}"
    return ""
