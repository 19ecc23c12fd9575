"""An ATen graph as JSON in the PyTorch export schema, which the C++ importer reads.

In:  the functional FX graph that AOTAutograd or torch.export traced, with fake tensors in
     `meta["val"]`, and which of its placeholders are weights.
Out: JSON text; each node carries its FX name and the user's file:line.
Invariant: the graph given is changed only by `lift_constants` and `put_in_memory_order`, before it
is written, so that its nodes and the JSON keep the same names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import sympy
import torch
from torch._export.serde import schema
from torch._export.serde import serialize as serde
from torch._library.fake_class_registry import FakeScriptObject
from torch.utils._sympy.functions import Max
from torch.utils._sympy.value_ranges import ValueRanges

from .errors import UnsupportedError

_TORCH_FOLDER = os.path.dirname(torch.__file__) + os.sep
_FRAME = re.compile(r' *File "(?P<file>.+?)", line ')


@dataclasses.dataclass(frozen=True)
class Weight:
    """A placeholder whose content the engine holds."""

    placeholder: str  # its FX name
    name: str  # its name in the module, "layer1.0.conv1.weight"


def export_graph(
    gm: torch.fx.GraphModule,
    weights: Iterable[Weight],
    ranges: Mapping[sympy.Symbol, ValueRanges] | None = None,
) -> str:
    """The graph in the export schema. Every output is a user output: what a graph does to its
    inputs is written back by the caller. `ranges`: of the symbolic sizes; None: what torch found
    while it traced."""
    weight_names = {weight.placeholder: weight.name for weight in weights}
    graph = serialize_graph(gm.graph, _opaque_call)
    signature = {
        "input_specs": [_input_spec(arg, weight_names) for arg in graph["inputs"]],
        "output_specs": [{"user_output": {"arg": arg}} for arg in graph["outputs"]],
    }
    program = {
        "graph_module": {"graph": graph, "signature": signature, "module_call_graph": []},
        "opset_version": {"aten": torch._C._get_max_operator_version()},
        "range_constraints": _range_constraints(_traced_ranges(gm) if ranges is None else ranges),
        "schema_version": {
            "major": serde.SCHEMA_VERSION[0],
            "minor": serde.SCHEMA_VERSION[1],
        },
        "torch_version": torch.__version__,
    }
    return json.dumps(program, cls=SchemaEncoder)


def serialize_graph(
    graph: torch.fx.Graph, on_error: Callable[[torch.fx.Node, Exception, Any], Mapping[str, Any]]
) -> dict[str, Any]:
    """The `graph` of the export schema. `on_error` makes the form of a call that the schema cannot
    say, with torch's serializer, or raises."""
    serializer = serde.GraphModuleSerializer(None, [])  # type: ignore[arg-type]
    torch_way = serializer.serialize_input
    serializer.serialize_input = lambda arg, arg_type=None: (  # type: ignore[method-assign]
        _plain_argument(serializer, arg) or torch_way(arg, arg_type)
    )
    serializer.serialize_tensor_output = functools.partial(  # type: ignore[method-assign]
        _tensor_output, serializer, {}
    )
    serializer.serialize_metadata = _metadata  # type: ignore[method-assign]
    torch_outputs = serializer.serialize_output
    serializer.serialize_output = lambda name, value: (  # type: ignore[method-assign]
        _unread_output(name, value) or torch_outputs(name, value)
    )
    nodes = serializer.graph_state.nodes
    for node in graph.nodes:
        if node.op == "call_function":
            named = [(values, len(values)) for values in _named_values(serializer)]
            try:
                if any(used.op == "get_attr" for used in node.all_input_nodes):
                    raise UnsupportedError("it reads a graph")
                if plain := _plain_call(serializer, node):
                    nodes.append(plain)
                else:
                    serializer.handle_call_function(node)
            except Exception as error:
                for values, count in named:  # of the outputs before the one that failed
                    while len(values) > count:
                        values.popitem()
                nodes.append(on_error(node, error, serializer))
        elif node.op == "output" or (node.op == "placeholder" and _has_form(node)):
            getattr(serializer, f"handle_{node.op}")(node)
    state = serializer.graph_state
    return {
        "inputs": [_plain(argument) for argument in state.inputs],
        "outputs": [_plain(argument) for argument in state.outputs],
        "nodes": [_plain(node) for node in nodes],
        "tensor_values": state.tensor_values,
        "sym_int_values": _plain(state.sym_int_values),
        "sym_bool_values": _plain(state.sym_bool_values),
        "is_single_tensor_return": False,
    }


