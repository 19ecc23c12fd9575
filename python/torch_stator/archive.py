"""What a saved program's file is made of: a zip archive of plain entries, tensors, structures.

In:  a path, and values. Out: a file that is written as a whole or not at all; and the values again.
Invariant: what is read is checked before it is used: an archive without compression, so that no
entry is larger than the file; tensors that lie within their bytes; structures of types that this
process knows. Raises CorruptFileError otherwise.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from .errors import CorruptFileError, UnsupportedError

_MAX_SIZE = 2**48  # of a tensor, in bytes
_DEFAULT_DICT = "collections.defaultdict"  # torch's reader imports any module for it


@contextlib.contextmanager
def write_archive(path: str | os.PathLike[str]) -> Iterator[zipfile.ZipFile]:
    """An archive to fill, which takes the place of `path` when it is whole."""
    target = Path(path)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            yield archive
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


class Archive:
    """The entries of a file, read when asked for."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.names = set(archive.namelist())
        require(len(self.names) == len(archive.namelist()), "an entry is there twice")
        for entry in archive.infolist():
            require(entry.compress_type == zipfile.ZIP_STORED, f"`{entry.filename}` is packed")

    def read(self, name: str) -> bytes:
        require(name in self.names, f"the entry `{name}` is missing")
        with checked(f"`{name}`"):
            return self._archive.read(name)

    def read_json(self, name: str) -> Any:
        with checked(f"`{name}`"):
            return json.loads(self.read(name))


@contextlib.contextmanager
def open_archive(path: str | os.PathLike[str]) -> Iterator[Archive]:
    with open(path, "rb") as file, contextlib.ExitStack() as stack:
        with checked("the archive"):
            archive = Archive(stack.enter_context(zipfile.ZipFile(file)))
        yield archive


@contextlib.contextmanager
def checked(what: str) -> Iterator[None]:
    """Turns what reading data of a wrong form raises into a CorruptFileError."""
    try:
        yield
    except CorruptFileError:
        raise
    except (
        zipfile.BadZipFile,
        struct.error,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
        RuntimeError,  # an encrypted archive; torch's own
        NotImplementedError,  # a newer kind of archive
    ) as error:
        raise CorruptFileError(f"{what} cannot be read: {error!r}") from None


def require(condition: bool, message: str) -> None:
    if not condition:
        raise CorruptFileError(message)


# ---- tensors


def tensor_to_entry(tensor: torch.Tensor) -> tuple[dict[str, Any], bytes]:
    """A description, and the bytes from the tensor's first element to its last: with its strides,
    gaps included."""
    tensor = tensor.detach()
    known = tensor.device.type in ("cpu", "cuda")
    if tensor.layout is not torch.strided or not known or tensor.is_quantized:
        raise UnsupportedError(
            f"a tensor of the model is {tensor.layout} on {tensor.device}: a file holds strided "
            "ones on cpu or cuda"
        )
    tensor = tensor.resolve_conj().resolve_neg()
    window = tensor.as_strided((_extent(tensor.shape, tensor.stride()),), (1,)).cpu()
    described = {
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "dims": list(tensor.shape),
        "strides": list(tensor.stride()),
        "device": tensor.device.type,
    }
    return described, bytes(window.view(torch.uint8).numpy()) if window.numel() else b""


def tensor_from_entry(described: Any, data: bytes, ordinal: int = 0) -> torch.Tensor:
    """The inverse of `tensor_to_entry`. `ordinal`: of the GPU, for what was on one."""
    with checked("a tensor"):
        dtype, dims = read_dtype(described["dtype"]), described["dims"]
        strides = described["strides"]
        for size in (*dims, *strides):
            require(type(size) is int and 0 <= size < _MAX_SIZE, "a tensor's size is out of range")
        require(len(dims) == len(strides), "a tensor has not as many strides as dims")
        extent = _extent(dims, strides)
        require(extent * dtype.itemsize == len(data), "a tensor does not fill its bytes")
        flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0).to(dtype)
        device = described.get("device", "cpu")
        require(device in ("cpu", "cuda"), f"a tensor lies on {device!r}")
        if device == "cuda":
            flat = flat.to(torch.device("cuda", ordinal))
        return flat.as_strided(dims, strides)


def read_dtype(name: Any) -> torch.dtype:
    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    if not isinstance(dtype, torch.dtype):
        raise CorruptFileError(f"there is no type {name!r}")
    return dtype


def _extent(dims: Any, strides: Any) -> int:
    if 0 in dims:
        return 0
    return sum((size - 1) * stride for size, stride in zip(dims, strides, strict=True)) + 1


# ---- structures


def spec_to_json(spec: pytree.TreeSpec) -> Any:
    """Raises UnsupportedError for a structure that a file cannot tell."""
    try:
        document = json.loads(pytree.treespec_dumps(spec))
        spec_from_json(document)
    except (NotImplementedError, TypeError, CorruptFileError) as error:
        raise UnsupportedError(
            f"the model's inputs or outputs are of a type that a file cannot tell: {error}"
        ) from None
    return document


def spec_from_json(document: Any) -> pytree.TreeSpec:
    """The inverse of `spec_to_json`; of types that are registered with torch in this process."""
    with checked("the structure of the inputs or outputs"):
        _check_spec(document[1])
        return pytree.treespec_loads(json.dumps(document))


def _check_spec(spec: Mapping[str, Any]) -> None:
    name, context, children = spec["type"], spec["context"], spec["children_spec"]
    require(name != _DEFAULT_DICT, "a defaultdict names a function")
    known = pytree.SUPPORTED_SERIALIZED_TYPES.get(pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE.get(name))
    if known is not None and known.from_dumpable_context is None:
        keys = json.loads(context)
        # torch's reader takes a mapping with this member for an enum, whose module it imports.
        require("__enum__" not in json.dumps(keys), "a key of a structure is an enum")
        if name in ("builtins.dict", "collections.OrderedDict"):
            require(len(keys) == len(children), "a dict has other keys than items")
    for child in children:
        _check_spec(child)
