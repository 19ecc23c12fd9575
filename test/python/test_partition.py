"""Models of which torch runs a part: unsupported operators in every place."""

import pytest
import torch
import torch_stator
from conftest import check, compile_small
from torch import nn


class Split(nn.Module):
    """Torch runs frexp, of which we have no op."""

    def __init__(self, place):
        super().__init__()
        self.place = place
        self.fc1, self.fc2 = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        if self.place == "start":
            x = torch.add(*x.frexp())
        y = self.fc1(x).relu()
        if self.place == "middle":
            y, indices = y.frexp()
            y = y + indices
        if self.place == "branch":
            y = y + torch.add(*x.frexp()).exp()
        z = self.fc2(y)
        return z.frexp() if self.place == "end" else z


@pytest.mark.parametrize(
    ("place", "kinds"),
    [
        ("start", ["torch", "engine"]),
        ("middle", ["engine", "torch", "engine"]),
        ("end", ["engine", "torch"]),
        ("branch", ["torch", "engine"]),
    ],
)
def test_an_unsupported_operator(run, compilations, place, kinds):
    run(Split(place), torch.randn(3, 6), coverage=None)
    report = compilations[-1].report
    assert [part["kind"] for part in report["parts"]] == kinds
    (fallback,) = report["fallbacks"]
    assert fallback["op"].startswith("aten.frexp")
    assert "test_partition.py:" in fallback["location"]
    assert fallback["reason"]


def test_torch_runs_everything(run, compilations):
    class Model(nn.Module):
        def forward(self, x):
            return x.frexp()

    run(Model(), torch.randn(3, 4), coverage=0.0)
    assert compilations[-1].engines == [None]


def test_several_unsupported_operators_in_a_row(run):
    class Model(nn.Module):
        def forward(self, x, y):
            a, _ = (x + 1).frexp()
            b = torch.linalg.inv(a.T @ a + torch.eye(4)).sort(0).values
            u, s, v = torch.linalg.svd(b + y)
            return (u * s) @ v, s.exp()

    run(Model(), torch.randn(5, 4), torch.randn(4, 4), coverage=None)


def test_a_custom_operator(run, compilations):
    @torch.library.custom_op("stator_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    twice.register_fake(torch.empty_like)

    class Model(nn.Module):
        def forward(self, x):
            return twice(x.exp()).tanh()

    run(Model(), torch.randn(3, 4), coverage=None)
    assert "twice" in compilations[-1].report["fallbacks"][0]["op"]


def test_complex_numbers_are_left_to_torch(run):
    class Model(nn.Module):
        def forward(self, x):
            return torch.fft.rfft(x.exp()).abs() + 1

    run(Model(), torch.randn(3, 8), coverage=None)


def test_random_numbers_are_those_of_eager():
    class Model(nn.Module):
        def forward(self, x):
            return x.exp() + torch.randn(3, 4) * torch.rand(4)

    model = Model()
    compiled = compile_small(model)
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.manual_seed(3)
        actual = compiled(x)
        torch.manual_seed(3)
        torch.testing.assert_close(actual, model(x))


def test_a_graph_break(compilations):
    class Model(nn.Module):
        def forward(self, x):
            y = (x * 2).exp()
            torch._dynamo.graph_break()
            return y.sum(-1)

    compiled = compile_small(Model())
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), Model()(x))
    assert len(compilations) == 2


def test_explain():
    import torch_stator

    explanation = torch_stator.explain(
        Split("middle"), torch.randn(3, 6), options={"min_block_size": 1}
    )
    assert 0 < explanation.coverage < 1
    (fallback,) = explanation.fallbacks
    assert fallback.op == "aten.frexp.Tensor"
    text = str(explanation)
    assert "aten.frexp.Tensor" in text
    assert "test_partition.py:" in text
    assert explanation.graph_breaks == []


def test_explain_tells_graph_breaks():
    import torch_stator

    class Model(nn.Module):
        def forward(self, x):
            y = x.exp()
            torch._dynamo.graph_break()
            return y + 1

    explanation = torch_stator.explain(Model(), torch.randn(3))
    assert len(explanation.graphs) == 2
    assert len(explanation.graph_breaks) == 1
    assert "test_partition.py:" in explanation.graph_breaks[0]


