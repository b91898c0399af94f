"""Darknet's own files under one name: networks, weights and training logs, in and out."""
# ruff: noqa: F401

from helpers.boat_detection.formats.darknet.builder import build_from_cfg, decode, heads
from helpers.boat_detection.formats.darknet.cfg_files import Cfg, Head, parse_cfg, read_cfg
from helpers.boat_detection.formats.darknet.keras_weights import convolutions, load_weights, save_weights
from helpers.boat_detection.formats.darknet.logs import iou_by_iteration, parse_log, parse_map
from helpers.boat_detection.formats.darknet.networks import yolov3_cfg, yolov3_spp_cfg, yolov3_tiny_cfg
