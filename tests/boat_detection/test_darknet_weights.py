"""Darknet's .weights files: read, refused, sliced, cut and written; files made by `struct` and NumPy alone."""

from helpers import runtime

runtime.quiet_start()

import pickle
import struct

import keras
import numpy as np
import pytest

from helpers.boat_detection import darknet, model
from helpers.boat_detection.formats.darknet import cfg_files, networks, weights_file

TINY = {"width": 1 / 16}


def numpy_of(variable):
    return keras.ops.convert_to_numpy(variable.value)


def build_tiny(num_classes, width):
    return darknet.build_from_cfg(cfg_files.parse_cfg(networks.yolov3_tiny_cfg(num_classes, width=width)))


def header(version=(0, 2, 5), seen=0):
    return struct.pack("<3i", *version) + struct.pack("<Q", seen)


def values_of(cfg, seed=0):
    """Random values for a network, variances positive, and where each layer begins: {index: (start, layer)}."""
    generator, parts, starts, place = np.random.default_rng(seed), [], {}, 0
    for layer in cfg.layers:
        if layer.floats:
            part = generator.standard_normal(layer.floats).astype("<f4")
            if layer.values["batch_normalize"]:
                variance = slice(3 * layer.channels, 4 * layer.channels)
                part[variance] = np.abs(part[variance])
            starts[layer.index] = place
            parts.append(part)
            place += layer.floats
    return np.concatenate(parts), starts


@pytest.fixture(scope="module")
def tiny():
    """Cfg, values and starts of a narrow one-class tiny network."""
    cfg = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(1, **TINY))
    return cfg, *values_of(cfg)


@pytest.fixture(scope="module")
def network():
    """One for all: every test that reads it loads it first, or expects a refusal."""
    return build_tiny(1, **TINY)


def write(path, values, start=None):
    path.write_bytes((header() if start is None else start) + np.asarray(values, "<f4").tobytes())
    return path


def test_values_go_where_they_belong(tiny, network, tmp_path):
    _, values, starts = tiny
    assert darknet.load_weights(network, write(tmp_path / "a.weights", values, header(seen=2**40))) == (13, 2**40)
    conv, norm = network.get_layer("conv_2"), network.get_layer("bn_2")  # 1 -> 2 filters, 3 x 3
    start = starts[2]
    for variable, part in zip((norm.beta, norm.gamma, norm.moving_mean, norm.moving_variance), range(4), strict=True):
        np.testing.assert_array_equal(numpy_of(variable), values[start + 2 * part : start + 2 * part + 2])
    kernel = values[start + 8 : start + 8 + 18]
    for filters, row, column in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 2, 1)]:
        assert numpy_of(conv.kernel)[row, column, 0, filters] == kernel[9 * filters + 3 * row + column]
    head = network.get_layer("conv_15")
    start = starts[15]
    np.testing.assert_array_equal(numpy_of(head.bias), values[start : start + 18])
    assert numpy_of(head.kernel)[0, 0, 5, 7] == values[start + 18 + 7 * 32 + 5]


def test_what_is_saved_is_what_was_loaded(tiny, network, tmp_path):
    cfg, values, _ = tiny
    path = write(tmp_path / "a.weights", values, header(seen=77))
    darknet.load_weights(network, path)
    assert darknet.save_weights(network, tmp_path / "b.weights", seen=77) == 13
    assert (tmp_path / "b.weights").read_bytes() == path.read_bytes()
    darknet.save_weights(model.build_inference_model(network, cfg, 64), tmp_path / "c.weights", seen=77)
    assert (tmp_path / "c.weights").read_bytes() == path.read_bytes(), "a model around the network"
    assert [item.name for item in tmp_path.iterdir() if item.name.startswith(".")] == []


