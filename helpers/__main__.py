"""Command line: `python -m helpers run` executes the notebooks headless, `python -m helpers badges` renews links."""

import argparse
import dataclasses
import difflib
import html
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode

from helpers import notebooks, runtime
from helpers.workspace import NOTEBOOKS, atomic_write

CONFIGS = ("mini", "t4", "full")


class _ThisPython(KernelSpecManager):
    """Knows one kernel, the running interpreter, whatever kernels are installed on the machine."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(**get_kernel_dict())  # its command begins with sys.executable


class _KernelManager(AsyncKernelManager):
    def __init__(self, **options) -> None:
        super().__init__(**options, kernel_spec_manager=_ThisPython())


class _Client(NotebookClient):
    """A NotebookClient that hands on the last line of standard output as it arrives."""

    relay: Callable[[str], None] = staticmethod(lambda line: None)

    def output(self, outs: list, msg: dict, display_id: str | None, cell_index: int) -> NotebookNode | None:
        if msg["msg_type"] == "stream" and msg["content"]["name"] == "stdout":
            lines = [line.strip() for line in re.split(r"[\r\n]+", strip_ansi(msg["content"]["text"])) if line.strip()]
            if lines:
                self.relay(lines[-1])
        return super().output(outs, msg, display_id, cell_index)


class Progress:
    """Progress of one notebook on standard output: one line updated in place on a terminal, plain lines elsewhere."""

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.start = name, total, 0, time.monotonic()
        self.terminal = sys.stdout.isatty()
        self._show("" if self.terminal else "running")

    @property
    def seconds(self) -> float:
        """Time since the notebook began."""
        return time.monotonic() - self.start

    def cell(self) -> None:
        """One more cell is done."""
        self.done += 1
        if self.terminal:
            self._show("")

    def relay(self, line: str) -> None:
        """Show a line that the notebook printed."""
        if self.terminal:
            self._show(line)
        else:
            print(f"    {line[:200]}", flush=True)

    def end(self, status: str) -> None:
        """Leave the last line of the notebook."""
        self._show(status)
        if self.terminal:
            print(flush=True)

    def _show(self, text: str) -> None:
        line = f"{self.name}  {self.done}/{self.total} cells  {self.seconds:.0f} s  {text}".rstrip()
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), end="", flush=True)
        else:
            print(line, flush=True)


@dataclasses.dataclass
class Outcome:
    """What came of one notebook: status is "ok", "failed" or "interrupted", message says why."""

    path: Path
    notebook: NotebookNode
    status: str = "ok"
    message: str = ""
    seconds: float = 0.0


def execute(path: Path, environment: dict[str, str], *, keep: Callable[[NotebookNode], None] | None = None) -> Outcome:
    """Execute a notebook in its own folder with a kernel of the running interpreter, showing progress.

    Args:
        environment: of the kernel.
        keep: called with the notebook once all cells ran; its ValueError or OSError counts as a failure.
    """
    try:
        outcome = Outcome(path, notebooks.read(path))
    except ValueError as error:
        return Outcome(path, NotebookNode(cells=[], metadata={}), "failed", f"no notebook: {str(error)[:200]}")
    code = [cell for cell in outcome.notebook.cells if cell.cell_type == "code"]
    for cell in code:  # outputs of an earlier run must not stand below a cell that this run did not reach
        cell.outputs, cell.execution_count = [], None
    progress = Progress(f"{path.parent.name}/{path.stem}", len(code))
    with tempfile.TemporaryFile() as complaints:
        try:
            _execute_cells(outcome.notebook, path.parent, environment, progress, complaints)
            if keep:
                keep(outcome.notebook)
        except KeyboardInterrupt:
            outcome.status, outcome.message = "interrupted", "stopped by Ctrl-C"
        except CellExecutionError as error:
            outcome.status, outcome.message = "failed", _describe(code[progress.done], progress.done + 1, error)
        except RuntimeError as error:  # the kernel did not start or died, most often for want of memory
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").splitlines()[-20:]
            text = "\n".join([f"after {progress.done} of {len(code)} code cells: {error}", *last])
            outcome.status, outcome.message = "failed", text
        except (ValueError, OSError) as error:
            outcome.status, outcome.message = "failed", str(error)
    outcome.seconds = progress.seconds
    progress.end(outcome.status)
    return outcome


def _execute_cells(
    notebook: NotebookNode, folder: Path, environment: dict[str, str], progress: Progress, complaints: BinaryIO
) -> None:
    """Run all cells in a fresh kernel; what the kernel itself writes to stderr goes to `complaints`."""
    client = _Client(notebook, timeout=None, kernel_manager_class=_KernelManager, coalesce_streams=True)
    client.kernel_name, client.relay = "python3", progress.relay
    with client.setup_kernel(cwd=str(folder), env=environment, stderr=complaints):
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index, execution_count=client.code_cells_executed + 1)
            if cell.cell_type == "code":
                progress.cell()


def _describe(cell: NotebookNode, number: int, error: CellExecutionError) -> str:
    """The failed code cell for a reader: its number, the head of its source, the traceback without colours."""
    source = cell.source.splitlines()
    head = [f"  | {line}" for line in source[:8]] + (["  | ..."] if len(source) > 8 else [])
    traces = [output.traceback for output in cell.outputs if output.output_type == "error"]
    trace = strip_ansi("\n".join(traces[-1]) if traces else f"{error.ename}: {error.evalue}")
    return "\n".join([f"code cell {number} failed:", *head, trace])


def find_notebooks(project: str, until: str | None = None) -> list[Path]:
    """The notebooks of a project by number, up to the one named `until`."""
    paths = sorted((runtime.repo_root() / "notebooks" / project).glob("[0-9][0-9]_*.ipynb"))
    return [path for path in paths if until is None or path.name[:2] <= until[:2]]


def run(projects: list[str], config: str, workspace: Path, reports: Path, *, until: str | None, save: bool) -> int:
    """Execute the notebooks of `projects`; returns the exit code: 0, 1 after a failure, 130 after Ctrl-C."""
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}  # it would hide the figures
    environment |= {"COURSE_CONFIG": config, "COURSE_WORKSPACE": str(workspace), "COURSE_PROGRESS": "0"}
    outcomes: list[Outcome] = []
    for project in projects:
        for path in find_notebooks(project, until):
            keep = (lambda notebook, path=path: notebooks.save(notebook, path, (workspace,))) if save else None
            outcomes.append(outcome := execute(path, environment, keep=keep))
            if outcome.message:
                print(f"{outcome.status}: notebooks/{project}/{path.name}, {outcome.message}", flush=True)
            _write_page(outcome, reports)
            if outcome.status != "ok":
                break
        if outcomes and outcomes[-1].status == "interrupted":
            break
    _write_index(outcomes, config, reports)
    print(f"report: {reports / 'index.html'}")
    statuses = {outcome.status for outcome in outcomes}
    return 130 if "interrupted" in statuses else int("failed" in statuses)


def _write_page(outcome: Outcome, reports: Path) -> None:
    path = outcome.path
    note = f'<p class="note"><a href="../index.html">all projects</a> · {_took(outcome)}</p>'
    if outcome.message:
        note += f'\n<pre class="failed">{html.escape(outcome.message)}</pre>'
    body = f"{note}\n{notebooks.render(outcome.notebook, folder=path.parent)}"
    title = f"{path.parent.name}: {path.stem}"
    with atomic_write(reports / path.parent.name / f"{path.stem}.html", "w") as file:
        file.write(notebooks.page(title, body, formulas=notebooks.has_formulas(outcome.notebook)))


def _write_index(outcomes: list[Outcome], config: str, reports: Path) -> None:
    body = [f'<h1>Learning from video</h1>\n<p class="note">config {html.escape(Path(config).stem)}</p>']
    for project in dict.fromkeys(outcome.path.parent.name for outcome in outcomes):
        mine = [outcome for outcome in outcomes if outcome.path.parent.name == project]
        links = [f'<a href="{project}/{o.path.stem}.html">{o.path.stem}</a> ({_took(o)})' for o in mine]
        body.append(f"<h2>{html.escape(_title(project))}</h2>")
        body.append(f'<p class="note">{sum(outcome.seconds for outcome in mine):.0f} s in all</p>')
        body.append("<p>" + " · ".join(links) + "</p>")
        for outcome in mine:
            shown = notebooks.render(outcome.notebook, folder=outcome.path.parent, tag="headline")
            body.append(f"<h3>{outcome.path.stem}</h3>\n{shown}" if shown else "")
    with atomic_write(reports / "index.html", "w") as file:
        file.write(notebooks.page("Learning from video: report", "\n".join(body)))


def _took(outcome: Outcome) -> str:
    return f"{outcome.seconds:.0f} s" + ("" if outcome.status == "ok" else f', <b class="failed">{outcome.status}</b>')


def _title(project: str) -> str:
    readme = runtime.repo_root() / "notebooks" / project / "README.md"
    found = re.search(r"^#\s+(.+)", readme.read_text(encoding="utf-8"), re.MULTILINE) if readme.is_file() else None
    return found[1] if found else project.replace("_", " ").capitalize()


def _step(text: str) -> str:
    """A notebook's name from its name, number or step; for argparse."""
    for name in NOTEBOOKS:
        number, _, step = name.partition("_")
        if text in (name, f"{name}.ipynb", number, number.lstrip("0") or "0", step):
            return name
    near = _nearest(text, [*NOTEBOOKS, *(name[3:] for name in NOTEBOOKS)])
    raise argparse.ArgumentTypeError(f"{text!r} is no step{near}; allowed: {', '.join(NOTEBOOKS)}")