def _has_form(placeholder: torch.fx.Node) -> bool:
    """Whether the schema can say it. The mesh of a DTensor is no input but of torch's calls."""
    value = placeholder.meta.get("val")
    return not isinstance(value, (FakeScriptObject, torch.ScriptObject))


class _Plain(dict[str, Any]):
    """A value of the schema as plain data. What is common is made so at once: torch's dataclasses,
    and turning them into dicts, are four fifths of the time to serialize a graph."""


def _plain(value: Any) -> Any:
    return value if type(value) is _Plain else serde._dataclass_to_dict(value)


def _named_values(serializer: Any) -> list[dict[str, Any]]:
    state = serializer.graph_state
    return [state.tensor_values, state.sym_int_values, state.sym_bool_values]


class SchemaEncoder(serde.EnumEncoder):
    """Of the values that `serialize_graph` returns: hints of sizes may be sympy's integers."""

    def default(self, obj: Any) -> Any:
        return int(obj) if isinstance(obj, sympy.Integer) else super().default(obj)


def lift_constants(gm: torch.fx.GraphModule, device: torch.device) -> dict[str, torch.Tensor]:
    """Turns every tensor attribute that the graph reads into a last placeholder; returns their
    contents by the placeholders' names. Single numbers on the CPU, which torch mixes with tensors
    of any device, come to `device` where only nodes on it read them: masks are filled with such."""
    constants = {}
    placeholders = gm.graph.find_nodes(op="placeholder")
    for node in gm.graph.find_nodes(op="get_attr"):
        value = _get_attr(gm, node.target)
        if not isinstance(value, torch.Tensor):
            continue  # a graph of a higher-order op
        if value.dim() == 0 and value.device != device:
            value = _brought(node, value, device)
        after = placeholders[-1] if placeholders else gm.graph._root
        with gm.graph.inserting_after(after):
            placeholder = gm.graph.placeholder(f"constant_{node.name}")
        placeholder.meta["val"] = node.meta.get("val", value)
        placeholders.append(placeholder)
        node.replace_all_uses_with(placeholder)
        gm.graph.erase_node(node)
        constants[placeholder.name] = value
    return constants


