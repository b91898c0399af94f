"""From a configuration to a trained network: its .cfg file, its first weights, its batches, and one training."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd

from helpers import intake, training
from helpers.boat_detection import anchors, data, metrics, model
from helpers.boat_detection.augment.chance import MOSAIC_SHARE, Augmentation
from helpers.boat_detection.batches import Batches
from helpers.boat_detection.config import BoatDetectionConfig
from helpers.boat_detection.evaluation import finders
from helpers.boat_detection.formats.darknet import builder, cfg_files, keras_weights, networks, optimizers
from helpers.boat_detection.formats.darknet.cfg_files import Cfg
from helpers.boat_detection.formats.darknet.log_callback import TrainLog
from helpers.boat_detection.formats.darknet.sections import parse_sections
from helpers.boat_detection.metrics.overlap import in_pixels
from helpers.boat_detection.sources import published
from helpers.config import values
from helpers.course import weights
from helpers.training import loop
from helpers.training.remote_log import RemoteLog
from helpers.workspace import StepResult, disk

CHANGES = ("jitter", "hue", "saturation", "exposure")  # as `Augmentation` and Darknet call them
TRAIN = (
    *("network", "width", "size", "height", "resize", "batch_norm_momentum"),
    *("anchors", "num_anchors", "start", "freeze"),
    *("dialect", "optimizer", "learning_rate", "burn_in", "schedule", "batch_size", "subdivisions", "iterations"),
    *(*CHANGES, "mosaic", "multi_scale", "ignore_thresh", "coordinates", "box_weight", "ema", "precision", "seed"),
    *("evaluate_every", "watch_images"),
)
PUBLISHED, TEXTS = "detector", (finders.CFG,)  # files of the published weights
JUDGE = "evaluation.scoring"  # what scores them
WORKERS = 2  # threads that make a batch; `training.prefetch` makes as many batches at a time as there are cores


def fingerprint(config: BoatDetectionConfig) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of the user's own .cfg and .weights files, so that a changed one makes a new training."""
    own = [Path(name).expanduser() for name in (config.network, config.start) if name.endswith((".cfg", ".weights"))]
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in own if path.is_file()] or None


def count_anchors(network: str) -> int:
    """Anchors of all heads together of a network's name or .cfg file."""
    if network.endswith(".cfg"):
        return len(cfg_files.read_cfg(network).yolo[0].anchors)
    return len(networks.SHIPPED[network])


def choose_anchors(config: BoatDetectionConfig, pictures: pd.DataFrame, boxes: pd.DataFrame) -> np.ndarray | None:
    """Anchors in pixels of the input, found in the training boxes where the config asks for it, else None."""
    if config.anchors == "coco" or config.network.endswith(".cfg"):
        return None
    sizes = anchors.input_sizes(pictures, data.that_count(boxes), size=config.input_size, resize=config.resize)
    return anchors.find_anchors(sizes, config.num_anchors or count_anchors(config.network), seed=config.seed)[0]


def write_cfg(config: BoatDetectionConfig, num_classes: int, found: np.ndarray | None) -> str:
    """Text of the .cfg file of a training, for Darknet too; `found` are (N, 2) anchors in pixels, None for Darknet's."""
    if config.network.endswith(".cfg"):
        return own_cfg(config, num_classes)
    same = ("width", "subdivisions", "learning_rate", "burn_in", *CHANGES, "ignore_thresh")
    options = {name: getattr(config, name) for name in same}
    options["size"] = config.input_size
    if config.num_anchors == 1:
        options["heads"] = 1
    if config.network == "yolov3-tiny" and config.start == "coco":
        options["masks"] = networks.TINY_MASKS
    if found is not None:
        options["anchors"] = found.round().astype(int).tolist()
    return networks.WRITERS[config.network](
        num_classes,
        **options,
        batch=config.batch_size,
        max_batches=config.iterations,
        steps=_lower_at(config.iterations),
        scales=(0.1, 0.1),
        random=int(config.multi_scale),
        letter_box=int(config.resize == "letterbox"),
        mosaic=int(config.mosaic),
    )


