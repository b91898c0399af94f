"""A few spoiled files for each reader of foreign files; many more by hand: python -m tests.fuzz --count 10000."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("memory and time are bounded as Linux does", allow_module_level=True)

import fuzz


@pytest.mark.parametrize("group", [fuzz.text_targets, fuzz.binary_targets])
def test_spoiled_files_are_read_or_refused_by_name(group):
    findings = {name: fuzz.run(name, target, count=50) for name, target in group().items()}
    assert not any(findings.values()), findings


def refuse_without_name(path):
    raise ValueError("bad file")


def divide(path):
    return 1 / 0


def take_memory(path):
    return len(bytes(1 << 32))


def take_time(path):
    while path:
        pass


def write_beside(path):
    path.with_name("work").joinpath("stray").touch()


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (refuse_without_name, "does not name the file"), (divide, "ZeroDivisionError"), (take_memory, "MemoryError"),
        (take_time, "more than 0.1 s"), (write_beside, r"stray"),
    ],
)  # fmt: skip
def test_what_counts_as_a_finding(read, words, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.1)
    calls = []
    target = fuzz.Target(".x", [b"abc"], lambda path: calls.append(path) or (read(path) if len(calls) > 1 else None))
    ((number, problem),) = fuzz.run("x", target, count=1)
    assert number == 0 and words in problem
