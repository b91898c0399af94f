"""The reader of PyTorch's files against streams written here by Python's own pickler, with stubs of torch's names."""

import collections
import io
import pickle
import sys
import types
import zipfile
import zlib

import numpy as np
import pytest

from helpers import runtime

runtime.quiet_start()
import keras

from helpers.face_animation.checkpoint import CheckpointError, load_torch, to_keras
from helpers.face_animation.formats.torch_files import reader, unpickle

KINDS = {"f4": "Float", "f8": "Double", "f2": "Half", "i4": "Int", "i8": "Long"}


class FakeTensor:
    """Pickles as torch's tensors do; `base` is the whole storage, `view` an array of it with offset and strides."""

    def __init__(self, base, key, offset=0, shape=None, strides=None):
        self.base, self.key, self.offset = base, str(key), offset
        self.shape = base.shape if shape is None else shape
        whole = tuple(stride // base.itemsize for stride in base.strides)
        self.strides = whole if strides is None else strides

    def __reduce_ex__(self, _):
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        return rebuild, (FakeStorage(self), self.offset, self.shape, self.strides, False, collections.OrderedDict())


class FakeStorage:
    def __init__(self, tensor):
        self.base, self.key = tensor.base, tensor.key
        self.kind = getattr(sys.modules["torch"], KINDS[tensor.base.dtype.str[1:]] + "Storage")


class Pickler(pickle.Pickler):
    def __init__(self, file, extra=()):
        super().__init__(file, protocol=2)
        self.extra, self.storages = extra, {}

    def persistent_id(self, value):
        if not isinstance(value, FakeStorage):
            return None
        self.storages[value.key] = value.base
        return ("storage", value.kind, value.key, "cuda:0", value.base.size, *self.extra)


@pytest.fixture(autouse=True)
def torch_names(monkeypatch):
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        pass

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(value, extra=()):
    file = io.BytesIO()
    pickler = Pickler(file, extra)
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def zip_file(path, value, *, prefix="some name", data=None, compress=zipfile.ZIP_STORED, storages=None):
    stream, found = pickled(value)
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr(f"{prefix}/data.pkl", stream if data is None else data)
        archive.writestr(f"{prefix}/byteorder", "little")
        for key, array in (found if storages is None else storages).items():
            archive.writestr(f"{prefix}/data/{key}", array.tobytes())
        archive.writestr(f"{prefix}/version", "3\n")


def legacy_file(path, value, *, data=None, claim=0, tail=b"", little=True, keys=None):
    stream, storages = pickled(value, extra=(None,))
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [reader.MAGIC, 1001, system]
    content = b"".join(pickle.dumps(part, protocol=2) for part in parts) + (stream if data is None else data)
    content += pickle.dumps(list(storages) if keys is None else keys, protocol=2)
    for array in storages.values():
        content += (array.size + claim).to_bytes(8, "little") + array.tobytes()
    path.write_bytes(content + tail)


WRITERS = pytest.mark.parametrize("write", [zip_file, legacy_file])


def sample():
    """A state dict as torch writes it: ordered, with the attribute _metadata, types, views and shared storages."""
    base = np.arange(24, dtype="<f4")
    state = collections.OrderedDict(
        plain=FakeTensor(np.linspace(0, 1, 6, dtype="<f4").reshape(2, 3), 11),
        transposed=FakeTensor(base, 12, shape=(4, 3), strides=(1, 8)),
        offset=FakeTensor(base, 12, offset=5, shape=(3, 2), strides=(6, 2)),
        count=FakeTensor(np.array([7], "<i8"), 13, shape=(), strides=()),
        half=FakeTensor(np.array([1.5, -2], "<f2"), 14),
        whole=FakeTensor(np.array([1, -2], "<i4"), 15),
        double=FakeTensor(np.array([1e300]), 16),
        empty=FakeTensor(np.zeros(0, "<f4"), 17),
    )
    state._metadata = collections.OrderedDict({"": {"version": 1}})
    optimizer = {"state": {140210: {"step": 3}}, "param_groups": [{"lr": 2e-4, "betas": (0.5, 0.999), "ok": True}]}
    return {"net": state, "optimizer": optimizer, "epoch": 9, "nothing": None}


@WRITERS
def test_reads_both_formats(tmp_path, write):
    write(tmp_path / "x.pth.tar", sample())
    found = load_torch(tmp_path / "x.pth.tar")
    base = np.arange(24, dtype="f4")
    expected = {
        "plain": np.linspace(0, 1, 6, dtype="f4").reshape(2, 3),
        "transposed": base.reshape(3, 8)[:, :4].T,
        "offset": np.array([[5, 7], [11, 13], [17, 19]], "f4"),
        "count": np.array(7),
        "half": np.array([1.5, -2], "f2"),
        "whole": np.array([1, -2], "i4"),
        "double": np.array([1e300]),
        "empty": np.zeros(0, "f4"),
    }
    assert list(found["net"]) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(found["net"][name], array)
        assert (found["net"][name].dtype, found["net"][name].shape) == (array.dtype, array.shape)
        assert not found["net"][name].flags.writeable
    assert found["optimizer"] == sample()["optimizer"]
    assert (found["epoch"], found["nothing"]) == (9, None)


@WRITERS
def test_only_the_entries_that_are_wanted(tmp_path, write):
    write(tmp_path / "x", {"a": FakeTensor(np.ones(3, "<f4"), 1), "b": FakeTensor(np.zeros(2, "<f4"), 2), "epoch": 1})
    found = load_torch(tmp_path / "x", only=["b"])
    assert list(found) == ["b"] and found["b"].tolist() == [0, 0]
    with pytest.raises(KeyError, match="c not in the checkpoint; it has: a, b, epoch"):
        load_torch(tmp_path / "x", only=["c"])


class Call:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


HOSTILE = [
    (pickle.dumps({"x": Call(__import__("os").mkdir, "OWNED")}, protocol=2), r"wants 'posix.mkdir'"),
    (pickle.dumps({"x": Call(eval, "1")}, protocol=2), r"wants '__builtin__.eval'"),
    (pickle.dumps(Call(eval, "1"), protocol=4), r"operation (FRAME|STACK_GLOBAL|SHORT_BINUNICODE)"),
    (b"(S'OWNED'\nios\nmkdir\n.", "operation (INST|STRING)"),
    (b"ccollections\nOrderedDict\n(K\x01t\x81.", "operation NEWOBJ"),
    (b"ccollections\nOrderedDict\nK\x01\x85R.", "calls .*OrderedDict"),
    (b"ctorch\nFloatStorage\n)R.", "calls .*FloatStorage"),
    (b"X\x17\0\0\0collections.OrderedDict)R.", "calls"),  # text is not the name
    (b"}K\x01K\x02s" + b"]" * 2 + b"K\x01sb.", "damaged"),  # BUILD on a list
    (b"}(K\x01K\x02)u.", "damaged"),  # an odd number of items
    (b"})K\x01s.", "damaged"),  # a tuple as a key
    (b"}r\xff\xff\xff\x7f.", None),  # a memo number of two thousand million reserves nothing
    (b"(((0.", "damaged|operation"),
    (b"t.", "damaged"),
    (b"}X\xff\xff\xff\x7fab.", "damaged"),
    (b"}", "damaged"),
]


@WRITERS
@pytest.mark.parametrize(("stream", "message"), HOSTILE)
def test_hostile_pickles_are_refused_by_name(tmp_path, write, stream, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "x.pth", {}, data=stream)
    if message is None:
        assert load_torch(tmp_path / "x.pth") == {}
    else:
        with pytest.raises(CheckpointError, match=message):
            load_torch(tmp_path / "x.pth")
    assert not (tmp_path / "OWNED").exists()


def laughs(levels):
    value = []
    for _ in range(levels):
        value = [value] * 10
    return {"x": value}


def deep(levels):
    value = ()
    for _ in range(levels):
        value = (value,)
    return {"x": value}


@WRITERS
@pytest.mark.parametrize(
    ("value", "message"),
    [(laughs(12), "more than 1000000 values"), (deep(30), "deeper than 20"), ([1], "holds a list")],
)
def test_bombs_of_shared_and_nested_lists(tmp_path, write, value, message):
    write(tmp_path / "x", value)
    with pytest.raises(CheckpointError, match=message):
        load_torch(tmp_path / "x")


def test_too_many_operations(monkeypatch):
    monkeypatch.setattr(unpickle, "MAX_OPERATIONS", 50)
    with pytest.raises(CheckpointError, match="more than 50 operations"):
        unpickle.read_pickle(io.BytesIO(b"N" * 60 + b"."))


@WRITERS
@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [(3, (2,), (1,)), (0, (5,), (0,)), (0, (2, 2), (3, 1)), (-1, (1,), (1,)), (0, (4,), (-1,)), (0, (0, 2**60), (1, 1)),
     (2**70, (), ()), (0, (2, 2), (1,))],
)  # fmt: skip
def test_views_stay_in_their_storage(tmp_path, write, offset, shape, strides):
    write(tmp_path / "x", {"a": FakeTensor(np.ones(4, "<f4"), 1, offset, shape, strides)})
    with pytest.raises(CheckpointError, match=r"does not fit its storage|damaged"):
        load_torch(tmp_path / "x")


