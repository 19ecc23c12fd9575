"""What Torch-TensorRT's torch.compile backend is known to do wrong: each case is right here.

Left out is what other tests hold already: options that are dropped (test_settings.py), inputs and
buffers that are written (test_semantics.py, test_state.py), outputs that are inputs
(test_aliases.py), weights as inputs of each call (test_backend.py, test_refit.py).
"""

import threading

import pytest
import torch
import torch.nn.functional as F
from conftest import check, compile_small
from torch import nn

OPTIONS = {"optimization_level": 0, "min_block_size": 1}


# ---- attention: masks that are taken for causal, causal masks at the wrong corner


def attend(mask=None, **kwargs):
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, **kwargs)


def padding(length):
    return (torch.arange(length) < length - 3).expand(2, 1, 1, length)


def alibi(length):
    distance = torch.arange(length)[None] - torch.arange(length)[:, None]
    return -torch.tensor([0.5, 0.25])[:, None, None] * distance.abs()


@pytest.mark.parametrize("make_mask", [padding, alibi])
def test_square_masks_are_not_causal(run, make_mask):
    q, k, v = torch.randn(3, 2, 2, 9, 8).unbind()
    run(attend(make_mask(9)), q, k, v)


@pytest.mark.parametrize(("rows", "columns"), [(5, 9), (9, 5), (1, 7)])
def test_a_causal_mask_starts_at_the_upper_left(run, rows, columns):
    q, (k, v) = torch.randn(2, 2, rows, 8), torch.randn(2, 2, 2, columns, 8).unbind()
    run(attend(is_causal=True), q, k, v)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_long_causal_attention_in_16_bits(dtype):
    """As near to the true values as eager, which rounds its sums otherwise."""
    q, k, v = torch.randn(3, 1, 2, 600, 32, dtype=dtype).unbind()
    causal = attend(is_causal=True)
    true = causal(q.double(), k.double(), v.double())
    error = (compile_small(causal)(q, k, v) - true).abs().max()
    assert error <= 1.1 * (causal(q, k, v) - true).abs().max()


def test_values_of_another_width(run):
    run(attend(), torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8), torch.randn(2, 4, 7, 12))


def test_groups_of_heads(run):
    q, (k, v) = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 2, 7, 8).unbind()
    run(attend(enable_gqa=True), q, k, v)


# ---- mathematics


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("reduce", ["mean", "sum", "prod", "amax", "amin"])
def test_scattered_means_are_not_truncated(run, reduce, include_self):
    def function(x, index, source):
        return x.scatter_reduce(1, index, source, reduce, include_self=include_self) + 0

    run(function, torch.randn(3, 4), torch.randint(4, (3, 7)), torch.randn(3, 7))


def test_an_rms_norm_without_eps(run):
    """Its eps is float32's 1.2e-7, not 1e-5."""
    run(lambda x, w: F.rms_norm(x, (8,), w) * 2, 1e-3 * torch.randn(4, 8), torch.randn(8))


def test_a_log_softmax_of_what_a_softmax_rounds_to_zero(run):
    run(lambda x: x.log_softmax(-1) + 1, torch.tensor([[0.0, -200.0, -5.0], [300.0, 1.0, 0.0]]))


def test_doubles_are_computed_in_double(run):
    run(lambda x: (x + 1) * 3 - x.exp(), torch.randn(5, dtype=torch.float64) * 1e-9)


def test_remainders_of_sizes_have_the_sign_of_the_divisor(compilations):
    def function(x):
        return F.pad(x.exp(), (0, -x.shape[1] % 8)) * (x.shape[1] % -5)

    compiled = torch.compile(function, backend="stator", dynamic=True, options=OPTIONS)
    for size in (5, 8, 13):
        check(compiled, function, torch.randn(2, size))
    assert len(compilations) == 1


# ---- what is baked in at the first call


def test_numbers_in_tensors_are_read_in_each_call():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Buffer(torch.tensor(2.0))

        def forward(self, x, shift):
            return x.exp() * self.scale.item() + shift.item()

    model = Scaled()
    compiled = compile_small(model)
    with torch.no_grad():
        for scale, shift in ((2.0, 1.0), (3.0, -1.0), (0.5, 7.0)):
            model.scale.fill_(scale)
            check(compiled, model, torch.randn(4), torch.tensor(shift))


def test_random_numbers_are_drawn_in_each_call():
    compiled = compile_small(lambda x: x.exp() * 0 + torch.rand(4) + torch.randn(4))
    x = torch.ones(4)
    assert not torch.equal(compiled(x), compiled(x))


# ---- coverage


class Pools(nn.Module):
    def forward(self, x):
        return (
            F.max_pool2d(x, 3, 2, padding=1, ceil_mode=True),
            F.max_pool2d(x, 2, 1, dilation=2),
            F.avg_pool2d(x, 2, 2, ceil_mode=True),
            F.avg_pool2d(x, 3, 2, divisor_override=5),
            F.adaptive_avg_pool2d(x, (3, 2)),
        )


