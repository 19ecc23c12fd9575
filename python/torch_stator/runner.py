"""The callable that a compiled graph becomes: engines and torch nodes, in order.

In:  the FX graph, the parts that the C++ compiler made of it, and on each call the values of the
     graph's placeholders.
Out: the graph's outputs.
Invariant: what a part reads was made by an earlier one, or is a placeholder; a value is dropped
after its last use.
"""

from __future__ import annotations

import functools
import json
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.fx import GraphModule

from . import _ffi
from .errors import InvalidArgumentError
from .freeze import FrozenWeights
from .reference import ReferenceEngine
from .stats import counted

if TYPE_CHECKING:
    from .verify import Verifier

# What a step runs. A callable returns its output, or a list of them.
Part = _ffi.Engine | ReferenceEngine | GraphModule | Callable[..., Any]
# A step of a call: the slots that its part reads, those that take its results, and those that no
# later step reads.
Step = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
# From a slot to a slot, dense, the dims from outermost to innermost; None: as torch chooses. To the
# same slot: only if it lies otherwise.
Copy = tuple[int, int, Sequence[int] | None]


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
        copies: Sequence[Copy] = (),
        writes: Sequence[tuple[int, int]] = (),
        num_views: int = 0,
        check_weights: bool = True,
    ) -> None:
        """`num_views`: of the last steps; they make views of what the others made, copied and wrote
        to. `check_weights`: others may write to the weights of the engines."""
        self.parts = parts
        self._slots = steps
        kept = {slot for slot in outputs if isinstance(slot, int)}
        kept.update(source for source, _, _ in copies)
        seen: set[int] = set()  # by torch, which may have made views of it
        made: set[int] = set()  # by torch
        functions = []
        for i, (part, step) in enumerate(zip(parts, steps, strict=True)):
            updates = _find_updates(part, steps[i:], writes, kept | seen)
            function = _function(part, check_weights, updates)
            if not isinstance(part, _ffi.Engine):
                seen.update(step[0])
                made.update(step[1])
            elif not made.isdisjoint(step[0]):
                function = _casting(function, part)
            functions.append((function, *step))
        self._steps, self._views = functions, []
        if num_views:
            self._steps, views = functions[:-num_views], functions[-num_views:]
            self._views = [
                (part, *step[1:]) for part, step in zip(parts[-num_views:], views, strict=True)
            ]
        self.outputs = outputs  # a slot's number, or a constant in a tuple
        self.constants = constants
        self._num_values = num_values
        # They hold what an argument, a constant or another output holds, but are memory of their
        # own.
        self._copies = copies
        self._writes = writes  # an argument, and the slot with its new content
        # One part that makes the outputs of arguments alone needs no slots.
        whole = len(steps) == 1 and list(outputs) == list(steps[0][1])
        moves = copies or writes or constants or num_views
        self._alone = self._steps[0][:2] if whole and not moves else None
        # Slots: arguments, then constants of the graph, then what the steps make.
        self._tail = [*constants, *[None] * num_values]
        self.verifier: Verifier | None = None  # until the first call is found right
        self.frozen: FrozenWeights | None = None
        # By placeholder that is a weight: its dims in the order in which the graph takes them.
        self.orders: dict[int, Sequence[int]] = {}
        self._permuted: list[tuple[int, list[int]]] = []
        # On a GPU the host looks at the weights while the device works: an engine's calls change
        # nothing but memory of their own, so those on weights that have changed are made again.
        self._checks_late = (
            not num_views
            and not copies
            and not writes
            and all(_is_on_gpu(part) and part.num_inputs() > 0 for part in parts)
        )

    def freeze(self, frozen: FrozenWeights, positions: Sequence[int]) -> None:
        """The placeholders at `positions` are weights, which the engines hold."""
        self.frozen = frozen
        self._positions = tuple(positions)
        pick = operator.itemgetter(*positions)
        self._pick = pick if len(positions) > 1 else lambda values: (pick(values),)
        read = {slot for inputs, _, _ in self._slots for slot in inputs}
        self.orders = dict(zip(positions, frozen.orders, strict=True))
        self._permuted = [
            (i, order) for i, order in self.orders.items() if i in read and order != sorted(order)
        ]
        self._checks_late = self._checks_late and not self._permuted

    def __call__(self, args: list[Any]) -> list[Any]:
        return self.run(args) if self.verifier is None else self.verifier(self, args)

    def write_back(self, args: Sequence[Any], outputs: list[Any]) -> list[Any]:
        """Gives written arguments their new contents, which are the first outputs."""
        for i, (argument, _) in enumerate(self._writes):
            outputs[i] = args[argument].copy_(outputs[i])
        return outputs

    def run(self, args: list[Any]) -> list[Any]:
        torch.get_num_threads()  # brings torch.set_num_threads to this thread, engines included
        if self._alone is not None and self.frozen is None:
            function, inputs = self._alone
            results = function(*[args[slot] for slot in inputs])
            args.clear()
            return [results] if isinstance(results, torch.Tensor) else list(results)
        values = args + self._tail
        args.clear()
        if self.frozen is not None and self._checks_late:
            given, held = values.copy(), self.frozen.held
            _run(self._steps, values)
            self.frozen.check(self._pick(given))
            if self.frozen.held is not held:  # by this thread or another
                values = given
                _run(self._steps, values)
            return [values[out] if type(out) is int else out[0] for out in self.outputs]
        if self.frozen is not None:
            self.frozen.check(self._pick(values))
            for slot, order in self._permuted:  # as the graph takes it (export.put_in_memory_order)
                values[slot] = values[slot].permute(order)
        _run(self._steps, values)
        for source, slot, order in self._copies:
            if source != slot or not _lies_in(order, values[source]):
                values[slot] = _copy(values[source], order)
        for argument, slot in self._writes:
            if values[slot] is not values[argument]:
                values[slot] = values[argument].copy_(values[slot])
        _run(self._views, values)
        return [values[out] if type(out) is int else out[0] for out in self.outputs]

    def refit(self, values: Sequence[Any]) -> None:
        """Refits the engines now, if the weights among the arguments have changed."""
        if self.frozen is not None:
            self.frozen.check(self._pick(values))

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
        group = _ffi.engine_group()
        parts = [
            _ffi.load_plan_bytes(part.plan_bytes(), torch.device(part.device()).index or 0, group)
            if isinstance(part, _ffi.Engine)
            else part
            for part in self.parts
        ]
        return Runner(parts, constants=self.constants, check_weights=False, **self.to_dict())

    def live_slots(self) -> set[int]:
        """The slots that a step or an output reads."""
        read = {slot for inputs, _, _ in self._slots for slot in inputs}
        read.update(slot for slot in self.outputs if isinstance(slot, int))
        read.update(source for source, _, _ in self._copies)
        return read | {argument for argument, _ in self._writes}

    def to_dict(self) -> dict[str, Any]:
        """All but the parts and the constants, as plain data."""
        return {
            "steps": self._slots,
            "outputs": self.outputs,
            "num_values": self._num_values,
            "copies": self._copies,
            "writes": self._writes,
            "num_views": len(self._views),
        }


