"""The reader of PyTorch's files against streams written here by Python's own pickler, with stubs of torch's names."""

import argparse
import collections
import datetime
import functools
import io
import pathlib
import pickle
import sys
import zipfile
import zlib

import numpy as np
import pytest
from torch_writers import FakeTensor, legacy_file, torch_names, zip_file

from helpers import runtime

runtime.quiet_start()
import keras

from helpers.face_animation.checkpoint import CheckpointError, load_torch, to_keras
from helpers.face_animation.formats.torch_files import containers, reader, unpickle, values


@pytest.fixture(autouse=True)
def names_of_torch():
    with torch_names():
        yield


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
    (pickle.dumps(Call(eval, "1"), protocol=4), r"wants 'builtins.eval'"),
    (pickle.dumps(Call(getattr, dict, "clear"), protocol=4), r"wants 'builtins.getattr'"),
    (pickle.dumps(Call(__import__("operator").attrgetter("x"), 1), protocol=2), r"wants 'operator.attrgetter'"),
    (pickle.dumps(Call(Call), protocol=2), r"wants '.*\.Call'"),  # an unknown function or class is called
    (pickle.dumps(collections.defaultdict(__import__("os").getcwd), protocol=2), r"wants 'posix.getcwd'"),
    (b"(S'OWNED'\nios\nmkdir\n.", r"wants 'os.mkdir'"),  # INST
    (b"(cmine\nrun\nS'OWNED'\no.", r"wants 'mine.run'"),  # OBJ
    (b"csubprocess\nPopen\n(K\x01t\x81.", r"wants 'subprocess.Popen'"),  # NEWOBJ
    (b"ccopyreg\n_reconstructor\n(cmine\nA\ncmine\nB\nNtR.", r"wants 'mine.B'"),  # whose __init__ is called
    (b"cmine\nA\n}S'__init__'\ncmine\nB\nsb.", r"wants 'mine.A'"),  # BUILD would change the class itself
    (b"cpathlib\nPath.mkdir\n(S'OWNED'\ntR.", r"wants 'pathlib.Path.mkdir'"),
    (b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.", r"wants 'torch.storage._load_from_bytes'"),
    (b"ccollections\nOrderedDict\nK\x01\x85R.", "calls .*OrderedDict"),
    (b"ctorch\nFloatStorage\n)R.", "wants 'torch.FloatStorage'"),
    (b"X\x17\0\0\0collections.OrderedDict)R.", "wants 'an object of str'"),  # text is not the name
    (b"}K\x01K\x02s" + b"]" * 2 + b"K\x01sb.", "damaged"),  # SETITEM on a list
    (b"}(K\x01K\x02)u.", "damaged"),  # an odd number of items
    (b"})K\x01s.", None),  # a tuple as a key is skipped, never hashed
    (b"(" + b")" + b"\x85" * 300_000 + b"K\x01d.", None),
    (b"]\x94" + b"(" + b"h\0" * 10 + b"e" + b"R.", "damaged"),  # the message must not print what holds itself
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


class Config:
    """A class of the program that saved the file."""

    def __init__(self, **values):
        self.__dict__.update(values)

    def __setstate__(self, state):
        raise AssertionError("run by the reader")


def beside_weights():
    """What programs keep beside their weights, and what of it has a value without the program."""
    plain = {
        "none": None, "text": "é", "big": 10**40, "betas": (0.5, -0.999),
        "stats": collections.defaultdict(list, a=[1, 2.5]), "counts": collections.Counter(b=2),
    }  # fmt: skip
    skipped = {
        "args": argparse.Namespace(lr=2e-4, config=Config(a=1)), "config": Config(depth=2), "folder": pathlib.PurePosixPath("/a"),
        "saved": datetime.datetime(2020, 1, 2), "classes": {1, 2}, "frozen": frozenset("a"), "complex": 1j, "type": Config,
        "objects": np.array([None, {}], object), "generator": np.random.default_rng(0), "raw": b"\xff",
        "queue": collections.deque(),
        "optimizer": functools.partial(Config, lr=1),
        "loss": np.float64(0.1),
        "history": np.arange(6, dtype=">i4").reshape(2, 3),
        "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "records": np.zeros(2, "i4,f8"),
        "day": np.datetime64("2020-01-02"),
        "nothing": np.str_(""),
    }  # fmt: skip
    return plain, skipped


@WRITERS
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_weights_are_read_whatever_stands_beside_them(tmp_path, write, protocol, capsys):
    plain, skipped = beside_weights()
    state = {"net": collections.OrderedDict(w=FakeTensor(np.arange(4, dtype="<f4"), 1)), **plain, **skipped}
    state |= {("a", 1): 2, 1.5: 3, "mixed": [1, skipped["args"]]}
    write(tmp_path / "x.pth", state, protocol=protocol)
    found = load_torch(tmp_path / "x.pth")
    assert found.pop("net")["w"].tolist() == [0, 1, 2, 3]
    assert found.pop("mixed") == [1, None]
    assert list(found) == list(plain)
    for name, value in plain.items():
        assert found[name] == value and (type(found[name]) is type(value) or isinstance(value, dict))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "x.pth: skipped, no weights: " in said and "Namespace" in said


def test_bfloat16_and_small_types(tmp_path):
    """bfloat16 against the package that JAX and TensorFlow take it from."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    numbers = np.array([1.5, -3e38, 1e-40, np.inf, 0.1], "f4").astype(ml_dtypes.bfloat16)
    arrays = {
        "bf16": numbers.view("<u2"), "u1": np.array([0, 255], "u1"), "i1": np.array([-128], "i1"), "i2": np.array([-2], "<i2"),
        "bool": np.array([True, False]), "c8": np.array([1 + 2j], "<c8"),
    }  # fmt: skip
    zip_file(tmp_path / "x", {name: FakeTensor(array, name) for name, array in arrays.items()})
    found = load_torch(tmp_path / "x")
    np.testing.assert_array_equal(found["bf16"], numbers.astype("f4"))
    for name in list(arrays)[1:]:
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found[name].dtype == arrays[name].dtype
    zip_file(tmp_path / "x", {"v": FakeTensor(numbers.view("<u2"), 1, 1, (2,), (2,))})
    np.testing.assert_array_equal(load_torch(tmp_path / "x")["v"], numbers.astype("f4")[1::2])


@WRITERS
def test_parameters_and_tensors_with_attributes(tmp_path, write):
    utils = sys.modules["torch._utils"]
    weight = FakeTensor(np.array([1, 2], "<f4"), 1)
    write(tmp_path / "x", {"w": Call(utils._rebuild_parameter, weight, True, collections.OrderedDict())})
    assert load_torch(tmp_path / "x")["w"].tolist() == [1, 2]


def test_files_of_python_2(tmp_path):
    """Its text is bytes, its OrderedDict is called with a list of pairs; so are the weights of LPIPS on GitHub."""
    stream = (
        b"\x80\x02ccollections\nOrderedDict\n]](U\x01wctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\n"
        b"U\x0211U\x06cuda:0\x8a\x01\x02NtQK\x00(\x8a\x01\x02t(\x8a\x01\x01ttRea\x85R."
    )
    parts = [containers.MAGIC, 1001, {"protocol_version": 1001, "little_endian": True}]
    content = b"".join(pickle.dumps(part, protocol=2) for part in parts) + stream + pickle.dumps(["11"], protocol=2)
    (tmp_path / "x").write_bytes(content + (2).to_bytes(8, "little") + np.array([3, 4], "<f4").tobytes())
    assert load_torch(tmp_path / "x")["w"].tolist() == [3, 4]


def test_what_is_no_weights_alone_is_refused_without_alarm(tmp_path):
    zip_file(tmp_path / "x", argparse.Namespace(lr=1))
    with pytest.raises(CheckpointError, match=r"holds a argparse\.Namespace") as caught:
        load_torch(tmp_path / "x")
    assert "torch.load" not in str(caught.value)


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


def test_a_storage_is_read_once_and_overlapping_members_are_no_bomb():
    tensors = {
        name: values.Tensor(values.Storage("<f4", key, 9), 0, (9,), (1,))
        for name, key in zip("abc", "112", strict=True)
    }
    reads = []
    read = lambda storage: reads.append(storage.key) or bytes(36)  # noqa: E731
    found, _, _ = reader._arrays(tensors, read, 72, None)
    assert reads == ["1", "2"] and list(found) == list("abc")
    with pytest.raises(CheckpointError, match="claim more than the 71 bytes"):
        reader._arrays(tensors, read, 71, None)


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"), (b"<html>", "a web page"), (b"\x80\x02K\x01.", "a pickle"), (b"PK\3\4nothing", "not a zip file"),
        (b"\x1f\x8b\x08\0" + bytes(600), "a gzip file"),
        (b"a" + bytes(256) + b"ustar", r"a tar archive \(unpack it first"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-LFS pointer"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"), (b"\xfe" * 600, "begins with"),
    ],
)  # fmt: skip
def test_no_checkpoint_at_all(tmp_path, content, words):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"^x: .*{words}"):
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


@pytest.mark.parametrize("prefixes", [("module.",), ("_orig_mod.",), ("module._orig_mod.",), ("", "module.")])
@pytest.mark.parametrize(
    "nest",
    [
        lambda kp, gen: {"kp_detector": kp, "generator": gen, "epoch": 3},
        lambda kp, gen: {"state_dict": {"kp_detector": kp, "generator": gen}},
        lambda kp, gen: {"model": {"kp_detector": {"state_dict": kp}, "generator": {"model": gen}}, "optimizer": {}},
        lambda kp, gen: {
            "state_dict": {
                f"{part}.{key}": value
                for part, own in (("kp_detector", kp), ("generator", gen))
                for key, value in own.items()
            }
        },
    ],
    ids=["side by side", "state_dict", "each in its own", "flat"],
)
def test_prefixes_and_containers(tmp_path, capsys, prefixes, nest):
    """The same weights in the networks, however the file names them."""
    states = [
        {f"{prefix}{key}": value for key, value in small_state(seed=seed).items()}
        for seed, prefix in ((0, prefixes[0]), (1, prefixes[-1]))
    ]
    tensors = [
        {key: FakeTensor(np.array(array), f"{place}{key}") for key, array in state.items()}
        for place, state in enumerate(states)
    ]
    zip_file(tmp_path / "x.pth", nest(*tensors))
    networks, plain = [(small_network("kp"), small_network("generator")) for _ in range(2)]
    only = ["kp_detector", "generator"]
    to_keras({"kp_detector": small_state(seed=0), "generator": small_state(seed=1)}, *plain)
    for state in (load_torch(tmp_path / "x.pth"), load_torch(tmp_path / "x.pth", only=only), nest(*states)):
        to_keras(state, *networks)
        for network, expected in zip(networks, plain, strict=True):
            assert all(map(np.array_equal, network.get_weights(), expected.get_weights()))
            network.set_weights([np.zeros_like(array) for array in network.get_weights()])
    said = capsys.readouterr().out
    for part in ("module.", "_orig_mod."):  # once for each way
        assert said.count(part) == 3 * (part in "".join(prefixes)), said


def test_a_part_called_module_keeps_its_name(tmp_path, capsys):
    zip_file(
        tmp_path / "x", {"net": {"module.w": FakeTensor(np.ones(1, "<f4"), 1), "b": FakeTensor(np.ones(1, "<f4"), 2)}}
    )
    assert list(load_torch(tmp_path / "x")["net"]) == ["module.w", "b"]
    assert capsys.readouterr().out == ""


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
