"""Where a graph runs: the one device that all its tensors lie on, if there is an engine for it.

In:  real or fake tensors, and the device that the settings ask for. Out: the device; or an
     UnsupportedError that says why no engine can run there.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterable
from pathlib import Path

import torch

from . import _ffi
from .errors import UnsupportedError


def find_device(tensors: Iterable[torch.Tensor], asked: torch.device | None) -> torch.device:
    """The device of the tensors, the one asked for without any. Raises UnsupportedError for tensors
    on several devices, on another than the one asked for, or where no engine runs."""
    found = dict.fromkeys(str(tensor.device) for tensor in tensors)
    if len(found) > 1:
        raise UnsupportedError(
            f"it has tensors on {' and '.join(sorted(found))}, and engines run on one device; move "
            "them to one"
        )
    if not found:
        return with_ordinal(asked) if asked is not None else torch.device("cpu")
    device = torch.device(next(iter(found)))
    if device.type not in ("cpu", "cuda"):
        raise UnsupportedError(f"it has a tensor on {device}, and engines run on cpu or cuda")
    if asked is not None and not _is_same(device, asked):
        raise UnsupportedError(
            f"it has a tensor on {device}, and the option `device` asks for {asked}"
        )
    require_engine(device)
    return device


def require_engine(device: torch.device) -> None:
    """Raises UnsupportedError, with the reason, unless engines run on this device."""
    if device.type == "cpu":
        return
    if device.type != "cuda":
        raise UnsupportedError(f"there is no device engine for {device}; expected cpu or cuda")
    _add_cuda_folders()
    if reason := _ffi.why_no_cuda(device.index or 0):
        raise UnsupportedError(f"there is no device engine for {device}: {reason}")
    _release_memory_when_full()


def with_ordinal(device: torch.device) -> torch.device:
    """ "cuda" with the number of the current device."""
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def find_tf32() -> tuple[bool, bool]:
    """Whether torch allows TF32 in matrix products and in convolutions."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if not hasattr(matmul, "fp32_precision"):  # torch before 2.9
        return matmul.allow_tf32, cudnn.allow_tf32
    # Where these are used, reading `allow_tf32` raises.
    return _is_tf32(matmul.fp32_precision), _is_tf32(cudnn.conv.fp32_precision)


def _is_tf32(precision: str) -> bool:
    if precision == "none":  # as the setting for all of torch says
        precision = torch.backends.fp32_precision
    return precision == "tf32"


def _is_same(device: torch.device, asked: torch.device) -> bool:
    return device.type == asked.type and asked.index in (None, device.index or 0)


@functools.cache
def _add_cuda_folders() -> None:
    """NVIDIA's libraries are found where pip put them for torch, which loads only some of them."""
    package = importlib.util.find_spec("nvidia")
    for root in (package and package.submodule_search_locations) or []:
        for folder in sorted(Path(root).glob("*/lib")):
            _ffi.add_cuda_folder(str(folder))


@functools.cache
def _release_memory_when_full() -> None:
    """What torch's allocator keeps unused is given back before an engine lacks memory."""
    _ffi.on_cuda_out_of_memory(torch.cuda.empty_cache)
