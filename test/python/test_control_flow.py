"""torch.cond, torch.while_loop and map: their graphs run in engines, and torch decides between
them."""

import copy

import pytest
import torch
import torch_stator
from torch import nn
from torch._higher_order_ops.map import map as map_over


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)


class Cond(Two):
    def forward(self, x):
        y = torch.cond(x.sum() > 0, lambda x: self.a(x).relu(), lambda x: self.b(x).tanh(), (x,))
        return y + 1


class Nested(Two):
    def forward(self, x):
        def above(x):
            return torch.cond(x.sum() > 9, lambda x: self.a(x) * 2, lambda x: self.b(x) - 3, (x,))

        return torch.cond(x.sum() > 0, above, lambda x: self.b(x).tanh(), (x,)) + 1


class Loop(Two):
    def forward(self, x):
        def body(i, x):
            return i + 1, (self.a(x) * 1.1 - self.b(x)).tanh()

        return torch.while_loop(lambda i, x: i < 5, body, (torch.tensor(0), x))


class LoopOnData(Two):
    def forward(self, x):
        return torch.while_loop(
            lambda x: x.sum() < 50, lambda x: (self.a(x).abs() + self.b(x).abs() + 1 + x,), (x,)
        )


class Map(Two):
    def forward(self, x):
        return map_over(lambda row, y: (self.a(row) * y, self.b(row).tanh()), x, x[0].clone())


NUM_BODIES = {Cond: 2, Nested: 4, Loop: 2, LoopOnData: 2, Map: 1}
INPUTS = [torch.rand(3, 4) / 2, torch.rand(5, 4) * 3, -torch.rand(3, 4), -torch.rand(2, 4)]


def compile_small(model, **kwargs):
    options = {"min_block_size": 1, "optimization_level": 0}
    return torch.compile(model, backend="stator", options=options, **kwargs)


def check(compiled, model, inputs=INPUTS):
    with torch.no_grad():
        for x in inputs:
            torch.testing.assert_close(compiled(x), model(x))


def bodies(compilation):
    return [one for one in compilation.all() if one is not compilation]


@pytest.mark.parametrize(
    "dynamic", [pytest.param(False, marks=pytest.mark.slow), True], ids=["static", "dynamic"]
)
@pytest.mark.parametrize("kind", NUM_BODIES)
def test_as_in_eager_also_with_other_weights(kind, dynamic, compilations):
    model = kind().eval()
    compiled = compile_small(model, dynamic=dynamic)
    check(compiled, model)
    assert len(bodies(compilations[0])) == NUM_BODIES[kind]
    assert all(any(body.engines) for body in bodies(compilations[0]))
    count = len(compilations)
    with torch.no_grad():
        model.a.weight.mul_(1.5)
        check(compiled, model)
        model.b.bias.data += 1
        check(compiled, model)
        model.a.weight = nn.Parameter(torch.randn(4, 4))
        check(compiled, model)
        model.b.load_state_dict(nn.Linear(4, 4).state_dict())
        check(compiled, model)
    assert len(compilations) == count, "a change of weights compiled again"
    model.a.weight.data = torch.randn(4, 4).t()
    check(compiled, model)
    model.a.weight.data[0, 0] += 3
    check(compiled, model)


@pytest.mark.parametrize("kind", NUM_BODIES)
def test_ahead_of_time(kind):
    model = kind().eval()
    program = torch_stator.compile(model, (INPUTS[0],), min_block_size=1, optimization_level=0)
    assert any(any(body.engines) for body in bodies(program.compilation))
    inputs = [x for x in INPUTS if len(x) == 3]
    check(program, model, inputs)
    model.a.weight.data = torch.randn(4, 4)
    check(program, model, inputs)
    check(torch.export.export(program.module(), (INPUTS[0],)).module(), model, inputs)
    with pytest.raises(torch_stator.UnsupportedError, match="reads a graph"):
        program.save("unused.stator")


def test_a_weight_whose_memory_is_transposed():
    model = Cond().eval()
    model.a.weight = nn.Parameter(torch.randn(4, 4).t())
    compiled = compile_small(model)
    check(compiled, model)
    with torch.no_grad():
        model.a.weight.mul_(2)
    check(compiled, model)


def test_small_graphs_stay_in_torch(compilations):
    model = Cond().eval()
    compiled = torch.compile(model, backend="stator")
    check(compiled, model)
    assert not any(engine for one in compilations[0].all() for engine in one.engines)


