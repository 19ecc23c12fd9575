"""The callable that a compiled graph becomes: engines and torch nodes, in order.

In:  the FX graph, the parts that the C++ compiler made of it, and on each call the values of the
     graph's placeholders.
Out: the graph's outputs.
Invariant: what a part reads was made by an earlier one, or is a placeholder; a value is dropped
after its last use.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from . import _ffi
from .export import memory_order
from .freeze import FrozenWeights
from .reference import ReferenceEngine
from .stats import counted

# What a step runs.
Part = _ffi.Engine | ReferenceEngine | GraphModule
# A step of a call: the slots that its part reads, those that take its results, and those that no
# later step reads.
Step = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


class Runner:
    """Runs a compiled graph. AOTAutograd's boxed convention: one list of arguments, which it
    empties."""

    _boxed_call = True

    def __init__(
        self,
        parts: Sequence[Part],
        steps: Sequence[Step],
        outputs: Sequence[Any],
        constants: Sequence[torch.Tensor],
        num_values: int,
        copies: Sequence[tuple[int, Sequence[int] | None]] = (),
        check_weights: bool = True,
    ) -> None:
        """`check_weights`: others may write to the weights of the engines."""
        self.parts = parts
        self._slots = steps
        self._steps = [
            (_function(part, check_weights), *step) for part, step in zip(parts, steps, strict=True)
        ]
        self.outputs = outputs  # a slot's number, or a constant in a tuple
        self.constants = constants
        self._num_values = num_values
        # The outputs to return as copies, with strides: they hold what an argument, a constant or
        # another output holds, but are memory of their own.
        self._copies = copies
        # Slots: arguments, then constants of the graph, then what the steps make.
        self._tail = [*constants, *[None] * num_values]
        self._frozen: FrozenWeights | None = None
        # By placeholder that is a weight: its dims in the order in which the graph takes them.
        self.orders: dict[int, Sequence[int]] = {}
        self._permuted: list[tuple[int, list[int]]] = []

    def freeze(self, frozen: FrozenWeights, positions: Sequence[int]) -> None:
        """The placeholders at `positions` are weights, which the engines hold."""
        self._frozen = frozen
        self._positions = tuple(positions)
        pick = operator.itemgetter(*positions)
        self._pick = pick if len(positions) > 1 else lambda values: (pick(values),)
        read = {slot for inputs, _, _ in self._slots for slot in inputs}
        self.orders = dict(zip(positions, frozen.orders, strict=True))
        self._permuted = [
            (i, order) for i, order in self.orders.items() if i in read and order != sorted(order)
        ]

    def __call__(self, args: list[Any]) -> list[Any]:
        torch.get_num_threads()  # brings torch.set_num_threads to this thread, engines included
        values = args + self._tail
        args.clear()
        if self._frozen is not None:
            self._frozen.check(self._pick(values))
            for slot, order in self._permuted:  # as the graph takes it (export.put_in_memory_order)
                values[slot] = values[slot].permute(order)
        for function, inputs, outputs, dead in self._steps:
            results = function(*[values[slot] for slot in inputs])
            if len(outputs) == 1 and isinstance(results, torch.Tensor):
                values[outputs[0]] = results
            else:
                for slot, result in zip(outputs, results, strict=True):
                    values[slot] = result
            for slot in dead:
                values[slot] = None
        results = [values[out] if type(out) is int else out[0] for out in self.outputs]
        for i, strides in self._copies:
            results[i] = _copy(results[i], strides)
        return results

    def refit(self, values: Sequence[Any]) -> None:
        """Refits the engines now, if the weights among the arguments have changed."""
        if self._frozen is not None:
            self._frozen.check(self._pick(values))

    def set_weights(self, contents: Mapping[str, torch.Tensor]) -> None:
        """Refits those engines that hold weights of these names."""
        changed = []
        for engine in self.parts:
            if isinstance(engine, _ffi.Engine):
                known = [name for name in engine.weight_names() if name in contents]
                for name in known:
                    engine.set_weight(name, contents[name])
                changed += [engine] if known else []
        for engine in changed:
            engine.refit()

    def with_engines_of_its_own(self) -> Runner:
        """The same steps, whose engines can be refitted apart."""
        parts = [
            _ffi.load_plan_bytes(part.plan_bytes()) if isinstance(part, _ffi.Engine) else part
            for part in self.parts
        ]
        return Runner(
            parts,
            self._slots,
            self.outputs,
            self.constants,
            self._num_values,
            self._copies,
            check_weights=False,
        )

    def live_slots(self) -> set[int]:
        """The slots that a step or an output reads."""
        read = {slot for inputs, _, _ in self._slots for slot in inputs}
        return read | {slot for slot in self.outputs if isinstance(slot, int)}

    def to_dict(self) -> dict[str, Any]:
        """All but the parts and the constants, as plain data."""
        return {
            "steps": self._slots,
            "outputs": self.outputs,
            "num_values": self._num_values,
            "copies": self._copies,
        }


class _Builder:
    """Gives each value of the graph a slot and each part its step."""

    def __init__(self, gm: GraphModule, report: dict[str, Any], num_constants: int) -> None:
        self.gm = gm
        self.num_constants = num_constants
        self.value_names: dict[str, str] = report["values"]  # of each FX tensor
        self.placeholders = gm.graph.find_nodes(op="placeholder")
        self.slots = {self.name_of(node): i for i, node in enumerate(self.placeholders)}
        self.num_slots = len(self.placeholders)
        self.nodes = {node.name: node for node in gm.graph.nodes}
        # By slot, whose memory its tensor lies in: a placeholder, or a node that made it.
        self.memory: dict[int, Any] = dict(enumerate(self.placeholders))
        self.steps: list[tuple[Part, tuple[int, ...], tuple[int, ...]]] = []

    def name_of(self, node: Node) -> str:
        return self.value_names.get(node.name, f"fx:{node.name}")

    def slot(self, name: str) -> int:
        if name not in self.slots:
            self.slots[name] = self.num_slots
            self.num_slots += 1
        return self.slots[name]

    def add_engine(self, engine: _ffi.Engine | ReferenceEngine, part: dict[str, Any]) -> None:
        inputs = tuple(self.slots[name] for name in part["inputs"])
        made = tuple(self.slot(name) for name in part["outputs"])
        self.memory.update((slot, slot) for slot in made)
        self.steps.append((engine, inputs, made))

    def add_torch(self, names: Iterable[str], needed: set[str]) -> None:
        """A step that runs FX nodes in torch, of which the values `needed` are kept."""
        graph = Graph()
        copies: dict[Node, Node] = {}
        inputs: list[Node] = []
        for node in self.with_sources(names, self.slots):
            if node.op in ("placeholder", "call_function") and self.name_of(node) in self.slots:
                copies[node] = graph.placeholder(node.name)
                copies[node].meta = dict(node.meta)
                inputs.append(node)
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        outputs: dict[str, Node] = {}
        for node in copies:
            name = self.name_of(node)
            if name in needed and name not in self.slots:
                outputs.setdefault(name, node)
        graph.output(tuple(copies[node] for node in outputs.values()))
        reads = tuple(self.slots[self.name_of(node)] for node in inputs)
        for name, node in outputs.items():
            base = _find_base(node, inputs)
            source = self.memory[self.slots[self.name_of(base)]] if base in inputs else base
            self.memory[self.slot(name)] = source
        made = tuple(self.slot(name) for name in outputs)
        self.steps.append((GraphModule(self.gm, graph), reads, made))

    def with_sources(self, names: Iterable[str], available: Container[str]) -> list[Node]:
        """FX nodes, the getitems that unpack them, and what they read: as far as `available`
        values, through whatever no part covers (sizes, constants, views that vanished). In graph
        order."""
        wanted = {self.nodes[name] for name in names}
        found: set[Node] = set()
        stack = list(wanted)
        while stack:
            node = stack.pop()
            if node in found:
                continue
            found.add(node)
            if node in wanted:
                stack.extend(user for user in node.users if user.target is operator.getitem)
            if node in wanted or self.name_of(node) not in available:
                stack.extend(node.all_input_nodes)
        return [node for node in self.gm.graph.nodes if node in found]

    def made(self, part: dict[str, Any]) -> set[Node]:
        """The FX nodes of a torch part and the getitems that unpack them."""
        nodes = {self.nodes[name] for name in part["nodes"]}
        return nodes | {u for node in nodes for u in node.users if u.target is operator.getitem}

    def finish(self, outputs: Sequence[Any], constants: Sequence[torch.Tensor]) -> Runner:
        kept = [self.slots[self.name_of(o)] if isinstance(o, Node) else (o,) for o in outputs]
        last_use: dict[int, int] = {}
        for i, (_, reads, writes) in enumerate(self.steps):
            last_use.update(dict.fromkeys((*reads, *writes), i))
        alive = {slot for slot in kept if isinstance(slot, int)}
        steps = [
            (reads, writes, tuple(s for s, use in last_use.items() if use == i and s not in alive))
            for i, (_, reads, writes) in enumerate(self.steps)
        ]
        parts = [part for part, _, _ in self.steps]
        num_values = self.num_slots - len(self.placeholders)
        return Runner(parts, steps, kept, constants, num_values, self.find_copies(outputs))

    def find_copies(self, outputs: Sequence[Any]) -> list[tuple[int, Sequence[int] | None]]:
        """The outputs that would lie in the memory of an argument, a constant or an output before
        them, although in the graph they are no views of it: of `x.clone()` the compiler keeps
        `x`."""
        owners: dict[Any, Node] = {node: node for node in self.placeholders}
        for node in self.placeholders[len(self.placeholders) - self.num_constants :]:
            owners[node] = self.gm.graph.output_node()  # nobody's
        copies = []
        for i, node in enumerate(outputs):
            if not isinstance(node, Node):
                continue
            base = _find_base(node)
            if owners.setdefault(self.memory[self.slots[self.name_of(node)]], base) is not base:
                copies.append((i, _dense_strides(node.meta["val"])))
        return copies


def _find_base(node: Node, stop: Container[Node] = ()) -> Node:
    """The node that made the memory which a view shows, or the first one in `stop` on the way; of a
    node that is no view, itself."""
    while node not in stop and node.op == "call_function":
        unpacked = node.target is operator.getitem
        call = node.args[0] if unpacked else node
        returns = getattr(getattr(call.target, "_schema", None), "returns", ())
        if len(returns) != 1 or returns[0].alias_info is None:
            break
        node = call.args[0]
    return node


def _dense_strides(tensor: torch.Tensor) -> tuple[int, ...] | None:
    """The strides of a dense tensor without overlap; None of another, and of dynamic ones."""
    static = all(type(size) is int for size in (*tensor.shape, *tensor.stride()))
    return tensor.stride() if static and memory_order(tensor) is not None else None


def _copy(tensor: torch.Tensor, strides: Sequence[int] | None) -> torch.Tensor:
    if strides is None:
        return tensor.clone()
    return torch.empty_strided(tensor.shape, strides, dtype=tensor.dtype).copy_(tensor)


def build_runner(
    gm: GraphModule,
    report: dict[str, Any],
    engines: Sequence[_ffi.Engine | ReferenceEngine | None],
    constants: Sequence[torch.Tensor],
) -> Runner:
    """The runner of a graph whose parts `report` lists; `engines` are theirs (None: torch), and
    `constants` what its last placeholders hold."""
    builder = _Builder(gm, report, len(constants))
    parts = list(zip(report["parts"], engines, strict=True))
    (outputs,) = gm.graph.output_node().args
    output_nodes = [out for out in outputs if isinstance(out, Node)]

    made = set(builder.slots)
    for part, engine in parts:
        made.update(part["outputs"] if engine else map(builder.name_of, builder.made(part)))
    needed = {builder.name_of(node) for node in output_nodes}
    for part, engine in parts:
        if engine:
            needed.update(part["inputs"])
        else:
            own = builder.made(part)
            sources = builder.with_sources(part["nodes"], made)
            needed.update(builder.name_of(node) for node in sources if node not in own)

    for part, engine in parts:
        if engine:
            builder.add_engine(engine, part)
        else:
            builder.add_torch(part["nodes"], needed)
    missing = [node.name for node in output_nodes if builder.name_of(node) not in builder.slots]
    if missing:  # constants, sizes
        builder.add_torch(missing, needed)
    return builder.finish(outputs, constants)


def describe_sharing(tensors: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
    """Which of the tensors lie in one storage, and how far those are from the first there; equal
    for tensors of equal layouts that share memory in the same way."""
    seen: dict[int, int] = {}
    firsts = [
        seen.setdefault(tensor.untyped_storage().data_ptr(), i) for i, tensor in enumerate(tensors)
    ]
    return firsts, [
        tensors[i].data_ptr() - tensors[first].data_ptr()
        for i, first in enumerate(firsts)
        if i != first
    ]


def _function(part: Part, check_weights: bool) -> Callable[..., Any]:
    """What a step calls: returns the part's output, or a list of them."""
    if isinstance(part, GraphModule):
        return counted(part)
    function = part.function(check_weights and bool(part.weight_names()))
    if part.num_inputs() == 0:  # a tensor brings torch's allocator
        function = functools.partial(function, torch.empty(0))
    return function