def _run(steps: Sequence[Any], values: list[Any]) -> None:
    for function, inputs, outputs, dead in steps:
        results = function(*[values[slot] for slot in inputs])
        if len(outputs) == 1 and isinstance(results, torch.Tensor):
            values[outputs[0]] = results
        else:
            for slot, result in zip(outputs, results, strict=True):
                values[slot] = result
        for slot in dead:
            values[slot] = None


def _is_on_gpu(part: Part) -> bool:
    return isinstance(part, _ffi.Engine) and part.device() != "cpu"


def _lies_in(order: Sequence[int] | None, tensor: torch.Tensor) -> bool:
    return order is None or tensor.permute(order).is_contiguous()


def _copy(tensor: torch.Tensor, order: Sequence[int] | None) -> torch.Tensor:
    if order is None:
        return tensor.clone()
    copy = tensor.permute(order).clone(memory_format=torch.contiguous_format)
    return copy.permute(sorted(range(len(order)), key=order.__getitem__))


def _find_updates(
    part: Part, steps: Sequence[Step], writes: Sequence[tuple[int, int]], kept: set[int]
) -> list[int]:
    """Outputs and inputs in turn, of the part of the first of `steps`: those outputs are made in
    the memory of the arguments that they are written to, which no later step reads and which are
    not in `kept`."""
    pairs: list[int] = []
    if not writes or not isinstance(part, _ffi.Engine):
        return pairs
    (inputs, outputs, _), later = steps[0], steps[1:]
    read = {slot for step in later for slot in step[0]} | kept
    targets = {slot: argument for argument, slot in writes}
    possible = list(part.in_place())
    for output, given in zip(possible[::2], possible[1::2], strict=True):
        argument = targets.get(outputs[output])
        if argument == inputs[given] and argument not in read and inputs.count(argument) == 1:
            pairs += [output, given]
    return pairs


def _function(part: Part, check_weights: bool, updates: Sequence[int] = ()) -> Callable[..., Any]:
    """What a step calls: returns the part's output, or a list of them. `updates` as _find_updates
    gives them."""
    if isinstance(part, GraphModule):
        return counted(part)
    if not isinstance(part, (_ffi.Engine, ReferenceEngine)):
        return part
    checks = check_weights and bool(part.weight_names())
    if updates:
        return _updating(part.updating_function(checks, updates), updates)
    function = part.function(checks)
    if part.num_inputs() == 0:  # a tensor brings torch's allocator
        function = functools.partial(function, torch.empty(0, device=part.device()))
    return function


def _casting(function: Callable[..., Any], engine: _ffi.Engine) -> Callable[..., Any]:
    """`function` for an engine that reads what torch makes: of a few of its ops torch says another
    dtype, while it traces, than they give (_native_batch_norm_legit of halves). What is traced
    after them goes by what it says, and so does the engine."""

    def call(*inputs: torch.Tensor) -> Any:
        try:
            return function(*inputs)
        except InvalidArgumentError:
            types = json.loads(engine.signature())["inputs"]
            dtypes = [_ffi.DTYPES[type["dtype"]] for type in types]
            if all(given.dtype is dtype for given, dtype in zip(inputs, dtypes, strict=True)):
                raise
            return function(*map(torch.Tensor.to, inputs, dtypes))

    return call


def _updating(function: Callable[..., Any], updates: Sequence[int]) -> Callable[..., Any]:
    pairs = list(zip(updates[::2], updates[1::2], strict=True))

    def call(*inputs: torch.Tensor) -> list[torch.Tensor]:
        results = list(function(*inputs))
        for output, given in pairs:
            if results[output] is None:
                results[output] = inputs[given]
                _mark_written(inputs[given])
        return results

    return call


def _mark_written(tensor: torch.Tensor) -> None:
    """Tells torch that an engine wrote to a tensor."""
    torch.autograd.graph.increment_version(tensor)
