"""Ahead of time: torch_stator.compile.

In:  a model and example inputs, traced by torch.export (no graph breaks: the whole model or an
     error).
Out: a Program, called like the model. It sees changes of the model's weights, writes to its
     buffers and to mutated inputs as the model would, and can be saved as one file (save.py).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from .compiler import Compilation, TrainingError, compile_graph
from .errors import InvalidArgumentError, UnsupportedError, warn_fallback
from .program_module import ProgramModule
from .runner import Runner
from .saved_weights import SavedWeights
from .settings import CompilationSettings
from .signature import DynamicSize, Input, Size, Symbols, dtype_name

_MAX_SIZE = 2**40  # of a dynamic dim without bound, as the compiler takes it


class Program:
    """A compiled model. Call it like the model."""

    def __init__(
        self,
        runner: Runner,
        inputs: Sequence[Input],
        state: Sequence[Callable[[], Any]],
        mutated: Sequence[str],
        in_spec: pytree.TreeSpec,
        out_spec: pytree.TreeSpec,
        compilation: Compilation | None = None,
        model: torch.nn.Module | None = None,
        ties: Sequence[tuple[str, str]] = (),
        weights: SavedWeights | None = None,
    ) -> None:
        """With its `compilation` and `model`, or, loaded, with `weights`."""
        self.runner = runner
        self.inputs = inputs
        self._state = state  # the current tensors of the "state" inputs, in order
        self.mutated = mutated  # of the first outputs: the input that takes the value
        self.in_spec = in_spec
        self.out_spec = out_spec
        self.compilation = compilation
        self.model = model
        self.ties = ties  # names of parameters and buffers that are one tensor
        self._weights = weights
        self._shares_engines = False  # with a copy
        self._refit_lock = threading.Lock()
        # Positional arguments that are leaves, and one result, need no walk through a structure.
        num_given = sum(spec.kind != "state" for spec in inputs)
        self._takes_leaves = in_spec == pytree.tree_flatten(((0,) * num_given, {}))[1]
        self._returns_leaf = out_spec == pytree.tree_flatten(0)[1]

    @property
    def report(self) -> dict[str, Any]:
        """What became of the graph, as ModuleToJson (src/compile/compile.h) documents it."""
        return self.compilation.report if self.compilation else {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._flatten(args, kwargs)
        if not torch.is_grad_enabled():
            return self._run(given)
        if self._needs_grad(given):
            return self._run_eager(args, kwargs)
        with torch.no_grad():
            return self._run(given)

    def _flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        leaves = self._takes_leaves and not kwargs and len(args) == self.in_spec.num_leaves
        if leaves and all(type(arg) is torch.Tensor for arg in args):
            return args
        given, spec = pytree.tree_flatten((args, kwargs))
        if spec != self.in_spec:
            raise InvalidArgumentError(
                f"the inputs' structure is {spec}, but the model was compiled for {self.in_spec}"
            )
        return given

    def current_state(self) -> dict[int, torch.Tensor]:
        """The present parameters and buffers by input, which the engines now hold."""
        positions = [i for i, spec in enumerate(self.inputs) if spec.kind == "state"]
        state = dict(zip(positions, (get() for get in self._state), strict=True))
        self.runner.refit([state.get(i) for i in range(len(self.inputs))])
        return state

    def _run(self, given: Sequence[Any]) -> Any:
        values = self._arguments(given)
        self._check_ties()
        if self.mutated:
            self._check_overlap(values)
        results = self.runner(values)
        if self._returns_leaf:
            return results[-1]
        return pytree.tree_unflatten(results[len(self.mutated) :], self.out_spec)

    def _arguments(self, given: Sequence[Any]) -> list[Any]:
        users, state = iter(given), iter(self._state)
        values = []
        symbols: Symbols = {}
        for spec in self.inputs:
            if spec.kind == "state":
                values.append(next(state)())
            else:
                value = next(users)
                spec.check(value, symbols)
                values.append(value)
        return values

    def _check_ties(self) -> None:
        for first, second in self.ties:
            if _get_tensor(self.model, first) is not _get_tensor(self.model, second):
                raise InvalidArgumentError(
                    f"weights `{first}` and `{second}` were one tensor at compilation, and are not "
                    "now; compile the model again"
                )

    def _check_overlap(self, values: Sequence[Any]) -> None:
        """A model that writes to a tensor was traced for inputs that do not overlap. A written
        input may also be a view of any weight; weights may be views of each other."""
        written = any(spec.kind == "user" and spec.name in self.mutated for spec in self.inputs)
        spans: list[tuple[int, int, str, bool]] = []
        for spec, value in zip(self.inputs, values, strict=True):
            alone = spec.kind == "user" or spec.name in self.mutated
            if (alone or written) and isinstance(value, torch.Tensor) and value.numel():
                last = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
                start = value.data_ptr()
                spans.append((start, start + (last + 1) * value.element_size(), spec.name, alone))
        spans.sort()
        # Of the tensors so far that reach furthest: any, and one that has to lie alone.
        furthest, furthest_alone = (0, ""), (0, "")
        for start, end, name, alone in spans:
            reach, other = furthest if alone else furthest_alone
            if start < reach:
                raise InvalidArgumentError(
                    f"inputs `{other}` and `{name}` share memory, and the model writes to "
                    f"{', '.join(self.mutated)}: pass a copy of one"
                )
            furthest = max(furthest, (end, name))
            furthest_alone = max(furthest_alone, (end, name)) if alone else furthest_alone

    def module(self) -> ProgramModule:
        """The program as a module for torch.export.export, and so torch.export.save: its engines
        are tensors, which the op `stator::execute_engine` runs. Holds copies of the weights."""
        return ProgramModule(self)

    def refit(self, values: Mapping[str, torch.Tensor]) -> None:
        """Gives a loaded program other weights, by name: all of them, or, with an error, none.
        Takes copies; torch_stator.refit tells the errors."""
        assert self._weights is not None, "weights of a model are refitted there"
        with self._refit_lock:
            held = self._weights.apply(self._weights.check(values))
            if self._shares_engines and held:
                self.runner = self.runner.with_engines_of_its_own()
                self._shares_engines = False
            self.runner.set_weights(held)

    def __deepcopy__(self, memo: dict[int, Any]) -> Program:
        if self._weights is None:
            raise UnsupportedError(
                "a program reads the weights of its model, and cannot be copied with it: compile a "
                "copy of the model, or save the program and load it"
            )
        with self._refit_lock:
            weights = self._weights.copy()
            self._shares_engines = True
            made = Program(
                self.runner,
                self.inputs,
                weights.getters(),
                self.mutated,
                self.in_spec,
                self.out_spec,
                weights=weights,
            )
            made._shares_engines = True
        return made

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UnsupportedError(
            "a program is no pickle: write it with torch_stator.save(program, path) and read it "
            "with torch_stator.load(path)"
        )

    def _needs_grad(self, given: Sequence[Any]) -> bool:
        tensors = [*given, *(self.model.parameters() if self.model is not None else ())]
        return any(isinstance(value, torch.Tensor) and value.requires_grad for value in tensors)

    def _run_eager(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.model is None:
            raise InvalidArgumentError(
                "an input requires gradients, which a loaded program cannot give: call it under "
                "torch.no_grad() or torch.inference_mode()"
            )
        warn_fallback(
            f"{type(self.model).__name__} runs in eager PyTorch: an input or parameter requires "
            "gradients; call it under torch.no_grad() or torch.inference_mode() to use engines"
        )
        return self.model(*args, **kwargs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program as one file: torch_stator.save."""
        from .save import save

        save(self, path)


