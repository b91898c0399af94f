"""helpers.cluster: the tables of joblib from a cluster of real processes that start without the course, in another folder."""

import contextlib
import functools
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

distributed = pytest.importorskip("distributed")

from helpers import cluster, config, parallel, runtime, workspace
from helpers.__main__ import main
from helpers.cluster import workers
from helpers.lip_reading.mini import dataset as lips_dataset
from helpers.temporal_coherence import cutting, data
from helpers.temporal_coherence.mini import dataset

# Read by every Python below a folder on PYTHONPATH: takes an installed course away, and hides a folder as if on another disk.
SITE = """
import os, sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path[:] = [path for path in sys.path if not os.path.isdir(os.path.join(path or ".", "data_manifests"))]
def hide(event, arguments):
    if event == "open" and str(arguments[0]).startswith(os.environ["HIDDEN"]):
        raise FileNotFoundError(2, "no such file", str(arguments[0]))
if os.environ.get("HIDDEN"):
    sys.addaudithook(hide)
"""
OPTIONS = {"step": 4, "negative_every": 5, "gap": 1, "size": 32, "quality": 90}


class Cluster:
    """A scheduler and workers, started as a user does, in a folder that knows nothing of the course."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        (folder / "site").mkdir(parents=True)
        (folder / "site" / "sitecustomize.py").write_text(SITE)
        scheduler = self.start("scheduler", "--port", "0", "--scheduler-file", folder / "address", "--no-dashboard")
        self.address = re.search(r"Scheduler at:\s+(\S+)", self.say(scheduler, "Scheduler at")).group(1)

    def start(self, what, *options, **environment):
        """A process of Dask; its output goes to a file."""
        log = self.folder / f"{len(self.processes)}.log"
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *map(str, options)]
        environment = os.environ | {"PYTHONPATH": str(self.folder / "site")} | environment
        with log.open("w") as file:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=file, stderr=file)
        self.processes.append(process)
        process.log = log
        return process

    def worker(self, *options, **environment):
        """A worker with one thread, registered."""
        process = self.start("worker", self.address, "--nthreads", "1", "--no-dashboard", *options, **environment)
        self.say(process, "Registered to")
        return process

    def say(self, process, words):
        """Wait until a process says something; all that it said."""
        for _ in range(600):
            if words in (said := process.log.read_text()):
                return said
            time.sleep(0.05)
        raise AssertionError(process.log.read_text())

    def close(self):
        """End what was started here."""
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        for _ in range(2):
            made.worker()
        yield made
    finally:
        made.close()


@pytest.fixture
def dask(two_workers, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DASK", two_workers.address)
    monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path / "workspace"))
    return two_workers


def same(table, other):
    """Two tables of the same rows, whatever their index says."""
    pd.testing.assert_frame_equal(table.reset_index(drop=True), other.reset_index(drop=True))


def test_workers_cut_clips_as_joblib_does(dask, tmp_path):
    dataset.make_dataset(tmp_path / "clips", classes=("Bowling", "Archery"), groups=(1, 2), clips_per_group=1, jobs=1)
    rows = data.find_clips(tmp_path / "clips").to_dict("records")
    rows.insert(2, rows[0] | {"video": "Archery/v_Archery_g09_c01.avi"})  # not there
    tables, files = [], []
    for name, jobs in (("here", 1), ("there", -1)):
        work = functools.partial(
            cutting.preprocess_clip, root=tmp_path / "clips", folder=tmp_path / name, options=OPTIONS
        )
        tables.append(parallel.parallel(work, rows, jobs=jobs))
        made = sorted(path for path in (tmp_path / name).rglob("*") if path.is_file())
        files.append({path.relative_to(tmp_path / name).as_posix(): path.read_bytes() for path in made})
    same(*tables)
    assert tables[0]["error"].astype(bool).sum() == 1 and tables[0]["pairs"].sum() > 10
    assert files[0] == files[1] and len(files[0]) > 20


@pytest.mark.parametrize("stranger", [False, True])
def test_a_worker_without_the_course_or_with_another_one_gets_that_of_the_caller(tmp_path, stranger):
    made = Cluster(tmp_path / "cluster")
    if stranger:  # a package of the same name, in the folder that the workers start in
        (made.folder / "helpers").mkdir()
        (made.folder / "helpers" / "__init__.py").write_text("")
    try:
        made.worker("--no-nanny")
        with distributed.Client(made.address) as client:
            known = client.run(lambda: __import__("importlib.util").util.find_spec("helpers") is not None)
            assert [*known.values()] == [stranger]
            assert (
                client.run_on_scheduler(lambda: __import__("importlib.util").util.find_spec("helpers")) is None
                or stranger
            )
            cluster.check(made.address, tmp_path / "workspace")
            made.worker("--no-nanny")  # one that joins later
            places = client.run(lambda: __import__("helpers.runtime").runtime.repo_root().name)
        assert [*places.values()] == [workers._course()[0]] * 2
        assert not [*(tmp_path / "workspace").iterdir()]  # what was asked for is gone again
    finally:
        made.close()


def test_only_an_item_that_kills_every_worker_is_lost(dask, tmp_path):
    def work(number):
        with (tmp_path / "calls").open("a") as calls:
            calls.write(f"{number}\n")
        time.sleep(0.02)
        if number == 37:
            os.kill(os.getpid(), signal.SIGKILL)
        if number == 40:
            raise KeyError("forty")
        return {"number": number}

    table = parallel.parallel(work, range(100))
    failed = table[table["error"] != ""]
    assert failed["item"].tolist() == [37, 40]
    assert failed["error"].tolist() == ["KilledWorker: it ended 4 workers, one after the other", "KeyError: 'forty'"]
    assert table["number"].dropna().tolist() == [number for number in range(100) if number not in (37, 40)]
    calls = (tmp_path / "calls").read_text().split()
    assert calls.count("0") == 1 and calls.count("37") == 8  # four in company, four alone


def test_a_worker_killed_in_the_middle_costs_nothing(dask, tmp_path):
    def work(number):
        (tmp_path / f"{os.getpid()}.pid").touch()
        time.sleep(0.02)
        return {"square": number**2}

    def kill():
        while not (found := [*tmp_path.glob("*.pid")]):
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(int(found[0].stem), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    table = parallel.parallel(work, range(150))
    killer.join()
    assert len([*tmp_path.glob("*.pid")]) > 1
    same(table, pd.DataFrame({"item": range(150), "square": [n**2 for n in range(150)], "error": ""}))


def test_batches_take_about_a_second_and_are_cut_short(dask, monkeypatch):
    sent, calls = [], []
    send, outcomes = cluster._Run._send, cluster.outcomes
    monkeypatch.setattr(cluster, "outcomes", lambda *arguments: (calls.append(1), outcomes(*arguments))[1])
    monkeypatch.setattr(cluster._Run, "_send", lambda run, batch: (sent.append(len(batch)), send(run, batch)))
    table = parallel.parallel(lambda number: {"square": number**2}, range(5000))
    assert table["square"].tolist() == [number**2 for number in range(5000)] and not table["error"].any()
    assert len(sent) < 100 and sum(sent) == 5000
    sent.clear()

    def slow(number):  # as when a step goes on: what is done takes no time, then the work begins
        time.sleep(0.3 * (number >= 1000))
        return {"square": number**2}

    table = parallel.parallel(slow, range(1024))
    assert table["square"].tolist() == [number**2 for number in range(1024)]
    assert sum(sent) > 1024 and sent[-1] <= 4  # what a batch had no time for went back
    assert len(calls) == 2  # and was not forgotten until the table found a hole


def test_a_worker_on_another_disk_is_named_at_the_start_and_when_it_joins(tmp_path, monkeypatch):
    shared = tmp_path / "workspace"
    made = Cluster(tmp_path / "cluster")
    monkeypatch.setenv("COURSE_DASK", made.address)
    monkeypatch.setenv("COURSE_WORKSPACE", str(shared))
    try:
        made.worker("--no-nanny")
        later = threading.Timer(1, lambda: made.worker("--no-nanny", "--name", "blind", HIDDEN=str(tmp_path / "clips")))
        later.start()
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips" / "one.avi").write_bytes(b"film")
        (tmp_path / "done").mkdir()

        def cut(number, root, out):
            time.sleep(0.1)
            (out / f"{number}").write_text((root / "one.avi").read_text())
            return {"number": number}

        work = functools.partial(cut, root=tmp_path / "clips", out=tmp_path / "done")
        for rows in (200, 3):  # it joins; it is there
            with pytest.raises(
                ConnectionError, match=r"worker tcp.* does not see .*one.avi as .*: mount the same disk"
            ):
                parallel.parallel(work, range(rows))
        later.join()
        assert [*(tmp_path / "done").iterdir()]  # what was done is kept
        with pytest.raises(ConnectionError, match=r"does not see .*\.partial/\.shared-\w+ as "):
            hidden = tmp_path / "clips" / "1_preprocess-0.partial"
            parallel.parallel(functools.partial(cut, root=tmp_path / "done", out=hidden / "deep"), [1])
    finally:
        made.close()


def test_paths_that_a_call_carries(tmp_path):
    (tmp_path / "film.avi").touch()
    item = {"path": str(tmp_path / "film.avi"), "label": "/no/such", "rows": [(Path("relative"), 3)]}
    work = functools.partial(print, tmp_path, folder=Path("0_build.partial/clips"))
    places = [*workers.places_of([work, item])]
    assert places == [tmp_path, Path("0_build.partial/clips"), tmp_path / "film.avi", Path("relative")]


COLUMNS = {
    "temporal_coherence": ["video"],
    "circulant_video": ["path"],
    "boat_detection": ["image", "path", "rotation", "outcome"],
    "lip_reading": ["path", "start", "end", "frames", "error"],
    "face_animation": ["path", "error"],
}


@pytest.mark.parametrize("project", COLUMNS)
def test_every_project_prepares_its_clips_there(project, tmp_path, monkeypatch):
    class Reached(Exception):
        pass

    def reached(address, attempt, function, items, rest):
        raise Reached(address, len(items))

    table = pd.DataFrame({name: [0, 0] for name in COLUMNS[project]} | {"path": ["a/1.avi", "a/2.avi"]})
    table = table.assign(**dict.fromkeys({"error"} & {*table}, ""), **dict.fromkeys({"outcome"} & {*table}, "ok"))
    built = workspace.StepResult("build_dataset", tmp_path, {}, {"root": "clips", "classes": {}})
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "points.csv").write_text("path,frame\n")
    monkeypatch.setattr(workspace.Step, "load", lambda step, config, place: built)
    monkeypatch.setattr(workspace.StepResult, "table", lambda result, name: table)
    monkeypatch.setattr(lips_dataset, "read_points", lambda root: {})
    monkeypatch.setattr(cluster, "outcomes", reached)
    monkeypatch.setenv("COURSE_DASK", "tcp://cluster:8786")
    steps = importlib.import_module(f"helpers.{project}.steps")
    with pytest.raises(Reached, match=r"tcp://cluster:8786', 2"):
        steps.preprocess.body(mini(project), workspace.Workspace(tmp_path), tmp_path / "work")


def mini(project):
    """The settings of mini."""
    return config.load(runtime.repo_root() / "notebooks" / project / "mini.yaml", config.schema_of(project))


def test_the_command_asks_the_cluster_and_tells_the_kernels(dask, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("COURSE_DASK")
    monkeypatch.setattr("helpers.__main__.run", lambda *arguments, **options: 0)
    assert main(["run", "boat_detection", "--dask", dask.address, "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"Dask: 2 workers with 2 threads at {dask.address}\n"
    assert os.environ["COURSE_DASK"] == dask.address


def test_no_cluster_no_worker_no_dask(tmp_path, monkeypatch, capsys):
    made = Cluster(tmp_path / "cluster")
    made.close()
    for address in (made.address, "here", "gs://bucket:80"):
        with pytest.raises(ConnectionError, match=r"received .*, where no Dask cluster answers; allowed: the address"):
            cluster.check(address, tmp_path)
    assert main(["run", "--dask", made.address, "--workspace", str(tmp_path / "workspace")]) == 1
    assert capsys.readouterr().err.count("\n") == 1 and "COURSE_DASK" not in os.environ
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match="Dask is not installed: pip install distributed"):
        cluster.check(made.address, tmp_path)


def test_a_cluster_without_workers_and_one_that_goes(tmp_path, monkeypatch):
    made = Cluster(tmp_path / "cluster")
    try:
        monkeypatch.setattr(workers, "PATIENCE", 1)
        with pytest.raises(
            ConnectionError, match=f"has no worker: start one on each machine with: dask worker {made.address}"
        ):
            cluster.check(made.address, tmp_path)
        made.worker("--no-nanny")
        monkeypatch.setenv("COURSE_DASK", made.address)
        monkeypatch.setenv("COURSE_WORKSPACE", str(tmp_path))
        threading.Timer(1, made.processes[0].kill).start()
        with pytest.raises(ConnectionError, match="is gone; what is done is kept, call again"):
            parallel.parallel(lambda number: time.sleep(0.1) or {}, range(100))
    finally:
        made.close()


def test_another_python_is_named():
    class Old:
        def get_versions(self):
            parts = {"packages": {"python": f"{sys.version_info[0]}.{sys.version_info[1]}.1.final.0"}}
            return {
                "scheduler": parts,
                "workers": {"tcp://a": parts, "tcp://b": {"packages": {"python": "3.8.1.final.0"}}},
            }

    with pytest.raises(ConnectionError, match=r"tcp://b runs Python 3\.8, this is 3\.\d+: start it with"):
        workers._compare_python(Old())
