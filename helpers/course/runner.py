"""Executes notebooks headless, each in a kernel of the running interpreter, and leaves an HTML report.

The form of its pages is `notebooks.PAGE`, their colours are `notebooks/_site/look.css`.
"""

import asyncio
import contextlib
import dataclasses
import functools
import html
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from ipykernel.kernelspec import get_kernel_dict
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbconvert.filters import strip_ansi
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from helpers import runtime
from helpers.course import notebooks
from helpers.course.team import Place, Team
from helpers.workspace import NOTEBOOKS, disk

GRACE = 20.0  # seconds that kernels have to save what they train
TERMINATED = 128 + signal.SIGTERM
SAVED = "SIGTERM: "  # begins the line of a training that saved its step
JOIN = "import sys\nsys.path.insert(0, {root!r})\nfrom helpers.training import devices\ndevices.join()"


class _ThisPython(AsyncKernelManager):
    """Knows one kernel, the running interpreter, whatever kernels are installed on the machine."""

    kernel_spec = functools.cached_property(lambda self: KernelSpec(**get_kernel_dict()))  # begins with sys.executable


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
    """Progress of one notebook on standard output: one line updated in place on a terminal, plain lines elsewhere.

    Notebooks that run side by side share the line of the terminal; elsewhere each line then begins with its notebook's name.
    """

    running: ClassVar[list["Progress"]] = []

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total, self.done, self.start, self.said = name, total, 0, time.monotonic(), ""
        self.saved = "what was finished stays"
        self.terminal = sys.stdout.isatty()
        self.running.append(self)
        if self.terminal:
            self._redraw()
        else:
            print(f"{self._state()}  running", flush=True)

    @property
    def seconds(self) -> float:
        """Time since the notebook began."""
        return time.monotonic() - self.start

    def cell(self) -> None:
        """One more cell is done."""
        self.done += 1
        self.said = ""
        self._redraw()

    def relay(self, line: str) -> None:
        """Show a line that the notebook printed."""
        self.said = line
        if line.startswith(SAVED):
            self.saved = line.removeprefix(SAVED).partition(";")[0]
        if not self.terminal:
            print(f"{self.name if len(self.running) > 1 else '  '}  {line[:200]}", flush=True)
        self._redraw()

    def end(self, status: str) -> None:
        """Leave the last line of the notebook."""
        self.running.remove(self)
        line = f"{self._state()}  {status}"
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + line[:width].ljust(width), flush=True)
            self._redraw()
        else:
            print(line, flush=True)

    def _state(self) -> str:
        return f"{self.name}  {self.done}/{self.total} cells  {self.seconds:.0f} s"

    def _redraw(self) -> None:
        """The line of the terminal, in equal parts for all that run."""
        if not self.terminal or not self.running:
            return
        width = shutil.get_terminal_size().columns - 1
        share = (width - 3 * (len(self.running) - 1)) // len(self.running)
        parts = [f"{one._state()}  {one.said}".rstrip()[:share].ljust(share) for one in self.running]
        print("\r" + " | ".join(parts).ljust(width), end="", flush=True)


@dataclasses.dataclass
class Outcome:
    """What came of one notebook: status is "ok", "failed", "interrupted" or "terminated", message says why."""

    path: Path
    notebook: NotebookNode
    status: str = "ok"
    message: str = ""
    seconds: float = 0.0


class Stop:
    """Ends all kernels; called as the handler of Ctrl-C and SIGTERM, and where another process of the same training ended."""

    def __init__(self) -> None:
        self.status, self.why, self.kernels = "", "", set()

    def __call__(self, status: str = "interrupted", why: str = "stopped by Ctrl-C") -> None:
        """End the kernels that run; what waits for them then ends in order."""
        self.status, self.why = status, why
        self.ends = [asyncio.ensure_future(self._end(kernel)) for kernel in self.kernels]

    async def _end(self, kernel: AsyncKernelManager) -> None:
        if self.status == "terminated":
            with contextlib.suppress(RuntimeError):  # it has not started yet
                await kernel.signal_kernel(signal.SIGTERM)
            end = time.monotonic() + GRACE
            while time.monotonic() < end and await kernel.is_alive():
                await asyncio.sleep(0.1)
        with contextlib.suppress(Exception):  # ended meanwhile by the one that waits for it
            await kernel.shutdown_kernel(now=True)


