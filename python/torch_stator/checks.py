"""Checks of option values (settings.py).

Each returns the value to keep, in its canonical form, or raises ValueError with what it expected.
"""

from __future__ import annotations

import difflib
import enum
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

Check = Callable[[Any], Any]


def boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("a bool")
    return value


def integer(low: int, high: int | None = None) -> Check:
    """An integer in [low, high]; a bool is none."""
    expected = f"an integer, at least {low}" if high is None else f"an integer from {low} to {high}"

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(expected)
        if value < low or (high is not None and value > high):
            raise ValueError(expected)
        return value

    return check


def integer_or_infinity(low: int) -> Check:
    finite = integer(low)

    def check(value: Any) -> float:
        if value == float("inf"):
            return value
        try:
            return finite(value)
        except ValueError as error:
            raise ValueError(f'{error}, or float("inf")') from None

    return check


def optional(check: Check) -> Check:
    """None, or what `check` takes."""

    def check_or_none(value: Any) -> Any:
        if value is None:
            return None
        try:
            return check(value)
        except ValueError as error:
            raise ValueError(f"{error}, or None") from None

    return check_or_none


def one_of(*choices: Any) -> Check:
    def check(value: Any) -> Any:
        if not any(value is choice for choice in choices):
            raise ValueError(f"one of {', '.join(map(repr, choices))}")
        return value

    return check


def member(enumeration: type[enum.Enum]) -> Check:
    """A member of an enumeration, or its name."""

    def check(value: Any) -> enum.Enum:
        if isinstance(value, str) and value in enumeration.__members__:
            return enumeration[value]
        if not isinstance(value, enumeration):
            raise ValueError(f"one of {', '.join(enumeration.__members__)}")
        return value

    return check


def path(value: Any) -> str:
    if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
        raise ValueError("a path")
    return os.fspath(value)


def boolean_or_path(value: Any) -> bool | str:
    """A bool, or a file in a folder that can be written."""
    if isinstance(value, bool):
        return value
    try:
        file = Path(path(value))
    except ValueError:
        raise ValueError("a bool or a path") from None
    if file.is_dir() or not os.access(file.parent, os.W_OK):
        raise ValueError("a file that can be written")
    return str(file)


def device(value: Any) -> torch.device:
    if not isinstance(value, (torch.device, str, int)) or isinstance(value, bool):
        raise ValueError("a torch.device, a string, or the number of a GPU")
    try:
        return torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
    except (RuntimeError, ValueError, TypeError):
        raise ValueError('a device such as "cpu"') from None


def operators(value: Any) -> frozenset[str]:
    """The names of ATen operators or overloads: "aten.sub", "aten.sub.Tensor"."""
    if isinstance(value, str) or not isinstance(value, Collection):
        raise ValueError("a collection of operators")
    return frozenset(map(_operator, value))


def _operator(value: Any) -> str:
    """ "aten.sub.Tensor" for torch.ops.aten.sub.Tensor and for the ways to write its name."""
    if isinstance(value, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(
            "operators such as torch.ops.aten.sub.Tensor or their names in the collection"
        )
    name = value.removeprefix("torch.ops.").replace("::", ".")
    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        known = [op.replace("::", ".") for op in torch._C._dispatch_get_all_op_names()]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise ValueError(f"operators that torch has ({value!r}: did you mean {nearest[0]!r}?)")
    return name
