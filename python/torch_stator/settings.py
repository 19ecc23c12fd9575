"""The options of a compilation.

A caller's dict becomes a CompilationSettings, checked as a whole: types, ranges, pairs that
contradict each other, and names (an unknown one is an error that names the nearest). The caller's
dict is never changed. Each field says beside it what it means and, where it has none, why it has no
effect on a device's engine; docs/generated/settings.md is made from that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import enum
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch._decomp import core_aten_decompositions

from . import checks
from .decompositions import usual_decompositions
from .devices import find_tf32, require_engine
from .errors import InvalidArgumentError, UnsupportedError


class EngineCapability(enum.Enum):
    """What hardware an engine is restricted to."""

    DEFAULT = 0
    STANDARD = 0
    SAFETY = 1
    DLA_STANDALONE = 2


def _option(
    default: Any,
    check: Callable[[Any], Any],
    meaning: str,
    no_effect: str = "",
    no_effect_on_cuda: str | None = None,
) -> Any:
    """A field. `check` returns the value to keep, or raises ValueError with what it expected;
    `no_effect`: why engines have no use for it; `no_effect_on_cuda`: where that differs."""
    made = {"default_factory": default} if callable(default) else {"default": default}
    on_cuda = no_effect if no_effect_on_cuda is None else no_effect_on_cuda
    reasons = {"cpu": no_effect, "cuda": on_cuda}
    metadata = {"check": check, "meaning": meaning, "no_effect": reasons}
    return dataclasses.field(**made, metadata=metadata)


def default_cache_dir() -> str:
    """$STATOR_CACHE_DIR, else `stator` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("STATOR_CACHE_DIR") or os.path.join(base, "stator")


