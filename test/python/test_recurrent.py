"""LSTM, GRU and plain RNN under torch.compile: in one graph and one engine, if dynamo may trace
them (torch._dynamo.config.allow_rnn); results, strides and weights as in eager in any case."""

import pytest
import torch
import torch_stator
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

LAYERS = {
    "lstm": lambda: nn.LSTM(4, 5, batch_first=True),
    "lstm of two layers and directions": lambda: nn.LSTM(4, 5, 2, bidirectional=True),
    "lstm without bias": lambda: nn.LSTM(4, 5, bias=False, dropout=0.5, num_layers=2),
    "gru": lambda: nn.GRU(4, 5),
    "gru of two layers and directions": lambda: nn.GRU(
        4, 5, 2, batch_first=True, bidirectional=True
    ),
    "rnn": lambda: nn.RNN(4, 5, 3, nonlinearity="relu"),
    "rnn of two directions": lambda: nn.RNN(4, 5, bidirectional=True),
}


class Model(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.first, self.layer = nn.Linear(4, 4), layer

    def forward(self, x, *state):
        return self.layer(self.first(x).relu(), *state)


@pytest.fixture
def allow_rnn():
    with torch._dynamo.config.patch(allow_rnn=True):
        yield


def compile_and_check(model, *inputs, dynamic=False):
    options = {"min_block_size": 1, "optimization_level": 0}
    compiled = torch.compile(model, backend="stator", dynamic=dynamic, options=options)
    check(compiled, model, *inputs)
    return compiled


def check(compiled, model, *inputs):
    with torch.no_grad():
        found, expected = (torch.utils._pytree.tree_leaves(f(*inputs)) for f in (compiled, model))
    torch.testing.assert_close(found, expected)
    strides = [
        [t.stride() for t in tensors if isinstance(t, torch.Tensor)]
        for tensors in (found, expected)
    ]
    assert strides[0] == strides[1]


@pytest.mark.parametrize("name", LAYERS)
def test_in_one_engine(name, allow_rnn, compilations):
    model = Model(LAYERS[name]()).eval()
    compiled = compile_and_check(model, torch.randn(3, 2, 4))
    (compilation,) = compilations
    assert compilation.report["num_engines"] == 1
    assert not compilation.report["fallbacks"]
    with torch.no_grad():
        model.layer.weight_hh_l0.mul_(2)
    check(compiled, model, torch.randn(3, 2, 4))
    assert len(compilations) == 1, "other weights compiled again"
    model.layer.weight_ih_l0 = nn.Parameter(torch.randn_like(model.layer.weight_ih_l0))
    check(compiled, model, torch.randn(3, 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "gru of two layers and directions"])
def test_dynamic_sizes_and_a_state(name, allow_rnn):
    model = Model(LAYERS[name]()).eval()
    compiled = compile_and_check(model, torch.randn(3, 2, 4), dynamic=True)
    for shape in [(5, 2, 4), (3, 6, 4), (1, 1, 4), (6, 4)]:
        check(compiled, model, torch.randn(shape))
    states = [torch.randn(1, 3, 5), torch.randn(1, 3, 5)]
    state = tuple(states) if name == "lstm" else torch.randn(4, 3, 5)
    check(compiled, model, torch.randn(3, 2, 4), state)


def test_what_engines_do_not_know_runs_in_torch(allow_rnn, compilations):
    compile_and_check(Model(nn.LSTM(4, 5, proj_size=3)).eval(), torch.randn(3, 2, 4))
    compile_and_check(Model(nn.GRU(4, 5)).eval(), torch.randn(200, 2, 4))
    reasons = [one.report["fallbacks"][0]["reason"] for one in compilations]
    assert reasons == [
        "an LSTM with projections",
        "a recurrent layer over a symbolic or a large number of steps",
    ]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("allowed", [False, True])
def test_packed_sequences(allowed):
    layer = nn.LSTM(4, 5, 2, bidirectional=True).eval()

    def model(x, lengths):
        packed = pack_padded_sequence(x.tanh() * 2, lengths, enforce_sorted=False)
        output, state = layer(packed)
        return output.data + 1, output.batch_sizes, state

    with torch._dynamo.config.patch(allow_rnn=allowed):
        compile_and_check(model, torch.randn(6, 3, 4), torch.tensor([4, 6, 1]))


def test_dynamo_may_not_trace_them_unless_told(compilations):
    model = Model(nn.LSTM(4, 5)).eval()
    compile_and_check(model, torch.randn(3, 2, 4))
    assert compilations[0].report["num_engines"] == 1, "what is around the layer"
    breaks = torch_stator.explain(model, torch.randn(3, 2, 4)).graph_breaks
    assert any("allow_rnn" in text for text in breaks)


def test_dropout_between_layers_stays_random(allow_rnn):
    model = Model(nn.LSTM(4, 50, 2, dropout=0.5)).train()
    compiled = torch.compile(model, backend="stator", options={"min_block_size": 1})
    x = torch.randn(3, 2, 4)
    with torch.no_grad():
        first, second = (compiled(x)[0] for _ in range(2))
    assert not torch.equal(first, second)


def test_torch_traces_as_before_outside_of_a_compilation(allow_rnn):
    compile_and_check(Model(nn.GRU(4, 5)).eval(), torch.randn(3, 2, 4))
    torch._dynamo.reset()
    model = Model(nn.GRU(4, 5)).eval()
    check(torch.compile(model, backend="aot_eager"), model, torch.randn(3, 2, 4))
    exported = torch.export.export(model, (torch.randn(3, 2, 4),)).run_decompositions({})
    assert "recurrent" not in exported.graph_module.code
