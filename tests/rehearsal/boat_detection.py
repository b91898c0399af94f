"""Open Images' tables and photos from drawn harbours, in all three subsets; Darknet's files with random weights."""

import json
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import keras
import pandas as pd

from helpers.boat_detection.formats.darknet import builder, cfg_files, networks, weights
from helpers.boat_detection.mini import dataset
from helpers.boat_detection.sources import open_images, photos
from helpers.fetch import manifests

IMAGES = {"train": 80, "validation": 24, "test": 24}
SMALL = {"size": 96, "batch_size": 4, "subdivisions": 1, "iterations": 8, "evaluate_every": 4, "watch_images": 8}
SMALL |= {"burn_in": 2, "allow_cpu": True}
SETTINGS = {"t4": SMALL | {"images": 40}, "full": SMALL | {"backup_every": 4, "save_every": 1}}


def prepare(site, copy: Path, config: str) -> None:
    """Serve tables, photos, and the weights that the config starts from."""
    manifest = manifests.load_manifest("open_images")
    files = {urlsplit(file.sources[0].url).path: file.name for file in manifest.files}
    host = urlsplit(manifest.files[0].sources[0].url).hostname

    def put(name: str, content: bytes) -> None:
        site.put(host, next(path for path, known in files.items() if known == name), content)

    for place, (subset, count) in enumerate(IMAGES.items()):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            dataset.make_dataset(folder, images=count, seed=place)
            boxes = pd.read_csv(folder / open_images.BOXES, dtype=str)
            about = pd.read_csv(folder / open_images.IMAGES, dtype=str).assign(Subset=subset)
            if subset != "train":
                boxes = boxes.drop(columns=list(dataset.CLICKS))
            names = manifest.counts["subsets"][subset]
            put(names["boxes"], boxes.to_csv(index=False).encode())
            put(names["images"], about.to_csv(index=False).encode())
            for path in sorted((folder / "images" / "train").glob("*.jpg")):
                site.put(urlsplit(photos.BASE).hostname, f"/{subset}/{path.name}", path)
            if subset == "train":
                header = b"LabelName,DisplayName\n"
                put(f"oidv7-{open_images.CLASSES}", header + (folder / open_images.CLASSES).read_bytes())
                put(open_images.TREE, json.dumps(json.loads((folder / open_images.TREE).read_text())).encode())
    _put_weights(site, config)


def _put_weights(site, config: str) -> None:
    """`yolov3-tiny.weights` for t4, `darknet53.conv.74` for full: the genuine lengths, random values."""
    name, network, layers = {
        "t4": ("yolov3-tiny.weights", "yolov3-tiny", None),
        "full": ("darknet53.conv.74", "yolov3", 74),
    }[config]
    keras.utils.set_random_seed(0)
    model = builder.build_from_cfg(cfg_files.parse_cfg(networks.WRITERS[network](80)))
    address = urlsplit(manifests.load_manifest("darknet").file(name).sources[0].url)
    with tempfile.TemporaryDirectory() as scratch:
        weights.save_weights(model, Path(scratch) / name, layers=layers)
        site.put(address.hostname, address.path, Path(scratch) / name)