def test_grouped_kernels_keep_their_order(tmp_path):
    """Depthwise with two filters a channel, and two groups; the graph test checks what they compute."""
    text = "[net]\n[conv]\nfilters=6\nsize=3\npad=1\ngroups=3\n[conv]\nfilters=4\ngroups=2\n[conv]\nfilters=6\nactivation=linear\n"
    cfg = cfg_files.parse_cfg(text + "[yolo]\nanchors=1,2\nclasses=1\n")
    network = darknet.build_from_cfg(cfg)
    path = write(tmp_path / "a.weights", values_of(cfg)[0])
    assert darknet.load_weights(network, path) == (3, 0)
    darknet.save_weights(network, tmp_path / "b.weights")
    assert (tmp_path / "b.weights").read_bytes() == path.read_bytes()
    kernel = numpy_of(network.get_layer("conv_0").kernel)
    assert kernel.shape == (3, 3, 3, 2)
    assert kernel[0, 1, 2, 1] == values_of(cfg)[0][6 + 5 * 9 + 1], "filter 5 is the second of channel 2"


@pytest.mark.parametrize(
    ("version", "kind", "seen"),
    [
        ((0, 1, 0), "<I", 4_000_000_000),
        ((0, 0, 3), "<I", 12),
        ((0, 2, 0), "<Q", 2**35),
        ((0, 2, 5), "<Q", 32_013_312),
        ((1, 0, 0), "<Q", 5),
        ((1001, 0, 0), "<I", 6),
    ],
)
def test_header_versions(version, kind, seen, tiny, network, tmp_path):
    start = struct.pack("<3i", *version) + struct.pack(kind, seen)
    assert darknet.load_weights(network, write(tmp_path / "a.weights", tiny[1], start)) == (13, seen)


@pytest.mark.parametrize("head", ["strict", "drop", [0]])
@pytest.mark.parametrize(
    ("version", "kind", "seen"), [((0, 1, 0), "<Q", 2**33), ((0, 2, 5), "<I", 12), ((0, 0, 0), "<Q", 7)]
)
def test_the_length_tells_the_header(version, kind, seen, head, tiny, network, tmp_path):
    """Programs that write the images seen in 4 or 8 bytes whatever version they write before."""
    start = struct.pack("<3i", *version) + struct.pack(kind, seen)
    assert darknet.load_weights(network, write(tmp_path / "a.weights", tiny[1], start), head)[1] == seen
    np.testing.assert_array_equal(numpy_of(network.get_layer("bn_0").beta), tiny[1][:1])
    assert darknet.load_weights(network, tmp_path / "a.weights", head, layers=4) == (2, seen)
    assert darknet.save_weights(network, tmp_path / "b.weights", layers=4) == 2
    assert (tmp_path / "b.weights").read_bytes()[20:] == tiny[1][: tiny[2][4]].tobytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x1f\x8b\x08\0" + bytes(40), "a gzip file"), (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
        (b"<html>" + bytes(range(65, 90)), "a web page"), (pickle.dumps(1 << 80, protocol=2) + bytes(30), "a pickle"),
        (b"PK\3\4" + bytes(40), "zip archive"), (b"\x89HDF\r\n\x1a\n" + bytes(40), "HDF5 file"), (b"", "an empty file"),
    ],
)  # fmt: skip
def test_other_files_are_named_for_what_they_are(content, words, network, tmp_path):
    (tmp_path / "a.weights").write_bytes(content)
    with pytest.raises(ValueError, match=rf"^a\.weights: no Darknet header .* it is .*{words}"):
        darknet.load_weights(network, tmp_path / "a.weights")


def spoil(values, starts, *, layer=0, place=0, value=np.nan):
    values = values.copy()
    values[starts[layer] + place] = value
    return values


BAD = {
    "a value short": (lambda v, s: header() + v[:-1].tobytes(), ["ends inside layer 22"]),
    "a byte short": (lambda v, s: header() + v.tobytes()[:-1], ["truncated", "multiple of 4"]),
    "cut in the first layer": (
        lambda v, s: header() + v[:30].tobytes(),
        ["ends inside layer 0", "30 values, it takes 31"],
    ),
    "cut in the middle": (lambda v, s: header() + v[: s[12] + 5].tobytes(), ["ends inside layer 12", "5 values"]),
    "a value too many": (lambda v, s: header() + v.tobytes() + bytes(4), ["1 values are left"]),
    "an old header and a value too many": (
        lambda v, s: header((0, 1, 0))[:16] + np.float32(1).tobytes() + v.tobytes(),
        ["1 values are left"],
    ),
    "nan": (lambda v, s: header() + spoil(v, s, layer=13, place=40).tobytes(), ["layer 13", "1 of", "not finite"]),
    "inf": (lambda v, s: header() + spoil(v, s, layer=22, value=np.inf).tobytes(), ["layer 22", "not finite"]),
    "variance": (lambda v, s: header() + spoil(v, s, place=3, value=-1e-3).tobytes(), ["negative variance", "layer 0"]),
    "web page": (lambda v, s: b"\n<!DOCTYPE html><html><body>Moved", ["web page"]),
    "empty": (lambda v, s: b"", ["header", "first 0 bytes"]),
    "header alone": (lambda v, s: header(), ["0 bytes after the header"]),
    "other file": (lambda v, s: struct.pack("<3i", -5, 2, 0) + v.tobytes(), ["no Darknet header"]),
}


