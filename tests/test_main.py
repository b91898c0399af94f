import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from importlib.util import find_spec

import bs4
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import runtime
from helpers.__main__ import main
from helpers.course import notebooks, runner
from helpers.course.runner import Progress, find_notebooks

ROOT = runtime.repo_root()
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TABLE = "from IPython.display import HTML, Image, display\ndisplay(HTML('<table><tr><td>3.91 bits</td></tr></table>'))"
FIGURE = f"display(Image(data=__import__('base64').b64decode({base64.b64encode(PNG)!r})))"
CLIP = "display(HTML('<video controls src=\"data:video/webm;base64,QUJD\"></video>'))"
ENVIRONMENT = (
    "import os, sys\n"
    "print(os.environ['COURSE_CONFIG'], os.environ['COURSE_WORKSPACE'], os.environ['COURSE_PROGRESS'])\n"
    "print(os.getcwd(), sys.executable)"
)
BADGE = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/x)"
)


def make(root, name, *cells, **metadata):
    """Write notebooks/<name>.ipynb; a cell given as text is code, a first line `# tags: a b` gives it tags."""
    made = []
    for cell in cells:
        if isinstance(cell, str):
            found = re.match(r"# tags: (.*)\n", cell)
            cell = new_code_cell(cell[found.end() :] if found else cell)
            cell.metadata = nbformat.NotebookNode(tags=found[1].split()) if found else nbformat.NotebookNode()
        made.append(cell)
    path = root / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=made, metadata=metadata), path)
    return path


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """An empty pretended repository; its workspace is the default one."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.setattr(runtime, "repo_root", lambda: root)
    monkeypatch.delenv("COURSE_WORKSPACE", raising=False)
    monkeypatch.delenv("COURSE_CONFIG", raising=False)
    return root


def outside(page):
    """Addresses that a browser would fetch to show the page."""
    soup = bs4.BeautifulSoup(page.read_text(), "html.parser")
    found = [tag.get("src") or (tag.get("href") if tag.name == "link" else None) for tag in soup.find_all(True)]
    found += re.findall(r"url\(([^)]*)\)|@import (\S+)", page.read_text())
    return [address for address in found if address and not str(address).startswith("data:")]


def test_run_reports_goes_on_after_a_failure_and_leaves_the_notebooks_alone(repository, capsys):
    text = new_markdown_cell(f"# First\n\n{BADGE}\n\n![a dot](dot.png)\n\n[next](01_preprocess.ipynb)")
    headline = new_markdown_cell("## What came out")
    broken = ("first = 1", "# a comment\n1 / 0", "print('never')")
    stale = new_code_cell("print('never')", outputs=[new_output("stream", name="stdout", text="stale")])
    make(
        repository,
        "temporal_coherence/00_dataset_build",
        text,
        ENVIRONMENT,
        headline,
        TABLE,
        f"# tags: headline\n{FIGURE}",
    )
    make(repository, "temporal_coherence/01_preprocess", new_markdown_cell("# $x^2$"), *broken, stale)
    make(repository, "temporal_coherence/02_split", "print('not reached')")
    make(repository, "face_animation/00_dataset_build", f"# tags: headline\n{TABLE}", f"# tags: headline\n{CLIP}")
    make(repository, "face_animation/notes", "1 / 0")  # no number: not a part of the course
    folder = repository / "notebooks" / "temporal_coherence"
    (folder / "dot.png").write_bytes(PNG)
    (folder / "README.md").write_text("# Learning from <time>\n")
    before = {path: path.read_bytes() for path in repository.rglob("*.*") if path.is_file()}

    assert main(["run", "--jobs", "1"]) == 1

    assert {path: path.read_bytes() for path in before} == before
    out = capsys.readouterr().out
    workspace = repository / "workspace"
    assert f"    {folder} {sys.executable}\n" in out
    assert re.search(r"^temporal_coherence/00_dataset_build  3/3 cells  \d+ s  ok$", out, re.MULTILINE)
    assert re.search(r"^temporal_coherence/01_preprocess  1/4 cells  \d+ s  failed$", out, re.MULTILINE)
    assert (
        "failed: notebooks/temporal_coherence/01_preprocess.ipynb, code cell 2 failed:\n  | # a comment\n  | 1 / 0"
        in out
    )
    assert "ZeroDivisionError: division by zero" in out and "\x1b" not in out
    assert "02_split" not in out and "notes" not in out
    assert re.search(r"^face_animation/00_dataset_build  2/2 cells  \d+ s  ok$", out, re.MULTILINE)
    assert out.endswith(f"report: {workspace / 'report' / 'index.html'}\n")

    report = workspace / "report"
    pages = sorted(str(path.relative_to(report)) for path in report.rglob("*.html"))
    ran = ["temporal_coherence/00_dataset_build.html", "temporal_coherence/01_preprocess.html"]
    assert pages == ["face_animation/00_dataset_build.html", "index.html", *ran]
    first = bs4.BeautifulSoup((report / ran[0]).read_text(), "html.parser")
    assert f"mini {workspace} 0" in first.text
    assert [picture["alt"] for picture in first("img")] == ["a dot", "output below the heading What came out"]
    assert all(picture["src"].startswith("data:image/png;base64,") for picture in first("img"))
    assert "Open in Colab" in first.text and first.find("a", href="01_preprocess.html")
    assert outside(report / ran[0]) == outside(report / "index.html") == outside(report / pages[0]) == []
    second = (report / ran[1]).read_text()
    assert "ZeroDivisionError" in second and "stale" not in second and "code cell 2 failed" in second
    over_the_network = find_spec("docutils") is None  # its formula; else it is MathML
    assert len(outside(report / ran[1])) == over_the_network == ("Formulas are typeset over the network" in second)

    index = bs4.BeautifulSoup((report / "index.html").read_text(), "html.parser")
    assert [heading.text for heading in index("h2")] == ["Learning from <time>", "Face animation"]
    assert len(index("img")) == len(index("video")) == len(index("table")) == 1  # the other table is no headline
    assert "FIGURE" not in index.text and "base64" not in index.text
    links = [link["href"] for link in index("a")]
    assert links == [*ran, "face_animation/00_dataset_build.html"]
    assert index.find("b", class_="failed").text == "failed"


def test_save_normalises_in_place_and_until_stops(repository, capsys, tmp_path):
    cells = (
        new_markdown_cell("# Title", id="the-title"),
        new_code_cell("import sys\nprint('a', end='\\r')\nprint('b')\nsys.stdout.flush()\nprint('c')", id="the-code"),
    )
    cells[1].metadata = nbformat.NotebookNode(tags=["headline"], execution={"x": "y"}, ExecuteTime={"z": 1})
    metadata = {"widgets": {}, "accelerator": "GPU", "language_info": {"name": "python", "version": "3.9.1"}}
    path = make(repository, "lip_reading/01_preprocess", *cells, **metadata)
    other = make(repository, "lip_reading/02_split", "print(1)")
    before = other.read_bytes()
    options = ["--workspace", str(tmp_path / "w"), "--html", str(tmp_path / "pages")]
    assert main(["run", "lip_reading", "--until", "preprocess", "--save", *options]) == 0
    assert other.read_bytes() == before
    assert (tmp_path / "pages" / "index.html").is_file() and not (repository / "workspace").exists()
    saved = nbformat.read(path, as_version=4)
    assert saved.metadata == {
        "accelerator": "GPU",
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    assert [cell.id for cell in saved.cells] == ["the-title", "the-code"]
    assert saved.cells[1].metadata == {"tags": ["headline"]}
    assert saved.cells[1].execution_count == 1
    assert saved.cells[1].outputs == [{"output_type": "stream", "name": "stdout", "text": "b\nc\n"}]
    assert path.read_text().endswith("}\n")
    once = path.read_bytes()
    assert main(["run", "lip_reading", "--until", "01", "--save", *options]) == 0
    assert path.read_bytes() == once


def test_save_refuses_what_must_not_be_committed(repository, capsys):
    sources = ("print('fine')", "import sys\nprint('oh', file=sys.stderr)", "import os\nprint(os.getcwd())")
    path = make(repository, "lip_reading/00_dataset_build", *sources)
    before = path.read_bytes()
    assert main(["run", "--save"]) == 1
    assert path.read_bytes() == before
    out = capsys.readouterr().out
    assert "00_dataset_build.ipynb is not saved" in out
    assert "cell 2: writes to stderr: oh" in out and "cell 3: shows an absolute path: " in out and "cell 1:" not in out


def test_a_file_as_config_reaches_the_kernel_with_its_full_path(repository, capsys, tmp_path, monkeypatch):
    make(repository, "boat_detection/00_dataset_build", "import os\nprint(os.environ['COURSE_CONFIG'])")
    (tmp_path / "mine.yaml").write_text("epochs: 1\n")
    monkeypatch.chdir(tmp_path)
    assert main(["run", "boat_detection", "--config", "mine.yaml"]) == 0
    assert f"    {tmp_path / 'mine.yaml'}\n" in capsys.readouterr().out


def test_a_project_greets_and_checks_a_config_file_before_any_kernel(repository, capsys, tmp_path):
    make(repository, "lip_reading/00_dataset_build", "print('the kernel ran')")
    (repository / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    good = (ROOT / "notebooks" / "lip_reading" / "mini.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(good)
    assert main(["run", "lip_reading", "--config", str(tmp_path / "mine.yaml")]) == 0
    out = capsys.readouterr().out
    assert out.index("tensorflow") < out.index("the kernel ran") and "learning-from-video" in out
    bad = good.replace("lr: 0.002", "lr: fast").replace("epoch: ", "epochs: ")
    (tmp_path / "mine.yaml").write_text(bad)
    assert main(["run", "lip_reading", "--config", str(tmp_path / "mine.yaml")]) == 1
    out, complaint = capsys.readouterr()
    assert "the kernel ran" not in out and all(word in complaint for word in ("3 problem(s)", "lr", "epochs", "epoch:"))


def test_a_kernel_that_dies_and_a_broken_file_are_failures(repository, capsys):
    make(repository, "temporal_coherence/00_dataset_build", "x = 1", "import os\nos.kill(os.getpid(), 9)")
    make(repository, "lip_reading/00_dataset_build").write_text("{")
    assert main(["run"]) == 1
    out = capsys.readouterr().out
    assert "00_dataset_build.ipynb, after 1 of 2 code cells: Kernel died" in out
    assert "notebooks/lip_reading/00_dataset_build.ipynb, no notebook" in out


def test_a_kernel_that_dies_at_its_start_is_started_anew_twice(repository, capsys, monkeypatch):
    make(repository, "lip_reading/00_dataset_build", "print('the kernel ran')")
    working, dying = runner.get_kernel_dict(), {"argv": [sys.executable, "-c", "raise SystemExit('port taken')"]}
    kernels = [{**working, **dying}, {**working, **dying}, working]
    monkeypatch.setattr(runner, "get_kernel_dict", lambda: kernels.pop(0))
    assert main(["run", "lip_reading"]) == 0
    assert "the kernel ran" in capsys.readouterr().out and not kernels
    kernels = [{**working, **dying}] * 4
    assert main(["run", "lip_reading"]) == 1
    assert "after 0 of 1 code cells: Kernel died before replying" in capsys.readouterr().out and len(kernels) == 1


WRONG = [
    (
        ["run", "lip_readng"],
        "unknown project 'lip_readng' (did you mean lip_reading?); there are: lip_reading, face_ani",
    ),
    (["run", "boat_detection"], "unknown project 'boat_detection'"),
    (["run", "--config", "mine.yaml"], "goes with exactly one PROJECT"),
    (["run", "lip_reading", "face_animation", "--config", "mine.yaml"], "goes with exactly one PROJECT"),
    (["run", "lip_reading", "--config", "none.yaml"], "there is no config file none.yaml; allowed: mini, t4, full or"),
    (["run", "--until", "07"], "'07' is no step"),
    (["run", "--until", "spilt"], "did you mean split?"),
    (["run", "--jobs", "0"], "'0'; allowed: a whole number of at least 1"),
    (["run", "--unknown"], "unrecognized arguments"),
    ([], "required"),
    (["walk"], "invalid choice"),
]


@pytest.mark.parametrize(("arguments", "words"), WRONG)
def test_bad_arguments_end_with_code_2(repository, capsys, monkeypatch, arguments, words):
    make(repository, "lip_reading/00_dataset_build", "1")
    make(repository, "face_animation/00_dataset_build", "1")
    (repository / "mine.yaml").touch()
    monkeypatch.chdir(repository)
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_no_notebooks_at_all_is_an_error(repository, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["run"])
    assert "there are no notebooks" in capsys.readouterr().err


STEPS = {
    "00_dataset_build": ["0", "00", "dataset_build", "00_dataset_build", "00_dataset_build.ipynb"],
    "02_split": ["2", "02", "split", "02_split"],
    "04_evaluate": ["4", "04", "evaluate", "04_evaluate"],
    "solutions": ["solutions"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in STEPS.items() for text in texts])
def test_until_takes_number_step_or_name(repository, monkeypatch, name, text):
    seen = {}
    make(repository, "lip_reading/00_dataset_build", "1")
    monkeypatch.setattr("helpers.__main__.run", lambda *arguments, **options: seen.update(options) or 0)
    assert main(["run", "--until", text]) == 0
    assert seen["until"] == name


def test_solutions_run_last_and_only_when_asked_for(repository):
    names = ("00_dataset_build", "04_evaluate", "solutions")
    for name in (*names, "Untitled"):
        make(repository, f"lip_reading/{name}", "1")
    found = {
        until: [path.stem for path in find_notebooks("lip_reading", until)] for until in (None, "02_split", names[-1])
    }
    assert found == {None: [*names[:2]], "02_split": [names[0]], "solutions": [*names]}


def test_projects_run_in_the_order_of_the_readme(repository, monkeypatch):
    seen = []
    for project in ("face_animation", "boat_detection", "temporal_coherence"):
        make(repository, f"{project}/00_dataset_build", "1")
    monkeypatch.setattr("helpers.__main__.run", lambda projects, *arguments, **options: seen.append(projects) or 0)
    main(["run"])
    main(["run", "face_animation", "temporal_coherence"])
    assert seen == [
        ["temporal_coherence", "boat_detection", "face_animation"],
        ["temporal_coherence", "face_animation"],
    ]


def test_progress_updates_one_line_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "50")
    progress = Progress("lip_reading/03_train", 2)
    progress.relay("epoch 1/3 " + "and much more " * 9)
    progress.cell()
    progress.end("ok")
    out = capsys.readouterr().out
    assert out.endswith("\n") and out.count("\n") == 1
    lines = out.rstrip("\n").split("\r")[1:]
    assert {len(line) for line in lines} == {49}  # each covers the one before, none wraps
    assert [re.sub(r"\d+ s", "N s", line).strip()[:52] for line in lines] == [
        "lip_reading/03_train  0/2 cells  N s",
        "lip_reading/03_train  0/2 cells  N s  epoch 1/3 a",
        "lip_reading/03_train  1/2 cells  N s",
        "lip_reading/03_train  1/2 cells  N s  ok",
    ]


def test_projects_run_side_by_side_in_their_own_order_with_half_the_threads(repository, capsys, tmp_path, monkeypatch):
    for name in runtime.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(runtime, "cpu_count", lambda: 2)
    meet = "import time\nfrom pathlib import Path\nPath({mine!r}).touch()\nwhile not Path({other!r}).exists(): time.sleep(0.05)"
    paths = [str(tmp_path / name) for name in ("a", "b")]
    for project, mine, other in (("lip_reading", *paths), ("face_animation", *reversed(paths))):
        threads = f"import os\nprint({project!r}, {{os.environ[name] for name in {runtime.THREADS}}})"
        make(repository, f"{project}/00_dataset_build", meet.format(mine=mine, other=other), threads)
        make(repository, f"{project}/01_preprocess", "1")
    assert main(["run", "--jobs", "2"]) == 0  # one after the other they would wait for ever
    lines = capsys.readouterr().out.splitlines()
    assert "lip_reading/00_dataset_build  lip_reading {'1'}" in lines
    ends = [line.split()[0] for line in lines if line.endswith("ok")]
    assert sorted(ends[:2]) == ["face_animation/00_dataset_build", "lip_reading/00_dataset_build"]
    index = bs4.BeautifulSoup((repository / "workspace" / "report" / "index.html").read_text(), "html.parser")
    assert [heading.text for heading in index("h2")] == ["Lip reading", "Face animation"]


def test_two_notebooks_share_the_line_of_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    first, second = Progress("lip_reading/03_train", 2), Progress("boats/00", 1)
    first.relay("epoch 1/3 and more")
    second.end("ok")
    first.end("ok")
    out = capsys.readouterr().out
    lines = [re.sub(r"\d+ s", "N s", line).strip() for line in re.split(r"[\r\n]+", out) if line]
    assert lines[2].startswith("lip_reading/03_train  0/2 cells  N s") and " | boats/00  0/1 cells" in lines[2]
    assert lines[3] == "boats/00  0/1 cells  N s  ok" and lines[4].endswith("epoch 1/3 and more")
    assert lines[5] == "lip_reading/03_train  0/2 cells  N s  ok" and out.count("\n") == 2


INTERRUPTED = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background of a shell ignores it
from pathlib import Path
from helpers import runtime
runtime.repo_root = lambda: Path(sys.argv[1])
from helpers.__main__ import main
sys.exit(main(["run", "--jobs", sys.argv[2]]))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_the_kernels_and_ends_with_code_130(repository, jobs):
    cell = "import os, time\nprint('kernel', os.getpid(), flush=True)\ntime.sleep(120)"
    projects = ("temporal_coherence", "lip_reading", "face_animation")
    for project in projects:
        make(repository, f"{project}/00_dataset_build", "print('first')", cell)
    command = [sys.executable, "-u", "-c", INTERRUPTED, str(repository), str(jobs)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COURSE_WORKSPACE": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    kernels = []
    with subprocess.Popen(command, **pipes) as process:
        for line in process.stdout:
            kernels += re.findall(r"kernel (\d+)", line)
            if len(kernels) == jobs:
                process.send_signal(signal.SIGINT)
                break
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 130, rest
    assert rest.count("1/2 cells") == rest.count("s  interrupted") == jobs
    assert "Traceback" not in rest and projects[jobs] not in rest
    for project in projects[:jobs]:
        assert (repository / "workspace" / "report" / project / "00_dataset_build.html").is_file()
    for kernel in kernels:
        with pytest.raises(ProcessLookupError):
            os.kill(int(kernel), 0)


SAVES = """
import os, signal, time
from helpers.training import preemption
watch = preemption.Preemption()
with watch.watching():
    print("kernel", os.getpid(), flush=True)
    while not watch.due(7):
        time.sleep(0.1)
    time.sleep(0.5)
    watch.end("SIGTERM: step 7 is saved; the same call goes on from there")
