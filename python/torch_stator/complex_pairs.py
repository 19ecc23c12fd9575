"""Complex numbers as pairs of real ones, as rotary embeddings use them.

In:  a functional FX graph with fake tensors in `meta["val"]`.
Out: the same graph, in which real results of complex numbers are computed from real tensors with a
     last dim (real part, imaginary part).
Invariant: a complex tensor that an operator outside of the rules below reads is still computed by
torch, as it was; the pairs of complex tensors that come from elsewhere are views of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

Node = torch.fx.Node
aten = torch.ops.aten


def split_complex(gm: torch.fx.GraphModule) -> None:
    """Changes `gm` as the head of this file says."""
    if any(_is_complex(node) for node in gm.graph.nodes):
        _Splitter(gm.graph).run()
        gm.graph.eliminate_dead_code()


def _is_complex(value: Any) -> bool:
    tensor = value.meta.get("val") if isinstance(value, Node) else None
    return isinstance(tensor, torch.Tensor) and tensor.is_complex()


class _Splitter:
    def __init__(self, graph: torch.fx.Graph) -> None:
        self.graph = graph
        self.pairs: dict[Node, Node] = {}
        self.node = next(iter(graph.nodes))  # the one whose parts are added

    def run(self) -> None:
        for node in list(self.graph.nodes):
            if node.op != "call_function":
                continue
            self.node = node
            with self.graph.inserting_before(node):
                if _is_complex(node):
                    self.add_pair(node)
                elif any(map(_is_complex, node.all_input_nodes)) and node.target in _RESULTS:
                    node.replace_all_uses_with(_RESULTS[node.target](self, node))

    def add_pair(self, node: Node) -> None:
        """Gives a complex node its pair, if it follows a rule."""
        real = not any(map(_is_complex, node.all_input_nodes))
        rule = (_PRODUCERS if real else _MAPS).get(node.target)
        if rule is None or (node.kwargs and rule is not _same):
            return
        pair = rule(self, *node.args)
        number = node.meta["val"]
        if pair is None or pair.meta["val"].dim() != number.dim() + 1:
            return
        if pair.meta["val"].dtype == number.dtype.to_real():  # a 0-d factor promotes otherwise
            self.pairs[node] = pair

    def pair(self, node: Node) -> Node:
        """The pair of a complex node; a view of it when it follows no rule."""
        if node not in self.pairs:
            point = node.next
            while point.op == "placeholder":
                point = point.next
            with self.graph.inserting_before(point):
                self.pairs[node] = self.call(aten.view_as_real.default, node)
        return self.pairs[node]

    def parts(self, node: Node) -> tuple[Node, Node]:
        pair = self.pair(node)
        return (
            self.call(aten.select.int, pair, -1, 0),
            self.call(aten.select.int, pair, -1, 1),
        )

    def stack(self, real: Node, imaginary: Node) -> Node | None:
        """The pair of two parts, which broadcast; None where sizes that are symbols differ."""
        sizes = [part.meta["val"].shape for part in (real, imaginary)]
        if len(sizes[0]) != len(sizes[1]) or not all(map(_known_equal, *sizes)):
            if any(isinstance(size, torch.SymInt) for size in (*sizes[0], *sizes[1])):
                return None
            shape = list(torch.broadcast_shapes(*sizes))
            real = self.call(aten.expand.default, real, shape)
            imaginary = self.call(aten.expand.default, imaginary, shape)
        return self.call(aten.stack.default, [real, imaginary], -1)

    def call(self, target: Callable[..., Any], *args: Any) -> Node:
        node = self.graph.call_function(target, args)
        values = torch.fx.node.map_arg(args, lambda arg: arg.meta["val"])
        node.meta["val"] = target(*values)
        if trace := self.node.meta.get("stack_trace"):
            node.meta["stack_trace"] = trace
        return node


def _known_equal(a: Any, b: Any) -> bool:
    return statically_known_true(a == b)


# ---- complex results of real tensors; None where the arguments follow no rule
def _polar(s: _Splitter, length: Node, angle: Node) -> Node | None:
    cos, sin = s.call(aten.cos.default, angle), s.call(aten.sin.default, angle)
    return s.stack(s.call(aten.mul.Tensor, length, cos), s.call(aten.mul.Tensor, length, sin))


_PRODUCERS: dict[Any, Callable[..., Node | None]] = {
    aten.view_as_complex.default: lambda s, x: x,
    aten.complex.default: lambda s, real, imaginary: s.stack(real, imaginary),
    aten.polar.default: _polar,
}


# ---- complex results of complex tensors; None where the arguments follow no rule
def _mul(s: _Splitter, x: Any, y: Any) -> Node | None:
    if not _is_complex(x):
        x, y = y, x
    if isinstance(y, complex):
        return None
    if not _is_complex(y):
        factor = s.call(aten.unsqueeze.default, y, -1) if isinstance(y, Node) else y
        return s.call(aten.mul.Tensor, s.pair(x), factor)
    (a, b), (c, d) = s.parts(x), s.parts(y)

    def mul(left: Node, right: Node) -> Node:
        return s.call(aten.mul.Tensor, left, right)

    return s.stack(
        s.call(aten.sub.Tensor, mul(a, c), mul(b, d)),
        s.call(aten.add.Tensor, mul(a, d), mul(b, c)),
    )


def _conj(s: _Splitter, x: Node) -> Node | None:
    real, imaginary = s.parts(x)
    return s.stack(real, s.call(aten.neg.default, imaginary))


def _sum(target: Any) -> Callable[..., Node | None]:
    def rule(s: _Splitter, x: Any, y: Any) -> Node | None:
        if not _is_complex(x) or not _is_complex(y):
            return None
        return s.call(target, s.pair(x), s.pair(y))

    return rule


def _same(s: _Splitter, x: Node) -> Node:
    return s.pair(x)


def _sizes(target: Any) -> Callable[..., Node]:
    """Of views that take a list of sizes."""
    return lambda s, x, sizes: s.call(target, s.pair(x), [*sizes, 2])


def _dims(target: Any) -> Callable[..., Node]:
    """Of views that take dims, counted from the front or the back, and then other arguments."""

    def rule(s: _Splitter, x: Node, *args: Any) -> Node:
        rank = x.meta["val"].dim() + (target is aten.unsqueeze.default)
        count = 2 if target is aten.transpose.int else 1
        wrapped = [arg % rank if arg < 0 else arg for arg in args[:count]]
        return s.call(target, s.pair(x), *wrapped, *args[count:])

    return rule


def _permute(s: _Splitter, x: Node, dims: Sequence[int]) -> Node:
    rank = x.meta["val"].dim()
    return s.call(aten.permute.default, s.pair(x), [*(dim % rank for dim in dims), rank])


_MAPS: dict[Any, Callable[..., Node | None]] = {
    aten.mul.Tensor: _mul,
    aten.add.Tensor: _sum(aten.add.Tensor),
    aten.sub.Tensor: _sum(aten.sub.Tensor),
    aten._conj.default: _conj,
    aten.clone.default: _same,
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.view.default: _sizes(aten.view.default),
    aten._unsafe_view.default: _sizes(aten._unsafe_view.default),
    aten.expand.default: _sizes(aten.expand.default),
    aten.unsqueeze.default: _dims(aten.unsqueeze.default),
    aten.squeeze.dim: _dims(aten.squeeze.dim),
    aten.transpose.int: _dims(aten.transpose.int),
    aten.select.int: _dims(aten.select.int),
    aten.slice.Tensor: _dims(aten.slice.Tensor),
    aten.permute.default: _permute,
}


# ---- real results of complex tensors
def _abs(s: _Splitter, node: Node) -> Node:
    return s.call(aten.hypot.default, *s.parts(node.args[0]))


def _angle(s: _Splitter, node: Node) -> Node:
    real, imaginary = s.parts(node.args[0])
    return s.call(aten.atan2.default, imaginary, real)


_RESULTS: dict[Any, Callable[[_Splitter, Node], Node]] = {
    aten.view_as_real.default: lambda s, node: s.pair(node.args[0]),
    aten.abs.default: _abs,
    aten.angle.default: _angle,
}
