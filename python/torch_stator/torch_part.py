"""The nodes of a graph that torch runs, as plain data and back.

In:  an FX graph of functional ATen calls with fake tensors in `meta["val"]`. Out: its graph in the
     PyTorch export schema, as JSON values; and from those a GraphModule that computes the same.
Invariant: reading makes calls of ops alone, without an effect beside their result (`_find_op`), on
arguments of plain types. Nothing of the text is evaluated: torch's own reader hands sizes to sympy,
which evaluates them as Python.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch._export.serde import serialize as serde
from torch.fx import Graph, GraphModule, Node

from .errors import CorruptFileError, UnsupportedError
from .export import SchemaEncoder, serialize_graph

# Libraries of ops whose functional ones only compute. Others may do anything; a caller names them.
KNOWN_LIBRARIES = frozenset({"aten", "prims", "torchvision"})
_UNSAFE = ("aten.from_file",)  # reads, or makes, any file
_SIZE_OPS: dict[str, Callable[..., Any]] = {
    "_operator.add": operator.add,
    "_operator.sub": operator.sub,
    "_operator.mul": operator.mul,
    "_operator.floordiv": operator.floordiv,
    "_operator.truediv": operator.truediv,
    "_operator.mod": operator.mod,
    "_operator.neg": operator.neg,
    "_operator.eq": operator.eq,
    "_operator.ne": operator.ne,
    "_operator.lt": operator.lt,
    "_operator.le": operator.le,
    "_operator.gt": operator.gt,
    "_operator.ge": operator.ge,
    "_operator.and_": operator.and_,
    "_operator.or_": operator.or_,
    "math.trunc": math.trunc,
    "torch.sym_float": torch.sym_float,
    "torch.sym_int": torch.sym_int,
    "torch.sym_ite": torch.sym_ite,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
}


def part_to_json(gm: GraphModule) -> str:
    """Raises UnsupportedError, naming a node that the schema cannot say."""
    for node in gm.graph.nodes:
        if node.op == "get_attr":
            raise _unsupported(node, "reads a graph or an object of the program")
    major, minor = serde.SCHEMA_VERSION
    document = {
        "schema_version": {"major": major, "minor": minor},
        "graph": serialize_graph(gm.graph, _refuse),
    }
    return json.dumps(document, cls=SchemaEncoder)


def _refuse(node: Node, error: Exception, _: Any) -> NoReturn:
    raise _unsupported(node, str(error)) from None


def _unsupported(node: Node, reason: str) -> UnsupportedError:
    trace = node.meta.get("stack_trace", "").strip()
    return UnsupportedError(
        f"node `{node.name}` ({node.target}) runs in torch and has no form in a file: {reason}\n"
        f"{trace}".rstrip()
    )


def part_from_json(document: Any, libraries: Collection[str] = ()) -> GraphModule:
    """The inverse of `part_to_json`. `libraries`: those of further ops that may be called. Raises
    CorruptFileError."""
    reader = _Reader({*KNOWN_LIBRARIES, *libraries})
    try:
        version = document["schema_version"]["major"]
        if version != serde.SCHEMA_VERSION[0]:
            raise CorruptFileError(f"a torch part has the schema version {version}")
        return reader.read(document["graph"])
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CorruptFileError(f"a torch part breaks the export schema: {error!r}") from None


class _Reader:
    def __init__(self, libraries: Collection[str]) -> None:
        self.libraries = libraries
        self.graph = Graph()
        self.values: dict[str, Node] = {}

    def read(self, document: Mapping[str, Any]) -> GraphModule:
        for argument in document["inputs"]:
            name = _name_of(argument)
            self.define(name, self.graph.placeholder(f"input{len(self.values)}"))
        for node in document["nodes"]:
            self.read_node(node)
        self.graph.output(tuple(self.values[_name_of(out)] for out in document["outputs"]))
        return GraphModule(torch.nn.Module(), self.graph)

    def define(self, name: str, node: Node) -> None:
        if name in self.values:
            raise ValueError(f"`{name}` is made twice")
        self.values[name] = node

    def read_node(self, document: Mapping[str, Any]) -> None:
        target = document["target"]
        function = _SIZE_OPS.get(target) or _find_op(target, self.libraries)
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        known = _argument_names(function)
        for argument in document["inputs"]:
            value = self.read_argument(argument["arg"])
            if argument["kind"] == 2:
                if argument["name"] not in known:
                    raise ValueError(f"{target} has no argument `{argument['name']}`")
                kwargs[argument["name"]] = value
            else:
                args.append(value)
        node = self.graph.call_function(function, tuple(args), kwargs)
        outputs = document["outputs"]
        if len(outputs) == 1:
            self.define_result(outputs[0], node)
        else:
            for i, output in enumerate(outputs):
                if "as_none" not in output:
                    self.define_result(output, self.item(node, i))

    def define_result(self, output: Mapping[str, Any], node: Node) -> None:
        if "as_tensors" in output:
            for i, tensor in enumerate(output["as_tensors"]):
                self.define(tensor["name"], self.item(node, i))
        elif "as_none" not in output:
            self.define(_name_of(output), node)

    def item(self, node: Node, i: int) -> Node:
        return self.graph.call_function(operator.getitem, (node, i))

    def read_argument(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind.endswith("s") and kind[:-1] in _LISTED:
            return [self.read_one(kind[:-1], item) for item in value]
        if kind == "as_nested_tensors":
            return [[self.read_one("as_tensor", item) for item in items] for items in value]
        if kind in ("as_int_lists", "as_float_lists"):
            return [[self.read_one(kind[: -len("_lists")], i) for i in items] for items in value]
        return self.read_one(kind, value)

    def read_one(self, kind: str, value: Any) -> Any:
        if kind == "as_none":
            return None
        if kind == "as_tensor":
            return self.values[value["name"]]
        if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
            ((inner, content),) = value.items()
            return self.values[content] if inner == "as_name" else self.read_one(inner, content)
        if kind == "as_float" and value in ("Infinity", "-Infinity", "NaN"):
            return float(value)
        if kind in _PLAIN:
            if type(value) not in _PLAIN[kind]:
                raise TypeError(f"{kind} holds a {type(value).__name__}")
            return value
        if kind in _ENUMS:
            return _ENUMS[kind][value]
        if kind == "as_device":
            return torch.device(value["type"])  # an index is of no use on the CPU
        if kind == "as_complex":
            return complex(self.read_one("as_float", value["real"]), value["imag"])
        raise ValueError(f"an argument of the kind {kind} is not for a file")


_LISTED = [
    "as_tensor",
    "as_int",
    "as_float",
    "as_string",
    "as_bool",
    "as_sym_int",
    "as_sym_float",
    "as_sym_bool",
    "as_optional_tensor",
]
_PLAIN: dict[str, Sequence[type]] = {
    "as_int": (int,),
    "as_float": (float, int),
    "as_bool": (bool,),
    "as_string": (str,),
}
_ENUMS: dict[str, Mapping[Any, Any]] = {
    "as_scalar_type": serde._SERIALIZE_TO_TORCH_DTYPE,
    "as_memory_format": serde._SERIALIZE_TO_TORCH_MEMORY_FORMAT,
    "as_layout": serde._SERIALIZE_TO_TORCH_LAYOUT,
}


def _name_of(argument: Mapping[str, Any]) -> str:
    ((kind, value),) = argument.items()
    name = value["name"] if kind == "as_tensor" else value["as_name"]
    if not isinstance(name, str):
        raise TypeError(f"a name is a {type(name).__name__}")
    return name


def _argument_names(function: Callable[..., Any]) -> set[str]:
    schema = getattr(function, "_schema", None)
    return {argument.name for argument in schema.arguments} if schema else set()


def _find_op(target: Any, libraries: Collection[str]) -> torch._ops.OpOverload:
    """The op of "torch.ops.aten.sort.default"; only one that leaves its arguments as they are."""
    parts = target.split(".")
    if len(parts) != 5 or parts[:2] != ["torch", "ops"]:
        raise CorruptFileError(f"a torch part calls `{target}`, which is no op")
    if parts[2] not in libraries:
        raise CorruptFileError(
            f"a torch part calls `{target}`, of a library that is not known to only compute: if "
            f'the file is yours, import the library and load with op_libraries=["{parts[2]}"]'
        )
    packet = getattr(getattr(torch.ops, parts[2]), parts[3], None)
    op = getattr(packet, parts[4], None)
    if not isinstance(op, torch._ops.OpOverload) or not torch._C._dispatch_has_kernel(op.name()):
        raise CorruptFileError(f"a torch part calls `{target}`, which this torch does not have")
    if op._schema.is_mutable or ".".join(parts[2:4]) in _UNSAFE:
        raise CorruptFileError(f"a torch part calls `{target}`, which has effects")
    return op
