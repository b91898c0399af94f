"""A file of video features of one's own: the surest labels of its first videos, by their names. See `tryout`."""

import contextlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import intake, workspace
from helpers.circulant_video import batches, data, evaluation, runs, steps
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import vocabulary
from helpers.course import tryout, weights

VIDEOS, TOP = 5, 5  # videos of a file that are answered, and labels of each
NAMES = ("vocabulary.csv", "class_labels_indices.csv")  # YouTube-8M's and AudioSet's
GENUINE = {3862: "youtube8m", 527: "audioset"}  # number of labels -> manifest that knows their names
FEATURES = (
    "with one row of numbers a second: of public videos they can be had at research.google.com/youtube8m/download.html and "
    "research.google.com/audioset/download.html, of your own they are made by feature_extractor of github.com/google/youtube-8m"
)
LIMITS = {  # source -> what a network that was trained on it cannot do
    "mini": "they are drawn and their labels invented, and genuine records do not fit (1024 and 128 numbers a second, or 128 of "
    "sound alone): train on those with t4, or with source: audioset",
}


def answer(
    path: str | Path,
    network: keras.Model | Mapping[str, keras.Model] | None = None,
    config: CirculantVideoConfig | None = None,
) -> tryout.Answer:
    """The surest labels of the first videos of a file, as a table with a column of probabilities for each network.

    Args:
        path: a TFRecord file, frame level or video level.
        network: one, or several by name, of which the first orders the labels; without it the published ones.
        config: with which they were trained, without it that of the published ones.

    Raises:
        FileNotFoundError, ValueError: no such file, another kind, features that do not fit, or no record that can be used.
    """
    try:
        tryout.kind_of(path, intake.RECORDS)
    except ValueError as error:
        raise ValueError(f"{error} {FEATURES}") from None
    config = config or weights.settings("circulant_video")
    networks = network or runs.load_published(config)
    networks = networks if isinstance(networks, Mapping) else {"probability": networks}
    with tempfile.TemporaryDirectory() as folder:
        videos, notes = read_videos(path, config, Path(folder))
        rows = np.arange(min(VIDEOS, len(videos)))
        found = {}
        for name, one in networks.items():  # so few videos are one batch
            found[name], labels = next(evaluation.predict(one, videos, rows, length=config.max_frames))
    names = find_names(Path(path), config)
    notes = [
        f"the {TOP} surest labels of the first {len(rows)} of {len(videos)} videos",
        *notes,
        f"The network: {limits(config)}.",
    ]
    return tryout.Answer("table", notes, table=make_table(videos.ids[rows], found, labels, names))


def limits(config: CirculantVideoConfig) -> str:
    """What a network was trained on and so cannot do."""
    layout = zip(config.feature_names, config.feature_sizes, strict=True)
    sizes = " and ".join(f"{name} ({size} numbers a second)" for name, size in layout)
    return (
        f"trained on records of {sizes} with {config.classes} labels, and no other can come out; "
        f"{LIMITS.get(config.source, f'they came from source {config.source}')}"
    )


def read_videos(path: str | Path, config: CirculantVideoConfig, folder: Path) -> tuple[batches.Videos, list[str]]:
    """The videos of a file as step preprocess makes them, in `folder`, and what is to be said of them.

    A video-level record, the mean of a video's frames, becomes a video of one frame.

    Raises:
        ValueError: no record can be used.
    """
    layout = {name: getattr(config, name) for name in steps.LAYOUT}
    notes = []
    try:
        row = data.convert_shard(path, folder, shard="asked", **layout)
    except ValueError as error:
        try:
            row = data.convert_shard(path, folder, shard="asked", read=data.read_means, **layout)
        except ValueError:
            raise ValueError(f"{error}; the network was {limits(config)}") from None
        notes = [
            "video level: a video is the mean of its frames, and stands here as one frame; the network learned from many"
        ]
    if row["problems"]:
        first = "record {record}: {reason}".format(**row["problems"][0])
        notes.append(f"{len(row['problems'])} records cannot be used and are left out, the first is {first}")
    return batches.Videos(folder, ["asked"]), notes


def find_names(path: Path, config: CirculantVideoConfig) -> list[str]:
    """Names of the labels: mini's, or those of a vocabulary beside the file, or the manifest's; else their numbers."""
    if config.source == "mini":
        return list(dataset.ENTITIES)[: config.classes]
    for place in [folder / name for folder in (path.parent, path.parent.parent) for name in NAMES]:
        with contextlib.suppress(ValueError, FileNotFoundError):  # one of other labels may stand there
            return vocabulary.read_vocabulary(place, classes=config.classes)["name"].tolist()
    source = GENUINE.get(config.classes)
    if source and (path := vocabulary.fetch_names(source, workspace.open_workspace().downloads / source)):
        return vocabulary.read_vocabulary(path, classes=config.classes)["name"].tolist()
    return [str(label) for label in range(config.classes)]


def make_table(ids: np.ndarray, found: Mapping[str, np.ndarray], labels: np.ndarray, names: list[str]) -> pd.DataFrame:
    """One row a video and label: video, label, each network's probability, and whether the file itself has the label.

    Args:
        ids: (B,) of the videos.
        found: name of a network -> (B, classes) probabilities; the first one's order is taken.
        labels: (B, classes) of 0 and 1, those in the file.
    """
    rows = []
    for number, name in enumerate(ids):
        for label in np.argsort(-next(iter(found.values()))[number], kind="stable")[:TOP]:
            row = {"video": name, "label": names[label]} | {key: part[number, label] for key, part in found.items()}
            rows.append(row | {"in the file": "yes" if labels[number, label] else ""})
    return pd.DataFrame(rows).round(3)
