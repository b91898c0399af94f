"""From a configuration to a network: its .cfg file, its first weights, its loss and optimiser."""

from pathlib import Path

import keras

from helpers import training
from helpers.boat_detection import cfg as cfg_files
from helpers.boat_detection import detector, graph, networks, optimizers, weights
from helpers.fetch import manifests

WRITERS = {
    "yolov3": networks.yolov3_cfg,
    "yolov3-tiny": networks.yolov3_tiny_cfg,
    "yolov3-spp": networks.yolov3_spp_cfg,
}
BACKBONES = {"yolov3": 74, "yolov3-spp": 74, "yolov3-tiny": 15}  # layers of what `start: backbone` loads
COCO_BOAT = 8


def count_anchors(config) -> int:
    """Anchors of all heads together."""
    if config.network.endswith(".cfg"):
        return len(cfg_files.read_cfg(config.network).yolo[0].anchors)
    return 6 if config.network == "yolov3-tiny" else 9


def write_cfg(config, num_classes: int, anchors) -> str:
    """Text of the .cfg file of a training; Darknet itself can train from it too.

    Args:
        config: gives the network, its size and the settings of the training.
        num_classes: number of classes.
        anchors: (N, 2) widths and heights in pixels, or None for Darknet's.
    """
    if config.network.endswith(".cfg"):
        return Path(config.network).read_text(encoding="utf-8")
    steps = {"steps": (config.iterations * 8 // 10, config.iterations * 9 // 10), "scales": (0.1, 0.1)}
    options = {
        "size": config.size,
        "anchors": None if anchors is None else [tuple(round(float(side)) for side in pair) for pair in anchors],
        "width": config.width,
        "batch": config.batch_size,
        "subdivisions": config.subdivisions,
        "learning_rate": config.learning_rate,
        "burn_in": config.burn_in,
        "max_batches": config.iterations,
        "saturation": config.saturation,
        "exposure": config.exposure,
        "hue": config.hue,
        "jitter": config.jitter,
        "ignore_thresh": config.ignore_thresh,
        "random": int(config.multi_scale),
        "letter_box": int(config.resize == "letterbox"),
        "mosaic": int(config.mosaic),
        **steps,
    }
    return WRITERS[config.network](num_classes, **{key: value for key, value in options.items() if value is not None})


def build_network(config, cfg: cfg_files.Cfg, *, downloads: Path | None = None) -> keras.Model:
    """The network of a .cfg file with the first weights that `config.start` names.

    Args:
        config: gives start, seed and the momentum of batch normalisation.
        cfg: parsed.
        downloads: where fetched weights stand or go.
    """
    keras.utils.set_random_seed(config.seed)
    network = graph.build_from_cfg(cfg, momentum=config.batch_norm_momentum)
    if config.start == "none":
        return network
    if config.start in ("backbone", "coco"):
        load_published(network, config, downloads)
    else:
        weights.load_weights(network, Path(config.start).expanduser(), head="strict")
    return network


def fetch_published(name: str, downloads: Path) -> Path:
    """One of the files that Darknet's authors publish, verified; see data_manifests/darknet.yaml."""
    return manifests.fetch_all(manifests.load_manifest("darknet"), downloads, names=[name])[name]


def load_published(network: keras.Model, config, downloads: Path) -> None:
    """Weights of Darknet's authors: the backbone that saw ImageNet, or COCO's network reduced to its class boat."""
    whole = (
        "yolov3-tiny.weights" if config.network == "yolov3-tiny" else "yolov3.weights"
    )  # yolov3-spp begins as yolov3
    if config.start == "coco":
        weights.load_weights(network, fetch_published(whole, downloads), head=[COCO_BOAT])
        return
    layers = BACKBONES[config.network]
    try:
        if layers != 74:  # nobody publishes the tiny network's first layers any more
            raise manifests.DownloadError(f"{config.network} has no published backbone")
        path = fetch_published("darknet53.conv.74", downloads)
    except manifests.DownloadError as error:
        print(f"{error}\nThe layers are cut from {whole} instead.")
        path = downloads / f"{config.network}.conv.{layers}"
        source = cfg_files.parse_cfg(WRITERS[whole.removesuffix(".weights")](80), whole)
        weights.cut_weights(fetch_published(whole, downloads), path, layers=layers, cfg=source)
    weights.load_weights(network, path)


def freeze(network: keras.Model, layers: int) -> None:
    """Keep the weights of the layers before Darknet's number `layers`, and their batch statistics."""
    for found in weights.convolutions(network):
        if found.index < layers:
            found.conv.trainable = False
            if found.norm is not None:
                found.norm.trainable = False


def learning_rate(config):
    """The rate's schedule over the optimiser's updates."""
    if config.schedule == "cosine":
        each = config.subdivisions  # Keras counts the parts of an accumulated update
        warm = {"warmup_target": config.learning_rate, "warmup_steps": config.burn_in * each} if config.burn_in else {}
        start, length = 0.0 if warm else config.learning_rate, (config.iterations - config.burn_in) * each
        return keras.optimizers.schedules.CosineDecay(start, length, alpha=0.01, **warm)
    ends = [config.iterations * 8 // 10, config.iterations * 9 // 10]
    return optimizers.DarknetSchedule(
        config.learning_rate, config.burn_in, steps=ends, scales=[0.1, 0.1], subdivisions=config.subdivisions
    )


def build_detector(config, cfg: cfg_files.Cfg, *, downloads: Path | None = None) -> detector.Detector:
    """Network, loss and optimiser, compiled and ready for `training.fit`."""
    options = {"gradient_accumulation_steps": config.subdivisions} if config.subdivisions > 1 else {}
    if config.ema:
        options |= {"use_ema": True, "ema_momentum": 0.999}
    with training.strategy().scope():
        network = build_network(config, cfg, downloads=downloads)
        freeze(network, config.freeze)
        loss = detector.build_loss(cfg, config.dialect, coordinates=config.coordinates)
        trained = detector.Detector(network, loss)
        kind = optimizers.DarknetSGD if config.optimizer == "darknet" else keras.optimizers.Adam
        trained.compile(kind(learning_rate(config), **options))
        trained.optimizer.build(trained.trainable_variables)
    return trained
