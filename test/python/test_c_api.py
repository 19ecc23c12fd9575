"""The C ABI (src/api/stator.h) by ctypes: load, run, refit, errors by message."""

import ctypes

import numpy as np
import pytest
import torch
import torch_stator
from torch import nn
from torch_stator import _ffi

LIBRARY = _ffi.LIBRARY.with_name("libstator.so")


class DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class DLManagedTensorVersioned(ctypes.Structure):
    pass


DLManagedTensorVersioned._fields_ = [
    ("version", ctypes.c_uint32 * 2),
    ("manager_ctx", ctypes.c_void_p),
    ("deleter", ctypes.CFUNCTYPE(None, ctypes.POINTER(DLManagedTensorVersioned))),
    ("flags", ctypes.c_uint64),
    ("dl_tensor", DLTensor),
]


def as_dltensor(array):
    """A float32 array as a DLTensor, which keeps its own dims."""
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    strides = (ctypes.c_int64 * array.ndim)(*[s // array.itemsize for s in array.strides])
    tensor = DLTensor(array.ctypes.data, 1, 0, array.ndim, 2, 32, 1, shape, strides, 0)
    tensor.keep = (array, shape, strides)
    return tensor


def to_numpy(managed):
    tensor = managed.contents.dl_tensor
    shape = tensor.shape[: tensor.ndim]
    data = ctypes.cast(tensor.data, ctypes.POINTER(ctypes.c_float))
    strides = [4 * s for s in tensor.strides[: tensor.ndim]]
    array = np.lib.stride_tricks.as_strided(
        np.ctypeslib.as_array(data, (1,)), shape, strides
    ).copy()
    managed.contents.deleter(managed)
    return array


@pytest.fixture(scope="module")
def library():
    library = ctypes.CDLL(str(LIBRARY))
    library.StatorLastError.restype = ctypes.c_char_p
    library.StatorEngineInputName.restype = ctypes.c_char_p
    for name in ("Free", "NumInputs", "NumOutputs", "Refit"):
        getattr(library, f"StatorEngine{name}").argtypes = [ctypes.c_void_p]
    library.StatorEngineInputName.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library


@pytest.fixture
def model():
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU())


@pytest.fixture
def engine(library, model, tmp_path):
    program = torch_stator.compile(model, (torch.randn(2, 4),), min_block_size=1)
    path = tmp_path / "model.plan"
    path.write_bytes(program.compilation.engines[0].plan_bytes())
    handle = ctypes.c_void_p()
    status = library.StatorEngineLoadFile(str(path).encode(), ctypes.byref(handle))
    assert status == 0, library.StatorLastError()
    yield handle
    library.StatorEngineFree(handle)


def run(library, engine, *arrays):
    tensors = [as_dltensor(array) for array in arrays]
    pointers = (ctypes.POINTER(DLTensor) * len(tensors))(*map(ctypes.pointer, tensors))
    output = ctypes.POINTER(DLManagedTensorVersioned)()
    status = library.StatorEngineRun(engine, pointers, len(tensors), ctypes.byref(output))
    return status, to_numpy(output) if status == 0 else library.StatorLastError().decode()


def test_run(library, engine, model):
    assert library.StatorEngineNumInputs(engine) == library.StatorEngineNumOutputs(engine) == 1
    assert library.StatorEngineInputName(engine, 1) is None
    x = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32).T  # strided
    status, y = run(library, engine, x)
    assert status == 0
    np.testing.assert_allclose(y, model(torch.tensor(x)).detach(), rtol=1e-5, atol=1e-6)


def test_refit(library, engine, model):
    x = np.ones((2, 4), np.float32)
    weight = np.ascontiguousarray(model[0].weight.detach().numpy() * 2)
    assert (
        library.StatorEngineSetWeight(engine, b"0.weight", ctypes.byref(as_dltensor(weight))) == 0
    )
    assert library.StatorEngineRefit(engine) == 0
    with torch.no_grad():
        model[0].weight.mul_(2)
    _, y = run(library, engine, x)
    np.testing.assert_allclose(y, model(torch.tensor(x)).detach(), rtol=1e-5, atol=1e-6)


def test_errors(library, engine, tmp_path):
    name = library.StatorEngineInputName(engine, 0).decode()
    status, message = run(library, engine, np.ones((2, 5), np.float32))
    assert status == 1
    assert f"`{name}`" in message
    status, message = run(library, engine)
    assert status == 1
    assert "takes 1 inputs, but got 0" in message

    handle = ctypes.c_void_p()
    (tmp_path / "bad.plan").write_bytes(b"not a plan")
    path = str(tmp_path / "bad.plan").encode()
    assert library.StatorEngineLoadFile(path, ctypes.byref(handle)) == 3
    assert b"CorruptFile" in library.StatorLastError()
    assert library.StatorEngineLoadBytes(b"", ctypes.c_size_t(0), ctypes.byref(handle)) == 3


def test_the_library_has_no_libtorch():
    dynamic = LIBRARY.read_bytes()
    assert b"libtorch" not in dynamic
    assert b"libc10" not in dynamic
