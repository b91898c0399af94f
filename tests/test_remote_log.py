"""The mirror of a run: every fault of a service, a full disk, a restart, secrets."""

import itertools
import json
import math
import os
import random
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import numpy as np
import pytest
from remote_doubles import FAST, SECRET, WAIT, DriveError, Flaky, HttpError, read_jsonl, train, until

from helpers import workspace
from helpers.training import remote_errors, remote_log
from helpers.training.remote_log import RemoteLog

HEADER = ["id", "time", "epoch", "hours", "saved", "loss"]


class Unprintable(Exception):
    """An error, or a value, that fails when looked at."""

    @property
    def response(self):
        raise RuntimeError("no response for you")

    def __str__(self):
        raise RuntimeError("no text for you")


@pytest.fixture
def make(tmp_path):
    """Logs with short pauses, all closed at the end."""
    logs = []

    def build(rows=None, files=None, folder=tmp_path / "log", **options):
        logs.append(RemoteLog(folder, rows=rows, files=files, **{**FAST, **options}))
        return logs[-1]

    yield build
    for log in logs:
        log.close(timeout=0.1)


@pytest.fixture
def write(tmp_path):
    """Make a file of that name, with its name as content."""

    def build(name, content=None):
        (tmp_path / name).write_text(content or name)
        return tmp_path / name

    return build


# Rows


def test_rows_arrive_once_in_order_under_one_header(make, tmp_path):
    sink = Flaky()
    log = make(sink)
    log.row({"note": "extra", "loss": 0.5, "saved": True, "hours": 0.1, "epoch": 0})
    train(log, 4, start=1)
    log.row({"epoch": 5, "entropy": 2.6, "nmi": 0.5})
    until(lambda: log.status()["sent"] == 6)
    assert sink.cells[0] == [*HEADER, "note"] and sink.cells.count(sink.cells[0]) == 1
    assert [row["epoch"] for row in sink.rows] == [0, 1, 2, 3, 4, 5]
    assert sink.cells[-1][2:] == [5, "", "", "", "", "entropy=2.6, nmi=0.5"]  # new names share the last cell
    local = read_jsonl(tmp_path / "log" / "rows.jsonl")
    assert [row["id"] for row in local] == [row["id"] for row in sink.rows] and len({r["id"] for r in local}) == 6
    assert local[0]["time"].endswith("+00:00") and local[0]["note"] == "extra"


def test_rows_that_somebody_deletes_while_we_run_are_given_up(make, tmp_path):
    sink = Flaky(lasting=HttpError(500))
    log = make(sink)
    train(log, 3)
    until(lambda: sink.calls)
    (tmp_path / "log" / "rows.jsonl").write_text("")
    sink.lasting = None
    until(lambda: log.status()["queued"] == 0)


