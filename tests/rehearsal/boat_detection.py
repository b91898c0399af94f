"""Open Images' tables of all classes, drawn photos, some of them damaged, and Darknet's files with random weights."""

from pathlib import Path

from helpers import runtime

runtime.quiet_start()

import keras

from helpers.boat_detection.formats.darknet import builder, cfg_files, keras_weights, networks
from helpers.boat_detection.mini import dataset
from helpers.boat_detection.sources import open_images, photos
from helpers.fetch import manifests
from tests.rehearsal.site import Site

DRAWN = 300  # pictures of all kinds on the bucket
# A picture of 416 pixels takes a CPU seconds; 128 make the 4 cells that notebook 03 needs. Multi-scale training of fewer than 100
# iterations has one size, the largest.
SHORT = {"batch_size": 8, "watch_images": 16, "burn_in": 4, "max_side": 320}
SETTINGS: dict[str, dict[str, object]] = {
    "t4": SHORT | {"images": 160, "size": 128, "iterations": 40, "evaluate_every": 20},
    "full": SHORT | {"size": 128, "batch_size": 4, "subdivisions": 2, "iterations": 10, "evaluate_every": 5, "backup_every": 5},
}  # fmt: skip
WEIGHTS = {"t4": ("yolov3-tiny.weights", "yolov3-tiny", None), "full": ("darknet53.conv.74", "yolov3", 74)}


def prepare(site: Site, copy: Path, config: str) -> None:
    """Put tables and photos of the subset `train`, and the weights that the config starts from, on their hosts."""
    folder, header = copy / "drawn", b"LabelName,DisplayName\n"
    dataset.make_dataset(folder, images=DRAWN, size=(240, 360), seed=1)
    manifest = manifests.load_manifest("open_images")
    files = {f"oidv7-{open_images.CLASSES}": open_images.CLASSES, open_images.TREE: open_images.TREE}
    subset = manifest.counts["subsets"]["train"]
    files |= {subset["boxes"]: open_images.BOXES, subset["images"]: open_images.IMAGES}
    for name, drawn in files.items():
        content = (folder / drawn).read_bytes()
        site.put(manifest.file(name).sources[0].url, header + content if drawn == open_images.CLASSES else content)
    _, *there = sorted((folder / "images" / "train").glob("*.jpg"))  # the first has vanished, two are no sound JPEGs
    for path in there:
        site.put(f"{photos.BASE}/train/{path.name}", path)

    name, network, layers = WEIGHTS[config]
    keras.utils.set_random_seed(0)
    model = builder.build_from_cfg(cfg_files.parse_cfg(networks.WRITERS[network](80), f"{network}.cfg"))
    keras_weights.save_weights(model, folder / name, seen=32_013_312, layers=layers)
    site.put(manifests.load_manifest("darknet").file(name).sources[0].url, folder / name)
