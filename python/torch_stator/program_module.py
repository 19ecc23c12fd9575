"""A Program as a torch.nn.Module that torch.export traces: its engines are tensors.

In:  a Program. Out: a module whose buffers are the engines' plans, for `stator::execute_engine`
     (torch_op.py), and the tensors that torch reads; its forward takes the program's inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from . import _ffi
from .control_flow import call_graphs
from .errors import InvalidArgumentError, UnsupportedError
from .runner import Runner
from .torch_op import execute_engine

if TYPE_CHECKING:
    from .aot import Program


class ProgramModule(torch.nn.Module):
    """Holds copies: later changes of the program's weights are not its own."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        runner = program.runner
        self._in_spec, self._out_spec = program.in_spec, program.out_spec
        self._num_writes = len(program.mutated)
        state = program.current_state()
        live = runner.live_slots()
        # By input of the graph: whether the caller gives it, or the name of a buffer, or None.
        self._sources: list[bool | str | None] = []
        for i, spec in enumerate(program.inputs):
            name = f"state{i}" if i in live else None
            if name and spec.kind == "state":
                tensor = state[i].detach()
                order = runner.orders.get(i)
                self.register_buffer(name, (tensor.permute(order) if order else tensor).clone())
            self._sources.append(name if spec.kind == "state" else True)
        self._constants = [f"constant{i}" for i in range(len(runner.constants))]
        for name, constant in zip(self._constants, runner.constants, strict=True):
            self.register_buffer(name, constant.clone())
        calls = [self._add_part(i, part) for i, part in enumerate(runner.parts)]
        self._steps = runner.to_dict()
        self._calls = calls

    def _add_part(self, i: int, part: Any) -> Callable[..., Any]:
        name = f"part{i}"
        if isinstance(part, GraphModule):
            part = call_graphs(part)
            self.add_module(name, part)
            return part
        if not isinstance(part, _ffi.Engine):
            raise UnsupportedError("engines of `use_python_runtime` have no plan to export")
        plan = torch.frombuffer(bytearray(part.plan_bytes()), dtype=torch.uint8)
        self.register_buffer(name, plan)
        signature = part.signature()
        return lambda *inputs: execute_engine(list(inputs), getattr(self, name), signature)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        given, spec = pytree.tree_flatten((args, kwargs))
        if spec != self._in_spec:
            raise InvalidArgumentError(
                f"the inputs' structure is {spec}, but the model was compiled for {self._in_spec}"
            )
        users = iter(given)
        values = [
            next(users) if source is True else source and getattr(self, source)
            for source in self._sources
        ]
        constants = [getattr(self, name) for name in self._constants]
        results = Runner(self._calls, constants=constants, **self._steps)(values)
        return pytree.tree_unflatten(results[self._num_writes :], self._out_spec)
