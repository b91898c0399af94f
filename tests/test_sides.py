"""Every phase of training and evaluation reads the sides that it claims, and nothing is read outside of any phase.

Each project says in `tests/<project>/sides.py` what an item is, who reads items, and which phases there are; here they are run.
"""

import functools
import importlib
import importlib.util
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from helpers import runtime

runtime.quiet_start()

from helpers import workspace
from helpers.batches import SIDES
from helpers.course.notebooks import PROJECTS

OUTSIDE = "no phase"


def load(project):
    """The module `tests/<project>/sides.py`."""
    path = Path(__file__).parent / project / "sides.py"
    spec = importlib.util.spec_from_file_location(f"sides_of_{project}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resolve(dotted):
    """Owner and name of a function or method, from its dotted path."""
    parts = dotted.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            owner = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return functools.reduce(getattr, parts[end:-1], owner), parts[-1]
    raise ModuleNotFoundError(dotted)


class Record:
    """Which items were read in which phase; the innermost phase of the reading thread counts."""

    def __init__(self, monkeypatch):
        self.monkeypatch, self.thread, self.items = monkeypatch, threading.local(), defaultdict(set)

    def saw(self, item):
        """An item was read."""
        self.items[getattr(self.thread, "phases", None) and self.thread.phases[-1] or OUTSIDE].add(item)

    def watch(self, phase, dotted):
        """From now on a call of the function belongs to the phase."""
        owner, name = resolve(dotted)
        function = getattr(owner, name)

        @functools.wraps(function)
        def inside(*arguments, **options):
            phases = self.thread.__dict__.setdefault("phases", [])
            phases.append(phase)
            try:
                return function(*arguments, **options)
            finally:
                phases.pop()

        self.monkeypatch.setattr(owner, name, inside)


@pytest.mark.parametrize("project", PROJECTS)
def test_every_phase_reads_its_sides_and_no_other(project, tmp_path, monkeypatch):
    described = load(project)
    steps = importlib.import_module(f"helpers.{project}.steps").STEPS
    (tmp_path / "data").mkdir()
    config, place = described.prepare(tmp_path / "data"), workspace.Workspace(tmp_path / "place")
    for step in steps[:3]:
        step(config, place)
    side = described.side_of_item(config, place)
    assert set(side.values()) >= set(SIDES)
    record = Record(monkeypatch)
    described.spy(monkeypatch, record.saw)
    for phase, (dotted, _) in described.PHASES.items():
        record.watch(phase, dotted)
    for step in steps[3:]:
        step(config, place)
    found = {phase: {side[item] for item in items} for phase, items in record.items.items()}
    assert found == {phase: sides for phase, (_, sides) in described.PHASES.items()}


@pytest.mark.parametrize("project", PROJECTS)
def test_something_is_trained_something_is_watched_and_something_is_held_out(project):
    sides = [sides for _, sides in load(project).PHASES.values()]
    assert {"train"} in sides and {"validation"} in sides
    assert (
        sum("train" not in phase for phase in sides) >= 2
    )  # watching, and scoring: of YouTube-8M both on its validation set
