"""Draws a small YouTube-8M in the genuine on-disk format: TFRecord files under genuine names and a vocabulary, in seconds.

Every class has three pictures (prototypes of rgb) and one sound. A video has one to three labels and is cut into shots of
four seconds, each of which shows one of its labels or nothing in particular, under noise: which labels a video has can be
told from its frames together, hardly from one.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from helpers.circulant_video import data
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.sources.youtube8m import LETTERS
from helpers.workspace import disk

ENTITIES = {  # invented counts, plausible names; the most frequent first
    "Village festival": "Arts & Entertainment", "Toy railway": "Hobbies & Leisure", "Street food": "Food & Drink",
    "Paper boat": "Hobbies & Leisure", "Mountain hut": "Travel", "Choir": "Arts & Entertainment",
    "Bicycle repair": "Autos & Vehicles", "Beekeeping": "Pets & Animals", "Board game": "Games", "Ferry": "Autos & Vehicles",
    "Tide pool": "Science", "Bread, rye": "Food & Drink", "Kite": "Hobbies & Leisure", "Alpine goat": "Pets & Animals",
    "Accordion": "Arts & Entertainment", "Table tennis": "Sports", "Greenhouse": "Home & Garden", "Lighthouse": "Travel",
    "Fencing": "Sports", "Pottery": "Arts & Entertainment", "Telescope": "Science", "Canoe": "Sports",
    "Puppet \"Kasper\"": "Arts & Entertainment", "Snow plough": "Autos & Vehicles",
}  # fmt: skip
FEATURES = {"rgb": 64, "audio": 16}
SHARDS = {  # file -> videos; by the paper's split 800 train and 300 are held out
    **{f"train{number:04d}": 100 for number in range(7)},
    "validate0000": 100,  # its official name is validateaa: a letter first, so it joins the training
    **dict.fromkeys(("validate3224", "validate3534", "validate3843"), 100),
    "test0000": 100,  # without labels, as in the official test set
}
SHOT = 4  # frames
DAMAGES = ("checksum", "length", "width", "label", "empty", "cut")


def draw_video(
    rng: np.random.Generator, prototypes: Mapping[str, np.ndarray], frames: tuple[int, int] = (20, 40)
) -> tuple[list[int], dict[str, np.ndarray]]:
    """One video of `draw_prototypes`: its labels, and its dequantised features (T, size) by name; `frames`: least and most T."""
    classes = len(next(iter(prototypes.values())))
    prior = np.arange(1, classes + 1) ** -0.7  # Zipf's law, softened
    labels = rng.choice(classes, rng.integers(1, 4), replace=False, p=prior / prior.sum())
    length = int(rng.integers(frames[0], frames[1] + 1))
    shown = np.repeat(rng.integers(-1, len(labels), -(-length // SHOT)), SHOT)[:length]  # -1: nothing in particular
    features = {}
    for name, table in prototypes.items():
        chosen = np.repeat(rng.integers(table.shape[1], size=-(-length // SHOT)), SHOT)[:length]
        clean = np.where(shown[:, None] < 0, 0, table[labels[shown], chosen])
        features[name] = clean + rng.normal(0, 0.6, clean.shape)
    return sorted(labels.tolist()), features


def draw_prototypes(
    seed: int = 0, *, classes: int = 24, features: Mapping[str, int] = FEATURES
) -> dict[str, np.ndarray]:
    """What the classes look and sound like: name -> (classes, 3 or 1, size), normal, the first feature 0.35 and others 0.3."""
    rng = np.random.default_rng([seed, 0])
    drawn = {}
    for place, (name, size) in enumerate(features.items()):
        count, spread = (1, 0.3) if place else (3, 0.35)
        drawn[name] = rng.normal(0, spread, (classes, count, size))
    return drawn


def make_dataset(
    folder: str | Path, *, seed: int = 0, classes: int = 24, features: Mapping[str, int] = FEATURES,
    frames: tuple[int, int] = (20, 40), shards: Mapping[str, int] = SHARDS,
) -> pd.DataFrame:  # fmt: skip
    """Write `frame/<shard>.tfrecord`, `video/<shard>.tfrecord` and `vocabulary.csv`; a file that is there stays.

    Args:
        classes: 3 to 24.
        features: name -> bytes of a frame.
        frames: least and most length of a video, in seconds.
        shards: file names without suffix -> number of videos.

    Returns:
        One row a shard: shard, videos.
    """
    prototypes = draw_prototypes(seed, classes=classes, features=features)
    first = 0
    for place, (shard, count) in enumerate(shards.items()):
        rng = np.random.default_rng([seed, 1, place])
        drawn = [(_name(number), *draw_video(rng, prototypes, frames)) for number in range(first, first + count)]
        _write_shard(Path(folder), shard, drawn)
        first += count
    write_vocabulary(Path(folder) / "vocabulary.csv", classes=classes)
    return pd.DataFrame({"shard": list(shards), "videos": list(shards.values())})


def _name(number: int) -> str:
    """Four letters or digits that look like chance; no two numbers below 62**4 share them."""
    mixed = number * 7_654_321 % len(LETTERS) ** 4
    return "".join(LETTERS[mixed // len(LETTERS) ** place % len(LETTERS)] for place in range(4))


def _write_shard(folder: Path, shard: str, videos: list[tuple]) -> None:
    payloads = {"frame": [], "video": []}
    for name, labels, features in videos:
        codes = {key: data.quantize(value) for key, value in features.items()}
        means = {key: data.dequantize(value).mean(axis=0) for key, value in codes.items()}
        labels = None if shard.startswith("test") else labels
        payloads["frame"].append(examples.encode_frame_level(name, labels, codes))
        payloads["video"].append(examples.encode_video_level(name, labels, means))
    for kind, records in payloads.items():
        path = folder / kind / f"{shard}.tfrecord"
        if not path.is_file():
            tfrecord.write_records(path, records)


def write_vocabulary(path: Path, *, classes: int = 24) -> None:
    """Write the entities as YouTube-8M's vocabulary.csv: sorted by videos and not by label, with quoted commas and newlines."""
    columns = ["Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl", "Vertical1", "Vertical2", "Vertical3"]
    rows = []
    for rank, label in enumerate([1, 0, *range(2, classes)]):  # as in the genuine file, a row's place is not its label
        name, vertical = list(ENTITIES.items())[label]
        about = f"{name}, as invented for this course.\nNo video of it exists."
        rows.append([label, 900 - 30 * rank, f"/x/{label:04d}", name, "", vertical, "", "", about])
    with disk.atomic_write(path, "w") as file:
        pd.DataFrame(rows, columns=[*columns, "WikiDescription"]).to_csv(file, index=False, lineterminator="\n")


