import base64
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import nbformat
import notebook_lint
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import runtime
from helpers.course import notebooks

ROOT = runtime.repo_root()
URL = "https://github.com/someone/a-course"
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/someone/a-course/blob/main/notebooks/lip_reading/02_split.ipynb)"
)


# ---- the notebooks of the repository ----


def test_the_folder_of_notebooks_is_there():
    assert (ROOT / "notebooks").is_dir()


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("notebooks/*/*.ipynb")), ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_notebook_keeps_the_rules(path):
    assert notebook_lint.problems(notebooks.read(path), path) == []


@pytest.mark.parametrize("project", notebooks.PROJECTS)
def test_every_exercise_has_an_answer_with_code(project):
    assert notebook_lint.unanswered(ROOT / "notebooks" / project) == []


def test_badges_links_and_setup_cells_have_the_address_of_pyproject():
    assert notebooks.rewrite_addresses(check=True) == []


# ---- the rules themselves, each on a notebook that breaks it ----


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Path of a notebook in a pretended repository at `URL`."""
    monkeypatch.setattr(runtime, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(runtime, "repo_url", lambda: URL)
    return tmp_path / "notebooks" / "lip_reading" / "02_split.ipynb"


def good():
    """A notebook of 30 cells that keeps every rule."""
    cells = [new_markdown_cell(f"# A title\n\n{BADGE}")]
    cells += [new_code_cell(notebooks.setup_cell(), metadata={"tags": ["setup"]})]
    for _ in range(13):
        cells += [new_markdown_cell("word " * 50), new_code_cell("\n".join(f"value = {n}" for n in range(8)))]
    cells += [new_markdown_cell("## Recap\n\n## Exercises"), new_markdown_cell("[Next](03_train.ipynb)")]
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), 1):
        cell.execution_count = count
    cells[3].outputs = [new_output("stream", name="stdout", text="ready\n")]
    return new_notebook(cells=cells)


def test_a_good_notebook_has_no_problems(place):
    assert notebook_lint.problems(good(), place) == []


def set_source(number, source):
    return lambda notebook: notebook.cells[number].update(source=source)


def add_source(number, source):
    return lambda notebook: notebook.cells[number].update(source=notebook.cells[number].source + "\n" + source)


def set_output(kind, **content):
    return lambda notebook: notebook.cells[3].update(outputs=[new_output(kind, **content)])


def show(html):
    return set_output("display_data", data={"text/html": html})


def tag(number, name):
    return lambda notebook: notebook.cells[number].metadata.update(tags=[name])


def clip(size):
    return f'<video src="data:video/webm;base64,{base64.b64encode(bytes(size)).decode()}"></video>'


def picture(width):
    encoded = cv2.imencode(".png", np.zeros((2, width, 3), np.uint8))[1]
    return base64.b64encode(encoded.tobytes()).decode()


HOSTILE = [
    (lambda n: n.cells[5].update(execution_count=9), "not executed in order"),
    (lambda n: n.cells[5].update(execution_count=None), "not executed in order"),
    (lambda n: n.cells[3].update(outputs=[]), "outputs are stripped"),
    (set_output("error", ename="E", evalue="", traceback=[]), "cell 4 ends in an error"),
    (set_output("stream", name="stderr", text="hm"), "cell 4 writes to stderr"),
    (set_output("stream", name="stdout", text="saved to /home/ann/x.csv"), "absolute path /home/ann/x.csv"),
    (show("<td>/content/data</td>"), "absolute path /content/data"),
    (set_output("execute_result", data={"text/plain": "PosixPath('/tmp/a')"}), "absolute path /tmp/a"),
    (set_output("stream", name="stdout", text="C:\\Users\\ann"), "absolute path C:\\Users\\ann"),
    (add_source(3, "path = '/Users/ann/clips'"), "cell 4 names the absolute path /Users/ann/clips"),
    (add_source(2, "see file:///root/a"), "cell 3 names the absolute path file:///root/a"),
    (add_source(3, "import tensorflow as tf"), "cell 4 imports a backend of Keras"),
    (add_source(3, "from jax import numpy"), "cell 4 imports a backend of Keras"),
    (add_source(3, "!ls"), "begins with ! or %"),
    (add_source(3, "if True:\n    %timeit 1"), "begins with ! or %"),
    (set_output("stream", name="stdout", text="A" * 600_000), "allowed are 600000"),
    (set_source(0, f"A title\n\n{BADGE}"), "no title"),
    (set_source(0, f"# A title\n\n{BADGE.replace('02_split', '01_preprocess')}"), "lacks the Colab badge"),
    (set_source(0, f"# A title\n\n{BADGE.replace('someone', 'else')}"), "lacks the Colab badge"),
    (add_source(1, "print(root)"), "setup cell"),
    (lambda n: n.cells[1].metadata.clear(), "setup cell"),
    (tag(3, "setup"), "setup cell"),
    (lambda n: n.cells.extend(new_markdown_cell("") for _ in range(16)) or n.cells.append(n.cells.pop(29)), "46 cells"),
    (lambda n: n.cells.insert(-1, n.cells.pop(2)) or n.cells.insert(-1, n.cells.pop(3)), "two code cells in a row"),
    (add_source(3, "\n".join("a = 1" for _ in range(13))), "has 21 lines of code, allowed are 20"),
    (lambda n: (tag(3, "model")(n), add_source(3, "\n".join("a" for _ in range(23)))(n)), "allowed are 30"),
    (lambda n: [cell.update(source="few") for cell in n.cells[2:27:2]], "words of text"),
    (add_source(2, "word " * 800), "words of text"),
    (lambda n: [cell.update(source="few") for cell in n.cells[3:28:2]], "lines of code, allowed are 80"),
    (lambda n: [add_source(k, "a = 1\n" * 9)(n) for k in range(3, 28, 2)], "lines of code, allowed are 80"),
    (lambda n: [add_source(k, "a = 1  # @param {}")(n) for k in range(3, 15, 2)], "6 form fields"),
    (set_source(28, "## Exercises"), "no heading Recap"),
    (set_source(28, "## Recap, not exercises"), "no heading Exercises"),
    (set_source(29, "[Next](04_evaluate.ipynb)"), "link to 03_train.ipynb"),
    (tag(3, "nbval-ignore-output"), "tagged nbval-ignore-output"),
    (add_source(2, "![](picture.png)"), "cell 3 has a picture without"),
    (add_source(2, '<img src="picture.png">'), "cell 3 has a picture without"),
    (add_source(2, '<img alt="" src="picture.png">'), "cell 3 has a picture without"),
    (show(clip(9) * 3), "has 3 clips"),
    (show(clip(60_001)), "a clip of 60001 bytes"),
    (add_source(3, "axis.legend(fontsize=8)"), "cell 4 writes in 8 pt"),
    (set_output("display_data", data={"image/png": picture(901)}), "a picture 901 pixels wide"),
]


@pytest.mark.parametrize(("spoil", "words"), HOSTILE, ids=[f"{k}-{words[:30]}" for k, (_, words) in enumerate(HOSTILE)])
def test_each_rule_finds_what_breaks_it(place, spoil, words):
    notebook = good()
    spoil(notebook)
    found = notebook_lint.problems(notebook, place)
    assert len(found) == 1 and words in found[0], found


def test_an_exercise_without_an_answer_is_named(tmp_path):
    exercises = "## Recap\n\n1. not one\n\n## Exercises\n\n1. *Easy.* A\n   2. within\n2. *Open.* B\n"
    asks = new_notebook(cells=[new_markdown_cell(exercises), new_markdown_cell("**Next:** 1. x")])
    answers = [new_markdown_cell("## 00\n\n**00.1** A"), new_code_cell("1"), new_markdown_cell("### 00.2 B")]
    nbformat.write(asks, tmp_path / "00_dataset_build.ipynb")
    nbformat.write(new_notebook(cells=answers), tmp_path / "solutions.ipynb")
    assert notebook_lint.unanswered(tmp_path) == ["00.2"]
    nbformat.write(new_notebook(cells=[*answers, new_code_cell("2")]), tmp_path / "solutions.ipynb")
    assert notebook_lint.unanswered(tmp_path) == []


def test_solutions_may_have_any_length_and_need_no_recap(place):
    notebook, path = good(), place.with_name("solutions.ipynb")
    notebook.cells = [
        new_markdown_cell(notebook.cells[0].source.replace("02_split", "solutions")),
        *notebook.cells[1:6],
    ]
    assert notebook_lint.problems(notebook, path) == []
    notebook.cells[5].source += "\na = 1" * 20
    assert [words for words in notebook_lint.problems(notebook, path) if "lines of code, allowed are 20" in words]


ALLOWED = [
    lambda n: (tag(3, "nbval-ignore-output")(n), add_source(3, "assert value")(n)),
    lambda n: (tag(3, "nbval-ignore-output")(n), add_source(5, "assert value")(n)),
    lambda n: (tag(3, "model")(n), add_source(3, "\n".join("a" for _ in range(22)))(n)),
    add_source(2, "![a cat](cat.png) and <img src='cat.png' alt='a cat'>, https://site.org/home/ann, ../tmp/x and 3/4"),
    set_output("stream", name="stdout", text="workspace/lip_reading/2_split-12345678/train.csv, and/or, ../../home"),
    show(clip(60_000) * 2),
    show(f'<img src="data:image/png;base64,{"A" * 40}+//home/{"A" * 40}">'),
    lambda n: [add_source(k, "a = 1  # @param {}")(n) for k in range(3, 13, 2)],
]


@pytest.mark.parametrize("change", ALLOWED)
def test_the_rules_leave_room(place, change):
    notebook = good()
    change(notebook)
    assert notebook_lint.problems(notebook, place) == []


def test_the_last_notebook_needs_no_link_and_other_names_are_refused(place):
    notebook = good()
    notebook.cells[0].source = notebook.cells[0].source.replace("02_split", "04_evaluate")
    notebook.cells[-1].source = "The end"
    assert notebook_lint.problems(notebook, place.with_name("04_evaluate.ipynb")) == []
    notebook.cells[0].source = notebook.cells[0].source.replace("04_evaluate", "05_more")
    assert "not named" in " ".join(notebook_lint.problems(notebook, place.with_name("05_more.ipynb")))


# ---- badges, links and setup cells ----


def repository(root):
    """A repository with one notebook, all of it carrying an old address."""
    folder = root / "notebooks" / "lip_reading"
    folder.mkdir(parents=True)
    notebook = good()
    notebook.cells[0].source = f"# Title\n\n{BADGE.replace('someone/a-course', 'old/name')}\n\nText."
    notebook.cells[1].source = "print('old setup')"
    notebook.cells[2].source = "See https://github.com/old/name/issues."
    nbformat.write(notebook, folder / "02_split.ipynb")
    (folder / "README.md").write_text("https://github.com/other/name stays; https://github.com/old/name-two too\n")
    (root / "CITATION.cff").write_text("repository-code: https://github.com/old/name\n")
    (root / "README.md").write_text(
        BADGE.replace("someone/a-course", "old/name")
        + "\n\n    git clone https://github.com/old/name.git && cd name && ls"
        + "\n\nraw.githubusercontent.com/old/name/x.png\n\nhttps://old.github.io/name/\n"
    )
    return folder


def test_badges_are_rewritten_from_one_address(place, tmp_path):
    folder = repository(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.is_file()}
    expected = ["README.md", "CITATION.cff", "notebooks/lip_reading/02_split.ipynb"]
    assert notebooks.rewrite_addresses(check=True) == expected
    assert {path: path.read_bytes() for path in before} == before  # --check writes nothing
    assert notebooks.rewrite_addresses() == expected
    assert notebooks.rewrite_addresses(check=True) == []
    assert (tmp_path / "README.md").read_text() == (
        f"{BADGE}\n\n    git clone {URL}.git && cd a-course && ls\n\nraw.githubusercontent.com/someone/a-course/x.png\n\n"
        "https://someone.github.io/a-course/\n"
    )
    assert (tmp_path / "CITATION.cff").read_text() == f"repository-code: {URL}\n"
    assert (folder / "README.md").read_text().startswith("https://github.com/other/name stays")
    assert "old/name-two" in (folder / "README.md").read_text()
    notebook = notebooks.read(folder / "02_split.ipynb")
    assert notebook.cells[0].source == f"# Title\n\n{BADGE}\n\nText."
    assert f'url = "{URL}"' in notebook.cells[1].source
    assert notebook.cells[2].source == f"See {URL}/issues."


def test_a_title_without_a_badge_gets_one(place, tmp_path):
    path = repository(tmp_path) / "02_split.ipynb"
    notebook = notebooks.read(path)
    notebook.cells[0].source = "# Title\n\nText."
    notebooks.write(notebook, path)
    notebooks.rewrite_addresses()
    assert notebooks.read(path).cells[0].source == f"# Title\n\n{BADGE}\n\nText."


def test_a_notebook_without_a_setup_cell_is_named(place, tmp_path):
    path = repository(tmp_path) / "02_split.ipynb"
    notebook = notebooks.read(path)
    del notebook.cells[1]
    notebooks.write(notebook, path)
    with pytest.raises(ValueError, match=r"lip_reading/02_split\.ipynb has 0 code cells tagged setup"):
        notebooks.rewrite_addresses()


@pytest.mark.parametrize("url", ["https://gitlab.com/a/b", "https://github.com/a", "git@github.com:a/b"])
def test_an_address_that_colab_cannot_open_is_refused(monkeypatch, url):
    monkeypatch.setattr(runtime, "repo_url", lambda: url)
    with pytest.raises(ValueError, match=r"must be https://github\.com/<owner>/<name>"):
        notebooks.address()


LONGEST = "https://github.com/" + "o" * 39 + "/" + "n" * 30


@pytest.mark.parametrize("url", [LONGEST, "https://github.com/OWNER/learning-from-video"])
def test_the_setup_cell_is_short_formatted_and_plain(url):
    source = notebooks.setup_cell(url)
    assert len(source.splitlines()) <= 20
    compile(source, "setup", "exec")
    ruff = shutil.which("ruff") or str(Path(sys.executable).with_name("ruff"))
    if Path(ruff).exists():
        command = [ruff, "format", "--config", str(ROOT / "pyproject.toml"), "--stdin-filename", "setup.py", "-"]
        done = subprocess.run(command, input=source + "\n", capture_output=True, text=True, check=True)
        assert done.stdout == source + "\n"


DRIVER = """
import subprocess, sys, types
if sys.argv[2] == "colab":
    sys.modules["google.colab"] = types.ModuleType("google.colab")
