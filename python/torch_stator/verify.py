"""torch_stator.verify and the setting `verify`: what engines compute, compared with eager PyTorch.

In:  a graph as it was traced, its Runner, and the arguments of a call. Out: none, or a Difference:
     the first node whose result is wrong.
An element is wrong when it is further from eager's than the op table's tolerance (scaled to the
type that is computed in) and four times the largest rounding error that eager itself makes, which
float64 shows. A wrong node is found by computing each one alone, from eager's inputs; where all are
right alone, by the shortest run of nodes whose result is wrong.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import operator
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Interpreter, Node

from . import _ffi
from .errors import warn_fallback
from .export import user_location
from .settings import CompilationSettings
from .stats import FALLBACK_CALLS, VERIFY_FAILURES, count

if TYPE_CHECKING:
    from .runner import Runner

_FLOATS = (torch.float32, torch.half, torch.bfloat16)
# Called with what each verified call found (verify).
on_verification: list[Callable[[Difference | None], None]] = []


@dataclasses.dataclass(frozen=True)
class Difference:
    """A node whose result in an engine is not eager's."""

    node: str  # its FX name
    op: str  # "aten.tanh.default"
    location: str  # the user's lines that called it
    alone: bool  # whether it is wrong by itself; else in one engine with the nodes before it
    max_abs: float
    max_rel: float
    index: tuple[int, ...]  # of the element that is furthest off
    found: float
    expected: float

    def __str__(self) -> str:
        how = "" if self.alone else ", in one engine with nodes before it"
        return (
            f"node `{self.node}` ({self.op}){how}: found {self.found:.9g}, expected "
            f"{self.expected:.9g} at {list(self.index)}; the largest error is {self.max_abs:.3g} "
            f"absolute, {self.max_rel:.3g} relative\n{self.location}".rstrip()
        )


