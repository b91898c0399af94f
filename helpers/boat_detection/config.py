"""The configuration of the boat-detection project: every setting with its default and limits; YAML files say what differs."""

import math
from dataclasses import dataclass, replace

from helpers import estimates
from helpers.config import BaseConfig, Needs, option, problems_between
from helpers.estimates import Network

TABLES = {
    "train": 2_896_855_311,
    "validation": 40_350_533,
    "test": 122_711_576,
}  # bytes: data_manifests/open_images.yaml
# with a boat: the original project's text; the others, were boats as frequent
PICTURES = {"train": 26_000, "validation": 620, "test": 1_870}
PICTURE = 300e3  # bytes, of at most 1 024 pixels: the manifest
RATE = 70  # pictures a second, read and changed on two cores: tests/benchmarks/input_rates.py
SCALES = 1.25, (608 / 416) ** 2  # area of the sizes of multi_scale: mean and largest
WORKS = {  # a picture of 416 pixels, counted in the networks by tests/test_settings.py; yolov3 is published with 65.3 billion
    "yolov3": Network(flops=65.3e9, parameters=61.6e6, made=937e6),
    "yolov3-tiny": Network(flops=5.44e9, parameters=8.68e6, made=127e6),
    "yolov3-spp": Network(flops=65.6e9, parameters=62.6e6, made=942e6),
}
WEIGHTS = {
    "backbone": {"yolov3": 162e6, "yolov3-spp": 162e6, "yolov3-tiny": 35e6},
    "coco": {"yolov3": 248e6, "yolov3-tiny": 35e6},
}
NETWORKS = tuple(WORKS)