original = subprocess.call
def call(command, shell):
    pip, git = command.split("; ")
    print("pip" if pip.startswith("pip install") else pip, "git" if git.startswith("git clone") else git, flush=True)
    return original(git, shell=shell)
subprocess.call = call
exec(open(sys.argv[1]).read())
print(runtime.__file__)
"""


def run_setup(source, *, cwd, colab):
    (cwd / "setup_cell.py").write_text(source)
    command = [sys.executable, "-I", "-S", "-c", DRIVER, "setup_cell.py", "colab" if colab else "elsewhere"]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.fixture
def tiny_course(tmp_path):
    """A git repository with a `helpers.runtime` that says it has started."""
    course = tmp_path / "origin" / "a-course"
    (course / "helpers").mkdir(parents=True)
    (course / "helpers" / "__init__.py").touch()
    (course / "helpers" / "runtime.py").write_text("def quiet_start():\n    print('started')\n")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "a"]):
        subprocess.run([*git, *command], cwd=course, check=True, capture_output=True)
    return course


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_setup_in_colab_clones_once(tiny_course, tmp_path):
    machine = tmp_path / "machine"
    machine.mkdir()
    source = notebooks.setup_cell(tiny_course.as_uri())
    where = str(machine / "a-course" / "helpers" / "runtime.py")
    first = run_setup(source, cwd=machine, colab=True)
    assert (first.stdout.split(), first.stderr) == (["pip", "git", "started", where], "")
    again = run_setup(source, cwd=machine, colab=True)
    assert (again.stdout.split(), again.stderr) == (["started", where], "")


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
def test_setup_elsewhere_finds_the_clone_or_says_what_to_do(tiny_course, tmp_path):
    source = notebooks.setup_cell(tiny_course.as_uri())
    folder = tiny_course / "notebooks" / "lip_reading"
    folder.mkdir(parents=True)
    done = run_setup(source, cwd=folder, colab=False)
    assert done.stdout.split() == ["started", str(tiny_course / "helpers" / "runtime.py")], done.stderr
    lost = tmp_path / "lost"
    lost.mkdir()
    done = run_setup(source, cwd=lost, colab=False)
    assert (
        done.returncode == 1
        and f"the course is not here: open the notebook inside a clone of it: git clone {tiny_course.as_uri()}"
        in done.stderr
    )


# ---- how pytest runs the notebooks ----

LOG = "import os\n_ = open(os.environ['LOG'], 'a').write(' '.join([os.environ['COURSE_WORKSPACE'], %r]) + '\\n')"


# Somebody else holds the lock at first: a line more than in the committed output.
WAITING = """\
import pathlib, subprocess, sys
from helpers.workspace import disk
hold = "import filelock, time; lock = filelock.FileLock('step.lock'); lock.acquire(); print(flush=True); time.sleep(2)"
other = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE)
_ = other.stdout.readline()
with disk.lock(pathlib.Path("step")):
    print("ready: all")"""


# The first kernel of every process dies at its start, like one whose port was taken after it was chosen.
DYING = """\
import nbval.kernel
started, dead = nbval.kernel.KernelManager.start_kernel, []
def start(self, **options):
    started(self, **options)
    if not dead:
        dead.append(self)
        self.signal_kernel(9)
