"""A disk that outlives the machine: nothing is made twice, nothing is deleted there, and a torn file costs no more than itself."""

import os
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from helpers import workspace
from helpers.config import BaseConfig, option
from helpers.workspace import Workspace, packs

CALLS: list[str] = []


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    source: str = "mini"
    epochs: int = option(3)


@workspace.step(project="p", reads=("source",))
def build_dataset(config, place, folder):
    CALLS.append("build_dataset")
    (folder / "clips" / "a").mkdir(parents=True, exist_ok=True)
    (folder / "clips" / "a" / "é 1.bin").write_bytes(bytes(range(256)) * 50)
    place.downloads.mkdir(parents=True, exist_ok=True)
    (place.downloads / "list.csv").write_text("small")
    (place.downloads / "archive.zip.part").write_text("half")
    return {"clips": 1}


@workspace.step(reads=("epochs",), after=build_dataset, keep=True)
def train(config, place, folder):
    """Each epoch leaves a file, and may be killed after it."""
    for epoch in range(config.epochs):
        path = folder / f"{epoch}.txt"
        if not path.exists():
            CALLS.append(f"epoch {epoch}")
            path.write_text("x" * 100)
            packs.checkpoint()
            if KILL["after"] == epoch:
                raise KeyboardInterrupt
    return {"epochs": config.epochs}


STEPS = [build_dataset, train]
KILL = {"after": None}


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    CALLS.clear()
    KILL["after"] = None
    monkeypatch.setattr(packs, "EVERY", 0.0)


def machine(tmp_path, number):
    """A new machine that mounts the same drive."""
    return Workspace(tmp_path / f"machine{number}", tmp_path / "drive")


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_wiped_machine_makes_nothing_twice(tmp_path, capsys):
    first = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    assert CALLS == ["build_dataset", "epoch 0", "epoch 1", "epoch 2"]
    again = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert len(CALLS) == 4 and again["train"].made == first["train"].made
    for name, result in first.items():
        assert contents(result.folder) == contents(again[name].folder) and result.folder != again[name].folder
    assert f"{first['train'].folder.name} comes from {tmp_path / 'drive' / 'p'}" in capsys.readouterr().out
    assert not list((tmp_path / "machine2").rglob(".unpacking*"))


@pytest.mark.parametrize("after", [0, 1])
def test_a_training_goes_on_where_the_machine_was_lost(tmp_path, after):
    KILL["after"] = after
    with pytest.raises(KeyboardInterrupt):
        workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    KILL["after"], CALLS[:] = None, []
    done = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert len(CALLS) == 2 - after and CALLS[-1] == "epoch 2" and done["train"]["epochs"] == 3
    assert [
        slot.stat().st_size for slot in packs.slots(tmp_path / "drive" / "p" / f"{done['train'].folder.name}.tar")
    ] == [0, 0]


@pytest.mark.parametrize("damage", ["cut", "changed", "note"])
def test_a_torn_state_costs_one_state(tmp_path, damage, capsys):
    """A kill while one of the two is written leaves the other."""
    KILL["after"] = 1
    with pytest.raises(KeyboardInterrupt):
        workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    pack = tmp_path / "drive" / "p" / f"{train.folder(Config(), tmp_path).name}.tar"
    newest = max(packs.slots(pack), key=packs._number)
    content = bytearray(newest.read_bytes())
    if damage == "cut":
        newest.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        content[content.index(b"x" * 100)] ^= 1
        newest.write_bytes(content)
    else:
        Path(f"{newest}.json").write_text("")
    KILL["after"], CALLS[:] = None, []
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert CALLS == ["epoch 1", "epoch 2"]
    assert ("is damaged and not used" in capsys.readouterr().out) == (damage != "note")


def test_a_damaged_pack_is_told_and_made_anew(tmp_path, capsys):
    folder = build_dataset(Config(), machine(tmp_path, 1)).folder
    pack = tmp_path / "drive" / "p" / f"{folder.name}.tar"
    pack.write_bytes(pack.read_bytes()[:-2000])
    again = build_dataset(Config(), machine(tmp_path, 2))
    assert CALLS == ["build_dataset"] * 2 and contents(again.folder).keys() == contents(folder).keys()
    assert capsys.readouterr().out.count("is damaged and not used") == 1, "and is read once"
    build_dataset(Config(), machine(tmp_path, 3))
    assert len(CALLS) == 2, "the pack was mended"


