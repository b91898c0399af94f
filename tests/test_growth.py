"""The arithmetic of tests/benchmarks/growth.py against numbers worked out by hand, and one step measured as it measures them."""

import importlib.util
import json
import subprocess
import sys

import pytest

from helpers import config, runtime
from helpers.course.notebooks import PROJECTS

PATH = runtime.repo_root() / "tests" / "benchmarks" / "growth.py"
SPEC = importlib.util.spec_from_file_location("growth", PATH)
growth = importlib.util.module_from_spec(SPEC)
before = [*sys.path]
SPEC.loader.exec_module(growth)
sys.path[:] = before  # it puts the repository first


def row(step: str, times: int, seconds: float, memory: float, **more: object) -> dict:
    return {"project": "lips", "step": step, "times": times, "seconds": seconds, "MB": memory, "imports": 200.4} | more


@pytest.mark.parametrize(
    ("small", "large", "factor", "expected"),
    [(3, 12, 4, 1), (2, 32, 4, 2), (5, 5, 4, 0), (3, 24, 2, 3), (1, 2, 4, 0.5)],
)
def test_the_exponent_is_1_for_linear_and_2_for_quadratic(small, large, factor, expected):
    assert growth.exponent(small, large, factor) == pytest.approx(expected)


def test_a_cost_at_a_thousand_times():
    assert growth.at(1000, {1: 7.0, 4: 10.0, 16: 22.0}) == pytest.approx(
        6 + 1 * 1000
    )  # 6 fixed, 1 each; the first is not used
    assert growth.at(1000, {1: 1.0, 4: 10.0, 16: 160.0}) == pytest.approx(0.625 * 1000**2)  # quadratic
    assert growth.at(1000, {1: 9.0, 4: 9.0, 16: 9.0}) == pytest.approx(9)
    assert growth.at(1000, {1: 9.0, 4: 9.0, 16: 8.0}) == pytest.approx(8)
    assert growth.at(64, {4: 0.0, 16: 12.0}) == pytest.approx(60)  # of nothing no exponent can be told


def test_the_table_by_hand():
    rows = [row("build", 16, 16.0, 24), row("build", 1, 1.0, 9), row("build", 4, 4.0, 12)]
    rows += [row("train", times, seconds, 100) for times, seconds in ((1, 2.0), (4, 2.25), (16, 36.0))]
    head = (
        "| project | step | s 1x | s 4x | s 16x | exponent | MB 1x | MB 4x | MB 16x | imports MB | h 1000x | GB 1000x |"
    )
    build = "| lips | build | 1.0 | 4.0 | 16.0 | 1.00 | 9 | 12 | 24 | 200 | 0.3 | 1.0 |"  # 1000 s; 8 MB and 1 MB each
    train = "| lips | train | 2.0 | 2.2 | 36.0 | 2.00 | 100 | 100 | 100 | 200 | 39.1 | 0.1 |"  # 36 s x 62.5^2
    assert growth.table(rows).splitlines() == [head, "|" + " --- |" * 12, build, train]
    with pytest.raises(ValueError, match=r"lips, train: measured at \[1, 4\]; expected \[1, 4, 16\]: measure the rest"):
        growth.table(rows[:-1])


def test_what_is_said_of_the_items():
    rows = [
        row("train", times, 10.0 + times, 1, updates=5 * times, items={"clips": {"train": 2 * times, "test": 1}})
        for times in (4, 1)
    ]
    assert growth.notes(rows) == "lips: 3, 9 clips; 5, 20 steps of training, each 200 ms"  # 3 s more for 15 more


@pytest.mark.parametrize("project", PROJECTS)
def test_every_project_can_grow_within_its_limits(project):
    schema = config.schema_of(project)
    settings = config.load(config.find(project, "mini"), schema)
    for times in growth.SIZES:
        config.check(growth.dataclasses.replace(settings, **growth.CHANGED[project](times)))
        assert growth.DRAWN[project](times)


def test_files_grow_by_the_sides_of_mini():
    from helpers.circulant_video import splits
    from helpers.circulant_video.mini.dataset import SHARDS

    for times in growth.SIZES:
        sides = splits.split_shards(f"{name}.tfrecord" for name in growth._shards(times))
        once = splits.split_shards(f"{name}.tfrecord" for name in SHARDS)
        assert {side: len(files) for side, files in sides.items()} == {
            side: times * len(files) for side, files in once.items()
        }


def test_a_step_is_measured(tmp_path):
    environment = growth.os.environ | growth.ONE_THREAD | {"COURSE_PROGRESS": "0", "KERAS_BACKEND": "numpy"}
    command = [sys.executable, str(PATH), "--one", "circulant_video", "1", "01", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    build, preprocess = map(json.loads, done.stdout.splitlines())
    assert (build["step"], preprocess["step"], preprocess["items"]["shards"]) == ("build", "preprocess", 12), (
        done.stderr
    )
    for found in (build, preprocess):
        assert found["seconds"] > 0 and 0 <= found["MB"] < 500 and 50 < found["imports"] < 2000
