"""torch_stator.save and load: a Program as one file.

In:  a Program, or a path. Out: a file that needs no model; or a Program that runs it.
File: a zip archive of `program.json` (signature and steps), for each step `engines/<step>.plan`
(docs/plan_format.md, without weights) or `torch/<step>.json` (torch_part.py), and the bytes of
tensors: `weights/<hash>` of engines, each content once, `state/<input>` and `constants/<i>`.
Nothing in it is code or a pickle. In version 3 a plan has its weights.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.fx import GraphModule

from . import _ffi, checks
from .aot import Program
from .archive import (
    Archive,
    checked,
    open_archive,
    read_dtype,
    require,
    spec_from_json,
    spec_to_json,
    tensor_from_entry,
    tensor_to_entry,
    write_archive,
)
from .devices import require_engine, with_ordinal
from .errors import (
    CorruptFileError,
    InvalidArgumentError,
    UnsupportedError,
    VersionMismatchError,
)
from .runner import Copy, Runner
from .saved_weights import SavedWeights
from .signature import DynamicSize, Input, Size
from .torch_part import part_from_json, part_to_json

FORMAT_VERSION = 4
OLDEST_VERSION = 3  # that can be read
_KINDS = ("user", "state", "constant")
_MAX_VALUES = 2**24  # of a graph


def save(program: Program, path: str | os.PathLike[str]) -> None:
    """Writes a program with its weights as one file, without pickle: whole, or not at all. Raises
    UnsupportedError for what a file cannot tell."""
    if not isinstance(program, Program):
        raise InvalidArgumentError(
            f"expected a program that torch_stator.compile made, found {type(program).__name__}: "
            "torch.compile's modules trace as they are called; use torch_stator.compile(model, "
            "inputs)"
        )
    if program.compilation is None:
        raise UnsupportedError("a loaded program cannot be saved again: copy its file")
    if program.compilation.report["dryrun"]:
        raise UnsupportedError("a dry run built no engines to save: compile without `dryrun`")
    runner = program.runner
    kept, orders = runner.live_slots(), runner.orders
    tensors = {
        f"state/{i}": tensor.permute(orders[i]) if i in orders else tensor
        for i, tensor in program.current_state().items()
        if i in kept
    }
    tensors |= {f"constants/{i}": constant for i, constant in enumerate(runner.constants)}
    entries = {name: tensor_to_entry(tensor) for name, tensor in tensors.items()}
    parts = [_part_to_entry(i, part) for i, part in enumerate(runner.parts)]
    weights = _EngineWeights()
    document = {
        "version": FORMAT_VERSION,
        "device": program.compilation.device.type,
        "inputs": [dataclasses.asdict(spec) for spec in program.inputs],
        "mutated": list(program.mutated),
        "ties": list(program.ties),
        "in_spec": spec_to_json(program.in_spec),
        "out_spec": spec_to_json(program.out_spec),
        "orders": {str(i): order for i, order in orders.items()},
        "tensors": {name: described for name, (described, _) in entries.items()},
        "parts": [name for name, _ in parts],
        "weights": {
            name: weights.add(part)
            for (name, _), part in zip(parts, runner.parts, strict=True)
            if isinstance(part, _ffi.Engine)
        },
        "runner": runner.to_dict(),
    }
    with write_archive(path) as archive:
        archive.writestr("program.json", json.dumps(document))
        for name, content in parts:
            archive.writestr(name, content)
        for name, (_, data) in entries.items():
            archive.writestr(name, data)
        for name, data in weights.entries.items():
            archive.writestr(name, data)


def _part_to_entry(step: int, part: Any) -> tuple[str, bytes | str]:
    if isinstance(part, _ffi.Engine):
        return f"engines/{step}.plan", part.bare_plan_bytes()
    if isinstance(part, GraphModule):
        return f"torch/{step}.json", part_to_json(part)
    raise UnsupportedError("engines of `use_python_runtime` have no plan to save")


class _EngineWeights:
    """The weights of a program's engines as entries of its file, each content once."""

    def __init__(self) -> None:
        self.entries: dict[str, bytes] = {}

    def add(self, engine: _ffi.Engine) -> dict[str, str]:
        """The entries of an engine's weights, by name."""
        found = {}
        for name, content in zip(engine.weight_names(), engine.weight_contents(), strict=True):
            found[name] = f"weights/{_ffi.hash_bytes(content)}"
            self.entries.setdefault(found[name], content)
        return found


