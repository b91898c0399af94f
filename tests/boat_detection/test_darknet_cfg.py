"""Darknet's .cfg files: parsing, checking, counting, and the texts that the package writes itself."""

from fractions import Fraction

import pytest

from helpers import runtime
from helpers.boat_detection.formats.darknet import cfg_files, networks

SHARED = runtime.repo_root().parent / "shared" / "data" / "boats"
WRITERS = {
    "yolov3": networks.yolov3_cfg,
    "yolov3-tiny": networks.yolov3_tiny_cfg,
    "yolov3-spp": networks.yolov3_spp_cfg,
}
NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nfilters=6\nactivation=linear\n"
YOLO = "[yolo]\nanchors=4,6\nclasses=1\n"


def parse(name, classes=80, **options):
    return cfg_files.parse_cfg(WRITERS[name](classes, **options), f"{name}.cfg")


@pytest.mark.parametrize(
    ("name", "classes", "convolutions", "floats", "size"),
    [
        ("yolov3", 80, 75, 62_001_757, 248_007_048),
        ("yolov3", 1, 75, 61_576_342, 246_305_388),
        ("yolov3", 601, 75, 64_807_342, 259_229_388),
        ("yolov3-spp", 80, 76, 63_052_381, 252_209_544),
        ("yolov3-tiny", 80, 13, 8_858_734, 35_434_956),
        ("yolov3-tiny", 1, 13, 8_676_244, 34_704_996),
    ],
)
def test_values_in_the_published_files(name, classes, convolutions, floats, size):
    cfg = parse(name, classes)
    assert sum(layer.kind == "convolutional" for layer in cfg.layers) == convolutions
    assert cfg.floats == floats
    assert 4 * cfg.floats + 20 == size


@pytest.mark.parametrize(
    ("name", "layers", "convolutions", "floats"),
    [("yolov3", 74, 52, 40_620_640), ("yolov3-tiny", 15, 9, 7_743_344), ("yolov3-tiny", 11, 6, 1_575_792)],
)
def test_values_before_a_cut(name, layers, convolutions, floats):
    kept = [layer.floats for layer in parse(name).layers[:layers] if layer.floats]
    assert (len(kept), sum(kept)) == (convolutions, floats)


@pytest.mark.parametrize(
    ("name", "size", "published"),
    [("yolov3", 320, 38.97), ("yolov3", 416, 65.86), ("yolov3", 608, 140.69), ("yolov3-tiny", 416, 5.565)],
)
def test_operations_are_the_published_ones(name, size, published):
    """Two operations per multiplication: checks channels and strides of every convolution."""
    total = 0
    for layer in parse(name).layers:
        if layer.kind == "convolutional":
            cells = Fraction(size, layer.stride) ** 2
            total += 2 * cells * layer.channels * layer.in_channels * layer.values["size"] ** 2
    assert float(total) / 1e9 == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("yolov3", [(82, 32, (6, 7, 8)), (94, 16, (3, 4, 5)), (106, 8, (0, 1, 2))]),
        ("yolov3-tiny", [(16, 32, (3, 4, 5)), (23, 16, (0, 1, 2))]),
        ("yolov3-spp", [(89, 32, (6, 7, 8)), (101, 16, (3, 4, 5)), (113, 8, (0, 1, 2))]),
    ],
)
def test_heads(name, heads):
    cfg = parse(name, 7)
    assert [(head.index, head.stride, head.mask) for head in cfg.yolo] == heads
    assert all((head.classes, head.ignore_thresh, head.scale_x_y) == (7, 0.7, 1.0) for head in cfg.yolo)
    assert cfg.yolo[0].anchors[-1] == ((344, 319) if name == "yolov3-tiny" else (373, 326))


def test_the_finer_head_alone():
    """Without the coarse head its two convolutions are gone: 256 -> 512, 3 x 3 with batch normalisation, and 512 -> 18."""
    pairs = networks.TINY_ANCHORS
    two, one = (cfg_files.parse_cfg(networks.yolov3_tiny_cfg(1, anchors=pairs[: 3 * n], heads=n)) for n in (2, 1))
    assert two.floats - one.floats == 512 * (256 * 9 + 4) + 18 * (512 + 1)
    (head,) = one.yolo
    assert (head.stride, head.mask, len(one.layers)) == (16, (0, 1, 2), len(two.layers) - 4)
    with pytest.raises(ValueError, match="multiple of 2 pairs"):
        networks.yolov3_tiny_cfg(1, anchors=pairs[:1])


def test_masks_of_the_published_tiny_network():
    cfg = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(80, masks=networks.TINY_MASKS))
    assert [head.mask for head in cfg.yolo] == [(3, 4, 5), (1, 2, 3)]
    assert [head.channels for head in (cfg.layers[15], cfg.layers[22])] == [255, 255]


