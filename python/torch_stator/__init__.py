"""Stator: an inference compiler and runtime for PyTorch.

    model = torch.compile(model, backend="stator", dynamic=False)

See docs/python.md.
"""

import importlib.metadata

import torch

from .aot import Program, compile  # noqa: A004
from .backend import stator
from .errors import (
    CorruptFileError,
    DeviceError,
    Error,
    FallbackWarning,
    InternalError,
    InvalidArgumentError,
    OutOfMemoryError,
    UnsupportedError,
    VersionMismatchError,
)
from .explain import Explanation, explain
from .refit import refit
from .save import load, save
from .settings import CompilationSettings, EngineCapability
from .stats import Stats, reset_stats, stats
from .verify import Difference, Verification, verify

__all__ = [
    "CompilationSettings",
    "CorruptFileError",
    "DeviceError",
    "Difference",
    "EngineCapability",
    "Error",
    "Explanation",
    "FallbackWarning",
    "InternalError",
    "InvalidArgumentError",
    "OutOfMemoryError",
    "Program",
    "Stats",
    "UnsupportedError",
    "Verification",
    "VersionMismatchError",
    "compile",
    "explain",
    "load",
    "refit",
    "reset_stats",
    "save",
    "stator",
    "stats",
    "verify",
]


def _register() -> None:
    """Registers the backend where the entry point of an installed package does not."""
    entry_points = importlib.metadata.entry_points(group="torch_dynamo_backends")
    if "stator" not in entry_points.names:
        torch._dynamo.register_backend(compiler_fn=stator, name="stator")


_register()
