"""Exceptions and warnings of torch_stator.

Each kind of error that the compiler raises (src/base/error.h) has a class of its own, which is also
the Python exception that a caller would expect; the message crosses unchanged.
"""

import warnings

import tvm_ffi


class Error(Exception):
    """Any error that Stator raises."""


class InvalidArgumentError(Error, ValueError):
    """The caller passed something that cannot be right."""


class UnsupportedError(Error, NotImplementedError):
    """Right, but outside what this build or device can do."""


class CorruptFileError(Error):
    """A plan or archive that fails its checks."""


class VersionMismatchError(Error):
    """A well-formed file of another format version."""


class DeviceError(Error, RuntimeError):
    """The device or a vendor library failed."""


class OutOfMemoryError(Error, MemoryError):
    """An allocation failed."""


class InternalError(Error, RuntimeError):
    """A bug in Stator."""


class FallbackWarning(UserWarning):
    """A model, or a part of it, runs in eager PyTorch."""


for _class in (
    InvalidArgumentError,
    UnsupportedError,
    CorruptFileError,
    VersionMismatchError,
    DeviceError,
    OutOfMemoryError,
    InternalError,
):
    tvm_ffi.register_error("stator." + _class.__name__.removesuffix("Error"), _class)
tvm_ffi.register_error("stator.DeviceError", DeviceError)

_warned: set[str] = set()


def warn_fallback(text: str) -> None:
    """Warns that something runs in eager PyTorch, once per process for each text."""
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, FallbackWarning, stacklevel=2)
