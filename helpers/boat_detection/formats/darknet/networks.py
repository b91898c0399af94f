"""The text of the .cfg files of YOLOv3, its tiny form and its SPP form, for any width and number of classes.

Redmon and Farhadi, "YOLOv3: an incremental improvement", 2018, arXiv 1804.02767; the SPP block: He et al., "Spatial pyramid
pooling", 2014, arXiv 1406.4729, in the form of Darknet's yolov3-spp.
"""

from collections.abc import Sequence
from typing import Any

from helpers.boat_detection.formats.darknet.layer_kinds import OPTIONS
from helpers.boat_detection.formats.darknet.sections import format_sections

ANCHORS = ((10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198), (373, 326))
TINY_ANCHORS = ((10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319))
# Of the two heads of the published yolov3-tiny.weights: 3 is in both, 0 in none. Darknet's yolov3-tiny.cfg says 0, 1, 2 for the
# second, with which the same weights draw boxes half as large as they should be.
TINY_MASKS = ((3, 4, 5), (1, 2, 3))
STAGES = ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4))  # filters and residual blocks of Darknet-53
NET = {
    "batch": 64, "subdivisions": 16, "width": 416, "height": 416, "channels": 3, "momentum": 0.9, "decay": 0.0005, "angle": 0,
    "saturation": 1.5, "exposure": 1.5, "hue": 0.1, "learning_rate": 0.001, "burn_in": 1000, "max_batches": 500200,
    "policy": "steps", "steps": (400000, 450000), "scales": (0.1, 0.1),
}  # fmt: skip
YOLO = {"jitter": 0.3, "ignore_thresh": 0.7, "truth_thresh": 1, "random": 1}
MORE = {"letter_box", "mosaic"}  # of [net], read by AlexeyAB's training, absent from the original files
Size = int | tuple[int, int]
Anchors = Sequence[tuple[float, float]]  # widths and heights
Masks = Sequence[Sequence[int]]  # per head, the coarsest first, the numbers of its anchors


class _Writer:
    """Collects sections; every method gives Darknet's number of the layer that it wrote."""

    def __init__(self, num_classes: int, size: Size, anchors: Anchors, width: float, options: dict[str, Any]) -> None:
        height, across = (size, size) if isinstance(size, int) else size
        options = {**options, "height": height, "width": across}
        net, yolo = NET.keys() | MORE, OPTIONS["yolo"]
        if unknown := options.keys() - net - yolo:
            raise ValueError(
                f"options must be among {', '.join(sorted(net | yolo))}. Received: {', '.join(sorted(unknown))}"
            )
        self.num_classes, self.anchors, self.scale = num_classes, [tuple(pair) for pair in anchors], width
        self.training = YOLO | {key: value for key, value in options.items() if key in yolo}
        self.sections = [("net", NET | {key: value for key, value in options.items() if key in net})]

    def add(self, kind: str, **options: Any) -> int:
        self.sections.append((kind, options))
        return len(self.sections) - 2

    def conv(self, filters: int, size: int, stride: int = 1) -> int:
        filters = max(1, round(filters * self.scale))
        shape = {"filters": filters, "size": size, "stride": stride, "pad": 1}
        return self.add("convolutional", batch_normalize=1, **shape, activation="leaky")

    def head(self, number: int, heads: int, masks: Masks | None = None) -> int:
        """The 1 x 1 convolution and `[yolo]`; head 0 is the coarsest and takes the last anchors, if `masks` do not say more."""
        each, rest = divmod(len(self.anchors), heads)
        if rest or not each:
            raise ValueError(f"anchors must be a multiple of {heads} pairs. Received: {len(self.anchors)}")
        first = (heads - 1 - number) * each
        mask = tuple(masks[number]) if masks else tuple(range(first, first + each))
        filters = len(mask) * (5 + self.num_classes)
        self.add("convolutional", size=1, stride=1, pad=1, filters=filters, activation="linear")
        flat = tuple(side for pair in self.anchors for side in pair)
        own = {"mask": mask, "anchors": flat, "classes": self.num_classes}
        return self.add("yolo", **own, num=len(self.anchors), **self.training)

    def descend(self, filters: int, *, source: int) -> None:
        """To the next finer grid: halve the channels, double the map, join what the backbone saw there."""
        self.conv(filters, 1)
        self.add("upsample", stride=2)
        self.add("route", layers=(-1, source))

    def text(self) -> str:
        return format_sections(self.sections)