def _brought(node: torch.fx.Node, value: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The number that a node reads, on the device if it can be there."""
    copies = [node]
    copies += [user for user in node.users if user.target is torch.ops.aten.lift_fresh_copy.default]
    readers = {reader: None for copy in copies for reader in copy.users if reader not in copies}
    results = [reader.meta.get("val") for reader in readers]
    if not all(isinstance(val, torch.Tensor) and val.device == device for val in results):
        return value
    node.meta.setdefault("val", value)
    for copy in copies:
        copy.meta["val"] = copy.meta["val"].to(device)
    return value.to(device)


def memory_order(tensor: torch.Tensor) -> list[int] | None:
    """The dims from outermost to innermost in memory, for a dense tensor without overlap, whatever
    its symbolic sizes turn out to be; None for one with gaps. `tensor.permute(order)` is then
    contiguous. Adds no guards."""
    hints = [hint(stride) for stride in tensor.stride()]
    if None in hints:
        return None
    order = sorted(range(tensor.dim()), key=lambda dim: (-hints[dim], _same(tensor.shape[dim], 1)))
    if all(type(n) is int for n in (*tensor.shape, *tensor.stride())):
        return order if tensor.permute(order).is_contiguous() else None
    expected: Any = 1
    for dim in reversed(order):
        if _same(tensor.shape[dim], 1):
            continue
        if not _same(tensor.stride(dim), expected):
            return None
        expected = _expression(expected) * _expression(tensor.shape[dim])
    return order


def _expression(size: Any) -> sympy.Expr:
    """Of a size or stride. Strides count an empty dim as one element: a tensor without elements
    lies anywhere."""
    expr = sympy.sympify(size.node.expr if isinstance(size, torch.SymInt) else size)
    return expr.replace(
        lambda e: isinstance(e, (sympy.Max, Max)) and 1 in e.args and len(e.args) == 2,
        lambda e: e.args[1] if e.args[0] == 1 else e.args[0],
    )


def _same(lhs: Any, rhs: Any) -> bool:
    if type(lhs) is int and type(rhs) is int:
        return lhs == rhs
    return sympy.expand(_expression(lhs) - _expression(rhs)) == 0


def hint(size: Any) -> int | None:
    """The size in the example that was traced, as far as that is known."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


def put_in_memory_order(gm: torch.fx.GraphModule, node: torch.fx.Node, order: list[int]) -> None:
    """Makes a placeholder take its tensor permuted to `order`: the graph permutes it back."""
    inverse = sorted(range(len(order)), key=order.__getitem__)
    users = list(node.users)
    with gm.graph.inserting_after(gm.graph.find_nodes(op="placeholder")[-1]):
        back = gm.graph.call_function(torch.ops.aten.permute.default, (node, inverse))
    back.meta["val"] = node.meta["val"]
    node.meta = {**node.meta, "val": node.meta["val"].permute(order)}
    for user in users:
        user.replace_input_with(node, back)


def module_name(source: str) -> str | None:
    """ "layer1.0.weight" for dynamo's
    "L['self']._modules['layer1']._modules['0']._parameters[...]"."""
    parts = re.findall(r"\['([^']*)'\]", source.partition("]")[2])
    return ".".join(parts) or None


def user_location(stack_trace: str) -> str:
    """The stack trace up to the last frame outside of torch: the user's own line."""
    end = len(stack_trace)
    while (start := stack_trace.rfind('File "', 0, end)) >= 0:
        line = stack_trace.rfind("\n", 0, start) + 1
        if frame := _FRAME.match(stack_trace, line):
            if not frame["file"].startswith(_TORCH_FOLDER):
                return stack_trace[:end]
            end = line
        else:
            end = start
    return stack_trace


def _traced_ranges(gm: torch.fx.GraphModule) -> Mapping[sympy.Symbol, ValueRanges]:
    for node in gm.graph.nodes:
        value = node.meta.get("val")
        sizes = value.shape if isinstance(value, torch.Tensor) else (value,)
        for size in sizes:
            if isinstance(size, torch.SymInt):
                return size.node.shape_env.var_to_range
    return {}


def _range_constraints(
    ranges: Mapping[sympy.Symbol, ValueRanges],
) -> dict[str, dict[str, int | None]]:
    sizes = {symbol: bounds for symbol, bounds in ranges.items() if symbol.is_integer}
    serialized = serde.serialize_range_constraints(sizes)
    return {name: dataclasses.asdict(bounds) for name, bounds in serialized.items()}


def _metadata(node: torch.fx.Node) -> dict[str, str]:
    trace = node.meta.get("stack_trace")
    return {"stack_trace": user_location(trace)} if trace else {}


def _plain_call(serializer: Any, node: torch.fx.Node) -> _Plain | None:
    """A call of an op, of usual arguments and with one tensor as its result; None for others."""
    value = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload) or not isinstance(value, torch.Tensor):
        return None
    inputs = []
    for i, (name, kwarg_only) in enumerate(_parameters(node.target)):
        if name in node.kwargs:
            given, kind = node.kwargs[name], schema.ArgumentKind.KEYWORD
        elif not kwarg_only and i < len(node.args):
            given, kind = node.args[i], schema.ArgumentKind.POSITIONAL
        else:
            continue
        argument = _plain_argument(serializer, given)
        if argument is None:
            return None
        inputs.append({"name": name, "arg": argument, "kind": kind.value})
    serializer.serialize_tensor_output(node.name, value)
    return _Plain(
        target=serializer.serialize_operator(node.target),
        inputs=inputs,
        outputs=[{"as_tensor": {"name": node.name}}],
        metadata=_metadata(node),
        is_hop_single_tensor_return=None,
        name=node.name,
    )


@functools.cache
def _parameters(op: torch._ops.OpOverload) -> list[tuple[str, bool]]:
    """Names, and which are keywords only."""
    return [(argument.name, argument.kwarg_only) for argument in op._schema.arguments]


def _tensor_output(
    serializer: Any, known: dict[Any, Any], name: str, value: torch.Tensor
) -> schema.TensorArgument:
    """Notes the type of a tensor; `known`: of types seen before, their form."""
    assert name not in serializer.graph_state.tensor_values
    sizes, strides, offset = tuple(value.shape), value.stride(), value.storage_offset()
    key = (sizes, strides, offset, value.dtype, value.device, value.layout, value.requires_grad)
    static = all(type(size) is int for size in (*sizes, *strides, offset))
    form = known.get(key) if static else None
    if form is None:
        form = serde._dataclass_to_dict(serde.serialize_tensor_meta(value))
    if static:
        known[key] = form
    serializer.graph_state.tensor_values[name] = form
    return schema.TensorArgument(name=name)


