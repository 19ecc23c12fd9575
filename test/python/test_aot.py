"""torch_stator.compile."""

import pytest
import torch
import torch_stator
from conftest import check
from torch import nn
from torch_stator import FallbackWarning, InvalidArgumentError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x, scale=None):
        y = self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
        return {"y": y if scale is None else y * scale}


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(1)
        return x * self.count


@pytest.fixture
def program():
    return torch_stator.compile(Net().eval(), (torch.randn(2, 3, 8, 8),), optimization_level=0)


def test_compile_equals_eager(program):
    with torch.no_grad():
        check(program, program.model, torch.randn(2, 3, 8, 8))


def test_keyword_inputs():
    model = Net().eval()
    x, scale = torch.randn(2, 3, 8, 8), torch.randn(5)
    program = torch_stator.compile(model, (x,), {"scale": scale})
    with torch.no_grad():
        torch.testing.assert_close(program(x, scale=scale), model(x, scale=scale))
        with pytest.raises(InvalidArgumentError, match="structure"):
            program(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.randn(2, 3, 9, 8),
            r"input `x`: expected float32\[2, 3, 8, 8\], found float32\[2, 3, 9",
        ),
        (torch.randn(2, 3, 8, 8).double(), r"found float64\[2, 3, 8, 8\]"),
        (torch.empty(2, 3, 8, 8, device="meta"), "on cpu, found one on meta"),
        (3, "expected a tensor"),
    ],
)
def test_wrong_inputs_are_named(program, x, message):
    with torch.no_grad(), pytest.raises(InvalidArgumentError, match=message):
        program(x)


def test_changed_weights_are_seen(program):
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        program.model.fc.weight = nn.Parameter(torch.randn(5, 8))
        program.model.conv.weight.data += 1
        check(program, program.model, x)


def test_gradients_are_those_of_eager(program):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with pytest.warns(FallbackWarning, match="requires gradients"):
        program(x)["y"].sum().backward()
    actual, x.grad = x.grad, None
    program.model(x)["y"].sum().backward()
    torch.testing.assert_close(actual, x.grad)


def test_training_mode_is_refused():
    with pytest.raises(InvalidArgumentError, match="training mode"):
        torch_stator.compile(nn.Dropout().train(), (torch.randn(3),))


def test_an_unknown_option():
    with pytest.raises(InvalidArgumentError, match="did you mean `debug`"):
        torch_stator.compile(Net().eval(), (torch.randn(2, 3, 8, 8),), debgu=True)


def test_a_mutated_buffer():
    model = Counter()
    program = torch_stator.compile(model, (torch.ones(2),), min_block_size=1)
    with torch.no_grad():
        program(torch.ones(2))
        assert program(torch.ones(2)).tolist() == [2, 2]
        assert model.count.tolist() == [2, 2]


def test_a_mutated_input():
    class Model(nn.Module):
        def forward(self, x):
            x.mul_(2)
            return x + 1

    with torch.no_grad():
        check(
            torch_stator.compile(Model(), (torch.ones(3),), min_block_size=1),
            Model(),
            torch.randn(3),
        )
