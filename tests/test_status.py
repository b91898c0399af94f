"""README's table of notebooks is what the command makes of the kept records; records are JUnit XML of three writers."""

import tomllib

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import helpers
from helpers import runtime
from helpers.__main__ import main
from helpers.course import notebooks, status

ROOT = runtime.repo_root()
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_has_the_table_that_the_command_makes():
    between = README.partition(status.BEGIN)[2].partition(status.END)[0].strip()
    assert between == status.table(status.load()), "type  python -m helpers status"


def test_computed_minutes_are_those_of_the_table_of_t4():
    rows = [line.split("|") for line in status.table({}).splitlines()[2:]]
    for project in notebooks.PROJECTS:
        minutes = sum(float(row[-2]) for row in rows if f"[{project}/" in row[1] and row[-2].strip() != status.DASH)
        (whole,) = (line for line in README.splitlines() if line.startswith(f"| {project} | `t4` | "))
        assert abs(minutes - float(whole.split("|")[-2])) < 0.8, (
            whole
        )  # each notebook is rounded to 0.1, their sum to 1


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A pretended course of two notebooks of three and one code cells, without config t4."""
    monkeypatch.setattr(runtime, "repo_root", lambda: tmp_path)
    monkeypatch.setattr(notebooks, "PROJECTS", ("lip_reading",))
    folder = tmp_path / "notebooks" / "lip_reading"
    folder.mkdir(parents=True)
    for name, cells in {"02_split": 3, "03_train": 1, "notes": 1}.items():
        code = [new_code_cell("1") for _ in range(cells)]
        nbformat.write(new_notebook(cells=[new_markdown_cell("# A"), *code]), folder / f"{name}.ipynb")
    (tmp_path / "README.md").write_text(f"before\n{status.BEGIN}\nold\n{status.END}\nafter\n")
    return tmp_path


def cases(*outcomes, name="lip_reading.02_split", first="Cell 0"):
    """Cases as pytest and nbval write them; an outcome is seconds, or what stands in the case."""
    made = []
    for number, outcome in enumerate(outcomes):
        inside = "" if isinstance(outcome, float) else outcome
        time = f"{outcome if isinstance(outcome, float) else 0.5}"
        cell = first.replace("0", str(number))
        made.append(f'<testcase classname="notebooks.{name}.ipynb" name="{cell}" time="{time}">{inside}</testcase>')
    return "".join(made)


def record(path, text, name="pytest", date="2026-11-29T17:25:29.496031+00:00"):
    other = '<testcase classname="tests.test_video" name="test_a" time="0.1" />'
    path.write_text(
        f'<?xml version="1.0"?><testsuites name="pytest tests"><testsuite name="{name}" timestamp="{date}">'
        f"{other}{text}</testsuite></testsuites>"
    )
    return path


def rows(course):
    readme = (course / "README.md").read_text()
    assert readme.startswith(f"before\n{status.BEGIN}\n\n|") and readme.endswith(f"|\n\n{status.END}\nafter\n")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in readme.splitlines() if "|" in line]
    return lines[0], {cells[0].partition("]")[0].lstrip("["): cells[1:] for cells in lines[2:]}


def test_what_no_record_holds_is_a_dash(course):
    status.update([])
    assert rows(course)[1] == {"lip_reading/02_split": ["–"] * 6, "lip_reading/03_train": ["–"] * 6}


def test_records_become_a_table_and_are_kept_one_by_one(course, capsys):
    main_stack = record(course / "main.xml", cases(1.25, 2.0, 40.0) + cases(9.6, name="lip_reading.03_train"))
    assert main(["status", str(main_stack)]) == 0
    broken = cases(1.0, '<failure message="no">a</failure>', '<skipped type="pytest.skip">b</skipped>')
    colab = record(course / "colab.xml", broken, date="2026-11-30T00:00:00+00:00")
    image = record(course / "image.xml", cases(70.0, first="all cells"), "mini", "2026-12-01T01:02:03")
    text = cases(150.0, name="lip_reading.03_train", first="all cells")
    t4 = record(course / "t4.xml", text, "t4", "2026-12-02T00:00:00")
    assert main(["status", str(colab), str(image), str(t4)]) == 0
    heads, found = rows(course)
    assert heads[1:] == [
        "mini, seconds", "main stack, 2026-11-29", "Colab's versions, 2026-11-30", "Colab's image, 2026-12-01", "newest versions",
        "t4, minutes",
    ]  # fmt: skip
    assert found == {
        "lip_reading/02_split": ["43", "passes", "**fails**", "passes", "–", "–"],
        "lip_reading/03_train": ["10", "passes", "–", "–", "–", "2.5, measured 2026-12-02"],
    }
    assert "| passes | **fails** | passes |" in capsys.readouterr().out
    newer = record(course / "main.xml", cases(5.0, name="lip_reading.03_train"))  # replaces the former one, whole
    status.update([str(newer)])
    assert rows(course)[1]["lip_reading/02_split"] == ["–", "–", "**fails**", "passes", "–", "–"]


def test_a_notebook_whose_cells_did_not_all_run_is_left_out(course):
    for few in (cases(1.0, 2.0), cases(1.0, 2.0, 3.0, 4.0), cases(1.0, name="lip_reading.04_gone")):
        assert status.read(record(course / "main.xml", few))["notebooks"] == {}


def test_a_broken_notebook_has_no_seconds(course):
    status.update([str(record(course / "main.xml", cases(1.0, "<error>kernel died</error>", 3.0)))])
    assert rows(course)[1]["lip_reading/02_split"] == ["–", "**fails**", "–", "–", "–", "–"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gate.xml", None, "gate.xml: received a file of another name; allowed: JUnit XML named main.xml, colab.xml"),
        ("main.xml", "<html>", "main.xml: received no JUnit XML (no element found"),
        ("main.xml", "<a/>", "main.xml: received no JUnit XML (it has no testsuite); allowed:"),
        ("t4.xml", '<testsuite name="mini"/>', "t4.xml: received a run of mini; allowed: a run of t4"),
        ("missing/main.xml", None, "No such file"),
    ],
)
def test_a_file_that_is_no_record_is_refused_and_nothing_changes(course, capsys, name, text, words):
    before = (course / "README.md").read_text()
    path = course / name
    if text or name == "gate.xml":
        path.write_text(text or "<testsuite/>")
    assert main(["status", str(path)]) == 1
    assert words in capsys.readouterr().err
    assert (course / "README.md").read_text() == before and not (course / "notebooks" / "status.json").exists()


def test_a_readme_without_the_marks_is_named(course, capsys):
    (course / "README.md").write_text("no marks")
    assert main(["status"]) == 1
    assert "README.md: received no two marks to write between" in capsys.readouterr().err


def test_a_run_leaves_a_record_with_seconds_only_where_nothing_was_done_before(course, monkeypatch):
    monkeypatch.delenv("COURSE_KEEP", raising=False)
    place = course / "place"
    nbformat.write(
        new_notebook(cells=[new_code_cell("import os; os.makedirs(os.environ['COURSE_WORKSPACE'] + '/lip_reading')")]),
        course / "notebooks" / "lip_reading" / "02_split.ipynb",
    )
    for expected in ("ok", "failed"):  # the second finds the folder of the first
        assert main(["run", "--until", "02", "--config", "t4", "--workspace", str(place)]) == (expected == "failed")
        seconds, passes = status.read(place / "report" / "t4.xml")["notebooks"]["lip_reading/02_split"]
        assert passes == (expected == "ok") and (seconds is not None) == passes
    (course / "notebooks" / "lip_reading" / "02_split.ipynb").unlink()
    main(["run", "--until", "03", "--config", "t4", "--workspace", str(place)])
    assert status.read(place / "report" / "t4.xml")["notebooks"] == {"lip_reading/03_train": (None, True)}
    assert len(status.read(place / "report" / "t4.xml")["date"]) == 10


# ---- the release ----


def test_the_version_stands_in_one_place_and_what_names_it_agrees(capsys):
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"learning-from-video {version}\n"
    assert helpers.__version__ == version
    with pytest.raises(AttributeError, match="no attribute 'version'"):
        _ = helpers.version
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changes.split("\n## ")[1].startswith(f"{version} (")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version and citation["cff-version"] == "1.2.0"
    assert citation["repository-code"] == runtime.repo_url() and citation["license"] == "Apache-2.0"


def test_readme_leads_to_the_pages_of_the_release():
    for name in ("CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md"):
        assert f"]({name})" in README and (ROOT / name).is_file()
