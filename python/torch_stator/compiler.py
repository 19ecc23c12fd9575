"""From a functional ATen graph to a Runner: what both front ends share.

In:  an FX graph with fake tensors in `meta["val"]`, the real tensors of the placeholders that are
     weights, and settings.
Out: a Compilation: the Runner, its engines and the compiler's report.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch._dynamo.exc import RestartAnalysis

from . import _ffi
from .builder import build_runner, take_out_views
from .collectives import merge_collectives
from .complex_pairs import split_complex
from .control_flow import Body, copy_graph, find_graphs, find_weights
from .devices import find_device
from .export import Weight, export_graph, lift_constants, put_in_memory_order
from .freeze import FrozenWeights, can_freeze, find_group, is_aligned, notes_on
from .recurrent import name_recurrent
from .reference import ReferenceEngine
from .regions import inline_regions
from .report import GraphReport, publish
from .runner import Runner
from .settings import CompilationSettings
from .stats import count_compilation
from .verify import Verifier


@dataclasses.dataclass
class Compilation:
    """A compiled graph."""

    gm: torch.fx.GraphModule
    runner: Runner
    engines: list[_ffi.Engine | ReferenceEngine | None]  # of each part; None: torch
    report: dict[str, Any]  # src/compile/compile.h; "notes": of the settings and weights
    text: str  # the report for people
    seconds: float  # from the FX graph to loaded engines
    device: torch.device
    bodies: list[Compilation]  # of the graphs of its control flow

    def all(self) -> Iterator[Compilation]:
        """This one, and those in it."""
        yield self
        for body in self.bodies:
            yield from body.all()


class TrainingError(Exception):
    """The graph trains: what it does is more than a function of its inputs."""


def compile_graph(
    gm: torch.fx.GraphModule,
    weights: Mapping[str, tuple[str, torch.Tensor]],
    settings: CompilationSettings,
    ranges: Mapping[Any, Any] | None = None,
    written: Sequence[str] = (),
    whole: bool = False,
    notes: Sequence[str] = (),
) -> Compilation:
    """Compiles `gm`, changing it. `weights`: by placeholder, a weight's own name and its tensor;
    the tensors are the user's, who may change them at any time. `ranges` as export_graph takes
    them. `written`: the placeholders whose tensors take the first outputs, in order. `whole`: all
    that engines can run shall be in them. `notes`: for the report."""
    _refuse_training(gm)
    name_recurrent(gm)
    start = time.perf_counter()
    verifier = None
    if settings.verify and not settings.dryrun:
        verifier = Verifier(gm, settings, lambda gm, alone: compile_graph(gm, {}, alone).runner)
    settings = dataclasses.replace(settings, device=_find_device(gm, settings))
    inline_regions(gm)
    merge_collectives(gm)
    bodies, failures = _compile_bodies(gm, weights, settings, ranges)
    split_complex(gm)
    placeholders = [node.name for node in gm.graph.find_nodes(op="placeholder")]
    constants = lift_constants(gm, settings.device)
    names = _unique([name for name, _ in weights.values()], taken=constants)
    notes = [*notes, *failures, *settings.notes(whole)]
    notes += notes_on(tensor for _, tensor in weights.values())
    weights = {
        placeholder: (name, tensor)
        for (placeholder, (_, tensor)), name in zip(weights.items(), names, strict=True)
        if can_freeze(tensor)
    }
    frozen = FrozenWeights(
        [name for name, _ in weights.values()], [tensor for _, tensor in weights.values()]
    )
    by_name = {node.name: node for node in gm.graph.find_nodes(op="placeholder")}
    for placeholder, order in zip(weights, frozen.orders, strict=True):
        if order != sorted(order):
            put_in_memory_order(gm, by_name[placeholder], order)

    outputs = take_out_views(gm, len(written))
    known = [Weight(placeholder, name) for placeholder, (name, _) in weights.items()]
    known += [Weight(placeholder, placeholder) for placeholder in constants]
    contents = [*frozen.contents(), *map(_content, constants.values())]
    compiled = _ffi.compile(
        export_graph(gm, known, ranges),
        [weight.placeholder for weight in known],
        contents,
        settings.to_json(whole),
        find_group([tensor for _, tensor in weights.values()]),
    )
    report = json.loads(compiled.report())
    report["notes"] = notes
    engines = [compiled.load_engine(i) for i in range(len(report["parts"]))]
    if settings.use_python_runtime:
        by_weight = {weight.name: content for weight, content in zip(known, contents, strict=True)}
        engines = [
            engine and ReferenceEngine(part, by_weight, settings.device)
            for engine, part in zip(engines, report["parts"], strict=True)
        ]
    count_compilation(report)
    text = compiled.report_text() + "".join(f"note: {note}\n" for note in report["notes"])
    publish(GraphReport(report, text), settings)
    writes = [placeholders.index(name) for name in written]
    called = {
        name: Body(body.runner, getattr(gm, name))
        for name, body in bodies.items()
        if any(engine for one in body.all() for engine in one.engines)
    }
    runner = build_runner(gm, outputs, report, engines, list(constants.values()), writes, called)
    frozen.bind([engine for engine in engines if engine is not None])
    if weights:
        runner.freeze(frozen, [placeholders.index(name) for name in weights])
    seconds = time.perf_counter() - start
    runner.verifier = verifier
    return Compilation(
        gm, runner, engines, report, text, seconds, settings.device, list(bodies.values())
    )


def _compile_bodies(
    gm: torch.fx.GraphModule,
    weights: Mapping[str, tuple[str, torch.Tensor]],
    settings: CompilationSettings,
    ranges: Mapping[Any, Any] | None,
) -> tuple[dict[str, Compilation], list[str]]:
    """The graphs of control flow in `gm`, by the names of its attributes; and why others stay with
    torch."""
    settings = dataclasses.replace(settings, verify=False)  # with the graph around them
    compiled, failures = {}, []
    for node, graph, operands in find_graphs(gm):
        title = f"graph `{node.target}` of {', '.join(user.name for user in node.users)}"
        body = copy_graph(graph)
        try:
            known = find_weights(body, operands, weights)
            compiled[node.target] = compile_graph(body, known, settings, ranges, notes=[title])
        except RestartAnalysis:
            raise
        except Exception as error:
            if settings.pass_through_build_failures:
                raise
            failures.append(f"{title} runs in torch: {type(error).__name__}: {error}")
    return compiled, failures


def _find_device(gm: torch.fx.GraphModule, settings: CompilationSettings) -> torch.device:
    """The device of the graph's inputs; without any, of what it makes."""
    values = [node.meta.get("val") for node in gm.graph.nodes]
    inputs = [node.meta.get("val") for node in gm.graph.find_nodes(op="placeholder")]
    inputs = [value for value in inputs if isinstance(value, torch.Tensor)]
    made = [value for value in values if isinstance(value, torch.Tensor)][:1]
    return find_device(inputs or made, settings.device)


