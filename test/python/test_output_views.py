"""Outputs that are views of what an engine computed: values, sizes, strides and shared memory are
eager's, whatever views lie between, for sizes that were fixed or not."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

OPTIONS = {"optimization_level": 0, "min_block_size": 1, "pass_through_build_failures": True}
SIZES = (2, 3, 4, 6)  # dynamo takes a size of 1 for a constant


@st.composite
def chains(draw, shape):
    """One to four views, each a method and its arguments, of a tensor of that shape."""
    shape, steps = list(shape), []
    for _ in range(draw(st.integers(1, 4))):
        name, args, shape = draw(views(shape))
        steps.append((name, args))
    return steps


@st.composite
def views(draw, shape):
    rank = len(shape)
    dims = st.integers(0, rank - 1)
    options = ["unsqueeze", "expand"]
    if rank:
        options += ["slice", "permute", "transpose", "unflatten", "squeeze", "select", "narrow"]
    if rank > 1:
        options += ["diagonal", "movedim"]
    kind = draw(st.sampled_from(options))
    if kind == "unsqueeze":
        dim = draw(st.integers(0, rank))
        return kind, (dim,), [*shape[:dim], 1, *shape[dim:]]
    if kind == "expand":
        extra = draw(st.lists(st.integers(1, 3), max_size=1))
        grown = [draw(st.integers(1, 3)) if n == 1 else -1 for n in shape]
        made = [n if g == -1 else g for n, g in zip(shape, grown, strict=True)]
        return kind, ((*extra, *grown),), [*extra, *made]
    dim = draw(dims)
    size = shape[dim]
    if kind == "slice":
        start, step = draw(st.integers(0, max(size - 1, 0))), draw(st.integers(1, 3))
        end = draw(st.integers(start + 1, size)) if size else 0
        cut = (slice(None),) * dim + (slice(start, end, step),)
        return "__getitem__", (cut,), _with(shape, dim, len(range(start, end, step)))
    if kind in ("permute", "transpose", "movedim"):
        order = list(range(rank))
        other = draw(dims)
        if kind == "permute":
            order = draw(st.permutations(order))
            return kind, (order,), [shape[i] for i in order]
        if kind == "transpose":
            order[dim], order[other] = order[other], order[dim]
        else:
            order.insert(other, order.pop(dim))
        return kind, (dim, other), [shape[i] for i in order]
    if kind == "unflatten":
        factor = draw(st.sampled_from([n for n in (1, 2, 3) if size % n == 0]))
        return kind, (dim, (-1, factor)), [*shape[:dim], size // factor, factor, *shape[dim + 1 :]]
    if kind == "squeeze":
        return kind, (dim,), shape[:dim] + shape[dim + 1 :] if size == 1 else shape
    if kind == "select":
        return kind, (dim, draw(st.integers(-size, size - 1))), shape[:dim] + shape[dim + 1 :]
    if kind == "narrow":
        start = draw(st.integers(0, size - 1))
        length = draw(st.integers(1, size - start))
        return kind, (dim, start, length), _with(shape, dim, length)
    diagonal = torch.empty(shape).diagonal(dim1=0, dim2=1)
    return kind, (0, 0, 1), list(diagonal.shape)


def _with(shape, dim, size):
    return [*shape[:dim], size, *shape[dim + 1 :]]


@st.composite
def models(draw):
    """An input's shape and its order in memory; for each output, the views that make it."""
    shape = draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=3))
    order = draw(st.permutations(range(len(shape))))
    outputs = draw(st.lists(st.one_of(st.just([]), chains(shape)), min_size=1, max_size=3))
    return shape, order, outputs


def _apply(steps, y):
    for name, args in steps:
        y = getattr(y, name)(*args)
    return y


def _describe(tensors):
    """Sizes, strides as far as they matter, which share memory, and where they start in it."""
    storages = [t.untyped_storage().data_ptr() for t in tensors]
    strides = [
        [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] if t.numel() else []
        for t in tensors
    ]
    shared = [storages.index(s) for s in storages]
    apart = [
        (t.data_ptr() - tensors[first].data_ptr()) if t.numel() else 0
        for t, first in zip(tensors, shared, strict=True)
    ]
    return [t.shape for t in tensors], strides, shared, apart


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(case=models())
def test_chains_of_views(case, dynamic):
    shape, order, outputs = case
    torch._dynamo.reset()

    def model(x):
        y = x.mul(2).add(1)
        return [_apply(steps, y) for steps in outputs]

    memory = torch.arange(torch.Size(shape).numel(), dtype=torch.float32)
    inverse = sorted(range(len(order)), key=order.__getitem__)
    x = memory.reshape([shape[i] for i in order]).permute(inverse)
    if dynamic:  # sizes alone: dynamic=True takes the numbers of the views, too
        for dim in range(x.dim()):
            torch._dynamo.maybe_mark_dynamic(x, dim)
    compiled = torch.compile(model, backend="stator", dynamic=None, options=OPTIONS)
    with torch.no_grad():
        found, expected = compiled(x), model(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert _describe(found) == _describe(expected)
