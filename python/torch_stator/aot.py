"""Ahead of time: torch_stator.compile, save and load.

In:  a model and example inputs, traced by torch.export (no graph breaks: the whole model or an
     error).
Out: a Program, called like the model. It sees changes of the model's weights, writes to its
     buffers and to mutated inputs as the model would, and can be saved as one file.
File: a zip archive of `program.json` (signature and steps), `engine.plan` (with its weights) and
`state/<i>` (raw bytes of buffers). Nothing in it is code or a pickle.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind, TensorArgument
from torch.utils import _pytree as pytree

from . import _ffi
from .compiler import Compilation, TrainingError, compile_graph
from .errors import (
    CorruptFileError,
    InvalidArgumentError,
    UnsupportedError,
    VersionMismatchError,
    warn_fallback,
)
from .runner import Runner, with_allocator
from .settings import CompilationSettings

FORMAT_VERSION = 1
_MAX_SIZE = 2**40  # of a dynamic dim without bound, as the compiler takes it


Symbols = dict[str, int]  # the values of symbols in one call


@dataclasses.dataclass(frozen=True)
class DynamicSize:
    """A size that may differ from call to call: scale * symbol + offset."""

    symbol: str
    min: int
    max: int
    scale: int = 1
    offset: int = 0

    def bind(self, size: int, symbols: Symbols) -> bool:
        """Whether `size` fits the range and the symbol's value, which is set when it is new."""
        value, rest = divmod(size - self.offset, self.scale)
        if rest or not self.min <= value <= self.max:
            return False
        return symbols.setdefault(self.symbol, value) == value

    def __str__(self) -> str:
        scaled = self.symbol if self.scale == 1 else f"{self.scale}*{self.symbol}"
        return f"{scaled} + {self.offset}" if self.offset else scaled