def damage_records(path: str | Path, target: str | Path, damages: Mapping[int, str]) -> Path:
    """Copy a frame-level file with some of its records damaged, to see what a reader makes of them.

    Args:
        path: a sound file, left as it is.
        target: the copy.
        damages: record -> "checksum" (one bit of the payload flipped), "length" (one bit of the length flipped),
            "width" (a frame one byte short), "label" (one that no vocabulary has), "empty" (no frame), or "cut" (the file ends in
            the middle of this record, for the last one that the copy shall have).

    Returns:
        The path of the copy.

    Raises:
        ValueError: an unknown damage, or a record that is not there.
    """
    payloads = [payload for _, payload in tfrecord.read_records(path, [])]
    wrong = {record: kind for record, kind in damages.items() if kind not in DAMAGES or not 0 <= record < len(payloads)}
    if wrong:
        raise ValueError(f"damages: received {wrong}; allowed: records 0 to {len(payloads) - 1}, {', '.join(DAMAGES)}")
    records = [tfrecord.wrap(payload) for payload in payloads]
    for number, kind in damages.items():
        payload = _spoil(payloads[number], kind)
        record = records[number] = bytearray(tfrecord.wrap(payload))
        if kind in ("checksum", "length"):
            record[0 if kind == "length" else tfrecord.HEADER + len(payload) // 2] ^= 1
        elif kind == "cut":
            del record[len(record) // 2 :]
    end = min((number + 1 for number, kind in damages.items() if kind == "cut"), default=len(records))
    disk.write(target, b"".join(records[:end]))
    return Path(target)


def _spoil(payload: bytes, kind: str) -> bytes:
    """The payload with a content that nobody can use; its checksum will be right."""
    example = examples.messages().SequenceExample.FromString(payload)
    lists = example.feature_lists.feature_list
    if kind == "label":
        example.context.feature["labels"].int64_list.value.append(1_000_000)
    for name in list(lists) if kind in ("width", "empty") else ():
        if kind == "empty":
            del lists[name].feature[:]
        else:
            value = lists[name].feature[0].bytes_list.value
            value[0] = value[0][:-1]
    return example.SerializeToString(deterministic=True)
