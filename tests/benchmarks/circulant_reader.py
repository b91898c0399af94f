"""How fast videos of YouTube-8M's full size are read; ratios to parsing, then padding to 300 frames, measured side by side.

Usage: python tests/benchmarks/circulant_reader.py [--videos 600] [--rounds 5] [--folder FOLDER]
The files are drawn once (600 videos are 150 MB) and stay in the system's cache, so that no disk is measured.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:] = [
    str(Path(__file__).resolve().parents[2]),
    *(path for path in sys.path if Path(path) != Path(__file__).parent),
]
os.environ["COURSE_PROGRESS"] = "0"

from helpers import runtime

runtime.quiet_start()

import numpy as np
import pandas as pd
import tensorflow as tf

from helpers import training
from helpers.circulant_video import batches, data
from helpers.circulant_video.formats import examples, tfrecord

BATCH, DRAWN, CLASSES, FRAMES = 80, 15, 3862, 300
SIZES = {"rgb": 1024, "audio": 128}
LAYOUT = {"feature_names": (*SIZES,), "feature_sizes": (*SIZES.values(),), "classes": 3862, "max_frames": 300}


def draw_files(folder: Path, videos: int) -> list[Path]:
    """Four files of videos of 120 to 300 frames of noise, as large as genuine ones."""
    rng = np.random.default_rng(0)
    paths = [folder / f"train{number:04d}.tfrecord" for number in range(4)]
    for path in paths:
        payloads = []
        for number in range(videos // len(paths)):
            frames = int(rng.integers(120, FRAMES + 1))
            features = {name: rng.integers(0, 256, (frames, size), np.uint8) for name, size in SIZES.items()}
            payloads.append(
                examples.encode_frame_level(f"{number:04d}", rng.choice(CLASSES, 3, replace=False), features)
            )
        tfrecord.write_records(path, payloads)
    return paths


# --- TensorFlow ---


def _parse(record: tf.Tensor) -> tuple:
    context, lists = tf.io.parse_single_sequence_example(
        record,
        {"id": tf.io.FixedLenFeature([], tf.string), "labels": tf.io.VarLenFeature(tf.int64)},
        {name: tf.io.FixedLenSequenceFeature([], tf.string) for name in SIZES},
    )
    labels = tf.reduce_max(tf.one_hot(tf.sparse.to_dense(context["labels"]), CLASSES), axis=0)
    return lists, labels


def _pad(record: tf.Tensor) -> tuple:
    """Decode all, dequantise, fill up to 300 frames: as the original."""
    lists, labels = _parse(record)
    columns = [tf.cast(tf.io.decode_raw(lists[name], tf.uint8), tf.float32) for name in SIZES]
    frames = (tf.concat(columns, axis=1) * (4 / 255) + (4 / 512 - 2))[:FRAMES]
    count = tf.shape(frames)[0]
    return tf.ensure_shape(tf.pad(frames, [[0, FRAMES - count], [0, 0]]), (FRAMES, 1152)), count, labels


def _sample(record: tf.Tensor) -> tuple:
    """Draw 15 frames, decode only these, keep bytes."""
    lists, labels = _parse(record)
    count = tf.shape(lists["rgb"])[0]
    picks = tf.cast(tf.random.uniform([DRAWN]) * tf.cast(count, tf.float32), tf.int32)
    frames = tf.concat([tf.io.decode_raw(tf.gather(lists[name], picks), tf.uint8) for name in SIZES], axis=1)
    return frames, count, labels


def read_tensorflow(paths: list[Path], parse: Callable) -> Iterator:
    """tf.data with its own parallel reading and parsing."""
    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    serialized = files.interleave(
        tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE, deterministic=False
    )
    batches = serialized.map(parse, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(tf.data.AUTOTUNE)
    return ((frames, len(count)) for frames, count, _ in batches)


# --- the course's readers ---


def stream(paths: list[Path]) -> Iterator:
    """`data.read_frame_level`, in one thread."""
    batch = []
    for video in data.read_frame_level(paths, problems=[]):
        batch.append(np.concatenate([video["rgb"], video["audio"]], axis=1))
        if len(batch) == BATCH:
            yield batch, len(batch)
            batch = []
    yield batch, len(batch)


def convert(paths: list[Path], folder: Path) -> Iterator:
    """Build the cache anew."""
    for path in paths:
        (folder / f"{path.stem}.json").unlink(missing_ok=True)
        yield [], data.convert_shard(path, folder, **LAYOUT)["videos"]


def cached_samples(videos: batches.Videos) -> Iterator:
    """15 frames a video from the cache, in random order."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(videos))
    for start in range(0, len(videos), BATCH):
        rows = order[start : start + BATCH]
        picks = (rng.random((len(rows), DRAWN)) * videos.num_frames[rows, None]).astype(int)
        drawn = [videos.frames(row)[pick] for row, pick in zip(rows, picks, strict=True)]
        yield drawn, len(videos.labels(rows))


def cached_batches(videos: batches.Videos) -> Iterator:
    """Training batches of whole videos, cut in halves, through two threads."""
    feed = batches.Batches(videos, batch_size=min(BATCH, len(videos)), length=LAYOUT["max_frames"], halves=True)
    source = training.prefetch(feed.batch)
    for _ in range(feed.steps_per_epoch):
        yield next(source)[0]["frames"], feed.batch_size
    source.close()


def measure(function: Callable[[], Iterator]) -> tuple[float, float]:
    """Videos a second, and megabytes of the largest batch."""
    began, videos, size = time.perf_counter(), 0, 0
    for frames, count in function():
        videos += count
        size = max(size, sum(map(bytes_of, frames)) if isinstance(frames, list) else bytes_of(frames))
    return videos / (time.perf_counter() - began), size / 1e6


def bytes_of(array) -> int:
    """Bytes of an array or tensor."""
    return int(np.prod(array.shape)) * (4 if array.dtype in (tf.float32, np.float32) else 1)


def main() -> None:
    """Draw the files, run all variants in turns, print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as temporary:
        folder = Path(temporary)
        paths = draw_files(folder, arguments.videos)
        for _ in convert(paths, folder / "cache"):
            pass
        videos = batches.Videos(folder / "cache", [path.stem for path in paths])
        variants = {
            "tf.data: parse, dequantise, pad to 300": lambda: read_tensorflow(paths, _pad),
            "tf.data: sample 15, then decode": lambda: read_tensorflow(paths, _sample),
            "read_frame_level": lambda: stream(paths),
            "convert_shard (once)": lambda: convert(paths, folder / "cache"),
            "cache: 15 frames": lambda: cached_samples(videos),
            "cache: Batches, halves of 150 as bytes": lambda: cached_batches(videos),
        }
        found = {name: [] for name in variants}
        for _ in range(arguments.rounds):
            for name, function in variants.items():
                found[name].append(measure(function))
    first = [speed for speed, _ in next(iter(found.values()))]
    rows = [
        {
            "reader": name,
            "videos/s": statistics.median(speed for speed, _ in values),
            "ratio": statistics.median(speed / base for (speed, _), base in zip(values, first, strict=True)),
            "MB per batch": max(size for _, size in values),
        }
        for name, values in found.items()
    ]
    print(f"{len(videos)} videos of 1152 bytes a frame  (load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores)")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.4g}".format))


if __name__ == "__main__":
    main()
