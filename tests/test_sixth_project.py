"""CONTRIBUTING.md adds a project: its own files and commands, read out of the page, are followed in a copy of the repository."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from helpers import runtime
from helpers.course import notebooks

ROOT = runtime.repo_root()
FENCED = re.compile(r"([^\n]+)\n\n```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def walk():
    """What the page has the reader do, in order: ("sh", commands) or (a file named in the line before, its text)."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## A sixth project")[1]
    blocks = FENCED.findall(page)
    assert len(blocks) == page.count("\n```") / 2
    return [
        (kind if kind == "sh" else re.findall(r"`([\w/]+\.\w+)`", before)[-1], text) for before, kind, text in blocks
    ]


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """The copy after all that the page says, and what each command said: a list of (command, exit code, output)."""
    if os.name != "posix":
        pytest.skip("the page is for a shell")
    copy, tools = tmp_path_factory.mktemp("sixth") / "course", tmp_path_factory.mktemp("bin")
    for folder in ("helpers", "notebooks", "tests", "data_manifests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    for name in ("README.md", "CITATION.cff", "pyproject.toml", "conftest.py"):
        shutil.copy(ROOT / name, copy)
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "python").chmod(0o755)
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("COURSE_", "PYTEST_"))}
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "COURSE_PROGRESS": "0"}
    said = []
    for what, text in walk():
        if what != "sh":
            (copy / what).write_text(text)
            continue
        for command in text.splitlines():
            done = subprocess.run(["sh", "-c", command], cwd=copy, env=environment, capture_output=True, text=True)
            said.append((command, done.returncode, done.stdout + done.stderr))
    return copy, said


def of(said, words):
    (found,) = ((code, text) for command, code, text in said if words in command)
    return found


def test_all_commands_but_the_last_end_well(followed):
    failed = [(command, text) for command, code, text in followed[1][:-1] if code]
    assert failed == []


def test_one_line_is_all_that_the_package_is_told(followed):
    copy, _ = followed
    old, new = (
        (root / "helpers" / "course" / "notebooks.py").read_text(encoding="utf-8").splitlines() for root in (ROOT, copy)
    )
    (line,) = [line for line in new if line not in old]
    assert eval(line.removeprefix("PROJECTS = ")) == (*notebooks.PROJECTS, "toy")


def test_its_notebooks_run_are_badged_and_stand_in_the_table(followed):
    copy, said = followed
    names = [f"{name}_{step}" for name, step in (("00", "dataset_build"), ("01", "preprocess"), ("02", "split"))]
    names += ["03_train", "04_evaluate", "solutions"]
    code, text = of(said, "helpers run toy")
    assert code == 0 and re.findall(r"^toy/(\w+) .*  ok$", text, re.MULTILINE) == names
    rewritten = of(said, "helpers badges")[1].splitlines()
    assert sorted(rewritten) == [f"rewritten: notebooks/toy/{name}.ipynb" for name in names]
    for name in names:
        notebook = notebooks.read(copy / "notebooks" / "toy" / f"{name}.ipynb")
        assert f"/blob/main/notebooks/toy/{name}.ipynb)" in notebook.cells[0].source
        assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")  # --save
        assert f"| [toy/{name}](notebooks/toy/{name}.ipynb) |" in (copy / "README.md").read_text(encoding="utf-8")
    assert "<h2>Toy</h2>" in (copy / "workspace" / "report" / "index.html").read_text(encoding="utf-8")
    found = notebooks.read(copy / "notebooks" / "toy" / "04_evaluate.ipynb").cells[4].outputs[-1]["data"]["text/plain"]
    assert eval(found)["trained"] > 0.9 > eval(found)["untrained"]  # 40 clips, a chance of a half


def test_the_tests_see_it_and_name_what_is_left(followed):
    code, text = of(followed[1], "pytest")
    failed = sorted(re.findall(r"^FAILED tests/test_notebooks\.py::(\w+\[[^]]+\])", text, re.MULTILINE))
    short = [f"test_notebook_keeps_the_rules[toy/{name}]" for name in
             ("00_dataset_build", "01_preprocess", "02_split", "03_train", "04_evaluate")]  # fmt: skip
    assert code == 1 and failed == [*short, "test_the_glossary_leads_to_every_word_of_a_project[toy]"], text
    assert text.count("has 6 cells, allowed are 25 to 45") >= 5
    assert re.search(r"6 failed, 5 passed", text), text[-300:]  # declared, own (2), answers, the rules for solutions
