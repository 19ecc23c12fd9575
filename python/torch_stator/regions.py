"""Regions that torch traced once (torch.compiler.nested_compile_region), as part of their callers.

In:  an FX graph with calls of `invoke_subgraph`. Out: the same graph, in which the nodes of the
     region stand for each call, so that engines may reach over its bounds.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch.fx import GraphModule, Node

from .control_flow import writes


def inline_regions(gm: GraphModule) -> None:
    """Changes `gm` as the head of this file says. Calls of a region that writes to its inputs, or
    that was traced for other sizes or strides, stay."""
    target = torch.ops.higher_order.invoke_subgraph
    calls = gm.graph.find_nodes(op="call_function", target=target)
    while calls:
        call = calls.pop()
        graph, _, *operands = call.args
        region = getattr(gm, graph.target)
        if writes(region) or not _fits(region, operands) or not _is_unpacked(call):
            continue
        calls += _inline(gm, call, region, operands)
    gm.graph.eliminate_dead_code()


def _inline(gm: GraphModule, call: Node, region: GraphModule, operands: list[Any]) -> list[Node]:
    """Returns the calls of regions within the region."""
    copies: dict[Node, Any] = dict(
        zip(region.graph.find_nodes(op="placeholder"), operands, strict=True)
    )
    inner = []
    with gm.graph.inserting_before(call):
        for node in region.graph.nodes:
            if node.op == "get_attr":
                copies[node] = gm.graph.get_attr(_adopt(gm, getattr(region, node.target)))
                copies[node].meta = dict(node.meta)
            elif node.op == "call_function":
                copies[node] = gm.graph.node_copy(node, copies.__getitem__)
                inner += [copies[node]] if node.target is call.target else []
    results = region.graph.output_node().args[0]
    for item in list(call.users):
        result = results[item.args[1]]
        item.replace_all_uses_with(copies[result] if isinstance(result, Node) else result)
        gm.graph.erase_node(item)
    gm.graph.erase_node(call)
    return inner


def _adopt(gm: GraphModule, value: Any) -> str:
    """Makes a graph or tensor that the region reads an attribute of `gm`."""
    number = sum(name.startswith("_region_") for name in vars(gm) | gm._modules | gm._buffers)
    name = f"_region_{number}"
    if isinstance(value, torch.nn.Module):
        gm.add_module(name, value)
    else:
        gm.register_buffer(name, value)
    return name


def _fits(region: GraphModule, operands: list[Any]) -> bool:
    return all(
        _describe(inner) == _describe(outer)
        for inner, outer in zip(region.graph.find_nodes(op="placeholder"), operands, strict=True)
    )


def _describe(value: Any) -> Any:
    value = value.meta.get("val") if isinstance(value, Node) else value
    if isinstance(value, torch.Tensor):
        return value.dtype, str(tuple(value.shape)), str(value.stride())
    return str(value)


def _is_unpacked(call: Node) -> bool:
    """Whether each reader takes one of the results."""
    return all(user.target is operator.getitem for user in call.users)