@pytest.mark.parametrize("name", ["yolov3", "yolov3-tiny"])
def test_written_text_says_what_the_genuine_file_says(name):
    path = SHARED / "darknet" / f"{name}.cfg"
    if not path.is_file():
        pytest.skip("needs ../shared")
    genuine = cfg_files.parse_sections(path.read_text())
    written = cfg_files.parse_sections(WRITERS[name](80, batch=1, subdivisions=1))
    assert len(written) == len(genuine)
    for ours, theirs in zip(written, genuine, strict=True):
        values = [{key: cfg_files.convert(value) for key, value in one.options.items()} for one in (ours, theirs)]
        assert (ours.kind, values[0]) == (theirs.kind, values[1]), f"genuine line {theirs.line}"


@pytest.mark.parametrize(
    ("name", "floats"), [("yolov3", 62_001_757), ("yolov3-tiny", 8_858_734), ("yoloface-50k", 11_248)]
)
def test_genuine_files_are_read(name, floats):
    path = SHARED / "darknet" / f"{name}.cfg"
    if not path.is_file():
        pytest.skip("needs ../shared")
    assert cfg_files.read_cfg(path).floats == floats


def test_merge_markers_of_the_original_project_are_refused():
    path = SHARED / "seed_project" / "cfg" / "yolov3_ih_fp.cfg_test"
    if not path.is_file():
        pytest.skip("needs ../shared")
    with pytest.raises(ValueError, match=r"yolov3_ih_fp\.cfg_test, line 3: .*<<<<<<< HEAD.*3, 6, 9, 25"):
        cfg_files.read_cfg(path)


def test_syntax():
    text = "\ufeff# a comment\r\n[NETWORK]\r\n width = 64 # wide\r\nscales=.1,.2\r\npolicy=steps\r\n\r\n;[x]\r\n" + (
        "[conv]\nfilters = 6\nactivation=linear\nfilters=7\n[yolo]\nanchors = 4,6,\nclasses=1\nmask=0\n"
    )
    cfg = cfg_files.parse_cfg(text)
    assert cfg.net == {"width": 64, "scales": (0.1, 0.2), "policy": "steps"}
    assert [(layer.kind, layer.section.line) for layer in cfg.layers] == [("convolutional", 8), ("yolo", 12)]
    assert cfg.layers[0].channels == 6, "the first of two equal keys counts, as in Darknet"
    assert cfg.yolo[0].anchors == ((4.0, 6.0),)


def test_reading(tmp_path):
    path = tmp_path / "small.cfg"
    path.write_text(NET + CONV + YOLO)
    cfg = cfg_files.read_cfg(path)
    assert cfg.source == "small.cfg"
    assert cfg_files.read_cfg(cfg) is cfg
    with pytest.raises(FileNotFoundError, match=r"none\.cfg"):
        cfg_files.read_cfg(tmp_path / "none.cfg")


def test_references_and_strides():
    text = "\n".join(
        [
            NET,
            CONV.replace("6", "8") + "stride=2\nsize=3\npad=1",  # 0
            "[route]\nlayers=-1\ngroups=4\ngroup_id=3",  # 1
            "[maxpool]\nsize=2\nstride=2",  # 2
            "[upsample]\nstride=2",  # 3
            "[route]\nlayers=-1,0",  # 4
            "[shortcut]\nfrom=-4,0",  # 5
            "[dropout]",  # 6
            "[avgpool]",  # 7
            CONV,  # 8
            YOLO,  # 9
        ]
    )
    found = cfg_files.parse_cfg(text).layers
    assert [layer.inputs for layer in found[:6]] == [(-1,), (0,), (1,), (2,), (3, 0), (4, 1, 0)]
    assert [layer.channels for layer in found] == [8, 2, 2, 2, 10, 10, 10, 10, 6, 6]
    assert [layer.stride for layer in found] == [2, 2, 4, 2, 2, 2, 2, None, None, None]


@pytest.mark.parametrize("layers", ["-1,0", "0,-1"])
def test_a_route_knows_the_stride_that_any_of_its_layers_knows(layers):
    text = NET + CONV + "stride=2\n[avgpool]\n[route]\nlayers=" + layers + "\n" + CONV + YOLO
    assert [layer.stride for layer in cfg_files.parse_cfg(text).layers] == [2, None, 2, 2, 2]


