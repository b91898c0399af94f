"""What a step may read, and which code made its result: `config.view`, `workspace.code`, `Step.older`, `forget`."""

import importlib
import json
import pickle
import sys
import textwrap
from dataclasses import dataclass

import joblib
import pytest

from helpers import config, workspace
from helpers.config import BaseConfig, option
from helpers.workspace import code


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    source: str = option("mini", choices=("mini", "local"))
    clips: int = 3
    lr: float = 0.1
    size: int = 8

    @property
    def area(self) -> int:
        return self.size**2


def test_a_view_gives_what_is_declared_and_refuses_the_rest_by_name():
    seen = config.view(Config(clips=5), ("clips", "size"), "step train of lip_reading")
    assert isinstance(seen, Config) and seen.clips == 5 and seen.area == 64
    words = r"step train of lip_reading reads the config field 'lr' without declaring it: add it to `reads`"
    with pytest.raises(config.UndeclaredField, match=words):
        _ = seen.lr
    with pytest.raises(config.UndeclaredField):
        getattr(seen, "lr", None)
    assert config.fields_read(seen) == {"clips", "size"}


def test_a_view_travels_to_other_processes_and_stays_one():
    seen = config.view(Config(), ("clips",), "step x of y")
    assert pickle.loads(pickle.dumps(seen)).clips == 3
    clips, error = joblib.Parallel(n_jobs=2)(joblib.delayed(_try)(seen, name) for name in ("clips", "lr"))
    assert clips == 3 and "reads the config field 'lr'" in error


def _try(seen, name):
    try:
        return getattr(seen, name)
    except config.UndeclaredField as error:
        return str(error)


def test_a_record_of_fields_does_not_count_as_reading():
    seen = config.view(Config(), ("clips",), "step x of y")
    assert config.values(seen, ("clips", "lr")) == {"clips": 3, "lr": 0.1}
    assert config.fields_read(seen) == set()
    assert config.whole(seen) == Config() == config.whole(Config())


def build(reads, uses=(), name="lr", fingerprint=None):
    """Two steps; the second reads the field `name`."""

    @workspace.step(project="tests", reads=("clips",))
    def build_dataset(config, place, folder):
        return {"clips": config.clips}

    @workspace.step(reads=reads, uses=uses, after=build_dataset, fingerprint=fingerprint)
    def train(config, place, folder):
        return {"clips": build_dataset.load(config, place)["clips"], "value": getattr(config, name)}

    return [build_dataset, train]


@pytest.mark.parametrize(("reads", "uses"), [(("lr",), ()), ((), ("lr",))])
def test_a_step_reads_what_it_or_a_step_before_it_declares(tmp_path, reads, uses):
    steps = build(reads, uses)
    assert workspace.ensure(steps, "train", Config(), tmp_path)["train"]["value"] == 0.1
    assert build((), name="clips")[1].after.name == "build_dataset"
    workspace.ensure(build((), name="clips"), "train", Config(clips=4), tmp_path)


def test_an_undeclared_field_stops_the_step_and_leaves_no_result(tmp_path):
    steps = build(("size",))
    with pytest.raises(config.UndeclaredField, match="step train of tests reads the config field 'lr'"):
        workspace.ensure(steps, "train", Config(), tmp_path)
    assert not steps[1].done(Config(), tmp_path)


def test_only_what_decides_a_result_is_in_its_name(tmp_path):
    names = [build(("lr",), ("size",))[1].folder(made, tmp_path) for made in (Config(), Config(size=9), Config(lr=0.2))]
    assert names[0] == names[1] != names[2]


def test_the_marker_keeps_what_was_read_not_what_was_declared(tmp_path):
    done = workspace.ensure(build(("lr", "size")), "train", Config(), tmp_path)["train"]
    marker = json.loads((done.folder / "step.json").read_text())
    assert marker["read"] == ["lr"] and marker["config"] == {"lr": 0.1, "size": 8}


def test_a_fingerprint_may_look_at_any_field(tmp_path):
    steps = build(("lr",), fingerprint=lambda config: config.size)
    workspace.ensure(steps, "train", Config(), tmp_path)
    assert steps[1].done(Config(), tmp_path) and not steps[1].done(Config(size=9), tmp_path)


# --- which code made it ---

