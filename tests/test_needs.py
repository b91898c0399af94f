"""What genuine data take: one table before anything begins, and a refusal with numbers."""

import shutil
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from helpers import runtime, workspace
from helpers.config import BaseConfig, Needs, option
from helpers.workspace import Workspace, needs

WANTED = {
    "first": Needs(download=3e9, disk=3e9, minutes=20),
    "train": Needs(disk=1e9, memory=4e9, gpu_memory=9e9, minutes=40),
}


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    source: str = "net"
    disk: float = option(1e9)

    def needs(self):
        return {"first": Needs(download=3e9, disk=self.disk, minutes=20), "train": WANTED["train"]}


@workspace.step(project="p", reads=("source", "disk"))
def first(config, place, folder):
    return {}


@workspace.step(reads=(), after=first)
def train(config, place, folder):
    return {}


STEPS = [first, train]


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """100 GB of disk, 12 GB of memory, a GPU of 15 GB."""
    monkeypatch.setattr(needs, "_TOLD", set())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100e9))
    monkeypatch.setattr(runtime, "memory", lambda: 12e9)
    monkeypatch.setattr(runtime, "devices", lambda: [{"kind": "GPU", "memory_gib": 15.0}])


def test_one_table_before_the_first_step_with_the_notebooks_own(tmp_path, capsys):
    workspace.ensure(STEPS, "first", Config(), tmp_path)
    assert capsys.readouterr().out.splitlines() == [
        "to be made        download GB      disk GB    memory GB       GPU GB      minutes",
        "first                     3.0          1.0          2.0          0.0           20",
        "train                     0.0          1.0          4.0          9.0           40",
        "together                  3.0          2.0          4.0          9.0           60",
        "minutes: computed for a T4 and two cores, not measured",
        "free here: 100 GB of disk, 12 GB of memory",
        f"ready: {first.folder(Config(), tmp_path).name}",
    ]
    train(Config(), tmp_path)
    workspace.ensure(STEPS, "train", Config(), tmp_path)
    assert "to be made" not in capsys.readouterr().out, "told once, and nothing is missing"


def test_a_step_called_alone_tells_of_itself(tmp_path, capsys):
    first(Config(), tmp_path)
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["to", "first", "minutes:", "free"]


def test_a_step_that_takes_nothing_says_nothing(tmp_path, capsys):
    @workspace.step(reads=(), after=first)
    def split(config, place, folder):
        return {}

    first(Config(), tmp_path)
    capsys.readouterr()
    split(Config(), tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({"free": 3.9e9}, "4 GB of disk, of which 4 GB can be had"),
        ({"memory": 3.5e9}, "4 GB of memory in step train, of 4 GB"),
        ({"gpu_memory": 8e9}, "9 GB of GPU memory in step train, of 8 GB"),
    ],
)
def test_what_cannot_fit_is_refused(machine, words):
    enough = {"free": 4e9, "memory": 4e9, "gpu_memory": 9e9}
    needs.refuse(WANTED, **enough)
    with pytest.raises(RuntimeError, match=f"does not fit here: it needs {words}. Nothing was begun"):
        needs.refuse(WANTED, **enough | machine)
    needs.refuse(WANTED, **enough | {"gpu_memory": None})


def test_nothing_is_begun_where_it_cannot_fit(tmp_path):
    with pytest.raises(RuntimeError, match="201 GB of disk, of which 100 GB"):
        workspace.ensure(STEPS, "first", Config(disk=200e9), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_here_already_counts_as_free(tmp_path):
    place = Workspace(tmp_path)
    for name in ("downloads/a/archive.zip", "p/0_first-12345678.partial/clips/1.avi", "p/0_first-87654321/done.avi"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(bytes(1000))
    assert needs.begun(place, "p") == 2000


def test_a_missing_gpu_is_told_before_anything_is_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "devices", lambda: [{"kind": "CPU", "memory_gib": 12.0}])
    with pytest.raises(RuntimeError, match="expects a GPU, found only a CPU"):
        workspace.ensure(STEPS, "first", Config(), tmp_path)
    assert not list(tmp_path.iterdir())
    workspace.ensure(STEPS, "first", Config(allow_cpu=True), tmp_path)


def test_drawn_data_say_nothing(tmp_path, capsys):
    @dataclass(frozen=True, kw_only=True)
    class Mini(Config):
        def needs(self):
            return {}

    workspace.ensure(STEPS, "train", Mini(source="mini"), tmp_path)
    assert capsys.readouterr().out.startswith("ready: ")
