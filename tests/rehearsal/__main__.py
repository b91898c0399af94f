"""The rehearsal: configs `t4` and `full` from the first notebook to the last, without internet and without a GPU.

    python -m tests.rehearsal [PROJECT ...] [--config t4] [--alone] [--keep-folder DIR]

Public servers are played by one on this machine, with archives in the official format and under the official names, but few
items of drawn content; settings cut down the counts. All happens in a copy of the repository. It finds the cells that hold for
mini alone. `--alone` opens each notebook on a "machine" of its own that shares nothing but a kept folder, as in Colab with
Drive, where nothing may be downloaded or trained twice.
"""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.rehearsal.site import Site, serve

HERE = Path(__file__).parent
PROJECTS = sorted(path.stem for path in HERE.glob("[a-z]*.py") if path.stem != "site")
CONFIGS = ("t4", "full")
ENDED = re.compile(r"(?P<name>\w+/\d\d_\w+)  \d+/\d+ cells  (?P<seconds>\d+) s  (?P<status>ok|failed|interrupted)")
ERROR = re.compile(r"[\w.]*(Error|Exception|Interrupt|UndeclaredField|Refused)\b.*")
ONCE = 100_000  # bytes that may travel again: a zip's directory, a small table


@dataclass
class Row:
    """A line of the table at the end; `problem` is empty where all went well."""

    name: str
    seconds: float
    problem: str = ""


def copy_repository(copy: Path) -> None:
    """The files that git tracks, and new ones that it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copy / name)


def redirect(site: Site, copy: Path) -> None:
    """Let manifests and helpers ask the site, and let manifests expect what it holds."""
    for path in (copy / "data_manifests").glob("*.yaml"):
        manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        for entry in manifest["files"]:
            for source in entry["sources"]:
                if source.get("url"):
                    _expect(site, entry, source["url"])
                    source["url"] = re.sub(r"^https://", f"{site.address}/", source["url"])
        path.write_text(yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True), encoding="utf-8")
    hosts = re.compile(rf"https://({'|'.join(map(re.escape, site.hosts))})(?=[/\"'])")
    for path in (copy / "helpers").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        path.write_text(hosts.sub(rf"{site.address}/\1", text), encoding="utf-8")


def _expect(site: Site, entry: dict, url: str) -> None:
    """Put size and checksums of what the site holds behind `url` in place of the genuine file's, where these are stated."""
    host, _, path = url.removeprefix("https://").partition("/")
    if file := site.find(host, path):
        found = {"size": file.stat().st_size} | {kind: site.digest(file, kind) for kind in ("sha256", "md5")}
        entry |= {key: value for key, value in found.items() if entry.get(key)}


