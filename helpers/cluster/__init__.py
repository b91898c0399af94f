"""Items of `helpers.parallel` on a Dask cluster: batches out, outcomes back, whichever workers live.

Processes that train together meet in `course.team` instead. Dask itself (`distributed`) is optional and imported where it is
used; workers import this module too.
"""

import functools
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from helpers import runtime
from helpers.cluster import workers
from helpers.workspace import disk

TASK_SECONDS, TASKS_A_SECOND = 1.0, 50  # below what a scheduler gave out when measured: many threads get longer tasks
PATIENCE = 10  # seconds after which workers are counted again


def check(address: str, workspace: Path) -> str:
    """Make sure that a cluster can do the course's work in a workspace; returns what is there, in one line.

    ValueError: Dask is not installed. ConnectionError: no cluster or worker, another Python, or a worker without the workspace.
    """
    with workers.session(address, (), workspace) as (client, _):
        threads = client.nthreads()
    return f"Dask: {len(threads)} workers with {sum(threads.values())} threads at {address}"


def outcomes(address: str, attempt: Callable, function: Callable, items: list, rest: list[int]) -> Iterator[tuple]:
    """What `attempt(function, index, item)` gives for the items `rest`, as it comes, each once.

    Dask repeats the batches of a lost worker elsewhere. A batch that lost several is taken apart; then an item that loses as
    many again, alone on the cluster, gets `(index, ({}, error))`.

    ValueError, ConnectionError: see `check`; also of a worker that joined later. What is done is done.
    """
    chosen = os.environ.get("COURSE_WORKSPACE") or runtime.repo_root() / "workspace"
    places = workers.places_of([function, items[rest[0]]])
    with workers.session(address, places, disk.local_path(chosen, "COURSE_WORKSPACE")) as (client, stand):
        yield from _Run(client, functools.partial(_batch, stand, attempt, function), items).outcomes(rest)


class _Run:
    """Batches under way: two for every thread of the cluster, each of about `TASK_SECONDS`."""

    def __init__(self, client: Any, work: Callable, items: list) -> None:
        self.client, self.work, self.items = client, work, items
        self.under_way: dict[Any, list[int]] = {}
        self.ended: queue.SimpleQueue = queue.SimpleQueue()
        self.size, self.threads, self.asked = 1, 0, -PATIENCE

    def outcomes(self, rest: list[int]) -> Iterator[tuple]:
        """See `outcomes` of the module."""
        from distributed import KilledWorker

        waiting, suspects = deque(rest), []
        while waiting or self.under_way:
            self._fill(waiting)
            batch, future = self._next()
            try:
                found = self._result(future)
            except KilledWorker:
                suspects += batch
                continue
            waiting.extendleft(reversed(batch[len(found) :]))
            yield from found
        for index in suspects:  # nothing else of ours is on the cluster now, so a death has one cause
            self._send([index])
            try:
                yield from self._result(self._next()[1])
            except KilledWorker as error:
                yield index, ({}, f"KilledWorker: it ended {error.allowed_failures + 1} workers, one after the other")

    def _fill(self, waiting: deque) -> None:
        if time.monotonic() - self.asked > PATIENCE or not self.threads:  # workers come and go
            self.threads, self.asked = sum(self.client.nthreads().values()), time.monotonic()
        places = 2 * max(1, self.threads)
        while waiting and len(self.under_way) < places:
            size = max(1, min(self.size, len(waiting) // places))
            self._send([waiting.popleft() for _ in range(min(size, len(waiting)))])

    def _send(self, batch: list[int]) -> None:
        import cloudpickle

        work = functools.partial(self.work, [(index, self.items[index]) for index in batch], self._wanted())
        future = self.client.submit(_carrier(), cloudpickle.dumps(work), pure=False)
        self.under_way[future] = batch
        future.add_done_callback(self.ended.put)

    def _next(self) -> tuple[list[int], Any]:
        while True:
            try:
                future = self.ended.get(timeout=PATIENCE)
                return self.under_way.pop(future), future
            except queue.Empty:
                if not self.client.nthreads():
                    print(f"no worker is left at {self.client.scheduler.address}: waiting for one", flush=True)

    def _result(self, future: Any) -> list[tuple]:
        from distributed import KilledWorker

        try:
            found, seconds = future.result()
        except (KilledWorker, CancelledError, OSError):
            raise
        except Exception as error:
            advice = "install there what requirements.txt names, with the versions of here"
            raise ConnectionError(
                f"a worker cannot run the course: {type(error).__name__}: {error}; {advice}"
            ) from error
        self.size = max(1, min(2 * self.size, int(len(found) * self._wanted() / max(seconds, 1e-6))))
        return found

    def _wanted(self) -> float:
        """Seconds that a task should take."""
        return max(TASK_SECONDS, self.threads / TASKS_A_SECOND)


def _carrier() -> Callable[[bytes], Any]:
    """Made here so that it is sent whole: a scheduler, which opens what it passes on, needs no course."""

    def course(data: bytes) -> Any:
        import pickle

        return pickle.loads(data)()

    return course


def _batch(stand: workers.Stand, attempt: Callable, function: Callable, batch: list, seconds: float) -> tuple:
    """On a worker: the outcomes of a batch's first items, as many as fit into the time, at least one; and the seconds."""
    if problem := workers.look(*stand):
        from distributed import get_worker

        raise ConnectionError(f"worker {get_worker().address} {problem}")
    began, found = time.monotonic(), []
    for index, item in batch:
        found.append(attempt(function, index, item))
        if time.monotonic() - began > seconds:
            break
    return found, time.monotonic() - began
