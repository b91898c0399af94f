"""`helpers.runtime`: where it runs, what it says, that nothing reaches standard error."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from helpers import runtime

runtime.quiet_start()

import keras
import numpy as np


def test_repo_root_and_address():
    assert (runtime.repo_root() / "pyproject.toml").is_file()
    assert runtime.repo_url().startswith("https://") and not runtime.repo_url().endswith("/")


def test_a_copied_package_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "helpers" / "runtime.py"))
    with pytest.raises(RuntimeError, match="no data_manifests folder beside the package"):
        runtime.repo_root()


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"COLAB_RELEASE_TAG": "release-colab_20261101"}, "colab"),
        ({"COLAB_GPU": "1"}, "colab"),
        ({"VERTEX_PRODUCT": "COLAB_ENTERPRISE", "COLAB_GPU": "1"}, "colab-enterprise"),
    ],
)
def test_where_by_environment(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert runtime.where() == expected


@pytest.mark.parametrize("product, expected", [("Google Compute Engine\n", "gcp"), ("OptiPlex\n", "elsewhere")])
def test_where_by_board(monkeypatch, tmp_path, product, expected):
    for name in ("COLAB_RELEASE_TAG", "COLAB_GPU", "VERTEX_PRODUCT"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "board").write_text(product)
    monkeypatch.setattr(runtime, "Path", lambda path: tmp_path / "board")
    assert runtime.where() == expected


def test_start_is_quiet_and_leaves_python_able_to_complain():
    code = (
        "from helpers import runtime; runtime.quiet_start(); import sys; print(runtime.devices()); "
        "print('seen', file=sys.stderr)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=runtime.repo_root(), check=True
    )
    assert run.stderr == "seen\n" and "compute_capability" in run.stdout


def test_what_was_hidden_is_shown_when_it_fails(capfd):
    with runtime.quiet_stderr():
        os.write(2, b"only noise\n")
    with pytest.raises(ZeroDivisionError), runtime.quiet_stderr():
        os.write(2, b"a reason\n")
        raise ZeroDivisionError
    assert capfd.readouterr().err == "a reason\n"


def gpu(capability):
    return [{"kind": "GPU", "name": "a GPU", "memory_gib": 15.0, "compute_capability": capability}]


@pytest.mark.parametrize(
    "wanted, found, policy",
    [
        ("float32", gpu((9, 0)), "float32"),
        ("mixed", gpu((7, 5)), "mixed_float16"),
        ("mixed", gpu((8, 0)), "mixed_bfloat16"),
        ("mixed", gpu((9, 0)), "mixed_bfloat16"),
        ("mixed", runtime._cpu(), "mixed_bfloat16"),
        ("mixed_float16", gpu((9, 0)), "mixed_float16"),
    ],
)
def test_precision_follows_the_gpu_and_is_put_back(monkeypatch, wanted, found, policy):
    monkeypatch.setattr(runtime, "devices", lambda: found)
    before = keras.config.dtype_policy().name
    with runtime.precision(wanted) as name:
        assert name == policy == keras.config.dtype_policy().name
    assert keras.config.dtype_policy().name == before


def test_seeds_repeat():
    def draw():
        runtime.set_seeds(3)
        return np.array(keras.random.normal((2,), seed=keras.random.SeedGenerator())), np.random.random()  # noqa: NPY002

    first, second = draw(), draw()
    assert (first[0] == second[0]).all() and first[1] == second[1]


@pytest.mark.parametrize("place", ["colab", "gcp", "elsewhere"])
def test_a_missing_gpu_names_the_way_to_one(monkeypatch, place):
    monkeypatch.setattr(runtime, "where", lambda: place)
    monkeypatch.setattr(runtime, "devices", runtime._cpu)
    runtime.require_gpu(SimpleNamespace(source="local", allow_cpu=True))
    runtime.require_gpu(SimpleNamespace(source="mini", allow_cpu=False))
    with pytest.raises(RuntimeError, match="allow_cpu: true") as caught:
        runtime.require_gpu(SimpleNamespace(source="local", allow_cpu=False))
    assert {"colab": "Change runtime type", "gcp": "Add GPU", "elsewhere": "NVIDIA"}[place] in str(caught.value)
    monkeypatch.setattr(runtime, "devices", lambda: gpu((7, 5)))
    runtime.require_gpu(SimpleNamespace(source="local", allow_cpu=False))


def test_drive_is_mounted_only_when_asked_and_where_it_can_be(monkeypatch, capsys):
    mounted = []
    drive = SimpleNamespace(mount=mounted.append)
    monkeypatch.setitem(sys.modules, "google.colab", SimpleNamespace(drive=drive))
    monkeypatch.setattr(runtime, "where", lambda: "colab-enterprise")
    assert runtime.mount_drive(False) is None and runtime.mount_drive(True) is None
    assert mounted == [] and "no Google Drive here (colab-enterprise)" in capsys.readouterr().out
    monkeypatch.setattr(runtime, "where", lambda: "colab")
    assert runtime.mount_drive(False) is None and mounted == []
    assert runtime.mount_drive(True).name == "MyDrive" and len(mounted) == 1


def test_progress_is_silent_when_told(monkeypatch, capfd):
    monkeypatch.setenv("COURSE_PROGRESS", "0")
    assert list(runtime.progress(range(3), label="x")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
    monkeypatch.setenv("COURSE_PROGRESS", "1")
    list(runtime.progress(range(3), label="clips"))
    out, err = capfd.readouterr()
    assert "clips" in out and err == ""


def test_describe_has_no_path_and_names_the_devices():
    found = runtime.describe()
    assert (
        found["backend"] == keras.backend.backend()
        and found["devices"]
        and found["versions"]["keras"] == keras.__version__
    )
    assert os.sep + "home" not in str(found)


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_onednn_is_on_unless_the_user_says_otherwise(given, expected):
    """Also where the CPU has no AVX-512, on which TensorFlow leaves it off."""
    code = (
        "from helpers import runtime; runtime.quiet_start(); import os; print(os.environ['TF_ENABLE_ONEDNN_OPTS']); "
        "from tensorflow.python.util import _pywrap_util_port as port; print(port.IsMklEnabled())"
    )
    environment = {key: value for key, value in os.environ.items() if key != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"TF_ENABLE_ONEDNN_OPTS": given} if given else {}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=runtime.repo_root(),
        env=environment,
        check=True,
    )
    assert run.stdout.splitlines()[0] == expected
    assert (run.stdout.splitlines()[1] == "True") <= (expected == "1")  # a build without oneDNN never has it


@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "active"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(given, expected):
    """OpenMP itself says which policy it found; OpenBLAS, which says nothing, reads its own when NumPy is imported."""
    code = (
        "import os, sys; from helpers import runtime; assert 'numpy' not in sys.modules; runtime.quiet_start(); "
        "print(os.environ['OPENBLAS_THREAD_TIMEOUT']); import sklearn.cluster"
    )
    environment = {key: value for key, value in os.environ.items() if key not in runtime.WAITING}
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=runtime.repo_root(),
        env=environment | {"OMP_DISPLAY_ENV": "true"} | given,
        check=True,
    )
    assert run.stdout.strip() == "4"
    assert not run.stderr or f"OMP_WAIT_POLICY = '{expected}'" in run.stderr  # an OpenMP other than GNU's shows nothing


def test_every_file_that_imports_tensorflow_starts_quietly_first():
    """TensorFlow reads the variable once, when it is imported: what imports it must have called `quiet_start` or import Keras."""
    wrong = []
    for path in sorted(runtime.repo_root().glob("tests/**/*.py")):
        text = path.read_text()
        imports = [text.find(f"\nimport {name}\n") for name in ("keras", "tensorflow as tf")]
        first = min((place for place in imports if place >= 0), default=-1)
        start = text.find("quiet_start()")
        if first >= 0 and not 0 <= start < first:
            wrong.append(path.name)
    assert wrong == []


def test_shares_of_the_cores(monkeypatch):
    for name in runtime.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "cpu_count", lambda: 5)
    assert runtime.share_of_cpu(1) == {}
    assert set(runtime.share_of_cpu(2).values()) == {"2"} and set(runtime.share_of_cpu(9).values()) == {"1"}
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert runtime.share_of_cpu(2)["OMP_NUM_THREADS"] == "4"  # the user's own word stays


def test_who_asks_is_told():
    name, address = runtime.user_agent().split(" ")
    assert name.startswith("learning-from-video/") and address == f"(+{runtime.repo_url()})"