def _content(constant: torch.Tensor) -> torch.Tensor:
    """A constant of the graph as engines take it."""
    content = constant.detach().contiguous()
    return content if is_aligned(content) else content.clone()


def _unique(names: Sequence[str], taken: Container[str]) -> list[str]:
    """The names, with a number after those that are taken or occur twice: two modules that one
    function calls may each have an `fc.weight`."""
    made: dict[str, None] = {}
    for name in names:
        candidates = itertools.chain([name], (f"{name}#{i}" for i in itertools.count(2)))
        made[next(c for c in candidates if c not in taken and c not in made)] = None
    return list(made)


_DROPOUTS = ("native_dropout", "bernoulli", "feature_dropout", "alpha_dropout", "_fused_dropout")


def _refuse_training(gm: torch.fx.GraphModule) -> None:
    """Raises when the graph drops elements at random, or updates the statistics of a batch norm."""
    for node in gm.graph.nodes:
        if node.op != "call_function":
            continue
        packet, _, overload = getattr(node.target, "__name__", "").partition(".")
        if packet in _DROPOUTS:
            raise TrainingError("it is in training mode (dropout); call model.eval() first")
        trains = any(arg is True for arg in node.args) and overload != "no_stats"
        if "batch_norm" in packet and (trains or "with_update" in packet):
            raise TrainingError("it is in training mode (batch norm); call model.eval() first")