def compile(  # noqa: A001
    model: torch.nn.Module,
    example_inputs: Sequence[Any],
    kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    **options: Any,
) -> Program:
    """Compiles a model for the shapes of `example_inputs` (and `kwargs`, the model's keyword
    inputs), but for the sizes that `dynamic_shapes` gives a `torch.export.Dim`, as torch.export
    takes it: one program serves their whole range. `options` are the fields of
    CompilationSettings."""
    if isinstance(dynamic_shapes, str):  # the option of this name
        options["dynamic_shapes"], dynamic_shapes = dynamic_shapes, None
    settings = CompilationSettings.from_options(options).ahead_of_time()
    with torch.no_grad():
        exported = torch.export.export(
            model, tuple(example_inputs), dict(kwargs or {}), dynamic_shapes=dynamic_shapes
        )
        exported = exported.run_decompositions(settings.decompositions())
    signature = exported.graph_signature
    gm = exported.graph_module
    placeholders = gm.graph.find_nodes(op="placeholder")
    mutated = _mutated_inputs(signature)

    inputs: list[Input] = []
    state: list[Callable[[], Any]] = []
    weights: dict[str, tuple[str, torch.Tensor]] = {}
    for node, spec in zip(placeholders, signature.input_specs, strict=True):
        inputs.append(_make_input(node, spec, exported.range_constraints))
        if inputs[-1].kind == "state":
            get = _find_tensor(model, exported, spec)
            state.append(get)
            if settings.freeze_weights and node.name not in mutated:
                weights[node.name] = (spec.target, get())
    try:
        compilation = compile_graph(
            gm,
            weights,
            settings,
            exported.range_constraints,
            mutated,
            whole=settings.require_full_compilation,
        )
    except TrainingError as error:
        raise InvalidArgumentError(f"the model cannot be compiled: {error}") from None
    if settings.require_full_compilation:
        _require_engines(compilation.report["fallbacks"])
    return Program(
        compilation.runner,
        inputs,
        state,
        mutated,
        exported.call_spec.in_spec,
        exported.call_spec.out_spec,
        compilation,
        model,
        _find_ties(model),
    )


