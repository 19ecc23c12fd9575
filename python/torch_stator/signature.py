"""The inputs of a program that was compiled ahead of time: their names, types and sizes.

In:  a caller's arguments. Out: none; or InvalidArgumentError, naming the input, what was expected
     and what was found.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import torch

from .errors import InvalidArgumentError

Symbols = dict[str, int]  # the values of symbols in one call


@dataclasses.dataclass(frozen=True)
class DynamicSize:
    """A size that may differ from call to call: scale * symbol + offset."""

    symbol: str
    min: int
    max: int
    scale: int = 1
    offset: int = 0

    def bind(self, size: int, symbols: Symbols) -> bool:
        """Whether `size` fits the range and the symbol's value, which is set when it is new."""
        value, rest = divmod(size - self.offset, self.scale)
        if rest or not self.min <= value <= self.max:
            return False
        return symbols.setdefault(self.symbol, value) == value

    def __str__(self) -> str:
        scaled = self.symbol if self.scale == 1 else f"{self.scale}*{self.symbol}"
        return f"{scaled} + {self.offset}" if self.offset else scaled


Size = int | DynamicSize


@dataclasses.dataclass(frozen=True)
class Input:
    """One argument of the graph."""

    name: str
    kind: str  # "user": the caller's next input; "state": the model's; "constant": fixed at tracing
    dtype: str = ""  # "float32"; tensors only
    dims: tuple[Size, ...] = ()
    value: Any = None  # of a constant
    target: str = ""  # of state: its name in the model, "fc.weight"
    device: str = "cpu"  # "cpu" or "cuda"; which of them the engine knows

    def check(self, given: Any, symbols: Symbols) -> None:
        """`symbols`: those of the inputs before it; receives those of this one."""
        if self.kind == "constant":
            if given != self.value:
                self._reject(f"{self.value!r}, fixed at compilation", repr(given))
            return
        if (
            type(given) is torch.Tensor
            and given.dtype is self._torch_dtype
            and given.shape == self.dims
            and (given.is_cpu if self.device == "cpu" else given.is_cuda)
            and not given.is_neg()
        ):  # what is usual, at half the time of what follows
            return
        if not isinstance(given, torch.Tensor):
            self._reject(f"a tensor {self._describe()}", type(given).__name__)
        if given.device.type != self.device:
            self._reject(f"a tensor on {self.device}", f"one on {given.device}")
        if given.is_neg():  # DLPack would drop the bit
            self._reject(
                "a tensor that holds its values", "a lazily negated one: call resolve_neg()"
            )
        if given.dtype is not self._torch_dtype or not self._fits(given.shape, symbols):
            found = f"{dtype_name(given.dtype)}{list(given.shape)}"
            known = "".join(f"; {name} is {value}" for name, value in symbols.items())
            self._reject(self._describe(), found + known)

    @functools.cached_property
    def _torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def _fits(self, shape: torch.Size, symbols: Symbols) -> bool:
        return len(shape) == len(self.dims) and all(
            size == dim if isinstance(dim, int) else dim.bind(size, symbols)
            for size, dim in zip(shape, self.dims, strict=True)
        )

    def _describe(self) -> str:
        text = f"{self.dtype}[{', '.join(map(str, self.dims))}]"
        dynamic = {dim.symbol: dim for dim in self.dims if isinstance(dim, DynamicSize)}
        if not dynamic:
            return text
        ranges = [f"{dim.symbol} in [{dim.min}, {dim.max}]" for dim in dynamic.values()]
        return f"{text} with {', '.join(ranges)}"

    def _reject(self, expected: str, found: str) -> None:
        raise InvalidArgumentError(f"input `{self.name}`: expected {expected}, found {found}")


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")