@dataclasses.dataclass(frozen=True)
class CompilationSettings:
    """What `torch.compile(model, backend="stator", options={...})` and `torch_stator.compile` take.

    Raises InvalidArgumentError for a value that cannot be right, UnsupportedError for one that
    another device would need.
    """

    precision: torch.dtype | None = _option(
        torch.float32,
        checks.one_of(torch.float32, torch.half, torch.bfloat16, None),
        "the type that engines compute float32 values in. Inputs and outputs keep the model's "
        "types, and operators that need range (softmax, norms, reductions, exponentials) stay in "
        "float32. float64 values are `truncate_long_and_double`'s. None: the model's own types",
    )
    debug: bool = _option(
        False,
        checks.boolean,
        "print what became of each graph, with the time of each stage and pass, to stderr",
    )
    workspace_size: int = _option(
        0,
        checks.integer(0),
        "most bytes of scratch memory for a kernel. 0: as many as it likes, which is up to 32 MiB "
        "for cuBLASLt and 256 MiB for cuDNN",
        "its kernels need no scratch memory beyond the engine's arena",
        "",
    )
    min_block_size: float = _option(
        5,
        checks.integer_or_infinity(1),
        'fewest operators per engine; smaller regions run in torch. `float("inf")` builds '
        "nothing, to see the coverage",
    )
    torch_executed_ops: Collection[str | Callable[..., Any]] = _option(
        frozenset,
        checks.operators,
        "operators that torch runs in any case: `torch.ops.aten.sub.Tensor`, "
        '`"torch.ops.aten.sub.Tensor"`, `"aten.sub"`',
    )
    pass_through_build_failures: bool = _option(
        False,
        checks.boolean,
        "raise when a build fails, instead of leaving the region to torch with a warning",
    )
    max_aux_streams: int | None = _option(
        None,
        checks.optional(checks.integer(0)),
        "most branches of an engine that run beside the first, each on a stream of its own (at "
        "most 64); None: the engine's choice, which is 3",
        "a kernel uses all threads, so branches run one after the other",
        "",
    )
    version_compatible: bool = _option(
        False,
        checks.boolean,
        "plans load in later releases of the same major version",
        "plans hold steps and weights, no code, and are portable in any case",
        "later releases read plans in any case",
    )
    optimization_level: int | None = _option(
        None,
        checks.optional(checks.integer(0, 5)),
        "0 takes the first way to run each kernel, 1 to 3 measure the likely ones, 4 and 5 measure "
        "all; None is 3",
    )
    use_python_runtime: bool | None = _option(
        False,
        checks.optional(checks.boolean),
        "True: engines run step by step from Python by the reference kernels, to debug without "
        "the C++ runtime; False or None: C++",
    )
    truncate_long_and_double: bool = _option(
        False,
        checks.boolean,
        "engines compute int64 and float64 values as int32 and float32; outputs keep their types. "
        "A constant out of range is an error",
    )
    use_fast_partitioner: bool = _option(
        True,
        checks.boolean,
        "True: cut the graph by one linear sweep, which gives the fewest engines; False: then move "
        "operators between engines, so that fewer are too small",
    )
    enable_experimental_decompositions: bool = _option(
        False,
        checks.boolean,
        "apply all core-ATen decompositions, instead of keeping the operators engines know",
    )
    device: torch.device | None = _option(
        None,
        checks.optional(checks.device),
        "where to compile for: a torch.device, a string, or the number of a GPU; a graph with "
        "tensors elsewhere is not compiled. None: where the model's tensors lie",
    )
    require_full_compilation: bool = _option(
        False,
        checks.boolean,
        "raise, listing each operator that engines cannot run, instead of leaving any to torch; "
        "`min_block_size` does not count. For `torch_stator.compile`; no effect in torch.compile",
    )
    disable_tf32: bool = _option(
        False,
        checks.boolean,
        "no TF32 in any kernel. Otherwise products and convolutions in float32 may use it where "
        "torch allows it for its own: `torch.set_float32_matmul_precision`, `torch.backends`",
        "it never computes in TF32",
        "",
    )
    sparse_weights: bool = _option(
        False,
        checks.boolean,
        "allow 2:4 kernels for weights that are 2:4 sparse",
        "it has no such kernels",
    )
    refit: bool = _option(
        False,
        checks.boolean,
        "build engines whose weights can be replaced (`torch_stator.refit`)",
        "every engine can be refitted",
    )
    engine_capability: EngineCapability = _option(
        EngineCapability.DEFAULT,
        checks.member(EngineCapability),
        "restrict engines to safety-certified or DLA hardware: an error, for there is no such "
        "device engine",
    )
    num_avg_timing_iters: int = _option(
        1, checks.integer(1), "runs that are averaged for each measured way to run a kernel"
    )
    dla_sram_size: int = _option(
        2**20, checks.integer(0), "memory of a DLA, in bytes", "it has no DLA"
    )
    dla_local_dram_size: int = _option(
        2**30, checks.integer(0), "host memory of a DLA, in bytes", "it has no DLA"
    )
    dla_global_dram_size: int = _option(
        2**29, checks.integer(0), "host memory for a DLA's weights, in bytes", "it has no DLA"
    )
    dryrun: bool | str | os.PathLike[str] = _option(
        False,
        checks.boolean_or_path,
        "partition only, and build nothing: True prints the report, a path writes it there "
        "(`.json`: as JSON)",
    )
    hardware_compatible: bool = _option(
        False,
        checks.boolean,
        "engines run as well on other devices of the kind. CUDA: kernels are PTX, which every GPU "
        "from sm_80 on translates when it first loads them, and what later ones alone can do is "
        "left out. CPU: kernels run only in ways that every CPU with AVX2 has; without this, too, "
        "engines run on any CPU",
    )
    cache: bool = _option(
        True, checks.boolean, "keep compiled engines in `cache_dir` and take them from there"
    )
    cache_dir: str | os.PathLike[str] | None = _option(
        default_cache_dir,
        checks.optional(checks.path),
        "folder for engines and measured times; None keeps nothing. Default: `$STATOR_CACHE_DIR`, "
        "else `~/.cache/stator`",
    )
    freeze_weights: bool = _option(
        True,
        checks.boolean,
        "parameters and buffers are constants of the engines, which see a change of them at the "
        "next call; False: they are inputs",
    )
    dynamic_shapes: str = _option(
        "auto",
        checks.one_of("auto", "static"),
        "what becomes of sizes that torch traces as dynamic. `auto`: one engine serves their whole "
        "range; `static`: each combination of them gets an engine of its own, as under "
        "`dynamic=False`. For torch.compile; `torch_stator.compile` takes the ranges by this name",
    )
    verify: bool = _option(
        False,
        checks.boolean,
        "also run the first call of each graph in eager PyTorch; where results differ, warn, name "
        "the node, and run that graph in torch",
    )

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            try:
                object.__setattr__(self, field.name, field.metadata["check"](value))
            except ValueError as error:
                raise InvalidArgumentError(
                    f"option `{field.name}`: expected {error}, found {value!r}"
                ) from None
        if self.engine_capability is not EngineCapability.DEFAULT:
            raise UnsupportedError(
                f"option `engine_capability`: there is no device engine for "
                f"{self.engine_capability.name}; expected DEFAULT"
            )
        if self.device is not None:
            try:
                require_engine(self.device)
            except UnsupportedError as error:
                raise UnsupportedError(f"option `device`: {error}") from None

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None = None) -> CompilationSettings:
        """Settings of a caller's dict. Raises InvalidArgumentError for an unknown name, too."""
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options or {}:
            if name not in names:
                nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0)[0]
                raise InvalidArgumentError(
                    f"unknown option `{name}`: did you mean `{nearest}`? "
                    f"The options are {', '.join(names)}"
                )
        return cls(**(options or {}))

    def ahead_of_time(self) -> CompilationSettings:
        """These settings as torch_stator.compile takes them, where `require_full_compilation`
        holds."""
        if not self.require_full_compilation:
            return self
        if math.isinf(self.min_block_size):
            raise InvalidArgumentError(
                "options `require_full_compilation` and `min_block_size` contradict each other: "
                "infinity compiles nothing; leave one of them out"
            )
        return dataclasses.replace(self, min_block_size=1)

    def notes(self, whole: bool = False) -> list[str]:
        """What was asked for and has no effect, and why. `whole`: `require_full_compilation` is
        enforced."""
        device = self.device.type if self.device else "cpu"
        notes = [
            f"{field.name} has no effect on {device}: {reason}"
            for field in dataclasses.fields(self)
            if (reason := field.metadata["no_effect"][device])
            and getattr(self, field.name) != field.default
        ]
        if self.require_full_compilation and not whole:
            notes.append(
                "require_full_compilation has no effect in torch.compile: torch_stator.compile "
                "enforces it"
            )
        return notes

    def decompositions(self) -> dict[Any, Callable[..., Any]]:
        """The decompositions that tracing applies: torch's, of what engines have no op for."""
        if self.enable_experimental_decompositions:
            return core_aten_decompositions()
        return usual_decompositions()

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain data, for reports."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}

    def to_json(self, whole: bool = False) -> str:
        """The options that the C++ compiler takes. `whole`: whatever engines can run goes into
        them, at whatever cost."""
        timings = ""
        if self.cache_dir is not None:
            folder = Path(self.cache_dir)
            with contextlib.suppress(OSError):  # the compiler warns that it cannot write there
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            timings = str(folder / "timing.json")
        level = 3 if self.optimization_level is None else self.optimization_level
        tf32_matmul, tf32_conv = False, False
        if self.device is not None and self.device.type == "cuda" and not self.disable_tf32:
            tf32_matmul, tf32_conv = find_tf32()
        return json.dumps(
            {
                "device": str(self.device or "cpu"),
                "min_block_size": int(min(self.min_block_size, 2**31 - 1)),
                "torch_executed_ops": sorted(self.torch_executed_ops),
                "use_fast_partitioner": self.use_fast_partitioner,
                "use_cost_model": not whole,
                "dryrun": bool(self.dryrun),
                "settings": {name: str(value) for name, value in self.to_dict().items()},
                "pass_through_build_failures": self.pass_through_build_failures,
                "optimization_level": level,
                "timing_cache": timings,
                "cache_folder": str(self.cache_dir or "") if self.cache else "",
                "num_avg_timing_iters": self.num_avg_timing_iters,
                "precision": _DTYPE_NAMES[self.precision],
                "truncate_long_and_double": self.truncate_long_and_double,
                "workspace_size": self.workspace_size,
                "max_aux_streams": self.max_aux_streams,
                "hardware_compatible": self.hardware_compatible,
                "tf32_matmul": tf32_matmul,
                "tf32_conv": tf32_conv,
                "reference_graphs": bool(self.use_python_runtime),
            }
        )


# As the compiler names them; None leaves float32 as it is, too.
_DTYPE_NAMES = {torch.float32: "f32", None: "f32", torch.half: "f16", torch.bfloat16: "bf16"}


def _plain(value: Any) -> Any:
    """`value` as JSON can say it."""
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)
