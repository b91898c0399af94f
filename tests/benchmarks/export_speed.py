"""Size, distance and speed of LiteRT files beside Keras: mini's trained networks on mini's test side, one item at a time.

Usage: python tests/benchmarks/export_speed.py [PROJECT ...] [--workspace DIR] [--items 60]
What is missing of mini is made first. Keras and the files take turns on every item, so load that comes and goes meets all; the
ratio is Keras's time over the file's, median and tenth to ninetieth percentile over the items. Keras runs what is fastest there:
boats compiled by XLA, lips with Keras's own 3-D layers. Set TF_NUM_INTRAOP_THREADS for fewer threads than cores.
"""

import argparse
import os
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ.setdefault("COURSE_PROGRESS", "0")

from helpers import runtime

runtime.quiet_start()

import numpy as np

from helpers import config, workspace
from helpers.boat_detection import data
from helpers.boat_detection.augment import resizing
from helpers.boat_detection.evaluation import finders
from helpers.course import export
from helpers.lip_reading import runs as lips_runs
from helpers.lip_reading.batches import Lips
from helpers.temporal_coherence import batches
from helpers.temporal_coherence import runs as temporal_runs
from helpers.temporal_coherence import steps as temporal_steps

COLUMNS = ("file", "bytes", "largest difference", "Keras, ms", "LiteRT, ms", "times as fast")


def boats(settings, place, done, count):
    finder = finders.load_finder(settings, done["train"].folder)
    finder.network.cfg = finder.cfg
    pictures, _ = data.side_of(done["preprocess"], done["split"], "test")
    read = (data.read_image(path) for path in pictures["path"][:count])
    return finder.network, np.stack([resizing.RESIZES[finder.resize](picture, finder.size)[0] for picture in read])


def lips(settings, place, done, count):
    clips = Lips.of(done["split"])
    network = lips_runs.load_network(settings, clips, done["train"].folder)
    return network, clips.clips[clips.rows("test")[:count]] / 255


def temporal(settings, place, done, count):
    pairs = batches.see(settings.inputs, done["split"].table("pairs"))
    names = pairs.loc[pairs["split"] == "test", "path_query"]
    frames = temporal_steps.frames_of(settings, place, pairs)
    network = temporal_runs.load_trunk(settings, done["train"], settings.loss)
    return network, frames.stack(names.iloc[:: max(1, len(names) // count)][:count].tolist())


PARTS = {"boat_detection": boats, "lip_reading": lips, "temporal_coherence": temporal}


def milliseconds(function, item) -> float:
    began = time.perf_counter()
    function(item)
    return 1000 * (time.perf_counter() - began)


def measure(project, place, count, folder) -> list[tuple]:
    """A row of `COLUMNS` for each precision."""
    settings = config.load(config.find(project, "mini"), config.schema_of(project))
    done = workspace.ensure(import_module(f"helpers.{project}.steps").STEPS, "train", settings, place)
    network, items = PARTS[project](settings, place, done, count)
    items, model = items.astype("float32"), export.build(project, network)
    keras_side = (network if project == "lip_reading" else model).predict_on_batch
    paths = {name: folder / f"{project}-{name}{export.SUFFIX}" for name in export.PRECISIONS}
    for name, path in paths.items():
        export.to_litert(model, path, precision=name)
    sides = {"Keras": keras_side} | {name: export.load_litert(path) for name, path in paths.items()}
    for side in sides.values():
        for item in items[:3]:
            side(item[None])
    times = {name: [] for name in sides}
    for item in items:
        for name, side in sides.items():
            times[name].append(milliseconds(side, item[None]))
    rows = []
    for name, path in paths.items():
        low, middle, high = np.percentile(np.divide(times["Keras"], times[name]), [10, 50, 90])
        off = export.difference(model, path, items)
        medians = (f"{np.median(times[side]):.1f}" for side in ("Keras", name))
        ratio = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        rows.append((f"{project}, {name}", f"{path.stat().st_size:,}", f"{off:.1e}", *medians, ratio))
    return rows


def main() -> None:
    """Measure, and print a table for a README."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("projects", nargs="*", default=list(PARTS), metavar="PROJECT")
    parser.add_argument("--workspace", default=str(runtime.repo_root() / "workspace"))
    parser.add_argument("--items", type=int, default=60)
    options = parser.parse_args()
    os.environ["COURSE_WORKSPACE"] = options.workspace
    place = workspace.open_workspace()
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    with tempfile.TemporaryDirectory() as folder:
        for project in options.projects:
            lines += measure(project, place, options.items, Path(folder))
    print(f"{runtime.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {runtime.versions()}")
    print("\n".join(f"| {' | '.join(line)} |" for line in lines))


if __name__ == "__main__":
    main()
