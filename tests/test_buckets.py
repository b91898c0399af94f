"""A bucket that outlives the machine: the genuine gcsfs against a server on this one, kills, faults and damage."""

import importlib.util
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import gcs_server
import pytest
import test_packs
from test_packs import CALLS, KILL, STEPS, Config, contents

from helpers import workspace
from helpers.__main__ import main
from helpers.workspace import Workspace, buckets, packs

ADDRESS = "gs://bucket/runs"
TRAIN, BUILT = (step.folder(Config(), "/x").name for step in reversed(STEPS))
installed = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("gcsfs", "upath"))), reason="needs gcsfs and universal_pathlib"
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    CALLS.clear()
    KILL["after"] = None
    monkeypatch.setattr(packs, "EVERY", 0.0)
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it asks another of Google's servers


@pytest.fixture
def bucket(monkeypatch):
    """State of a stand-in of Google Cloud Storage, which gcsfs reaches by the variable that emulators are named with."""
    pytest.importorskip("upath")
    config = pytest.importorskip("fsspec.config")
    retry = pytest.importorskip("gcsfs.retry")
    monkeypatch.setattr(retry, "min", lambda *_: 0.0, raising=False)  # seconds between the library's tries
    monkeypatch.setitem(config.conf, "gs", {"token": "anon"})
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with gcs_server.serve() as state:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", state.url)
        yield state


def machine(tmp_path, number):
    return Workspace(tmp_path / f"machine{number}", ADDRESS)


def interrupted(tmp_path, after):
    KILL["after"] = after
    with pytest.raises(KeyboardInterrupt):
        workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    KILL["after"], CALLS[:] = None, []


def test_the_standins_checksum():
    assert gcs_server.crc32c(b"123456789") == "4waSgw=="  # RFC 3720's check value e3069283


def test_a_wiped_machine_makes_nothing_twice(bucket, tmp_path, capsys):
    first = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    again = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert CALLS == ["build_dataset", "epoch 0", "epoch 1", "epoch 2"]
    for name, result in first.items():
        assert contents(result.folder) == contents(again[name].folder) and result.folder != again[name].folder
    assert f"{TRAIN} comes from {ADDRESS}/p" in capsys.readouterr().out
    kept = {name: len(data) for name, data in bucket.objects.items()}
    assert kept[f"runs/p/{TRAIN}.tar"] and kept[f"runs/p/{BUILT}.tar.json"]
    assert [kept[f"runs/p/{TRAIN}.state-{letter}.tar{end}"] for letter in "ab" for end in ("", ".json")] == [0] * 4
    assert "runs/downloads/list.csv" in kept and not any("part" in name for name in kept)
    assert not [request for request in bucket.requests if not request.startswith(("GET", "POST"))], "nothing is deleted"


def test_large_packs_go_in_chunks(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "BLOCK", 2**18)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.bin").write_bytes(os.urandom(1_000_000))
    pack = machine(tmp_path, 1).kept / "data.tar"
    assert packs.save(tmp_path / "folder", pack) and sum(line.startswith("POST") for line in bucket.requests) >= 4
    assert packs.restore(pack, tmp_path / "again") and contents(tmp_path / "again") == contents(tmp_path / "folder")


@pytest.mark.parametrize("after", [0, 1])
def test_a_training_goes_on_where_the_machine_was_lost(bucket, tmp_path, after):
    interrupted(tmp_path, after)
    done = workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert len(CALLS) == 2 - after and CALLS[-1:] != ["epoch 0"] and done["train"]["epochs"] == 3


@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize("when", ["between saves", "in an upload", "in a note"])
def test_a_killed_process_goes_on_from_the_bucket(bucket, tmp_path, when):
    """SIGKILL, on a machine that is then gone."""
    part = {"between saves": "between", "in an upload": ".state-a.tar!", "in a note": ".state-a.tar.json!"}[when]
    script = (
        "import os, pathlib, sys, test_packs; from helpers import workspace; from helpers.workspace import packs, Workspace\n"
        "packs.EVERY = 0.0; test_packs.KILL['after'] = 2 if sys.argv[2] == 'between' else None\n"
        "try: workspace.ensure(test_packs.STEPS, 'train', test_packs.Config(), Workspace(pathlib.Path(sys.argv[1]), 'gs://bucket/runs'))\n"
        "except KeyboardInterrupt: os.kill(os.getpid(), 9)\n"
    )
    paths = os.pathsep.join(
        [*map(str, [Path(test_packs.__file__).parent, Path(workspace.__file__).parents[2]]), *sys.path]
    )
    env = os.environ | {"PYTHONPATH": paths, "FSSPEC_GS_TOKEN": "anon"}
    if part != "between":  # the third state goes into slot a again
        bucket.faults += [("POST", part, "pass")] * (2 if "json" in part else 1) + [("POST", part, "hang")]
    run = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "machine1"), part], env=env)
    if part != "between":
        assert bucket.hanging.wait(30)
        run.kill()
        bucket.released.set()
    assert run.wait(60) == -signal.SIGKILL
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert len(CALLS) == (part != "between")


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "note"])
def test_a_damaged_state_costs_one_state(bucket, tmp_path, damage, capsys):
    interrupted(tmp_path, 1)
    name, data = max(
        ((name, data) for name, data in bucket.objects.items() if "state" in name and name.endswith("b.tar"))
    )
    broken = {"cut": data[:-3000], "changed": data.replace(b"x" * 100, b"y" * 100), "gone": data, "note": data}[damage]
    bucket.objects[name] = broken
    if damage == "gone":
        del bucket.objects[name]
    if damage == "note":
        bucket.objects[f"{name}.json"] = b""
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert CALLS == ["epoch 1", "epoch 2"]
    told = f"{TRAIN}.state-b.tar at {ADDRESS}/p is damaged and not used"
    assert (told in capsys.readouterr().out) == (damage != "note")


