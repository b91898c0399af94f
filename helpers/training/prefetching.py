"""Batches made ahead of use, in threads, in the order of their steps."""

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helpers import runtime


def prefetch(
    make_batch: Callable[[int], Any], start_step: int = 0, *, workers: int | None = None, ahead: int | None = None
) -> Iterator[Any]:
    """Yield make_batch(start_step), make_batch(start_step + 1), ... in order, computed ahead of use in threads.

    Closing the generator ends the threads (after the batches in work). Where make_batch failed, RuntimeError names the step and
    comes when that step is asked for.

    Args:
        make_batch: called from several threads at once; what it returns depends on the step alone.
        workers: threads, default one a core; NumPy and OpenCV let go of Python's lock, so they truly run side by side.
        ahead: at most so many batches exist or are being made that nobody has asked for yet; default twice `workers`.
    """
    workers = workers or runtime.cpu_count()
    ahead = 2 * workers if ahead is None else ahead
    with contextlib.ExitStack() as stack:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="prefetch")
        stack.callback(pool.shutdown, cancel_futures=True)
        steps = itertools.count(start_step)
        pending = deque((step, pool.submit(make_batch, step)) for step in itertools.islice(steps, max(1, ahead)))
        while True:
            step, future = pending.popleft()
            try:
                batch = future.result()
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                raise RuntimeError(f"making the batch of step {step} failed: {reason}") from error
            following = next(steps)
            pending.append((following, pool.submit(make_batch, following)))
            yield batch
