"""The runners of one training on several processes or machines: they meet before each notebook, and when one ends all end.

A connection of each to process 0's runner does both: a process that is killed closes it at once. JAX itself, joined in the
kernels of the notebooks that train, would notice after its heartbeat of 100 seconds.
"""

import asyncio
import contextlib
import dataclasses
import os
import re
import socket
from collections.abc import Callable, Mapping

from helpers.course import door

WAYS = (  # where the number of processes, the index of this one and the address of process 0 stand
    ("COURSE_PROCESSES", "COURSE_PROCESS_ID", "COURSE_COORDINATOR"),
    ("KERAS_DISTRIBUTION_NUM_PROCESSES", "KERAS_DISTRIBUTION_PROCESS_ID", "KERAS_DISTRIBUTION_JOB_ADDRESSES"),
)
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID")  # srun alone sets all of them
PORT = 8476  # where nobody says another
AGAIN = "start the same command on all of them again, they go on where they were"


@dataclasses.dataclass(frozen=True)
class Place:
    """One of several processes: how many, which one from 0, and where process 0 listens: `port` is JAX's, the next the runners'."""

    count: int
    index: int
    host: str
    port: int

    def environment(self) -> dict[str, str]:
        """What tells the kernels."""
        address = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        words = (str(self.count), str(self.index), address)
        gloo = {"JAX_CPU_COLLECTIVES_IMPLEMENTATION": os.environ.get("JAX_CPU_COLLECTIVES_IMPLEMENTATION", "gloo")}
        return gloo | dict(zip(WAYS[0], words, strict=True))


def find(count: int | None, index: int | None, address: str | None, environ: Mapping[str, str]) -> Place | None:
    """The place that the options or the environment (the course's, Keras's, SLURM's, a TPU slice's) name; None to run alone.

    ValueError: one of the three is missing or wrong, or the backend is not JAX.
    """
    if (count, index, address) == (None, None, None):
        count, index, address = _from_environment(environ)
    if count in (None, "", "1", 1) and not (count is None and (index is not None or address)):
        return None
    received = f"--processes {count} --coordinator {address} --process-id {index}"
    host, _, port = (address or "").partition(",")[0].rpartition(":")
    numbers = [str(count), str(index), port]
    right = host and all(number.isdecimal() for number in numbers)
    if not (right and 0 <= int(index) < int(count) and 0 < int(port) < 65535):
        raise ValueError(
            f"several processes: received {received}; allowed: --processes N --coordinator HOST:PORT --process-id K with K from 0 "
            "to N - 1, all three, the address of process 0 in all of them"
        )
    if door.backend() != "jax":
        raise ValueError(
            f"several processes ({received}) train together on JAX only, received the backend {door.backend()}: put "
            "KERAS_BACKEND=jax before the command, or --processes 1 behind it to run alone"
        )
    return Place(int(count), int(index), host.strip("[]"), int(port))


def _from_environment(environ: Mapping[str, str]) -> tuple[str | None, str | None, str | None]:
    for names in WAYS:
        if any(environ.get(name) for name in names):
            return tuple(environ.get(name) for name in names)
    if all(name in environ for name in SLURM):
        job, nodes, count, index = (environ[name] for name in SLURM)
        first = re.sub(r"^([^,\[]+)\[(\w+).*|,.*", r"\1\2", nodes)  # node[001-004,7],other -> node001
        return count, index, f"{first}:{61440 + int(job) % 4000}"
    hosts = [host for host in environ.get("TPU_WORKER_HOSTNAMES", "").split(",") if host]
    if len(hosts) > 1:
        return str(len(hosts)), environ.get("TPU_WORKER_ID"), f"{hosts[0]}:{PORT}"
    return None, None, None


class Team:
    """This runner's connections; `stop` is called once with a status and a sentence when another one ends, and has it then."""

    def __init__(self, place: Place, stop: Callable[[str, str], None]) -> None:
        self.place, self.stop, self.who = place, stop, f"process {place.index} of {place.count}"
        self.writers: dict[int, asyncio.StreamWriter] = {}
        self.at: dict[int, str] = {}
        self.passed, self.over, self.tasks = "", False, []

    async def open(self) -> None:
        """Listen, or connect to process 0 and say once that it is waited for."""
        host, port = self.place.host, self.place.port + 1
        if self.place.index == 0:
            self.server = await asyncio.start_server(self._welcome, None, port)
            return
        said = False
        while not self.stop.status:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(host, port)
                self._add(0, writer)
                self.send(f"hello {self.place.index}")
                self.tasks.append(asyncio.ensure_future(self._listen(0, reader)))
                return
            if not said:
                print(f"{self.who} waits for process 0 at {host}:{port}", flush=True)
            said = True
            await asyncio.sleep(1)

    async def meet(self, name: str) -> None:
        """Wait until all runners are here."""
        if self.place.index:
            self.send(f"at {name}")
        else:
            self._arrive(0, name)
        rounds = 0
        while self.passed != name and not self.stop.status:
            rounds += 1
            if rounds == 40:
                print(f"{self.who} waits for the others before {name}", flush=True)
            await asyncio.sleep(0.05)

    def close(self) -> None:
        """Let go of the others: they end, unless the last meeting is over."""
        self.over = True
        for task in self.tasks:
            task.cancel()
        for writer in self.writers.values():
            writer.close()
        if self.place.index == 0 and hasattr(self, "server"):
            self.server.close()

    def _add(self, index: int, writer: asyncio.StreamWriter) -> None:
        """Keep a connection; a machine that vanished without a word is noticed within half a minute."""
        line = writer.get_extra_info("socket")
        for option, value in (("SO_KEEPALIVE", 1), ("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
            if hasattr(socket, option):
                level = socket.SOL_SOCKET if option.startswith("SO") else socket.IPPROTO_TCP
                line.setsockopt(level, getattr(socket, option), value)
        self.writers[index] = writer

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        word, _, index = (await reader.readline()).decode(errors="replace").strip().partition(" ")
        known = [str(number) for number in range(1, self.place.count) if number not in self.writers]
        if word != "hello" or index not in known:  # not one of ours
            writer.close()
            return
        self._add(int(index), writer)
        await self._listen(int(index), reader)

    async def _listen(self, index: int, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):  # the latter where the run ends
            while line := (await reader.readline()).decode().strip():
                word, _, name = line.partition(" ")
                if word == "at":
                    self._arrive(index, name)
                elif word == "go":
                    self.passed = name
                elif word == "sigterm" and not self.stop.status:
                    self.stop("terminated", f"stopped by SIGTERM of process {index}")
                    if self.place.index == 0:
                        self.send("sigterm")
        if not self.over and self.passed != "the end":
            self._end(f"process {index} of {self.place.count} ended: {AGAIN}")

    def _arrive(self, index: int, name: str) -> None:
        self.at[index] = name
        if len(self.at) == self.place.count:
            if len(set(self.at.values())) > 1:
                self._end(f"the processes are at different notebooks, {self.at}: start all with the same arguments")
                return
            self.at.clear()
            self.send(f"go {name}")
            self.passed = name

    def _end(self, why: str) -> None:
        if not self.stop.status:
            self.stop("failed", why)

    def send(self, line: str) -> None:
        """Tell the others a word of the runners, such as "sigterm", so that all save the same step."""
        for writer in self.writers.values():
            writer.write(line.encode() + b"\n")
