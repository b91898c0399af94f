"""SIGTERM while a training runs: the running step ends, is saved, and then the process ends by the signal.

So a machine that a cloud takes back, a batch system at its time limit and `kill` cost nothing. Python runs a handler between two
of its own instructions only, never within a long computation; a thread with a deadline ends the process all the same.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator

from helpers.training import devices

GRACE = 15.0  # seconds for the running step, its state and its pack; clouds give 30, batch systems often 30
CODE = 128 + signal.SIGTERM
NOTICED = "course/sigterm"


class Preemption:
    """Knows whether the process was asked to end; `watching` listens, `due` tells when, `end` ends."""

    def __init__(self) -> None:
        self.asked, self._before = False, None
        self.late = f"the running step took over {GRACE:.0f} s; the state before it stays"  # said if time runs out

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Listen within the body, in the main thread only, and unless the signal is ignored.

        An end that was asked for comes at its end at the latest.
        """
        before = signal.getsignal(signal.SIGTERM)
        main = threading.current_thread() is threading.main_thread()
        if not main or os.name == "nt" or before in (signal.SIG_IGN, None):  # Windows ends a process without a word
            yield
            return
        self._before = before
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        others = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._ask)
        threading.Thread(target=self._deadline, args=(reading, others), name="sigterm", daemon=True).start()
        try:
            yield
            if self.asked or devices.noticed(NOTICED):
                self.end("SIGTERM: the training is finished")
        finally:
            signal.signal(signal.SIGTERM, before)
            signal.set_wakeup_fd(others)
            os.close(writing)

    def _ask(self, number: int, frame: object) -> None:
        self.asked = True

    def due(self, step: int) -> bool:
        """Whether to end after this step; several processes all end after the one that follows the first signal."""
        noticed = devices.noticed(NOTICED)
        if noticed is None and self.asked:
            noticed = devices.notice(NOTICED, str(step))
        return self.asked if noticed is None else step > int(noticed)

    def end(self, line: str) -> None:
        """Say a line, then let the signal do what it did before."""
        print(line, flush=True)
        time.sleep(0.2)  # a kernel's output is on its way to the runner
        signal.signal(signal.SIGTERM, self._before or signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
        sys.exit(CODE)  # where a handler of the caller's let it live

    def _deadline(self, reading: int, others: int) -> None:
        """Hand the numbers of signals on to who listened before; the first SIGTERM starts the clock."""
        with open(reading, "rb", buffering=0) as file:
            while number := file.read(1):
                if others != -1:
                    with contextlib.suppress(OSError):
                        os.write(others, number)
                if number[0] == signal.SIGTERM:
                    threading.Thread(target=self._end_late, name="sigterm-clock", daemon=True).start()

    def _end_late(self) -> None:
        time.sleep(GRACE)
        print(f"SIGTERM: {self.late}", flush=True)
        os._exit(CODE)