def test_every_value_becomes_json(make, tmp_path):
    sink = Flaky()
    log = make(sink)
    given = [np.float32(0.5), np.int64(3), np.bool_(True), float("nan"), np.array([1, 2]), None, "=1+1", "x" * 60_000]
    for value in [*given, Unprintable()]:
        log.row({"loss": value})
    until(lambda: log.status()["sent"] == 9)
    cells = [0.5, 3, True, "nan", "[1 2]", "", "=1+1", "x" * 5000, "Unprintable: (error without text)"]
    assert [(row["loss"], type(row["loss"])) for row in sink.rows] == [(cell, type(cell)) for cell in cells]
    for line in (tmp_path / "log" / "rows.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))


def test_many_rows_go_in_few_requests(make):
    train(make(), remote_log.BATCH + 20)
    sink = Flaky()
    log = make(sink)
    until(lambda: log.status()["queued"] == 0)
    assert [len(batch) for batch in sink.batches] == [1 + remote_log.BATCH, 20]


# Faults of a service

FAULTS = {
    "reset": [ConnectionResetError("reset by peer")],
    "timeouts": [TimeoutError("timed out")] * 3,
    "401 once": [HttpError(401)],
    "token refused": [type("RefreshError", (Exception,), {})("invalid_grant")],
    "sign-in service down": [type("RefreshError", (Exception,), {"retryable": True})("503")],
    "408": [HttpError(408)],
    "429": [HttpError(429, retry_after="2")] * 2,
    "403 that is a rate limit": [HttpError(403, "reason: userRateLimitExceeded")],
    "500 for long": [HttpError(500)] * 40,
    "503 of Drive": [DriveError(503, retry_after="soon")] * 6,
    "unknown": [ValueError("?"), KeyError("code"), Unprintable(), MemoryError(), RecursionError()],
    "sys.exit and Ctrl-C": [SystemExit(1), KeyboardInterrupt(), GeneratorExit()],
}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("channel", ["rows", "files"])
def test_whatever_heals_in_the_end_arrives_once(make, tmp_path, write, kind, channel):
    random.seed(5)
    expected = random.Random(5).random()
    sink = Flaky(*FAULTS[kind])
    log = make(**{channel: sink})
    train(log, 12)
    log.upload(write("model.h5"))
    until(lambda: log.status()["queued"] == 0)
    until(lambda: log.status()["breaker"] == {channel: "closed"})
    assert log.status()["failures"] == len(FAULTS[kind]) == len(read_jsonl(tmp_path / "log" / "errors.jsonl"))
    assert log.status()["dropped"] == 0
    assert sink.reauthorised == (kind in ("401 once", "token refused"))
    assert len(read_jsonl(tmp_path / "log" / "rows.jsonl")) == 12
    if channel == "rows":
        assert sink.cells[0] == HEADER and [row["epoch"] for row in sink.rows] == list(range(12))
    else:
        assert sink.uploaded == [("model.h5", b"model.h5")]
    assert random.random() == expected  # the numbers of the training do not change


def test_back_off_is_capped_and_jittered_and_honours_retry_after():
    pace = remote_errors.Pace(max_tries=10, jitter=random.Random(0))
    waits = []
    for _ in range(300):
        pace.answered()
        waits.append([(pace.failed(0.0), pace.due)[1] for _ in range(9)])
    for ceiling, column in zip([1, 2, 4, 8, 16, 32, 60, 60, 60], zip(*waits, strict=True), strict=True):
        assert 0.9 * ceiling < max(column) <= ceiling and min(column) < 0.1 * ceiling
    for wish, due in ((45.0, 45.0), (3600.0, 60.0)):
        pace.answered()
        pace.failed(0.0, wait=wish)
        assert pace.due == due


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (HttpError(429, retry_after="33"), 33),
        (DriveError(503, retry_after="33"), 33),
        (HttpError(503, retry_after="Thu, 01 Jan 2099 00:00:00 GMT"), 20_000),
        (HttpError(503, retry_after="Wed, 01 Jan 2020 00:00:00 GMT"), 0),
        (HttpError(503, retry_after="soon"), 0),
    ],
)
def test_what_a_service_asks_for_is_read_as_number_and_as_date(error, wait):
    kind, found = remote_errors.judge(error)
    assert kind == "retry" and (found > wait if wait == 20_000 else found == wait)


@pytest.mark.parametrize("error", [HttpError(429, retry_after="33"), DriveError(503, retry_after="33")])
def test_retry_after_reaches_the_plan(make, error):
    log = make(Flaky(error), max_delay=100.0)
    train(log, 1)
    until(lambda: log.status()["failures"] == 1 and log._paces["rows"].due)
    assert 33.0 - WAIT < log._paces["rows"].due - time.monotonic() <= 33.0


def test_breaker_opens_probes_once_in_each_pause_and_closes():
    pace = remote_errors.Pace(max_tries=2, base_delay=1.0, max_delay=10.0, breaker_failures=3, breaker_pause=300.0)
    times = [0.0]
    for _ in range(9):
        pace.failed(times[-1])
        times.append(pace.due)
    gaps = [round(after - before, 6) for before, after in itertools.pairwise(times)]
    assert max(gaps[0:5:2]) <= 1.0 and gaps[1:4:2] == [10.0, 10.0]  # three rounds of two tries each ...
    assert gaps[5:] == [300.0] * 4 and pace.open  # ... then one probe every 300 seconds
    pace.answered()
    assert not pace.open and pace.due == 0.0


