"""The status table of README: what the last gate and the weekly jobs found of each notebook, from the JUnit XML that they leave.

Pytest writes such a file (`--junitxml`, a case per cell), `python -m helpers run` (`report/<config>.xml`, a case per notebook) and
`.ci/colab`. What was read is kept in `notebooks/status.json`, so that README can be made again.
"""

import json
import re
import xml.etree.ElementTree as xml
from pathlib import Path

from helpers import config, runtime
from helpers.course import marks, notebooks
from helpers.course.runner import find_notebooks
from helpers.workspace import NOTEBOOKS, disk

RECORDS = {  # name of a record's file -> (what ran, who writes it: pytest, or the config that the notebooks ran with)
    "main": ("main stack", "pytest"),
    "colab": ("Colab's versions", "pytest"),
    "image": ("Colab's image", "mini"),
    "newest": ("newest versions", "pytest"),
    "t4": ("t4", "t4"),
}
BEGIN, END = "<!-- status: made by python -m helpers status -->", "<!-- end of status -->"
CASE = re.compile(r"notebooks\.(\w+)\.(\w+)\.ipynb")
DASH = "–"


def read(path: Path) -> dict:
    """A record as `{"date": "2026-11-29", "notebooks": {name: [seconds or None, passes]}}`.

    A notebook is left out of it whose cells did not all stand in the record. Seconds are None where a cell failed or was skipped,
    or where a run found results of an earlier one.
    ValueError: the file is named after no record, is no JUnit XML, or is of another config.
    """
    what = f"{path.name}: received %s; allowed: JUnit XML named {', '.join(f'{name}.xml' for name in RECORDS)}"
    if path.stem not in RECORDS:
        raise ValueError(what % "a file of another name")
    try:
        suite = next(xml.parse(path).iter("testsuite"))
    except (xml.ParseError, StopIteration) as error:
        raise ValueError(what % f"no JUnit XML ({str(error) or 'it has no testsuite'})") from error
    if (name := suite.get("name")) != RECORDS[path.stem][1]:
        raise ValueError(f"{path.name}: received a run of {name}; allowed: a run of {RECORDS[path.stem][1]}")
    cases: dict[str, list[xml.Element]] = {}
    for case in suite.iter("testcase"):
        if found := CASE.fullmatch(case.get("classname", "")):
            cases.setdefault("/".join(found.groups()), []).append(case)
    whole = {name: _outcome(mine) for name, mine in cases.items() if len(mine) == _count(name, mine)}
    return {"date": suite.get("timestamp", "")[:10], "notebooks": whole}


def _outcome(cases: list[xml.Element]) -> tuple[float | None, bool]:
    passes = not any(case.find(kind) is not None for case in cases for kind in ("failure", "error", "skipped"))
    timed = passes and all(case.get("time") for case in cases)
    return (round(sum(float(case.get("time")) for case in cases), 1) if timed else None), passes


def _count(name: str, cases: list[xml.Element]) -> int:
    """How many cases a whole notebook has: one, or as many as code cells."""
    if not cases[0].get("name", "").startswith("Cell "):
        return 1
    path = runtime.repo_root() / "notebooks" / f"{name}.ipynb"
    return sum(cell.cell_type == "code" for cell in notebooks.read(path).cells) if path.is_file() else 0


def _computed(project: str) -> dict[str, float]:
    """Minutes of each notebook of a project on config t4, as far as `needs` counts them."""
    path = runtime.repo_root() / "notebooks" / project / "t4.yaml"
    needs = config.load(path, config.schema_of(project)).needs() if path.is_file() else {}
    steps = dict(zip(NOTEBOOKS, ("build_dataset", *(name[3:] for name in NOTEBOOKS[1:])), strict=True))
    return {f"{project}/{name}": needs[step].minutes for name, step in steps.items() if step in needs}


def table(records: dict) -> str:
    """The table in Markdown; what no record holds and nobody computed is a dash."""
    paths = [path for project in notebooks.PROJECTS for path in find_notebooks(project, notebooks.SOLUTIONS)]
    computed = {name: minutes for project in notebooks.PROJECTS for name, minutes in _computed(project).items()}
    passes = [name for name in RECORDS if name != "t4"]
    heads = [f"{RECORDS[name][0]}, {records[name]['date']}" if name in records else RECORDS[name][0] for name in passes]
    lines = [f"| notebook | mini, seconds | {' | '.join(heads)} | t4, minutes |", "|---" * (len(heads) + 3) + "|"]
    for name in (f"{path.parent.name}/{path.stem}" for path in paths):
        found = {record: records.get(record, {}).get("notebooks", {}).get(name, (None, None)) for record in RECORDS}
        cells = [DASH if found["main"][0] is None else f"{found['main'][0]:.0f}"]
        cells += [{True: "passes", False: "**fails**"}.get(found[record][1], DASH) for record in passes]
        minutes = f"{computed[name]:.1f}" if name in computed else DASH
        measured = found["t4"][0]
        cells.append(minutes if measured is None else f"{measured / 60:.1f}, measured {records['t4']['date']}")
        lines.append(f"| [{name}](notebooks/{name}.ipynb) | {' | '.join(cells)} |")
    return "\n".join(lines)


def update(files: list[str]) -> str:
    """Read records into `notebooks/status.json` and write README's table anew; returns it. ValueError: see `read`, or no marks."""
    readme = runtime.repo_root() / "README.md"
    records = load() | {Path(file).stem: read(Path(file)) for file in files}
    made = table(records)
    text = marks.fill(readme.read_text(encoding="utf-8"), BEGIN, END, f"\n\n{made}\n\n", name="README.md")
    disk.write_json(readme.with_name("notebooks") / "status.json", records)
    disk.write(readme, text)
    return made


def load() -> dict:
    """The records that are kept, by name; none yet is an empty dict."""
    kept = runtime.repo_root() / "notebooks" / "status.json"
    return json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
