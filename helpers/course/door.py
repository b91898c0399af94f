"""The door: what stops a notebook on the wrong machine is said in one sentence, with what to press or type.

Imports nothing heavy, and runs on Pythons that are too old for the course, to say so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax")
PLAIN = {"image_data_format": "channels_last", "floatx": "float32"}  # what all layers and losses rely on
# What notebooks import beside Keras and its backend: what Colab has, and what the setup cell adds there.
COLABS = ["cv2", "numpy", "pandas", "matplotlib", "sklearn", "h5py", "google.protobuf", "google_crc32c", "PIL"]
COLABS += ["joblib", "threadpoolctl", "filelock", "gdown", "requests", "tqdm", "yaml"]
ADDED = ("av", "remotezip", "rarfile")
ROOT = Path(__file__).resolve().parents[2]


class NotReadyError(RuntimeError):
    """This machine cannot run the course; the message is one sentence that ends with what to press or type."""

    def _render_traceback_(self) -> list[str]:
        """What IPython, and so Jupyter and Colab, shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


def _keras_json() -> Path:
    """Where Keras looks for the user's settings."""
    return Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "keras.json"


def _settings() -> dict:
    """The user's keras.json, empty where there is none that can be read: Keras takes its own defaults then."""
    try:
        return dict(json.loads(_keras_json().read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RuntimeError):  # the last: no home
        return {}


def backend() -> str:
    """The backend that Keras will take: KERAS_BACKEND, else what the user's keras.json says, else TensorFlow."""
    return os.environ.get("KERAS_BACKEND") or _settings().get("backend") or "tensorflow"


def check(*, colab: bool) -> None:
    """Look at Python, the backend and the packages, before anything imports them; NotReadyError says what is too old or missing.

    Scripts on JAX (a GPU machine that has little else) need Keras and JAX alone.
    """
    oldest, newest = _pythons()
    found = "{}.{}".format(*sys.version_info)
    if sys.version_info[:2] < oldest:
        raise NotReadyError(_another_python(found, oldest, newest))
    chosen = backend()
    if chosen not in BACKENDS:
        raise NotReadyError(
            f"the course runs on the Keras backends {' and '.join(BACKENDS)}, received {chosen!r}: set "
            "KERAS_BACKEND=tensorflow in the environment, or os.environ['KERAS_BACKEND'] = 'tensorflow' in a first cell, "
            "and restart the kernel"
        )
    for key, needed in PLAIN.items():
        if (received := _settings().get(key, needed)) != needed:
            raise NotReadyError(
                f"{_keras_json()} says {key} {received!r}, the course needs {needed!r}: change that line, or set KERAS_HOME to an "
                "empty folder, and restart the kernel"
            )
    bare = chosen == "jax" and "ipykernel" not in sys.modules
    needed = ("numpy", "keras", "jax") if bare else ("keras", chosen, *COLABS, *ADDED)
    missing = [name for name in needed if not _installed(name)]
    if missing and colab and set(missing) - set(ADDED):
        raise NotReadyError(
            f"this runtime lacks {', '.join(missing)}, as TPU runtimes do: menu Runtime > Change runtime type > T4 GPU or CPU, "
            "then Run all"
        )
    if missing and sys.version_info[:2] > newest:
        raise NotReadyError(_another_python(found, oldest, newest))
    if missing:
        raise NotReadyError(f"{', '.join(missing)} cannot be imported by {sys.executable}: {_install(missing, colab)}")


def check_keras(version: str, *, colab: bool) -> None:
    """NotReadyError where the Keras that was imported is of before version 3."""
    if int(version.split(".")[0]) < 3:
        way = "menu Runtime > Disconnect and delete runtime, then Run all" if colab else _install(["keras"], colab)
        raise NotReadyError(f"the course needs Keras 3, found Keras {version}: {way}")


def _pythons() -> tuple[tuple[int, int], tuple[int, int]]:
    """The oldest and the newest Python of the course, from pyproject.toml, which an old Python has no parser for."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', text).groups()
    return (3, int(low)), (3, int(high) - 1)


def _another_python(found: str, oldest: tuple[int, int], newest: tuple[int, int]) -> str:
    low, high = ("{}.{}".format(*version) for version in (oldest, newest))
    return (
        f"the course needs Python {low} to {high}, this is {found} ({sys.executable}): with one of those, in the course's folder, "
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt, and take that environment as the kernel"
    )


def _installed(name: str) -> bool:
    """Whether a module can be found; only its parent packages are imported."""
    try:
        return name in sys.modules or importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _install(missing: list[str], colab: bool) -> str:
    if colab:
        return f"type  !pip install --no-deps {' '.join(missing)}  in a cell, run it, and run this one again"
    what = "-r requirements.txt" if set(missing) != {"jax"} else "jax"
    return f"type  pip install {what}  with that Python in the course's folder, {ROOT}, and restart the kernel"
