"""Engines that run in Python by the reference kernels: `use_python_runtime`.

In:  an engine part's graph as text and its weights (src/compile/reference_graph.h).
Out: what _ffi.Engine gives a Runner. Slow and plain: to tell a fault of the C++ runtime or of a
     kernel from one of the compiler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from . import _ffi


class ReferenceEngine:
    """Computes the graph of one part; reads its weights anew on each call."""

    def __init__(
        self, part: Mapping[str, Any], contents: Mapping[str, torch.Tensor], device: torch.device
    ) -> None:
        self._device = device
        self._text: str = part["graph"]
        self._inputs: Sequence[str] = part["inputs"]
        self._weights = {name: contents[name] for name in part["weights"]}

    def function(self, check_weights: bool, /) -> Callable[..., Any]:
        return self._run

    def device(self) -> str:
        return str(self._device)

    def num_inputs(self) -> int:
        return len(self._inputs)

    def weight_names(self) -> Sequence[str]:
        return list(self._weights)

    def set_weight(self, name: str, tensor: torch.Tensor, /) -> None:
        self._weights[name] = tensor

    def refit(self) -> None:
        """Nothing is derived from the weights."""

    def _run(self, *inputs: torch.Tensor) -> Any:
        given = inputs[: len(self._inputs)]  # one more may bring torch's allocator
        on_host = [tensor.cpu() for tensor in (*given, *self._weights.values())]
        results = [result.to(self._device) for result in _ffi.evaluate(self._text, on_host)]
        return results[0] if len(results) == 1 else results