def cut_down(copy: Path, project: str, config: str, settings: dict) -> None:
    """Put `settings` over those of a config; a machine without a GPU is allowed."""
    path = copy / "notebooks" / project / f"{config}.yaml"
    merged = yaml.safe_load(path.read_text(encoding="utf-8")) | {"allow_cpu": True} | settings
    path.write_text(yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")


def run(copy: Path, project: str, config: str, workspace: Path, keep: Path | None = None) -> list[Row]:
    """Execute the notebooks that the copy has of a project, with `python -m helpers run`; one row each."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COURSE_")}
    environment |= {"PYTHONPATH": str(copy), "NO_PROXY": "127.0.0.1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "helpers", "run", project, "--config", config, "--workspace", str(workspace)]
    command += ["--keep", str(keep)] if keep else []
    began, rows, lines = time.monotonic(), [], []
    with subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.strip())
            if ended := ENDED.match(line):
                rows.append(Row(f"{config}: {ended['name']}", float(ended["seconds"])))
                rows[-1].problem = "" if ended["status"] == "ok" else ended["status"]
    if process.returncode and not any(row.problem for row in rows):
        rows.append(Row(f"{config}: {project}", time.monotonic() - began, "did not run"))
    for row in rows:
        if row.problem:  # the traceback stands behind the notebook's last line
            errors = [line for line in lines if ERROR.fullmatch(line)] or lines[-1:]
            row.problem += f": {errors[-1]}"
    return rows


def run_alone(copy: Path, project: str, config: str, site: Site, folder: Path) -> list[Row]:
    """Each notebook, and in the end the first once more, in a workspace of its own; they share the folder `kept`.

    What travels or is made a second time is a problem.
    """
    rows, made, sent = [], {}, set()
    paths = sorted((copy / "notebooks" / project).glob("[0-9][0-9]_*.ipynb"))
    for path in paths:
        path.rename(path.with_suffix(".aside"))
    for path in (*paths, paths[0]):
        path.with_suffix(".aside").rename(path)
        site.requests.clear()
        workspace = folder / "alone"
        rows += run(copy, project, config, workspace, keep=folder / "kept")
        path.rename(path.with_suffix(".aside"))
        again = {name: count for name, count in site.sent().items() if name in sent}
        sent |= {name for name, count in site.sent().items() if count}
        again = [*(_most(again) if sum(again.values()) > ONCE else ()), *_made_again(workspace / project, made)]
        rows[-1].problem += f" a second time: {', '.join(again)}" if again else ""
        rows[-1].name += " alone"
        shutil.rmtree(workspace)
    for path in paths:
        path.with_suffix(".aside").rename(path)
    return rows


def _most(sent: dict[str, int]) -> list[str]:
    """The three largest of some files."""
    return sorted(sent, key=sent.get, reverse=True)[:3]


def _made_again(folder: Path, made: dict[str, str]) -> list[str]:
    """Steps in a workspace that are not the ones that an earlier notebook made; `made` is brought up to date."""
    marks = {path.parent.name: json.loads(path.read_text())["made"] for path in folder.glob("*/step.json")}
    again = [name for name, mark in marks.items() if made.get(name, mark) != mark]
    made |= marks
    return again


def rehearse(project: str, config: str, folder: Path, *, alone: bool) -> list[Row]:
    """One project with one config, in a folder that is empty."""
    stand_in = importlib.import_module(f"tests.rehearsal.{project}")
    copy = folder / "copy"
    copy_repository(copy)
    began = time.monotonic()
    with serve(folder / "site") as site:
        try:
            stand_in.prepare(site, copy, config)
        except unittest.SkipTest as reason:
            return [Row(f"{config}: {project}: skipped, {reason}", time.monotonic() - began)]
        redirect(site, copy)
        cut_down(copy, project, config, stand_in.SETTINGS[config])
        rows = [Row(f"{config}: {project}: what the servers hold", time.monotonic() - began)]
        if alone:
            return rows + run_alone(copy, project, config, site, folder)
        return rows + run(copy, project, config, folder / "workspace")


def main() -> int:
    """Exit code 1 when a notebook failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", metavar="PROJECT", help=f"default: {', '.join(PROJECTS)}")
    parser.add_argument("--config", choices=CONFIGS, action="append", help="default: both, one after the other")
    parser.add_argument(
        "--alone", action="store_true", help="each notebook on a machine of its own, with a kept folder"
    )
    parser.add_argument(
        "--keep-folder", type=Path, metavar="DIR", help="work there and leave all; default: a temporary one"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.projects) - set(PROJECTS):
        parser.error(f"no stand-ins for {', '.join(sorted(unknown))}; there are: {', '.join(PROJECTS)}")
    rows = []
    for project in arguments.projects or PROJECTS:
        for config in arguments.config or CONFIGS:
            with tempfile.TemporaryDirectory(prefix="rehearsal-") as temporary:
                folder = (arguments.keep_folder or Path(temporary)).resolve() / f"{project}-{config}"
                shutil.rmtree(folder, ignore_errors=True)
                rows += rehearse(project, config, folder, alone=arguments.alone)
    width = max(len(row.name) for row in rows)
    for row in rows:
        print(f"{row.name:{width}} {row.seconds:6.0f} s  {row.problem or 'ok'}")
    return int(any(row.problem for row in rows))


if __name__ == "__main__":
    sys.exit(main())