def _require_engines(fallbacks: Sequence[Mapping[str, str]]) -> None:
    if fallbacks:
        lines = [
            f"\n  {fallback['op']} at {fallback['location'] or fallback['node']}: "
            f"{fallback['reason']}"
            for fallback in fallbacks
        ]
        raise UnsupportedError(
            f"require_full_compilation: engines cannot run {len(fallbacks)} node(s){''.join(lines)}"
        )


def _make_input(node: torch.fx.Node, spec: Any, ranges: Mapping[Any, Any]) -> Input:
    if isinstance(spec.arg, ConstantArgument):
        return Input(node.name, "constant", value=spec.arg.value)
    if not isinstance(spec.arg, TensorArgument):
        raise UnsupportedError(f"input `{node.name}` is a {type(spec.arg).__name__}")
    value = node.meta["val"]
    kind = "user" if spec.kind is InputKind.USER_INPUT else "state"
    dims = tuple(_make_size(size, node.name, ranges) for size in value.shape)
    target = spec.target if kind == "state" else ""
    device = value.device.type
    return Input(node.name, kind, dtype_name(value.dtype), dims, target=target, device=device)


def _make_size(size: int | torch.SymInt, name: str, ranges: Mapping[Any, Any]) -> Size:
    if isinstance(size, int):
        return size
    expression = size.node.expr
    symbols = sorted(expression.free_symbols, key=str)
    polynomial = expression.as_poly(*symbols)
    if len(symbols) != 1 or polynomial is None or polynomial.degree() != 1:
        raise UnsupportedError(f"input `{name}` has the size {expression}: not linear in one size")
    scale, offset = map(int, polynomial.all_coeffs())
    bounds = ranges[symbols[0]]
    low, high = max(int(bounds.lower), 0), min(bounds.upper, _MAX_SIZE)
    return DynamicSize(str(symbols[0]), low, int(high), scale, offset)


def _find_tensor(
    model: torch.nn.Module, exported: torch.export.ExportedProgram, spec: Any
) -> Callable[[], torch.Tensor]:
    """A function that gets the present tensor of a parameter or buffer."""
    module_name, _, name = spec.target.rpartition(".")
    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
        module = model.get_submodule(module_name)
        tensors = module._parameters if name in module._parameters else module._buffers
        return lambda: tensors[name]
    constant = exported.constants[spec.target]
    return lambda: constant


def _get_tensor(model: torch.nn.Module | None, name: str) -> torch.Tensor | None:
    assert model is not None, "only a program with its model has ties"
    module_name, _, tensor_name = name.rpartition(".")
    tensor = getattr(model.get_submodule(module_name), tensor_name, None)
    return tensor if isinstance(tensor, torch.Tensor) else None


def _find_ties(model: torch.nn.Module) -> list[tuple[str, str]]:
    """Pairs of names of one parameter or buffer, which torch.export traces as one input."""
    first: dict[int, str] = {}
    tensors = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    pairs = [(first.setdefault(id(tensor), name), name) for name, tensor in tensors]
    return [(one, other) for one, other in pairs if one != other]


def _mutated_inputs(signature: Any) -> list[str]:
    """The graph inputs that the first outputs are written back to, in order."""
    by_target = {spec.target: spec.arg.name for spec in signature.input_specs if spec.target}
    mutated = []
    for spec in signature.output_specs:
        if spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.PARAMETER_MUTATION):
            mutated.append(by_target[spec.target])
        elif spec.kind is OutputKind.USER_INPUT_MUTATION:
            mutated.append(spec.target)
    return mutated
