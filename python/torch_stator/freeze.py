"""Weights as constants of the engines: which tensors they are, and what to do when one changes.

In:  the real parameters and buffers that a caller passes on each call, in a fixed order.
Out: engines bound to their content; a change is a refit in place, before the call goes on.

A call finds a replaced tensor by identity, a swapped storage (`param.data = x`) by its pointer and
strides, an in-place update by its version counter, and a write that changes none of them
(`param.data += x`, numpy) by a sampled fingerprint of the content, which the engine takes in C++
(src/runtime); on a GPU, where it would have to wait for the device, none is taken. No list of
weights crosses to C++ on a call.
"""

from __future__ import annotations

import operator
import threading
from collections.abc import Iterable, Sequence

import torch
from torch.utils.weak import WeakTensorKeyDictionary

from . import _ffi
from .errors import InvalidArgumentError, warn_fallback
from .export import memory_order

_get_version = operator.attrgetter("_version")
_get_pointer = torch.Tensor.data_ptr
_get_stride = torch.Tensor.stride

CUDA_ALIGNMENT = 16  # bytes: src/cuda/run/cuda_device.h


def can_freeze(tensor: object) -> bool:
    """Whether a tensor can be a weight of an engine: plain and dense. On a GPU also aligned, and
    with a version counter, since nothing else tells of a write to it."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.layout is torch.strided
        and (tensor.device.type == "cpu" or _can_freeze_on_cuda(tensor))
        and not (tensor.is_complex() or tensor.is_conj() or tensor.is_neg())
        and memory_order(tensor) is not None
    )


def _can_freeze_on_cuda(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cuda" and is_aligned(tensor) and not tensor.is_inference()


def is_aligned(tensor: torch.Tensor) -> bool:
    """Whether an engine can read a constant where it lies."""
    return tensor.device.type == "cpu" or tensor.data_ptr() % CUDA_ALIGNMENT == 0


def notes_on(tensors: Iterable[torch.Tensor]) -> list[str]:
    """What a user should know of the weights that engines do not hold."""
    count = sum(tensor.device.type != "cpu" and tensor.is_inference() for tensor in tensors)
    if not count:
        return []
    return [
        f"{count} of the weights were made under torch.inference_mode(), where a tensor on a GPU "
        "tells of no write: each call passes them and computes from them anew; make the model, and "
        "convert it, outside of it"
    ]


# By weight: the device that it lay on, and the group of the engines that hold it there.
_groups = WeakTensorKeyDictionary()


def find_group(weights: Sequence[torch.Tensor]) -> _ffi.EngineGroup:
    """The group for engines that hold these weights: that of other engines which hold one of them
    already, be it of another compilation, so that packed copies serve both."""
    held = (_groups.get(weight, (None, None)) + (weight.device,) for weight in weights)
    group = next((group for device, group, now in held if device == now), _ffi.engine_group())
    for weight in weights:
        _groups[weight] = (weight.device, group)
    return group


class FrozenWeights:
    """The tensors that engines hold as constants, and what they looked like when last seen."""

    def __init__(self, names: Sequence[str], tensors: Sequence[torch.Tensor]) -> None:
        self.names = tuple(names)
        self.orders = tuple(memory_order(tensor) for tensor in tensors)
        self._types = [(tensor.dtype, tensor.shape, tensor.device) for tensor in tensors]
        self._strides = [tensor.stride() for tensor in tensors]
        self._lock = threading.Lock()
        self._engines: list[_ffi.Engine] = []
        self._seen = _Seen(tuple(tensors))
        self._expired = False
        self._bound = [tensor.data_ptr() for tensor in tensors]  # the contents that engines hold

    def contents(self) -> list[torch.Tensor]:
        """The weights as contiguous tensors on the same memory."""
        return [self._content(i, tensor)[0] for i, tensor in enumerate(self._seen.tensors)]

    def bind(self, engines: Sequence[_ffi.Engine]) -> None:
        """From now on a change of a weight refits these engines."""
        self._engines = list(engines)
        self._readers: dict[str, list[_ffi.Engine]] = {name: [] for name in self.names}
        for engine in engines:
            for name in engine.weight_names():
                if name in self._readers:  # else a constant of the graph
                    self._readers[name].append(engine)

    @property
    def held(self) -> object:
        """Stands for the weights that the engines hold: another object after a refit."""
        return self._seen

    def check(self, current: tuple[torch.Tensor, ...]) -> None:
        """Refits when `current` is not what the engines hold. To be called with each call of them:
        before, or behind it and then the call is made again where `held` is another. Raises
        InvalidArgumentError when a weight has another size or type."""
        if self._expired or not self._seen.equals(current):
            with self._lock:
                self._refit(current)

    def expire(self) -> None:
        """The next check refits, for the weights may have been written to unseen."""
        self._expired = True

    def _refit(self, current: tuple[torch.Tensor, ...]) -> None:
        for i, tensor in enumerate(current):
            self._check_type(i, tensor)
        # Looked at before the engines read them: a write from now on is a change.
        self._expired = False
        seen = _Seen(current)
        for i, tensor in enumerate(current):
            content, copied = self._content(i, tensor)
            if copied:
                seen.copied = True
                warn_fallback(
                    f"weight `{self.names[i]}` is laid out otherwise than at compilation: each "
                    f"call copies it; replace it by a tensor with strides {self._strides[i]}"
                )
            if copied or content.data_ptr() != self._bound[i]:
                for engine in self._readers[self.names[i]]:
                    engine.set_weight(self.names[i], content)
                self._bound[i] = content.data_ptr()
        for engine in self._engines:
            engine.refit()
        self._seen = seen

    def _check_type(self, i: int, tensor: torch.Tensor) -> None:
        dtype, shape, device = self._types[i]
        if tensor.dtype is not dtype or tensor.shape != shape or tensor.device != device:
            expected = f"{dtype}{list(shape)} on {device}"
            found = f"{tensor.dtype}{list(tensor.shape)} on {tensor.device}"
            raise InvalidArgumentError(
                f"weight `{self.names[i]}`: expected {expected}, found {found}; compile the model "
                "again"
            )

    def _content(self, i: int, tensor: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The weight's elements as a contiguous tensor, and whether that had to be a copy."""
        order = self.orders[i]
        assert order is not None, "can_freeze() was asked"
        now = tensor.detach()  # another thread may set `tensor.data`
        content = now.permute(order).contiguous()
        if not is_aligned(content):
            content = content.clone()
        return content, content.data_ptr() != now.data_ptr()


