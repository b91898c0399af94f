"""Run some tests once more in a process whose Keras has the JAX backend, for the test files that promise both."""

from helpers import runtime

runtime.quiet_start()

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

needs_jax = pytest.mark.skipif(
    importlib.util.find_spec("jax") is None or keras.backend.backend() == "jax",
    reason="jax is not installed, or this is the run on jax",
)


def run(test_file: str, files: list[str], names: list[str], **environment: str) -> str:
    """Run on JAX what `names` choose.

    Args:
        test_file: the caller's `__file__`.
        files: test files beside it, "layers" for test_layers.py.
        names: expressions of pytest's `-k`; a test runs where one of them holds.
        **environment: variables to set besides.

    Returns:
        What pytest printed. The caller checks how many passed: an expression that fits no test is no error to pytest.
    """
    paths = [str(Path(test_file).with_name(f"test_{name}.py")) for name in files]
    chosen = " or ".join(f"({name})" for name in names)
    options = ["-q", "-o", "addopts=", "--import-mode=importlib", "-p", "no:cacheprovider", "-k", chosen]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *paths],
        capture_output=True,
        text=True,
        timeout=900,  # a busy machine
        env={**os.environ, "PYTEST_ADDOPTS": "", "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", **environment},
        cwd=runtime.repo_root(),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    return done.stdout
