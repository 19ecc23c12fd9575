"""Tensors that wrap others, as a DTensor wraps the local part of what processes share.

AOTAutograd takes such inputs apart: the graph sees what is inside. So do we, for the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .freeze import FrozenWeights


def inner_tensors(value: Any) -> list[torch.Tensor]:
    """The plain tensors in `value`, in the order in which AOTAutograd passes them; a plain tensor
    itself."""
    if not isinstance(value, torch.Tensor):
        return []
    if not is_traceable_wrapper_subclass(value):
        return [value]
    names, _ = value.__tensor_flatten__()
    return [tensor for name in names for tensor in inner_tensors(getattr(value, name))]


def is_wrapper(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and is_traceable_wrapper_subclass(value)


def watch_wrappers(
    compiled: Callable[..., Any],
    frozen: Sequence[FrozenWeights],
    example_inputs: Sequence[Any],
    positions: Sequence[int],
) -> Callable[..., Any]:
    """`compiled`, which is to look at all its frozen weights again after a write to a wrapper among
    the inputs at `positions`: torch counts it there, and not in the tensor inside."""
    versioned = [i for i in positions if not example_inputs[i].is_inference()]
    seen = [example_inputs[i]._version for i in versioned]

    def call(*inputs: Any) -> Any:
        nonlocal seen
        now = [inputs[i]._version for i in versioned]
        if now != seen:
            for weights in frozen:
                weights.expire()
            seen = now
        return compiled(*inputs)

    return call
