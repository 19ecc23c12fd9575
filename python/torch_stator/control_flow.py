"""torch.cond, torch.while_loop and map: their graphs are compiled as graphs of their own.

In:  an FX graph whose calls of these operators read other graphs, as attributes.
Out: for each of those that engines can run a Body, which a step in torch calls in its place.
Invariant: what runs next is decided as torch does it; a graph that cannot be compiled stays what it
is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from .export import memory_order
from .runner import Runner

Tensors = tuple[Any, ...]


class Body(torch.nn.Module):
    """A compiled graph of a control flow operator, which takes its place."""

    def __init__(self, runner: Runner, original: GraphModule) -> None:
        super().__init__()
        self.runner = runner
        self.original = original
        self._returns_tuple = isinstance(_result(original), (tuple, list))

    def forward(self, *operands: Any) -> Any:
        results = self.runner(list(operands))
        return tuple(results) if self._returns_tuple else results[0]


def find_graphs(gm: GraphModule) -> Iterator[tuple[Node, GraphModule, Sequence[Any]]]:
    """The graphs that control flow of `gm` reads: the node of each, the graph and its operands in
    the order of its placeholders. Left out are those that write to them, that several calls read,
    or that make no tensor."""
    readers = Counter(node.target for node in gm.graph.find_nodes(op="get_attr"))
    for call in gm.graph.nodes:
        if call.op != "call_function" or call.target not in _OPERATORS:
            continue
        graphs, operands = _OPERATORS[call.target].split(*call.args)
        for node in graphs:
            body = getattr(gm, node.target, None)
            alone = readers[node.target] == 1 and len(node.users) == 1
            if isinstance(body, GraphModule) and alone and _can_compile(body):
                yield node, body, operands


def copy_graph(body: GraphModule) -> GraphModule:
    """A copy to compile, which returns a tuple."""
    graph = Graph()
    result = graph.graph_copy(body.graph, {})
    graph.output(tuple(result) if isinstance(result, (tuple, list)) else (result,))
    return GraphModule(body, graph)


def find_weights(
    body: GraphModule,
    operands: Sequence[Any],
    weights: Mapping[str, tuple[str, torch.Tensor]],
) -> dict[str, tuple[str, torch.Tensor]]:
    """The placeholders of `body` that are `weights` of the graph around it. One that is not
    row-major comes there by way of a view, of which each call makes a new one."""
    found = {}
    for inner, outer in zip(body.graph.find_nodes(op="placeholder"), operands, strict=True):
        name, weight = weights.get(getattr(outer, "name", ""), ("", None))
        if weight is not None and memory_order(weight) == list(range(weight.dim())):
            found[inner.name] = (name, weight)
    return found


def call_bodies(part: GraphModule, bodies: Mapping[str, Body]) -> GraphModule:
    """Makes a part that torch runs call `bodies`, which are by the names of its graphs."""
    changed = False
    for node in part.graph.nodes:
        if node.op == "get_attr" and node.target in bodies:
            setattr(part, node.target, bodies[node.target])
            changed = True
    for node in part.graph.nodes:
        if changed and node.target in _OPERATORS:
            node.target = _OPERATORS[node.target].run
    if changed:
        part.recompile()
    return part


def call_graphs(part: GraphModule) -> GraphModule:
    """A copy of a part that calls graphs where it called bodies."""
    graph = Graph()
    graph.output(graph.graph_copy(part.graph, {}))
    copy = GraphModule(part, graph)
    for node in graph.nodes:
        if node.op == "get_attr" and isinstance(getattr(copy, node.target), Body):
            setattr(copy, node.target, getattr(copy, node.target).original)
        node.target = _TARGETS.get(node.target, node.target)
    copy.recompile()
    return copy


def _result(body: GraphModule) -> Any:
    return body.graph.output_node().args[0]


def writes(body: GraphModule) -> bool:
    """Whether a graph may write to what it is given."""
    schemas = (getattr(node.target, "_schema", None) for node in body.graph.nodes)
    return any(schema is not None and schema.is_mutable for schema in schemas)


def _can_compile(body: GraphModule) -> bool:
    values = [node.meta.get("val") for node in body.graph.output_node().all_input_nodes]
    return not writes(body) and any(isinstance(value, torch.Tensor) for value in values)


# ---- The operators, as torch runs them outside of a trace (torch/_higher_order_ops), where they
# also stand for their derivatives.


def run_cond(
    predicate: Any, above: Callable[..., Any], below: Callable[..., Any], operands: Tensors
) -> Any:
    return above(*operands) if predicate else below(*operands)


def run_while_loop(
    condition: Callable[..., Any], body: Callable[..., Any], carried: Tensors, others: Tensors
) -> Any:
    if not condition(*carried, *others):
        return tuple(v.clone() if isinstance(v, torch.Tensor) else v for v in carried)
    while True:
        carried = body(*carried, *others)
        if not condition(*carried, *others):
            return carried


def run_map(body: Callable[..., Any], mapped: Sequence[torch.Tensor], others: Tensors) -> Any:
    results = [body(*rows, *others) for rows in zip(*mapped, strict=True)]
    return tuple(map(torch.stack, zip(*results, strict=True)))


class _Operator:
    def __init__(self, run: Callable[..., Any], num_graphs: int, first: int = 0) -> None:
        """Of its arguments, from the one numbered `first` on, so many are graphs; those after them
        are lists of operands."""
        self.run = run
        self._graphs = slice(first, first + num_graphs)

    def split(self, *args: Any) -> tuple[Sequence[Node], Sequence[Any]]:
        return args[self._graphs], [v for values in args[self._graphs.stop :] for v in values]


_OPERATORS: dict[Any, _Operator] = {
    torch.ops.higher_order.cond: _Operator(run_cond, 2, first=1),
    torch.ops.higher_order.while_loop: _Operator(run_while_loop, 2),
    torch.ops.higher_order.map_impl: _Operator(run_map, 1),
}
_TARGETS: dict[Any, Any] = {row.run: target for target, row in _OPERATORS.items()}
