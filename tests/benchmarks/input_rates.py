"""Items a second that the input of each project gives at the sizes of `t4.yaml` and `full.yaml`, and bytes of a stored picture.

Usage: python tests/benchmarks/input_rates.py [--seconds 5]
The rates stand in `helpers/<project>/config.py`, whose `needs` computes minutes from them. Files are made of scikit-learn's two
photos and stay in the system's cache, so that no disk is measured; batches come from `training.prefetch` with a thread per core.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import cv2
import numpy as np
import pandas as pd
from sklearn.datasets import load_sample_image

from helpers import batches as shared
from helpers import config, training
from helpers.boat_detection import runs as boats
from helpers.circulant_video import batches as circulant
from helpers.circulant_video import data as records
from helpers.face_animation.batches import Batches as Faces
from helpers.lip_reading.augment import Augmentation
from helpers.lip_reading.batches import Batches as Lips
from helpers.temporal_coherence.batches import Frames, build_batches

rng = np.random.default_rng(0)
PHOTOS = [load_sample_image(name)[:, :, ::-1] for name in ("china.jpg", "flower.jpg")]


def settings(project: str, name: str):
    return config.load(config.find(project, name), config.schema_of(project))


def write(folder: Path, name: str, size: tuple[int, int], options: list[int]) -> int:
    """A part of a photo, (height, width) pixels, as a file; its bytes."""
    photo = PHOTOS[int(rng.integers(2))]
    part = photo[rng.integers(60) :, rng.integers(60) :][:360, :540]
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.resize(part, size[::-1], interpolation=cv2.INTER_AREA), options)
    return path.stat().st_size


def temporal(folder: Path, name: str) -> Iterator[tuple]:
    options, each = settings("temporal_coherence", name), [cv2.IMWRITE_JPEG_QUALITY, 95]
    size = [write(folder, f"{place}.jpg", (options.size, options.size), each) for place in range(400)]
    rows = [{"path_query": f"{i}.jpg", "path_next": f"{i + 1}.jpg" if i % 10 else "", "video": str(i // 4), "group": str(i // 8),
             "class": "a", "label": 0} for i in range(0, 400, 2)]  # fmt: skip
    pairs, frames = pd.DataFrame(rows), Frames(folder, count=10**9, size=options.size)
    for loss in dict.fromkeys((options.loss, *options.compare)):
        more = {key: getattr(options, key) for key in ("negatives", "augment", "seed")}
        yield f"{loss}", build_batches(loss, pairs, frames, everything=pairs, batch_size=64, **more), np.mean(size)


def circulants(folder: Path, name: str) -> Iterator[tuple]:
    options, shape = settings("circulant_video", name), {"rgb": 1024, "audio": 128}

    def videos():
        for number in range(400):
            count = int(rng.integers(120, 301))
            features = {key: rng.integers(0, 256, (count, size), np.uint8) for key, size in shape.items()}
            labels = (np.arange(3862) < 3).astype(np.uint8)
            yield {"id": str(number), "labels": labels, "num_frames": count, **features}

    from helpers.circulant_video.formats import examples, tfrecord

    path = folder / "train0000.tfrecord"
    parts = ((one["id"], np.flatnonzero(one["labels"]), {key: one[key] for key in shape}) for one in videos())
    tfrecord.write_records(path, [examples.encode_frame_level(*part) for part in parts])
    layout = {"feature_names": (*shape,), "feature_sizes": (*shape.values(),), "classes": 3862, "max_frames": 300}
    began = time.perf_counter()
    records.convert_shard(path, folder, **layout)
    print(f"converting on one core: {400 / (time.perf_counter() - began):.0f} videos a second")
    found = circulant.Videos(folder, ["train0000"])
    yield (
        "videos",
        circulant.Batches(found, batch_size=options.batch_size, length=300, halves=True),
        path.stat().st_size / 400,
    )


def boat_pictures(folder: Path, name: str) -> Iterator[tuple]:
    options = settings("boat_detection", name)
    width = options.max_side or 1024
    size = [
        write(folder, f"{place}.jpg", (width * 2 // 3, width), [cv2.IMWRITE_JPEG_QUALITY, 90]) for place in range(100)
    ]
    names = [f"{place}" for place in range(100)]
    pictures = pd.DataFrame({"image": names, "path": [str(folder / f"{place}.jpg") for place in names]})
    boxes = pd.DataFrame({"image": names, "class": 0, "x1": 0.2, "y1": 0.2, "x2": 0.6, "y2": 0.6, "ignore": False})
    made = boats.build_batches(options, pictures, boxes)
    made._room = 0  # 2 000 pictures of 640 pixels are three times what the cache holds
    yield "pictures", made, np.mean(size)


def lips(folder: Path, name: str) -> Iterator[tuple]:
    options = settings("lip_reading", name)
    clips = rng.integers(0, 256, (200, options.len_video, *options.size, 1), np.uint8)
    more = {key: getattr(options, key) for key in ("batch_size", "mixup", "label_smoothing")}
    made = Lips(clips, np.zeros(200, int), num_classes=10, augmentation=Augmentation.of(options), **more)
    yield "clips", made, clips[0].nbytes


def faces(folder: Path, name: str) -> Iterator[tuple]:
    options = settings("face_animation", name)
    size = [write(folder, f"{clip}.mp4/{frame:07d}.png", (options.size, options.size), []) for clip in range(20)
            for frame in range(10)]  # fmt: skip
    clips = pd.DataFrame(
        {"clip": [f"{clip}.mp4" for clip in range(20)], "path": [f"{clip}.mp4" for clip in range(20)], "frames": 10}
    )
    yield (
        "pairs",
        Faces(clips, folder, size=(options.size,) * 2, batch_size=options.batch_size, repeats=10),
        np.mean(size),
    )


INPUTS = {
    "temporal_coherence": temporal,
    "circulant_video": circulants,
    "boat_detection": boat_pictures,
    "lip_reading": lips,
    "face_animation": faces,
}


def rate(made: shared.Batches, seconds: float) -> float:
    """Items a second of batches made ahead of use."""
    with contextlib.closing(training.prefetch(made.batch)) as feed:
        next(feed)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < seconds:
            next(feed)
            count += made.batch_size
        return count / (time.perf_counter() - began)


def main() -> None:
    """Measure all, print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5)
    seconds, rows = parser.parse_args().seconds, []
    for project, make in INPUTS.items():
        for name in ("t4", "full"):
            with tempfile.TemporaryDirectory() as folder:
                for items, made, size in make(Path(folder), name):
                    rows.append((project, name, items, rate(made, seconds), size / 1e3))
    print(f"{runtime.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        pd.DataFrame(rows, columns=["project", "setting", "items", "a second", "kB stored"])
        .round(1)
        .to_string(index=False)
    )


if __name__ == "__main__":
    main()
