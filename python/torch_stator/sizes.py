"""What the backend asks of symbolic sizes before it compiles. Dynamo guards on the answers."""

from collections.abc import Sequence
from typing import Any

import torch

from .export import hint


def make_static(example_inputs: Sequence[Any]) -> None:
    """Makes constants of the symbolic sizes among the inputs. Those that no tensor had before the
    call (of what `nonzero` returned) stay symbolic."""
    for value in example_inputs:
        sizes = (*value.shape, *value.stride()) if isinstance(value, torch.Tensor) else (value,)
        for size in sizes:
            if isinstance(size, torch.SymInt) and size.node.has_hint():
                int(size)


def equate_attention(gm: torch.fx.GraphModule) -> None:
    """Makes one symbol of the sizes that attention takes twice: the lengths of keys, values and
    mask, and the batch. PyTorch's shape functions do not compare them, so that a cache of keys and
    one of values have lengths of their own, and no engine could take both."""
    for node in gm.graph.nodes:
        if node.op == "call_function" and "scaled_dot_product" in str(node.target):
            tensors = [
                arg.meta["val"]
                for arg in (*node.args, *node.kwargs.values())
                if isinstance(arg, torch.fx.Node)
                and isinstance(arg.meta.get("val"), torch.Tensor)
                and arg.meta["val"].dim() >= 2
            ]
            if len(tensors) >= 3:
                _equate_sizes(*tensors[:4])


def _equate_sizes(q: Any, k: Any, v: Any, mask: Any = None) -> None:
    for other in (k, v):
        _equate(q.shape[0], other.shape[0])
    for size, other in zip(k.shape[:-1], v.shape[:-1], strict=False):
        _equate(size, other)
    if mask is not None:
        for size, other in zip(mask.shape[-2:], (q.shape[-2], k.shape[-2]), strict=True):
            _equate(size, other)


def _equate(size: Any, other: Any) -> None:
    """Guards that the sizes are equal where they are in the example; 1 may stand for a dim that is
    repeated."""
    symbolic = isinstance(size, torch.SymInt) or isinstance(other, torch.SymInt)
    if symbolic and hint(size) == hint(other) not in (None, 1):
        bool(size == other)
