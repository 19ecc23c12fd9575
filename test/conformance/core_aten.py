"""What becomes of the core ATen operators, as docs/generated/core_aten.md.

The list is torch's own: the overloads tagged `torch.Tag.core`
(https://pytorch.org/docs/stable/torch.compiler_ir.html). Each is looked up in the importer's
tables; one that is in none needs a reason by nature, or it is missing.

    python test/conformance/core_aten.py    prints the page
"""

from __future__ import annotations

import re

import torch
from torch_stator import _ffi
from torch_stator.decompositions import usual_decompositions

# What is left to torch by nature.
BACKWARD = "computes gradients, which engines do not"
REASONS = {
    r".*_backward\.default": BACKWARD,
    r"_fft_.*": "a Fourier transform, over complex numbers",
    r"sym_.*": "a size or a stride: a number, of which the importer knows the value",
    r"resize_\.default": "gives a tensor other sizes in place",
    r".*\.out": "writes to a given tensor, which AOTAutograd makes functional",
}


def core_overloads() -> list[str]:
    """ "abs.default", ... in order."""
    found = []
    for name in torch._C._dispatch_get_all_op_names():
        namespace, _, rest = name.partition("::")
        packet, _, overload = rest.partition(".")
        if namespace != "aten":
            continue
        op = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if op is not None and torch.Tag.core in op.tags:
            found.append(f"{packet}.{overload or 'default'}")
    return sorted(found)


def classify(overload: str) -> tuple[str, str]:
    """("engine", ""), ("torch", why) or ("missing", "")."""
    reason = _ffi.overloads().get(f"aten.{overload}")
    if reason is not None:
        return ("torch", reason) if reason else ("engine", "")
    packet, _, name = overload.partition(".")
    if getattr(getattr(torch.ops.aten, packet), name) in usual_decompositions():
        return "engine", ""
    for pattern, reason in REASONS.items():
        if re.fullmatch(pattern, overload):
            return "torch", reason
    return "missing", ""


def page() -> str:
    rows = {overload: classify(overload) for overload in core_overloads()}
    count = {
        kind: sum(k == kind for k, _ in rows.values()) for kind in ("engine", "torch", "missing")
    }
    lines = [
        "# Core ATen operators",
        "",
        "What the importer makes of each overload that torch tags as core. Written by",
        "`python test/conformance/core_aten.py`; `make golden` renews it.",
        "",
        f"Of {len(rows)}, {count['engine']} can run in an engine, {count['torch']} are left to",
        f"torch by nature, {count['missing']} are missing.",
        "",
        "## Left to torch",
        "",
        "| overload | why |",
        "|---|---|",
        *(f"| {name} | {why} |" for name, (kind, why) in rows.items() if kind == "torch"),
        "",
        "## Missing",
        "",
        *([f"- {name}" for name, (kind, _) in rows.items() if kind == "missing"] or ["None."]),
        "",
        "## In engines",
        "",
        ", ".join(name for name, (kind, _) in rows.items() if kind == "engine"),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
