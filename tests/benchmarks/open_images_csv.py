"""Rows a second and peak memory of filtering Open Images' boxes, against pandas in chunks; ratios of one run.

Usage: python tests/benchmarks/open_images_csv.py [--rows 1000000] [--rounds 5] [--folder FOLDER]
Draws a file in the layout of V6 (21 columns, sorted by image, 0.54 % boats; a million rows are 155 MB; train has 14.6
million), which stays in the system's cache, so that no disk is measured. Every reading has a process of its own; its start
and its imports are not measured, and the memory that they take stands beside the peak.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

import numpy as np
import pandas as pd

from helpers.boat_detection.sources import open_images

BOAT, KINDS = "/m/019jd", ["/m/019jd", "/m/01btn", "/m/02068x", "/m/0ph39"]
SHARE = 0.0054
USED = list(open_images.BOX_COLUMNS)
TYPES = dict.fromkeys(open_images.EDGES, "float32") | dict.fromkeys(open_images.FLAGS, "int8")
TYPES |= {"ImageID": str, "Source": str, "LabelName": "category", "Confidence": "float32"}


def draw_file(path: Path, rows: int) -> None:
    """Eight boxes an image; the random part of the lines repeats after 20 000."""
    rng = np.random.default_rng(0)
    count = 20_000
    others = [f"/m/0{number:05x}" for number in rng.integers(16**4, 16**5, 600)]
    labels = np.where(rng.random(count) < SHARE, BOAT, rng.choice(others, count))
    sides = np.sort(rng.random((count, 2, 2)), axis=2).reshape(count, 4)
    flags, clicks = rng.integers(0, 2, (count, 5)), rng.random((count, 8))
    tails = []
    for label, side, flag, click in zip(labels, sides, flags, clicks, strict=True):
        cells = [*map("{:.6f}".format, side), *map(str, flag), *map("{:.6f}".format, click)]
        tails.append(f",xclick,{label},1,{','.join(cells)}")
    header = [*open_images.BOX_COLUMNS, *(f"XClick{number}{axis}" for axis in "XY" for number in range(1, 5))]
    with path.open("w") as file:
        file.write(",".join(header) + "\n")
        for start in range(0, rows, count):
            file.writelines(f"{(start + k) // 8 * 5003:016x}{tails[k]}\n" for k in range(min(count, rows - start)))


def read_in_chunks(path: Path, **options) -> pd.DataFrame:
    """The way of the textbooks."""
    chunks = pd.read_csv(path, chunksize=500_000, **options)
    return pd.concat([chunk[chunk["LabelName"] == BOAT] for chunk in chunks])


VARIANTS = {
    "filter_boxes": lambda path: open_images.filter_boxes(path, [BOAT]),
    "filter_boxes, boats of four kinds": lambda path: open_images.filter_boxes(path, KINDS),
    "pandas in chunks, 13 columns typed": lambda path: read_in_chunks(path, usecols=USED, dtype=TYPES),
    "pandas in chunks, as it comes": lambda path: read_in_chunks(path, dtype={"ImageID": str}),
    "pandas, the whole file": lambda path: pd.read_csv(path, usecols=USED, dtype=TYPES).query(f"LabelName == '{BOAT}'"),
}


def peak() -> float:
    """Most memory that this process has held, in MB (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def read(name: str, path: Path) -> None:
    """In a process of its own: print seconds, memory before and at most, and rows found."""
    before, began = peak(), time.perf_counter()
    found = len(VARIANTS[name](path))
    print(json.dumps([time.perf_counter() - began, before, peak(), found]))


def measure(name: str, path: Path) -> list[float]:
    """What `read` prints."""
    command = [sys.executable, __file__, "--read", name, "--folder", str(path)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Draw the file, run all variants in turns, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        return read(arguments.read, arguments.folder)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "boxes.csv"
        draw_file(path, arguments.rows)
        print(f"{arguments.rows} rows, {path.stat().st_size / 1e6:.0f} MB")
        found = {name: [] for name in VARIANTS}
        for _ in range(arguments.rounds):
            for name in VARIANTS:
                found[name].append(measure(name, path))
    ours = [seconds for seconds, *_ in found["filter_boxes"]]
    rows = [
        {
            "reader": name,
            "rows/s": arguments.rows / statistics.median(value[0] for value in values),
            "time / ours": statistics.median(value[0] / base for value, base in zip(values, ours, strict=True)),
            "MB before": max(value[1] for value in values),
            "MB peak": max(value[2] for value in values),
            "boxes": values[0][3],
        }
        for name, values in found.items()
    ]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