def test_damaged_zip_files(tmp_path):
    value, path = {"a": FakeTensor(np.ones(400, "<f4"), 1)}, tmp_path / "x"
    for storages, message in (
        ({"1": np.ones(399, "<f4")}, "1596 bytes instead of 1600"),
        ({"1": np.ones(401, "<f4")}, "1604 bytes, at most 1600"),
        ({"2": np.ones(400, "<f4")}, "'some name/data/1' is missing"),
        ({}, "claim more than the"),
    ):
        zip_file(path, value, storages=storages)
        with pytest.raises(CheckpointError, match=message):
            load_torch(path)
    zip_file(path, value, compress=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="compressed"):
        load_torch(path)
    zip_file(path, value)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="not a zip file"):
        load_torch(path)
    zip_file(path, value, prefix="a/b")
    with pytest.raises(CheckpointError, match=r"one member <name>/data\.pkl, found 0"):
        load_torch(path)


def test_a_storage_is_read_once_and_overlapping_members_are_no_bomb(tmp_path):
    zip_file(tmp_path / "x", {"a": FakeTensor(np.ones(9, "<f4"), 1), "b": FakeTensor(np.ones(9, "<f4"), 2)})
    reads = []
    storages = [unpickle.Storage("<f4", key, 9) for key in "1123"]
    once = reader._bounded(lambda storage: reads.append(storage.key) or np.ones(9, "f4"), 80)
    for storage in storages[:3]:
        once(storage)
    assert reads == ["1", "2"]
    with pytest.raises(CheckpointError, match="claim more than the 80 bytes"):
        once(storages[3])


