"""What the sections of a .cfg file mean: every option checked, references resolved, channels and strides known.

Knows nothing of Keras, so that files can be checked, counted and cut without building a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from helpers.boat_detection.formats.darknet.sections import Section

ACTIVATIONS = ("leaky", "linear", "logistic", "mish", "relu", "relu6", "swish")
ALIASES = {"conv": "convolutional", "max": "maxpool", "avg": "avgpool"}
# read by Darknet's training only, and never by the form of the network
TRAINING = {"stopbackward", "train_only_bn", "burnin_update", "dont_update", "learning_rate", "clip"}
OPTIONS = {
    "convolutional": {"batch_normalize", "filters", "groups", "size", "stride", "pad", "padding", "activation"},
    "maxpool": {"size", "stride", "padding"},
    "avgpool": set(),
    "upsample": {"stride"},
    "dropout": {"probability"},
    "shortcut": {"from", "activation"},
    "route": {"layers", "groups", "group_id"},
    "yolo": {
        *("mask", "anchors", "classes", "num", "scale_x_y", "new_coords", "jitter", "resize", "random", "max", "map"),
        *("ignore_thresh", "truth_thresh", "iou_thresh", "iou_thresh_kind", "iou_loss", "iou_normalizer"),
        *("obj_normalizer", "cls_normalizer", "delta_normalizer", "max_delta", "label_smooth_eps", "focal_loss"),
        *("objectness_smooth", "counters_per_class", "nms_kind", "beta_nms", "show_details", "thresh", "nms_threshold"),
    },
}
# would change the network in ways that are not done here: accepted with the value that says "off"
OFF = {
    "convolutional": {"dilation": "1", **dict.fromkeys(("flipped", "binary", "xnor", "antialiasing", "dontload"), "0")},
    "maxpool": {"maxpool_depth": "0", "antialiasing": "0"},
    "upsample": {"scale": "1"},
    "dropout": {"dropblock": "0"},
    "shortcut": {"weights_type": "none", "weights_normalization": "none"},
}


@dataclass(frozen=True)
class Layer:
    """One section after `[net]`."""

    index: int  # Darknet's number of the layer, from 0
    kind: str  # a key of `OPTIONS`
    section: Section  # where it stands in the file
    inputs: tuple[int, ...]  # numbers of the layers that it reads; -1 is the image
    in_channels: int  # of the first of them, or of all joined for a route
    channels: int  # of its output
    stride: Fraction | None  # pixels of the image per cell of the output; None behind an avgpool
    values: dict[str, Any]  # its options, checked

    @property
    def floats(self) -> int:
        """Values that it takes in a .weights file."""
        if self.kind != "convolutional":
            return 0
        kernel = self.values["size"] ** 2 * self.in_channels // self.values["groups"]
        return self.channels * (kernel + (4 if self.values["batch_normalize"] else 1))


def make_plan(sections: Sequence[Section], channels: int = 3) -> list[Layer]:
    """Check the sections after `[net]` and say what each of them does to an image of so many channels.

    Raises:
        ValueError: a section, option or value that is not known, a reference to a layer that is not there, or shapes that do
            not fit; names file, line and section.
    """
    plan = _Plan(channels)
    for section in sections:
        kind = ALIASES.get(section.kind, section.kind)
        if kind not in OPTIONS:
            raise section.error(f"this kind of section is not known; allowed: {', '.join(sorted(OPTIONS))}")
        _check_options(section, kind)
        plan.layers.append(getattr(plan, kind)(section))
    return plan.layers


def _check_options(section: Section, kind: str) -> None:
    off = OFF.get(kind, {})
    for key, value in section.options.items():
        if key in off and value != off[key]:
            raise section.error(f"is not supported; allowed: {key}={off[key]}", key)
        if key not in OPTIONS[kind] | TRAINING | set(off):
            raise section.error(f"is not known; allowed: {', '.join(sorted(OPTIONS[kind])) or 'no options'}", key)


def _activation(section: Section, default: str) -> str:
    name = section.options.get("activation", default)
    if name not in ACTIVATIONS:
        raise section.error(f"is not known; allowed: {', '.join(ACTIVATIONS)}", "activation")
    return name


class _Plan:
    """The layers so far; the method called as a kind of section makes the next one."""

    def __init__(self, channels: int) -> None:
        self.layers: list[Layer] = []
        self.channels = channels  # of the image

    def convolutional(self, section: Section) -> Layer:
        channels, _ = self._shape(section, len(self.layers) - 1)
        size, stride = section.integer("size", 1, least=1), section.integer("stride", 1, least=1)
        filters, groups = section.integer("filters", 1, least=1), section.integer("groups", 1, least=1)
        values = {
            "size": size,
            "stride": stride,
            "padding": size // 2 if section.integer("pad", 0) else section.integer("padding", 0),
            "groups": groups,
            "batch_normalize": section.integer("batch_normalize", 0),
            "activation": _activation(section, "logistic"),
        }
        if values["batch_normalize"] > 1:
            raise section.error("is not supported; allowed: 0 or 1", "batch_normalize")
        if channels % groups or filters % groups:
            raise section.error(f"must divide the {channels} channels of the input and the {filters} filters", "groups")
        return self._next(section, "convolutional", by=stride, filters=filters, **values)

    def maxpool(self, section: Section) -> Layer:
        stride = section.integer("stride", 1, least=1)
        size = section.integer("size", stride, least=1)
        padding = section.integer("padding", size - 1)
        if padding > 2 * (size - 1):
            raise section.error(f"must be at most {2 * (size - 1)}, or a window sees no pixel", "padding")
        return self._next(section, "maxpool", by=stride, size=size, stride=stride, padding=padding)

    def avgpool(self, section: Section) -> Layer:
        return self._next(section, "avgpool", by=None)

    def upsample(self, section: Section) -> Layer:
        stride = section.integer("stride", 2, least=1)
        return self._next(section, "upsample", by=Fraction(1, stride), stride=stride)

    def dropout(self, section: Section) -> Layer:
        probability = section.number("probability", 0.5)
        if not 0 <= probability < 1:
            raise section.error("must be at least 0 and below 1", "probability")
        return self._next(section, "dropout", probability=probability)

    def shortcut(self, section: Section) -> Layer:
        others = self._resolve(section, "from")
        layer = self._next(section, "shortcut", activation=_activation(section, "linear"))
        for other in others:
            if len({layer.stride, self._shape(section, other)[1]} - {None}) > 1:
                raise section.error(f"adds layer {other}, which has another height and width", "from")
        return replace(layer, inputs=(*layer.inputs, *others))

    def route(self, section: Section) -> Layer:
        inputs = self._resolve(section, "layers")
        groups, part = section.integer("groups", 1, least=1), section.integer("group_id", 0)
        channels, strides = zip(*(self._shape(section, index) for index in inputs), strict=True)
        known = set(strides) - {None}
        if len(known) > 1:
            raise section.error("joins layers of different height and width", "layers")
        if part >= groups:
            raise section.error(f"must be below groups={groups}", "group_id")
        if any(count % groups for count in channels):
            raise section.error(f"must divide the channels of each layer: {list(channels)}", "groups")
        total, values = sum(channels), {"groups": groups, "group_id": part}
        stride = next(iter(known), None)
        return Layer(len(self.layers), "route", section, inputs, total, total // groups, stride, values)

    def yolo(self, section: Section) -> Layer:
        anchors, classes = section.numbers("anchors"), section.integer("classes", least=1)
        pairs = tuple(zip(anchors[::2], anchors[1::2], strict=False))
        num = section.integer("num", len(pairs))
        if len(anchors) != 2 * num:
            raise section.error(
                f"holds {len(anchors)} numbers; expected num={num} pairs of width and height", "anchors"
            )
        if min(anchors) <= 0:
            raise section.error("must be above 0", "anchors")
        mask = section.numbers("mask", tuple(range(len(pairs))), kind=int)
        if not all(0 <= index < len(pairs) for index in mask):
            raise section.error(f"must be numbers from 0 to {len(pairs) - 1}, one for each anchor of this head", "mask")
        values = {key: section.number(key, default) for key, default in (("ignore_thresh", 0.5), ("scale_x_y", 1.0))}
        values["new_coords"] = bool(section.integer("new_coords", 0))
        layer = self._next(section, "yolo", anchors=pairs, mask=mask, classes=classes, **values)
        wanted = len(mask) * (5 + classes)
        if not self.layers or self.layers[-1].kind != "convolutional" or layer.channels != wanted:
            raise section.error(
                f"needs a [convolutional] section right before it with filters={wanted}, that is {len(mask)} anchors x "
                f"(5 + {classes} classes); received {layer.channels} channels"
            )
        return layer

    def _next(
        self, section: Section, kind: str, *, by: Fraction | int | None = 1, filters: int | None = None, **values: Any
    ) -> Layer:
        """A layer that reads the one before it, multiplies the stride by `by`, and keeps the channels if it has no `filters`."""
        index = len(self.layers)
        channels, stride = self._shape(section, index - 1)
        stride = stride * by if stride and by else None
        return Layer(index, kind, section, (index - 1,), channels, filters or channels, stride, values)

    def _shape(self, section: Section, index: int) -> tuple[int, Fraction | None]:
        """Channels and stride of a layer; the output of [yolo] is boxes, no map of features."""
        if index == -1:
            return self.channels, Fraction(1)
        if self.layers[index].kind == "yolo":
            raise section.error(f"reads layer {index}, a [yolo] section; begin with a [route] to a layer before it")
        return self.layers[index].channels, self.layers[index].stride

    def _resolve(self, section: Section, key: str) -> tuple[int, ...]:
        """Numbers of layers: negative ones count back from this section."""
        index = len(self.layers)
        found = tuple(i if i >= 0 else index + i for i in section.numbers(key, kind=int))
        if not all(0 <= i < index for i in found):
            allowed = f"{-index} to -1, or 0 to {index - 1}" if index else "none, this is the first"
            raise section.error(f"points to a layer that is not there; this is layer {index}, allowed: {allowed}", key)
        return found