FAULTS = {"refused": 403, "corrupted": "corrupt", "a lasting outage": 503}


@pytest.mark.parametrize("kind", FAULTS)
def test_an_upload_that_fails_stops_nothing_and_is_made_up_for(bucket, tmp_path, kind, capsys):
    times = 6 if kind == "a lasting outage" else 1
    bucket.faults += [("POST", f"/{BUILT}.tar!", FAULTS[kind])] * times
    workspace.ensure(STEPS, "build_dataset", Config(), machine(tmp_path, 1))
    said = [line for line in capsys.readouterr().out.splitlines() if "is not kept" in line]
    assert len(said) == 1 and said[0].startswith(f"{BUILT} is not kept at {ADDRESS}/p: OSError: ")
    assert ("md5Hash and crc32c" in said[0]) == (kind == "corrupted")
    assert "upload_id" not in said[0], "whoever knows the address of an upload may write without a login"
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    CALLS.clear()
    workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 2))
    assert CALLS == [] and bucket.faults == []


def test_a_training_goes_on_without_its_bucket(bucket, tmp_path, capsys):
    bucket.faults += [("POST", "", "always 403"), ("GET", ".state-", "always 403")]
    machine(tmp_path, 1)
    with pytest.raises(
        OSError, match=r"^gs://bucket/runs/p/1_train-\w+\.state-.\.tar cannot be read or written \(.*403|Forbidden"
    ):
        workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))
    bucket.faults[1:] = []
    keep = packs._save_state
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            packs, "_save_state", lambda *of: (bucket.faults.append(("GET", ".state-", "always 403")), keep(*of))
        )
        assert workspace.ensure(STEPS, "train", Config(), machine(tmp_path, 1))["train"]["epochs"] == 3
    assert capsys.readouterr().out.count(f"{TRAIN}.partial is not kept at {ADDRESS}/p: ") == 3


@pytest.mark.parametrize("part", [".tar.json", ".tar?"])
def test_a_download_that_fails_makes_nothing_anew(bucket, tmp_path, part):
    """Made anew, hours would be lost, and two results of one step would meet."""
    workspace.ensure(STEPS, "build_dataset", Config(), machine(tmp_path, 1))
    bucket.faults += [("GET", f"{BUILT}{part}", "always 403")]
    with pytest.raises(OSError, match=rf"^gs://bucket/runs/p/{BUILT}\.tar cannot be read or written \(.*Forbidden"):
        workspace.ensure(STEPS, "build_dataset", Config(), machine(tmp_path, 2))
    assert CALLS == ["build_dataset"]
    bucket.faults[:] = [("GET", f"{BUILT}.tar?", "cut")]
    workspace.ensure(STEPS, "build_dataset", Config(), machine(tmp_path, 2))
    assert CALLS == ["build_dataset"], "a connection that broke is opened again"


def test_small_downloads_outlive_the_machine(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_KEEP", ADDRESS)
    for number in (1, 2):
        monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / f"machine{number}"))
        place = workspace.open_workspace()
        assert (place.downloads / "list.csv").exists() == (number == 2)
        STEPS[0](Config(), place)
    assert CALLS == ["build_dataset"] and str(place.kept) == ADDRESS
    workspace.forget(STEPS, "build_dataset", Config(), place)
    STEPS[0](Config(), place)
    assert len(CALLS) == 2


def test_in_colab_the_user_is_asked_first(bucket, monkeypatch):
    asked = []
    auth = types.SimpleNamespace(authenticate_user=lambda: asked.append(len(bucket.requests)))
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(auth=auth))
    monkeypatch.setattr(buckets.runtime, "where", lambda: "colab")
    assert str(buckets.reach(ADDRESS, "COURSE_KEEP")) == ADDRESS
    assert asked == [0] and bucket.objects.keys() == {"runs/about.txt"}


WRONG = {  # address, what the store answers, words
    "no such bucket": ("gs://other/runs", [], "FileNotFoundError"),
    "no right to write": (ADDRESS, [("POST", "", "always 403")], "Forbidden"),
    "signed out": (ADDRESS, [("POST", "", 401)] * 6, "401"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_bucket_is_told_before_anything_begins(bucket, tmp_path, kind, capsys, monkeypatch):
    address, bucket.faults[:], words = WRONG[kind]
    monkeypatch.setenv("COURSE_KEEP", "")  # the command sets it
    assert main(["run", "--until", "00", "--workspace", str(tmp_path), "--keep", address]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: --keep: received {address!r}; allowed: a folder of this machine, or of a bucket")
    assert words in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("address", ["gs://bucket/runs", "s3://bucket/runs"])
def test_a_missing_package_is_one_sentence(address, monkeypatch):
    monkeypatch.setitem(sys.modules, "upath", None)
    with pytest.raises(
        ValueError, match=r"^COURSE_KEEP: received .*pip install 'universal_pathlib>=0.3' gcsfs \(ModuleNotFound"
    ):
        buckets.place(address, "COURSE_KEEP")


@installed
def test_any_store_that_fsspec_knows(tmp_path):
    place = Workspace(tmp_path / "machine1", "memory://anywhere/runs")
    workspace.ensure(STEPS, "train", Config(), place)
    workspace.ensure(STEPS, "train", Config(), Workspace(tmp_path / "machine2", place.kept))
    assert CALLS == ["build_dataset", "epoch 0", "epoch 1", "epoch 2"]
    assert workspace.Workspace(tmp_path, tmp_path / "disk").kept == tmp_path / "disk"
