"""The op `stator::execute_engine`: an engine as a tensor of bytes, for graphs of torch.

In:  the engine's inputs; its plan (docs/plan_format.md) as a uint8 tensor; and for tracing, where a
     tensor has no content, its signature as text. Out: the engine's outputs.
Invariant: an engine is loaded once per content, not per call. Bytes that are no plan raise
CorruptFileError.
"""

from __future__ import annotations

import ast
import collections
import hashlib
import json
import operator
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from . import _ffi
from .errors import InvalidArgumentError

_MAX_ENGINES = 32  # kept without a tensor that holds them; the least recently used goes


class _Engines:
    """Engines by the tensors that hold their plans, and by content."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_tensor: Any = WeakTensorKeyDictionary()
        self._by_content: collections.OrderedDict[Any, _ffi.Engine] = collections.OrderedDict()

    def get(self, plan: torch.Tensor, ordinal: int) -> _ffi.Engine:
        """`ordinal`: of the GPU, for a plan that needs one."""
        # A tensor without a version counter (made under inference_mode) is taken as constant.
        seen = (plan.data_ptr(), None if plan.is_inference() else plan._version, ordinal)
        with self._lock:
            known, engine = self._by_tensor.get(plan, (None, None))
            if known != seen:
                engine = self._load(plan, ordinal)
                self._by_tensor[plan] = (seen, engine)
            return engine

    def _load(self, plan: torch.Tensor, ordinal: int) -> _ffi.Engine:
        known = plan.device.type in ("cpu", "cuda")
        if plan.dtype is not torch.uint8 or plan.dim() != 1 or not known:
            raise InvalidArgumentError(
                f"expected an engine as a vector of torch.uint8 on cpu or cuda, found {plan.dtype}"
                f"{list(plan.shape)} on {plan.device}"
            )
        data = bytes(plan.detach().contiguous().cpu().numpy())
        key = (hashlib.sha256(data).digest(), ordinal)
        engine = self._by_content.get(key) or _ffi.load_plan_bytes(data, ordinal)
        self._by_content[key] = engine
        self._by_content.move_to_end(key)
        if len(self._by_content) > _MAX_ENGINES:
            self._by_content.popitem(last=False)
        return engine


_engines = _Engines()


@torch.library.custom_op(
    "stator::execute_engine",
    mutates_args=(),
    schema='(Tensor[] inputs, Tensor engine, str signature="") -> Tensor[]',
)
def execute_engine(
    inputs: Sequence[torch.Tensor], engine: torch.Tensor, signature: str = ""
) -> list[torch.Tensor]:
    """Runs an engine. `signature` is read where tensors have no content."""
    torch.get_num_threads()  # brings torch.set_num_threads to this thread
    device = inputs[0].device if inputs else engine.device
    loaded = _engines.get(engine, device.index or 0)
    if len(inputs) != loaded.num_inputs():
        raise InvalidArgumentError(
            f"the engine takes {loaded.num_inputs()} inputs, but got {len(inputs)}"
        )
    allocator = torch.empty(0, device=loaded.device())  # brings torch's
    result = loaded.function(False)(*inputs, allocator)
    return [result] if isinstance(result, torch.Tensor) else list(result)


@execute_engine.register_fake
def _(
    inputs: Sequence[torch.Tensor], engine: torch.Tensor, signature: str = ""
) -> list[torch.Tensor]:
    if not signature:
        raise InvalidArgumentError(
            "stator::execute_engine is traced without a signature: export Program.module()"
        )
    ports = json.loads(signature)
    symbols = _bind([port["dims"] for port in ports["inputs"]], [value.shape for value in inputs])
    return [
        torch.empty_strided(
            [_evaluate(dim, symbols) for dim in port["dims"]],
            [_evaluate(stride, symbols) for stride in port["strides"]],
            dtype=_ffi.DTYPES[port["dtype"]],
            device=inputs[0].device if inputs else engine.device,
        )
        for port in ports["outputs"]
    ]


def _bind(inputs: Sequence[Sequence[str]], shapes: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The values of the symbols that the inputs' dims are."""
    return {
        dim: size
        for dims, shape in zip(inputs, shapes, strict=True)
        for dim, size in zip(dims, shape, strict=True)
        if dim.isidentifier()
    }


_OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
}
_FUNCTIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "max": torch.sym_max,
    "min": torch.sym_min,
}


def _evaluate(text: str, symbols: Mapping[str, Any]) -> Any:
    """The value of a size (src/base/dim.h)."""

    def visit(node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=int() as value):
                return value
            case ast.Name(id=name) if name in symbols:
                return symbols[name]
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -visit(operand)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](visit(left), visit(right))
            case ast.Call(func=ast.Name(id=name), args=[left, right]) if name in _FUNCTIONS:
                return _FUNCTIONS[name](visit(left), visit(right))
        raise InvalidArgumentError(f"the size `{text}` of an engine cannot be told from its inputs")

    return visit(ast.parse(text, mode="eval").body)
