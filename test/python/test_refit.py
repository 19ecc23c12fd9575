"""Weights that change after compilation: every way to change one, seen on the next call.

The number of refits says whether a change was seen; the result, whether it was honoured.
"""

import gc

import numpy as np
import pytest
import torch
import torch_stator
from conftest import check
from torch import nn
from torch_stator import InvalidArgumentError, _ffi, freeze, runner


class Net(nn.Module):
    """Weights that are used in place, packed, folded and merged."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, bias=False)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 6)
        self.q, self.k = nn.Linear(6, 6), nn.Linear(6, 6)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x):
        x = self.bn(self.conv(x)).relu().mean((2, 3))
        x = self.fc(x)
        return self.q(x) * self.k(x) * self.scale


def replace_parameter(model):
    model.fc.weight = nn.Parameter(torch.randn(6, 8))


def replace_scalar(model):
    model.scale = nn.Parameter(torch.tensor(2.0))  # equal to the old one
    model.scale.data.fill_(3.0)


def update_in_place(model):
    model.conv.weight.mul_(1.5)


def update_one_element(model):
    model.conv.weight[3, 1, 0, 2] += 1


def update_through_data(model):
    model.q.weight.data += torch.randn(6, 6)


def swap_data(model):
    model.fc.weight.data = torch.randn(6, 8)


def write_by_numpy(model):
    model.k.weight.detach().numpy()[:] = np.random.default_rng(0).normal(size=(6, 6))


def load_state(model):
    torch.manual_seed(7)
    model.load_state_dict(Net().state_dict())


def assign_state(model):
    torch.manual_seed(8)
    model.load_state_dict(Net().state_dict(), assign=True)


def change_statistics(model):
    model.bn.running_var.mul_(4)
    model.bn.running_mean.add_(0.5)


CHANGES = [
    replace_parameter,
    replace_scalar,
    update_in_place,
    update_one_element,
    update_through_data,
    swap_data,
    write_by_numpy,
    load_state,
    assign_state,
    change_statistics,
]


@pytest.fixture(params=[False, True], ids=["before", "behind"])
def checked(request, monkeypatch):
    """Weights are looked at before an engine's call, or, as on a GPU, behind it."""
    if request.param:
        monkeypatch.setattr(runner, "_is_on_gpu", lambda part: isinstance(part, _ffi.Engine))


@pytest.mark.usefixtures("checked")
@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_change_is_seen_on_the_next_call(run, compilations, change):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 8, 8))
    with torch.no_grad():
        change(model)
        check(compiled, model, torch.randn(2, 3, 8, 8))
        check(compiled, model, torch.randn(2, 3, 8, 8))
    assert len(compilations) <= 2  # dynamo traces anew where a guard of its own sees the change


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_a_change_is_seen_without_guards(change):
    """Where torch was told to leave out its guards on modules (docs/python.md)."""
    options = {
        "guard_filter_fn": torch.compiler.skip_guard_on_all_nn_modules_unsafe,
        "min_block_size": 1,
    }
    model, x = Net().eval(), torch.randn(2, 3, 8, 8)
    compiled = torch.compile(model, backend="stator", options=options)
    with torch.no_grad():
        check(compiled, model, x)
        change(model)
        check(compiled, model, x)


def test_nothing_is_refitted_without_a_change(run, compilations):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 8, 8))
    (engine,) = compilations[0].engines
    with torch.no_grad():
        for _ in range(3):
            compiled(torch.randn(2, 3, 8, 8))
        assert engine.num_refits() == 0
        update_in_place(model)
        for _ in range(3):
            compiled(torch.randn(2, 3, 8, 8))
        assert engine.num_refits() == 1
    assert len(compilations) == 1


def test_a_channels_last_weight_is_refitted(run):
    model = Net().eval().to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    compiled = run(model, x)
    with torch.no_grad():
        model.conv.weight.data += 1
        check(compiled, model, x)


