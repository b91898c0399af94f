"""What a learner sees last on a machine that cannot run the course: one sentence, with what to press or type."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import runtime
from helpers.course import door, notebooks

ROOT = runtime.repo_root()
START = "from helpers import runtime; runtime.quiet_start(); print('started')"
# Runs a cell as Jupyter and Colab do. `before` builds the machine: fake modules, hidden ones.
CELL = """
import sys, types
from IPython.core.interactiveshell import InteractiveShell
exec(sys.argv[1])
shell = InteractiveShell.instance(colors="NoColor")
shell.run_cell(sys.argv[2])
"""
COLAB = "sys.modules['google.colab'] = types.ModuleType('google.colab')\n"
NOT_INSTALLED = "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in repr(finder)]\n"
KERNEL = "sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
HIDE = """
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hide())
"""


def hide(*names):
    return HIDE.format(names=set(names))


def run_cell(cell, before="", *, cwd=ROOT, python=sys.executable, **environment):
    """What running `cell` shows, line by line."""
    left = ("KERAS_BACKEND", "PYTHONPATH", "COLAB_RELEASE_TAG", "COLAB_GPU", "VERTEX_PRODUCT")
    kept = {key: value for key, value in os.environ.items() if key not in left}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": 120}
    return subprocess.run(
        [python, "-c", CELL, before, cell], cwd=cwd, env=kept | environment, **pipes
    ).stdout.splitlines()


CASES = {  # what the machine is like, its environment -> what the only line holds
    "TPU": (COLAB + hide("tensorflow", "cv2"), {}, "lacks tensorflow, cv2, as TPU runtimes do: menu Runtime > Ch"),
    "TPU, by its environment": (hide("tensorflow"), {"COLAB_RELEASE_TAG": "x"}, "Runtime > Change runtime type > T4 GPU or CPU"),
    "torch": ("", {"KERAS_BACKEND": "torch"}, "backends tensorflow and jax, received 'torch': set KERAS_BACKEND=tensorflow"),
    "a typo": ("", {"KERAS_BACKEND": "tensorfow"}, "received 'tensorfow': set KERAS_BACKEND=tensorflow"),
    "no av": (hide("av"), {}, f"av cannot be imported by {sys.executable}: type  pip install -r requirements.txt  with that"),
    "several": (hide("cv2", "remotezip", "rarfile", "yaml"), {}, "cv2, yaml, remotezip, rarfile cannot be imported by"),
    "no protobuf": (hide("google"), {}, "google.protobuf cannot be imported by"),
    "no av in Colab": (COLAB + hide("av", "rarfile"), {}, "type  !pip install --no-deps av rarfile  in a cell"),
    "no jax": (hide("jax"), {"KERAS_BACKEND": "jax"}, "type  pip install jax  with that Python"),
    "no av for a notebook on jax": (KERNEL + hide("av"), {"KERAS_BACKEND": "jax"}, "av cannot be imported by"),
    "a Python too old": ("sys.version_info = (3, 10, 2, 'final', 0)", {}, "needs Python 3.11 to 3.13, this is 3.10"),
    "a Python too new": ("sys.version_info = (3, 14, 0, 'final', 0)\n" + hide("av"), {}, "needs Python 3.11 to 3.13, this is 3.14"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_one_sentence_says_what_to_press_or_type(name):
    before, environment, words = CASES[name]
    lines = run_cell(START, before, **environment)
    assert len(lines) == 1 and lines[0].startswith("NotReadyError: ") and words in lines[0], lines


@pytest.mark.parametrize(
    ("before", "words"),
    [("", "found Keras 2.15.0: type  pip install -r requirements.txt  with that"), (COLAB, "Disconnect and delete")],
)
def test_keras_2_first_on_the_path(tmp_path, before, words):
    (tmp_path / "keras").mkdir()
    (tmp_path / "keras" / "__init__.py").write_text("__version__ = '2.15.0'\n")
    lines = run_cell(START, f"{before}sys.path.insert(0, {str(tmp_path)!r})\n")
    assert len(lines) == 1 and "the course needs Keras 3" in lines[0] and words in lines[0], lines


def test_the_users_keras_json_counts_where_the_environment_says_nothing(tmp_path):
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch"}))
    lines = run_cell(START, KERAS_HOME=str(tmp_path))
    assert len(lines) == 1 and "received 'torch'" in lines[0], lines
    assert run_cell(START, KERAS_HOME=str(tmp_path), KERAS_BACKEND="jax") == ["started"]


@pytest.mark.parametrize(("key", "value"), [("image_data_format", "channels_first"), ("floatx", "float64")])
def test_settings_of_keras_that_the_layers_cannot_follow(tmp_path, key, value):
    (tmp_path / "keras.json").write_text(json.dumps({key: value}))
    lines = run_cell(START, KERAS_HOME=str(tmp_path))
    assert len(lines) == 1 and f"keras.json says {key} {value!r}, the course needs {door.PLAIN[key]!r}" in lines[0], (
        lines
    )


INSTALLED = f"{NOT_INSTALLED}sys.path.append({str(ROOT)!r})\n"  # what an editable installation comes to
NO_HOME = "import os; del os.environ['HOME']; os.path.expanduser = lambda path: path\n"  # and in no list of users


@pytest.mark.parametrize(("folder", "before"), [("/", ""), (None, NO_HOME)])
def test_a_kernel_anywhere_finds_the_installed_course(tmp_path, folder, before):
    cell = notebooks.setup_cell(URL) + "\nprint(runtime.repo_root())"
    plots = {"MPLCONFIGDIR": str(tmp_path)}  # matplotlib 3.10 itself needs a home otherwise
    lines = run_cell(cell, INSTALLED + before, cwd=folder or tmp_path, **plots)
    assert lines[-1] == str(ROOT), lines


def test_a_foreign_package_of_the_same_name_is_not_taken(tmp_path):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers" / "__init__.py").write_text("")
    lines = run_cell(notebooks.setup_cell(URL), NOT_INSTALLED, cwd=tmp_path)
    assert lines[-1].startswith("FileNotFoundError: the course is not here: ")


def test_a_script_on_jax_needs_no_more_than_keras_and_jax():
    assert run_cell(START, hide("tensorflow", "av", "gdown", "cv2"), KERAS_BACKEND="jax") == ["started"]


@pytest.mark.parametrize("version", ["3.8", "3.9", "3.10"])
def test_an_old_python_itself_reads_as_far_as_the_door(version):
    found = sorted(Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python"))
    python = str(found[0]) if found else shutil.which(f"python{version}")
    if python is None:
        pytest.skip(f"no Python {version} here")
    done = subprocess.run([python, "-c", START], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert f"the course needs Python 3.11 to 3.13, this is {version}" in done.stderr.splitlines()[-1]
    assert "pip install -r requirements.txt" in done.stderr.splitlines()[-1]
    done = subprocess.run([python, "-m", "helpers", "run"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith(f"error: the course needs Python 3.11 to 3.13, this is {version}")


def test_the_door_asks_for_what_requirements_name():
    """Every package that the course needs is looked for, under the name by which it is imported."""
    text = (ROOT / "requirements.txt").read_text().split("# to open")[0]
    needed = {line.split(">=")[0] for line in text.splitlines() if ">=" in line}
    modules = {"scikit-learn": "sklearn", "opencv-python-headless": "cv2", "protobuf": "google.protobuf"}
    modules |= {"google-crc32c": "google_crc32c", "pillow": "PIL", "pyyaml": "yaml"}
    asked = {"tensorflow", "keras", *door.COLABS, *door.ADDED}
    assert {modules.get(name, name) for name in needed} == asked
    assert all(name in notebooks.setup_cell() for name in door.ADDED)


# ---- before there is a clone: the cell itself ----

URL = "https://github.com/someone/a-course"
LOST = {  # address, whether git is there, machine -> the last line
    "the placeholder": ("https://github.com/OWNER/a-course", True, COLAB, "again; first put its GitHub account in place of OWNER"),
    "the placeholder elsewhere": ("https://github.com/OWNER/a-course", True, NOT_INSTALLED, "in place of OWNER"),
    "unreachable": ("file:///nowhere/a-course", True, COLAB, "see that file:///nowhere/a-course opens in a browser, then run this"),
    "no git": (URL, False, COLAB, "install git, then run this cell again"),
    "elsewhere": (URL, True, NOT_INSTALLED, f"open the notebook inside a clone of it: git clone {URL}"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOST)
def test_a_course_that_cannot_be_fetched(tmp_path, name):
    url, has_git, before, words = LOST[name]
    if has_git and not shutil.which("git"):
        pytest.skip("needs git")
    (tmp_path / "bin").mkdir()
    if has_git:  # a git that can reach nothing but files: no test asks the network
        script = '#!/bin/sh\ncase "$*" in *https:*) echo "fatal: could not read Username" >&2; exit 128;; esac\n'
        (tmp_path / "bin" / "git").write_text(f'{script}exec "{shutil.which("git")}" "$@"\n')
        (tmp_path / "bin" / "git").chmod(0o755)
    (tmp_path / "bin" / "sh").symlink_to(shutil.which("sh"))
    (tmp_path / "bin" / "pip").symlink_to(shutil.which("true"))
    lines = run_cell(notebooks.setup_cell(url), before, cwd=tmp_path, PATH=str(tmp_path / "bin"))
    assert lines[-1].startswith("FileNotFoundError: the course is not here: ") and words in lines[-1], lines
    frames = [line for line in lines if line.startswith(("File ", "Cell ", "Input ", "<ipython"))]
    assert len(frames) == 1, lines  # the cell's own, and none behind it