class _Seen:
    """What the weights looked like when the engines read them. Not changed once it is in use, so
    that threads may compare with it while another makes the next."""

    def __init__(self, tensors: tuple[torch.Tensor, ...]) -> None:
        self.tensors = tensors
        self._scalars = [i for i, tensor in enumerate(tensors) if tensor.numel() <= 1]
        # Tensors made under inference_mode have no version counter: the fingerprint is all there
        # is.
        self._versioned = [tensor for tensor in tensors if not tensor.is_inference()]
        self._version_sum = self._versions()
        self._pointers = list(map(_get_pointer, tensors))
        # Of a vector, other strides mean another address.
        self._matrices = [tensor for tensor in tensors if tensor.dim() > 1]
        self._strides = list(map(_get_stride, self._matrices))
        # Whether engines may hold old content without a sign of it: a copy of a weight that is not
        # laid out as at compilation, in which neither they nor their fingerprint see a write; or,
        # on a GPU, a weight without a version counter.
        self.copied = any(
            tensor.device.type != "cpu" and tensor.is_inference() for tensor in tensors
        )

    def equals(self, current: tuple[torch.Tensor, ...]) -> bool:
        return (
            self._same_tensors(current)
            and self._versions() == self._version_sum
            and list(map(_get_pointer, current)) == self._pointers
            and list(map(_get_stride, self._matrices)) == self._strides
            and not self.copied
        )

    def _same_tensors(self, current: tuple[torch.Tensor, ...]) -> bool:
        # Tuples compare by identity first; where two tensors differ, by `==`, which is no answer
        # for one element (hence `_scalars`) and raises for more.
        try:
            same = current == self.tensors
        except RuntimeError:
            return False
        return same and all(current[i] is self.tensors[i] for i in self._scalars)

    def _versions(self) -> int:
        return sum(map(_get_version, self._versioned))
