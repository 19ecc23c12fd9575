"""From the parts of a compiled graph to its Runner.

In:  the FX graph, the parts that the C++ compiler made of it, and the outputs it shall return.
Out: a Runner. Outputs that share memory in torch share it here, too: torch makes them, as views of
     one value.
"""

from __future__ import annotations

import operator
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node

from . import _ffi
from .control_flow import Body, call_bodies
from .export import memory_order
from .reference import ReferenceEngine
from .runner import Copy, Part, Runner


def take_out_views(gm: GraphModule, num_writes: int = 0) -> list[Any]:
    """Makes the graph return, instead of outputs that share memory with an argument or with another
    output, the value that they are views of. Returns the outputs as they were, of which the first
    `num_writes` are new contents of arguments."""
    (outputs,) = gm.graph.output_node().args
    nodes = [out for out in outputs if isinstance(out, Node)]
    sharing: dict[Node, set[Node]] = {}
    for node in nodes:
        sharing.setdefault(_find_base(node), set()).add(node)
    kept = list(outputs[:num_writes])
    for out in outputs[num_writes:]:
        if isinstance(out, Node) and out not in kept:
            base = _find_base(out)
            out = base if _is_made_in_torch(out, base, len(sharing[base])) else out
        if not isinstance(out, Node) or out not in kept:
            kept.append(out)
    gm.graph.output_node().args = (tuple(kept),)
    return list(outputs)


def _is_made_in_torch(view: Node, base: Node, num_sharing: int) -> bool:
    """Whether torch makes an output from what it is a view of. Engines make the others: values of
    their own, and dense views that nothing returned shares memory with."""
    if view is base:
        return False
    if base.op == "placeholder":
        return True
    if memory_order(base.meta["val"]) is None:  # an engine would lay it out otherwise
        return False
    return num_sharing > 1 or memory_order(view.meta["val"]) is None


def build_runner(
    gm: GraphModule,
    outputs: Sequence[Any],
    report: dict[str, Any],
    engines: Sequence[_ffi.Engine | ReferenceEngine | None],
    constants: Sequence[torch.Tensor],
    writes: Sequence[int] = (),
    bodies: Mapping[str, Body] | None = None,
) -> Runner:
    """The runner of a graph whose parts `report` lists; `outputs` as take_out_views gives them,
    `engines` those of the parts (None: torch), and `constants` what the last placeholders hold.
    `writes`: the arguments that take the first outputs as new contents. `bodies`: of the graphs
    that `gm` reads as attributes, those that are compiled."""
    builder = _Builder(gm, report, len(constants), bodies or {})
    parts = list(zip(report["parts"], engines, strict=True))
    (kept,) = gm.graph.output_node().args
    output_nodes = [out for out in kept if isinstance(out, Node)]

    made = set(builder.slots)
    for part, engine in parts:
        made.update(part["outputs"] if engine else map(builder.name_of, builder.made(part)))
    needed = {builder.name_of(node) for node in output_nodes}
    views = [out for out in outputs if isinstance(out, Node) and out not in output_nodes]
    chains = _find_chains(views)
    sources = builder.with_sources([node.name for node in chains], made)
    needed.update(builder.name_of(node) for node in sources if node not in chains)
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
    return builder.finish(outputs, views, constants, writes)


