"""YouTube-8M's download plans, a few of its shards with drawn videos in them, and its vocabulary."""

import csv
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helpers import config as configs
from helpers.circulant_video import data
from helpers.circulant_video.config import CirculantVideoConfig
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import youtube8m
from tests.rehearsal.site import Site

CLASSES, EVERY = 1000, 41  # of the labels up to 3 861 the networks know so many, and 24 occur
SHARDS = {"train": 3, "validate": 2}  # that the plans name of a config's part; t4's has 21 and 25
VIDEOS = 100  # of a shard; the genuine ones have about 1 000 and 290
# Experiments, networks and records are the genuine ones; layers are narrow, videos short. Context gating of 3 862 classes has
# 15 million weights, which take a CPU a tenth of a second a step.
NARROW = {
    "classes": CLASSES,
    "clusters": 64,
    "vlad_clusters": 8,
    "hidden": 64,
    "mixtures": 2,
    "bags": 2,
    "iterations": 6,
    "max_frames": 40,
}
SHORT = {"batch_size": 16, "epochs": 4, "learning_rate": 0.01, "momentum": 0.9, "watch_videos": 100}
SETTINGS: dict[str, dict[str, object]] = {
    "t4": NARROW | SHORT | {"seeds": [0, 1], "save_every": 4},
    # all shards would be refused for want of disk; of this part one validation shard trains by the paper's rule, one is held out
    "full": NARROW | SHORT | {"shard_part": 333, "shard_of": 1000},
}


def prepare(site: Site, copy: Path, config: str) -> None:
    """Put plans, the shards that the config asks for, and the vocabulary on their hosts."""
    own = configs.load(copy / f"notebooks/circulant_video/{config}.yaml", CirculantVideoConfig)
    settings, letters = vars(own) | SETTINGS[config], youtube8m.LETTERS
    part = settings["shard_part"], settings["shard_of"]
    for place, (side, count) in enumerate(SHARDS.items()):
        names = [f"{side}{first}{second}.tfrecord" for first in letters for second in letters]
        wanted = youtube8m.select_shards(names, *part)
        plan = {name: "0" * 32 for name in names if name not in wanted}
        for number, name in enumerate(wanted[:count]):
            path = copy / name
            tfrecord.write_records(path, _draw(place, number))
            plan[name] = hashlib.md5(path.read_bytes()).hexdigest()
            site.put(f"{youtube8m.BASE}/us.data.yt8m.org/2/frame/{side}/{name}", path)
            path.unlink()
        url = f"{youtube8m.BASE}/data.yt8m.org/2/download_plans/frame_{side}.json"
        site.put(url, json.dumps({"files": plan}).encode())
    site.put(youtube8m.VOCABULARY, _vocabulary())


def _draw(*place: int) -> Iterator[bytes]:
    """The records of a shard; some videos are longer than `max_frames`."""
    features = dict(zip(CirculantVideoConfig.feature_names, CirculantVideoConfig.feature_sizes, strict=True))
    prototypes, rng = dataset.draw_prototypes(features=features), np.random.default_rng(place)
    for number in range(VIDEOS):
        labels, values = dataset.draw_video(rng, prototypes, (20, 50))
        codes = {name: data.quantize(value) for name, value in values.items()}
        name = "".join(youtube8m.LETTERS[digit] for digit in (*place, *divmod(number, 62)))
        yield examples.encode_frame_level(name, [EVERY * label for label in labels], codes)


def _vocabulary() -> bytes:
    """As the genuine one: by number of videos, not by label; some entities have no name."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    columns = ["Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl", "Vertical1", "Vertical2", "Vertical3"]
    writer.writerow([*columns, "WikiDescription"])
    for rank, label in enumerate(sorted(range(CirculantVideoConfig.classes), key=lambda label: label % EVERY)):
        name = "" if label % 100 == 7 else f"Entity {label}"
        about = f"Number {label},\nas invented."
        writer.writerow([label, 800_000 - rank, f"/m/{label:05d}", name, "", "Games", "", "", about])
    return out.getvalue().encode()