def _backbone(net: _Writer) -> dict[int, int]:
    """Darknet-53 without its classifier; gives the last layer of each stage by filters."""
    net.conv(32, 3)
    ends = {}
    for filters, blocks in STAGES:
        net.conv(filters, 3, 2)
        for _ in range(blocks):
            net.conv(filters // 2, 1)
            net.conv(filters, 3)
            ends[filters] = net.add("shortcut", **{"from": -3}, activation="linear")
    return ends


def _spp(net: _Writer) -> None:
    """Maximum over 5, 9 and 13 cells beside the map itself."""
    for size, back in ((5, -2), (9, -4), (13, (-1, -3, -5, -6))):
        net.add("maxpool", stride=1, size=size)
        net.add("route", layers=back)
    net.conv(512, 1)


def _neck(net: _Writer, filters: int, *, spp: bool = False) -> None:
    """Three pairs of 1 x 1 and 3 x 3 before a head; the pyramid comes after the third convolution."""
    for place in range(6):
        net.conv(filters * (1 + place % 2), 1 + 2 * (place % 2))
        if place == 2 and spp:
            _spp(net)


def yolov3_cfg(
    num_classes: int, *, size: Size = 416, anchors: Anchors = ANCHORS, width: float = 1.0, spp: bool = False,
    **training: Any,
) -> str:  # fmt: skip
    """The text of yolov3.cfg: Darknet-53, three heads at strides 32, 16 and 8.

    Args:
        size: side of the input in pixels, or (height, width), multiples of 32.
        anchors: (width, height) in pixels of the input, by rising area, a multiple of three.
        width: factor of all numbers of filters.
        spp: a spatial pyramid pooling before the first head.
        **training: options of `[net]` and `[yolo]`, such as `learning_rate=0.001` or `random=0`; Darknet's own by default.

    Raises:
        ValueError: an option that neither section knows, or a number of anchors that the heads cannot share.
    """
    net = _Writer(num_classes, size, anchors, width, training)
    ends = _backbone(net)
    _neck(net, 512, spp=spp)
    net.head(0, 3)
    for number, filters in ((1, 256), (2, 128)):
        net.add("route", layers=-4)
        net.descend(filters, source=ends[2 * filters])
        _neck(net, filters)
        net.head(number, 3)
    return net.text()


def yolov3_spp_cfg(num_classes: int, *, size: Size = 608, **options: Any) -> str:
    """The text of yolov3-spp.cfg: `yolov3_cfg` with a spatial pyramid pooling before the first head. Options as there."""
    return yolov3_cfg(num_classes, size=size, spp=True, **options)


def yolov3_tiny_cfg(
    num_classes: int, *, size: Size = 416, anchors: Anchors = TINY_ANCHORS, masks: Masks | None = None, width: float = 1.0,
    heads: int = 2, **training: Any,
) -> str:  # fmt: skip
    """The text of yolov3-tiny.cfg: seven convolutions and pools, two heads at strides 32 and 16. Arguments as `yolov3_cfg`.

    `masks` are by default the halves of the anchors; the published weights need `TINY_MASKS`. One of the `heads` is the finer one.
    """
    net = _Writer(num_classes, size, anchors, width, training)
    ends = {}
    for filters in (16, 32, 64, 128, 256, 512):
        ends[filters] = net.conv(filters, 3)
        net.add("maxpool", size=2, stride=1 if filters == 512 else 2)
    net.conv(1024, 3)
    net.conv(256, 1)
    if heads == 2:
        net.conv(512, 3)
        net.head(0, 2, masks)
        net.add("route", layers=-4)
    net.descend(128, source=ends[256])
    net.conv(256, 3)
    net.head(heads - 1, heads, masks)
    return net.text()


WRITERS = {"yolov3": yolov3_cfg, "yolov3-tiny": yolov3_tiny_cfg, "yolov3-spp": yolov3_spp_cfg}
SHIPPED = {"yolov3": ANCHORS, "yolov3-tiny": TINY_ANCHORS, "yolov3-spp": ANCHORS}  # the anchors of the published files
