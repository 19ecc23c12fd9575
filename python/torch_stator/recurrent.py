"""Recurrent layers, which torch takes apart step by step while it traces, as one operator each.

In:  calls of torch.lstm, gru, rnn_tanh and rnn_relu under whole.keep_whole.
Out: nodes `stator.recurrent` in the traced graph, which `name_recurrent` makes calls of those
     again: engines know them, and so does torch, where a layer is left to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

NAMES = ("lstm", "gru", "rnn_tanh", "rnn_relu")


@torch.library.custom_op(
    "stator::recurrent",
    mutates_args=(),
    schema=(
        "(str name, Tensor input, Tensor[] hx, Tensor[] params, bool has_biases, int num_layers, "
        "float dropout, bool train, bool bidirectional, bool batch_first) -> Tensor[]"
    ),
)
def recurrent(
    name: str, input: torch.Tensor, hx: Sequence[torch.Tensor], *rest: Any
) -> list[torch.Tensor]:
    """torch.lstm and its like, which only an LSTM gives several states."""
    return [result.clone() for result in _op(name)(input, _states(name, hx), *rest)]


@recurrent.register_fake
def _(
    name: str,
    input: torch.Tensor,
    hx: Sequence[torch.Tensor],
    params: Sequence[torch.Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> list[torch.Tensor]:
    outer, inner, _ = input.shape
    width = hx[0].shape[-1] * (2 if bidirectional else 1)
    if batch_first:  # a view of the steps, one after the other
        output = input.new_empty((inner, outer, width)).transpose(0, 1)
    else:
        output = input.new_empty((outer, inner, width))
    return [output, *(torch.empty_like(h, memory_format=torch.contiguous_format) for h in hx)]


def trace_whole(
    name: str, input: torch.Tensor, hx: torch.Tensor | Sequence[torch.Tensor], *rest: Any
) -> tuple[torch.Tensor, ...]:
    """What is traced in place of the operator."""
    return tuple(recurrent(name, input, [hx] if name != "lstm" else list(hx), *rest))


def name_recurrent(gm: torch.fx.GraphModule) -> None:
    """Makes `stator.recurrent` in the graph the operator that it stands for."""
    target = torch.ops.stator.recurrent.default
    for node in gm.graph.find_nodes(op="call_function", target=target):
        name, input, hx, *rest = node.args
        node.target = _op(name)
        node.args = (input, _states(name, hx), *rest)
        node.meta["val"] = tuple(node.meta["val"])


def _op(name: str) -> torch._ops.OpOverload:
    return getattr(torch.ops.aten, name).input


def _states(name: str, hx: Sequence[Any]) -> Any:
    return list(hx) if name == "lstm" else hx[0]