nbval.kernel.KernelManager.start_kernel = start"""


@pytest.fixture(scope="module")
def small_suite(tmp_path_factory):
    """A folder with the root conftest, three notebooks (one prints something else, one breaks) and one test."""
    folder = tmp_path_factory.mktemp("suite")
    shutil.copy(ROOT / "conftest.py", folder)
    cells = {
        "lip_reading/00_dataset_build": [LOG % "00", WAITING],
        "temporal_coherence/00_dataset_build": [
            LOG % "00",
            "print('new')",
            "assert os.environ['COURSE_PROGRESS'] == '0'",
        ],
        "temporal_coherence/01_preprocess": [LOG % "01", "assert 'COURSE_CONFIG' not in os.environ\n1 / 0", "print(1)"],
    }
    for name, sources in cells.items():
        path = folder / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        notebook = new_notebook(cells=[new_code_cell(source, execution_count=1) for source in sources])
        if "print('new')" in sources:
            notebook.cells[1].outputs = [new_output("stream", name="stdout", text="old\n")]
        if WAITING in sources:
            notebook.cells[1].outputs = [new_output("stream", name="stdout", text="ready: all\n")]
        nbformat.write(notebook, path)
    (folder / "notebooks" / "conftest.py").write_text(DYING)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_a.py").write_text("def test_a():\n    " + (LOG % "test").replace("\n", "\n    "))
    (folder / "pytest.ini").write_text("[pytest]\ntestpaths = tests notebooks\naddopts = --nbval-lax\n")
    return folder


def run_pytest(folder, options, *arguments, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COURSE_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(ROOT), "LOG": str(folder / "log"), **variables}
    command = [sys.executable, "-m", "pytest", "-o", f"addopts=-p no:cacheprovider {options}", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300).stdout


def test_notebooks_are_collected_by_number_then_project(small_suite):
    lines = run_pytest(small_suite, "--nbval-lax", "--collect-only", "-q").splitlines()
    files = list(dict.fromkeys(line.split("::")[0] for line in lines if "::" in line))
    names = ["temporal_coherence/00_dataset_build", "lip_reading/00_dataset_build", "temporal_coherence/01_preprocess"]
    assert files == [*(f"notebooks/{name}.ipynb" for name in names), "tests/test_a.py"]


def test_strict_run_with_two_workers_shares_one_workspace_and_skips_after_a_broken_cell(small_suite):
    options = "--nbval --nbval-current-env -n 2 --dist loadscope --no-loadscope-reorder -rA"
    options += f" --nbval-sanitize-with {ROOT / 'tests' / 'nbval_sanitize.cfg'}"
    text = run_pytest(small_suite, options, COURSE_CONFIG="t4")
    counts = dict(reversed(pair) for pair in re.findall(r"(\d+) (passed|failed|skipped)", text.splitlines()[-1]))
    assert counts == {"passed": "6", "failed": "2", "skipped": "1"}, text
    assert "FAILED notebooks/temporal_coherence/00_dataset_build.ipynb::Cell 1" in text  # prints something else
    assert "PASSED notebooks/temporal_coherence/00_dataset_build.ipynb::Cell 2" in text  # and the next cell still runs
    assert "FAILED notebooks/temporal_coherence/01_preprocess.ipynb::Cell 1" in text
    assert "ZeroDivisionError" in text
    assert "Cell 1 of this notebook failed: the cells after it cannot run" in text
    log = [line.rsplit(" ", 1) for line in (small_suite / "log").read_text().splitlines()]
    assert sorted(name for _, name in log) == ["00", "00", "01", "test"]
    folders = {folder for folder, _ in log}
    assert len(folders) == 1
    assert not Path(folders.pop()).exists()


def test_a_given_workspace_is_used_and_kept(small_suite, tmp_path):
    text = run_pytest(small_suite, "", "tests", "-q", COURSE_TEST_WORKSPACE=str(tmp_path), LOG=str(tmp_path / "log"))
    assert "1 passed" in text
    assert (tmp_path / "log").read_text().split() == [str(tmp_path), "test"]


@pytest.mark.parametrize("project", notebooks.PROJECTS)
def test_the_glossary_leads_to_every_word_of_a_project(project):
    page = (ROOT / "notebooks" / project / "README.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| (.+?) \| .+? \| \[\w+\]\((\w+\.ipynb)\) \|$", page.split("## Words")[1], re.MULTILINE)
    glossary = (ROOT / "README.md").read_text(encoding="utf-8").split("## Glossary")[1]
    assert len(words) > 5
    assert [word for word, place in words if f"[{word}](notebooks/{project}/{place})" not in glossary] == []
