"""What is easily got wrong in silence: memory that values share, weights that change in odd ways,
threads, forks, errors in the middle. All against eager PyTorch."""

import os
import select
import signal
import threading

import pytest
import torch
import torch_stator
from conftest import clone
from torch import nn
from torch_stator import InvalidArgumentError

ENGINES = [{"min_block_size": 1}, {"min_block_size": float("inf")}]  # all in engines; all in torch


def compile_for_test(model, **options):
    options = {"optimization_level": 0, "min_block_size": 1, **options}
    return torch.compile(model, backend="stator", dynamic=False, options=options)


def check_twice(compiled, model, *inputs):
    """Two calls in a row on inputs that keep what the first did to them; returns the last results,
    with the inputs, of both."""
    left, right = ([clone(value) for value in inputs] for _ in range(2))
    with torch.no_grad():
        for _ in range(2):
            found, expected = compiled(*left), model(*right)
            torch.testing.assert_close((found, left), (expected, right))
    return [*left, *flatten(found)], [*right, *flatten(expected)]


def flatten(result):
    return result if isinstance(result, (tuple, list)) else [result]


def shared(tensors):
    """For each pair of tensors, whether they lie in one storage."""
    pointers = [tensor.untyped_storage().data_ptr() for tensor in tensors]
    return [[lhs == rhs for lhs in pointers] for rhs in pointers]


# ---- memory that values share

COPIES = {
    "clone": lambda x: x.clone(),
    "clone of a view": lambda x: x.t().clone().t(),
    "cat of one": lambda x: torch.cat([x]),
    "repeat once": lambda x: x.repeat(1, 1),
    "add of zero": lambda x: x + 0,
    "pad of zero": lambda x: nn.functional.pad(x, (0, 0)),
    "value and clone": lambda x: (x.exp(), x.exp().clone()),
    "clone of an intermediate": lambda x: (lambda y: (y, y.clone(), y.t().clone()))(x.exp()),
    "equal values": lambda x: (x.exp(), x.exp(), x.sum(), x.sum()),
    "twice": lambda x: (x, x, x.clone(), x.clone()),
}


@pytest.mark.parametrize("options", ENGINES, ids=["engines", "torch"])
@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_memory_of_its_own(name, options):
    model = COPIES[name]
    found, expected = check_twice(compile_for_test(model, **options), model, torch.randn(4, 4))
    assert shared(found) == shared(expected)
    found[1].zero_()
    expected[1].zero_()
    torch.testing.assert_close(found, expected)


def old_and_new(x):
    old = x.clone()
    x.zero_()
    return old


def transpose_in_place(x):
    x.t().copy_(x.clone())
    return x.sum(0)


def swap(x, y):
    old = x.clone()
    x.copy_(y)
    y.copy_(old)
    return old


@pytest.mark.parametrize("options", ENGINES, ids=["engines", "torch"])
@pytest.mark.parametrize("layout", [(4, 1), (1, 4), (8, 1)])
@pytest.mark.parametrize("function", [old_and_new, transpose_in_place])
def test_a_value_from_before_a_write(function, layout, options):
    x = torch.randn(32).as_strided((4, 4), layout)
    check_twice(compile_for_test(function, **options), function, x)


def test_two_inputs_are_swapped():
    check_twice(compile_for_test(swap), swap, torch.randn(3), torch.randn(3))


