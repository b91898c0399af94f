"""What the sections of a .cfg file mean: every option checked, references resolved, channels and strides known.

Knows nothing of Keras, so that files can be checked, counted and cut without building a network.
"""

from collections.abc import Callable, Sequence
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
    layers: list[Layer] = []
    for section in sections:
        kind = ALIASES.get(section.kind, section.kind)
        if kind not in KINDS:
            raise section.error(f"this kind of section is not known; allowed: {', '.join(sorted(OPTIONS))}")
        _check_options(section, kind)
        layers.append(KINDS[kind](section, _Context(layers, channels)))
    return layers


def _check_options(section: Section, kind: str) -> None:
    off = OFF.get(kind, {})
    for key, value in section.options.items():
        if key in off and value != off[key]:
            raise section.error(f"is not supported; allowed: {key}={off[key]}", key)
        if key not in OPTIONS[kind] | TRAINING | set(off):
            raise section.error(f"is not known; allowed: {', '.join(sorted(OPTIONS[kind])) or 'no options'}", key)


@dataclass
class _Context:
    """The layers so far, as the next section sees them."""

    layers: list[Layer]
    channels: int

    @property
    def index(self) -> int:
        return len(self.layers)

    def shape(self, section: Section, index: int) -> tuple[int, Fraction | None]:
        """Channels and stride of a layer; the output of [yolo] is boxes, no map of features."""
        if index == -1:
            return self.channels, Fraction(1)
        if self.layers[index].kind == "yolo":
            raise section.error(f"reads layer {index}, a [yolo] section; begin with a [route] to a layer before it")
        return self.layers[index].channels, self.layers[index].stride

    def resolve(self, section: Section, key: str) -> tuple[int, ...]:
        """Numbers of layers: negative ones count back from this section."""
        given = section.numbers(key, kind=int)
        found = tuple(i if i >= 0 else self.index + i for i in given)
        if not all(0 <= i < self.index for i in found):
            allowed = f"{-self.index} to -1, or 0 to {self.index - 1}" if self.index else "none, this is the first"
            raise section.error(
                f"points to a layer that is not there; this is layer {self.index}, allowed: {allowed}", key
            )
        return found

    def simple(
        self, section: Section, kind: str, *, by: Fraction | int | None = 1, filters: int | None = None, **values: Any
    ) -> Layer:
        """A layer that reads the one before it, multiplies the stride by `by`, and keeps the channels if it has no `filters`."""
        channels, stride = self.shape(section, self.index - 1)
        stride = stride * by if stride and by else None
        return Layer(self.index, kind, section, (self.index - 1,), channels, filters or channels, stride, values)


def _activation(section: Section, default: str) -> str:
    name = section.options.get("activation", default)
    if name not in ACTIVATIONS:
        raise section.error(f"is not known; allowed: {', '.join(ACTIVATIONS)}", "activation")
    return name


def _convolutional(section: Section, context: _Context) -> Layer:
    channels, _ = context.shape(section, context.index - 1)
    size, step = section.integer("size", 1, least=1), section.integer("stride", 1, least=1)
    values = {
        "size": size,
        "stride": step,
        "padding": size // 2 if section.integer("pad", 0) else section.integer("padding", 0),
        "groups": section.integer("groups", 1, least=1),
        "batch_normalize": section.integer("batch_normalize", 0),
        "activation": _activation(section, "logistic"),
    }
    filters = section.integer("filters", 1, least=1)
    if values["batch_normalize"] > 1:
        raise section.error("is not supported; allowed: 0 or 1", "batch_normalize")
    if channels % values["groups"] or filters % values["groups"]:
        raise section.error(f"must divide the {channels} channels of the input and the {filters} filters", "groups")
    return context.simple(section, "convolutional", by=step, filters=filters, **values)


def _maxpool(section: Section, context: _Context) -> Layer:
    stride = section.integer("stride", 1, least=1)
    size = section.integer("size", stride, least=1)
    padding = section.integer("padding", size - 1)
    if padding > 2 * (size - 1):
        raise section.error(f"must be at most {2 * (size - 1)}, or a window sees no pixel", "padding")
    return context.simple(section, "maxpool", by=stride, size=size, stride=stride, padding=padding)


def _avgpool(section: Section, context: _Context) -> Layer:
    return context.simple(section, "avgpool", by=None)


def _upsample(section: Section, context: _Context) -> Layer:
    stride = section.integer("stride", 2, least=1)
    return context.simple(section, "upsample", by=Fraction(1, stride), stride=stride)


def _dropout(section: Section, context: _Context) -> Layer:
    probability = section.number("probability", 0.5)
    if not 0 <= probability < 1:
        raise section.error("must be at least 0 and below 1", "probability")
    return context.simple(section, "dropout", probability=probability)


def _shortcut(section: Section, context: _Context) -> Layer:
    others = context.resolve(section, "from")
    layer = context.simple(section, "shortcut", activation=_activation(section, "linear"))
    for other in others:
        if len({layer.stride, context.shape(section, other)[1]} - {None}) > 1:
            raise section.error(f"adds layer {other}, which has another height and width", "from")
    return replace(layer, inputs=(*layer.inputs, *others))


def _route(section: Section, context: _Context) -> Layer:
    inputs = context.resolve(section, "layers")
    groups, part = section.integer("groups", 1, least=1), section.integer("group_id", 0)
    shapes = [context.shape(section, index) for index in inputs]
    strides = {stride for _, stride in shapes}
    if len(strides - {None}) > 1:
        raise section.error("joins layers of different height and width", "layers")
    if part >= groups:
        raise section.error(f"must be below groups={groups}", "group_id")
    if any(channels % groups for channels, _ in shapes):
        raise section.error(f"must divide the channels of each layer: {[channels for channels, _ in shapes]}", "groups")
    total = sum(channels for channels, _ in shapes)
    values = {"groups": groups, "group_id": part}
    return Layer(context.index, "route", section, inputs, total, total // groups, strides.pop(), values)


def _yolo(section: Section, context: _Context) -> Layer:
    anchors, classes = section.numbers("anchors"), section.integer("classes", least=1)
    pairs = tuple(zip(anchors[::2], anchors[1::2], strict=False))
    num = section.integer("num", len(pairs))
    if len(anchors) != 2 * num:
        raise section.error(f"holds {len(anchors)} numbers; expected num={num} pairs of width and height", "anchors")
    if min(anchors) <= 0:
        raise section.error("must be above 0", "anchors")
    mask = section.numbers("mask", tuple(range(len(pairs))), kind=int)
    if not all(0 <= index < len(pairs) for index in mask):
        raise section.error(f"must be numbers from 0 to {len(pairs) - 1}, one for each anchor of this head", "mask")
    numbers = {key: section.number(key, default) for key, default in (("ignore_thresh", 0.5), ("scale_x_y", 1.0))}
    numbers["new_coords"] = bool(section.integer("new_coords", 0))
    layer = context.simple(section, "yolo", anchors=pairs, mask=mask, classes=classes, **numbers)
    wanted = len(mask) * (5 + classes)
    if not context.layers or context.layers[-1].kind != "convolutional" or layer.channels != wanted:
        raise section.error(
            f"needs a [convolutional] section right before it with filters={wanted}, that is {len(mask)} anchors x "
            f"(5 + {classes} classes); received {layer.channels} channels"
        )
    return layer


MAKERS = (_convolutional, _maxpool, _avgpool, _upsample, _dropout, _shortcut, _route, _yolo)
KINDS: dict[str, Callable[[Section, _Context], Layer]] = {make.__name__[1:]: make for make in MAKERS}
