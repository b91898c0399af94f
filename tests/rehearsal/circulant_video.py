"""YouTube-8M's plans, a few of its files with few videos each, and its vocabulary of 3 862 labels."""

import hashlib
import json
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

from helpers.circulant_video import data
from helpers.circulant_video.formats import examples, tfrecord
from helpers.circulant_video.mini import dataset
from helpers.circulant_video.sources import youtube8m

FEATURES = {"rgb": 1024, "audio": 128}
FILES, VIDEOS, FRAMES = {"train": 4, "validate": 4}, 24, (20, 40)
SMALL = {"clusters": 64, "vlad_clusters": 4, "hidden": 32, "bags": 2, "epochs": 1, "batch_size": 16, "allow_cpu": True}
SETTINGS = {"t4": SMALL | {"seeds": [0, 1]}, "full": SMALL}


def prepare(site, copy: Path, config: str) -> None:
    """Serve plans, files and vocabulary; a plan holds no more files than are served."""
    part, of = {"t4": (25, 170), "full": (1, 1)}[config]
    buckets = urlsplit(youtube8m.BASE).hostname
    prototypes = dataset.draw_prototypes(0, features=FEATURES)
    for place, (partition, count) in enumerate(FILES.items()):
        every = [f"{partition}{a}{b}.tfrecord" for a in youtube8m.LETTERS for b in youtube8m.LETTERS]
        chosen = youtube8m.select_shards(every, part, of)
        plan = {}
        for number, name in enumerate([*chosen[: count // 2], *chosen[-(count - count // 2) :]]):
            rng = np.random.default_rng([place, number])
            body = _file([_video(rng, prototypes, f"{place}{number}{k:02d}") for k in range(VIDEOS)])
            plan[name] = hashlib.md5(body).hexdigest()
            site.put(buckets, f"/us.data.yt8m.org/2/frame/{partition}/{name}", body)
        site.put(buckets, f"/data.yt8m.org/2/download_plans/frame_{partition}.json", json.dumps(plan).encode())
    address = urlsplit(youtube8m.VOCABULARY)
    site.put(address.hostname, address.path, _vocabulary())


def _file(records: list[bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        tfrecord.write_records(Path(scratch) / "records", records)
        return (Path(scratch) / "records").read_bytes()


def _video(rng: np.random.Generator, prototypes: dict, name: str) -> bytes:
    labels, values = dataset.draw_video(rng, prototypes, FRAMES)
    return examples.encode_frame_level(name, labels, {key: data.quantize(value) for key, value in values.items()})


def _vocabulary() -> bytes:
    columns = ["Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "WikiUrl", "Vertical1", "Vertical2", "Vertical3"]
    rows = [[k, 9000 - k, f"/x/{k:04d}", f"Entity {k}", "", "Games", "", "", "Told, with a comma"] for k in range(3862)]
    return pd.DataFrame(rows, columns=[*columns, "WikiDescription"]).to_csv(index=False).encode()
