"""How fast cutting clips, feeding the training, checkpoints and resuming are; prints ratios measured side by side.

Usage: python tests/benchmarks/temporal_coherence.py [--parts cut feed checkpoints] [--clips FOLDER] [--out FOLDER]
Both sides of a comparison write the same files; on a slow disk that hides the rest, so that `--out /dev/shm` tells more.
"""

import argparse
import contextlib
import io
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import cv2
import pandas as pd
from joblib.externals import loky

from helpers import training
from helpers.temporal_coherence import runs, steps
from helpers.temporal_coherence.batches import Frames, PairBatches
from helpers.temporal_coherence.config import TemporalCoherenceConfig
from helpers.temporal_coherence.mini import dataset

SIZE = 67  # pixels of the frames that the tiny trunk trains on
BATCH = 32


def seconds_of(function, *arguments) -> float:
    """Wall time of one call, its prints swallowed."""
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        function(*arguments)
    return time.perf_counter() - began


def show(title: str, rows: list[dict]) -> None:
    """Print a small table and the load of the machine."""
    print(f"\n{title}  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format), flush=True)


# --- cutting clips ---


def thesis_clip(clip: Path, out: Path, *, size: int) -> None:
    """The thesis's loop over one clip: decode everything, resize and write what the window says."""
    out.mkdir(parents=True)
    capture = cv2.VideoCapture(str(clip))
    done, current = capture.read()
    following_done, following = capture.read()
    i = k = 0
    while done and following_done:
        if i % 10 == 0:
            cv2.imwrite(str(out / f"query_frame_{k:05d}.jpg"), cv2.resize(current, (size, size)))
            if k % 5 != 0:
                cv2.imwrite(str(out / f"next_frame_{k:05d}.jpg"), cv2.resize(following, (size, size)))
            k += 1
        current = following
        following_done, following = capture.read()
        i += 1


def thesis_all(clips: Path, out: Path, *, size: int = 227) -> None:
    """One clip after another."""
    for clip in sorted(clips.glob("*/*.avi")):
        thesis_clip(clip, out / clip.parent.name / clip.stem, size=size)


def local_config(clips: Path, **changes) -> TemporalCoherenceConfig:
    """The config of a folder of clips, at the thesis's size."""
    options = {"source": "local", "local_folder": str(clips), "classes": (), "split_by": "clip", "validation_groups": 1}
    return TemporalCoherenceConfig(**options | {"allow_cpu": True} | changes)


def cut(clips: Path, place: Path) -> Path:
    """Step preprocess in a fresh workspace; its folder of frames."""
    return steps.preprocess(local_config(clips), place).folder / "frames"


def same_files(ours: Path, theirs: Path) -> int:
    """How many pictures there are; an error unless both folders hold the same ones, byte for byte."""
    trees = [{path.relative_to(root): path.read_bytes() for path in root.rglob("*.jpg")} for root in (ours, theirs)]
    if trees[0] != trees[1]:
        raise AssertionError("the two loops wrote different files")
    return len(trees[0])


def measure_cutting(clips: Path, out: Path, *, repeats: int) -> None:
    """Part a: clips per second, the thesis's loop beside step preprocess with cold and with warm worker processes."""
    count = len(list(clips.glob("*/*.avi")))
    times = {"thesis's loop": [], "step preprocess, workers started within": [], "step preprocess": []}
    for _ in range(repeats):
        loky.get_reusable_executor().shutdown(wait=True)
        for name, taken in times.items():
            folder = Path(tempfile.mkdtemp(dir=out))
            if name.startswith("thesis"):
                taken.append(seconds_of(thesis_all, clips, folder / "theirs"))
                theirs = folder / "theirs"
            else:
                steps.build_dataset(local_config(clips), folder)
                taken.append(seconds_of(cut, clips, folder))
                pictures = same_files(cut(clips, folder), theirs)
                shutil.rmtree(folder)
        shutil.rmtree(theirs.parent)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    slow = medians["thesis's loop"]
    rows = [
        {"way": name, "s": median, "best": min(times[name]), "clips/s": count / median, "ratio": slow / median}
        for name, median in medians.items()
    ]
    show(f"a. {count} clips -> {pictures} equal pictures, median of {repeats}", rows)
    startup = medians["step preprocess, workers started within"] - medians["step preprocess"]
    print(f"starting the worker processes takes {startup:.2f} s, once")


# --- feeding ---


def drawn_pairs(out: Path) -> tuple[pd.DataFrame, Path]:
    """Pairs of a drawn data set at the size of the tiny trunk, and the folder of their frames."""
    clips = out / "drawn"
    with contextlib.redirect_stdout(io.StringIO()):
        dataset.make_dataset(clips, groups=range(1, 9))
        config = local_config(clips, size=SIZE, step=4, gap=4)
        steps.build_dataset(config, out)
        done = steps.preprocess(config, out)
    return done.table("pairs"), done.folder


def make_batches(pairs: pd.DataFrame, folder: Path, *, cached: bool) -> PairBatches:
    """The sampler of a contrastive training."""
    frames = Frames(folder, count=2 * len(pairs), size=SIZE)
    frames.cache = {} if cached else None
    return PairBatches(pairs, frames, negatives="clean", batch_size=BATCH, seed=0)


def pairs_per_second(batches: PairBatches, workers: int, steps_taken: int) -> float:
    """Speed of `training.prefetch` when nothing else happens."""
    feed = training.prefetch(batches.batch, 0, workers=workers)
    with contextlib.closing(feed):
        began = time.perf_counter()
        for _ in itertools.islice(feed, steps_taken):
            pass
    return BATCH * steps_taken / (time.perf_counter() - began)


def network(total_steps: int = 1000):
    """The tiny network of mini, compiled."""
    config = TemporalCoherenceConfig(
        source="mini", variant="tiny", embedding_dim=64, size=SIZE, optimizer="adam", schedule="constant"
    )
    return runs.build_network(config, "contrastive", total_steps=total_steps)[0]


def measure_feeding(out: Path, *, repeats: int) -> None:
    """Part b: pairs per second of the input with the cache off and on, beside the training step's own speed."""
    pairs, folder = drawn_pairs(out)
    rows = []
    for cached, workers in itertools.product((False, True), (1, 2, 4)):
        batches = make_batches(pairs, folder, cached=cached)
        if cached:
            pairs_per_second(batches, workers, batches.steps_per_epoch)  # fills the cache
        speeds = [pairs_per_second(batches, workers, 60) for _ in range(repeats)]
        rows.append(
            {"input": f"cache {'on' if cached else 'off'}, {workers} workers", "pairs/s": statistics.median(speeds)}
        )
    x, y = make_batches(pairs, folder, cached=True).batch(0)
    model = network()
    model.train_on_batch(x, y)
    taken = [seconds_of(model.train_on_batch, x, y) for _ in range(20 * repeats)]
    own = BATCH / statistics.median(taken)
    rows.append({"input": "training step alone", "pairs/s": own})
    show(
        f"b. input of {len(pairs)} pairs, batches of {BATCH}",
        [row | {"of the step's": row["pairs/s"] / own} for row in rows],
    )


# --- checkpoints ---


def fit(folder: Path, batches: PairBatches, checkpoint_every: int | None = None) -> None:
    """Train the tiny network for 4 epochs of 25 steps."""
    training.fit(
        network(),
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        epochs=4,
        steps_per_epoch=25,
        checkpoint_every=checkpoint_every,
    )


def seconds_to_first_step(folder: Path, batches: PairBatches, *, epochs: int) -> float:
    """From the call of `fit` to the end of its first step, building of the network left out."""
    import keras

    class Stop(Exception):
        pass

    class First(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise Stop

    model = network()
    began = time.perf_counter()
    with contextlib.suppress(Stop), contextlib.redirect_stdout(io.StringIO()):
        training.fit(
            model, lambda step: training.prefetch(batches.batch, step), run_dir=folder, epochs=epochs,
            steps_per_epoch=25, callbacks=[First()],
        )  # fmt: skip
    return time.perf_counter() - began


def measure_checkpoints(out: Path, *, repeats: int) -> None:
    """Part c: 100 steps with a state every 5 against at epoch ends only, and a resume against a fresh start."""
    pairs, folder = drawn_pairs(out)
    batches = make_batches(pairs, folder, cached=True)
    times = {"states at epoch ends (5)": [], "states every 5 steps (21)": [], "fresh start": [], "resume": []}
    for _ in range(repeats):
        runs = Path(tempfile.mkdtemp(dir=out))
        times["states at epoch ends (5)"].append(seconds_of(fit, runs / "a", batches))
        times["states every 5 steps (21)"].append(seconds_of(fit, runs / "b", batches, 5))
        times["fresh start"].append(seconds_to_first_step(runs / "c", batches, epochs=5))
        times["resume"].append(seconds_to_first_step(runs / "a", batches, epochs=5))
    size = max(path.stat().st_size for path in (runs / "a" / "checkpoints").iterdir()) / 1e6
    rows = [{"run": name, "s": statistics.median(taken), "best": min(taken)} for name, taken in times.items()]
    show(f"c. 100 steps of the tiny network, a state is {size:.2f} MB; then seconds to the first step", rows)
    extra = (rows[1]["s"] - rows[0]["s"]) / 16
    print(f"one state costs {1000 * extra:.0f} ms")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--parts", nargs="+", default=["cut", "feed", "checkpoints"], choices=["cut", "feed", "checkpoints"]
    )
    parser.add_argument(
        "--clips", type=Path, help="folder Class/clip.avi; default: 60 drawn clips of 320x240, 187 frames"
    )
    parser.add_argument("--out", type=Path, help="folder to write to; default: the system's temporary folder")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.out) as folder:
        out = Path(folder)
        if "cut" in options.parts:
            clips = options.clips
            if clips is None:
                clips = out / "clips"
                with contextlib.redirect_stdout(io.StringIO()):
                    dataset.make_dataset(clips, groups=range(1, 6), frames=(187, 187), size=(240, 320))
            measure_cutting(clips, out, repeats=options.repeats)
        if "feed" in options.parts:
            measure_feeding(out, repeats=options.repeats)
        if "checkpoints" in options.parts:
            measure_checkpoints(out, repeats=options.repeats)


if __name__ == "__main__":
    main()
