"""The native library, through apache-tvm-ffi: what src/api/ffi.cc registers, with types.

Tensors cross by DLPack and are never copied. Calls release the GIL.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tvm_ffi

from . import errors  # noqa: F401  (the native library raises them)

LIBRARY = Path(__file__).parent / "lib" / "libstator_ffi.so"
DTYPES = {
    "bool": torch.bool,
    "u8": torch.uint8,
    "i8": torch.int8,
    "i16": torch.int16,
    "i32": torch.int32,
    "i64": torch.int64,
    "f16": torch.half,
    "bf16": torch.bfloat16,
    "f32": torch.float32,
    "f64": torch.float64,
}


def _load_library() -> None:
    if not LIBRARY.exists():
        raise ImportError(f"{LIBRARY} is not there: run `make setup`, or `pip install .`")
    try:
        ctypes.CDLL(str(LIBRARY))
    except OSError:
        # oneDNN lies where its wheel put it, which need not be where the library looks.
        for file in importlib.metadata.files("onednn-cpu-gomp") or []:
            if file.name.startswith("libdnnl.so"):
                ctypes.CDLL(str(file.locate()))
        ctypes.CDLL(str(LIBRARY))


_load_library()


@tvm_ffi.register_object("stator.Engine")
class Engine(tvm_ffi.Object):
    """A plan loaded on a device. Immutable but for its weights; shared by threads."""

    if TYPE_CHECKING:

        def function(self, check_weights: bool, /) -> Callable[..., Any]:
            """A function of the engine's inputs: returns its output, or a list of them.

            Arguments after the inputs are ignored; an engine without inputs needs one tensor, which
            brings torch's allocator. With `check_weights`, each call compares a sample of the
            weights' content with the last seen, and refits when it differs.
            """

        def in_place(self) -> Sequence[int]:
            """Outputs and inputs in turn: each output may lie in the memory of its input."""

        def updating_function(
            self, check_weights: bool, in_place: Sequence[int], /
        ) -> Callable[..., Any]:
            """As `function`, for some of the pairs of `in_place`. Returns a list always, with None
            for an output that is now in its input; an input that lies otherwise than the plan
            wants stays as it is."""

        def set_weight(self, name: str, tensor: torch.Tensor, /) -> None:
            """Binds a weight to a contiguous tensor; takes effect with the next refit."""

        def refit(self) -> None:
            """Makes anew what was derived from the weights; waits for running calls."""

        def refit_if_changed(self) -> bool: ...
        def device(self) -> str:
            """ "cpu", "cuda:0"."""

        def num_refits(self) -> int: ...
        def derived_bytes(self) -> int: ...
        def weight_names(self) -> Sequence[str]: ...
        def input_names(self) -> Sequence[str]: ...
        def num_inputs(self) -> int: ...
        def num_outputs(self) -> int: ...
        def signature(self) -> str:
            """JSON: dtypes, dims and strides of the inputs and outputs, sizes as text."""

        def plan_text(self) -> str: ...
        def plan_bytes(self) -> bytes:
            """The plan as a file, with the weights that the engine holds now."""

        def bare_plan_bytes(self) -> bytes:
            """The plan as a file without weights."""

        def weight_contents(self) -> Sequence[bytes]:
            """The weights that the engine holds now, in the order of their names."""


@tvm_ffi.register_object("stator.EngineGroup")
class EngineGroup(tvm_ffi.Object):
    """Engines on one device that share packed copies of the weights which several of them read."""


@tvm_ffi.register_object("stator.CompiledModule")
class CompiledModule(tvm_ffi.Object):
    """The parts of a compiled graph (src/compile/compile.h)."""

    if TYPE_CHECKING:

        def report(self) -> str:
            """JSON, as ModuleToJson documents it."""

        def report_text(self) -> str: ...

        def plan_text(self, part: int, /) -> str:
            """The plan of a part; empty for a part that torch runs."""

        def load_engine(self, part: int, /) -> Engine | None:
            """The engine of a part, or None for a part that torch runs."""


_compile = tvm_ffi.get_global_func("stator.compile")
_engine_group = tvm_ffi.get_global_func("stator.engine_group")
_load_plan_bytes = tvm_ffi.get_global_func("stator.load_plan_bytes")
_load_plan_file = tvm_ffi.get_global_func("stator.load_plan_file")
_compile_text = tvm_ffi.get_global_func("stator.compile_text")
_evaluate_text = tvm_ffi.get_global_func("stator.evaluate_text")
_hash = tvm_ffi.get_global_func("stator.hash")
_op_table = tvm_ffi.get_global_func("stator.op_table")
_overloads = tvm_ffi.get_global_func("stator.overloads")
_counters = tvm_ffi.get_global_func("stator.counters")
_has_engines = tvm_ffi.get_global_func("stator.has_engines")
_why_no_cuda = tvm_ffi.get_global_func("stator.why_no_cuda")
_add_cuda_folder = tvm_ffi.get_global_func("stator.add_cuda_folder")
_on_cuda_out_of_memory = tvm_ffi.get_global_func("stator.on_cuda_out_of_memory")


def compile(  # noqa: A001
    program: str,
    names: Sequence[str],
    tensors: Sequence[torch.Tensor],
    options: str,
    group: EngineGroup | None = None,
) -> CompiledModule:
    """Compiles an exported program, whose graph inputs `names` are weights with these contents.
    `group`: that its engines join."""
    return _compile(program, list(names), list(tensors), options, group or _engine_group())


def engine_group() -> EngineGroup:
    return _engine_group()


def load_plan_bytes(
    data: bytes,
    ordinal: int = 0,
    group: EngineGroup | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
) -> Engine:
    """`ordinal`: of the CUDA device, for a plan that needs one. `group`: that it joins. `weights`:
    those that the plan came without, as bytes on the CPU."""
    names, tensors = list(weights or {}), list((weights or {}).values())
    return _load_plan_bytes(data, ordinal, group or _engine_group(), names, tensors)


def hash_bytes(data: bytes) -> str:
    """XXH3-128 as a hexadecimal number."""
    return _hash(data)


def load_plan_file(path: str, ordinal: int = 0) -> Engine:
    """`ordinal`: of the CUDA device, for a plan that needs one."""
    return _load_plan_file(path, ordinal)


def why_no_cuda(ordinal: int) -> str:
    """Why engines cannot run on the CUDA device of this number; empty when they can."""
    return _why_no_cuda(ordinal)


def add_cuda_folder(folder: str) -> None:
    """Looks for NVIDIA's libraries in one more folder."""
    _add_cuda_folder(folder)