async def execute(
    path: Path, environment: dict[str, str], stop: Stop, *, keep: Callable | None = None, join: bool = False
) -> Outcome:
    """Execute a notebook in its own folder with a kernel of the running interpreter, showing progress.

    Args:
        keep: called with the notebook once all cells ran; its ValueError or OSError counts as a failure.
        join: the kernel joins those of the other processes first.
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
            await _execute_cells(outcome, stop, progress, join, env=environment, stderr=complaints)
            if keep:
                keep(outcome.notebook)
        except CellExecutionError as error:
            outcome.status, outcome.message = "failed", _describe(code[progress.done], progress.done + 1, error)
        except RuntimeError as error:  # the kernel did not start or died, most often for want of memory
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").splitlines()[-20:]
            text = [f"after {progress.done} of {len(code)} code cells: {error}", *last]
            outcome.status, outcome.message = "failed", "\n".join(text)
        except (ValueError, OSError) as error:
            outcome.status, outcome.message = "failed", str(error)
    if stop.status:
        outcome.status, outcome.message = stop.status, stop.why
        if stop.status == "terminated":
            outcome.message += f": {progress.saved}, and the same command goes on from there"
    outcome.seconds = progress.seconds
    progress.end(outcome.status)
    return outcome


async def _execute_cells(outcome: Outcome, stop: Stop, progress: Progress, join: bool, **options: Any) -> None:
    """Run all cells in a fresh kernel, which is started with `options`."""
    client = _Client(outcome.notebook, timeout=None, kernel_manager_class=_ThisPython, coalesce_streams=True)
    client.kernel_name, client.relay = "python3", progress.relay
    try:  # nbclient's own context manager would take Ctrl-C for itself
        await _start(client, stop, cwd=str(outcome.path.parent), **options)
        if join:
            await _join(client)
        for index, cell in enumerate(outcome.notebook.cells):
            await client.async_execute_cell(cell, index, execution_count=client.code_cells_executed + 1)
            if cell.cell_type == "code":
                progress.cell()
    finally:
        stop.kernels.discard(client.km)
        if client.kc:
            client.kc.stop_channels()
        if client.km and client.km.has_kernel:  # nbclient lets go of one that did not start
            await client.km.shutdown_kernel(now=True)


async def _start(client: _Client, stop: Stop, **options: Any) -> None:
    """Start a kernel; one that dies at once is started anew, twice: its ports may have been taken after they were chosen."""
    for left in (2, 1, 0):
        manager = client.create_kernel_manager()
        stop.kernels.add(manager)
        await client.async_start_new_kernel(**options)
        try:
            return await client.async_start_new_kernel_client()
        except RuntimeError:
            stop.kernels.discard(manager)
            if not left or stop.status:
                raise


async def _join(client: _Client) -> None:
    """Join the kernel with those of the other processes by a cell that the notebook does not hold."""
    first, cell = client.nb.cells[0], new_code_cell(JOIN.format(root=str(Path(__file__).resolve().parents[2])))
    try:
        await client.async_execute_cell(cell, 0, store_history=False)
    except CellExecutionError as error:
        raise RuntimeError(f"the kernel cannot join those of the other processes: {error.evalue}") from error
    finally:
        client.nb.cells[0], client.code_cells_executed = first, 0  # nbclient put the cell there


def _describe(cell: NotebookNode, number: int, error: CellExecutionError) -> str:
    """The failed code cell for a reader: its number, the head of its source, the traceback without colours."""
    source = cell.source.splitlines()
    head = [f"  | {line}" for line in source[:8]] + (["  | ..."] if len(source) > 8 else [])
    traces = [output.traceback for output in cell.outputs if output.output_type == "error"]
    trace = strip_ansi("\n".join(traces[-1]) if traces else f"{error.ename}: {error.evalue}")
    return "\n".join([f"code cell {number} failed:", *head, trace])


def find_notebooks(project: str, until: str | None = None) -> list[Path]:
    """The notebooks of a project by number, up to the one named `until`; the solutions stand last and are asked for by name."""
    folder = runtime.repo_root() / "notebooks" / project
    numbered = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if until == notebooks.SOLUTIONS:
        return [*numbered, *folder.glob(f"{notebooks.SOLUTIONS}.ipynb")]
    return [path for path in numbered if until is None or path.name[:2] <= until[:2]]


def run(
    projects: list[str],
    config: str,
    workspace: Path,
    reports: Path,
    *,
    until: str | None,
    save: bool,
    jobs: int = 1,
    place: Place | None = None,
) -> int:
    """Execute the notebooks of `projects`, those of one project in their order, up to `jobs` projects side by side.

    With a `place` this is one of several processes, which all run the same notebooks at the same time, one by one.
    Returns the exit code: 0, 1 after a failure, 130 after Ctrl-C, 143 after SIGTERM.
    """
    environment = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}  # it would hide the figures
    environment |= {"COURSE_CONFIG": config, "COURSE_WORKSPACE": str(workspace), "COURSE_PROGRESS": "0"}
    environment |= runtime.share_of_cpu(jobs) | (place.environment() if place else {})
    fresh = [project for project in projects if not (workspace / project).exists() and "COURSE_KEEP" not in os.environ]
    waiting = deque((project, find_notebooks(project, until)) for project in projects)
    outcomes: list[Outcome] = []
    stop = Stop()
    team = Team(place or Place(1, 0, "", 0), stop)

    async def work() -> None:
        while waiting and not stop.status:
            project, (path, *rest) = waiting.popleft()
            await team.meet(f"{project}/{path.stem}")
            if stop.status:
                return
            join = bool(place) and path.stem == NOTEBOOKS[3]
            keep = functools.partial(notebooks.save, path=path, folders=(workspace,)) if save else None
            outcomes.append(outcome := await execute(path, environment, stop, keep=keep, join=join))
            if outcome.message:
                print(f"{outcome.status}: notebooks/{project}/{path.name}, {outcome.message}", flush=True)
            _write_page(outcome, reports)
            if place and outcome.status != "ok":
                return
            if rest and outcome.status == "ok":  # side by side the projects keep pace, so that no long one is left over
                (waiting.appendleft if jobs == 1 else waiting.append)((project, rest))

    def terminate() -> None:
        stop("terminated", "stopped by SIGTERM")
        team.send("sigterm")

    async def check_team() -> None:
        """A file of process 0 in the workspace: all must see it, and have been given the same settings."""
        text = Path(config).read_text(encoding="utf-8") if Path(config).is_file() else config
        mark, same = workspace / f".process-0-{place.port}", repr((projects, until, text))
        if place.index == 0:
            disk.write(mark, same)
        await team.meet("the start")
        if place.index and not (mark.is_file() and mark.read_text(encoding="utf-8") == same) and not stop.status:
            advice = "give all the same arguments, and a workspace on a disk that all see"
            stop("failed", f"{mark} is not what process 0 wrote: {advice}")
        await team.meet("the first notebook")
        if place.index == 0:
            mark.unlink(missing_ok=True)

    async def work_side_by_side() -> None:
        with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C ends everything at once
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGINT, stop)
            loop.add_signal_handler(signal.SIGTERM, terminate)
        if place:
            await team.open()
            await check_team()
        try:
            await asyncio.gather(*(work() for _ in range(jobs)))
            if not stop.status and all(outcome.status == "ok" for outcome in outcomes):
                await team.meet("the end")
        finally:
            team.close()

    asyncio.run(work_side_by_side())
    outcomes.sort(key=lambda outcome: (projects.index(outcome.path.parent.name), outcome.path.name))
    _write_index(outcomes, config, reports)
    _write_record(outcomes, config, reports, fresh)
    print(f"report: {reports / 'index.html'}")
    if stop.status and not any(outcome.status == stop.status for outcome in outcomes):  # between two notebooks
        print(f"{stop.status}: {stop.why}", flush=True)
    codes = {"interrupted": 130, "terminated": TERMINATED}
    failed = int(any(outcome.status == "failed" for outcome in outcomes) or stop.status == "failed")
    return codes.get(stop.status, failed)


def _write_page(outcome: Outcome, reports: Path) -> None:
    path = outcome.path
    note = f'<p class="note"><a href="../index.html">all projects</a> · {_took(outcome)}</p>'
    if outcome.message:
        note += f'\n<pre class="failed">{html.escape(outcome.message)}</pre>'
    body = f"{note}\n{notebooks.render(outcome.notebook, folder=path.parent)}"
    page = notebooks.page(f"{path.parent.name}: {path.stem}", body, formulas=notebooks.has_formulas(outcome.notebook))
    disk.write(reports / path.parent.name / f"{path.stem}.html", page)


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
    disk.write(reports / "index.html", notebooks.page("Learning from video: report", "\n".join(body)))


def _write_record(outcomes: list[Outcome], config: str, reports: Path, timed: list[str]) -> None:
    """`<config>.xml` for `helpers.course.status`; only projects whose results were all made here have seconds."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    suite = xml.Element("testsuite", name=Path(config).name, timestamp=now)
    for outcome in outcomes:
        project = outcome.path.parent.name
        case = xml.SubElement(suite, "testcase", classname=f"notebooks.{project}.{outcome.path.name}", name="all cells")
        if project in timed:
            case.set("time", f"{outcome.seconds:.1f}")
        if outcome.status != "ok":
            xml.SubElement(case, "failure", message=outcome.status)
    disk.write(reports / f"{Path(config).stem}.xml", xml.tostring(suite, encoding="unicode") + "\n")


def _took(outcome: Outcome) -> str:
    return f"{outcome.seconds:.0f} s" + ("" if outcome.status == "ok" else f', <b class="failed">{outcome.status}</b>')


def _title(project: str) -> str:
    readme = runtime.repo_root() / "notebooks" / project / "README.md"
    found = re.search(r"^#\s+(.+)", readme.read_text(encoding="utf-8"), re.MULTILINE) if readme.is_file() else None
    return found[1] if found else project.replace("_", " ").capitalize()
