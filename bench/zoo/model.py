"""A model of the zoo: how it and its inputs are made, and which part of it is compiled."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Model:
    library: str
    make: Callable[[], torch.nn.Module]
    make_inputs: Callable[[], dict]  # keyword arguments of forward, a batch in the first dims
    part: str = ""  # the submodule that is compiled, where Python around it goes on in torch
    # What layers multiply the scale of their input by, where the library's choice lets it vanish.
    gain: float | None = None


def image(size=224, batch=1, name="x"):
    return lambda: {name: torch.randn(batch, 3, size, size)}


def floats(**shapes):
    return lambda: {name: torch.randn(shape) for name, shape in shapes.items()}


def tokens(vocabulary, length=128, batch=1, name="input_ids"):
    return lambda: {name: torch.randint(1, vocabulary, (batch, length))}


def joined(*makers):
    """The inputs of several."""
    return lambda: {name: value for make in makers for name, value in make().items()}


def outputs_of(result):
    """The tensors of a result, in order."""
    return [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]
