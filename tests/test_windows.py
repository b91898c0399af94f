"""A project's five steps where everything is forbidden that Windows forbids, see `windows/sitecustomize.py`; and that it is."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.course.notebooks import PROJECTS

TESTS = Path(__file__).parent
FORBIDDEN = {  # what Windows refuses -> the error
    "import fcntl": "ModuleNotFoundError",
    "os.fsync(open('a.txt', 'rb').fileno())": "OSError: [Errno 9]",
    "f = open('a.txt', 'rb'); os.replace('b.txt', 'a.txt')": "PermissionError",
    "f = open('a.txt', 'rb'); os.replace('a.txt', 'c.txt')": "PermissionError",
    "f = open('d/e.txt', 'rb'); os.replace('d', 'f')": "PermissionError",
    "os.replace('d', 'empty')": "PermissionError",
    "os.rename('a.txt', 'b.txt')": "FileExistsError",
    "f = open('a.txt', 'rb'); os.unlink('a.txt')": "PermissionError",
    "import numpy as np; m = np.memmap('a.txt', mode='r'); Path('a.txt').unlink()": "PermissionError",
}
STEPS = """
import os, sys
from pathlib import Path
from helpers import runtime
runtime.quiet_start()
import test_sides
from helpers.course.notebooks import PROJECTS
import importlib
for project in sys.argv[2:]:
    folder = Path(sys.argv[1], project)
    folder.mkdir()
    config = test_sides.load(project).prepare(folder)
    for step in importlib.import_module(f"helpers.{project}.steps").STEPS:
        step(config, Path(sys.argv[1], "workspace"))
    print("done", project, flush=True)
"""
NAMES = set('<>:"|?*\\') | {chr(number) for number in range(32)}


def run_there(script, *arguments, cwd=TESTS.parent, timeout=300):
    """A Python on the emulated Windows."""
    environment = os.environ | {"COURSE_PROGRESS": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (TESTS / "windows", TESTS, TESTS.parent)))
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)


pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux's /proc")


@pytest.mark.parametrize("script", FORBIDDEN)
def test_the_emulation_forbids(tmp_path, script):
    (tmp_path / "d").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("a.txt", "b.txt", "d/e.txt"):
        (tmp_path / name).write_text("x")
    done = run_there(f"import os\nfrom pathlib import Path\n{script}", cwd=tmp_path, timeout=60)
    assert done.returncode == 1 and FORBIDDEN[script] in done.stderr.splitlines()[-1], done.stderr


def steps_there(folder, *projects):
    """Run the five steps; what stands then."""
    done = run_there(STEPS, folder, *projects, timeout=300 * len(projects))
    assert done.returncode == 0 and done.stdout.count("done ") == len(projects), done.stdout + done.stderr
    return [path for path in (folder / "workspace").rglob("*") if path.is_file()]


@pytest.mark.parametrize("projects", [("lip_reading",), PROJECTS], ids=["one", "all"])
def test_five_steps_on_windows(tmp_path, projects):
    if len(projects) > 1 and "COURSE_SLOW" not in os.environ:
        pytest.skip("minutes: set COURSE_SLOW")
    files = steps_there(tmp_path, *projects)
    assert sum(path.name == "step.json" for path in files) == 5 * len(projects)
    for path in files:
        name = path.relative_to(tmp_path).as_posix()
        assert not set(path.name) & NAMES and not path.name.endswith((".", " ")), name
        if path.suffix in (".csv", ".json", ".jsonl", ".txt", ".names", ".data", ".cfg"):
            assert b"\r" not in path.read_bytes(), name
