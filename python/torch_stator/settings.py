"""The options of a compilation.

A caller's dict becomes a CompilationSettings; an option that does not exist is an error that names
the nearest one that does. The caller's dict is never changed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from .errors import InvalidArgumentError


@dataclasses.dataclass(frozen=True)
class CompilationSettings:
    """What `torch.compile(model, backend="stator", options={...})` takes.

    min_block_size: fewest operators per engine; smaller regions run in torch. `float("inf")` leaves
        everything to torch, to see the coverage without a build.
    torch_executed_ops: operators that torch runs whatever Stator could:
        `torch.ops.aten.sub.Tensor`, or names such as "torch.ops.aten.sub.Tensor", "aten.sub".
    pass_through_build_failures: raise when a build fails, instead of leaving the region to torch.
    optimization_level: 0 takes the first way to run each kernel; 1 to 3 measure the likely ones; 4
        and 5 measure all.
    cache_dir: where measured times are kept between processes; None keeps nothing.
    freeze_weights: compile parameters and buffers as constants. A change of their content is seen
        and honoured at the next call (see docs/python.md).
    debug: print what became of each graph, with the time of each stage, to stderr.
    """

    min_block_size: float = 1
    torch_executed_ops: Collection[str | Callable[..., Any]] = frozenset()
    pass_through_build_failures: bool = False
    optimization_level: int = 3
    cache_dir: str | os.PathLike[str] | None = dataclasses.field(
        default_factory=lambda: default_cache_dir()
    )
    freeze_weights: bool = True
    debug: bool = False

    def __post_init__(self) -> None:
        if not (isinstance(self.min_block_size, (int, float)) and self.min_block_size >= 1):
            _reject("min_block_size", "a number of operators, at least 1", self.min_block_size)
        if isinstance(self.torch_executed_ops, str):
            _reject("torch_executed_ops", "a collection of operators", self.torch_executed_ops)
        if self.optimization_level not in range(6):
            _reject("optimization_level", "an integer from 0 to 5", self.optimization_level)
        for name in ("pass_through_build_failures", "freeze_weights", "debug"):
            if not isinstance(getattr(self, name), bool):
                _reject(name, "a bool", getattr(self, name))
        names = frozenset(_op_name(op) for op in self.torch_executed_ops)
        object.__setattr__(self, "torch_executed_ops", names)

    @classmethod
    def from_options(cls, options: Mapping[str, Any] | None) -> CompilationSettings:
        options = dict(options or {})
        names = [field.name for field in dataclasses.fields(cls)]
        for name in options:
            if name not in names:
                nearest = difflib.get_close_matches(str(name), names, n=1, cutoff=0)[0]
                raise InvalidArgumentError(
                    f"unknown option `{name}`: did you mean `{nearest}`? "
                    f"The options are {', '.join(names)}"
                )
        return cls(**options)

    def to_json(self) -> str:
        """The options that the C++ compiler takes."""
        cache = ""
        if self.cache_dir is not None:
            folder = Path(self.cache_dir)
            with contextlib.suppress(OSError):  # the compiler warns that it cannot write there
                folder.mkdir(parents=True, exist_ok=True)
            cache = str(folder / "timing.json")
        block = 2**31 - 1 if math.isinf(self.min_block_size) else math.ceil(self.min_block_size)
        return json.dumps(
            {
                "min_block_size": block,
                "torch_executed_ops": sorted(self.torch_executed_ops),
                "pass_through_build_failures": self.pass_through_build_failures,
                "optimization_level": self.optimization_level,
                "timing_cache": cache,
            }
        )


def default_cache_dir() -> str:
    """$STATOR_CACHE_DIR, else `stator` in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("STATOR_CACHE_DIR") or os.path.join(base, "stator")


def _op_name(op: str | Callable[..., Any]) -> str:
    """ "aten.sub.Tensor" for torch.ops.aten.sub.Tensor and for the ways to write its name."""
    name = op if isinstance(op, str) else str(op)
    return name.removeprefix("torch.ops.").replace("::", ".")


def _reject(name: str, expected: str, found: object) -> None:
    raise InvalidArgumentError(f"option `{name}`: expected {expected}, found {found!r}")