def _nearest(text: str, names: list[str]) -> str:
    near = difflib.get_close_matches(text, names, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m helpers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="execute the notebooks and write an HTML report")
    names = ", ".join(notebooks.PROJECTS)
    command.add_argument("projects", nargs="*", metavar="PROJECT", help=f"default: all of {names}")
    default = os.environ.get("COURSE_CONFIG") or "mini"
    command.add_argument("--config", default=default, metavar="mini|t4|full|FILE", help="FILE goes with one PROJECT")
    command.add_argument("--until", type=_step, metavar="STEP", help="last notebook to run, such as 02 or split")
    command.add_argument("--workspace", type=Path, metavar="DIR", help="default: workspace/ in the repository")
    command.add_argument("--save", action="store_true", help="write the executed notebooks in place, for committing")
    command.add_argument("--html", type=Path, metavar="DIR", help="place of the report; default: WORKSPACE/report")
    command = commands.add_parser("badges", help="derive badges, links and setup cells from pyproject.toml")
    command.add_argument("--check", action="store_true", help="change nothing; exit code 1 if something differs")
    return parser


def _run_command(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> int:
    there = [project for project in notebooks.PROJECTS if find_notebooks(project)]
    for project in arguments.projects:
        if project not in there:
            known = ", ".join(there) or "none"
            parser.error(f"unknown project {project!r}{_nearest(project, there)}; there are: {known}")
    projects = [project for project in there if project in (arguments.projects or there)]
    if not projects:
        parser.error(f"there are no notebooks below {runtime.repo_root() / 'notebooks'}")
    config = arguments.config
    if config not in CONFIGS:
        if len(arguments.projects) != 1:
            parser.error(f"--config {config} is a file, which goes with exactly one PROJECT. Received: {len(projects)}")
        if not Path(config).is_file():
            parser.error(f"there is no config file {config}; allowed: {', '.join(CONFIGS)} or the path of a YAML file")
        config = str(Path(config).resolve())
        _greet(arguments.projects[0], config)
    workspace = arguments.workspace or Path(os.environ.get("COURSE_WORKSPACE") or runtime.repo_root() / "workspace")
    workspace = workspace.expanduser().resolve()
    reports = (arguments.html or workspace / "report").expanduser().resolve()
    return run(projects, config, workspace, reports, until=arguments.until, save=arguments.save)


def _greet(project: str, config: str) -> None:
    """Let a project that wants to (`helpers.<project>.greeting`) check a config file and say its words before any kernel starts."""
    name = f"helpers.{project}.greeting"
    if importlib.util.find_spec(name):
        print(importlib.import_module(name).greeting(config), flush=True)


def _badges_command(arguments: argparse.Namespace) -> int:
    changed = notebooks.rewrite_addresses(check=arguments.check)
    for name in changed:
        print(f"{'differs' if arguments.check else 'rewritten'}: {name}")
    if changed and arguments.check:
        print("run: python -m helpers badges")
    return int(bool(changed) and arguments.check)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code (bad arguments: SystemExit with code 2)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        if arguments.command == "badges":
            return _badges_command(arguments)
        return _run_command(parser, arguments)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