@pytest.mark.parametrize(
    ("options", "cut", "message"),
    [({}, 1, "cut off inside storage '1'"), ({"tail": b"x"}, 0, "1 bytes follow"), ({"claim": 1}, 0, "has 5 numbers"),
     ({"claim": -1}, 0, "has 3 numbers"), ({"little": False}, 0, "big-endian"), ({"keys": ["1", "1"]}, 0, "list of storages"),
     ({"keys": ["2"]}, 0, "list of storages"), ({}, 60, "damaged|cut off")],
)  # fmt: skip
def test_damaged_legacy_files(tmp_path, options, cut, message):
    legacy_file(tmp_path / "x.pth.tar", {"a": FakeTensor(np.ones(4, "<f4"), 1)}, **options)
    content = (tmp_path / "x.pth.tar").read_bytes()
    (tmp_path / "x.pth.tar").write_bytes(content[: len(content) - cut])
    with pytest.raises(CheckpointError, match=rf"x.pth.tar: .*({message})"):
        load_torch(tmp_path / "x.pth.tar")


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x80\x02K\x01.", b"PK\3\4nothing"])
def test_no_checkpoint_at_all(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"not a file of torch.save|not a zip file"):
        load_torch(tmp_path / "x")


def small_network(name, prefix=""):
    """A convolution with batch norm, twice, with names that end alike."""
    x = images = keras.Input((6, 6, 3))
    for place, filters in ((f"{prefix}hourglass_down_blocks_0", 4), ("down_blocks_0", 5)):
        x = keras.layers.Conv2D(filters, 3, name=f"{place}_conv")(x)
        x = keras.layers.BatchNormalization(name=f"{place}_norm")(x)
    x = keras.layers.Conv2D(2, (1, 2), name="kp")(x)
    return keras.Model(images, x, name=name)


