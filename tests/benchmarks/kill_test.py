"""Kill steps preprocess and train at random moments, finish them, compare: python tests/benchmarks/kill_test.py --moments 10."""

import argparse
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[1] / "temporal_coherence"),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

import kill


def quietly(function, *arguments):
    """Call without its prints."""
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def kill_often(root: Path, name: str, moments: int, generator: random.Random) -> int:
    """Prints one line a moment; returns how many ended otherwise than they should."""
    clips, prepared = root / "clips", root / f"prepared-{name}"
    quietly(kill.run, clips, prepared, kill.BEFORE[name])
    shutil.copytree(prepared, root / "straight")
    straight = quietly(kill.run, clips, root / "straight", name)
    expected, total, bad = kill.contents(straight), kill.progress(straight.folder, name), 0
    for number in range(1, moments + 1):
        place = root / "killed"
        shutil.copytree(prepared, place)
        process = kill.start(clips, place, name)
        came = kill.kill(process, clips, place, name, **kill.random_moment(generator, total))
        result = quietly(kill.run, clips, place, name)
        kill.clean_up(process)
        wrong = kill.differences(kill.contents(result), expected)
        print(
            f"{name} {number:2}: killed at {came} of {total}: {'DIFFERENT: ' + ', '.join(wrong) if wrong else 'same'}",
            flush=True,
        )
        bad += bool(wrong)
        shutil.rmtree(place)
    shutil.rmtree(root / "straight")
    return bad


def main() -> None:
    """Exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=10, help="for each step")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        quietly(kill.draw_clips, Path(folder) / "clips")
        bad = sum(kill_often(Path(folder), name, options.moments, generator) for name in kill.BEFORE)
    print(f"{2 * options.moments - bad} of {2 * options.moments} as if nothing had happened")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
