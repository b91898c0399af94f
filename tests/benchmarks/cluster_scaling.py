"""Clips cut by temporal coherence's `preprocess` on joblib's processes and on a Dask cluster; where a million would spend time.

Usage: python tests/benchmarks/cluster_scaling.py [--clips 96] [--processes 2]
The clips of mini are drawn once and stand under several names; both cut 1, 2 and 4 times as many. The cluster is a scheduler and
worker processes of this machine. The last table is computed from the numbers measured before it, and from the two assumed rates.
"""

import argparse
import functools
import os
import pickle
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"
os.environ["PYTHONPATH"] = sys.path[0]

import cloudpickle
import distributed
import pandas as pd

from helpers import cluster, parallel
from helpers.temporal_coherence import cutting, data
from helpers.temporal_coherence.mini import dataset

OPTIONS = {"step": 4, "negative_every": 5, "gap": 1, "size": 64, "quality": 90}
MILLION, MB, STORAGE, NETWORK = 10**6, 1e6, 1000.0, 125.0  # the last two: MB/s of the shared disk, of a cable


def make_clips(folder: Path, count: int) -> list[dict]:
    """Rows of `count` clips: drawn ones, copied under other numbers."""
    table = dataset.make_dataset(folder / "drawn", groups=(1, 2), clips_per_group=2)
    for number in range(count):
        source = folder / "drawn" / table["path"][number % len(table)]
        name = f"{source.parent.name}/v_{source.parent.name}_g{number // 99 + 1:02d}_c{number % 99 + 1:02d}.avi"
        (folder / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, folder / "clips" / name)
    return data.find_clips(folder / "clips").to_dict("records")


def cut(folder: Path, rows: list[dict], name: str, *, processes: int, address: str) -> tuple[pd.DataFrame, float]:
    """The table of some clips, and seconds; with an address on the cluster."""
    work = functools.partial(cutting.preprocess_clip, root=folder / "clips", folder=folder / name, options=OPTIONS)
    os.environ.pop("COURSE_DASK", None)
    os.environ |= {"COURSE_DASK": address} if address else {}
    began = time.perf_counter()
    table = parallel.parallel(work, rows, jobs=processes)
    seconds = time.perf_counter() - began
    os.environ.pop("COURSE_DASK", None)
    return table, seconds


def nothing(item: int) -> dict:
    """The row of an item without work."""
    return {}


def tasks_per_second(address: str, count: int = 1500) -> tuple[float, float]:
    """Empty tasks: all handed to Dask at once; and by `helpers.cluster`, one item a task."""
    with distributed.Client(address, set_as_default=False) as client:
        client.gather(client.map(nothing, range(20), pure=False))
        began = time.perf_counter()
        client.gather(client.map(nothing, range(count), pure=False))
        dask = count / (time.perf_counter() - began)
        run = cluster._Run(client, _first, [0] * count)
        run.threads, run.asked = 32, time.monotonic()  # as many under way as on a larger cluster
        run._send, send = lambda batch: (setattr(run, "size", 1), send(batch)), run._send
        began = time.perf_counter()
        assert len([*run.outcomes([*range(count)])]) == count
    return dask, count / (time.perf_counter() - began)


def _first(batch: list, seconds: float) -> tuple[list, float]:
    return [(batch[0][0], ({}, ""))], 1e-3


def bytes_sent(rows: list[dict], folder: Path) -> tuple[float, float]:
    """Bytes of an item, and of a task without items."""
    work = functools.partial(cutting.preprocess_clip, root=folder / "clips", folder=folder / "x", options=OPTIONS)
    stand = ("machine 1234", "course-0123456789ab", ((str(folder / "x.partial" / ".shared-0123456789abcdef"), 6),))
    sizes = []
    for count in (1, 31):
        batch = [*enumerate(rows)][:count]
        sizes.append(
            len(cloudpickle.dumps(functools.partial(cluster._batch, stand, parallel._attempt, work, batch, 1.0)))
        )
    item = (sizes[1] - sizes[0]) / 30
    return item, sizes[0] - item


def print_million(seconds: float, item: float, task: float, row: float, disk: float, rate: float) -> None:
    """Hours of every part for a million clips, by threads; the largest is what the work waits for."""
    print(
        f"\na million such clips, hours (computed; disk {STORAGE:.0f} MB/s and network {NETWORK:.0f} MB/s are assumed)"
    )
    print("| threads | computing | disk | scheduler and client | network | tasks | seconds a task | waits for |")
    print("|---|---|---|---|---|---|---|---|")
    for threads in (2, 16, 128, 1024, 8192):
        length = max(cluster.TASK_SECONDS, threads / cluster.TASKS_A_SECOND, seconds)
        tasks = MILLION * seconds / length
        parts = {
            "computing": MILLION * seconds / threads,
            "disk": MILLION * disk / MB / STORAGE,
            "scheduler and client": tasks / rate,
            "network": (MILLION * (item + row) + tasks * task) / MB / NETWORK,
        }
        slowest = max(parts, key=parts.get)
        hours = " | ".join(f"{part / 3600:.3f}" for part in parts.values())
        print(f"| {threads} | {hours} | {tasks:.0f} | {length:.1f} | {slowest} |")
    print(f"one clip a task would keep scheduler and client busy for {MILLION / rate / 3600:.2f} hours")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["COURSE_WORKSPACE"] = str(folder / "workspace")
        rows = make_clips(folder, 4 * arguments.clips)
        settings = {"n_workers": arguments.processes, "threads_per_worker": 1, "dashboard_address": None}
        with distributed.LocalCluster(**settings, silence_logs=50) as local:
            compare(folder, rows, arguments, local.scheduler_address)


def compare(folder: Path, rows: list[dict], arguments: argparse.Namespace, address: str) -> None:
    """The two side by side, then the inputs, then the computed table."""
    for one in ("", address):  # both have started, and both know the code
        cut(folder, rows[:4], f"warm{bool(one)}", processes=arguments.processes, address=one)
    print(
        "| clips | joblib, s | Dask, s | Dask / joblib | joblib, ms a clip | Dask, ms a clip |\n|---|---|---|---|---|---|"
    )
    for times in (1, 2, 4):
        count, found = times * arguments.clips, {}
        for kind, one in (("joblib", ""), ("dask", address)):
            found[kind] = cut(folder, rows[:count], f"{kind}{times}", processes=arguments.processes, address=one)
        (expected, here), (table, there) = found["joblib"], found["dask"]
        pd.testing.assert_frame_equal(expected, table)
        print(
            f"| {count} | {here:.2f} | {there:.2f} | {there / here:.2f} | {1e3 * here / count:.1f} | {1e3 * there / count:.1f} |"
        )
    seconds = there * arguments.processes / count
    (item, task), (dask, ours) = bytes_sent(rows, folder), tasks_per_second(address)
    row = len(pickle.dumps(table.to_dict("records")[:100])) / 100
    read = sum(path.stat().st_size for path in (folder / "clips").rglob("*.avi")) / len(rows)
    written = sum(path.stat().st_size for path in (folder / "dask4").rglob("*") if path.is_file()) / count
    print(f"\nseconds of one process for a clip: {seconds:.4f}")
    print(f"bytes sent for a clip {item:.0f}, for a task {task:.0f} more; bytes of its row {row:.0f}")
    print(f"bytes read of a clip {read:.0f}, written {written:.0f}")
    print(f"empty tasks a second: Dask, all at once {dask:.0f}; by helpers.cluster, one by one {ours:.0f}")
    print_million(seconds, item, task, row, read + written, ours)


if __name__ == "__main__":
    main()