def small_state(prefix="", seed=0):
    rng = np.random.default_rng(seed)
    state = {"down.weight": np.ones((3, 1, 5, 5), "f4")}
    for place, channels, filters in ((f"{prefix}hourglass.down_blocks.0", 3, 4), ("down_blocks.0", 4, 5)):
        state[f"{place}.conv.weight"] = rng.normal(size=(filters, channels, 3, 3)).astype("f4")
        for name in ("conv.bias", "norm.weight", "norm.bias", "norm.running_mean"):
            state[f"{place}.{name}"] = rng.normal(size=filters).astype("f4")
        state[f"{place}.norm.running_var"] = rng.uniform(1, 2, filters).astype("f4")
        state[f"{place}.norm.num_batches_tracked"] = np.array(5)
    return state | {"kp.weight": rng.normal(size=(2, 5, 1, 2)).astype("f4"), "kp.bias": np.array([1, 2], "f4")}


def torch_like(state, x, prefix=""):
    """The network written out in NumPy, channels first."""

    def conv(x, weight, bias):
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
        return np.einsum("bchwij,ocij->bohw", windows, weight) + bias[:, None, None]

    for place in (f"{prefix}hourglass.down_blocks.0", "down_blocks.0"):
        get = lambda name, place=place: state[f"{place}.{name}"]  # noqa: E731
        x = conv(x, get("conv.weight"), get("conv.bias"))
        mean, scale, gamma, beta = (
            value[:, None, None]
            for value in (
                get("norm.running_mean"),
                get("norm.running_var") + 1e-3,
                get("norm.weight"),
                get("norm.bias"),
            )
        )
        x = (x - mean) / np.sqrt(scale) * gamma + beta
    return conv(x, state["kp.weight"], state["kp.bias"])


def test_to_keras_by_name():
    networks = small_network("kp"), small_network("generator", "dense_motion_network_")
    states = {"kp_detector": small_state(), "generator": small_state("dense_motion_network.", 1), "epoch": 3}
    report = to_keras(states, *networks)
    assert {name: entry["assigned"] for name, entry in report.items()} == {"kp_detector": 14, "generator": 14}
    assert report["kp_detector"]["skipped"] == [
        "down.weight", "hourglass.down_blocks.0.norm.num_batches_tracked", "down_blocks.0.norm.num_batches_tracked",
    ]  # fmt: skip
    images = np.random.default_rng(2).normal(size=(2, 6, 6, 3)).astype("f4")
    for network, name, prefix in zip(
        networks, ("kp_detector", "generator"), ("", "dense_motion_network."), strict=True
    ):
        expected = torch_like(states[name], images.transpose(0, 3, 1, 2), prefix).transpose(0, 2, 3, 1)
        found = keras.ops.convert_to_numpy(network(images, training=False))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("kp.bias"), "no tensor for the variable kp/bias"),
        (
            lambda s: s.update({"more.weight": np.zeros((1, 2), "f4")}),
            r"no variable for the tensor more.weight \(1, 2\)",
        ),
        (lambda s: s.update({"kp.weight": np.zeros((2, 5, 2, 1), "f4")}), r"kp.weight has shape \(2, 1, 5, 2\)"),
        (lambda s: s["kp.bias"].fill(np.nan), "kp.bias holds infinite or undefined"),
        # without its own, a layer must not take the tensor of a layer whose name ends alike
        (lambda s: [s.pop(k) for k in list(s) if k.startswith("hourglass") and "conv" in k], "is gone or taken"),
    ],
)
def test_to_keras_accounts_for_every_tensor(change, message):
    networks = small_network("kp"), small_network("generator")
    states = {"kp_detector": small_state(), "generator": small_state()}
    before = [network.get_weights() for network in networks]
    change(states["generator"])
    with pytest.raises(ValueError, match=message) as caught:
        to_keras(states, *networks)
    assert "generator: " in str(caught.value) and "kp_detector: " not in str(caught.value)
    for network, weights in zip(networks, before, strict=True):
        assert all(map(np.array_equal, network.get_weights(), weights))


def test_to_keras_needs_both_networks():
    with pytest.raises(KeyError, match=r"generator: not in the checkpoint; it has: kp_detector"):
        to_keras({"kp_detector": small_state()}, small_network("kp"), small_network("generator"))


