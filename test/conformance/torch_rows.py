"""Rows of the op table computed by torch: the expression that each row declares."""

import functools

import torch
from torch_stator._ffi import DTYPES

HALVES = (torch.float16, torch.bfloat16)


def widen(tensor):
    if tensor is None:
        return None
    if tensor.dtype in HALVES:
        return tensor.float()
    return tensor.byte() if tensor.dtype == torch.bool else tensor


@functools.cache
def compile_expression(text):
    return compile(text, "<op row>", "eval")


def make_attrs(row, attrs):
    kinds = {attr["name"]: attr["kind"] for attr in row["attrs"]}
    convert = {"dtype": DTYPES.__getitem__, "float": float}
    return {name: convert.get(kinds[name], lambda v: v)(value) for name, value in attrs.items()}


def evaluate_row(row, inputs, attrs, dtypes):
    """What torch makes of a row's expression, in these dtypes; `attrs` as JSON gives them."""
    code = compile_expression(row["torch"])
    names = {"torch": torch, "x": inputs, "a": make_attrs(row, attrs)}
    if "pointwise" not in row["traits"] and any(
        t is not None and t.dtype in HALVES for t in inputs
    ):
        # Sums are accumulated in f32, which torch does not do everywhere: the exact result,
        # rounded.
        names["x"] = [widen(t) if t is not None and t.is_floating_point() else t for t in inputs]
    try:
        result = eval(code, names)
    except NotImplementedError:  # torch has no kernel for this dtype: what a wider one gives
        names["x"] = [widen(t) for t in inputs]
        result = eval(code, names)
    results = result if isinstance(result, (list, tuple)) else [result]
    return [t.to(dtype) for t, dtype in zip(results, dtypes, strict=True)]
