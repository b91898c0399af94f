"""A learner's own function in place of the course's (`workspace.own`), changed settings, and whose numbers are held to mini's."""

import dataclasses
import importlib
import sys
import types
from functools import partial

from helpers import runtime

runtime.quiet_start()

import pytest

from helpers import config as configs
from helpers import workspace
from helpers.course.notebooks import PROJECTS
from helpers.workspace import code
from helpers.workspace.own import active


def rooms(project):
    return (importlib.import_module(f"helpers.{project}.{room}") for room in ("steps", "runs"))


def mini(project):
    return configs.load(configs.find(project, "mini"), configs.schema_of(project))


def of_a_cell(text, **names):
    """What a notebook's cells define, in a module without a file, its source where IPython keeps it."""
    module = types.ModuleType("cells")
    vars(module).update(names)
    lines = text.splitlines(keepends=True)
    importlib.import_module("linecache").cache["<cell>"] = (len(text), None, lines, "<cell>")
    sys.modules["cells"] = module
    exec(compile(text, "<cell>", "exec"), vars(module))
    return module


@pytest.mark.parametrize("project", PROJECTS)
def test_only_what_can_reach_the_room_runs_gets_a_folder_of_its_own(project, tmp_path):
    steps, runs = rooms(project)
    settings, before = mini(project), runs.build_network
    usual = [step.folder(settings, tmp_path).name for step in steps.STEPS]

    def build_network(*arguments, **options):
        raise AssertionError("not called here")

    with workspace.own(runs, build_network=build_network):
        assert runs.build_network is build_network and set(active(project)) == {"build_network"}
        mine = [step.folder(settings, tmp_path).name for step in steps.STEPS]
        assert not configs.untouched(settings)
    assert [a == b for a, b in zip(usual, mine, strict=True)] == [True, True, True, False, False]
    assert runs.build_network is before and active(project) == {} and configs.untouched(settings)
    assert usual == [step.folder(settings, tmp_path).name for step in steps.STEPS]


CELL = """\
WIDTH = 8

def half(x):
    return x / 2

class Layer:
    def call(self, x):
        return half(x) * WIDTH

def build_network(config):
    return Layer().call(config)
"""
EDITS = [  # an edit of the cell, whether it makes a new result
    (CELL, False),
    (CELL + "\ndef nobody():\n    return 7\n", False),
    (CELL.replace("x / 2", "x / 3"), True),
    (CELL.replace("half(x) *", "half(x) +"), True),
    (CELL.replace("WIDTH = 8", "WIDTH = 9"), True),
    (CELL.replace("Layer().call(config)", "Layer().call(config + 1)"), True),
]


@pytest.mark.parametrize(("edited", "new"), EDITS)
def test_a_result_is_named_by_the_sources_of_what_the_function_names(edited, new):
    from helpers.lip_reading import runs

    def digest(text):
        with workspace.own(runs, build_network=of_a_cell(text).build_network):
            return active("lip_reading")["build_network"]

    assert (digest(edited) != digest(CELL)) is new


def test_blocks_nest_and_end_also_after_an_error():
    from helpers.lip_reading import runs

    before = runs.build_network, runs.batches_of
    with pytest.raises(KeyboardInterrupt), workspace.own(runs, build_network=lambda config: 1):
        with workspace.own(runs, batches_of=lambda config: 2):
            assert set(active("lip_reading")) == {"build_network", "batches_of"}
        assert set(active("lip_reading")) == {"build_network"}
        raise KeyboardInterrupt
    assert (runs.build_network, runs.batches_of) == before and active("lip_reading") == {}


BAD = [
    ({"build_netwrok": len}, r"helpers\.lip_reading\.runs has no build_netwrok; it has: .*build_network"),
    ({"build_network": partial(print, 1)}, "build_network must be a function or class with a source"),
    ({"build_network": len}, "build_network must be a function or class with a source"),
]


@pytest.mark.parametrize(("replacements", "words"), BAD)
def test_what_cannot_be_put_in_place_is_refused_and_nothing_changes(replacements, words):
    from helpers.lip_reading import runs

    before = dict(vars(runs))
    with pytest.raises(ValueError, match=words), workspace.own(runs, **replacements):
        pass
    assert vars(runs) == before


CLOSURES = """\
class Base:
    def width(self):
        return 8

class Mine(Base):
    pass

def plain(x):
    return x

TABLE = {"plain": plain}

def make(width, after=None):
    def build_network(config, rate=WIDTH):
        return Mine().width() * width * rate, after, TABLE
    return build_network
"""


@pytest.mark.parametrize(
    ("change", "new"),
    [
        (lambda cell: cell, False),
        (lambda cell: cell.replace("return 8", "return 9"), True),
        (lambda cell: cell.replace("make(8)", "make(16)"), True),
        (lambda cell: cell.replace("WIDTH = 1", "WIDTH = 2"), True),
    ],
    ids=["same in another kernel", "a base class", "a closure", "a default"],
)
def test_closures_defaults_and_bases_count(change, new):
    from helpers.lip_reading import runs

    def digest(text):
        with workspace.own(runs, build_network=of_a_cell(text).mine):
            return active("lip_reading")["build_network"]

    cell = "WIDTH = 1\n" + CLOSURES + "mine = make(8)\n"
    assert (digest(change(cell)) != digest(cell)) is new


def test_a_class_of_a_file_is_followed_into_its_methods():
    sources, _ = code.reach(of_a_cell(CELL).build_network)
    assert {"build_network", "Layer", "half", "WIDTH"} == set(sources)


@pytest.mark.parametrize("project", PROJECTS)
def test_settings_changed_in_a_cell_are_held_to_the_limits_of_a_file(project, tmp_path):
    steps, _ = rooms(project)
    settings = mini(project)
    configs.check(settings)
    assert configs.untouched(settings)
    changed = dataclasses.replace(settings, save_every=settings.save_every + 1)
    configs.check(changed)
    assert not configs.untouched(changed)
    for bad, words in ((0, "save_every: received 0 .int.; allowed: an integer, at least 1"), ("x", "received 'x'")):
        with pytest.raises(ValueError, match=words):
            steps.build_dataset(dataclasses.replace(settings, save_every=bad), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_group_of_settings_is_checked_too():
    settings = mini("lip_reading")
    bad = dataclasses.replace(settings, size_lips=dataclasses.replace(settings.size_lips, width=0))
    with pytest.raises(ValueError, match=r"size_lips\.width: received 0 .int.; allowed: an integer"):
        configs.check(bad)
