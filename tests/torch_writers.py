"""Files as torch.save writes them, by Python's own pickler with stubs of torch's names: PyTorch itself is not needed."""

import collections
import contextlib
import io
import pickle
import sys
import types
import zipfile

from helpers.face_animation.formats.torch_files import containers

KINDS = {
    "f4": "Float", "f8": "Double", "f2": "Half", "i4": "Int", "i8": "Long", "i2": "Short", "i1": "Char", "u1": "Byte", "b1": "Bool",
    "c8": "ComplexFloat", "u2": "BFloat16",
}  # fmt: skip


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
    def __init__(self, file, extra=(), protocol=2):
        super().__init__(file, protocol=protocol)
        self.extra, self.storages = extra, {}

    def persistent_id(self, value):
        if not isinstance(value, FakeStorage):
            return None
        self.storages[value.key] = value.base
        return ("storage", value.kind, value.key, "cuda:0", value.base.size, *self.extra)


@contextlib.contextmanager
def torch_names():
    """The modules and names that a checkpoint mentions, while files are written."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for kind in KINDS.values():
        setattr(torch, f"{kind}Storage", type(f"{kind}Storage", (), {"__module__": "torch"}))
    for name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
        setattr(utils, name, types.FunctionType((lambda: None).__code__, {}, name))
        getattr(utils, name).__module__, getattr(utils, name).__qualname__ = "torch._utils", name
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules |= {"torch": torch, "torch._utils": utils}
    try:
        yield
    finally:
        for name, module in before.items():
            del sys.modules[name]
            if module is not None:
                sys.modules[name] = module


def pickled(value, extra=(), protocol=2):
    file = io.BytesIO()
    pickler = Pickler(file, extra, protocol)
    pickler.dump(value)
    return file.getvalue(), pickler.storages


def zip_file(path, value, *, prefix="some name", data=None, compress=zipfile.ZIP_STORED, storages=None, protocol=2):
    stream, found = pickled(value, protocol=protocol)
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr(f"{prefix}/data.pkl", stream if data is None else data)
        archive.writestr(f"{prefix}/byteorder", "little")
        for key, array in (found if storages is None else storages).items():
            archive.writestr(f"{prefix}/data/{key}", array.tobytes())
        archive.writestr(f"{prefix}/version", "3\n")


def legacy_file(path, value, *, data=None, claim=0, tail=b"", little=True, keys=None, protocol=2):
    stream, storages = pickled(value, extra=(None,), protocol=protocol)
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = [containers.MAGIC, 1001, system]
    content = b"".join(pickle.dumps(part, protocol=2) for part in parts) + (stream if data is None else data)
    content += pickle.dumps(list(storages) if keys is None else keys, protocol=2)
    for array in storages.values():
        content += (array.size + claim).to_bytes(8, "little") + array.tobytes()
    path.write_bytes(content + tail)
