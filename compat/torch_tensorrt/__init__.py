"""Torch-TensorRT's names for Stator, so that code of its torch.compile guide runs without an edit.

In:  `import torch_tensorrt`. Out: the backends "torch_tensorrt" and "tensorrt", which are "stator".
Invariant: never in place of the real package: where that is installed, the import fails.
"""

import importlib.metadata

import torch
from torch_stator import EngineCapability
from torch_stator.backend import stator

from . import dynamo

__all__ = ["Device", "EngineCapability", "dynamo"]


def Device(  # noqa: N802  (Torch-TensorRT's name)
    spec: str | int | torch.device | None = None, *, gpu_id: int | None = None
) -> torch.device:
    """A device as `options={"device": ...}` takes it; the default is where engines run: the CPU."""
    if gpu_id is not None:
        return torch.device("cuda", gpu_id)
    if isinstance(spec, int):
        return torch.device("cuda", spec)
    return torch.device(spec or "cpu")


def _refuse_beside_the_real_one() -> None:
    try:
        version = importlib.metadata.version("torch-tensorrt")
    except importlib.metadata.PackageNotFoundError:
        return
    raise ImportError(
        f"torch-tensorrt {version} is installed, too: uninstall torch-stator-compat to use it, or "
        "torch-tensorrt to use Stator under its name"
    )


def _register() -> None:
    """Registers the backends where the entry points of an installed package do not."""
    known = importlib.metadata.entry_points(group="torch_dynamo_backends").names
    for name in ("torch_tensorrt", "tensorrt"):
        if name not in known:
            torch._dynamo.register_backend(compiler_fn=stator, name=name)


_refuse_beside_the_real_one()
_register()