@pytest.mark.parametrize("head", ["strict", "drop"])
@pytest.mark.parametrize("what", BAD)
def test_bad_files_are_refused_and_change_nothing(what, head, tiny, network, tmp_path):
    make, words = BAD[what]
    path = tmp_path / "bad.weights"
    path.write_bytes(make(*tiny[1:]))
    before = [numpy_of(variable).copy() for variable in network.weights]
    with pytest.raises(ValueError, match=r"^bad\.weights: ") as caught:
        darknet.load_weights(network, path, head)
    if head == "strict" or not words[0].startswith(("ends", "1 values are left")):  # else: fits no number of classes
        assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)
    for old, variable in zip(before, network.weights, strict=True):
        np.testing.assert_array_equal(numpy_of(variable), old)


def test_missing_file_and_foreign_model(network, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.weights"):
        darknet.load_weights(network, tmp_path / "none.weights")
    foreign = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match="must come from build_from_cfg"):
        darknet.save_weights(foreign, tmp_path / "a.weights")


def test_backbone_alone(tmp_path):
    """A cut at layer 74 holds 52 convolutions; the rest of the network stays as it was."""
    cfg = cfg_files.parse_cfg(networks.yolov3_cfg(4, width=1 / 16))
    values, starts = values_of(cfg)
    full, cut = write(tmp_path / "full.weights", values), tmp_path / "cut.conv.74"
    whole = darknet.build_from_cfg(cfg)
    darknet.load_weights(whole, full)
    assert darknet.save_weights(whole, cut, layers=74) == 52
    assert cut.read_bytes() == header() + values[: starts[75]].tobytes()
    network = model.build_yolov3(1, width=1 / 16)
    before = numpy_of(network.get_layer("conv_75").kernel).copy()
    for path, layers in ((cut, None), (full, 74)):
        for head in ("strict", "drop", [0]):
            network.get_layer("bn_73").beta.assign(np.zeros(64))
            assert darknet.load_weights(network, path, head, layers=layers) == (52, 0)
            np.testing.assert_array_equal(numpy_of(network.get_layer("conv_75").kernel), before)
            np.testing.assert_array_equal(numpy_of(network.get_layer("bn_73").beta), values[starts[73] :][:64])


def test_the_published_sizes_and_the_backbone_of_another_network(tmp_path):
    """yolov3.weights, here all zeros: the backbone of yolov3-spp, which ends otherwise, and the size of darknet53.conv.74."""
    with (tmp_path / "yolov3.weights").open("wb") as file:
        file.write(header(seen=32_013_312))
        file.truncate(248_007_048)
    assert 20 + 4 * cfg_files.parse_cfg(networks.yolov3_cfg(80)).floats == 248_007_048
    network = darknet.build_from_cfg(cfg_files.parse_cfg(networks.yolov3_spp_cfg(1)))
    path = tmp_path / "darknet53.conv.74"
    for head in ("strict", "drop"):
        assert darknet.load_weights(network, tmp_path / "yolov3.weights", head, layers=74) == (52, 32_013_312)
    assert (
        not numpy_of(network.get_layer("conv_73").kernel).any() and numpy_of(network.get_layer("conv_75").kernel).any()
    )
    assert darknet.save_weights(network, path, layers=74) == 52
    assert path.stat().st_size == 162_482_580
    assert weights_file.read_file(path)[0] == 0


