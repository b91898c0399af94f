"""A Darknet .cfg file as an object: the options of `[net]`, the plan of the layers, the heads."""

import functools
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from helpers import intake
from helpers.boat_detection.formats.darknet import layer_kinds
from helpers.boat_detection.formats.darknet.sections import Section, convert, parse_sections


@dataclass(frozen=True)
class Head:
    """One `[yolo]` section."""

    index: int  # Darknet's number of the layer, as in its logs: 82, 94, 106 in yolov3
    anchors: tuple[tuple[float, float], ...]  # all (width, height) of the file, in pixels of the network's input
    mask: tuple[int, ...]  # which of them this head predicts
    classes: int  # how many
    ignore_thresh: float  # IoU above which a prediction without an object of its own is left alone
    scale_x_y: float  # stretches the sigmoid of the centre; 1 in yolov3
    new_coords: bool  # the layer before ends with a sigmoid of its own, and sizes are squares, as in scaled YOLOv4
    stride: int | Fraction | None  # pixels per cell; a Fraction where it is no whole number, None if unknown
    options: dict[str, Any]  # all of the section, converted, for the loss


@dataclass(frozen=True)
class Cfg:
    """A .cfg file, parsed and checked."""

    source: str  # name of the file
    net: dict[str, Any]  # options of `[net]`, numbers as numbers, lists as tuples
    layers: tuple[layer_kinds.Layer, ...]  # the plan of the sections after it

    @functools.cached_property
    def yolo(self) -> list[Head]:
        """The heads in the order of the file."""
        return [_head(layer) for layer in self.layers if layer.kind == "yolo"]

    @property
    def floats(self) -> int:
        """Values in a whole .weights file, without its header."""
        return sum(layer.floats for layer in self.layers)


def _head(layer: layer_kinds.Layer) -> Head:
    stride = int(layer.stride) if layer.stride and layer.stride.denominator == 1 else layer.stride
    options = {key: convert(value) for key, value in layer.section.options.items()}
    return Head(index=layer.index, stride=stride, options=options, **layer.values)


def parse_cfg(text: str, source: str = "cfg") -> Cfg:
    """Read the text of a whole .cfg file; `source` is its name, for messages.

    Raises:
        ValueError: anything that is not understood: merge markers, sections, options, values, references, shapes; the message
            names the file, the line and the section.
    """
    sections = parse_sections(text, source)
    if not sections or sections[0].kind not in ("net", "network"):
        where = f"line {sections[0].line}, [{sections[0].kind}]" if sections else "no section at all"
        raise ValueError(f"{source}: the first section must be [net]. Received: {where}")
    net: Section = sections[0]
    layers = tuple(layer_kinds.make_plan(sections[1:], net.integer("channels", 3, least=1)))
    if not any(layer.kind == "yolo" for layer in layers):
        raise ValueError(f"{source}: no [yolo] section among {len(layers)}; expected a detector such as yolov3.cfg")
    return Cfg(source, {key: convert(value) for key, value in net.options.items()}, layers)


def read_cfg(cfg: str | os.PathLike | Cfg) -> Cfg:
    """Read a .cfg file; what is parsed already comes back as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: as `parse_cfg`.
    """
    if isinstance(cfg, Cfg):
        return cfg
    path = Path(cfg)
    if not path.is_file():
        raise FileNotFoundError(f"no file {path.name} in {path.parent}; expected a Darknet .cfg file or a parsed Cfg")
    return parse_cfg(intake.read_text(path, expected="a Darknet .cfg file"), path.name)
