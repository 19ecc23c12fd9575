"""Outputs that share memory: with each other, with inputs, with parameters; as in eager PyTorch."""

import copy

import pytest
import torch
import torch_stator
from conftest import clone
from torch import nn
from torch_stator import InvalidArgumentError

ENGINES = [{"min_block_size": 1}, {"min_block_size": float("inf")}]  # all in engines; all in torch


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4).T)
        self.conv = nn.Conv2d(4, 8, 1).to(memory_format=torch.channels_last)


class OfAnIntermediate(Views):
    def forward(self, x):
        y = x.exp()
        return y, y.t(), y[1:, ::2], y.view(-1), y + 1


class WithoutItsBase(Views):
    def forward(self, x):
        y = x @ self.weight
        z = y.t()
        return z, [y[0], z.sum(0)], y.expand(2, 4, 4)


class OfACopy(Views):
    def forward(self, x):
        y = x.clone()
        return y[0], y[1:], x.exp()


class Chunks(Views):
    def forward(self, x):
        a, b = (x * 2).chunk(2, dim=1)
        return a, b.t(), a + b


class OfAnInput(Views):
    def forward(self, x):
        return x.t(), x.exp(), x[0]


class OfAParameter(Views):
    def forward(self, x):
        return self.weight.t()[1], self.weight, x @ self.weight


class OfAWrittenInput(Views):
    def forward(self, x):
        old = x.clone()
        x.mul_(2)
        return x, x.t(), old[0], x + 1


class OfAWrittenView(Views):
    def forward(self, x):
        x[0].add_(1)
        return x[0], x.sum()


class Rotated(Views):
    """Writes to its buffers what the others held."""

    def __init__(self):
        super().__init__()
        for name in "abc":
            self.register_buffer(name, torch.full((4,), float(ord(name))))

    def forward(self, x):
        old = self.c.clone()
        self.c.copy_(self.b)
        self.b.copy_(self.a)
        self.a.copy_(old)
        return self.a + x, self.b.clone(), self.c.view(2, 2)


class OfAnotherLayout(Views):
    def forward(self, x):
        y = self.conv(x.view(1, 4, 2, 2).to(memory_format=torch.channels_last))
        return y, y.permute(0, 2, 3, 1).view(4, 8), y[:, 1]


MODELS = [
    OfAnIntermediate,
    WithoutItsBase,
    OfACopy,
    Chunks,
    OfAnInput,
    OfAParameter,
    OfAWrittenInput,
    OfAWrittenView,
    OfAnotherLayout,
    Rotated,
]


def leaves(model, x, result):
    return [x, *model.parameters(), *model.buffers(), *torch.utils._pytree.tree_leaves(result)]


def shared(tensors):
    """For each pair of tensors, whether they lie in one storage."""
    pointers = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    return [[lhs == rhs for lhs in pointers] for rhs in pointers]


@pytest.fixture
def saved(tmp_path):
    def save_and_load(program):
        torch_stator.save(program, tmp_path / "it")
        return torch_stator.load(tmp_path / "it")

    return save_and_load


@pytest.mark.parametrize("options", ENGINES, ids=["engines", "torch"])
@pytest.mark.parametrize("front", ["torch.compile", "ahead", "loaded"])
@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.__name__)
def test_outputs_share_memory_as_in_eager(model, front, options, saved):
    model = model()
    eager = copy.deepcopy(model)
    if front == "loaded" and isinstance(model, (OfAParameter, Rotated)):
        pytest.skip("the parameters of a loaded program are its own")
    options = {"optimization_level": 0, **options}
    x = torch.randn(4, 4)
    if front == "torch.compile":
        compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    else:
        compiled = torch_stator.compile(model, (clone(x),), **options)
    if front == "loaded":
        compiled = saved(compiled)
    with torch.no_grad():
        for _ in range(2):
            left, right = clone(x), clone(x)
            found = leaves(model, left, compiled(left))
            expected = leaves(eager, right, eager(right))
            torch.testing.assert_close(found, expected)
            assert shared(found) == shared(expected)
            assert [t.stride() for t in found] == [t.stride() for t in expected]
            if not isinstance(model, OfAParameter):
                found[-2].add_(1)  # a write through one is seen by the others
                expected[-2].add_(1)
                torch.testing.assert_close(found, expected)


def test_views_of_dynamic_sizes():
    def model(x):
        y = x.exp()
        return y.view(-1), y[: x.shape[0] // 2], y

    compiled = torch.compile(model, backend="stator", dynamic=True, options=ENGINES[0])
    for n in (4, 7, 3):
        x = torch.randn(n, 3)
        found, expected = compiled(x), model(x)
        torch.testing.assert_close(found, expected)
        assert shared(found) == shared(expected)


def test_copies_of_dynamic_inputs_lie_as_in_eager():
    def model(x):
        return x.contiguous(), x.clone(), x.clone(memory_format=torch.contiguous_format)

    compiled = torch.compile(model, backend="stator", dynamic=True, options=ENGINES[0])
    for n in (4, 7):
        x = torch.randn(3, n).t()
        found, expected = compiled(x), model(x)
        torch.testing.assert_close(found, expected)
        assert [t.stride() for t in found] == [t.stride() for t in expected]


class WritesToIt(nn.Module):
    """Writes to its input, and reads its parameter."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6), requires_grad=False)

    def forward(self, x):
        x.mul_(2)
        return self.weight + 1, x * self.weight


@pytest.mark.parametrize("first", ["apart", "view"])
def test_an_input_that_views_a_parameter_is_written(first):
    model, other = WritesToIt(), WritesToIt()
    other.load_state_dict(model.state_dict())
    compiled = torch.compile(model, backend="stator", dynamic=False, options=ENGINES[0])
    with torch.no_grad():
        for case in (first, "apart", "view", "apart", "view"):
            x = torch.ones(6)
            left = model.weight.view(6) if case == "view" else x.clone()
            right = other.weight.view(6) if case == "view" else x.clone()
            torch.testing.assert_close(compiled(left), other(right))
            torch.testing.assert_close(model.weight, other.weight)
            torch.testing.assert_close(left, right)


def test_ahead_of_time_an_input_that_views_a_parameter_is_written():
    model = WritesToIt()
    program = torch_stator.compile(model, (torch.ones(6),), min_block_size=1)
    with torch.no_grad():
        torch.testing.assert_close(program(torch.ones(6)), model(torch.ones(6)))
        with pytest.raises(InvalidArgumentError, match="share memory"):
            program(model.weight.view(6))
