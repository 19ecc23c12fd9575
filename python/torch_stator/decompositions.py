"""Operators that engines run as what torch decomposes them into.

Those here are a few elementwise ops, reductions and views each, or they copy a view. One that our
importer knows as a whole has no place here; nor has one whose own kernel in torch is faster than
the parts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._decomp import get_decompositions

from .export import memory_order

_NAMES = """
    _chunk_cat _euclidean_dist _log_softmax_backward_data _softmax_backward_data
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _weight_norm_interface
    addr affine_grid_generator alias_copy aminmax binary_cross_entropy
    binary_cross_entropy_with_logits block_diag col2im deg2rad diag_embed dist
    diagonal_copy expand_copy hann_window heaviside huber_loss
    im2col isin isneginf isposinf linalg_cross logaddexp logaddexp2 logit logspace
    max_pool2d_with_indices_backward max_unpool2d max_unpool3d mse_loss mvlgamma
    nansum native_dropout_backward nll_loss2d_forward nll_loss_forward permute_copy
    rad2deg renorm rot90 sinc smooth_l1_loss soft_margin_loss special_entr
    special_log_ndtr special_xlog1py split_with_sizes_copy squeeze_copy t_copy trace
    transpose_copy unbind_copy unfold_copy unsqueeze_copy vdot view_copy xlogy
"""


@functools.cache
def usual_decompositions() -> dict[Any, Callable[..., Any]]:
    """Of each operator above, all overloads that torch has a decomposition of."""
    packets = [getattr(torch.ops.aten, name) for name in _NAMES.split()]
    usual = get_decompositions(packets)
    logspaces = [op for op in usual if op._overloadpacket is torch.ops.aten.logspace]
    return (
        usual
        | {op: _unless_narrow(usual[op]) for op in logspaces}
        | {
            torch.ops.aten.as_strided.default: _as_strided,
            torch.ops.aten._weight_norm.default: _weight_norm,  # which torch.export keeps whole
        }
    )


def _unless_narrow(decomposition: Callable[..., Any]) -> Callable[..., Any]:
    """For what the decomposition rounds to 16 bits more often, or less, than torch's kernel."""

    @functools.wraps(decomposition)
    def decompose(*args: Any, dtype: torch.dtype | None = None, **options: Any) -> Any:
        if dtype in (torch.float16, torch.bfloat16):
            return NotImplemented
        return decomposition(*args, dtype=dtype, **options)

    return decompose


def _weight_norm(v: torch.Tensor, g: torch.Tensor, dim: int = 0) -> torch.Tensor:
    """`dim` -1: one norm of the whole tensor."""
    if dim == -1:
        return v * (g / v.norm())
    return torch.ops.aten._weight_norm_interface.default(v, g, dim)[0]


def _as_strided(
    self: torch.Tensor,
    size: Sequence[int],
    stride: Sequence[int],
    storage_offset: int | None = None,
) -> Any:
    """Windows on the memory of a dense tensor, as rows of it: rows as long as every window's last
    dims lie in one piece, and as divide the distances between those pieces."""
    start = 0 if storage_offset is None else storage_offset - self.storage_offset()
    numbers = (*self.shape, *self.stride(), *size, *stride, start)
    if any(type(n) is not int for n in numbers) or 0 in size:
        return NotImplemented
    order = memory_order(self)
    last = start + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if order is None or start < 0 or last >= self.numel():
        return NotImplemented
    dims = _from_outermost(size, stride)
    size, stride = [size[dim] for dim in dims], [stride[dim] for dim in dims]
    row, outer = 1, len(size)
    while outer and (stride[outer - 1] == row or size[outer - 1] == 1):
        row *= size[outer - 1]
        outer -= 1
    inner = row
    row = math.gcd(row, self.numel(), start, *stride[:outer])
    rows = torch.full((), start // row, dtype=torch.int64, device=self.device)
    windows = [*zip(size[:outer], stride[:outer], strict=True), (inner // row, row)]
    for n, step in windows:
        rows = rows.unsqueeze(-1) + torch.arange(n, device=self.device) * (step // row)
    dense = self.permute(order).reshape(-1, row)
    window = dense.index_select(0, rows.reshape(-1)).reshape(size)
    return window.permute(sorted(range(len(size)), key=dims.__getitem__))


def _from_outermost(size: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The dims in the order in which torch lays out what it computes of such a tensor: by stride,
    but for those of stride 0, which stay in place (TensorIterator's reorder_dimensions)."""
    inner = list(reversed(range(len(size))))
    for i in range(1, len(inner)):
        at = i
        for other in reversed(range(i)):
            a, b = inner[other], inner[at]
            if 0 in (stride[a], stride[b]):
                continue
            if (stride[a], size[a]) > (stride[b], size[b]):
                inner[other], inner[at] = b, a
                at = other
            elif stride[a] < stride[b]:
                break
    return inner[::-1]
