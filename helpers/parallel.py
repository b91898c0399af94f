"""Run a function over many items in processes; the rows become one table, and no item can stop the others.

Worker processes import this module, so it must never pull in TensorFlow or Keras.
"""

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool

import joblib
import pandas as pd

from helpers import runtime
from helpers.workspace import disk

FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # a disk's
# Of the errors of a system these are an item's own: it is gone, or its name is impossible.
OWN = (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ, errno.EINVAL)
DISK = rf"(?:OSError|PermissionError)(?!: \[Errno (?:{'|'.join(map(str, OWN))})\])"


def parallel(
    function: Callable[[object], Mapping], items: Iterable, *, what: str = "items", jobs: int | None = -1,
    label: str = "",
) -> pd.DataFrame:  # fmt: skip
    """Call `function` on every item in parallel and collect the rows; no item can stop the others.

    One row per item, in their order: `item`, the function's columns, `error` ("" or "Type: message"). OSError where the disk is
    to blame, once all have run: that is no fault of theirs, and not theirs to record.

    An item whose process dies (killed, out of memory) is found by running those that were under way again, one at a
    time, in another process; so `function` may see an item twice. With `jobs=1` it runs in this process, unprotected.

    Where the environment variable COURSE_DASK names a Dask scheduler, the items of all other calls run on its workers, see
    `helpers.cluster`; else joblib's backend is the caller's, processes by default.

    Args:
        function: from one item to one row, a dict; "item" and "error" are columns of the table itself.
        items: anything joblib can send to a worker.
        what: their name in an error, such as "clips".
        jobs: processes, -1 for all cores, None for what `joblib.parallel_config` says; a cluster uses all that it has.
    """
    items = list(items)
    outcomes: dict[int, tuple[Mapping, str]] = {}
    with runtime.progress(total=len(items), label=label, unit="item") as bar:
        while rest := [index for index in range(len(items)) if index not in outcomes]:
            for index, outcome in _outcomes(function, items, rest, jobs):
                outcomes[index] = outcome
                bar.update()
    rows = [{**outcomes[i][0], "item": item, "error": outcomes[i][1]} for i, item in enumerate(items)]
    table = pd.DataFrame(rows, columns=None if rows else ["item", "error"])
    _stop_at_disk_errors(table["error"], what)
    return table[["item", *table.columns.drop(["item", "error"]), "error"]]


def _stop_at_disk_errors(errors: pd.Series, what: str) -> None:
    errors = errors[errors.str.match(DISK)]
    if len(errors):
        first, number = errors.iloc[0], re.search(r"\[Errno (\d+)\]", errors.iloc[0])
        code = int(number[1]) if number else errno.EIO
        way = "" if disk.ANOTHER in first else f"; {disk.REASONS.get(code, disk.ANOTHER)}"
        raise OSError(code, f"{len(errors)} {what} could not be written, call again once this is mended: {first}{way}")


def usable(table: pd.DataFrame, what: str) -> pd.DataFrame:
    """The rows of a table with the column `error` that have none; ValueError, which quotes the first, where all have."""
    good = table[table["error"] == ""]
    if good.empty:
        first = f"; the first says: {table['error'].iloc[0]}" if len(table) else ""
        raise ValueError(f"not one of {len(table)} {what} can be used{first}")
    return good


def _outcomes(function: Callable, items: list, rest: list[int], jobs: int | None) -> Iterator[tuple[int, tuple]]:
    """Outcomes as they come, until all are there or a worker died and the guilty item is known."""
    if jobs != 1 and (address := os.environ.get("COURSE_DASK")):
        from helpers import cluster

        yield from cluster.outcomes(address, _attempt, function, items, rest)
        return
    started, done = [], set()

    def tasks():
        for index in rest:
            started.append(index)
            yield joblib.delayed(_attempt)(function, index, items[index])

    try:
        # Small batches: what is lost with a process must be few items.
        for index, outcome in joblib.Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks()):
            done.add(index)
            yield index, outcome
    except BrokenProcessPool:
        yield from _one_by_one(function, items, [index for index in started if index not in done])


def _one_by_one(function: Callable, items: list, suspects: list[int]) -> Iterator[tuple[int, tuple]]:
    # joblib's own executor, because it can send functions that were written in a notebook; one job through
    # joblib.Parallel would run in this process and take it down.
    from joblib.externals.loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(max_workers=1)
    for index in suspects:
        try:
            yield executor.submit(_attempt, function, index, items[index]).result()
        except BrokenProcessPool as error:
            yield index, ({}, _describe(error))
            executor = ProcessPoolExecutor(max_workers=1)
    executor.shutdown()


def _attempt(function: Callable, index: int, item: object) -> tuple[int, tuple[Mapping, str]]:
    try:
        row = function(item)
        if not isinstance(row, Mapping):
            raise TypeError(f"the function must return a dict, one row of the table. Received: {row!r:.100}")
        return index, (row, "")
    except (Exception, SystemExit) as error:
        return index, ({}, _describe(error))


def _describe(error: BaseException) -> str:
    """ "Type: message"; of an error that the disk led to, the disk's."""
    cause = error
    while cause is not None and getattr(cause, "errno", None) not in FAULTS:
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    error = cause or error
    return " ".join(f"{type(error).__name__}: {error}".split())