class _Builder:
    """Gives each value of the graph a slot and each part its step."""

    def __init__(
        self,
        gm: GraphModule,
        report: dict[str, Any],
        num_constants: int,
        bodies: Mapping[str, Body],
    ) -> None:
        self.gm = gm
        self.bodies = bodies
        self.num_constants = num_constants
        self.value_names: dict[str, str] = report["values"]  # of each FX tensor
        self.placeholders = gm.graph.find_nodes(op="placeholder")
        self.slots = {self.name_of(node): i for i, node in enumerate(self.placeholders)}
        self.given = {self.name_of(node): node for node in self.placeholders}
        self.num_slots = len(self.placeholders)
        self.nodes = {node.name: node for node in gm.graph.nodes}
        # By slot, whose memory its tensor lies in: a placeholder, or a node that made it.
        self.memory: dict[int, Any] = dict(enumerate(self.placeholders))
        self.steps: list[tuple[Part, tuple[int, ...], tuple[int, ...]]] = []

    def name_of(self, node: Node) -> str:
        return self.value_names.get(node.name, f"fx:{node.name}")

    def is_available(self, node: Node, names: Container[str]) -> bool:
        """Whether `names` hold the value of a node. Of a copy in another layout they hold what was
        copied: engines read any layout, but not all of torch's kernels do."""
        name = self.name_of(node)
        if name not in names or name in self.given:
            return name in names and self.given[name] is node
        return _same_layout(self.nodes.get(name, node), node)

    def slot(self, name: str) -> int:
        if name not in self.slots:
            self.slots[name] = self.num_slots
            self.num_slots += 1
        return self.slots[name]

    def add_engine(self, engine: _ffi.Engine | ReferenceEngine, part: dict[str, Any]) -> None:
        inputs = tuple(self.input_slot(name, engine.device()) for name in part["inputs"])
        made = tuple(self.slot(name) for name in part["outputs"])
        self.memory.update((slot, slot) for slot in made)
        self.steps.append((engine, inputs, made))

    def input_slot(self, name: str, device: str) -> int:
        """What an engine reads: of a size, a tensor without elements that has it."""
        slot = self.slots[name]
        if name not in self.given or isinstance(self.given[name].meta["val"], torch.Tensor):
            return slot
        told = f"size:{name}"
        if told not in self.slots:
            self.steps.append((_SizeTeller(device), (slot,), (self.slot(told),)))
        return self.slots[told]

    def add_torch(self, names: Iterable[str], needed: set[str]) -> None:
        """A step that runs FX nodes in torch, of which the values `needed` are kept."""
        nodes = self.with_sources(names, self.slots)
        inputs = [
            node
            for node in nodes
            if node.op in ("placeholder", "call_function") and self.is_available(node, self.slots)
        ]
        outputs: dict[str, Node] = {}
        for node in nodes:
            name = self.name_of(node)
            if name in needed and name not in self.slots:
                outputs.setdefault(name, node)
        reads = tuple(self.slots[self.name_of(node)] for node in inputs)
        for name, node in outputs.items():
            base = _find_base(node, inputs)
            source = self.memory[self.slots[self.name_of(base)]] if base in inputs else base
            self.memory[self.slot(name)] = source
        made = tuple(self.slot(name) for name in outputs)
        self.steps.append((self.torch_part(nodes, inputs, list(outputs.values())), reads, made))

    def torch_part(
        self, nodes: Iterable[Node], inputs: Sequence[Node], outputs: Iterable[Node]
    ) -> GraphModule:
        """A graph of copies of `nodes`, those in `inputs` as its placeholders, in order."""
        graph = Graph()
        copies: dict[Node, Node] = {}
        for node in inputs:
            copies[node] = graph.placeholder(node.name)
            copies[node].meta = dict(node.meta)
        for node in nodes:
            if node not in copies:
                copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[node] for node in outputs))
        return call_bodies(GraphModule(self.gm, graph), self.bodies)

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
            if node in wanted or not self.is_available(node, available):
                stack.extend(node.all_input_nodes)
        return [node for node in self.gm.graph.nodes if node in found]

    def made(self, part: dict[str, Any]) -> set[Node]:
        """The FX nodes of a torch part and the getitems that unpack them."""
        nodes = {self.nodes[name] for name in part["nodes"]}
        return nodes | {u for node in nodes for u in node.users if u.target is operator.getitem}

    def add_views(self, views: Sequence[Node], slots: dict[Node, int]) -> None:
        """A step that makes `views` of what others made, into the slots that it adds to `slots`."""
        chains = _find_chains(views)
        nodes = self.with_sources([node.name for node in chains], self.slots)
        inputs = [n for n in nodes if n not in chains and self.is_available(n, self.slots)]
        reads = tuple(slots.get(node, self.slots[self.name_of(node)]) for node in inputs)
        made = dict.fromkeys(views)
        slots.update((view, self.slot(f"view:{view.name}")) for view in made)
        writes = tuple(slots[view] for view in made)
        self.steps.append((self.torch_part(nodes, inputs, made), reads, writes))

    def finish(
        self,
        outputs: Sequence[Any],
        views: Sequence[Node],
        constants: Sequence[torch.Tensor],
        writes: Sequence[int],
    ) -> Runner:
        (kept,) = self.gm.graph.output_node().args
        slots = {node: self.slots[self.name_of(node)] for node in kept if isinstance(node, Node)}
        copies = self.find_copies(slots, set(outputs[: len(writes)]))
        slots.update((node, slot) for node, (_, slot, _) in copies.items())
        for base in {_find_base(view): None for view in views}:
            if base.op != "placeholder" and base not in copies:  # an engine may choose others
                copies[base] = (slots[base], slots[base], memory_order(base.meta["val"]))
        if views:
            self.add_views(views, slots)
        last_use: dict[int, int] = {}
        for i, (_, reads, made) in enumerate(self.steps):
            last_use.update(dict.fromkeys((*reads, *made), i))
        alive = {*slots.values(), *writes, *(source for source, _, _ in copies.values())}
        if views:
            alive.update(self.steps[-1][1])
        steps = [
            (reads, made, tuple(s for s, use in last_use.items() if use == i and s not in alive))
            for i, (_, reads, made) in enumerate(self.steps)
        ]
        return Runner(
            [part for part, _, _ in self.steps],
            steps,
            [slots[out] if isinstance(out, Node) else (out,) for out in outputs],
            constants,
            self.num_slots - len(self.placeholders),
            list(copies.values()),
            [(to, slots[out]) for to, out in zip(writes, outputs, strict=False)],
            num_views=1 if views else 0,
        )

    def find_copies(self, outputs: dict[Node, int], written: set[Any]) -> dict[Node, Copy]:
        """The outputs, with their slots, that would lie in the memory of an argument, a constant or
        an output before them, although in the graph they are no views of it: of `x.clone()` the
        compiler keeps `x`. Those in `written` also if they are views of an argument, which may be
        written to before they are read."""
        owners: dict[Any, Node] = {node: node for node in self.placeholders}
        for node in self.placeholders[len(self.placeholders) - self.num_constants :]:
            owners[node] = self.gm.graph.output_node()  # nobody's
        copies = {}
        for node, slot in outputs.items():
            base = _find_base(node)
            owned = owners.setdefault(self.memory[slot], base) is base
            if not owned or (node in written and base.op == "placeholder"):
                to = self.slot(f"copy:{node.name}")
                copies[node] = (slot, to, memory_order(node.meta["val"]))
        return copies


class _SizeTeller:
    """From a size to what an engine takes for it (ImportedInput::kSize, src/import/import.h)."""

    def __init__(self, device: str) -> None:
        self._device = device

    def __call__(self, size: int) -> torch.Tensor:
        return torch.empty((size, 0), dtype=torch.bool, device=self._device)


def _find_chains(views: Iterable[Node]) -> set[Node]:
    """The calls between the views and what they show."""
    chains = set()
    for view in views:
        base = _find_base(view)
        while view is not base:
            chains.add(view)
            view = view.args[0]
    return chains


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


def _same_layout(first: Node, second: Node) -> bool:
    one, other = first.meta.get("val"), second.meta.get("val")
    if first is second or not (isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)):
        return True
    return str((*one.shape, *one.stride())) == str((*other.shape, *other.stride()))
