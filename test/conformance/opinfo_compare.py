"""A sample's results compared with eager's, by torch's own tolerances.

In:  results, and then arguments, of a compiled call and of eager.
Out: nothing where they agree; an excuse where rounding the inputs explains how they differ; else a
     Difference is raised.

An element may be near to eager's, or to eager's result in the next wider dtype: torch's own tests
of compiled ops judge so, since in a chain of ops eager rounds more often than one kernel does.

Of an element that is not, the inputs decide. What a backward-stable algorithm computes is the exact
result for inputs that differ from those given by about their own rounding (Higham 2002, section
1.5), so it is excused where such inputs move the exact result as far: DRAWS times each input is
multiplied by 1 + u, with u at random within half a unit of its dtype, and eager computes in
float64; the element may lie FACTOR times as far from the result for the inputs themselves as any of
these does, and half a unit of its own dtype. FACTOR stands for the worst case, which few draws meet
(as in tools/judge.h). Where a convolution adds up n products, u is sqrt(n) times as large, by which
their roundings come as a rule (Higham & Mary 2019). Integers are rounded as the result's dtype when
they enter arithmetic in it, provided that eager gives of them, as float64, what it gives of
integers. Where a result is well conditioned, all that is less than torch allows.
"""

import torch
from opinfo_samples import UNSPECIFIED_VALUES, call_on_copies, find_tolerance
from torch._prims_common import check_significant_strides

WIDER = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float64,
}
DRAWS = 16
FACTOR = 2


class Difference(Exception):
    """A result that is not eager's."""


def compare(op, dtype, sample, actual, expected):
    """Raises Difference unless dtypes, shapes, strides and elements are those expected. Returns an
    empty text, or how the elements differ that rounding the inputs explains."""
    if len(actual) != len(expected):
        raise Difference(f"{len(actual)} results where eager gives {len(expected)}")
    wider, spreads, excuse = None, None, ""
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        _compare_types(a, e, i)
        if op.full_name in UNSPECIFIED_VALUES:
            continue
        tolerance = find_tolerance(op, dtype, e)
        difference = _find_difference(a, e, tolerance)
        if difference and e.dtype in WIDER:
            wider = wider or _run_wider(sample, expected)
            if wider and not _find_difference(a, wider[i].to(e.dtype), tolerance):
                continue
            num_terms = _count_products(op, sample)
            spreads = spreads or _find_spreads(sample, expected, e.dtype, num_terms)
            if spreads and _is_rounding(a, e, *spreads[i], tolerance):
                excuse = excuse or f"result {i}: {difference}"
                continue
        if difference:
            raise Difference(f"result {i}: {difference}")
    return excuse


def _compare_types(actual, expected, i):
    if actual.dtype != expected.dtype:
        raise Difference(f"result {i} is {actual.dtype} where eager gives {expected.dtype}")
    if actual.shape != expected.shape:
        shapes = f"{list(actual.shape)} where eager gives {list(expected.shape)}"
        raise Difference(f"result {i} has shape {shapes}")
    same, _ = check_significant_strides(actual, expected)
    if not same:
        strides = f"{list(actual.stride())} where eager gives {list(expected.stride())}"
        raise Difference(f"result {i} of shape {list(actual.shape)} has strides {strides}")


def _find_difference(actual, expected, tolerance):
    rtol, atol = tolerance
    try:
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def _run_wider(sample, expected):
    """Eager's results where each input is in the next wider dtype; None where it has none."""
    return _run(sample, [t.to(WIDER.get(t.dtype, t.dtype)) for t in sample.tensors], expected)


def _run(sample, tensors, expected):
    try:
        results, given = call_on_copies(sample, tensors)
    except Exception:
        return None
    return results + given if len(results + given) == len(expected) else None


def _count_products(op, sample):
    """How many products a convolution adds up to an element."""
    if "conv" not in op.name:
        return 1
    weight = sample.tensors[1]
    return weight.numel() / max(1, weight.shape["transpose" in op.name])


def _find_spreads(sample, expected, dtype, num_terms):
    """Of each result: what eager makes in float64, and how far each element of that moves with the
    rounding of the inputs; of integers, in `dtype`. None where eager cannot tell."""
    if any(tensor.is_complex() for tensor in sample.tensors):
        return None
    are_integers = not any(tensor.is_floating_point() for tensor in sample.tensors)
    generator = torch.Generator().manual_seed(0)

    def widen(tensor):
        rounds = are_integers and tensor.dtype != torch.bool
        return tensor.double() if tensor.is_floating_point() or rounds else tensor

    def disturb(tensor):
        exact = widen(tensor)
        if not exact.is_floating_point():
            return exact
        unit = torch.finfo(dtype if are_integers else tensor.dtype).eps
        units = torch.rand(tensor.shape, generator=generator, dtype=torch.float64) * 2 - 1
        reach = max(1, num_terms**0.5) * unit / 2
        return exact * (1 + units.to(exact.device) * reach)

    base = _run(sample, map(widen, sample.tensors), expected)
    runs = [_run(sample, map(disturb, sample.tensors), expected) for _ in range(DRAWS)]
    if base is None or None in runs:
        return None
    num = len(expected) - len(sample.tensors)  # of results; then come the arguments
    same = all(map(_is_same_function, base[:num], expected[:num]))
    if are_integers and not same:
        return None
    return [
        (exact, torch.stack([(result - exact).abs() for result in results]).amax(0))
        if exact.dtype == torch.float64
        else (exact, None)
        for exact, *results in zip(base, *runs, strict=True)
    ]


def _is_same_function(exact, expected):
    return exact.shape == expected.shape and torch.allclose(
        exact.double(), expected.double(), rtol=1e-3, atol=1e-3, equal_nan=True
    )


def _is_rounding(actual, expected, exact, spread, tolerance):
    """Whether each element is near to eager's, or as far from the exact one as rounding the inputs
    brings that."""
    if spread is None or exact.shape != actual.shape:
        return False
    rtol, atol = tolerance
    near = torch.isclose(actual, expected, rtol=rtol, atol=atol, equal_nan=True)
    own = torch.finfo(actual.dtype).eps / 2 * exact.abs()
    return bool((near | ((actual - exact).abs() <= FACTOR * spread + own)).all())