BAD = {  # what is wrong: text after [net], words of the message, line
    "unknown section": ("[lstm]\n", ["[lstm]", "convolutional", "yolo"], 5),
    "unknown option": (CONV + "filter=3\n", ["[convolutional]", "filter=3", "filters"], 8),
    "no number": ("[convolutional]\nfilters=six\n", ["filters=six", "integer"], 6),
    "no filters left": ("[convolutional]\nfilters=0\n", ["filters=0", "at least 1"], 6),
    "unknown activation": ("[convolutional]\nactivation=selu\n", ["activation=selu", "mish", "swish"], 6),
    "dilation": (CONV + "dilation=2\n", ["dilation=2", "dilation=1"], 8),
    "groups": (CONV + "groups=4\n", ["groups=4", "3 channels", "6 filters"], 8),
    "shortcut too far back": (CONV + "[shortcut]\nfrom=-2\n", ["[shortcut]", "from=-2", "layer 1", "-1 to -1"], 9),
    "route ahead": (CONV + "[route]\nlayers=-1,1\n", ["[route]", "layers=-1,1", "0 to 0"], 9),
    "route without layers": (CONV + "[route]\n", ["[route]", "layers is missing"], 8),
    "route of other size": (CONV + "[maxpool]\nstride=2\n[route]\nlayers=-1,0\n", ["[route]", "height and width"], 11),
    "shortcut of other size": (CONV + "[upsample]\n[shortcut]\nfrom=0\n", ["layer 0", "height and width"], 10),
    "group": (CONV + "[route]\nlayers=0\ngroups=2\ngroup_id=2\n", ["group_id=2", "groups=2"], 11),
    "group of odd channels": (CONV + "[route]\nlayers=0\ngroups=4\n", ["groups=4", "[6]"], 10),
    "weighted shortcut": (CONV + "[shortcut]\nfrom=0\nweights_type=per_channel\n", ["weights_type", "none"], 10),
    "empty window": (CONV + "[maxpool]\nsize=2\nstride=2\npadding=3\n", ["padding=3", "at most 2"], 11),
    "dropout": (CONV + "[dropout]\nprobability=1\n", ["probability=1", "below 1"], 9),
    "new coordinates": (CONV + YOLO + "new_coords=x\n", ["[yolo]", "new_coords=x", "an integer"], 11),
    "filters before yolo": (CONV + YOLO + "mask=0,0\n", ["[yolo]", "filters=12", "received 6"], 8),
    "no convolution before yolo": (CONV + "[dropout]\n" + YOLO, ["[convolutional]", "right before"], 9),
    "yolo first": (YOLO, ["[yolo]", "right before", "received 3"], 5),
    "mask": (CONV + YOLO + "mask=1\n", ["mask=1", "0 to 0"], 11),
    "num": (CONV + YOLO + "num=2\n", ["anchors=4,6", "num=2"], 9),
    "anchors": (CONV + "[yolo]\nclasses=1\nanchors=4,0\n", ["anchors=4,0", "above 0"], 10),
    "classes": (CONV + "[yolo]\nanchors=4,6\n", ["classes is missing"], 8),
    "reading boxes": (CONV + YOLO + CONV, ["reads layer 1, a [yolo]", "[route]"], 11),
    "loose words": (CONV + "filters\n", ["[convolutional]", "'filters'", "key=value"], 8),
    "merge marker": (CONV + "<<<<<<< HEAD\n=======\n>>>>>>> b\n", ["<<<<<<< HEAD", "lines 8, 9, 10"], 8),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_with_their_line(what):
    text, words, line = BAD[what]
    with pytest.raises(ValueError) as caught:
        cfg_files.parse_cfg(NET + text, "bad.cfg")
    message = str(caught.value)
    assert message.startswith(f"bad.cfg, line {line}"), message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no section at all"),
        (CONV, r"line 1, \[convolutional\]"),
        (NET + CONV, r"no \[yolo\] section among 1"),
        ("width=3\n", r"line 1: expected \[section\]"),
    ],
)
def test_files_without_a_detector(text, words):
    with pytest.raises(ValueError, match=words):
        cfg_files.parse_cfg(text)


def test_off_switches_of_unsupported_options_are_accepted():
    text = (
        NET
        + CONV
        + "dilation=1\nstopbackward=1\n[shortcut]\nfrom=-1\nweights_type=none\n"
        + CONV
        + YOLO
        + "new_coords=0\n"
    )
    assert len(cfg_files.parse_cfg(text).layers) == 4


def test_written_options():
    text = networks.yolov3_tiny_cfg(
        2, size=(96, 160), anchors=((1, 2), (3, 4)), width=0.25, learning_rate=0.01, random=0, iou_loss="ciou"
    )
    cfg = cfg_files.parse_cfg(text)
    assert (cfg.net["height"], cfg.net["width"], cfg.net["learning_rate"]) == (96, 160, 0.01)
    assert [(head.mask, head.options["random"], head.options["iou_loss"]) for head in cfg.yolo] == [
        ((1,), 0, "ciou"),
        ((0,), 0, "ciou"),
    ]
    assert cfg.layers[0].channels == 4 and cfg.layers[12].channels == 256
    assert cfg.layers[15].channels == 1 * (5 + 2), "heads keep their width"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 1, "learnin_rate": 1}, "learning_rate.*Received.*learnin_rate"),
        ({"num_classes": 1, "anchors": ((1, 2), (3, 4))}, "multiple of 3 pairs. Received: 2"),
    ],
)
def test_bad_options_of_the_writers(arguments, words):
    with pytest.raises(ValueError, match=words):
        networks.yolov3_cfg(**arguments)