def test_one_sink_down_does_not_stop_the_other(make, write):
    rows, files = Flaky(lasting=HttpError(500)), Flaky()
    log = make(rows, files)
    train(log, 3)
    until(lambda: log.status()["breaker"]["rows"] == "open")
    log.upload(write("figure.png"))
    until(lambda: log.status()["uploaded"] == 1)
    assert log.status()["queued"] == 3 and log.status()["breaker"] == {"rows": "open", "files": "closed"}
    rows.lasting = None
    until(lambda: log.status()["queued"] == 0)


def test_401_for_ever_signs_in_once_a_round_and_ends_in_the_breaker(make):
    sink = Flaky(lasting=HttpError(401))
    log = make(sink, breaker_failures=2, breaker_pause=3600.0)
    train(log, 2)
    until(lambda: log.status()["breaker"]["rows"] == "open")
    assert (sink.calls, sink.reauthorised) == (4, 2)  # two tries a round


def test_a_failing_sign_in_is_one_more_failure(make):
    sink = Flaky(HttpError(401), reauthorise_fault=RuntimeError("no network"))
    log = make(sink)
    train(log, 1)
    until(lambda: log.status()["sent"] == 1)
    assert log.status()["failures"] == 2 and "no network" in log.status()["last_error"]


@pytest.mark.parametrize("status", [400, 403, 404, 413])
def test_permanent_answers_drop_the_file_and_end_the_round_of_the_rows(make, tmp_path, write, status):
    rows, files = Flaky(HttpError(status)), Flaky(HttpError(status))
    log = make(rows, files, max_delay=3600.0)
    for name in ("bad", "good"):
        log.upload(write(name))
    until(lambda: log.status()["uploaded"] == 1)
    assert files.uploaded == [("good", b"good")] and files.calls == 2 and log.status()["dropped"] == 1
    train(log, 2)
    until(lambda: log.status()["failures"] == 2)
    assert log.status()["queued"] == 2 and rows.calls == 1  # the next round is an hour away
    log.close(timeout=WAIT)  # tries once more
    assert [row["epoch"] for row in rows.rows] == [0, 1]
    assert [entry["item"] for entry in read_jsonl(tmp_path / "log" / "errors.jsonl")] == ["bad", "rows"]


# Restart


def test_what_stayed_behind_is_sent_by_the_next_run(make, tmp_path, write, capsys):
    first, rows, files = Flaky(), Flaky(), Flaky()
    log = make(first)
    train(log, 1)
    until(lambda: log.status()["sent"] == 1)
    log.close()
    broken = Flaky(lasting=HttpError(503, f"down, see https://sheets/x?access_token={SECRET}"))
    log = make(broken, broken)
    train(log, 3, start=1)
    log.upload(write("log/model.h5"))
    log.close(timeout=0.2)
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1 and "3 rows and 1 files" in printed and SECRET not in printed
    (tmp_path / "log").rename(tmp_path / "renamed")  # as a step's folder is when the step ends
    log = make(rows, files, folder=tmp_path / "renamed")
    train(log, 1, start=4)
    until(lambda: log.status()["queued"] == 0)
    assert [row[2] for row in first.cells + rows.cells] == ["epoch", 0, 1, 2, 3, 4]
    assert files.uploaded == [("model.h5", b"log/model.h5")]
    log.close()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("sent.json", '{"sent": 4, "colu'),  # not ours: atomic writes leave no such file
        ("sent.json", '{"sent": 99, "columns": ["id", "epoch"], "uploads": ["gone.h5"]}'),  # rows were deleted
        ("sent.json", "[]"),
        ("rows.jsonl", '{"id": "aa", "epoch": 0}\n{"id": "bb", "epo'),  # killed while writing
        ("rows.jsonl", '{"id": "aa", "epoch": 0}\n7\n\n\x00\x00\n'),
    ],
)
def test_damaged_files_of_an_earlier_run(make, tmp_path, name, content):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "rows.jsonl").write_text('{"id": "aa", "epoch": 0}\n')
    (folder / name).write_text(content)
    sink = Flaky()
    log = make(sink, Flaky())
    train(log, 2, start=1)
    until(lambda: log.status()["queued"] == 0)
    cells = [row for row in sink.cells if row != ["id", "epoch"]]
    assert [row[1] for row in cells] == [0, 1, 2]
    assert cells[0][0] == "aa" and "bb" not in [row[0] for row in cells]