@dataclasses.dataclass(frozen=True)
class Verification:
    """What verify found."""

    num_graphs: int
    differences: list[Difference]  # at most one of each graph

    @property
    def ok(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        head = f"{self.num_graphs - len(self.differences)} of {self.num_graphs} graph(s) are right"
        return "\n".join([head, *map(str, self.differences)])


def verify(
    model: torch.nn.Module,
    inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Verification:
    """Compiles a model as torch.compile does, under no_grad, calls it, and compares each graph with
    eager, and each of its nodes alone. `settings` are the fields of CompilationSettings."""
    from . import backend

    found: list[Difference | None] = []
    on_verification.append(found.append)
    try:
        with torch.no_grad():
            compile_fn = functools.partial(backend.stator, options={**settings, "verify": True})
            torch.compile(model, backend=compile_fn, dynamic=False)(*inputs, **(kwargs or {}))
    finally:
        on_verification.remove(found.append)
    return Verification(len(found), [difference for difference in found if difference])


class Verifier:
    """Stands in for a Runner until its first call is verified, and for ever if that was wrong."""

    def __init__(
        self,
        gm: GraphModule,
        settings: CompilationSettings,
        compile_alone: Callable[[GraphModule, CompilationSettings], Callable[..., Any]],
    ) -> None:
        """`gm`: the graph as traced. `compile_alone(gm, settings)`: compiles another."""
        graph = Graph()
        graph.output(graph.graph_copy(gm.graph, {}))
        self._gm = GraphModule(gm, graph)
        # Alone, a node makes an engine of any size; what it is must not come from a cache.
        self._settings = dataclasses.replace(
            settings, verify=False, min_block_size=1, cache=False, debug=False
        )
        self._compile = compile_alone
        self._lock = threading.Lock()
        self._wrong = False

    def __call__(self, runner: Runner, args: list[Any]) -> list[Any]:
        with self._lock:
            if runner.verifier is None:  # another thread was first
                return runner.run(args)
            kept = list(args)
            if self._wrong:
                return runner.write_back(kept, self._run_eager(kept))
            given = [arg.clone() if isinstance(arg, torch.Tensor) else arg for arg in args]
            seed = torch.get_rng_state()
            expected = self._run_eager(given)
            torch.set_rng_state(seed)
            found = runner.run(args)
            with torch.inference_mode(False), torch.no_grad():
                difference = self._compare(given, found, expected)
            for listener in on_verification:
                listener(difference)
            if difference is None:
                runner.verifier = None
                return found
            self._wrong = True
        count(VERIFY_FAILURES)
        if not on_verification:
            warn_fallback(f"a graph runs in eager PyTorch, for an engine is wrong: {difference}")
        return runner.write_back(kept, self._run_eager(given))

    def _run_eager(self, args: Sequence[Any]) -> list[Any]:
        count(FALLBACK_CALLS)
        return list(self._gm(*args))

    def _compare(
        self, args: list[Any], found: Sequence[Any], expected: Sequence[Any]
    ) -> Difference | None:
        right = self._is_right(self._gm, args, found, expected)
        if right and not on_verification:
            return None
        values = _Recorder(self._gm).record(args)
        calls = [node for node in self._gm.graph.nodes if _is_compared(node, values)]
        for node in calls:
            alone = [_call_of(node), node] if _call_of(node) is not node else [node]
            if difference := self._try_nodes(alone, node, values):
                return difference
        if right:
            return None
        return self._find_run(calls, values) or self._describe_outputs(found, expected)

    def _find_run(self, calls: Sequence[Node], values: Mapping[Node, Any]) -> Difference | None:
        """The first node that is wrong when it is computed from the graph's arguments."""
        low, high = 0, len(calls) - 1
        found = None
        while low <= high:
            middle = (low + high) // 2
            difference = self._try_nodes(self._sources(calls[middle]), calls[middle], values)
            if difference:
                found, high = difference, middle - 1
            else:
                low = middle + 1
        return found and dataclasses.replace(found, alone=False)

    def _sources(self, node: Node) -> list[Node]:
        needed, stack = set(), [node]
        while stack:
            current = stack.pop()
            if current not in needed and current.op == "call_function":
                needed.add(current)
                stack.extend(current.all_input_nodes)
        return [node for node in self._gm.graph.nodes if node in needed]

    def _try_nodes(
        self, nodes: Sequence[Node], result: Node, values: Mapping[Node, Any]
    ) -> Difference | None:
        """Computes `nodes` in an engine, from eager's values of what they read."""
        if any(used not in values for node in nodes for used in node.all_input_nodes):
            return None  # reads a graph, as torch.cond does: torch runs it
        gm, args = _extract(self._gm, nodes, result, values)
        found = self._compile(_extract(self._gm, nodes, result, values)[0], self._settings)(
            list(args)
        )
        expected = gm(*args)
        if self._is_right(gm, args, found, expected):
            return None
        return _describe(result, found[0], expected[0])

    def _is_right(
        self, gm: GraphModule, args: Sequence[Any], found: Sequence[Any], expected: Sequence[Any]
    ) -> bool:
        exact = _Wide(gm).run(*args)
        ops = {str(node.target) for node in gm.graph.nodes if node.op == "call_function"}
        return all(
            _is_close(*triple, _find_tolerance(ops), self._settings)
            for triple in zip(found, expected, exact, strict=True)
            if isinstance(triple[1], torch.Tensor)
        )

    def _describe_outputs(self, found: Sequence[Any], expected: Sequence[Any]) -> Difference:
        (outputs,) = self._gm.graph.output_node().args
        differences = [
            dataclasses.replace(_describe(node, one, other), alone=False)
            for node, one, other in zip(outputs, found, expected, strict=True)
            if isinstance(other, torch.Tensor)
        ]
        return max(differences, key=lambda difference: difference.max_abs)


class _Recorder(Interpreter):
    """Runs a graph in eager PyTorch and keeps every value."""

    def __init__(self, gm: GraphModule) -> None:
        super().__init__(gm, garbage_collect_values=False)

    def record(self, args: Sequence[Any]) -> dict[Node, Any]:
        self.run(*args)
        plain = (torch.Tensor, tuple, list, int, float, bool)
        return {node: value for node, value in self.env.items() if isinstance(value, plain)}


class _Wide(Interpreter):
    """Runs a graph with every float as float64."""

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        return result if n.op == "output" else _map(_widen, result)

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(target, _map(_widen, args), _map(_widen, kwargs))


def _widen(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return torch.float64 if value in _FLOATS else value
    if isinstance(value, torch.Tensor) and value.dtype in _FLOATS:
        return value.double()
    return value


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_map(function, item) for item in value)
    if isinstance(value, dict):
        return {key: _map(function, item) for key, item in value.items()}
    return function(value)


def _is_compared(node: Node, values: Mapping[Node, Any]) -> bool:
    return node.op == "call_function" and isinstance(values.get(node), torch.Tensor)


def _call_of(node: Node) -> Node:
    """The call that a node is, or whose result it unpacks."""
    return node.args[0] if node.target is operator.getitem else node


def _extract(
    owner: GraphModule, nodes: Sequence[Node], result: Node, values: Mapping[Node, Any]
) -> tuple[GraphModule, list[torch.Tensor]]:
    """A graph of copies of `nodes` that returns `result`, with the values that it reads as
    arguments; numbers are part of it."""
    graph, mode = Graph(), FakeTensorMode()
    copies: dict[Node, Any] = {}
    args: list[torch.Tensor] = []
    own = set(nodes)
    for used in (used for node in nodes for used in node.all_input_nodes if used not in own):
        if used in copies or not isinstance(values[used], torch.Tensor):
            continue
        copies[used] = graph.placeholder(used.name)
        copies[used].meta["val"] = mode.from_tensor(values[used])
        args.append(values[used])
    for node in nodes:
        value = values[node]
        if not isinstance(value, (torch.Tensor, tuple, list)):
            continue  # a number, which its readers hold
        copy = graph.create_node(
            "call_function",
            node.target,
            torch.fx.map_arg(node.args, lambda n: copies.get(n, values[n])),
            torch.fx.map_arg(node.kwargs, lambda n: copies.get(n, values[n])),
            node.name,
        )
        fake = _map(lambda v: mode.from_tensor(v) if isinstance(v, torch.Tensor) else v, value)
        copy.meta = {**node.meta, "val": fake}
        copies[node] = copy
    graph.output((copies[result],))
    return GraphModule(owner, graph), args


@functools.cache
def _tolerances() -> tuple[dict[str, tuple[float, float]], tuple[float, float]]:
    """(rtol, atol) in float32 by ATen overload, of the op table; and the largest of all."""
    rows = json.loads(_ffi.op_table())
    by_op = {aten: (row["rtol"], row["atol"]) for row in rows for aten in row["aten"]}
    return by_op, (max(row["rtol"] for row in rows), max(row["atol"] for row in rows))


def _find_tolerance(ops: Iterable[str]) -> tuple[float, float]:
    by_op, largest = _tolerances()
    found = [by_op.get(op, largest) for op in ops]
    return max((r for r, _ in found), default=0.0), max((a for _, a in found), default=0.0)


def _is_close(
    found: torch.Tensor,
    expected: torch.Tensor,
    exact: torch.Tensor,
    tolerance: tuple[float, float],
    settings: CompilationSettings,
) -> bool:
    if found.shape != expected.shape or found.dtype is not expected.dtype:
        return False
    if expected.is_complex():
        found, expected, exact = map(torch.view_as_real, (found, expected, exact))
    if not expected.dtype.is_floating_point:
        # Where rounding decides, as in a comparison, eager itself may be off.
        return bool(((found == expected) | (expected != exact)).all())
    rtol, atol = (bound * _scale(expected.dtype, settings) for bound in tolerance)
    wide, other = found.double(), expected.double()
    rounding = (other - exact.double()).abs().nan_to_num(0.0, 0.0, 0.0)
    largest = 4 * rounding.max().item() if rounding.numel() else 0.0
    same = (wide == other) | (wide.isnan() & other.isnan())
    return bool((same | ((wide - other).abs() <= atol + rtol * other.abs() + largest)).all())


def _scale(dtype: torch.dtype, settings: CompilationSettings) -> float:
    """Of float32's tolerances, for values of a type."""
    if dtype is torch.float64 and not settings.truncate_long_and_double:
        return 0.01  # as torch.testing compares it
    computed = settings.precision or dtype
    eps = max(torch.finfo(t).eps for t in (dtype, computed) if t is not torch.float64)
    return eps / torch.finfo(torch.float32).eps


def _describe(node: Node, found: torch.Tensor, expected: torch.Tensor) -> Difference:
    wide, other = found.double(), expected.double()
    error = (wide - other).abs().nan_to_num(float("inf"))
    error[(wide == other) | (wide.isnan() & other.isnan())] = 0
    worst = int(error.argmax()) if error.numel() else 0
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), error.shape))
    trace = _call_of(node).meta.get("stack_trace", "")
    lines = [line.strip() for line in user_location(trace).splitlines() if "File" in line]
    return Difference(
        node=node.name,
        op=str(_call_of(node).target),
        location=lines[-1] if lines else "",
        alone=True,
        max_abs=error.max().item(),
        max_rel=(error / other.abs().clamp_min(torch.finfo(torch.float32).tiny)).max().item(),
        index=index,
        found=wide.flatten()[worst].item(),
        expected=other.flatten()[worst].item(),
    )