class Branches(nn.Module):
    """Two graph breaks: a branch on data, and a call that dynamo cannot trace."""

    def forward(self, x):
        x = x.exp()
        if x.sum() > 0:
            x = x + 1
        torch._dynamo.graph_break()
        return x * 2


def test_explain_counts_graph_breaks_as_dynamo_does():
    import torch_stator

    model, x = Branches(), torch.randn(4)
    recipe = torch._dynamo.explain(model)(x)
    torch._dynamo.reset()
    explanation = torch_stator.explain(model, x, options={"min_block_size": 1})
    assert recipe.graph_break_count == len(explanation.graph_breaks) == 2
    assert len(explanation.graphs) == recipe.graph_count == 3
    data, call = explanation.graph_breaks
    assert "data-dependent" in data.lower()
    assert "graph_break()" in call
    for text in explanation.graph_breaks:
        assert "test_partition.py:" in text
        assert text in explanation.to_html().replace("&#x27;", "'").replace("&quot;", '"')
    assert "3 graph(s), 2 graph break(s)" in str(explanation)


class Doubles(nn.Module):
    """A product that only the reference kernels compute in an engine."""

    def forward(self, x):
        y = x.sigmoid() * 2 - x
        z = (y.double() @ y.double().mT).float()
        return (z.relu() + z.tanh()).exp() * z.sigmoid()


def test_what_an_engine_would_slow_down(run, compilations):
    run(Doubles(), 0.1 * torch.randn(9, 9))
    run(Doubles(), 0.1 * torch.randn(96, 96), coverage=None)
    (fallback,) = compilations[-1].report["fallbacks"]
    assert "only a reference kernel" in fallback["reason"]
    assert fallback["location"].startswith("python/test_partition.py:")


def test_whatever_an_engine_can_run_where_all_is_asked_for():
    x = 0.1 * torch.randn(96, 96)
    program = torch_stator.compile(Doubles(), (x,), require_full_compilation=True)
    assert [part["kind"] for part in program.report["parts"]] == ["engine"]
    check(program, Doubles(), x)


def test_an_engine_that_would_cost_more_than_it_saves(run, compilations):
    class Model(nn.Module):
        def forward(self, x):
            return torch.add(*x.frexp()).frexp()

    run(Model(), torch.randn(3, 4), coverage=None)
    assert "less time than the call" in compilations[-1].report["fallbacks"][1]["reason"]
    run(Model(), torch.randn(300, 400), coverage=None)
    kinds = [part["kind"] for part in compilations[-1].report["parts"]]
    assert kinds == ["torch", "engine", "torch"]


@torch.library.custom_op("stator_test::tells_layout", mutates_args=())
def tells_layout(x: torch.Tensor) -> torch.Tensor:
    """A kernel that reads memory as if it were row-major, as some of torch's own do."""
    return torch.as_strided(x, (x.numel(),), (1,)).clone()


@tells_layout.register_fake
def _(x):
    return x.new_empty(x.numel())


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_reads_a_copy_in_the_layout_that_it_was_made_for(dynamic):
    def model(x):
        return tells_layout(
            (x * 2 + 1).exp().transpose(0, 1).clone(memory_format=torch.contiguous_format)
        )

    compiled = torch.compile(
        model, backend="stator", dynamic=dynamic, options={"min_block_size": 1}
    )
    x = torch.randn(3, 4)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))


@torch.library.custom_op("stator_test::halve", mutates_args=())
def halve(x: torch.Tensor) -> torch.Tensor:
    return x.half()


@halve.register_fake
def _(x):
    return torch.empty_like(x, dtype=torch.float32)


def test_torch_makes_another_dtype_than_it_says(compilations):
    def model(x):
        y = halve(x + 1)
        return y * 3 + x, y.sum()

    x = torch.randn(4, 5)
    y = (x + 1).half().float()
    with torch.no_grad():
        compiled = compile_small(model)
        for _ in range(2):
            torch.testing.assert_close(compiled(x), (y * 3 + x, y.sum()))
    kinds = [part["kind"] for part in compilations[-1].report["parts"]]
    assert kinds == ["engine", "torch", "engine"]