# Uploads


def test_a_file_queued_again_is_sent_once_and_newest(make, write):
    sink = Flaky()
    sink.gate.clear()
    log = make(files=sink)
    for name in ("first", "model", "figure"):
        log.upload(write(name, "old"))
    assert sink.entered.wait(WAIT)  # "first" is being sent
    for name in ("model", "first"):
        log.upload(str(write(name, "new")))
    sink.gate.set()
    until(lambda: log.status()["queued"] == 0)
    assert sink.uploaded == [("first", b"old"), ("figure", b"old"), ("model", b"new"), ("first", b"new")]


def test_uploads_beyond_the_queue_drop_the_oldest(make, write, monkeypatch):
    monkeypatch.setattr(RemoteLog, "queue_size", 3)
    sink = Flaky()
    sink.gate.clear()
    log = make(files=sink)
    for name in "01234567":
        log.upload(write(name))
        assert log.status()["queued"] <= 3
    sink.gate.set()
    until(lambda: log.status()["queued"] == 0)
    assert [name for name, _ in sink.uploaded][-3:] == ["5", "6", "7"] and log.status()["dropped"] == 5


def test_files_that_fail_or_are_gone_let_others_pass(make, tmp_path, write):
    class Picky(Flaky):
        def upload(self, path):
            return super().upload(path if path.name != "bad" else path / "missing")

    log = make(files=Picky(), breaker_failures=100)
    for path in (write("bad"), tmp_path / "gone", write("good")):
        log.upload(path)
    until(lambda: log.status()["uploaded"] == 1 and log.status()["dropped"] == 1)
    assert log.status()["queued"] == 1


# Nothing reaches the caller


def test_the_worker_outlives_any_surprise(make, monkeypatch):
    genuine, surprises = RemoteLog._turn, [SystemExit(1), ValueError("?")]

    def turn(self):
        if surprises:
            raise surprises.pop()
        return genuine(self)

    monkeypatch.setattr(RemoteLog, "_turn", turn)
    log = make(Flaky())
    train(log, 2)
    until(lambda: log.status()["sent"] == 2)
    assert log.status()["failures"] == 2


def test_slow_answers_block_nothing(tmp_path, write, capsys):
    sink, files = Flaky(), Flaky()
    sink.gate.clear()
    log = RemoteLog(tmp_path, rows=sink, files=files)
    train(log, 1)
    log.upload(write("model.h5"))
    assert sink.entered.wait(WAIT)
    began = time.monotonic()
    train(log, 200, start=1)
    log.close(timeout=0.2)
    assert time.monotonic() - began < WAIT / 2  # the sink answers after WAIT
    assert len(read_jsonl(tmp_path / "rows.jsonl")) == 201
    assert "201 rows and 1 files not sent yet" in capsys.readouterr().out
    sink.gate.set()
    until(lambda: not log._thread.is_alive())
    assert (sink.calls, files.calls) == (
        1,
        0,
    ) and log._thread.daemon  # the thread that was left behind begins nothing new
    RemoteLog(tmp_path, rows=sink).close()
    assert [row["epoch"] for row in sink.rows] == list(range(201)) and capsys.readouterr().out == ""


@pytest.mark.parametrize("values", [None, 3, "text", {1: 2}, {"loss": Unprintable()}])
def test_odd_arguments_raise_nothing(make, values):
    log = make(Flaky(), Flaky())
    log.row(values)
    log.upload(values)
    log.close(timeout=None)


