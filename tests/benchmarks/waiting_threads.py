"""k-means and a linear probe on small features beside a busy program: threads that spin while they wait, and threads that sleep.

Usage: python tests/benchmarks/waiting_threads.py [--clips 420] [--dimensions 64] [--repeats 3]
Prints seconds for `runtime.WAITING`, for the libraries' own way of waiting, and for one thread, turn by turn in one run.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path) != Path(__file__).parent)]

from helpers import runtime

WORK = """
import sys, time
import numpy as np
from helpers.temporal_coherence import metrics

clips, dimensions = map(int, sys.argv[1:])
generator = np.random.default_rng(0)
labels = np.arange(clips) % 6
features = generator.normal(size=(clips, dimensions)) + np.eye(6)[labels].repeat(dimensions // 6 + 1, axis=1)[:, :dimensions]
began = time.perf_counter()
for seed in range(3):
    metrics.kmeans(features, 6, seed=seed)
    metrics.linear_probe(features, labels, features, labels)
print(time.perf_counter() - began)
"""
WAYS = {
    "sleeping": runtime.WAITING,
    "spinning": {},
    "one thread": {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
}


def main() -> None:
    """Time every way, with a busy neighbour for every core but one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=420)
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    bare = {name: value for name, value in os.environ.items() if name not in {*runtime.WAITING, *runtime.THREADS}}
    command = [sys.executable, "-c", WORK, str(options.clips), str(options.dimensions)]
    count = max(1, runtime.cpu_count() - 1)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        for _ in range(options.repeats):
            for name, ways in WAYS.items():
                run = subprocess.run(command, env=bare | ways, cwd=ROOT, capture_output=True, text=True, check=True)
                print(f"{name:>10}  {float(run.stdout):.2f} s", flush=True)
    finally:
        for neighbour in busy:
            neighbour.kill()


if __name__ == "__main__":
    main()