def load(
    path: str | os.PathLike[str],
    *,
    op_libraries: Collection[str] = (),
    device: torch.device | str | int | None = None,
) -> Program:
    """Reads what `save` wrote. A program that was compiled for a GPU runs on `device`, or, without
    one, on the current GPU. `op_libraries`: those of custom ops that parts which torch runs may
    call ("my_ops" of torch.ops.my_ops.scale), beside torch's own. Raises CorruptFileError or
    VersionMismatchError."""
    asked = None if device is None else checks.device(device)
    try:
        with open_archive(path) as archive:
            return _read(archive, op_libraries, asked)
    except (CorruptFileError, VersionMismatchError) as error:
        raise type(error)(f"{os.fspath(path)} is not a saved program: {error}") from None


def _read(archive: Archive, op_libraries: Collection[str], asked: torch.device | None) -> Program:
    document = archive.read_json("program.json")
    with checked("`program.json`"):
        version = document["version"]
        if type(version) is not int or not OLDEST_VERSION <= version <= FORMAT_VERSION:
            raise VersionMismatchError(
                f"it has format version {version!r}, and this reads {OLDEST_VERSION} to "
                f"{FORMAT_VERSION}: save it again with the torch_stator that loads it"
            )
        saved = document.get("device", "cpu")
        require(saved in ("cpu", "cuda"), f"it was compiled for {saved!r}")
    ordinal = _find_ordinal(saved, asked)
    with checked("`program.json`"):
        inputs = [_read_input(spec) for spec in document["inputs"]]
        tensors = {
            name: tensor_from_entry(described, archive.read(name), ordinal)
            for name, described in document["tensors"].items()
        }
        group = _ffi.engine_group()
        weights = _read_weights(archive, document.get("weights", {}))
        parts = [
            _read_part(archive, name, op_libraries, ordinal, group, weights.get(name, {}))
            for name in document["parts"]
        ]
        runner = _read_runner(document["runner"], len(inputs), parts, tensors)
        state = {i: tensors.get(f"state/{i}") for i, s in enumerate(inputs) if s.kind == "state"}
        _require_state(inputs, state, runner)
        mutated = list(document["mutated"])
        saved_weights = SavedWeights(
            inputs,
            state,
            _read_orders(document["orders"], inputs),
            [(str(one), str(other)) for one, other in document["ties"]],
        )
        program = Program(
            runner,
            inputs,
            saved_weights.getters(),
            mutated,
            spec_from_json(document["in_spec"]),
            spec_from_json(document["out_spec"]),
            weights=saved_weights,
        )
        _check_counts(program)
        return program


def _read_input(document: Mapping[str, Any]) -> Input:
    spec = Input(**{**document, "dims": tuple(map(_read_size, document["dims"]))})
    require(isinstance(spec.name, str) and isinstance(spec.target, str), "an input has no name")
    require(spec.kind in _KINDS, f"input `{spec.name}` is of the kind {spec.kind!r}")
    if spec.kind != "constant":
        read_dtype(spec.dtype)
    require(spec.device in ("cpu", "cuda"), f"input `{spec.name}` lies on {spec.device!r}")
    require(
        spec.value is None or type(spec.value) in (bool, int, float, str),
        f"input `{spec.name}` holds a {type(spec.value).__name__}",
    )
    return spec


def _read_size(document: Any) -> Size:
    if type(document) is int:
        require(document >= 0, "an input has a negative size")
        return document
    size = DynamicSize(**document)
    numbers = (size.min, size.max, size.scale, size.offset)
    require(isinstance(size.symbol, str), "a size has no name")
    require(all(type(number) is int for number in numbers), f"the size {size.symbol} is no integer")
    require(size.scale > 0, f"the size {size.symbol} is scaled by {size.scale}")
    return size


def _read_orders(document: Mapping[str, Any], inputs: list[Input]) -> dict[int, list[int]]:
    orders = {}
    for key, order in document.items():
        i = _read_int(int(key), len(inputs))
        require(inputs[i].kind == "state", f"input {i} is no weight")
        require(
            sorted(order) == list(range(len(inputs[i].dims))), "a weight's dims lie in no order"
        )
        orders[i] = order
    return orders


def _find_ordinal(saved: str, asked: torch.device | None) -> int:
    """The number of the GPU that a program runs on; 0 of one for the CPU."""
    if asked is not None and asked.type != saved:
        raise InvalidArgumentError(
            f"the program was compiled for {saved} and cannot run on {asked}: compile the model "
            "again for it"
        )
    if saved == "cpu":
        return 0
    require_engine(asked or torch.device("cuda"))
    return with_ordinal(asked or torch.device("cuda")).index