def test_a_full_disk_raises_nothing(make, tmp_path, monkeypatch):
    sink = Flaky()
    log = make(sink)
    genuine = Path.open

    def full(self, mode="r", *args, **options):
        if "r" in mode:
            return genuine(self, mode, *args, **options)
        if self.name == "rows.jsonl":  # half a row still fits
            with genuine(self, "a") as file:
                file.write('{"id": "cc", "ep')
        raise OSError(28, "No space left on device")

    train(log, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        train(log, 6, start=1)
        assert log.status()["failures"] >= 6 and "Errno 28" in log.status()["last_error"]
    train(log, 1, start=7)
    until(lambda: log.status()["queued"] == 0)
    assert [row["epoch"] for row in sink.rows] == [0, 7]


def test_a_folder_that_cannot_be_made_and_a_thread_that_cannot_start(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    with RemoteLog(tmp_path / "file" / "log", rows=Flaky()) as log:
        train(log, 2)
    assert log.status()["failures"] > 0
    monkeypatch.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("can't start thread")))
    with RemoteLog(tmp_path, rows=Flaky()) as log:
        train(log, 2)
    assert len(read_jsonl(tmp_path / "rows.jsonl")) == 2 and "can't start" in log.status()["last_error"]
    assert "2 rows not sent yet" in capsys.readouterr().out


# Secrets

LEAKS = [
    f"Max retries exceeded with url: /v4/values/log:append?access_token={SECRET} (Caused by x)",
    f"no answer from https://sheets.example/v4?upload={SECRET}",
    f"{{'Authorization': 'Basic {SECRET}', 'x': 1}}",
    f"the header was Bearer {SECRET}",
    f'{{"refresh_token": "{SECRET}", "client_secret": "{SECRET}"}}',
    f"got ya29.{SECRET} and 1//{SECRET} and eyJhbGci.{SECRET}.x and AIza{SECRET}",
    f'{{"private": "-----BEGIN PRIVATE KEY-----\nMII{SECRET}\n-----END PRIVATE KEY-----\n"}}',
    f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}",
    f"proxy http://user:{SECRET}@proxy.example:8080 refused",
]


@pytest.mark.parametrize("text", LEAKS)
def test_no_secret_reaches_a_file_or_the_status(make, tmp_path, text):
    log = make(Flaky(RuntimeError(text)))
    train(log, 1)
    until(lambda: log.status()["sent"] == 1)
    log.close(timeout=WAIT)
    written = "".join(path.read_text() for path in (tmp_path / "log").iterdir()) + str(log.status())
    assert "RuntimeError" in written and SECRET not in written


def test_clean_keeps_what_helps():
    text = remote_log.clean(HttpError(403, "APIError: [403]:\n Token has been expired or revoked."))
    assert text == "HttpError: APIError: [403]: Token has been expired or revoked."


# from_config


def test_from_config_without_a_wish_or_the_packages(tmp_path, monkeypatch, capsys):
    assert remote_log.from_config(tmp_path / "log", sheet="", drive_folder=None) is None
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(remote_log.importlib.util, "find_spec", lambda name: None)
    with remote_log.from_config(tmp_path, sheet="KEY", drive_folder="ID") as log:
        train(log, 2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("pip install ")[1] for line in lines] == ["gspread", "google-api-python-client"]
    assert len(read_jsonl(tmp_path / "rows.jsonl")) == 2


def test_from_config_without_credentials_goes_on(tmp_path, monkeypatch, capsys):
    def refuse(*, ask=True):
        raise RuntimeError(f"no credentials, token={SECRET}")

    monkeypatch.setattr(remote_log.sinks, "credentials", refuse)
    monkeypatch.setattr(remote_log, "_installed", lambda *_: True)
    log = remote_log.from_config(tmp_path, sheet="KEY")
    train(log, 1)
    until(lambda: log.status()["failures"] > 0)
    log.close(timeout=0.1)
    printed = capsys.readouterr().out
    assert printed.startswith(
        "remote log: the login cannot be reached (RuntimeError: no credentials, token=***); training goes on"
    )
    assert "1 rows not sent yet" in printed and SECRET not in printed


