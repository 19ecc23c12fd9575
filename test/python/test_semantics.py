"""What eager promises besides values: writes to inputs and buffers, memory that outputs share,
strides, dtypes, and signs of zero; control flow, hooks, autocast and recurrent modules."""

import copy

import pytest
import torch
from torch import nn
from torch._higher_order_ops.map import map as map_over

CASES = {}


def case(*inputs, calls=1):
    def add(model):
        CASES[model.__name__] = (model, inputs, calls)
        return model

    return add


X = torch.linspace(-2, 2, 12).reshape(3, 4)
SPECIAL = torch.tensor(
    [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 1e-40, 1.5, -2.5, 3e9]
)


@case(X)
def writes_to_views(x):
    x[1].mul_(3)
    x[:, 2] = 7
    x.t().add_(1)
    x.diagonal().fill_(0)
    a, b = x.chunk(2, 1)
    a.add_(1)
    return x.sum(0), a, b, x


@case(X, X[0])
def writes_to_two(x, y):
    x[0].copy_(y)
    y.zero_()
    x[x > 0] = 0
    return x + 1


@case(torch.arange(12).reshape(3, 4))
def writes_integers(x):
    x //= 2
    x %= 3
    return x


@case(X.t())
def shares_memory(x):
    y = x + 1
    return x, x.t(), x[1], x.contiguous(), x.reshape(12), x.to(torch.float32), y, y.t(), y[0]


@case(X[:, :1].contiguous())
def expands(x):
    return x.expand(3, 5), x.detach(), torch.split(x * 2, 1), (x + 1).expand(3, 5)


class Buffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("cache", torch.zeros(2, 8, 4))

    def forward(self, x):
        self.count += 1
        self.cache[:, 2:5] = x
        self.cache[0].mul_(2)
        return x * self.count, self.cache.sum(1), self.cache


CASES["buffers"] = (Buffers(), (X,), 3)
CASES["batch_norm_in_training"] = (nn.BatchNorm1d(4).train(), (X,), 2)


@case(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))
def lays_out(x):
    relu, pool = x.relu(), nn.functional.max_pool2d(x, 2)
    return relu, pool, x.sum(1, keepdim=True), torch.cat([x, x], 1), x.softmax(1), x.half(), x > 0


@case(SPECIAL)
def special_values(x):
    rounded = x.round(), x.floor(), x.trunc(), x.sign(), x.nan_to_num()
    tests = x.isnan(), x.isfinite(), x == x, x.argmax(), x.amax(), x.sort()[0]
    return x * 0, x + 0.0, -x, x.abs(), x.clamp(-1, 1), x.relu(), x**0, *rounded, *tests


@case(SPECIAL)
def casts(x):
    return x.int(), x.long(), x.short(), x.char(), x.byte(), x.bool(), x.half(), x.bfloat16()


@case(torch.tensor([-7, -1, 0, 1, 7, 127]), torch.tensor([2, -2, 3, -3, 5, -1]))
def divides_integers(x, y):
    small = x.to(torch.int8) * 2, x.to(torch.uint8) - 1, -x.to(torch.uint8)
    return x // y, x % y, x / y, torch.fmod(x, y), x // -2, x % -3, x >> 1, *small


@case(X, torch.tensor(2), 2.5)
def promotes(x, zero_dim, number):
    integers, halves = x.int(), x.half()
    products = integers * zero_dim, integers * number, halves * zero_dim, halves * number
    doubles = halves + torch.tensor(1.0, dtype=torch.float64), integers / 2, integers + True
    return *products, *doubles, integers * torch.tensor(1.5), x * torch.tensor(1.0).double()


@case(torch.tensor(3.5))
def of_no_dims(x):
    return x.sum(), x.max(), x.expand(3), x.softmax(0), x.argmax(), x.cumsum(0), x[None]


@case(torch.zeros(0, 3))
def of_no_elements(x):
    return x.sum(), x.sum(0), x.mean(), x.softmax(1), x.prod(), x.all(), x.max(1)[0], x.cumsum(0)


@case(X)
def branches(x):
    def above(a):
        return (a.sin() @ a.t()).relu()

    def below(a):
        return (a.cos() @ a.t()) * 2

    both = [torch.cond(s.sum() > 0, above, below, (s,)) for s in (x + 9, x - 9)]
    return both[0], both[1] + 1


@case(X)
def loops(x):
    return torch.while_loop(
        lambda i, a: i < 5, lambda i, a: (i + 1, (a * 1.1).tanh()), (torch.tensor(0), x)
    )


@case(X)
def maps(x):
    return map_over(lambda row, other: (row * other).exp(), x, x[0].clone())


@case(X)
def autocasts(x):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = x @ x.t()
        with torch.autocast("cpu", enabled=False):
            z = y.float() @ x
    return y, z, x @ x.t()


@case(X)
def checkpoints(x):
    return torch.utils.checkpoint.checkpoint(lambda a: (a @ a.t()).tanh(), x, use_reentrant=False)


class Hooked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))
        self.layer.register_forward_hook(lambda module, args, output: output * 2)

    def forward(self, x):
        return self.layer(x).relu()


CASES["hooks"] = (Hooked(), (X,), 1)
CASES["lstm"] = (nn.LSTM(4, 5, 2, bidirectional=True).eval(), (X[None],), 1)
CASES["gru"] = (nn.GRU(4, 5, batch_first=True).eval(), (X[None],), 1)
CASES["rnn"] = (nn.RNN(4, 5, nonlinearity="relu").eval(), (X[None],), 1)


def tensors(value):
    return [t for t in torch.utils._pytree.tree_leaves(value) if isinstance(t, torch.Tensor)]


def copy_of(value):
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).copy_(value)


def describe(results, inputs):
    """Dtypes, strides, and which tensors share memory."""
    memory = [t.untyped_storage().data_ptr() for t in (*inputs, *results)]
    strides = [
        [s for s, n in zip(t.stride(), t.shape, strict=True) if n > 1] if t.numel() else []
        for t in results
    ]
    shared = [memory.index(t.untyped_storage().data_ptr()) for t in results if t.numel()]
    return [t.dtype for t in results], strides, shared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("name", sorted(CASES))
def test_as_in_eager(name, dynamic):
    torch._dynamo.reset()
    model, inputs, calls = CASES[name]
    eager, ours = (copy.deepcopy(model) for _ in range(2))
    compiled = torch.compile(ours, backend="stator", dynamic=dynamic)
    for _ in range(calls):
        given, taken = ([copy_of(x) for x in inputs] for _ in range(2))
        with torch.no_grad():
            expected, found = tensors(eager(*given)), tensors(compiled(*taken))
        torch.testing.assert_close(found, expected, equal_nan=True)
        torch.testing.assert_close(taken, given, equal_nan=True)
        assert describe(found, tensors(taken)) == describe(expected, tensors(given))
        for a, b in zip(found, expected, strict=True):
            if a.is_floating_point():
                assert torch.equal(a.signbit() & (a == 0), b.signbit() & (b == 0))
    if isinstance(model, nn.Module):
        torch.testing.assert_close(ours.state_dict(), eager.state_dict())
