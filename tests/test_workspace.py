"""`helpers.workspace`: steps that survive kills, two runs in one folder, full disks, damaged markers."""

import errno
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from helpers import workspace
from helpers.workspace import disk

CALLS = []


@dataclass(frozen=True)
class Config:
    source: str = "mini"
    clips: int = 3
    epochs: int = 2
    marks: str = "a"


@workspace.step(project="tests", reads=("clips",), fingerprint=lambda config: config.marks)
def build_dataset(config, place, folder):
    CALLS.append("build_dataset")
    disk.write_table(folder / "clips.csv", pd.DataFrame({"name": ["NA"] * config.clips, "error": [""] * config.clips}))
    return {"clips": config.clips}


@workspace.step(reads=("epochs",), after=build_dataset, keep=True)
def preprocess(config, place, folder):
    CALLS.append("preprocess")
    done = len(list(folder.glob("item*")))
    (folder / f"item{done}").touch()
    if config.epochs == 99 and done == 0:
        raise KeyboardInterrupt
    return {"items": done + 1, "clips": build_dataset.load(config, place)["clips"]}


STEPS = [build_dataset, preprocess]


@pytest.fixture(autouse=True)
def calls():
    CALLS.clear()
    return CALLS


def test_a_step_runs_once_and_its_folder_says_what_it_read(tmp_path, calls):
    result = build_dataset(Config(), tmp_path)
    assert build_dataset(Config(), str(tmp_path)).folder == result.folder
    assert calls == ["build_dataset"]
    assert result.folder.name.startswith("0_build_dataset-") and result.folder.parent.name == build_dataset.project
    marker = json.loads((result.folder / "step.json").read_text())
    assert marker["config"] == {"clips": 3} and marker["found"] == {"clips": 3} and marker["fingerprint"] == "a"
    assert result["clips"] == 3
    with pytest.raises(KeyError, match="reports no 'frames'; it reports: clips"):
        result["frames"]


def test_tables_keep_empty_text_and_the_word_na(tmp_path):
    table = build_dataset(Config(), tmp_path).table("clips")
    assert table["name"].tolist() == ["NA"] * 3 and table["error"].tolist() == [""] * 3
    with pytest.raises(FileNotFoundError, match=r"no table pairs\.csv"):
        build_dataset(Config(), tmp_path).table("pairs")


TABLES = {  # column -> values, what comes back
    "digits": (["7", "12"], ["7", "12"]),
    "leading zeros": (["00012", "1"], ["00012", "1"]),
    "exponents": (["1e5", "12"], ["1e5", "12"]),
    "the texts nan and NaN": (["nan", "NaN"], ["nan", "NaN"]),
    "other words for nothing": (["NA", "None"], ["NA", "None"]),
    "truth": (["True", "False"], ["True", "False"]),
    "empty text": (["", "5"], ["", "5"]),
    "nothing but empty text": (["", ""], ["", ""]),
    "missing text": (["5", None], ["5", ""]),
    "texts and numbers": (["5", 6], ["5", "6"]),
    "what CSV quotes": (['a,"b"', "two\nlines"], ['a,"b"', "two\nlines"]),
    "spaces and accents": ([" é ", "й"], [" é ", "й"]),
    "integers": ([7, 12], [7, 12]),
    "missing numbers": ([7.5, None], [7.5, np.nan]),
    "no number at all": ([np.nan, np.nan], [np.nan, np.nan]),
    "booleans": ([True, False], [True, False]),
}


@pytest.mark.parametrize("values, expected", TABLES.values(), ids=TABLES)
def test_tables_come_back_as_they_were(tmp_path, values, expected):
    disk.write_table(tmp_path / "a.csv", pd.DataFrame({"first": [1, 2], "name": values, "last": ["x", "y"]}))
    found = disk.read_table(tmp_path / "a.csv")["name"]
    pd.testing.assert_series_equal(found, pd.Series(expected, name="name"))
    anybody = pd.read_csv(tmp_path / "a.csv")
    assert list(anybody.columns) == ["first", "name", "last"] and anybody["last"].tolist() == ["x", "y"]


def test_floats_come_back_to_the_last_bit(tmp_path):
    numbers = np.random.default_rng(0).random(1000)
    disk.write_table(tmp_path / "a.csv", pd.DataFrame({"number": numbers}))
    np.testing.assert_array_equal(disk.read_table(tmp_path / "a.csv")["number"], numbers)


def test_all_columns_at_once_and_none(tmp_path):
    table = pd.DataFrame({name: values for name, (_, values) in TABLES.items()})
    disk.write_table(tmp_path / "a.csv", table)
    pd.testing.assert_frame_equal(disk.read_table(tmp_path / "a.csv"), table)
    disk.write_table(tmp_path / "a.csv", table[:0])
    assert disk.read_table(tmp_path / "a.csv").columns.equals(table.columns)


@pytest.mark.parametrize("name", ["a,b", 'the "best"', "two\nlines"])
def test_names_of_columns_that_the_header_cannot_hold(tmp_path, name):
    with pytest.raises(ValueError, match="allowed: names without comma, quote and line break"):
        disk.write_table(tmp_path / "a.csv", pd.DataFrame({name: [1]}))
    assert not list(tmp_path.iterdir())