"""


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (SAVES, "step 7 is saved"),
        (SAVES.splitlines()[1] + "\nprint('kernel', os.getpid())\ntime.sleep(60)", "what was finished stays"),
    ],
)
def test_sigterm_is_handed_on_and_waited_for(repository, cell, words):
    make(repository, "lip_reading/00_dataset_build", "print('first')", cell)
    make(repository, "lip_reading/01_preprocess", "print('never')")
    command = [sys.executable, "-u", "-c", INTERRUPTED, str(repository), "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COURSE_WORKSPACE": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": environment}
    with subprocess.Popen(command, **pipes) as process:
        kernel = next(int(found[1]) for line in process.stdout if (found := re.search(r"kernel (\d+)", line)))
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[0]
    assert process.returncode == 143, rest
    assert f"stopped by SIGTERM: {words}, and the same command goes on from there\n" in rest
    assert "Traceback" not in rest and "never" not in rest and "01_preprocess" not in rest
    with pytest.raises(ProcessLookupError):
        os.kill(kernel, 0)


def test_badges_command_lists_and_repairs(repository, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "repo_url", lambda: "https://github.com/someone/a-course")
    path = make(repository, "lip_reading/00_dataset_build", new_markdown_cell("# Title"), "# tags: setup\n1")
    assert main(["badges", "--check"]) == 1
    assert "differs: notebooks/lip_reading/00_dataset_build.ipynb" in capsys.readouterr().out
    assert main(["badges"]) == 0
    assert main(["badges", "--check"]) == 0
    assert "someone/a-course/blob/main/notebooks/lip_reading/00_dataset_build.ipynb" in path.read_text()
    nbformat.write(new_notebook(cells=[new_markdown_cell("# Title")]), path)
    assert main(["badges"]) == 1
    assert "0 code cells tagged setup" in capsys.readouterr().err


ORIGINS = [
    "https://github.com/some-one/a.course.git",
    "git@github.com:some-one/a.course.git",
    "https://github.com/some-one/a.course/",
]
ORIGINS += ["ssh://git@github.com/some-one/a.course", "https://x-token:abc@github.com/some-one/a.course"]


def git(folder, *arguments):
    subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize("origin", ORIGINS)
def test_badges_take_the_address_from_git_when_asked(repository, capsys, origin):
    (repository / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    path = make(repository, "lip_reading/00_dataset_build", new_markdown_cell("# Title"), "# tags: setup\n1")
    git(repository, "init", "-q")
    git(repository, "remote", "add", "origin", origin)
    assert main(["badges", "--from-git"]) == 0
    assert "address: https://github.com/some-one/a.course\n" in capsys.readouterr().out
    assert runtime.repo_url() == "https://github.com/some-one/a.course"
    differing = set((repository / "pyproject.toml").read_text().splitlines())
    assert len(differing - set((ROOT / "pyproject.toml").read_text().splitlines())) == 1
    cells = nbformat.read(path, as_version=4).cells
    assert "github/some-one/a.course/blob/main" in cells[0].source
    assert 'url = "https://github.com/some-one/a.course"' in cells[1].source


@pytest.mark.skipif(not shutil.which("git"), reason="needs git")
@pytest.mark.parametrize("origin", [None, "https://gitlab.com/a/b.git", "/somewhere/a"])
def test_badges_refuse_an_origin_that_colab_cannot_open(repository, capsys, origin):
    (repository / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    before = (repository / "pyproject.toml").read_bytes()
    git(repository, "init", "-q")
    if origin:
        git(repository, "remote", "add", "origin", origin)
    assert main(["badges", "--from-git"]) == 1
    error = capsys.readouterr().err
    assert (
        "must give an address on GitHub" in error
        and "git remote add origin" in error
        and (origin or "No such") in error
    )
    assert (repository / "pyproject.toml").read_bytes() == before


def test_the_address_comes_from_pyproject():
    url = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    assert notebooks.address()[0] == url
    assert f'url = "{url}"' in notebooks.setup_cell()
    link = url.replace("https://github.com", "https://colab.research.google.com/github") + "/blob/main/notebooks"
    assert notebooks.badge(ROOT / "notebooks" / "lip_reading" / "02_split.ipynb").endswith(
        f"]({link}/lip_reading/02_split.ipynb)"
    )


FORMULAS = [
    ("The loss $x^2$ falls", True),
    ("$$x$$", True),
    ("\\begin{align}", True),
    ("`$HOME` and ```\n$x$\n```", False),
    ("costs 5 $ and 6 $ more", False),
    ("nothing", False),
]


@pytest.mark.parametrize(("text", "expected"), FORMULAS)
def test_formulas_are_noticed(text, expected):
    assert notebooks.has_formulas(new_notebook(cells=[new_markdown_cell(text)])) is expected
