"""Collectives of torch.distributed in a graph, which torch runs between the engines.

In:  a functional FX graph. Out: the same graph, in which a value goes to the other processes once,
     though several layers ask for it: those that share an input gather it each for itself.
Invariant: equal graphs change equally, so that all processes still run the same collectives in the
same order.
"""

from __future__ import annotations

from typing import Any

import torch


def merge_collectives(gm: torch.fx.GraphModule) -> None:
    """Changes `gm` as the head of this file says."""
    first: dict[Any, torch.fx.Node] = {}
    for node in list(gm.graph.nodes):
        if _is_functional_collective(node):
            key = (node.target, repr(node.args), repr(node.kwargs))
            if key in first:
                node.replace_all_uses_with(first[key])
                gm.graph.erase_node(node)
            first.setdefault(key, node)


def _is_functional_collective(node: torch.fx.Node) -> bool:
    return (
        isinstance(node.target, torch._ops.OpOverload)
        and node.target.namespace == "_c10d_functional"
        and not node.target._schema.is_mutable
    )