Size = int | DynamicSize


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument of the graph."""

    name: str
    kind: str  # "user": the caller's next input; "state": the model's; "constant": fixed at tracing
    dtype: str = ""  # "float32"; tensors only
    dims: tuple[Size, ...] = ()
    value: Any = None  # of a constant

    def check(self, given: Any, symbols: Symbols) -> None:
        """`symbols`: those of the inputs before it; receives those of this one."""
        if self.kind == "constant":
            if given != self.value:
                self._reject(f"{self.value!r}, fixed at compilation", repr(given))
            return
        if not isinstance(given, torch.Tensor):
            self._reject(f"a tensor {self._describe()}", type(given).__name__)
        if given.device.type != "cpu":
            self._reject("a tensor on cpu", f"one on {given.device}")
        if given.is_neg():  # DLPack would drop the bit
            self._reject(
                "a tensor that holds its values", "a lazily negated one: call resolve_neg()"
            )
        if given.dtype is not getattr(torch, self.dtype) or not self._fits(given.shape, symbols):
            found = f"{_dtype_name(given.dtype)}{list(given.shape)}"
            known = "".join(f"; {name} is {value}" for name, value in symbols.items())
            self._reject(self._describe(), found + known)

    def _fits(self, shape: torch.Size, symbols: Symbols) -> bool:
        if shape == self.dims:
            return True
        return len(shape) == len(self.dims) and all(
            size == dim if isinstance(dim, int) else dim.bind(size, symbols)
            for size, dim in zip(shape, self.dims, strict=True)
        )

    def _describe(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.dims))}]"
        dynamic = {dim.symbol: dim for dim in self.dims if isinstance(dim, DynamicSize)}
        if not dynamic:
            return text
        ranges = [f"{dim.symbol} in [{dim.min}, {dim.max}]" for dim in dynamic.values()]
        return f"{text} with {', '.join(ranges)}"

    def _reject(self, expected: str, found: str) -> None:
        raise InvalidArgumentError(f"input `{self.name}`: expected {expected}, found {found}")


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
    ) -> None:
        self._runner = runner
        self._inputs = inputs
        self._state = state  # the current tensors of the "state" inputs, in order
        self._mutated = mutated  # of the first outputs: the input that takes the value
        self._in_spec = in_spec
        self._out_spec = out_spec
        self._compilation = compilation
        self._model = model
        self._ties = ties  # names of parameters and buffers that are one tensor
        self._positions = {spec.name: i for i, spec in enumerate(inputs)}
        # Positional arguments that are leaves, and one result, need no walk through a structure.
        num_given = sum(spec.kind != "state" for spec in inputs)
        self._takes_leaves = in_spec == pytree.tree_flatten(((0,) * num_given, {}))[1]
        self._returns_leaf = out_spec == pytree.tree_flatten(0)[1]

    @property
    def report(self) -> dict[str, Any]:
        """What became of the graph, as ModuleToJson (src/compile/compile.h) documents it."""
        return self._compilation.report if self._compilation else {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = self._flatten(args, kwargs)
        if not torch.is_grad_enabled():
            return self._run(given)
        if self._needs_grad(given):
            return self._run_eager(args, kwargs)
        with torch.no_grad():
            return self._run(given)

    def _flatten(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[Any]:
        leaves = self._takes_leaves and not kwargs and len(args) == self._in_spec.num_leaves
        if leaves and all(type(arg) is torch.Tensor for arg in args):
            return args
        given, spec = pytree.tree_flatten((args, kwargs))
        if spec != self._in_spec:
            raise InvalidArgumentError(
                f"the inputs' structure is {spec}, but the model was compiled for {self._in_spec}"
            )
        return given

    def _run(self, given: Sequence[Any]) -> Any:
        values = self._arguments(given)
        self._check_ties()
        if self._mutated:
            self._check_overlap(values)
        arguments = list(values) if self._mutated else values
        results = self._runner(values)
        for name, result in zip(self._mutated, results, strict=False):
            arguments[self._positions[name]].copy_(result)
        if self._returns_leaf:
            return results[-1]
        return pytree.tree_unflatten(results[len(self._mutated) :], self._out_spec)

    def _arguments(self, given: Sequence[Any]) -> list[Any]:
        users, state = iter(given), iter(self._state)
        values = []
        symbols: Symbols = {}
        for spec in self._inputs:
            if spec.kind == "state":
                values.append(next(state)())
            else:
                value = next(users)
                spec.check(value, symbols)
                values.append(value)
        return values

    def _check_ties(self) -> None:
        for first, second in self._ties:
            if _get_tensor(self._model, first) is not _get_tensor(self._model, second):
                raise InvalidArgumentError(
                    f"weights `{first}` and `{second}` were one tensor at compilation, and are not "
                    "now; compile the model again"
                )

    def _check_overlap(self, values: Sequence[Any]) -> None:
        """A model that writes to a tensor was traced for inputs that do not overlap."""
        ends: list[tuple[int, int, str]] = []
        for spec, value in zip(self._inputs, values, strict=True):
            looked_at = spec.kind == "user" or spec.name in self._mutated
            if looked_at and isinstance(value, torch.Tensor) and value.numel():
                last = sum((n - 1) * s for n, s in zip(value.shape, value.stride(), strict=True))
                start = value.data_ptr()
                ends.append((start, start + (last + 1) * value.element_size(), spec.name))
        ends.sort()
        for (_, end, first), (start, _, second) in itertools.pairwise(ends):
            if start < end:
                raise InvalidArgumentError(
                    f"inputs `{first}` and `{second}` share memory, and the model writes to "
                    f"{', '.join(self._mutated)}: pass a copy of one"
                )

    def _needs_grad(self, given: Sequence[Any]) -> bool:
        tensors = [*given, *(self._model.parameters() if self._model is not None else ())]
        return any(isinstance(value, torch.Tensor) and value.requires_grad for value in tensors)

    def _run_eager(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._model is None:
            raise InvalidArgumentError(
                "an input requires gradients, which a loaded program cannot give: call it under "
                "torch.no_grad() or torch.inference_mode()"
            )
        warn_fallback(
            f"{type(self._model).__name__} runs in eager PyTorch: an input or parameter requires "
            "gradients; call it under torch.no_grad() or torch.inference_mode() to use engines"
        )
        return self._model(*args, **kwargs)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the program with its weights as one file. Raises UnsupportedError when a part of
        it runs in torch."""
        if self._compilation is None:
            raise UnsupportedError("a loaded program cannot be saved again: copy its file")
        engines = self._compilation.engines
        if fallbacks := self._compilation.report["fallbacks"]:
            first = fallbacks[0]
            raise UnsupportedError(
                f"{len(fallbacks)} node(s) run in torch, which a file cannot carry; the first is "
                f"{first['op']} at {first['location']}: {first['reason']}"
            )
        if None in engines:
            raise UnsupportedError("a dry run built no engines to save: compile without `dryrun`")
        document = {
            "version": FORMAT_VERSION,
            "inputs": [dataclasses.asdict(spec) for spec in self._inputs],
            "mutated": list(self._mutated),
            "in_spec": pytree.treespec_dumps(self._in_spec),
            "out_spec": pytree.treespec_dumps(self._out_spec),
            "runner": self._runner.to_dict(),
        }
        kept = self._runner.live_slots()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr("program.json", json.dumps(document))
            for i, engine in enumerate(engines):
                archive.writestr(f"engines/{i}.plan", engine.plan_bytes())
            state = iter(self._state)
            for i, spec in enumerate(self._inputs):
                if spec.kind == "state":
                    tensor = next(state)()
                    if i in kept:
                        archive.writestr(f"state/{i}", _to_bytes(tensor))


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
        compilation = compile_graph(gm, weights, settings, exported.range_constraints)
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


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Writes a program as one file, without pickle."""
    program.save(path)


def load(path: str | os.PathLike[str]) -> Program:
    """Reads what `save` wrote. Raises CorruptFileError or VersionMismatchError."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except (zipfile.BadZipFile, KeyError, json.JSONDecodeError, TypeError) as error:
        raise CorruptFileError(f"{os.fspath(path)} is not a saved program: {error}") from None