_SCALARS = {bool: "bool", int: "int", float: "float", str: "string"}


def _plain_argument(serializer: Any, arg: Any) -> _Plain | None:
    """The usual arguments, spelled as torch does; None for others. torch's own way imports Inductor
    first, to tell its buffers apart: 0.5 s on a busy machine."""

    def is_tensor(value: Any) -> bool:
        return (
            isinstance(value, torch.fx.Node)
            and value.op != "get_attr"
            and isinstance(value.meta.get("val"), torch.Tensor)
            and value.name not in serializer.duplicate_getitem_nodes
        )

    if arg is None:
        return _Plain(as_none=True)
    if isinstance(arg, torch.dtype):
        return _Plain(as_scalar_type=serde._TORCH_TO_SERIALIZE_DTYPE[arg].value)
    if isinstance(arg, torch.device):
        return _Plain(as_device={"type": arg.type, "index": arg.index})
    if field := _SCALARS.get(type(arg)):
        return _Plain({f"as_{field}": serde._dataclass_to_dict(arg)})  # infinities are words
    if is_tensor(arg):
        return _Plain(as_tensor={"name": arg.name})
    if not isinstance(arg, (list, tuple)) or not arg:
        return None
    if all(map(is_tensor, arg)):
        return _Plain(as_tensors=[{"name": value.name} for value in arg])
    field = _SCALARS.get(type(arg[0]))
    if field and all(type(value) is type(arg[0]) for value in arg):
        return _Plain({f"as_{field}s": serde._dataclass_to_dict(list(arg))})
    return None


def _unread_output(name: str, value: Any) -> schema.Argument | None:
    """The form of an output that nobody reads and whose dtype the schema cannot say: flash
    attention's random state is uint64. None for others, which torch's serializer knows."""
    if "_unused_" not in name or not isinstance(value, torch.Tensor):
        return None
    known = value.dtype in serde._TORCH_TO_SERIALIZE_DTYPE
    return None if known else schema.Argument.create(as_none=True)


def _opaque_call(node: torch.fx.Node, _: Exception, serializer: Any) -> _Plain:
    """A call that only torch understands: the tensors that go in, and what comes out, are told."""

    def tensor_argument(name: str, value: torch.Tensor) -> schema.Argument:
        return schema.Argument.create(as_tensor=serializer.serialize_tensor_output(name, value))

    inputs = [
        schema.NamedArgument(
            name=f"input{i}",
            arg=schema.Argument.create(as_tensor=schema.TensorArgument(name=used.name)),
            kind=schema.ArgumentKind.POSITIONAL,
        )
        for i, used in enumerate(node.all_input_nodes)
        if isinstance(used.meta.get("val"), torch.Tensor)
    ]
    results = [node, *(user for user in node.users if _is_getitem(user))]
    outputs = []
    for result in results:
        value = result.meta.get("val")
        if isinstance(value, torch.Tensor):
            outputs.append(tensor_argument(result.name, value))
        elif isinstance(value, torch.SymInt):
            size = serializer.serialize_sym_int_output(result.name, value)
            outputs.append(schema.Argument.create(as_sym_int=size))
    target = (
        node.target if isinstance(node.target, str) else serializer.serialize_operator(node.target)
    )
    call = schema.Node(target=target, inputs=inputs, outputs=outputs, metadata=_metadata(node))
    return _Plain({**_plain(call), "name": node.name})


def _is_getitem(node: torch.fx.Node) -> bool:
    return node.op == "call_function" and getattr(node.target, "__name__", "") == "getitem"


def _input_spec(arg: dict[str, Any], weight_names: Mapping[str, str]) -> dict[str, Any]:
    tensor = arg.get("as_tensor")
    if tensor and tensor["name"] in weight_names:
        name = weight_names[tensor["name"]]
        return {"parameter": {"arg": {"name": tensor["name"]}, "parameter_name": name}}
    return {"user_input": {"arg": arg}}


def _get_attr(gm: torch.fx.GraphModule, target: str) -> Any:
    value: Any = gm
    for name in target.split("."):
        value = getattr(value, name)
    return value