def test_a_lora_is_merged_and_unmerged(run):
    model = nn.Sequential(nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 4))
    compiled = run(model, torch.randn(5, 32))
    delta = torch.randn(32, 2) @ torch.randn(2, 32)
    x = torch.randn(5, 32)
    with torch.no_grad():
        base = model(x)
        model[0].weight.data += delta
        check(compiled, model, x)
        model[0].weight.data -= delta
        torch.testing.assert_close(compiled(x), base)


def test_tied_weights(run):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(10, 6)
            self.head = nn.Linear(6, 10, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, ids):
            return self.head(self.embed(ids))

    model = Tied()
    ids = torch.tensor([[1, 2, 9]])
    compiled = run(model, ids)
    with torch.no_grad():
        model.embed.weight.mul_(2)
        check(compiled, model, ids)


def test_a_weight_that_a_torch_node_reads(run):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 4).T)

        def forward(self, x):
            return torch.linalg.matrix_exp(self.weight) @ x + (x @ self.weight)

    model = Model()
    compiled = run(model, torch.randn(4, 4), coverage=None)
    with torch.no_grad():
        model.weight.mul_(0.5)
        check(compiled, model, torch.randn(4, 4))


MIB = 2**20


class Shared(nn.Module):
    """A weight of 16 MiB that two engines read, packed alike, with torch between them."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2048, 2048, bias=False)

    def forward(self, x):
        return self.fc(self.fc(x).abs() + x).tanh()


def derived_bytes(engines):
    return sum(engine.derived_bytes() for engine in engines if isinstance(engine, _ffi.Engine))


def test_a_weight_of_two_engines_stays_one_copy(run, compilations):
    model, x = Shared(), torch.randn(16, 2048)
    compiled = run(model, x, coverage=None, torch_executed_ops={"aten.abs"})
    engines = compilations[0].engines
    assert sum(engine is not None for engine in engines) == 2
    assert derived_bytes(engines) <= 17 * MIB
    with torch.no_grad():
        for change in (lambda w: w.mul_(1.5), lambda w: w.data.neg_()):
            change(model.fc.weight)
            check(compiled, model, x)
        model.fc.weight.data = torch.randn(2048, 2048) / 32
        check(compiled, model, x)
    assert derived_bytes(engines) <= 17 * MIB


def test_a_loaded_program_takes_one_copy_for_two_engines(tmp_path):
    model, x = Shared().requires_grad_(False), torch.randn(16, 2048)
    options = {"optimization_level": 0, "min_block_size": 1, "torch_executed_ops": {"aten.abs"}}
    program = torch_stator.compile(model, (x,), **options)
    program.save(tmp_path / "it.stator")
    loaded, other = torch_stator.load(tmp_path / "it.stator"), Shared().requires_grad_(False)
    check(loaded, model, x)
    torch_stator.refit(loaded, other)
    check(loaded, other, x)
    assert derived_bytes(loaded.runner.parts) <= 17 * MIB


def test_engines_of_a_shared_weight_are_refitted_apart(run, compilations):
    model, x = Shared(), torch.randn(16, 2048)
    compiled = run(model, x, coverage=None, torch_executed_ops={"aten.abs"})
    first, _ = (engine for engine in compilations[0].engines if engine is not None)
    old, new = model.fc.weight.detach(), torch.randn(2048, 2048) / 32
    torch_stator.refit(first, {"fc.weight": new})
    with torch.no_grad():
        expected = (((x @ new.T).abs() + x) @ old.T).tanh()
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)
    assert derived_bytes(compilations[0].engines) > 31 * MIB  # of two weights now


@pytest.fixture
def twice(compilations):
    """A model compiled for two batch sizes, what calls it, and the engine for each."""
    model = Shared().requires_grad_(False)
    options = {"optimization_level": 0, "min_block_size": 1}
    compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    for rows in (16, 48):
        check(compiled, model, torch.randn(rows, 2048))
    first, second = (engine for one in compilations for engine in one.engines)
    return model, compiled, first, second


def test_two_compilations_share_packed_copies(twice):
    model, compiled, *engines = twice
    assert derived_bytes(engines) <= 17 * MIB
    changes = [lambda w: w.mul_(1.5), lambda w: w.data.neg_(), lambda w: w.data.add_(0.01)]
    for change, sizes in zip(changes, ((16, 48), (48, 16), (16, 48)), strict=True):
        change(model.fc.weight)
        for rows in sizes:
            check(compiled, model, torch.randn(rows, 2048))
    model.fc.weight.data = torch.randn(2048, 2048) / 32
    for rows in (48, 16):
        check(compiled, model, torch.randn(rows, 2048))
    assert derived_bytes(engines) <= 17 * MIB


def test_engines_of_two_compilations_are_refitted_apart(twice):
    model, compiled, first, _ = twice
    old, new = model.fc.weight, torch.randn(2048, 2048) / 32
    torch_stator.refit(first, {"fc.weight": new})
    for rows, weight in ((16, new), (48, old)):
        x = torch.randn(rows, 2048)
        expected = (((x @ weight.T).abs() + x) @ weight.T).tanh()
        torch.testing.assert_close(compiled(x), expected, rtol=1e-4, atol=1e-4)


def test_packed_copies_outlive_the_compilation_that_made_them(twice, compilations):
    model, compiled, _, second = twice
    del compiled
    compilations.clear()
    torch._dynamo.reset()
    gc.collect()
    assert derived_bytes([second]) <= 17 * MIB
    x = torch.randn(16, 2048)
    check(torch_stator.compile(model, (x,), min_block_size=1), model, x)
    assert derived_bytes([second]) <= 17 * MIB


def test_a_weight_that_moves_gets_another_group():
    weights = [torch.randn(2), nn.Parameter(torch.randn(4, 4))]
    group = freeze.find_group(weights[1:])
    assert freeze.find_group(weights).same_as(group)
    freeze._groups[weights[0]] = freeze._groups[weights[1]] = (torch.device("cuda", 0), group)
    assert not freeze.find_group(weights).same_as(group)


def test_two_modules_with_equal_names(run):
    """dynamo names a weight within its module: both of these have a `0.weight`."""
    first, second = (nn.Sequential(nn.Linear(4, 4)).eval() for _ in range(2))

    def model(x):
        return second(first(x).relu())

    x = torch.randn(3, 4)
    compiled = run(model, x)
    for module in (second, first):
        module[0].weight.data = torch.randn(4, 4)
        with torch.no_grad():
            check(compiled, model, x)


# ---- torch_stator.refit


@pytest.mark.parametrize("as_module", [True, False])
@pytest.mark.parametrize("ahead", [True, False])
def test_refit_of_a_compiled_model(run, compilations, ahead, as_module):
    model, other = Net().eval(), Net().eval()
    x = torch.randn(2, 3, 8, 8)
    compiled = torch_stator.compile(model, (x,)) if ahead else run(model, x)
    torch_stator.refit(compiled, other if as_module else other.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), other(x))
    assert len(compilations) == (0 if ahead else 1)


def test_refit_of_an_engine(run, compilations):
    model, other = Net().eval(), Net().eval()
    x = torch.randn(2, 3, 8, 8)
    run(model, x)
    (engine,) = compilations[0].engines
    torch_stator.refit(engine, other)
    torch.testing.assert_close(engine.function(False)(x), other(x).detach())
    with pytest.raises(InvalidArgumentError, match="no weight of the engine"):
        torch_stator.refit(engine, {"fc.weigth": torch.ones(6, 8)})


def test_refit_refuses_what_does_not_fit(run):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 8, 8))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(InvalidArgumentError, match="`fc.weigth`: did you mean `fc.weight`"):
        torch_stator.refit(compiled, {"fc.bias": torch.ones(6), "fc.weigth": torch.ones(6, 8)})
    with pytest.raises(InvalidArgumentError, match=r"\[6, 8\], found torch.float32\[8, 6\]"):
        torch_stator.refit(compiled, {"fc.bias": torch.ones(6), "fc.weight": torch.ones(8, 6)})
    with pytest.raises(InvalidArgumentError, match="found int"):
        torch_stator.refit(3, {})
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "changed before an error"