def own_cfg(config: BoatDetectionConfig, num_classes: int) -> str:
    """Text of the user's own .cfg file, if it is for inputs of `config.input_size` and for so many classes.

    Raises:
        ValueError: it is for others; names key and line.
    """
    text = intake.read_text(config.network, expected="a Darknet .cfg file")
    sections = parse_sections(text, Path(config.network).name)
    height, width = config.input_size
    for key, side, name in (("height", height, "height"), ("width", width, "size")):
        if sections[0].integer(key, side) != side:
            raise sections[0].error(f"the setting {name} is {side}; make one of them the other", key)
    for section in sections:
        if section.kind == "yolo" and section.integer("classes", 20) != num_classes:
            raise section.error(
                f"the data have {num_classes} classes; the filters before it depend on it, too", "classes"
            )
    return text


def _lower_at(iterations: int) -> tuple[int, int]:
    """Iterations from which the rate is a tenth of what it was."""
    return iterations * 8 // 10, iterations * 9 // 10


def build_network(config: BoatDetectionConfig, cfg: Cfg, *, downloads: Path | None = None) -> keras.Model:
    """The network of a .cfg file with the first weights that `config.start` names; those that are fetched go to `downloads`."""
    keras.utils.set_random_seed(config.seed)
    network = builder.build_from_cfg(cfg, momentum=config.batch_norm_momentum)
    if config.start in ("backbone", "coco"):
        published.load_published(network, config.network, config.start, downloads)
    elif config.start != "none":
        keras_weights.load_weights(network, Path(config.start).expanduser(), head="strict")
    return network


def build_loss(config: BoatDetectionConfig, cfg: Cfg) -> keras.losses.Loss:
    """The loss of the raw heads of a .cfg file, as the config wants it: called as `loss(y_true, heads)`, see `YoloLoss`."""
    weight = {"iou_normalizer": config.box_weight} if config.box_weight else {}
    return model.build_loss(cfg, config.dialect, coordinates=config.coordinates, **weight)


def load_network(config: BoatDetectionConfig, cfg: Cfg, folder: Path, *, downloads: Path | None = None) -> keras.Model:
    """The network that `train_one` left in `folder`, also one of the learner's own, which no .weights file can hold."""
    detector = model.Detector(build_network(config, cfg, downloads=downloads), build_loss(config, cfg))
    detector.load_weights(folder / loop.FINAL)
    return detector.network


def freeze(network: keras.Model, layers: int) -> None:
    """Keep the weights of the layers before Darknet's number `layers`, and their batch statistics."""
    for found in keras_weights.convolutions(network) if layers else ():
        if found.index < layers:
            found.conv.trainable = False
            if found.norm is not None:
                found.norm.trainable = False


def rate_schedule(config: BoatDetectionConfig) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over the optimiser's updates; `burn_in` of the config is its warm-up."""
    if config.schedule == "cosine":
        each = config.subdivisions  # Keras counts the parts of an accumulated update
        warm = {"warmup_target": config.learning_rate, "warmup_steps": config.burn_in * each} if config.burn_in else {}
        start, length = 0.0 if warm else config.learning_rate, (config.iterations - config.burn_in) * each
        return keras.optimizers.schedules.CosineDecay(start, length, alpha=0.01, **warm)
    return optimizers.DarknetSchedule(
        config.learning_rate,
        config.burn_in,
        steps=_lower_at(config.iterations),
        scales=[0.1, 0.1],
        subdivisions=config.subdivisions,
    )


def compile_detector(config: BoatDetectionConfig, cfg: Cfg, *, downloads: Path | None = None) -> model.Detector:
    """Network, loss and optimiser, ready for `training.fit`."""
    options = {"gradient_accumulation_steps": config.subdivisions} if config.subdivisions > 1 else {}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": 0.999}
    with training.strategy().scope():
        network = build_network(config, cfg, downloads=downloads)
        freeze(network, config.freeze)
        detector = model.Detector(network, build_loss(config, cfg))
        kind = optimizers.DarknetSGD if config.optimizer == "darknet" else keras.optimizers.Adam
        detector.compile(kind(rate_schedule(config), **options))
        detector.optimizer.build(detector.trainable_variables)
    return detector


