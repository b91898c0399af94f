"""One workspace for a whole test session, and notebooks in the order in which they build on each other.

It stands at the root so that `pytest notebooks` finds it too.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbval.kernel
import pytest

from helpers import runtime
from helpers.course.notebooks import PROJECTS

sys.path.insert(0, str(Path(__file__).parent / "tests"))  # helper modules of the tests, under every import mode


def patiently(start: Callable[..., Any], tries: int = 3) -> Callable[..., Any]:
    """Start a kernel that dies at once anew: another process may have taken one of its ports after they were chosen."""

    def started(*args: Any, **options: Any) -> Any:
        for left in reversed(range(tries)):
            try:
                return start(*args, **options)
            except RuntimeError:
                if not left:
                    raise

    return started


nbval.kernel.start_new_kernel = patiently(nbval.kernel.start_new_kernel)


def pytest_configure(config: pytest.Config) -> None:
    """Set what xdist's workers and the kernels inherit; only the process that starts them does."""
    if hasattr(config, "workerinput"):
        return
    os.environ["COURSE_PROGRESS"] = "0"
    os.environ |= runtime.share_of_cpu(getattr(config.option, "numprocesses", None) or 1)
    os.environ.pop("COURSE_CONFIG", None)  # so mini, the default of every notebook
    os.environ.pop("COURSE_DASK", None)
    folder = os.environ.get("COURSE_TEST_WORKSPACE")
    if not folder:
        folder = config.course_folder = tempfile.mkdtemp(prefix="course-")
    os.environ["COURSE_WORKSPACE"] = str(Path(folder).resolve())


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the folder that this session made."""
    if folder := getattr(config, "course_folder", None):
        shutil.rmtree(folder, ignore_errors=True)


def _place(item: pytest.Item) -> tuple[int, str, int]:
    """Notebooks first, by number, then project: they take longest, and short test files fill the gaps at the end."""
    if item.path.suffix != ".ipynb":
        return 1, "", 0
    project = item.path.parent.name
    return 0, item.path.name[:2], PROJECTS.index(project) if project in PROJECTS else len(PROJECTS)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the notebooks; the sort is stable, so cells and tests keep their order."""
    items.sort(key=_place)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Remember a cell that raised. One whose output merely differs does not keep the next ones from running."""
    report = yield
    if report.failed and item.path.suffix == ".ipynb" and "Cell outputs differ" not in str(call.excinfo.value):
        item.parent.broken_cell = item.name
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what follows a broken cell of the same notebook."""
    if cell := getattr(item.parent, "broken_cell", None):
        pytest.skip(f"{cell} of this notebook failed: the cells after it cannot run")
