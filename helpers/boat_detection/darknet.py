"""Darknet's own files under one name: networks, weights and training logs, in and out."""

from helpers.boat_detection.formats.darknet.cfg_files import Cfg, Head, parse_cfg, read_cfg
from helpers.boat_detection.formats.darknet.graph import build_from_cfg, decode, heads
from helpers.boat_detection.formats.darknet.logs import (
    format_iteration,
    format_region,
    iou_by_iteration,
    parse_log,
    parse_map,
)
from helpers.boat_detection.formats.darknet.networks import yolov3_cfg, yolov3_spp_cfg, yolov3_tiny_cfg
from helpers.boat_detection.formats.darknet.weights import convolutions, load_weights, save_weights
from helpers.boat_detection.formats.darknet.weights_file import cut_weights

__all__ = [
    "Cfg",
    "Head",
    "build_from_cfg",
    "convolutions",
    "cut_weights",
    "decode",
    "format_iteration",
    "format_region",
    "heads",
    "iou_by_iteration",
    "load_weights",
    "parse_cfg",
    "parse_log",
    "parse_map",
    "read_cfg",
    "save_weights",
    "yolov3_cfg",
    "yolov3_spp_cfg",
    "yolov3_tiny_cfg",
]
