"""Several processes on one workspace: process 0 does the steps, the others wait for them, and take part in the one that trains.

The runner says in each kernel's environment which process it is. Nothing here imports Keras: `helpers.training.devices` puts
itself in `joined` where the kernels are joined, which the runner does for the notebook that trains.
"""

import contextlib
import itertools
import os
import time
from pathlib import Path
from typing import Any

POLL = 0.5  # seconds

joined: Any = None  # an object with tell(key, word), ask(key) -> word and together() -> context
_calls = itertools.count()  # all processes call the steps in the same order


def index() -> int:
    """Which process this is, from 0."""
    return int(os.environ.get("COURSE_PROCESS_ID") or 0)


def lead(name: str, *, work: bool) -> contextlib.AbstractContextManager:
    """Process 0 tells the others whether there is work in a step that all take part in, and goes into it."""
    if joined is None:
        return contextlib.nullcontext()
    joined.tell(f"{next(_calls)} {name}", "work" if work else "done")
    return joined.together() if work else contextlib.nullcontext()


def follow(name: str) -> contextlib.AbstractContextManager | None:
    """Wait until process 0 calls the same step; None if there is no work for the others in it."""
    if joined is None or joined.ask(f"{next(_calls)} {name}") == "done":
        return None
    return joined.together()


def wait_for(path: Path) -> None:
    """Wait for a file of process 0; one line says so."""
    if not path.is_file():
        print(f"process {index()} waits for process 0 and {path.parent.name}", flush=True)
    while not path.is_file():
        time.sleep(POLL)
