"""helpers.parallel: items that fail, workers that die."""

import os
import signal
import sys
import time
from pathlib import Path

import joblib
import pytest
from joblib.externals.loky import get_reusable_executor

from helpers.parallel import parallel


def sometimes(item: int) -> dict:
    if item == 2:
        raise KeyError("two")
    if item == 3:
        sys.exit("three")
    if item == 4:
        return [item]
    return {"square": item * item}


@pytest.mark.parametrize("backend", [None, "loky", "threading", "sequential"])
def test_rows_in_order_and_errors_beside_them(backend):
    settings = {} if backend is None else {"backend": backend, "n_jobs": 2}
    with joblib.parallel_config(**settings):
        table = parallel(sometimes, iter(range(6)), jobs=2 if backend is None else None)
    assert list(table.columns) == ["item", "square", "error"]
    assert table["item"].tolist() == list(range(6))
    assert table["error"].tolist()[:4] == ["", "", "KeyError: 'two'", "SystemExit: three"]
    assert table["error"][4].startswith("TypeError: ") and "[4]" in table["error"][4]
    assert table["square"].dropna().tolist() == [0, 1, 25]
    failed = table.loc[table["error"] != "", ["item", "error"]]
    assert failed["item"].tolist() == [2, 3, 4]


def test_no_items_and_names_that_belong_to_the_table():
    assert list(parallel(sometimes, []).columns) == ["item", "error"]
    table = parallel(lambda item: {"item": "mine", "error": "mine", "x": 1}, [5], jobs=1)
    assert table.to_dict("records") == [{"item": 5, "x": 1, "error": ""}]


def loaded(item) -> dict:
    """What the worker has imported; this module, and with it helpers.parallel, is among it."""
    heavy = [name for name in ("tensorflow", "keras", "jax") if name in sys.modules]
    return {"pid": os.getpid(), "heavy": ",".join(heavy), "parallel": "helpers.parallel" in sys.modules}


def test_workers_are_light_and_other_processes():
    get_reusable_executor().shutdown(wait=True)  # workers that served another test may have imported anything
    table = parallel(loaded, range(4), jobs=2)
    assert table["heavy"].tolist() == [""] * 4 and table["parallel"].all()
    assert os.getpid() not in table["pid"].tolist()


def dies(item: tuple[str, int]) -> dict:
    folder, number = item
    with (Path(folder) / "calls").open("a") as calls:
        calls.write(f"{number}\n")
    time.sleep(0.05)
    if number == 6:
        os.kill(os.getpid(), signal.SIGKILL)
    return {"number": number}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a system with SIGKILL")
def test_only_the_item_that_killed_its_process_is_lost(tmp_path):
    table = parallel(dies, [(str(tmp_path), number) for number in range(12)], jobs=2)
    failed = table.loc[table["error"] != "", ["item", "error"]]
    assert [number for _, number in failed["item"]] == [6]
    assert failed["error"].iloc[0].startswith("TerminatedWorkerError: ") and "SIGKILL" in failed["error"].iloc[0]
    assert table["number"].dropna().tolist() == [number for number in range(12) if number != 6]
    calls = (tmp_path / "calls").read_text().split()
    assert calls.count("0") == calls.count("1") == calls.count("11") == 1  # finished rows are not made again
    assert len(calls) <= 12 + 5  # two jobs: four items under way and one more