def test_on_the_drive_nothing_is_deleted_or_renamed(tmp_path, monkeypatch):
    """What goes to the bin of a Drive counts on."""
    drive = str(tmp_path / "drive")
    for name in ("unlink", "rename", "replace", "remove", "rmdir"):
        genuine = getattr(os, name)

        def watched(*arguments, genuine=genuine, name=name, **options):
            assert not any(str(argument).startswith(drive) for argument in arguments), f"{name}{arguments}"
            return genuine(*arguments, **options)

        monkeypatch.setattr(os, name, watched)
    KILL["after"] = 2
    with pytest.raises(KeyboardInterrupt):
        workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    KILL["after"] = None
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    names = sorted(path.name for path in (tmp_path / "drive" / "p").iterdir())
    assert len(names) == 2 * (1 + 1 + 2), names
    workspace.forget(STEPS, "build_dataset", Config(), machine(tmp_path, 2))
    assert all(path.stat().st_size == 0 for path in (tmp_path / "drive" / "p").iterdir())
    workspace.ensure(STEPS, "build_dataset", Config(), machine(tmp_path, 3))
    assert CALLS.count("build_dataset") == 2


def test_what_does_not_fit_stays_here_and_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=packs.SPARE + 5000))
    result = build_dataset(Config(), machine(tmp_path, 1))
    assert result["clips"] == 1 and not list((tmp_path / "drive" / "p").glob("*.tar"))
    assert f"{result.folder.name} is not kept: it has 0.00 GB, 0.00 GB are free at" in capsys.readouterr().out


def test_a_drive_that_fails_stops_nothing(tmp_path, capsys):
    (tmp_path / "drive").write_text("not a folder")
    assert train.after(Config(), machine(tmp_path, 1))["clips"] == 1
    assert train(Config(), machine(tmp_path, 1))["epochs"] == 3
    assert "is not kept at" in capsys.readouterr().out


@pytest.mark.parametrize("python", ["with data_filter", "before 3.11.4"])
@pytest.mark.parametrize("link", [None, tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_a_pack_cannot_write_outside_its_folder(tmp_path, monkeypatch, link, python):
    import hashlib
    import io
    import json

    if python == "before 3.11.4":
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    pack, body = tmp_path / "evil.tar", io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as tar:
        entry = tarfile.TarInfo("link" if link else "../../escaped.txt")
        entry.type, entry.linkname, entry.size = (
            link or entry.type,
            "../../outside.txt" if link else "",
            0 if link else 4,
        )
        tar.addfile(entry, io.BytesIO(b"evil"))
    pack.write_bytes(body.getvalue())
    note = {"bytes": len(body.getvalue()), "sha256": hashlib.sha256(body.getvalue()).hexdigest(), "number": 0}
    Path(f"{pack}.json").write_text(json.dumps(note))
    assert not packs.restore(pack, tmp_path / "deep" / "in" / "folder") and not list(tmp_path.rglob("escaped.txt"))


def test_small_downloads_outlive_the_machine(tmp_path, monkeypatch):
    """In a fake Colab, whose Drive is a folder."""
    module = ModuleType("google.colab")
    module.drive = SimpleNamespace(mount=lambda path: None)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(workspace.runtime, "mount_drive", lambda wanted: tmp_path / "MyDrive" if wanted else None)
    for number in (1, 2):
        monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / f"machine{number}"))
        place = workspace.open_workspace(drive=True)
        build_dataset(Config(), place)
        assert (place.downloads / "list.csv").read_text() == "small"
    assert CALLS == ["build_dataset"] and place.kept == tmp_path / "MyDrive" / "learning-from-video"
    assert [path.name for path in (place.kept / "downloads").iterdir()] == ["list.csv"]
    monkeypatch.setenv("COURSE_KEEP", str(tmp_path / "elsewhere"))
    assert workspace.open_workspace().kept == tmp_path / "elsewhere"