def test_a_local_folder_is_known_by_the_files_that_matter(tmp_path):
    def look(sources=("local",), notes=False, **changes):
        config = SimpleNamespace(**{"source": "local", "clips": str(tmp_path / "mine"), **changes})
        options = {"expected": "one with clips", "key": "clips", "sources": sources, "notes": notes}
        return workspace.fingerprint_local(config, **options)

    for name in ("b.avi", "a/c.avi", ".hidden/d.avi", "Thumbs.db", "notes.TXT"):
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, ns=(0, 5))
    assert look() == [("a/c.avi", 7, 5), ("b.avi", 5, 5)]
    assert look(notes=True) == [("a/c.avi", 7, 5), ("b.avi", 5, 5), ("notes.TXT", 9, 5)]
    assert look(source="mini", clips=None) is None and look(sources=("mine",)) is None
    assert look(source="mine", sources=("local", "mine")) == look()
    with pytest.raises(FileNotFoundError, match=r"clips: no folder .*gone; expected one with clips"):
        look(clips=str(tmp_path / "gone"))


def test_only_what_a_step_reads_makes_a_new_folder(tmp_path):
    base = Config()
    folders = {name: preprocess.folder(c, tmp_path) for name, c in {
        "base": base, "source": replace(base, source="other"), "epochs": replace(base, epochs=3),
        "clips": replace(base, clips=4), "marks": replace(base, marks="b")}.items()}  # fmt: skip
    assert folders["source"] == folders["base"]
    assert len(set(folders.values())) == 4
    assert build_dataset.folder(replace(base, epochs=3), tmp_path) == build_dataset.folder(base, tmp_path)


def test_a_killed_step_goes_on_where_it_was(tmp_path, calls):
    config = Config(epochs=99)
    build_dataset(config, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        preprocess(config, tmp_path)
    assert not preprocess.done(config, tmp_path)
    assert preprocess(config, tmp_path)["items"] == 2
    assert not list(tmp_path.rglob("*.partial"))


def test_what_killed_writers_had_begun_is_in_no_finished_step(tmp_path):
    partial = preprocess.folder(Config(), tmp_path)
    partial = partial.with_name(partial.name + ".partial")
    (partial / "frames" / ".clip-x7").mkdir(parents=True)
    for name in (".clips-a1.csv", "frames/.clip-x7/1.jpg", "frames/2.jpg"):
        (partial / name).touch()
    build_dataset(Config(), tmp_path)
    folder = preprocess(Config(), tmp_path).folder
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    assert found == {"frames", "frames/2.jpg", "item0", "step.json"}


def test_ensure_makes_what_is_missing_and_a_step_alone_names_the_notebook(tmp_path, calls, capsys):
    first = workspace.ensure(STEPS, "preprocess", Config(), tmp_path)
    line = capsys.readouterr().out
    assert calls == ["build_dataset", "preprocess"] and list(first) == calls
    workspace.ensure(STEPS, "preprocess", Config(), tmp_path)
    assert (
        capsys.readouterr().out
        == line
        == f"ready: {first['build_dataset'].folder.name}, {first['preprocess'].folder.name}\n"
    )
    assert len(calls) == 2
    real = Config(source="ucf101", clips=7)
    with pytest.raises(RuntimeError, match="build_dataset is not done for this config: run 00_dataset_build first"):
        preprocess(real, tmp_path)
    assert list(workspace.ensure(STEPS, "preprocess", real, tmp_path)) == ["build_dataset", "preprocess"]
    with pytest.raises(ValueError, match="until must be one of build_dataset, preprocess"):
        workspace.ensure(STEPS, "prepocess", Config(), tmp_path)


@pytest.mark.parametrize("text", ["", "{", '{"config": {}}', "[]"])
def test_a_damaged_marker_is_named(tmp_path, text):
    folder = build_dataset(Config(), tmp_path).folder
    (folder / "step.json").write_text(text)
    with pytest.raises(ValueError, match=r"step\.json is damaged"):
        build_dataset(Config(), tmp_path)


def test_atomic_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "deep" / "a.tar.gz"
    with disk.atomic_write(path) as file:
        file.write(b"old")
    with pytest.raises(ZeroDivisionError), disk.atomic_write(path) as file:
        file.write(b"new")
        raise ZeroDivisionError
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.tar.gz"]
    with disk.atomic_path(path) as temporary:
        assert temporary.name.endswith(".tar.gz") and temporary.parent == path.parent
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(
    "code, words", [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")]
)
def test_disk_errors_name_the_folder_and_the_way_out(tmp_path, monkeypatch, code, words):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def refuse(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=words) as caught, disk.atomic_write(path, "w") as file:
        file.write("new")
    assert caught.value.errno == code and str(tmp_path) in str(caught.value) and "COURSE_WORKSPACE" in str(caught.value)
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_genuinely_full_device_is_explained():
    full = pytest.raises(OSError, match="disk is full")
    with full, disk.explain_disk_errors(Path("x/y")), Path("/dev/full").open("w") as file:
        file.write("x")
        file.flush()


HOLDER = """
import sys, time
from pathlib import Path
from helpers.workspace import disk
with disk.lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.mark.parametrize("kill", [False, True])
def test_a_second_run_waits_and_a_killed_one_frees_its_lock(tmp_path, capsys, kill):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "3_train-x"), "60" if kill else "2.5"],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    assert holder.stdout.readline() == b"held\n"
    if kill:
        holder.kill()
    began = time.monotonic()
    with disk.lock(tmp_path / "3_train-x"):
        waited = time.monotonic() - began
    holder.kill()
    holder.wait()
    assert ("waiting for it" in capsys.readouterr().out) != kill
    assert waited < 30
