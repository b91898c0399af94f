"""Weights that Darknet's authors published, as a network's start; see data_manifests/darknet.yaml."""

from pathlib import Path

import keras

from helpers.boat_detection.formats.darknet import keras_weights
from helpers.fetch import manifests

BACKBONES = {"yolov3": 74, "yolov3-spp": 74, "yolov3-tiny": 15}  # layers that `start: backbone` loads
COCO_BOAT = 8


def fetch_published(name: str, downloads: Path) -> Path:
    """One of the files that Darknet's authors publish, verified."""
    return manifests.fetch_all(manifests.load_manifest("darknet"), downloads, names=[name])[name]


def load_published(network: keras.Model, name: str, start: str, downloads: Path) -> None:
    """Load weights of Darknet's authors into the network called `name`, one of `BACKBONES`.

    `start` is "backbone", which saw ImageNet, or "coco": COCO's network reduced to its class boat.
    """
    tiny = name == "yolov3-tiny"
    whole = "yolov3-tiny.weights" if tiny else "yolov3.weights"  # yolov3-spp begins as yolov3
    if start == "coco":
        keras_weights.load_weights(network, fetch_published(whole, downloads), head=[COCO_BOAT])
        return
    try:
        if tiny:  # nobody publishes its first layers any more
            raise manifests.DownloadError(f"{name} has no published backbone")
        path = fetch_published("darknet53.conv.74", downloads)
    except manifests.DownloadError as error:
        print(f"{error}\nThe layers are cut from {whole} instead.")
        path = fetch_published(whole, downloads)
    keras_weights.load_weights(network, path, layers=BACKBONES[name])