def _read_weights(
    archive: Archive, document: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, torch.Tensor]]:
    """By part and name; of engines that share a weight, one tensor."""
    entries = {entry for weights in document.values() for entry in weights.values()}
    tensors = {}
    for entry in sorted(entries):
        data = archive.read(entry)
        require(entry == f"weights/{_ffi.hash_bytes(data)}", f"`{entry}` is damaged")
        empty = torch.empty(0, dtype=torch.uint8)
        tensors[entry] = torch.frombuffer(bytearray(data), dtype=torch.uint8) if data else empty
    return {
        part: {name: tensors[entry] for name, entry in weights.items()}
        for part, weights in document.items()
    }


def _read_part(
    archive: Archive,
    name: str,
    op_libraries: Collection[str],
    ordinal: int,
    group: _ffi.EngineGroup,
    weights: Mapping[str, torch.Tensor],
) -> Any:
    if name.startswith("engines/"):
        return _ffi.load_plan_bytes(archive.read(name), ordinal, group, weights)
    return part_from_json(archive.read_json(name), op_libraries)


def _read_runner(
    document: Mapping[str, Any],
    num_inputs: int,
    parts: list[Any],
    tensors: Mapping[str, torch.Tensor],
) -> Runner:
    num_constants = sum(name.startswith("constants/") for name in tensors)
    constants = [tensors[f"constants/{i}"] for i in range(num_constants)]
    num_values = _read_int(document["num_values"], _MAX_VALUES)
    num_steps = len(parts) - _read_int(document["num_views"], 2)
    alive = set(range(num_inputs + num_constants))
    total = len(alive) + num_values
    steps, copies, writes = [], [], []
    for i, (part, step) in enumerate(zip(parts, document["steps"], strict=True)):
        if i == num_steps:
            copies, writes = _read_moves(document, num_inputs, total, alive)
        reads, made, dead = (tuple(_read_int(slot, total) for slot in slots) for slots in step)
        require(alive.issuperset(reads), f"step {i} reads what no step before it made")
        require(_arity(part) == (len(reads), len(made)), f"step {i} does not fit its part")
        alive.update(made)
        require(alive.issuperset(dead), f"step {i} drops what is not there")
        alive.difference_update(dead)
        steps.append((reads, made, dead))
    if num_steps == len(parts):
        copies, writes = _read_moves(document, num_inputs, total, alive)
    outputs = [_read_output(out, alive) for out in document["outputs"]]
    return Runner(
        parts,
        steps,
        outputs,
        constants,
        num_values,
        copies,
        writes,
        len(parts) - num_steps,
        check_weights=False,
    )


def _read_moves(
    document: Mapping[str, Any], num_inputs: int, total: int, alive: set[int]
) -> tuple[list[Copy], list[tuple[int, int]]]:
    """The copies and the writes to arguments, behind the steps and before the views."""
    copies: list[Copy] = []
    for source, slot, order in document["copies"]:
        require(source in alive, "it copies what no step made")
        if order is not None:
            order = tuple(map(_read_int, order))
            require(sorted(order) == [*range(len(order))], f"{order!r} is no order of dims")
        copies.append((source, _read_int(slot, total), order))
        alive.add(slot)
    writes = []
    for argument, slot in document["writes"]:
        require(slot in alive and argument in alive, "it writes what no step made")
        writes.append((_read_int(argument, num_inputs), slot))
    return copies, writes


def _arity(part: _ffi.Engine | GraphModule) -> tuple[int, int]:
    if isinstance(part, _ffi.Engine):
        return part.num_inputs(), part.num_outputs()
    (made,) = part.graph.output_node().args
    return len(part.graph.find_nodes(op="placeholder")), len(made)


def _read_output(document: Any, alive: set[int]) -> Any:
    if isinstance(document, list):
        (value,) = document
        require(value is None or type(value) in (bool, int, float, str), "an output is no value")
        return (value,)
    require(document in alive, "an output is what no step made")
    return document


def _read_int(document: Any, end: int = 2**48) -> int:
    require(type(document) is int and 0 <= document < end, f"{document!r} is out of range")
    return document


def _require_state(
    inputs: list[Input], state: Mapping[int, torch.Tensor | None], runner: Runner
) -> None:
    for i in runner.live_slots():
        spec = inputs[i] if i < len(inputs) else None
        if spec is not None and spec.kind == "state":
            require(state[i] is not None, f"the content of `{spec.target}` is missing")


def _check_counts(program: Program) -> None:
    names = {spec.name for spec in program.inputs}
    require(len(names) == len(program.inputs), "two inputs have one name")
    require(names.issuperset(program.mutated), "it writes to what is no input")
    given = sum(spec.kind != "state" for spec in program.inputs)
    require(program.in_spec.num_leaves == given, "it has not as many inputs as it says")
    made = len(program.mutated) + program.out_spec.num_leaves
    require(len(program.runner.outputs) == made, "it has not as many outputs as it says")
