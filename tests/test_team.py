"""The runners of several processes: who they are, how they meet, and how they end together."""

import asyncio
import contextlib
import socket
import time

import pytest

from helpers.course import team
from helpers.course.team import Place, Team, find

SLURM = {"SLURM_JOB_ID": "4003", "SLURM_NTASKS": "4", "SLURM_PROCID": "2"}
KERAS = {
    "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
    "KERAS_DISTRIBUTION_PROCESS_ID": "1",
    "KERAS_DISTRIBUTION_JOB_ADDRESSES": "a:99,b:99",
}
TPU = {"TPU_WORKER_HOSTNAMES": "t0,t1", "TPU_WORKER_ID": "1"}


@pytest.fixture(autouse=True)
def on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ((2, 1, "10.0.0.1:8000"), {}, Place(2, 1, "10.0.0.1", 8000)),
        ((2, 0, "[::1]:8000"), KERAS, Place(2, 0, "::1", 8000)),
        ((None, None, None), KERAS, Place(2, 1, "a", 99)),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "node[007-011,3],x"}, Place(4, 2, "node007", 61443)),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "gpu-1,gpu-2"}, Place(4, 2, "gpu-1", 61443)),
        ((None, None, None), SLURM | {"SLURM_STEP_NODELIST": "gpu-1"}, Place(4, 2, "gpu-1", 61443)),
        ((None, None, None), TPU, Place(2, 1, "t0", team.PORT)),
        ((None, None, None), SLURM, None),  # a batch script that srun did not start
        ((None, None, None), {}, None),
        ((1, None, None), KERAS, None),
    ],
)
def test_place(options, environ, expected):
    found = find(*options, environ)
    assert found == expected
    if found:
        assert find(None, None, None, found.environment()) == found or ":" in found.host


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((2, 1, None), "--coordinator None"),
        ((2, 2, "a:1"), "K from 0 to N - 1"),
        ((2, -1, "a:1"), "--process-id -1"),
        ((2, 0, "a"), "HOST:PORT"),
        ((2, 0, "a:65535"), "HOST:PORT"),
        ((None, 0, "a:1"), "--processes None"),
    ],
)
def test_what_is_no_place(options, words):
    with pytest.raises(ValueError, match=words):
        find(*options, {})


def test_only_on_jax(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with pytest.raises(ValueError, match="on JAX only, received the backend tensorflow: put KERAS_BACKEND=jax"):
        find(2, 0, "a:1", {})


class Stop:
    status = why = ""

    def __call__(self, status, why):
        self.status, self.why = status, why


@contextlib.asynccontextmanager
async def teams(count):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1] - 1
    found = [Team(Place(count, index, "127.0.0.1", port), Stop()) for index in range(count)]
    await asyncio.gather(*(one.open() for one in found[::-1]))
    yield found
    for one in found:
        one.close()


async def until(condition):
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_all_wait_for_the_last_and_leave_together():
    async def story():
        async with teams(3) as (zero, one, two):
            early = [asyncio.ensure_future(team.meet("a")) for team in (zero, two)]
            await asyncio.sleep(0.2)
            assert not any(task.done() for task in early)
            await asyncio.gather(one.meet("a"), *early)
            await asyncio.gather(*(team.meet("the end") for team in (zero, one, two)))
            two.close()
            zero.close()
            await asyncio.sleep(0.1)
            assert [team.stop.status for team in (zero, one, two)] == ["", "", ""]

    asyncio.run(story())


@pytest.mark.parametrize("lost", [0, 2])
def test_one_that_ends_ends_all(lost):
    async def story():
        async with teams(3) as found:
            rest = [one for one in found if one.place.index != lost]
            waiting = [asyncio.ensure_future(one.meet("a")) for one in rest]
            await asyncio.sleep(0.1)
            found[lost].close()
            await until(lambda: all(task.done() for task in waiting[:1]))
            assert rest[0].stop.status == "failed"
            assert rest[0].stop.why == f"process {lost} of 3 ended: {team.AGAIN}"
            rest[0].close()  # as its runner does
            await until(lambda: rest[1].stop.status == "failed")

    asyncio.run(story())


def test_a_sigterm_is_told_to_all():
    async def story():
        async with teams(3) as (zero, one, two):
            two.send("sigterm")
            await until(lambda: one.stop.status)
            assert zero.stop.status == one.stop.status == "terminated" and "of process 2" in zero.stop.why

    asyncio.run(story())


def test_different_commands_are_noticed_and_strangers_are_not_heard(capsys):
    async def story():
        async with teams(2) as (zero, one):
            for hello in (b"GET / HTTP/1.1\r\n\r\n", b"hello 7\n", b"hello 1\n", b"\xff\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", zero.place.port + 1)
                writer.write(hello)
                assert await reader.read() == b""
                writer.close()
            assert not zero.stop.status
            other = asyncio.ensure_future(one.meet("lips"))
            await zero.meet("boats")
            zero.close()  # as its runner does
            await other
            assert "{0: 'boats', 1: 'lips'}: start all with the same arguments" in zero.stop.why

    asyncio.run(story())