@pytest.mark.parametrize(
    ("wish", "kind", "place"),
    [
        ("1AbC", "DriveFiles", "1AbC"),
        ("https://drive.google.com/drive/folders/1AbC?usp=sharing", "DriveFiles", "1AbC"),
        ("MyDrive/course", "FolderFiles", "MyDrive/course"),
        ("here", "FolderFiles", "here"),
    ],
)
def test_from_config_tells_a_folder_from_an_id(tmp_path, monkeypatch, wish, kind, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(remote_log.sinks, "credentials", lambda **_: None)
    monkeypatch.setattr(remote_log.sinks.DriveFiles, "try_out", lambda sink: None)
    monkeypatch.setattr(remote_log, "_installed", lambda *_: True)
    with remote_log.from_config(tmp_path / "log", drive_folder=wish) as log:
        sink = log._sinks["files"]
    assert type(sink).__name__ == kind
    assert str(getattr(sink, "folder_id", None) or sink.folder) == place


# TensorBoard


def board(folder):
    """Read events back as TensorBoard does: {run: {tag: [(step, value)]}}."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    for path in {path.parent for path in folder.rglob("events.out.tfevents.*")}:
        events = accumulator.EventAccumulator(str(path)).Reload()
        found[path.relative_to(folder).as_posix()] = {
            tag: [(each.step, round(each.value, 6)) for each in events.Scalars(tag)] for tag in events.Tags()["scalars"]
        }
    return found


def test_tensorboard_reads_every_number(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("COURSE_TENSORBOARD", str(tmp_path / "board"))
    for first in (1, 3):  # a run that was killed, and its next start
        with remote_log.from_config(tmp_path / "log", run="boats-1a2b") as log:
            for epoch in (first, first + 1):
                log.row(
                    {
                        "run": "yolo",
                        "epoch": epoch,
                        "step": 10 * epoch,
                        "loss": np.float32(1 / epoch),
                        "ap": None,
                        "bad": math.nan,
                    }
                )
                log.row({"run": "tiny", "epoch": epoch, "step": epoch, "saved": True, "loss": 2})
    assert log.status()["failures"] == 0 and len(read_jsonl(tmp_path / "log" / "rows.jsonl")) == 8
    assert board(tmp_path / "board") == {
        "boats-1a2b/yolo": {"loss": [(10, 1.0), (20, 0.5), (30, 0.333333), (40, 0.25)]},
        "boats-1a2b/tiny": {"loss": [(1, 2.0), (2, 2.0), (3, 2.0), (4, 2.0)]},
    }


def test_each_config_has_a_curve_of_its_own_and_goes_on_with_it(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.setenv("COURSE_TENSORBOARD", str(tmp_path / "board"))
    place = workspace.Workspace(tmp_path)
    for rate in (0.1, 0.2, 0.1):
        config = types.SimpleNamespace(sheet=None, drive_folder=None, rate=rate)
        with remote_log.mirror(config, place) as log:
            log.row({"run": "a", "step": 1, "loss": rate})
    assert len(list((tmp_path / "board").iterdir())) == 2


def test_tensorboard_never_imports_tensorflow(tmp_path):
    """On JAX it would take seconds, memory, and write to stderr."""
    pytest.importorskip("tensorboard")
    script = (
        "import sys; from helpers.training import sinks\n"
        "before = 'tensorflow' in sys.modules; sinks.EventFiles(sys.argv[1]).row({'loss': 1.0, 'step': 1})\n"
        "assert before or 'tensorflow' not in sys.modules; assert 'tensorboard.compat.proto.event_pb2' in sys.modules"
    )
    env = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr


def test_without_the_package_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_TENSORBOARD", str(tmp_path / "board"))
    monkeypatch.setattr(remote_log.importlib.util, "find_spec", lambda name: None)
    with remote_log.from_config(tmp_path / "log") as log:
        train(log, 1)
    assert capsys.readouterr().out.endswith("pip install tensorboard\n")


def test_mirror_opens_where_the_kept_files_go_and_closes_whatever_happens(tmp_path):
    place = workspace.Workspace(tmp_path / "fast", kept=tmp_path / "kept")
    config = types.SimpleNamespace(sheet=None, drive_folder=None)
    with remote_log.mirror(config, place) as log:
        assert log is None
    config.drive_folder = f"{tmp_path}/drive/"
    with pytest.raises(ValueError, match="training broke"), remote_log.mirror(config, place) as log:
        log.row({"epoch": 1})
        raise ValueError("training broke")
    assert not log._thread.is_alive()
    assert len(read_jsonl(tmp_path / "kept" / "mirror" / "rows.jsonl")) == 1