def on_cuda_out_of_memory(release: Callable[[], None]) -> None:
    """Calls `release` when an engine lacks memory, before its last try."""
    _on_cuda_out_of_memory(release)


def compile_text(text: str, options: str = "{}") -> Engine:
    """Compiles a graph in text form into one engine."""
    return _compile_text(text, options)


def run_ir(text: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Compiles a graph in text form, measuring nothing, and runs it on the CPU engine."""
    engine = compile_text(text, '{"optimization_level": 0}')
    result = engine.function(False)(*inputs, torch.empty(0))
    return [result] if isinstance(result, torch.Tensor) else list(result)


def evaluate(text: str, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Runs a graph in text form by the reference kernels."""
    return list(_evaluate_text(text, list(inputs), torch.empty(0)))


def counters() -> tuple[int, int]:
    """The calls of engines and their refits since the process started."""
    engine_calls, refits = _counters()
    return engine_calls, refits


def _run_on_one_thread() -> None:
    """In a forked child the threads that the parent computed with are gone, and OpenMP would wait
    for them for ever."""
    if _has_engines():  # each was loaded, and perhaps called, on all threads
        torch.set_num_threads(1)


os.register_at_fork(after_in_child=_run_on_one_thread)


def op_table() -> str:
    """The op table as JSON (src/ops/describe.h)."""
    return _op_table()


def overloads() -> dict[str, str]:
    """The ATen overloads that the importer knows ("aten.add.Tensor"), and why it leaves them to
    torch: empty for those that it converts."""
    return json.loads(_overloads())