def test_pools(run):
    run(Pools(), torch.randn(2, 3, 8, 11))


def test_bits_of_integers(run):
    run(lambda x, y: (x & y, x | y, x ^ 3, ~x), *torch.randint(-99, 99, (2, 3, 5)).unbind())


def test_indices_of_dynamic_sizes(compilations):
    def function(x, index):
        rows = x.gather(0, index)
        return rows * 2, torch.zeros_like(x).index_copy(0, index[:, 0], rows)

    compiled = torch.compile(function, backend="stator", dynamic=True, options=OPTIONS)
    for size in (5, 9):
        index = torch.stack([torch.randperm(size) for _ in range(3)], 1)
        check(compiled, function, torch.randn(size, 3), index)
    assert len(compilations) == 1
    assert compilations[0].report["coverage"] == 1


def test_the_best_of_many(run):
    run(lambda x: x.exp().topk(5000).values, torch.randn(2, 9000))


def test_second_results(run):
    class Statistics(nn.Module):
        def forward(self, x):
            values, indices = x.max(1)
            y, mean, rstd = torch.native_layer_norm(x, (7,), None, None, 1e-5)
            return values + indices, y * 2, mean, rstd, x.min(0).indices

    run(Statistics(), torch.randn(5, 7))


def test_a_large_dimension_without_a_bound(compilations):
    model = nn.Sequential(nn.Linear(4, 4), nn.GELU())
    compiled = compile_small(model)
    with torch.no_grad():
        for rows in (2, 3, 20_000):
            x = torch.randn(rows, 4)
            torch._dynamo.mark_dynamic(x, 0)
            torch.testing.assert_close(compiled(x), model(x))
    assert len(compilations) == 1


# ---- the compiler


class TooLarge(nn.Module):
    """Engines before and after a frexp; a constant of the second does not fit in 32 bits."""

    def forward(self, x):
        y, indices = x.exp().frexp()
        return (y.tanh() + 1) * (indices.long() < 2**40)


def test_a_failed_build_leaves_the_other_engines(compilations):
    options = {**OPTIONS, "truncate_long_and_double": True}
    compiled = torch.compile(TooLarge(), backend="stator", options=options)
    check(compiled, TooLarge(), torch.randn(300, 400))
    report = compilations[0].report
    failed = {f["op"] for f in report["fallbacks"] if "build failed" in f["reason"]}
    assert "aten.lt.Scalar" in failed
    assert "aten.exp.default" not in failed
    assert [part["kind"] for part in report["parts"]] == ["engine", "torch", "torch"]


def test_arguments_are_part_of_a_cached_engines_key(compilations):
    """One op, other arguments or wiring: never another's engine."""
    functions = [
        lambda x, y: x.softmax(0) + y,
        lambda x, y: x.softmax(1) + y,
        lambda x, y: y.softmax(1) + x,
        lambda x, y: x.softmax(1)[:, :3] + y[:, 1:],
        lambda x, y: x.softmax(1)[:, 1:] + y[:, :3],
        lambda x, y: x.softmax(1) + 2 * y,
        lambda x, y: x.softmax(1) + 3 * y,
    ]
    x, y = torch.randn(2, 4, 4).unbind()
    for _ in range(2):
        for function in functions:
            check(compile_small(function), function, x, y)
            torch._dynamo.reset()
    found = [compilation.report["parts"][0]["cache"] for compilation in compilations]
    assert found == ["miss: not cached"] * 7 + ["hit"] * 7


def test_settings_are_of_one_model(compilations):
    """Compiled in two threads with other settings, each model has its own."""

    def compile_one(op, results):
        def function(x):
            return x.exp().tanh() + x.sin()

        options = {**OPTIONS, "torch_executed_ops": {op}}
        compiled = torch.compile(function, backend="stator", options=options)
        x = torch.randn(4)
        results.append((compiled(x), function(x)))

    results = []
    threads = [
        threading.Thread(target=compile_one, args=(op, results)) for op in ("aten.exp", "aten.sin")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for actual, expected in results:
        torch.testing.assert_close(actual, expected)
    left = sorted(c.report["fallbacks"][0]["op"] for c in compilations)
    assert left == ["aten.exp.default", "aten.sin.default"]
    assert all(len(c.report["fallbacks"]) == 1 for c in compilations)


def test_an_error_of_any_kind_runs_the_graph_in_eager(monkeypatch):
    from torch_stator import compiler

    for error in (IndexError, ValueError, ZeroDivisionError, KeyError):

        def fail(*_, error=error):
            raise error("of the compiler")

        monkeypatch.setattr(compiler, "export_graph", fail)
        torch._dynamo.reset()
        x = torch.randn(3)
        with pytest.warns(UserWarning, match=f"{error.__name__}.*of the compiler"):
            assert torch.equal(compile_small(torch.exp)(x), x.exp())