class SwapBuffers(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("a", torch.randn(3))
        self.register_buffer("b", torch.randn(3))

    def forward(self, x):
        return swap(self.a, self.b) + x, self.a.clone()


def test_two_buffers_are_swapped():
    model = SwapBuffers()
    other = SwapBuffers()
    other.load_state_dict(model.state_dict())
    check_twice(compile_for_test(model), other, torch.randn(3))
    torch.testing.assert_close(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("first", [0, 2, 4], ids=["same", "overlapping", "apart"])
def test_inputs_overlap_otherwise_than_at_compilation(first):
    def model(x, y):
        x.add_(1)
        return x * y

    compiled = compile_for_test(model)
    with torch.no_grad():
        for start in (first, 4, 2, 0, 3):
            left = torch.randn(8)
            right = left.clone()
            found = compiled(left[:4], left[start : start + 4])
            torch.testing.assert_close(found, model(right[:4], right[start : start + 4]))
            torch.testing.assert_close(left, right)


def test_ahead_of_time_overlapping_inputs_of_a_model_that_writes():
    class Model(nn.Module):
        def forward(self, x, y):
            x.add_(1)
            return x * y, x.clone()

    memory = torch.randn(8)
    program = torch_stator.compile(
        Model(), (memory[:4].clone(), memory[4:].clone()), optimization_level=0
    )
    with torch.no_grad():
        other = memory.clone()
        torch.testing.assert_close(program(memory[:4], memory[4:]), Model()(other[:4], other[4:]))
        with pytest.raises(InvalidArgumentError, match="`x` and `y` share memory"):
            program(memory[:4], memory[2:6])


def test_ahead_of_time_a_value_from_before_a_write():
    model, other = SwapBuffers(), SwapBuffers()
    other.load_state_dict(model.state_dict())
    x = torch.randn(3)
    program = torch_stator.compile(model, (x,), optimization_level=0, min_block_size=1)
    check_twice(program, other, x)
    torch.testing.assert_close(model.state_dict(), other.state_dict())


# ---- weights


def make_net():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))


LAYOUTS = {
    "transposed in place": lambda w: setattr(w, "data", w.data.t()),
    "transposed": lambda w: nn.Parameter(torch.randn(8, 8).t()),
    "with gaps": lambda w: nn.Parameter(torch.randn(8, 16)[:, ::2]),
    "expanded": lambda w: nn.Parameter(torch.randn(8, 1).expand(8, 8), requires_grad=False),
}


@pytest.mark.filterwarnings("ignore::torch_stator.FallbackWarning")
@pytest.mark.parametrize("front", ["ahead of time", "torch.compile"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_weight_of_another_layout(name, front):
    model, x = make_net(), torch.randn(3, 8)
    if front == "torch.compile":
        compiled = compile_for_test(model)
    else:
        compiled = torch_stator.compile(model, (x,), optimization_level=0, min_block_size=1)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
        replaced = LAYOUTS[name](model[0].weight)
        if replaced is not None:
            model[0].weight = replaced
        torch.testing.assert_close(compiled(x), model(x))
        if name != "expanded":
            model[0].weight.mul_(2)  # counted
            torch.testing.assert_close(compiled(x), model(x))
            model[0].weight.data += 1  # not counted
            torch.testing.assert_close(compiled(x), model(x))
        model[0].weight = nn.Parameter(torch.randn(8, 8))
        torch.testing.assert_close(compiled(x), model(x))


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.double(),
        lambda model: setattr(model[0].weight, "data", torch.randn(16, 8)),
        lambda model: setattr(model[0].weight, "data", torch.randn(4, 16)),
    ],
    ids=["dtype", "larger", "reshaped"],
)
def test_ahead_of_time_a_weight_of_another_type(change):
    model, x = make_net(), torch.randn(3, 8)
    program = torch_stator.compile(model, (x,), optimization_level=0, min_block_size=1)
    change(model)
    with torch.no_grad(), pytest.raises(InvalidArgumentError, match="weight `0.weight`: expected"):
        program(x)


def test_ahead_of_time_tied_weights_part():
    model, x = make_net(), torch.randn(3, 8)
    model[2].weight = model[0].weight
    program = torch_stator.compile(model, (x,), optimization_level=0, min_block_size=1)
    with torch.no_grad():
        model[0].weight.mul_(2)
        torch.testing.assert_close(program(x), model(x))
        model[2].weight = nn.Parameter(torch.randn(8, 8))
        with pytest.raises(InvalidArgumentError, match=r"`0.weight` and `2.weight` were one"):
            program(x)