def _read(archive: zipfile.ZipFile) -> Program:
    document = json.loads(archive.read("program.json"))
    if document["version"] != FORMAT_VERSION:
        raise VersionMismatchError(
            f"the program has format version {document['version']}, and this is version "
            f"{FORMAT_VERSION}: save it again with the torch_stator that loads it"
        )
    inputs = [
        Input(**{**spec, "dims": tuple(map(_read_size, spec["dims"]))})
        for spec in document["inputs"]
    ]
    names = set(archive.namelist())
    state: list[Callable[[], Any]] = []
    for i, spec in enumerate(inputs):
        if spec.kind == "state":
            found = f"state/{i}" in names
            tensor = _from_bytes(archive.read(f"state/{i}"), spec) if found else None
            state.append(lambda tensor=tensor: tensor)
    engines = []
    while f"engines/{len(engines)}.plan" in names:
        engines.append(_ffi.load_plan_bytes(archive.read(f"engines/{len(engines)}.plan")))
    return Program(
        Runner.from_dict(document["runner"], [_function(engine) for engine in engines]),
        inputs,
        state,
        document["mutated"],
        pytree.treespec_loads(document["in_spec"]),
        pytree.treespec_loads(document["out_spec"]),
    )


def _read_size(document: int | dict[str, Any]) -> Size:
    return document if isinstance(document, int) else DynamicSize(**document)


def _function(engine: _ffi.Engine) -> Callable[..., Any]:
    function = engine.function(False)
    return function if engine.input_names() else with_allocator(function)


def _make_input(node: torch.fx.Node, spec: Any, ranges: Mapping[Any, Any]) -> Input:
    if isinstance(spec.arg, ConstantArgument):
        return Input(node.name, "constant", value=spec.arg.value)
    if not isinstance(spec.arg, TensorArgument):
        raise UnsupportedError(f"input `{node.name}` is a {type(spec.arg).__name__}")
    value = node.meta["val"]
    kind = "user" if spec.kind is InputKind.USER_INPUT else "state"
    dims = tuple(_make_size(size, node.name, ranges) for size in value.shape)
    return Input(node.name, kind, _dtype_name(value.dtype), dims)


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


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _to_bytes(tensor: torch.Tensor) -> bytes:
    flat = tensor.detach().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy()) if flat.numel() else b""


def _from_bytes(data: bytes, spec: Input) -> torch.Tensor:
    dtype = getattr(torch, spec.dtype)
    if not data:
        return torch.empty(spec.dims, dtype=dtype)
    return torch.frombuffer(bytearray(data), dtype=dtype).reshape(spec.dims)