def test_a_graph_that_only_torch_can_run(compilations):
    def model(x):
        return torch.cond(
            x.sum() > 0, lambda x: torch.linalg.svd(x)[1], lambda x: x.exp().sum(1) * 2, (x,)
        )

    check(compile_small(model), model, [x for x in INPUTS if len(x) == 3])
    assert [any(body.engines) for body in bodies(compilations[0])].count(True) >= 1


def test_a_branch_in_training_mode_runs_in_torch():
    dropout = nn.Dropout(0.5)

    def model(x):
        return torch.cond(x.sum() > 0, lambda x: dropout(x), lambda x: x * 2 + 1, (x,))

    compiled, x = compile_small(model), torch.ones(100, 4)
    with torch.no_grad():
        zeros = [(compiled(x) == 0) for _ in range(2)]
    assert all(0 < zero.sum() < 400 for zero in zeros)
    assert not torch.equal(*zeros)
    check(compiled, model, [-x])


def test_a_branch_that_writes():
    def model(x, state):
        def count(x):
            state.add_(1)
            return x * state

        return torch.cond(x.sum() > 0, count, lambda x: x.clone(), (x,))

    compiled = compile_small(model)
    left, right = torch.ones(3, 4), torch.ones(3, 4)
    with torch.no_grad():
        for x in (INPUTS[0], INPUTS[2], INPUTS[0]):
            torch.testing.assert_close(compiled(x, left), model(x, right))
            torch.testing.assert_close(left, right)


def test_results_of_several_types():
    y = torch.randn(4, 3)

    def model(x, n):
        return torch.cond(
            x.sum() > 0,
            lambda x: {"product": x @ y, "others": (x + n, x > 0)},
            lambda x: {"product": x[:, :3] - n, "others": (x * 2, x < 0)},
            (x,),
        )

    compiled = compile_small(model, dynamic=True)
    with torch.no_grad():
        for x in INPUTS:
            torch.testing.assert_close(compiled(x, 3), model(x, 3))


def test_a_loop_that_counts_in_python_and_one_that_never_runs():
    def counts(x):
        return torch.while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2 + i), (0, x))[1]

    def never(x):
        return torch.while_loop(lambda x: x.sum() > 1e9, lambda x: (x * 2 + 1,), (x,))

    for model in (counts, never):
        check(compile_small(model), model)
    x = torch.ones(2, 4)
    with torch.no_grad():
        (result,) = compile_small(never)(x)
    assert result.data_ptr() != x.data_ptr()


def test_the_report_shows_each_graph():
    report = torch_stator.explain(Nested().eval(), INPUTS[0], options={"min_block_size": 1})
    assert len(report.graphs) == 5
    text = str(report)
    assert "control flow: torch decides what runs next" in text
    assert "note: graph `false_graph_0` of cond" in text


@pytest.mark.slow
def test_verify_and_the_python_runtime():
    model = Nested().eval()
    assert torch_stator.verify(model, (INPUTS[1],), min_block_size=1).ok
    compiled = torch.compile(
        model, backend="stator", options={"min_block_size": 1, "use_python_runtime": True}
    )
    check(compiled, model)


def test_gradients_and_inference_mode():
    model = Cond().eval()
    compiled = compile_small(model)
    check(compiled, copy.deepcopy(model))
    with pytest.warns(torch_stator.FallbackWarning, match="requires gradients"):
        compiled(INPUTS[0]).sum().backward()
    assert model.a.weight.grad is not None
    with torch.inference_mode():
        torch.testing.assert_close(compiled(INPUTS[0]), model(INPUTS[0]))


@torch.compiler.nested_compile_region
def region(x, layer, choose):
    y = layer(x).relu() * 2
    return torch.cond(x.sum() > 0, lambda x: x.exp(), lambda x: x - 1, (y,)) if choose else y


@pytest.mark.parametrize("choose", [False, True])
def test_regions_are_part_of_the_graph_around_them(choose, compilations):
    layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))

    def model(x):
        for layer in layers:
            x = region(x, layer, choose).tanh()
        return x

    compiled = compile_small(model)
    check(compiled, model)
    if not choose:
        assert compilations[0].report["num_engines"] == 1
    with torch.no_grad():
        layers[1].weight.mul_(2)
    check(compiled, model)