def test_first_layers_that_are_refused(tiny, network, tmp_path):
    _, values, starts = tiny
    path = write(tmp_path / "a.weights", values[: starts[13] - 7])
    with pytest.raises(ValueError, match="ends inside layer 12"):
        darknet.load_weights(network, path, layers=15)
    write(path, spoil(values, starts, layer=2))
    with pytest.raises(ValueError, match=r"1 of .* in layer 2 are not finite"):
        darknet.load_weights(network, path, layers=15)
    assert darknet.load_weights(network, path, layers=2) == (1, 0), "the damage lies behind"


def test_heads_are_sliced_and_dropped(tmp_path):
    coco = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(80, **TINY))
    values, starts = values_of(coco)
    path = write(tmp_path / "coco.weights", values)
    boat = build_tiny(1, **TINY)
    assert darknet.load_weights(boat, path, [8]) == (13, 0)
    for index, inputs in ((15, 32), (22, 16)):
        bias = values[starts[index] :][:255].reshape(3, 85)
        kernel = values[starts[index] + 255 :][: 255 * inputs].reshape(3, 85, inputs)
        for anchor, row in [(0, 0), (0, 4), (1, 3), (2, 4)]:
            assert numpy_of(boat.get_layer(f"conv_{index}").bias)[6 * anchor + row] == bias[anchor, row]
        for anchor in range(3):
            assert numpy_of(boat.get_layer(f"conv_{index}").bias)[6 * anchor + 5] == bias[anchor, 13]
            np.testing.assert_array_equal(
                numpy_of(boat.get_layer(f"conv_{index}").kernel)[0, 0, :, 6 * anchor + 5], kernel[anchor, 13]
            )
    np.testing.assert_array_equal(numpy_of(boat.get_layer("bn_21").beta), values[starts[21] :][:16])

    fresh = build_tiny(1, **TINY)
    before = numpy_of(fresh.get_layer("conv_22").kernel).copy()
    assert darknet.load_weights(fresh, path, "drop") == (11, 0)
    np.testing.assert_array_equal(numpy_of(fresh.get_layer("conv_22").kernel), before)
    np.testing.assert_array_equal(numpy_of(fresh.get_layer("bn_21").beta), values[starts[21] :][:16])


def test_sliced_detector_sees_what_the_whole_one_sees(tmp_path):
    """Boxes, objectness and the kept classes of a sliced network are columns of the whole one's."""
    whole_cfg = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(10, **TINY))
    whole, kept = darknet.build_from_cfg(whole_cfg), build_tiny(2, **TINY)
    darknet.save_weights(whole, tmp_path / "a.weights")
    darknet.load_weights(kept, tmp_path / "a.weights", [7, 3])
    image = np.random.default_rng(0).random((1, 64, 64, 3)).astype("float32")
    kept_cfg = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(2, **TINY))
    expected = darknet.decode(darknet.heads(whole, image), whole_cfg, 64)
    found = darknet.decode(darknet.heads(kept, image), kept_cfg, 64)
    for place in (0, 1):
        np.testing.assert_allclose(found[place], expected[place], atol=1e-5)
    np.testing.assert_allclose(found[2], np.asarray(expected[2])[..., [7, 3]], atol=1e-5)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("strict", r'coco\.weights: .* maybe this one with 80 classes: pass head="drop"'),
        ("keep", '"strict", "drop" or a list'),
        ([80], r"1 class numbers from 0 to 79.*\[80\]"),
        ([-1], "from 0 to 79"),
        ([8, 3], "list of 1 class numbers"),
        ([], "list of 1 class numbers"),
    ],
)
def test_heads_that_do_not_fit(head, words, network, tmp_path):
    coco = cfg_files.parse_cfg(networks.yolov3_tiny_cfg(80, **TINY))
    path = write(tmp_path / "coco.weights", values_of(coco)[0])
    with pytest.raises(ValueError, match=words):
        darknet.load_weights(network, path, head)


def test_other_network_is_refused(tiny, tmp_path):
    path = write(tmp_path / "a.weights", tiny[1])
    for head in ("strict", "drop"):
        with pytest.raises(ValueError, match="belongs to another network"):
            darknet.load_weights(build_tiny(1, width=1 / 8), path, head)
