"""Operators that engines run as what torch decomposes them into.

Those here are a few elementwise ops, reductions and views each, or they copy a view. One that our
importer knows as a whole has no place here; nor has one whose own kernel in torch is faster than
the parts.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch._decomp import get_decompositions

_NAMES = """
    _chunk_cat _euclidean_dist _log_softmax_backward_data _softmax_backward_data
    _unsafe_masked_index _unsafe_masked_index_put_accumulate _weight_norm_interface
    addr affine_grid_generator alias_copy aminmax binary_cross_entropy
    binary_cross_entropy_with_logits block_diag col2im deg2rad diag_embed
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
    return get_decompositions(packets)
