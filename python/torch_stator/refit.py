"""torch_stator.refit: other weights for what is compiled, without a compilation.

In:  an engine, a compiled module or one compiled ahead of time; and a state dict or a module that
     has one.
Out: nothing; the next call computes with the new weights, exactly.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

import torch

from . import _ffi
from .aot import Program
from .errors import InvalidArgumentError, UnsupportedError


def refit(
    target: torch.nn.Module | Program | _ffi.Engine,
    state: Mapping[str, torch.Tensor] | torch.nn.Module,
) -> None:
    """Gives `target` the weights of `state`, by name. A weight that `state` lacks keeps its value.

    A module and a Program receive the values in the model's own parameters and buffers. An engine
    is bound to the tensors given, dims in the order of their memory; it knows only the weights it
    reads, so names beside them are no error unless none fits. Otherwise raises
    InvalidArgumentError, before anything changes, for an unknown name and for another shape.
    """
    values = state.state_dict() if isinstance(state, torch.nn.Module) else dict(state)
    if isinstance(target, Program):
        if target._model is None:
            raise UnsupportedError("a loaded program has no model to refit: refit and save again")
        target = target._model
    if isinstance(target, torch.nn.Module):
        _refit_module(getattr(target, "_orig_mod", target), values)
    elif isinstance(target, _ffi.Engine):
        _refit_engine(target, values)
    else:
        raise InvalidArgumentError(
            f"expected a module, a Program or an engine to refit, found {type(target).__name__}"
        )


def _refit_module(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    own = module.state_dict()
    for name, value in values.items():
        if name not in own:
            nearest = difflib.get_close_matches(name, own, n=1, cutoff=0)
            hint = f": did you mean `{nearest[0]}`?" if nearest else ""
            raise InvalidArgumentError(f"the model has no weight `{name}`{hint}")
        _require_shape(name, own[name].shape, value)
    with torch.no_grad():
        for name, value in values.items():
            own[name].copy_(value)


def _refit_engine(engine: _ffi.Engine, values: Mapping[str, torch.Tensor]) -> None:
    known = engine.weight_names()
    if values and set(known).isdisjoint(values):
        raise InvalidArgumentError(
            f"no weight of the engine is among those given: it has {', '.join(sorted(known))}"
        )
    for name in known:
        if name in values:
            engine.set_weight(name, values[name].detach().contiguous())
    engine.refit()


def _require_shape(name: str, expected: torch.Size, value: torch.Tensor) -> None:
    if value.shape != expected:
        raise InvalidArgumentError(
            f"weight `{name}`: expected the shape {list(expected)}, found {list(value.shape)}"
        )
