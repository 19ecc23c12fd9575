"""The weights of a loaded program: refitted by name, without a model.

In:  the inputs of the graph that were parameters or buffers, what of them the file holds, and on a
     refit values by name. Out: for engines the content of each weight; for torch, tensors.
Invariant: names, sizes and types are checked before anything changes.
"""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence

import torch

from .archive import read_dtype
from .errors import InvalidArgumentError
from .signature import Input


class SavedWeights:
    def __init__(
        self,
        inputs: Sequence[Input],
        state: Mapping[int, torch.Tensor | None],
        orders: Mapping[int, Sequence[int]],
        ties: Sequence[tuple[str, str]],
    ) -> None:
        self._specs = {i: inputs[i] for i in state}
        self._state = dict(state)  # by input, as the graph takes it; None: only engines read it
        self._orders = orders  # of those that engines hold: the dims as the graph takes them
        # By name, the inputs that are this tensor: a tied one may be several, or have other names.
        self._positions = {spec.target: [i] for i, spec in self._specs.items()}
        for one, other in ties:
            tied = self._positions.setdefault(one, [])
            tied += [i for i in self._positions.get(other, []) if i not in tied]
            self._positions[other] = tied

    def copy(self) -> SavedWeights:
        """With tensors of its own."""
        made = copy.copy(self)
        made._state = {
            i: None if tensor is None else tensor.clone() for i, tensor in self._state.items()
        }
        return made

    def getters(self) -> list[Callable[[], torch.Tensor | None]]:
        """Functions that get the present tensors, in the order of the inputs."""
        return [lambda i=i: self._state[i] for i in self._state]

    def check(self, values: Mapping[str, torch.Tensor]) -> dict[int, torch.Tensor]:
        """The values by input. Raises InvalidArgumentError for an unknown name, another size or
        type, and two names of one weight with different values."""
        given: dict[int, torch.Tensor] = {}
        for name, value in values.items():
            if name not in self._positions:
                raise unknown_weight("program", name, self._positions)
            for i in self._positions[name]:
                spec = self._specs[i]
                require_type(name, read_dtype(spec.dtype), torch.Size(spec.dims), value)
                known = given.setdefault(i, value)
                if known is not value and not torch.equal(known, value):
                    raise InvalidArgumentError(
                        f"weight `{name}` is one tensor with another, and their values differ"
                    )
        return given

    def apply(self, given: Mapping[int, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Takes copies of the values; returns those that engines may hold, by name."""
        held = {}
        for i, value in given.items():
            content = value.detach().to("cpu")
            content = content.permute(self._orders[i]) if i in self._orders else content
            if i in self._orders:
                held[self._specs[i].target] = content.clone(memory_format=torch.contiguous_format)
            present = self._state[i]
            if present is not None:
                self._state[i] = torch.empty_like(present).copy_(content)
        return held


def unknown_weight(owner: str, name: str, known: Mapping[str, object]) -> InvalidArgumentError:
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    hint = f": did you mean `{nearest[0]}`?" if nearest else ""
    return InvalidArgumentError(f"the {owner} has no weight `{name}`{hint}")


def require_type(name: str, dtype: torch.dtype, shape: torch.Size, value: object) -> None:
    """Raises InvalidArgumentError unless `value` is a tensor of this type."""
    if not isinstance(value, torch.Tensor):
        raise InvalidArgumentError(
            f"weight `{name}`: expected a tensor, found {type(value).__name__}"
        )
    if value.dtype is not dtype or value.shape != shape:
        raise InvalidArgumentError(
            f"weight `{name}`: expected {dtype}{list(shape)}, found "
            f"{value.dtype}{list(value.shape)}"
        )