def build_batches(config: BoatDetectionConfig, pictures: pd.DataFrame, boxes: pd.DataFrame) -> Batches:
    """The training batches; one is a subdivision of an iteration."""
    return Batches(
        data.with_boxes(pictures["image"], boxes, pictures["path"]),
        size=config.input_size,
        batch_size=config.batch_size // config.subdivisions,
        seed=config.seed,
        augmentation=Augmentation(
            **{name: getattr(config, name) for name in ("dialect", *CHANGES)},
            letterbox=config.resize == "letterbox" and config.dialect == "alexeyab",
        ),
        mosaic=MOSAIC_SHARE if config.mosaic else 0.0,
        random=1.4 if config.multi_scale else 0.0,
        max_batches=config.iterations,
        subdivisions=config.subdivisions,
        workers=WORKERS,
    )


class Watch:
    """Called at each evaluation of a training: AP50, as Darknet computes it, on the first `count` validation pictures."""

    def __init__(self, finder: finders.Finder, pictures: pd.DataFrame, boxes: pd.DataFrame, count: int) -> None:
        self.finder, self.pictures = finder, pictures.head(count)
        self.truth = in_pixels(boxes[boxes["image"].isin(self.pictures["image"])], self.pictures)

    def __call__(self) -> dict[str, float]:
        found = self.finder.find([Path(path) for path in self.pictures["path"]])
        return {"ap50": metrics.average_precision(in_pixels(found, self.pictures), self.truth)}


def train_one(
    config: BoatDetectionConfig,
    folder: Path,
    sides: dict[str, tuple[pd.DataFrame, pd.DataFrame]],
    num_classes: int,
    *,
    downloads: Path | None = None,
    remote: RemoteLog | None = None,
) -> pd.DataFrame:
    """Train in `folder`, or go on with it; leaves its .cfg, Darknet's own log, .weights files and `log.csv`.

    Args:
        config: gives everything in `TRAIN`.
        sides: pictures and boxes of `train` and `validation`, see `data.side_of`.
        downloads: where published weights stand or go.
        remote: see `training.fit`.

    Returns:
        The log, one row per evaluation.
    """
    disk.write(folder / finders.CFG, write_cfg(config, num_classes, choose_anchors(config, *sides["train"])))
    cfg = cfg_files.read_cfg(folder / finders.CFG)
    batches = build_batches(config, *sides["train"])
    detector = compile_detector(config, cfg, downloads=downloads)
    finder = finders.Finder(detector.network, cfg, size=config.input_size, resize=config.resize, nms=finders.NMS)
    return training.fit(
        detector,
        lambda step: training.prefetch(batches.batch, step),
        run_dir=folder,
        epochs=config.iterations // config.evaluate_every,
        steps_per_epoch=config.evaluate_every * config.subdivisions,
        validation=Watch(finder, *sides["validation"], config.watch_images),
        checkpoint_every=config.checkpoint_every,
        save_every=config.save_every,
        callbacks=[TrainLog(folder, cfg, batch_size=config.batch_size, every=config.backup_every)],
        seed=config.seed,
        remote=remote,
        config=values(config, TRAIN),
    )


def load_trained(config: BoatDetectionConfig, trained: StepResult) -> keras.Model:
    """What is published of a training: the network that step train left; its attribute `cfg` is its .cfg file."""
    cfg = cfg_files.read_cfg(trained.folder / finders.CFG)
    network = load_network(config, cfg, trained.folder)
    network.cfg = cfg
    return network


def load_published(config: BoatDetectionConfig | None = None) -> keras.Model:
    """The network of `notebooks/boat_detection/weights`, from pictures to raw heads; its attribute `cfg` is its .cfg file.

    `evaluation.finders.build_finder(config, network.cfg, network)` finds with it. The .cfg says all that a config could say.
    Raises as `helpers.course.weights.path`.
    """
    cfg = cfg_files.read_cfg(weights.path("boat_detection", finders.CFG))
    network = weights.fill("boat_detection", builder.build_from_cfg(cfg))
    network.cfg = cfg
    return network
