"""Weights as constants of the engines: which tensors they are, and what to do when one changes.

In:  the real parameters and buffers that a caller passes on each call, in a fixed order.
Out: engines bound to their content; a change is a refit in place, before the call goes on.

A call finds a replaced tensor by identity, a swapped storage (`param.data = x`) by its pointer, an
in-place update by its version counter, and a write that changes none of them (`param.data += x`,
numpy) by a sampled fingerprint of the content, which the engine takes in C++ (src/runtime). No list
of weights crosses to C++ on a call.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Sequence

import torch

from . import _ffi
from .export import memory_order

_get_version = operator.attrgetter("_version")
_get_pointer = torch.Tensor.data_ptr


def can_freeze(tensor: object) -> bool:
    """Whether a tensor can be a weight of an engine: plain, dense, on the CPU."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_complex() or tensor.is_conj() or tensor.is_neg())
        and memory_order(tensor) is not None
    )


class FrozenWeights:
    """The tensors that engines hold as constants, and what they looked like when last seen."""

    def __init__(self, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> None:
        self.names = tuple(names)
        self.orders = tuple(memory_order(tensor) for tensor in tensors)
        self._lock = threading.Lock()
        self._engines: list[_ffi.Engine] = []
        self._snapshot(tuple(tensors))

    def contents(self) -> list[torch.Tensor]:
        """The weights as contiguous tensors on the same memory."""
        return [self._content(i, tensor) for i, tensor in enumerate(self._tensors)]

    def bind(self, engines: Sequence[_ffi.Engine]) -> None:
        """From now on a change of a weight refits these engines."""
        self._engines = list(engines)
        self._readers: dict[str, list[_ffi.Engine]] = {name: [] for name in self.names}
        for engine in engines:
            for name in engine.weight_names():
                if name in self._readers:  # else a constant of the graph
                    self._readers[name].append(engine)

    def check(self, current: tuple[torch.Tensor, ...]) -> None:
        """Refits when `current` is not what the engines hold. To be called before each call of
        them."""
        if (
            not self._same_tensors(current)
            or self._versions() != self._version_sum
            or list(map(_get_pointer, current)) != self._pointers
        ):
            self._refit(current)

    def _same_tensors(self, current: tuple[torch.Tensor, ...]) -> bool:
        # Tuples compare by identity first; where two tensors differ, by `==`, which is no answer
        # for one element (hence `_scalars`) and raises for more.
        try:
            same = current == self._tensors
        except RuntimeError:
            return False
        return same and all(current[i] is self._tensors[i] for i in self._scalars)

    def _versions(self) -> int:
        return sum(map(_get_version, self._versioned))

    def _refit(self, current: tuple[torch.Tensor, ...]) -> None:
        with self._lock:
            pointers = list(map(_get_pointer, current))
            for i, tensor in enumerate(current):
                if tensor is not self._tensors[i] or pointers[i] != self._pointers[i]:
                    for engine in self._readers[self.names[i]]:
                        engine.set_weight(self.names[i], self._content(i, tensor))
            for engine in self._engines:
                engine.refit()
            self._snapshot(current)

    def _content(self, i: int, tensor: torch.Tensor) -> torch.Tensor:
        order = self.orders[i]
        assert order is not None, "can_freeze() was asked"
        return tensor.detach().permute(order).contiguous()

    def _snapshot(self, tensors: tuple[torch.Tensor, ...]) -> None:
        self._tensors = tensors
        self._scalars = [i for i, tensor in enumerate(tensors) if tensor.numel() <= 1]
        # Tensors made under inference_mode have no version counter: the fingerprint is all there
        # is.
        self._versioned = [tensor for tensor in tensors if not tensor.is_inference()]
        self._version_sum = self._versions()
        self._pointers = list(map(_get_pointer, tensors))
