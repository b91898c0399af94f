"""Lips cut once and cached, beside finding the face again in every frame of every epoch as the original does.

Usage: python tests/benchmarks/lip_reading_input.py [--model YUNET.onnx] [--speakers 2] [--repeats 2] [--epochs 5]
Draws talking faces, then times side by side: cutting them (decode, find the face, track, crop, cache; on all cores), reading the
cache, training batches from it with and without augmentation, and one epoch of the original's way (decode, find, crop, one clip
after the other). Without --model the face finder is fetched once. Prints seconds and ratios of one run.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

import dataclasses

import numpy as np
import pandas as pd

from helpers import config, video
from helpers.lip_reading import data, faces, lips
from helpers.lip_reading.augment import Augmentation
from helpers.lip_reading.batches import Batches
from helpers.lip_reading.config import LipReadingConfig
from helpers.lip_reading.data import pick_frames
from helpers.lip_reading.mini import dataset


def main() -> None:
    options = read_options()
    settings = config.load(config.find("lip_reading", "mini"), LipReadingConfig)
    settings = dataclasses.replace(settings, lips="detect")
    finder = options.model or faces.fetch_model()
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder) / "clips", Path(folder) / "cache"
        table = dataset.make_dataset(root, speakers=options.speakers, repeats=options.repeats).query("broken == ''")
        table = table.assign(start=np.nan, end=np.nan).reset_index(drop=True)
        cut_seconds, done = timed(data.prepare_all, table, root, cache, settings, model_path=finder)
        good = done[done["error"] == ""]
        clips = data.load_clips(cache, good["cache"].tolist(), length=settings.len_video)
        load_seconds, loaded = timed(lambda: np.stack([*clips]))
        anew_seconds, _ = timed(original_epoch, good, root, settings, finder)
        rates = {name: clips_per_second(loaded, settings, which) for name, which in
                 (("batches, plain", None), ("batches, augmented", Augmentation.of(settings)))}  # fmt: skip
    print(f"{len(good)} clips, {int(good['frames'].sum())} frames")
    each = good["frames"].sum() / np.array([cut_seconds, anew_seconds])
    print(f"cut once: {each[0]:.0f} crops a second; in every epoch: {each[1]:.0f}")
    for epochs in (1, options.epochs, 100):
        print(f"{epochs} epochs, finding faces anew / cutting once and reading the cache: "
              f"{epochs * anew_seconds / (cut_seconds + load_seconds):.1f}")  # fmt: skip
    anew = len(good) / anew_seconds
    print(
        pd.DataFrame({"clips a second": rates | {"decode, find and crop": anew}})
        .assign(ratio=lambda t: t / anew)
        .round(1)
    )


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--speakers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=5)
    return parser.parse_args()


def timed(function, *arguments, **options):
    began = time.perf_counter()
    result = function(*arguments, **options)
    return time.perf_counter() - began, result


def original_epoch(table: pd.DataFrame, root: Path, settings: LipReadingConfig, finder) -> None:
    """Every clip decoded, its face found in each frame, cropped and cut in time, as the original's loader does each epoch."""
    for row in table.itertuples():
        frames = list(video.read_frames(root / row.path))
        points = faces.stack_points(faces.find_face_points(frame, finder) for frame in frames)
        crops = lips.to_grey(lips.crop_lips(frames, faces.track_points(points), settings.size))
        crops[pick_frames(len(crops), settings.len_video, fps=row.fps)]


def clips_per_second(loaded: np.ndarray, settings: LipReadingConfig, augmentation, steps: int = 60) -> float:
    batches = Batches(
        loaded, np.zeros(len(loaded), int), num_classes=8, batch_size=settings.batch_size, augmentation=augmentation
    )
    seconds, _ = timed(lambda: [batches.batch(step) for step in range(steps)])
    return steps * settings.batch_size / seconds


if __name__ == "__main__":
    main()
