"""The backend "stator" of torch.compile.

In:  dynamo's graph and the real tensors that it was traced with; options.
Out: a callable that runs the graph: engines where we can, torch where we cannot.
Invariant: never a wrong result and never a wrong gradient: where autograd has to see the graph,
where it trains, and where our compiler fails, the graph runs in eager PyTorch, with one warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch._dynamo.exc import RestartAnalysis
from torch._functorch.aot_autograd import aot_module_simplified
from torch.utils._python_dispatch import _disable_current_modes

from .compiler import Compilation, TrainingError, compile_graph
from .devices import find_device
from .errors import InvalidArgumentError, UnsupportedError, warn_fallback
from .export import module_name, user_location
from .freeze import FrozenWeights
from .runner import Runner
from .settings import CompilationSettings
from .sizes import equate_attention, make_static
from .stats import counted
from .whole import keep_whole
from .wrappers import inner_tensors, is_wrapper, watch_wrappers

_log = logging.getLogger("torch_stator")

# Called with each Compilation that the backend makes (explain.py, benchmarks).
on_compilation: list[Callable[[Compilation], None]] = []


def stator(
    gm: torch.fx.GraphModule,
    example_inputs: Sequence[Any],
    *,
    options: Mapping[str, Any] | None = None,
    **others: Any,
) -> Callable[..., Any]:
    """Compiles a graph for `torch.compile(model, backend="stator", options=...)`. The options are
    the fields of CompilationSettings; `others` are more of them, as functools.partial gives."""
    if "mode" in others:
        raise InvalidArgumentError(
            f"mode={others['mode']!r} is for another backend: use options, such as "
            "optimization_level"
        )
    settings = CompilationSettings.from_options({**others, **(options or {})})
    if reason := _find_reason_for_eager(example_inputs, settings.device):
        warn_fallback(f"{_describe(gm)} runs in eager PyTorch: {reason}")
        return counted(gm.forward)
    try:
        if settings.dynamic_shapes == "static":
            make_static(example_inputs)
        return _compile_inference(gm, example_inputs, settings)
    except TrainingError as error:
        reason = str(error)
    except RestartAnalysis:  # dynamo's own: it traces again, with numbers as constants
        raise
    except Exception as error:
        if settings.pass_through_build_failures:
            raise
        _log.debug("compilation failed", exc_info=True)
        reason = f"the compilation failed with {type(error).__name__}: {error}"
    warn_fallback(f"{_describe(gm)} runs in eager PyTorch: {reason}")
    return counted(gm.forward)


def _find_reason_for_eager(
    example_inputs: Sequence[Any], device: torch.device | None
) -> str | None:
    tensors = [value for value in example_inputs if isinstance(value, torch.Tensor)]
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return (
            "an input or parameter requires gradients; call the model under torch.no_grad() or "
            "torch.inference_mode() to use engines"
        )
    for tensor in tensors:
        if tensor.is_neg():  # DLPack would drop the bit; dynamo guards on it
            return "an input is a lazily negated tensor; call resolve_neg() on it to use engines"
    try:
        find_device(tensors, device)
    except UnsupportedError as error:
        return str(error)
    return None


def _compile_inference(
    gm: torch.fx.GraphModule, example_inputs: Sequence[torch.Tensor], settings: CompilationSettings
) -> Callable[..., Any]:
    """AOTAutograd makes the graph functional, writes mutated inputs back, and makes outputs that
    alias inputs; what is left is compiled."""
    outer = gm.graph.find_nodes(op="placeholder")
    is_frozen = [settings.freeze_weights and _is_weight(node) for node in outer]
    given = [(i, inner) for i, value in enumerate(example_inputs) for inner in inner_tensors(value)]
    mutated: set[int] = set()
    merged = False
    frozen: list[FrozenWeights] = []

    def compile_functional(graph: torch.fx.GraphModule, _: Sequence[Any]) -> Callable[..., Any]:
        nonlocal merged
        inner = [
            node
            for node in graph.graph.find_nodes(op="placeholder")
            if isinstance(node.meta.get("val"), torch.Tensor)
        ]
        weights = {}
        merged = len(inner) != len(given)  # AOTAutograd makes inputs that alias one
        if not merged:
            mutated.update(_mutated_inputs())
            for node, (i, tensor) in zip(inner, given, strict=True):
                name = _source_name(outer[i])
                if is_frozen[i] and i not in mutated:
                    weights[node.name] = (name, tensor)
                elif name is not None:
                    node._rename(name)
        with _disable_current_modes():  # of AOTAutograd, which makes every tensor fake
            equate_attention(graph)
            written = _return_writes(graph)
            compilation = compile_graph(graph, weights, settings, written=written)
        frozen.extend(one.runner.frozen for one in compilation.all() if one.runner.frozen)
        for listener in on_compilation:
            listener(compilation)
        return _without_first(compilation.runner, len(written))

    with keep_whole():
        compiled = aot_module_simplified(
            gm,
            example_inputs,
            fw_compiler=compile_functional,
            inference_compiler=compile_functional,
            decompositions=settings.decompositions(),
            keep_inference_input_mutations=True,  # as writes at the end, which _return_writes finds
        )
    wrapped = [i for i, value in enumerate(example_inputs) if is_frozen[i] and is_wrapper(value)]
    if frozen and wrapped:
        compiled = watch_wrappers(compiled, frozen, example_inputs, wrapped)
    if merged:
        return _guard_aliases(gm, compiled, example_inputs, range(len(outer)))
    if mutated:
        # Buffers are not views of each other, but an input may be a view of any weight.
        users = {i for i, node in enumerate(outer) if not _is_weight(node)}
        positions = range(len(outer)) if mutated & users else mutated | users
        return _guard_aliases(gm, compiled, example_inputs, positions)
    return compiled


def _return_writes(gm: torch.fx.GraphModule) -> list[str]:
    """Makes the graph return, before its outputs, the new contents of the placeholders that it
    writes to. Returns their names."""
    written: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in gm.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
        to, value = node.args
        if to.op != "placeholder":
            raise UnsupportedError(f"the graph writes to `{to.name}`, which is no input")
        written[to] = value
        node.replace_all_uses_with(value)
        gm.graph.erase_node(node)
    output = gm.graph.output_node()
    output.args = ((*written.values(), *output.args[0]),)
    return [node.name for node in written]


def _without_first(runner: Runner, num: int) -> Callable[..., Any]:
    if num == 0:
        return runner

    def call(args: list[Any]) -> list[Any]:
        return runner(args)[num:]

    call._boxed_call = True
    return call


def _guard_aliases(
    gm: torch.fx.GraphModule,
    compiled: Callable[..., Any],
    example_inputs: Sequence[torch.Tensor],
    positions: Iterable[int],
) -> Callable[..., Any]:
    """A graph that mutates inputs was traced for inputs that share memory as `example_inputs` do,
    which dynamo does not guard; a call with others runs in eager PyTorch. `positions`: the inputs
    to look at."""
    eager = counted(gm.forward)
    order = [i for i in sorted(positions) if isinstance(example_inputs[i], torch.Tensor)]

    def describe(inputs: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
        return _describe_sharing([tensor for i in order for tensor in inner_tensors(inputs[i])])

    traced = describe(example_inputs)

    def call(*inputs: torch.Tensor) -> Any:
        return compiled(*inputs) if describe(inputs) == traced else eager(*inputs)

    return call


def _describe_sharing(tensors: Sequence[torch.Tensor]) -> tuple[list[int], list[int]]:
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


def _is_weight(node: torch.fx.Node) -> bool:
    """Whether a placeholder of dynamo's graph is a parameter or buffer of a module."""
    return "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})


def _source_name(node: torch.fx.Node) -> str:
    """The name of a placeholder of dynamo's graph as the user knows it: "fc.weight", "x"."""
    source = getattr(node.meta.get("grapharg"), "source", None)
    name = getattr(source, "name", "")
    text = name() if callable(name) else name
    return module_name(text) or getattr(source, "local_name", node.name)


def _mutated_inputs() -> set[int]:
    context = torch._guards.TracingContext.try_get()
    if context is None or context.fw_metadata is None:
        return set()
    infos = context.fw_metadata.input_info
    return {i for i, info in enumerate(infos) if info.mutates_data or info.mutates_metadata}


def _describe(gm: torch.fx.GraphModule) -> str:
    """The graph by the line of the user's code that it starts at."""
    for node in gm.graph.nodes:
        trace = node.meta.get("stack_trace")
        if node.op.startswith("call") and trace:
            frames = [line for line in user_location(trace).splitlines() if "File" in line]
            if frames:
                _, file, rest = frames[0].split('"', 2)
                return f"the graph at {file}:{rest.split(',')[1].split()[-1]}"
    return "the graph"
