"""What can be run here of the weekly workflows: that they are sound, and the script that Colab's image is given."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from helpers import runtime
from helpers.course import notebooks, status

ROOT = runtime.repo_root()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def load(path):
    return yaml.load(path.read_text(), yaml.BaseLoader)  # which leaves `on` a word


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_there_are_four():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "colab.yml", "fresh.yml", "site.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_sound(path):
    workflow = load(path)
    assert workflow["name"] == path.stem and workflow["on"]
    for job in workflow["jobs"].values():
        assert job["runs-on"] and 0 < int(job["timeout-minutes"]) <= 180
    for step in steps(workflow):
        assert ("run" in step) != ("uses" in step)
        assert "@v" in step.get("uses", "@v")
        script = step.get("run", "").replace("${{", "").replace("}}", "")
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        for word in script.replace("'", " ").split():
            if word.endswith(".txt") or ".ci/" in word:
                assert (ROOT / word.removeprefix("/course/")).is_file(), word


@pytest.mark.parametrize("name", ["colab", "fresh"])
def test_a_weekly_workflow_says_what_was_not_tried(name):
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    (schedule,) = load(path)["on"]["schedule"]
    assert len(schedule["cron"].split()) == 5 and schedule["cron"].split()[2:4] == ["*", "*"]
    assert "workflow_dispatch" in load(path)["on"]
    top = path.read_text().split("\nname:")[0].splitlines()
    assert all(line.startswith("#") for line in top) and any("Not tried" in line for line in top)


def test_the_newest_versions_have_no_constraints():
    runs = [step["run"] for step in steps(load(ROOT / ".github" / "workflows" / "fresh.yml")) if "run" in step]
    assert "python -m helpers addresses" in runs and "python -m pytest" in runs
    assert "constraint" not in " ".join(runs).lower()


def test_what_is_published_is_what_was_built():
    workflow = load(ROOT / ".github" / "workflows" / "site.yml")
    done = steps(workflow)
    (built,) = (place for place, step in enumerate(done) if "helpers site" in step.get("run", ""))
    assert done[built]["run"].split() == ["python", "-m", "helpers", "site", "--out", done[built + 1]["with"]["path"]]
    assert [step["uses"].split("@")[0] for step in done[built + 1 :]] == [
        "actions/upload-pages-artifact",
        "actions/deploy-pages",
    ]
    assert workflow["permissions"] == {"contents": "read", "pages": "write", "id-token": "write"}


@pytest.fixture
def colab(tmp_path):
    """A course like this one with one tiny notebook a row, and a stand-in for google.colab; call it to run `.ci/colab`."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    course = tmp_path / "course"
    for name in (".ci", "helpers", "notebooks/lip_reading"):
        (course / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "colab", course / ".ci")
    shutil.copy(ROOT / "pyproject.toml", course)
    (course / "helpers" / "__init__.py").touch()
    (course / "helpers" / "runtime.py").write_text("def quiet_start():\n    print('started')\n")
    setup = notebooks.setup_cell().replace("pip install", "true")  # no test asks a package index
    sources = {"00_a": "assert root.name == name and root.parent == here", "01_b": "1 / 0", "02_c": "print('reached')"}
    for name, source in sources.items():
        cells = [new_code_cell(setup), new_code_cell(source)]
        nbformat.write(new_notebook(cells=cells), course / "notebooks" / "lip_reading" / f"{name}.ipynb")
    identity = [f"-c user.{key}" for key in ("name=a", "email=a@b.c")]
    for command in ("init -q", "add -A", " ".join([*identity, "commit -qm a"])):
        subprocess.run(["git", *command.split()], cwd=course, check=True)
    (tmp_path / "fake" / "google" / "colab").mkdir(parents=True)
    (tmp_path / "fake" / "google" / "colab" / "__init__.py").touch()

    def run(*names):
        paths = [str(course / "notebooks" / "lip_reading" / f"{name}.ipynb") for name in names]
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = os.environ | {"PYTHONPATH": str(tmp_path / "fake"), "PATH": path}
        command = ["bash", str(course / ".ci" / "colab"), str(tmp_path / "alone"), *paths]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)

    return run


def test_the_script_opens_each_notebook_alone_as_colab_does(colab, tmp_path):
    done = colab("00_a")
    assert done.returncode == 0, done.stdout + done.stderr
    made = nbformat.read(tmp_path / "alone" / "done" / "lip_reading_00_a.ipynb", as_version=4)
    assert "started" in "".join(output.get("text", "") for output in made.cells[0].outputs)
    assert (tmp_path / "alone" / "learning-from-video" / "helpers").is_dir()  # its setup cell cloned the course


def test_the_script_goes_on_after_a_failure_and_names_it(colab, tmp_path):
    done = colab()
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "failed: lip_reading_01_b.ipynb"
    names = sorted(path.name for path in (tmp_path / "alone" / "done").iterdir())
    assert names == ["lip_reading_00_a.ipynb", "lip_reading_02_c.ipynb"]
    record = status.read(tmp_path / "alone" / "image.xml")
    assert len(record["date"]) == 10
    passes = {"lip_reading/00_a": True, "lip_reading/01_b": False, "lip_reading/02_c": True}
    assert {name: passed for name, (_, passed) in record["notebooks"].items()} == passes
    assert record["notebooks"]["lip_reading/00_a"][0] > 0
