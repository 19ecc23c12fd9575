"""Operators that torch takes apart while it traces, whatever decompositions it is given, and that
engines run whole."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch._C import DispatchKey
from torch._decomp.decompositions import upsample_compute_output_size

from .recurrent import NAMES, trace_whole

_PACKETS = [
    f"{name}{dims}d"
    for name in ("upsample_nearest", "_upsample_nearest_exact")
    for dims in (1, 2, 3)
] + [
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_trilinear3d",
    "upsample_bicubic2d",
    "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa",
]
_KEYS = (DispatchKey.Autograd, DispatchKey.CompositeImplicitAutograd)


@contextlib.contextmanager
def keep_whole() -> Iterator[None]:
    """Within, tracing leaves resampling and recurrent layers whole: torch's Python kernels, which
    take them apart, are set aside for its C++ kernels, which do not, and for kernels of ours.
    Compilations run one at a time, in dynamo's lock."""
    packets = [getattr(torch.ops.aten, name) for name in _PACKETS]
    ops = [getattr(packet, name) for packet in packets for name in packet.overloads()]
    taken = [
        (op, key, op.py_kernels.pop(key)) for op in ops for key in _KEYS if key in op.py_kernels
    ]
    ours = [(packet.vec, functools.partial(_resample, packet)) for packet in packets]
    layers = [(getattr(torch.ops.aten, name).input, name) for name in NAMES]
    taken += [
        (op, key, op.py_kernels.pop(key))
        for op, _ in layers
        for key in _KEYS
        if key in op.py_kernels
    ]
    ours += [(op, functools.partial(trace_whole, name)) for op, name in layers]
    ops += [op for op, _ in layers]
    for op, kernel in ours:
        op.py_kernels.update(dict.fromkeys(_KEYS, kernel))
    for op in ops:
        op._dispatch_cache.clear()
    try:
        yield
    finally:
        for op, _ in ours:
            for key in _KEYS:
                del op.py_kernels[key]
        for op, key, kernel in taken:
            op.py_kernels[key] = kernel
        for op in ops:
            op._dispatch_cache.clear()


def _resample(
    packet: torch._ops.OpOverloadPacket,
    input: torch.Tensor,
    output_size: Sequence[Any] | None,
    *rest: Any,
) -> torch.Tensor:
    """The overload `vec` by the one that takes numbers; torch's C++ kernel takes no symbolic size.
    `rest`: align_corners, where it has that, and scale_factors."""
    *align_corners, factors = rest
    size = upsample_compute_output_size(input.shape, output_size, factors)
    return packet.default(input, size, *align_corners, *(factors or [None] * len(size)))