def genuine_shapes():
    """Names and shapes of the official checkpoint, written down from the authors' modules (out, in, height, width)."""

    def conv(name, out, channels, size):
        return {f"{name}.weight": (out, channels, size, size), f"{name}.bias": (out,)}

    def norm(name, width):
        return {f"{name}.{leaf}": (width,) for leaf in ("weight", "bias", "running_mean", "running_var")} | {
            f"{name}.num_batches_tracked": ()
        }

    def block(name, out, channels, size=3):
        return conv(f"{name}.conv", out, channels, size) | norm(f"{name}.norm", out)

    def hourglass(name, downs, ups):
        places = [("encoder.down_blocks", downs), ("decoder.up_blocks", ups)]
        return {
            key: shape
            for part, rows in places
            for i, row in enumerate(rows)
            for key, shape in block(f"{name}.{part}.{i}", *row).items()
        }

    ups = [(256, 1024), (128, 512), (64, 256)]
    downs = [(64, 3), (128, 64), (256, 128), (512, 256), (1024, 512)]
    kp = hourglass("predictor", downs, [(512, 1024), *ups, (32, 128)])
    kp |= conv("kp", 10, 35, 7) | conv("jacobian", 40, 35, 7) | {"down.weight": (3, 1, 13, 13)}
    dense = "dense_motion_network"
    downs = [(128, 44), (256, 128), (512, 256), (1024, 512), (1024, 1024)]
    net = hourglass(f"{dense}.hourglass", downs, [(1024, 1024), (512, 2048), *ups])
    net |= (
        conv(f"{dense}.mask", 11, 108, 7)
        | conv(f"{dense}.occlusion", 1, 108, 7)
        | {f"{dense}.down.weight": (3, 1, 13, 13)}
    )
    net |= block("first", 64, 3, 7) | block("down_blocks.0", 128, 64) | block("down_blocks.1", 256, 128)
    net |= block("up_blocks.0", 128, 256) | block("up_blocks.1", 64, 128) | conv("final", 3, 64, 7)
    for r in range(6):
        for k in (1, 2):
            net |= conv(f"bottleneck.r{r}.conv{k}", 256, 256, 3) | norm(f"bottleneck.r{r}.norm{k}", 256)
    return kp, net


def deterministic(key, shape):
    """The weights that the golden numbers were made with."""
    random = np.random.RandomState(zlib.crc32(key.encode()) & 0xFFFFFFFF)
    if key.endswith("num_batches_tracked"):
        return np.array(1)
    if key.endswith("running_var"):
        return (1 + 0.5 * random.random_sample(shape)).astype("f4")
    values = random.normal(size=shape)
    if key.endswith("running_mean"):
        return (0.1 * values).astype("f4")
    if key.endswith("bias"):
        return (0.05 * values + (np.tile([1, 0, 0, 1], 10) if key == "jacobian.bias" else 0)).astype("f4")
    if len(shape) == 1:
        return (1 + 0.1 * values).astype("f4")
    return (np.sqrt((0.3 if key == "jacobian.weight" else 2) / np.prod(shape[1:])) * values).astype("f4")


def test_the_official_names_fit_the_networks_and_give_the_golden_keypoints():
    model = pytest.importorskip("helpers.face_animation.model")
    detector, generator = model.build_keypoint_detector(), model.build_generator()
    kp, net = genuine_shapes()
    assert (len(kp), len(net)) == (75, 196)
    state = {
        "kp_detector": {key: deterministic(key, shape) for key, shape in kp.items()},
        "generator": {key: np.broadcast_to(np.float32(0.5), shape) for key, shape in net.items()},
    }
    report = to_keras(state, detector, generator)
    assert {name: entry["assigned"] for name, entry in report.items()} == {"kp_detector": 64, "generator": 168}
    assert (len(report["kp_detector"]["skipped"]), len(report["generator"]["skipped"])) == (11, 28)
    assert (detector.count_params(), generator.count_params()) == (14_221_320, 45_592_671)
    y, x, c = np.mgrid[:256, :256, :3]
    image = 0.5 + 0.25 * np.sin(2 * np.pi * ((c + 1) * x + y) / 256 + 1) + 0.25 * np.cos(4 * np.pi * x * y / 65536 + c)
    found = detector(image[None].astype("f4"), training=False)
    expected = [(-0.319339, -0.032686), (0.709736, 0.048722), (0.271806, 0.293804)]  # by the authors' PyTorch modules
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found["value"])[0, :3], expected, atol=1e-4)
