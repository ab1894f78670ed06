"""Writes PyTorch's zip files (.ckpt, .pth, .bin) without PyTorch: Python's own pickler, told that the names it meets are
PyTorch's. Standard library only."""
import collections
import io
import pickle
import sys
import types
import zipfile

STORAGES = {"F32": "FloatStorage", "F16": "HalfStorage", "BF16": "BFloat16Storage", "F64": "DoubleStorage",
            "I64": "LongStorage", "U8": "ByteStorage"}
SIZES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I64": 8, "U8": 1}


def rebuild(*_):
    raise NotImplementedError("only its name is pickled")


def modules():
    """torch and torch._utils with what a state dict names."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    rebuild.__module__, rebuild.__name__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = rebuild
    for name in STORAGES.values():
        setattr(torch, name, type(name, (), {"__module__": "torch"}))
    return {"torch": torch, "torch._utils": utils}


class Storage:
    def __init__(self, tensor, key):
        self.tensor, self.key = tensor, key


class Stored:
    def __init__(self, tensor, key):
        self.tensor, self.storage = tensor, Storage(tensor, key)

    def __reduce__(self):
        shape, strides, step = tuple(self.tensor.shape), [], 1
        for side in reversed(shape):
            strides.insert(0, step)
            step *= side
        return rebuild, (self.storage, 0, shape, tuple(strides), False, collections.OrderedDict())


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        kind = getattr(sys.modules["torch"], STORAGES[value.tensor.dtype])
        return "storage", kind, value.key, "cpu", len(value.tensor.data) // SIZES[value.tensor.dtype]


def write(path, tensors, wrap=lambda state: state):
    """wrap: what is saved, given the state dict, such as {"state_dict": ...}."""
    state, members = collections.OrderedDict(), []
    for number, (name, tensor) in enumerate(tensors.items()):
        state[name] = Stored(tensor, str(number))
        members.append(tensor.data)
    kept = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    sys.modules.update(modules())
    try:
        out = io.BytesIO()
        Pickler(out, 2).dump(wrap(state))
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", out.getvalue())
        for number, data in enumerate(members):
            archive.writestr(f"archive/data/{number}", data)
        archive.writestr("archive/version", "3\n")