def test_threads_call_while_weights_change():
    model, x = make_net(), torch.randn(3, 8)
    compiled = compile_for_test(model)
    weight = model[0].weight.detach().clone()
    with torch.no_grad():
        expected = []
        for scale in (1, 2):
            model[0].weight.copy_(weight * scale)
            expected.append(model(x))
        compiled(x)
    wrong = []

    def call():
        with torch.no_grad():
            for _ in range(200):
                found = compiled(x)
                if not any(torch.allclose(found, value, atol=1e-5) for value in expected):
                    wrong.append(found)

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    scale = 1
    while any(thread.is_alive() for thread in threads):
        scale = 3 - scale
        model[0].weight.data = weight * scale  # at once: eager would see the one or the other
    for thread in threads:
        thread.join()
    assert not wrong
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


# ---- interruptions, forks, division


def test_an_interrupted_compilation_is_begun_anew(monkeypatch):
    model, x = make_net(), torch.randn(3, 8)
    compiled = compile_for_test(model)
    original = torch_stator.compiler._ffi.compile

    def interrupted(*args):
        monkeypatch.setattr(torch_stator.compiler._ffi, "compile", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(torch_stator.compiler._ffi, "compile", interrupted)
    torch_stator.reset_stats()
    with torch.no_grad():
        with pytest.raises(KeyboardInterrupt):
            compiled(x)
        torch.testing.assert_close(compiled(x), model(x))
    assert torch_stator.stats().engine_calls == 1


def in_child(function):
    """What `function` returns in a forked child, as text; None if it takes 60 s."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(function()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read() if select.select([pipe], [], [], 60)[0] else None
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return text


def test_a_forked_child_calls_and_compiles():
    model, x = nn.Sequential(nn.Linear(64, 64), nn.GELU()), torch.randn(512, 64)
    compiled, other = compile_for_test(model), compile_for_test(nn.Linear(64, 2))
    with torch.no_grad():
        expected = compiled(x)
        assert in_child(lambda: torch.allclose(compiled(x), expected, atol=1e-5)) == "True"
        assert in_child(lambda: other(x).shape) == "torch.Size([512, 2])"
        torch.testing.assert_close(compiled(x), expected)


class Rows(torch.utils.data.Dataset):
    """Each row is what the compiled model makes of it in a worker."""

    def __init__(self, compiled, x):
        self.compiled, self.x = compiled, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        with torch.no_grad():
            return self.compiled(self.x[i : i + 1])[0]


def test_workers_of_a_data_loader_call():
    model, x = make_net(), torch.randn(6, 8)
    compiled = compile_for_test(model)
    with torch.no_grad():
        compiled(x[:1])
        loader = torch.utils.data.DataLoader(Rows(compiled, x), batch_size=2, num_workers=2)
        torch.testing.assert_close(torch.cat(list(loader)), model(x))


QUOTIENTS = {
    "floor": lambda x, y: x // y,
    "trunc": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "remainder": torch.remainder,
    "fmod": torch.fmod,
}


@pytest.mark.parametrize("name", QUOTIENTS)
def test_integer_division(name):
    function = QUOTIENTS[name]
    compiled = compile_for_test(function)
    x, y = torch.arange(-8, 8), torch.arange(1, 17)
    torch.testing.assert_close(compiled(x, y), function(x, y))
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        compiled(x, y - 1)
    by_number = compile_for_test(lambda x: (function(x, 3), function(x, -4)))
    torch_stator.reset_stats()
    torch.testing.assert_close(by_number(x), (function(x, 3), function(x, -4)))
    assert torch_stator.stats().fallback_calls == 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        compile_for_test(lambda x: function(x, 0))(x)


def test_threads_call_while_a_loaded_program_is_refitted(tmp_path):
    model, x = make_net(), torch.randn(3, 8)
    torch_stator.save(torch_stator.compile(model, (x,), min_block_size=1), tmp_path / "it")
    program = torch_stator.load(tmp_path / "it")
    states, expected, wrong = [], [], []
    with torch.no_grad():
        for _ in range(2):
            states.append({name: value.clone() for name, value in model.state_dict().items()})
            expected.append(model(x))
            model[0].weight.mul_(2)

    def call():
        with torch.no_grad():
            for _ in range(200):
                found = program(x)
                if not any(torch.allclose(found, value, atol=1e-5) for value in expected):
                    wrong.append(found)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for state in reversed(states):
            torch_stator.refit(program, state)
    for thread in threads:
        thread.join()
    assert not wrong
