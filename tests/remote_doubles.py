"""Sinks that fail on a schedule, and what the tests of the remote mirrors share."""

import json
import threading
import time
import types

WAIT = 20.0  # seconds until a hanging test fails; nothing is expected to take that long
FAST = {"base_delay": 0.001, "max_delay": 0.005, "breaker_pause": 0.01}
SECRET = "s3cr3tvalue"


class HttpError(Exception):
    """What requests and gspread raise: an error that carries a response."""

    def __init__(self, status, text="", **headers):
        super().__init__(text or f"HTTP {status}")
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.response = types.SimpleNamespace(status_code=status, headers=headers)


class DriveError(HttpError):
    """What googleapiclient raises: the response is itself the dictionary of headers."""

    def __init__(self, status, **headers):
        super().__init__(status, **headers)
        self.resp = type("Response", (dict,), {"status": status})(self.response.headers)
        del self.response


class Flaky:
    """A sink with a list of faults: one is raised at each call; `lasting` is raised when the list is empty."""

    def __init__(self, *faults, lasting=None, reauthorise_fault=None):
        self.faults, self.lasting, self.reauthorise_fault = list(faults), lasting, reauthorise_fault
        self.calls = self.reauthorised = 0
        self.batches, self.uploaded = [], []
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def _fault(self):
        self.calls += 1
        self.entered.set()
        self.gate.wait(WAIT)
        fault = self.faults.pop(0) if self.faults else self.lasting
        if fault is not None:
            raise fault

    def append_rows(self, rows):
        self._fault()
        self.batches.append([list(row) for row in rows])

    def upload(self, path):
        content = path.read_bytes()
        self._fault()
        self.uploaded.append((path.name, content))
        return path.name

    def reauthorise(self):
        self.reauthorised += 1
        if self.reauthorise_fault:
            raise self.reauthorise_fault

    @property
    def cells(self):
        return [row for batch in self.batches for row in batch]

    @property
    def rows(self):
        """All rows that arrived, as dictionaries by the header row."""
        header, *rows = self.cells
        return [dict(zip(header, row, strict=False)) for row in rows]


def until(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "this never became true"
        time.sleep(0.002)


def read_jsonl(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def train(log, epochs, start=0):
    """What `fit` does."""
    for epoch in range(start, start + epochs):
        log.row({"epoch": epoch, "hours": epoch / 10, "saved": epoch % 10 == 0, "loss": 1.0 / (epoch + 1)})
