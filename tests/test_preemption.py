"""SIGTERM during `fit`. As a script it trains in a folder and gets the signal: FOLDER MOMENT."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.training import preemption
from helpers.workspace import packs
from tests import test_training
from tests.test_training import Fail, assert_same, build_model, fit

MOMENTS = {"step": 7, "watching": 10, "late": 6}  # -> step of the state that stays
CODES = {"watching": 143, "late": 143}


def get_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def train_and_end(folder: str, moment: str) -> None:
    calls = []

    def watch():
        calls.append(1)
        if moment == "watching" and len(calls) == 2:
            get_signal()
        return {"calls": 0.0}

    def slow():
        get_signal()
        time.sleep(30)

    if moment == "watching":
        signal.signal(signal.SIGTERM, lambda number, frame: print("the caller's"))
    if moment == "late":
        preemption.GRACE = 0.3
    action = {"step": get_signal, "late": slow}.get(moment)
    callbacks = [Fail(7, action)] if action else []
    with packs.keeping(Path(folder), Path(folder).parent / "kept" / "pack.tar"):
        fit(folder, build_model(graph=True), callbacks=callbacks, validation=watch)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Folder and standard output of runs that got the signal, by moment; two processes at a time."""

    def run(moment):
        folder = tmp_path_factory.mktemp(moment) / "run"
        command = [sys.executable, __file__, folder, moment]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, env=os.environ | {"PYTHONPATH": "."}
        )
        assert done.returncode == CODES.get(moment, -signal.SIGTERM), done.stdout + done.stderr
        return folder, done.stdout

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(MOMENTS, pool.map(run, MOMENTS), strict=True))


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_step_under_way_is_saved_and_the_run_goes_on_with_the_same_bits(ended, moment, capfd, tmp_path):
    folder, said = ended[moment]
    step = MOMENTS[moment]
    if moment == "late":
        assert "the running step took over" in said
    else:
        assert f"SIGTERM: step {step} is saved; the same call goes on from there\n" in said
        assert packs.restore_state(folder.parent / "kept" / "pack.tar", tmp_path / "elsewhere")
        assert (tmp_path / "elsewhere" / "checkpoints" / f"state-{step:09d}.h5").is_file()
    assert ("the caller's" in said) == (moment == "watching")
    watch = {"validation": lambda: {"calls": 0.0}}
    got, straight = (fit(place, build_model(graph=True), **watch) for place in (folder, tmp_path / "straight"))
    assert f"resumed at step {step} " in capfd.readouterr().out
    assert_same(got, straight)


def test_outside_of_fit_nothing_listens(tmp_path):
    seen = []
    look = Fail(3, lambda: seen.append((signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1))))
    fit(tmp_path, callbacks=[look])
    signal.set_wakeup_fd(-1)
    assert seen[0][0] not in (signal.SIG_DFL, None) and seen[0][1] != -1
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("sigterm") for thread in threading.enumerate()):
        assert time.monotonic() < deadline


@pytest.mark.parametrize("where", ["thread", "ignored"])
def test_where_no_handler_may_stand_none_does(where):
    def look():
        with preemption.Preemption().watching():
            return signal.getsignal(signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN if where == "ignored" else signal.SIG_DFL)
    try:
        with ThreadPoolExecutor(1) as pool:
            got = pool.submit(look).result() if where == "thread" else look()
        assert got == signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_signals_still_reach_who_listened_before():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before, old = signal.set_wakeup_fd(writing), signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with preemption.Preemption().watching():
            os.kill(os.getpid(), signal.SIGUSR1)
            assert os.read(reading, 1) == bytes([signal.SIGUSR1])
        assert signal.set_wakeup_fd(writing) == writing
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, old)
        os.close(reading)
        os.close(writing)


no_fsync = test_training.no_fsync
if __name__ == "__main__":
    train_and_end(*sys.argv[1:])
