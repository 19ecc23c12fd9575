"""torch_stator.verify and the setting `verify`."""

import pytest
import torch
import torch_stator
from conftest import check
from torch import nn
from torch_stator import FallbackWarning, runner


class Net(nn.Module):
    """Has a dynamic input, a weight in another order, a node for torch, and types of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 64)

    def forward(self, x):
        x = self.norm(self.conv(x).relu().mean((2, 3)))
        x = self.fc(x).sigmoid().cumsum(-1)
        y = torch.tanh(x @ x.T) + x.argmax(-1)
        return y, y.t(), (y > 0.5).half()


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x):
        self.count.add_(1)
        return torch.tanh(x * self.count)


@pytest.fixture
def broken(monkeypatch):
    """broken(op, fewest): engines that compute this op, and as many others, are off by 1%."""
    original = runner._function

    def breaks(op, fewest=1):
        def function(part, *how):
            call = original(part, *how)
            if not isinstance(part, torch_stator._ffi.Engine):
                return call
            plan = part.plan_text()
            if f" = {op}(" not in plan or plan.count("    %") < fewest:
                return call

            def off(*args):
                results = call(*args)
                if isinstance(results, torch.Tensor):
                    return results * 1.01
                return [result * 1.01 for result in results]

            return off

        monkeypatch.setattr(runner, "_function", function)

    return breaks


IMAGE = torch.randn(2, 3, 8, 8)


@pytest.mark.parametrize(
    "settings", [{}, {"precision": torch.half}, {"truncate_long_and_double": True}], ids=str
)
def test_a_right_model(settings):
    found = torch_stator.verify(Net(), (IMAGE,), min_block_size=1, **settings)
    assert found.ok, str(found)
    assert found.num_graphs == 1
    assert str(found) == "1 of 1 graph(s) are right"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.half])
def test_other_types(dtype):
    model = nn.Sequential(nn.Linear(300, 300), nn.GELU(), nn.Softmax(-1)).to(dtype)
    found = torch_stator.verify(model, (torch.randn(5, 300, dtype=dtype),), min_block_size=1)
    assert found.ok, str(found)


def test_a_wrong_kernel_is_named(broken):
    broken("tanh")
    found = torch_stator.verify(Net(), (IMAGE,), min_block_size=1)
    (difference,) = found.differences
    assert not found.ok
    assert difference.op == "aten.tanh.default"
    assert difference.alone
    assert "test_verify.py" in difference.location
    assert difference.max_rel == pytest.approx(0.01, rel=0.1)
    assert difference.found == pytest.approx(difference.expected * 1.01)
    assert "0 of 1 graph(s) are right\nnode `tanh` (aten.tanh.default): found" in str(found)


def test_a_wrong_fusion_is_named(broken):
    """Only an engine of several nodes is wrong."""

    class Chain(nn.Module):
        def forward(self, x):
            return torch.tanh(x.exp() + 1) * 2

    broken("tanh", fewest=3)
    (difference,) = torch_stator.verify(Chain(), (torch.randn(4),), min_block_size=1).differences
    assert difference.op == "aten.tanh.default"
    assert not difference.alone
    assert "in one engine with nodes before it" in str(difference)


def test_the_setting_falls_back(broken):
    broken("tanh")
    model = Net()
    options = {"verify": True, "min_block_size": 1}
    compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    torch_stator.reset_stats()
    with torch.no_grad():
        with pytest.warns(FallbackWarning, match=r"an engine is wrong: node `tanh`"):
            check(compiled, model, IMAGE)
        check(compiled, model, torch.randn(2, 3, 8, 8))
        engine_calls = torch_stator.stats().engine_calls
        check(compiled, model, torch.randn(2, 3, 8, 8))
    assert torch_stator.stats().verify_failures == 1
    assert torch_stator.stats().engine_calls == engine_calls


@pytest.mark.parametrize("wrong", [False, True])
def test_the_setting_ahead_of_time_with_writes(broken, wrong):
    if wrong:
        broken("tanh")
    model, other, x = Written(), Written(), torch.randn(3)
    program = torch_stator.compile(model, (x,), verify=True, min_block_size=1)
    with torch.no_grad():
        if wrong:
            with pytest.warns(FallbackWarning, match="an engine is wrong"):
                torch.testing.assert_close(program(x), other(x))
        for _ in range(2):
            torch.testing.assert_close(program(x), other(x))
        torch.testing.assert_close(model.count, other.count)


def test_a_right_model_runs_in_engines_afterwards():
    model, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)).eval(), torch.randn(2, 4)
    options = {"verify": True, "min_block_size": 1}
    compiled = torch.compile(model, backend="stator", options=options)
    with torch.inference_mode():
        check(compiled, model, x)
        torch_stator.reset_stats()
        check(compiled, model, x)
    assert (torch_stator.stats().engine_calls, torch_stator.stats().fallback_calls) == (1, 0)


class Odd(nn.Module):
    """What engines do not run: random numbers, higher-order ops, complex numbers."""

    def forward(self, x):
        y = torch.cond(x.sum() > 0, lambda a: a.sin(), lambda a: a.cos(), (x,))
        return torch.rand_like(x) + y.tanh(), x.to(torch.complex64), x.argmax(), x > 0


def test_what_torch_runs():
    found = torch_stator.verify(Odd(), (torch.randn(4, 3),), min_block_size=1)
    assert found.ok, str(found)


def test_a_fault_behind_what_torch_runs(broken):
    broken("tanh")
    (difference,) = torch_stator.verify(Odd(), (torch.randn(4, 3),), min_block_size=1).differences
    assert difference.op == "aten.tanh.default"
