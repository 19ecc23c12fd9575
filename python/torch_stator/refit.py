"""torch_stator.refit: other weights for what is compiled, without a compilation.

In:  an engine, a compiled module or one compiled ahead of time; and a state dict or a module that
     has one.
Out: nothing; the next call computes with the new weights, exactly.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from . import _ffi
from .aot import Program
from .errors import InvalidArgumentError
from .saved_weights import require_type, unknown_weight


def refit(
    target: torch.nn.Module | Program | _ffi.Engine,
    state: Mapping[str, torch.Tensor] | torch.nn.Module,
) -> None:
    """Gives `target` the weights of `state`, by name. A weight that `state` lacks keeps its value.

    A module, and a Program that has one, receive the values in the model's own parameters and
    buffers; a loaded Program takes copies of them. An engine is bound to the tensors given, dims in
    the order of their memory; it knows only the weights it reads, so names beside them are no error
    unless none fits. Otherwise raises InvalidArgumentError, before anything changes, for an unknown
    name and for another shape or type.
    """
    values = state.state_dict() if isinstance(state, torch.nn.Module) else dict(state)
    if isinstance(target, Program):
        if target.model is None:
            target.refit(values)
            return
        target = target.model
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
            raise unknown_weight("model", name, own)
        require_type(name, own[name].dtype, own[name].shape, value)
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
