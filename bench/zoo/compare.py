"""Whether outputs are right, judged by the same model in float64.

An element's error is its distance from float64's, in parts of its own size plus the output's root
mean square. The greatest of ours may be FACTOR times the greatest of eager float32 plus FLOOR: two
ways of rounding the same sum differ by chance, and eager's may be as good as exact. Integers must
be eager's wherever eager's are float64's.
"""

import copy
import math

import torch

from .model import outputs_of

FACTOR = 2
FLOOR = 2e-6  # 16 units in the last place of float32


def compute_exact(module, inputs):
    """The outputs in float64."""

    def widen(value):
        wide = isinstance(value, torch.Tensor) and value.is_floating_point()
        return value.double() if wide else value

    inputs = torch.utils._pytree.tree_map(widen, inputs)
    module = copy.deepcopy(module).double()
    for part in module.modules():
        if hasattr(part, "set_experts_implementation"):
            part.set_experts_implementation("batched_mm")  # torch's grouped one has no float64
    torch.set_default_dtype(torch.float64)  # of what the model makes as it runs
    try:
        return outputs_of(module(**inputs))
    finally:
        torch.set_default_dtype(torch.float32)


def compare(actual, expected, exact):
    """{"right", "error", "error_eager", "max_abs", "max_rel"}: the errors of the output that is
    nearest to being wrong, and the greatest differences from eager."""
    row = {"right": len(actual) == len(expected), "error": 0.0, "error_eager": 0.0}
    row |= {"max_abs": 0.0, "max_rel": 0.0}
    worst = -1.0
    for a, e, x in zip(actual, expected, exact, strict=False):
        if a.shape != e.shape or a.dtype != e.dtype:
            return row | {"right": False, "error": math.inf}
        judged = e.shape == x.shape
        if not judged or not e.is_floating_point():
            same = (a == e) | (e != x) if judged else a == e
            row["right"] = row["right"] and bool(same.all())
            continue
        ours, eagers = max_error(a, x), max_error(e, x)
        row["max_abs"] = max(row["max_abs"], max_difference(a, e))
        row["max_rel"] = max(row["max_rel"], max_error(a, e))
        share = ours / (FACTOR * eagers + FLOOR)
        row["right"] = row["right"] and share <= 1  # false for NaN
        if not share <= worst:
            worst, row["error"], row["error_eager"] = share, ours, eagers
    return row


def max_error(actual, expected):
    """In parts of an element's own size plus the root mean square of all."""
    actual, expected = actual.double(), expected.double()
    finite = expected[expected.isfinite()]
    scale = expected.abs() + (finite.square().mean().sqrt() if finite.numel() else 1)
    return max_difference(actual, expected, scale)


def max_difference(actual, expected, scale=1.0):
    """NaN and infinities differ from all but themselves."""
    same = (actual == expected) | (actual.isnan() & expected.isnan())
    error = ((actual - expected).abs() / scale).masked_fill(same, 0)
    return error.max().item() if error.numel() else 0.0


def relative_change(one, other):
    """How far outputs for other inputs lie from `one`, at least, in parts of their root mean
    square: what a comparison says rests on it. Infinity where only sizes differ; 0 for outputs
    without elements."""
    changes = []
    for a, b in zip(one, other, strict=True):
        if not a.is_floating_point() or not a.numel():
            continue
        if a.shape != b.shape:
            changes.append(math.inf)
            continue
        finite = a.isfinite() & b.isfinite()
        a, b = a[finite].double(), b[finite].double()
        changes.append(((a - b).square().mean() / a.square().mean()).sqrt().nan_to_num(0).item())
    return min(changes, default=0.0)