@dataclass(frozen=True, kw_only=True)
class BoatDetectionConfig(BaseConfig):
    """Every setting of the five steps; `notebooks/boat_detection/*.yaml` give the values."""

    source: str = option(choices=("mini", "open_images", "local"), help="where the pictures come from")
    local_folder: str | None = option(None, help="source local: pictures with Darknet labels")
    label: str = option("Boat", help="Open Images class to find")
    subclasses: bool = option(False, help="count canoes, gondolas and barges as boats")
    subsets: tuple[str, ...] = option(
        ("train",), choices=("train", "validation", "test"), help="subsets of Open Images to take from"
    )
    negatives: str | None = option(None, help="class of pictures added, with nothing afloat")
    merge_classes: bool = option(True, help="all boxes are one class, named as label")
    images: int | None = option(None, low=10, help="how many pictures of each subset; null: all")

    policy: str = option("clean", choices=("all", "clean"), help="all: every box counts; clean: see notebook 01")
    upright: bool = option(False, help="turn pictures as Open Images' Rotation says")
    max_side: int | None = option(None, low=32, help="shrink longer pictures to this; null: keep")

    split_by: str = option(
        "random", choices=("random", "hash", "author", "run", "official"), help="what decides a picture's side"
    )
    folds: int = option(5, low=2, help="split_by run: how many folds of neighbours")
    fold: int = option(0, low=0, help="split_by run: which fold is for testing")
    seed: int = option(0, low=0, help="seed of every random choice")

    network: str = option("yolov3", help="yolov3, yolov3-tiny, yolov3-spp or a .cfg file")
    width: float = option(1.0, above=0.0, high=1.0, help="share of the filters of each layer")
    size: int = option(416, low=32, help="width of the network's input in pixels")
    height: int | None = option(None, low=32, help="its height; null: as wide as high")
    anchors: str = option("coco", choices=("coco", "kmeans"), help="Darknet's, or found in the training boxes")
    num_anchors: int | None = option(None, low=1, help="how many; 1: on the finest head; null: Darknet's")
    start: str = option("none", help="none, backbone, coco or a .weights file")
    freeze: int = option(0, low=0, help="layers before this index are not trained")
    dialect: str = option("alexeyab", choices=("alexeyab", "pjreddie"), help="whose Darknet decides details")
    resize: str = option("letterbox", choices=("letterbox", "stretch"), help="how a picture becomes the input")

    optimizer: str = option("darknet", choices=("darknet", "adam"), help="Darknet's rule, or Adam")
    learning_rate: float = option(1e-3, above=0.0, help="at its highest")
    burn_in: int = option(1000, low=0, help="iterations in which the rate grows")
    schedule: str = option("steps", choices=("steps", "cosine"), help="steps: a tenth at 80 % and at 90 %")
    batch_size: int = option(64, low=1, help="pictures per iteration")
    subdivisions: int = option(16, low=1, help="an iteration is computed in so many parts")
    iterations: int = option(6000, low=1, help="updates of the weights")
    evaluate_every: int = option(100, low=1, help="iterations between two AP50 on validation")
    watch_images: int = option(200, low=1, help="validation pictures of that AP50")
    batch_norm_momentum: float = option(0.99, low=0.0, high=0.9999, help="of batch normalisation")
    ignore_thresh: float = option(0.7, low=0.0, high=1.0, help="overlap from which a near hit is forgiven")
    coordinates: str = option("mse", choices=("mse", "ciou"), help="loss of the boxes")
    box_weight: float | None = option(None, above=0.0, help="weight of that loss; null: Darknet's")
    jitter: float = option(0.3, low=0.0, high=0.49, help="random crops: share of each side")
    hue: float = option(0.1, low=0.0, high=0.5, help="random change of hue")
    saturation: float = option(1.5, low=1.0, help="random factor of saturation")
    exposure: float = option(1.5, low=1.0, help="random factor of brightness")
    mosaic: bool = option(False, help="train on four pictures in one")
    multi_scale: bool = option(True, help="change the input size every ten iterations")
    ema: bool = option(False, help="evaluate a moving average of the weights")

    confidence: float = option(0.25, low=0.0, high=1.0, help="score from which a box is shown")
    nms: float = option(0.45, above=0.0, high=1.0, help="step evaluate only: overlap that drops a box")

    backup_every: int = option(100, low=1, help="iterations between backups of the weights")
    save_every: int = option(1, low=1, help="evaluations between exact checkpoints")

    def needs(self) -> dict[str, Needs]:
        """See `BaseConfig.needs`; nobody counted the pictures of other classes, or what a network of one's own takes."""
        unknown = self.images is None and self.label != "Boat"
        if self.source != "open_images" or self.network not in NETWORKS or unknown:
            return {}
        count = sum(self.images or PICTURES[subset] for subset in self.subsets) * (2 if self.negatives else 1)
        kept = PICTURE * min(1.0, (self.max_side or 1024) / 1024) ** 2
        pixels = math.prod(self.input_size)
        area = pixels / 416**2
        mean, most = SCALES if self.multi_scale else (1, 1)
        one, width = WORKS[self.network], self.width
        network = replace(one, flops=one.flops * area * width**2, parameters=one.parameters * width**2)
        evaluations = self.iterations // self.evaluate_every
        options = {"precision": self.precision, "rate": RATE}
        train = estimates.training(
            replace(network, flops=mean * network.flops, made=one.made * area * most * width),
            self.iterations * self.batch_size,
            batch=self.batch_size // self.subdivisions,
            saves=estimates.count_saves(self, epochs=evaluations, steps=self.evaluate_every * self.subdivisions),
            slots=1 + (self.optimizer == "adam") + (self.subdivisions > 1),  # gradients that add up are kept too
            watched=evaluations * self.watch_images,
            item=12 * pixels * most,
            **options,
        )
        backups = self.iterations // self.backup_every * 4 * network.parameters
        fetched = WEIGHTS.get(self.start, {}).get(self.network, 0)
        return {
            "build_dataset": estimates.fetching(sum(TABLES[name] for name in self.subsets) + count * PICTURE, disk=count * PICTURE),
            "preprocess": Needs(disk=count * kept, minutes=count / RATE / 60),
            "train": estimates.together(
                train,
                Needs(download=fetched, disk=fetched + 8 * network.parameters, memory=train.memory + 0.5e9, written=backups,
                      minutes=fetched / estimates.DOWNLOAD / 60 + backups / estimates.WRITING / 60),
            ),
            # A tenth of the pictures, by the network and by the same one untrained.
            "evaluate": Needs(memory=estimates.LIBRARIES, gpu_memory=train.gpu_memory,
                              minutes=2 * estimates.using(network, count / 10, **options)),
        }  # fmt: skip

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input in pixels."""
        return self.height or self.size, self.size

    def __post_init__(self) -> None:
        problems_between(
            (
                self.source == "local" and not self.local_folder,
                "local_folder: missing, needed with source: local; allowed: a folder of pictures and Darknet label files",
            ),
            (
                self.source == "local" and self.split_by == "author",
                "split_by: received 'author' with source: local; allowed: random, hash, run, official (folders train, val, test)",
            ),
            (
                self.source != "local"
                and self.split_by == "official"
                and set(self.subsets) != {"train", "validation", "test"},
                f"subsets: received {list(self.subsets)} with split_by: official; allowed: [train, validation, test]",
            ),
            (not self.subsets, "subsets: received none; allowed: a list of train, validation, test"),
            (self.fold >= self.folds, f"fold: received {self.fold}; allowed: 0 to folds - 1 ({self.folds - 1})"),
            (
                self.network not in NETWORKS and not self.network.endswith(".cfg"),
                f"network: received {self.network!r}; allowed: {', '.join(NETWORKS)}, or the path of a .cfg file",
            ),
            (
                self.start not in ("none", "backbone", "coco") and not self.start.endswith(".weights"),
                f"start: received {self.start!r}; allowed: none, backbone, coco, or the path of a .weights file",
            ),
            (
                self.start in ("backbone", "coco") and self.width != 1,
                f"width: received {self.width} with start: {self.start}; allowed: 1.0 (downloaded weights are of full width)",
            ),
            (
                self.start in ("backbone", "coco") and self.network not in NETWORKS,
                f"start: received {self.start!r} with network {self.network!r}; allowed for it: none, or a .weights file",
            ),
            (
                self.start == "coco" and self.network == "yolov3-spp",
                "start: received 'coco' with network yolov3-spp; allowed: none, backbone, or the path of a .weights file",
            ),
            *(
                (side is not None and side % 32 != 0, f"{name}: received {side}; allowed: a multiple of 32")
                for name, side in (("size", self.size), ("height", self.height))
            ),
            (
                (self.num_anchors or 6)
                not in ((1, *range(2, 99, 2)) if self.network == "yolov3-tiny" else range(3, 99, 3)),
                f"num_anchors: received {self.num_anchors} for {self.network}; allowed: a multiple of its heads; 1 for yolov3-tiny",
            ),
            (
                self.mosaic and self.dialect == "pjreddie",
                "mosaic: received true with dialect: pjreddie; allowed: false (it is AlexeyAB's)",
            ),
            (
                self.batch_size % self.subdivisions != 0,
                f"subdivisions: received {self.subdivisions} for batch_size {self.batch_size}; allowed: a divisor of it",
            ),
            (
                self.iterations % self.evaluate_every != 0,
                f"evaluate_every: received {self.evaluate_every} for {self.iterations} iterations; allowed: a divisor",
            ),
        )
