"""A few spoiled files for each reader of foreign files; many more by hand: python -m tests.fuzz --count 10000."""

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("memory and time are bounded as Linux does", allow_module_level=True)

import fuzz

TARGETS = fuzz.targets()


@pytest.mark.parametrize("name", TARGETS)
def test_spoiled_files_are_read_or_refused_by_name(name):
    assert fuzz.run(name, TARGETS[name], count=50) == []