PACKAGE = {
    "__init__": "",
    "unused": "A = 1",
    "losses": "from helpers.course_test import layers\ndef loss(x):\n    return layers.double(x)",
    "layers": "def double(x):\n    return 2 * x",
    "data": "def read():\n    return 3",
    "steps": """
        from helpers import workspace
        from helpers.course_test import data, losses, unused

        FACTOR = 5

        @workspace.step(project="course_test", reads=("clips",))
        def build_dataset(config, place, folder):
            return {"read": data.read()}

        @workspace.step(reads=("lr",), after=build_dataset)
        def train(config, place, folder):
            return {"loss": scaled(build_dataset.load(config, place)["read"])}

        def scaled(x):
            return FACTOR * losses.loss(x)

        def nobody():
            return unused.A

        STEPS = [build_dataset, train]
    """,
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package helpers.course_test in a folder of its own; a call writes changed modules and returns its steps."""
    folder = tmp_path / "code" / "helpers" / "course_test"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    monkeypatch.setattr(sys.modules["helpers"], "__path__", [*sys.modules["helpers"].__path__, str(folder.parent)])
    monkeypatch.setattr(code, "ROOT", tmp_path / "code")
    monkeypatch.setattr(workspace, "_TOLD", set())

    def load(**changes):
        for name, text in (PACKAGE | changes).items():
            (folder / f"{name}.py").write_text(textwrap.dedent(text))
        for cache in folder.glob("__pycache__/*"):
            cache.unlink()
        for name in [name for name in sys.modules if name.startswith("helpers.course_test")]:
            del sys.modules[name]
        importlib.invalidate_caches()
        importlib.import_module("linecache").clearcache()
        code._imports.cache_clear()
        code._file_hash.cache_clear()
        return importlib.import_module("helpers.course_test.steps").STEPS

    yield load
    load()
    for name in [name for name in sys.modules if name.startswith("helpers.course_test")]:
        del sys.modules[name]


def test_a_fingerprint_names_the_files_that_the_body_can_reach(package):
    build_dataset, train = package()
    names = {name.removeprefix("helpers/course_test/") for name in code.fingerprint(train.body)}
    assert {"steps.py", "losses.py", "layers.py"} <= names and not {"data.py", "unused.py"} & names
    assert {"steps.py", "data.py"} == {
        name.removeprefix("helpers/course_test/") for name in code.fingerprint(build_dataset.body)
    } - {"helpers/__init__.py", "__init__.py"}


CHANGES = [  # what is edited, which step is then older, what the line names
    ({"layers": "def double(x):\n    return 3 * x"}, "train", "helpers/course_test/layers.py"),
    ({"data": "def read():\n    return 4"}, "build_dataset", "helpers/course_test/data.py"),
    ({"steps": PACKAGE["steps"].replace("FACTOR = 5", "FACTOR = 6")}, "train", "helpers/course_test/steps.py"),
    ({"steps": PACKAGE["steps"].replace("FACTOR *", "-FACTOR *")}, "train", "helpers/course_test/steps.py"),
    ({"unused": "A = 2"}, None, ""),
    ({"steps": PACKAGE["steps"].replace("return unused.A", "return -unused.A")}, None, ""),
]


@pytest.mark.parametrize(("changes", "older", "file"), CHANGES)
def test_an_older_result_is_used_with_one_line_that_says_why_and_how_to_remake_it(
    package, tmp_path, capsys, changes, older, file
):
    place = tmp_path / "place"
    before = workspace.ensure(package(), "train", Config(), place)["train"]
    assert capsys.readouterr().out.startswith("ready: ")
    steps = package(**changes)
    assert workspace.ensure(steps, "train", Config(), place)["train"].made == before.made
    out = capsys.readouterr().out.splitlines()
    workspace.ensure(steps, "train", Config(), place)
    assert capsys.readouterr().out.startswith("ready: ")  # said once
    if older is None:
        assert len(out) == 1
        return
    assert len(out) == 2 and f"{file} changed" in out[0] and f"_{older}-" in out[0]
    command = f'workspace.forget(STEPS, "{older}", config, place)'
    assert out[0].endswith(command)
    gone = workspace.forget(steps, older, Config(), place)
    assert [name.split("_", 1)[1].rsplit("-", 1)[0] for name in gone] == [
        step.name for step in steps if step.number >= [s.name for s in steps].index(older)
    ]
    after = workspace.ensure(steps, "train", Config(), place)["train"]
    assert after.made != before.made and capsys.readouterr().out.startswith("ready: ")


def test_a_result_made_of_one_that_was_made_anew_is_older(package, tmp_path, capsys):
    steps = package()
    workspace.ensure(steps, "train", Config(), tmp_path / "place")
    first = workspace.forget(steps[:1], "build_dataset", Config(), tmp_path / "place")[0]
    capsys.readouterr()
    workspace.ensure(steps, "train", Config(), tmp_path / "place")
    assert f"was made from an earlier {first}" in capsys.readouterr().out


def test_a_killed_step_that_older_code_began_says_so(package, tmp_path, capsys):
    steps = package(losses="def loss(x):\n    raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        workspace.ensure(steps, "train", Config(), tmp_path / "place")
    steps = package()
    done = workspace.ensure(steps, "train", Config(), tmp_path / "place")["train"]
    out = capsys.readouterr().out
    assert ".partial was begun before helpers/course_test/l" in out and "to begin anew delete it" in out
    assert "older code: " in out  # and so the finished result
    assert sorted(path.name for path in done.folder.iterdir()) == ["step.json"]


def test_forget_names_the_steps_there_are(package, tmp_path):
    with pytest.raises(ValueError, match="begin must be one of build_dataset, train"):
        workspace.forget(package(), "trian", Config(), tmp_path)
