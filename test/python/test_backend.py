"""compile_small(model): results, inputs of every kind, modes of autograd."""

import subprocess
import sys
import threading

import pytest
import torch
import torch.nn.functional as F
from conftest import check, compile_small
from torch import nn
from torch_stator import FallbackWarning, InvalidArgumentError, UnsupportedError


class Net(nn.Module):
    """Convolution, batch norm, linear, layer norm."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)
        self.norm = nn.LayerNorm(5)

    def forward(self, x):
        x = F.relu(self.bn(self.conv(x))).mean((2, 3))
        return self.norm(self.fc(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(2, 7, 3, 2, 8).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(2, 7, 16))


def test_convolution(run):
    run(Net().eval(), torch.randn(2, 3, 9, 7))


def test_attention(run):
    run(Attention().eval(), torch.randn(2, 7, 16))


@pytest.mark.slow
def test_the_backend_is_found_without_an_import():
    code = (
        "import torch; f = torch.compile(torch.nn.ReLU().eval(), backend='stator'); "
        "print(f(torch.tensor([-1., 2.])).tolist())"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[0.0, 2.0]"


@pytest.mark.parametrize("structure", ["tuple", "dict", "nested", "none"])
def test_structures_of_outputs(run, structure):
    make = {
        "tuple": lambda y, z: (y, z),
        "dict": lambda y, z: {"y": y, "z": z},
        "nested": lambda y, z: [y, (z, {"y": y})],
        "none": lambda y, z: (y, None, 3),
    }[structure]

    class Model(nn.Module):
        def forward(self, x):
            return make(x.exp(), x.sum(-1))

    run(Model(), torch.randn(3, 4))


@pytest.mark.parametrize("shape", [(0, 4), (1, 4), (7, 4)])
def test_odd_sizes(run, shape):
    run(nn.Sequential(nn.Linear(4, 3), nn.GELU()), torch.randn(shape))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_float_types(run, dtype):
    run(nn.Sequential(nn.Linear(4, 3), nn.ReLU()).to(dtype), torch.randn(5, 4, dtype=dtype))


def test_a_graph_without_inputs(run):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(3, 4))

        def forward(self):
            return self.weight.exp() @ self.weight.T

    run(Model())


def test_constants_made_in_forward(run):
    class Model(nn.Module):
        def forward(self, x):
            table = torch.tensor([1.0, 2.0, 4.0])
            return x * table + torch.arange(3) + torch.ones(3, dtype=torch.float64)

    run(Model(), torch.randn(2, 3), coverage=None)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.stack([x, x], -1)[..., 0],
        lambda x: x[:1].expand(4, -1),
        lambda x: F.pad(x, (3, 2))[:, 3:-2],
    ],
    ids=["transposed", "gaps", "expanded", "offset"],
)
def test_layouts_of_inputs(run, layout):
    run(nn.Sequential(nn.Linear(6, 3), nn.ReLU()), layout(torch.randn(4, 6)))


def test_channels_last(run):
    model = Net().eval().to(memory_format=torch.channels_last)
    run(model, torch.randn(2, 3, 9, 7).to(memory_format=torch.channels_last))


def test_the_same_tensor_twice_and_overlapping_views(run):
    class Model(nn.Module):
        def forward(self, x, y):
            return x.exp() - y * 2

    compiled = run(Model(), torch.randn(4, 4), torch.randn(4, 4))
    with torch.no_grad():
        x = torch.randn(6, 4)
        torch.testing.assert_close(compiled(x[:4], x[:4]), Model()(x[:4], x[:4]))
        torch.testing.assert_close(compiled(x[:4], x[2:]), Model()(x[:4], x[2:]))


def test_a_lazily_negated_input():
    compiled = compile_small(nn.Softplus(), dynamic=False)
    x = torch.complex(torch.zeros(4), torch.randn(4)).conj().imag
    assert x.is_neg()
    with torch.no_grad(), pytest.warns(FallbackWarning, match="negated"):
        torch.testing.assert_close(compiled(x), F.softplus(x.resolve_neg()))


# ---- mutation


def test_a_mutated_input(run):
    class Model(nn.Module):
        def forward(self, x, y):
            x.mul_(2).add_(y)
            return x.sum(-1)

    run(Model(), torch.randn(3, 4), torch.randn(4))


def test_a_mutated_view_of_an_input(run):
    class Model(nn.Module):
        def forward(self, x):
            x[:, 1:3].zero_()
            return x + 1

    run(Model(), torch.randn(3, 4), coverage=None)


def test_mutated_inputs_that_alias(run):
    class Model(nn.Module):
        def forward(self, x, y):
            x.add_(1)
            return y * 2

    compiled = run(Model(), torch.randn(4), torch.randn(4))
    with torch.no_grad():
        base, other = (torch.arange(6.0) for _ in range(2))
        torch.testing.assert_close(compiled(base[:4], base[2:]), Model()(other[:4], other[2:]))
        torch.testing.assert_close(base, other)


def test_outputs_that_alias_an_input():
    class Model(nn.Module):
        def forward(self, x):
            return x.view(-1), x, x.exp()

    compiled = compile_small(Model())
    with torch.no_grad():
        x = torch.randn(2, 3)
        flat, same, _ = compiled(x)
        assert flat.data_ptr() == x.data_ptr()
        assert same is x


def test_a_mutated_buffer(compilations):
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", torch.zeros(1))
            self.register_buffer("mean", torch.randn(4))

        def forward(self, x):
            self.count += 1
            return (x - self.mean) * self.count

    model = Counter()
    compiled = compile_small(model)
    x = torch.randn(3, 4)
    with torch.no_grad():
        for call in range(1, 4):
            torch.testing.assert_close(compiled(x), (x - model.mean) * call)
            assert model.count.item() == call
    assert len(compilations) == 1


# ---- modes


def test_no_grad_and_inference_mode(run):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 9, 7))
    with torch.inference_mode():
        check(compiled, model, torch.randn(2, 3, 9, 7))


def test_a_model_made_in_inference_mode(compilations):
    with torch.inference_mode():
        model = Net().eval()
        compiled = compile_small(model)
        check(compiled, model, torch.randn(2, 3, 9, 7))
        model.fc.weight.mul_(2)
        check(compiled, model, torch.randn(2, 3, 9, 7))
    assert len(compilations) == 1


def test_an_input_from_inference_mode_outside_of_it(run):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 9, 7))
    with torch.inference_mode():
        x = torch.randn(2, 3, 9, 7)
    with torch.no_grad():
        check(compiled, model, x)


def test_gradients_are_those_of_eager():
    model = Net().eval()
    compiled = compile_small(model)
    x = torch.randn(2, 3, 9, 7, requires_grad=True)
    with pytest.warns(FallbackWarning, match="requires gradients"):
        compiled(x).square().sum().backward()
    actual = [x.grad, *(p.grad for p in model.parameters())]
    x.grad = None
    model.zero_grad()
    model(x).square().sum().backward()
    torch.testing.assert_close(actual, [x.grad, *(p.grad for p in model.parameters())])


def test_an_input_that_requires_gradients_warns_once(recwarn):
    compiled = compile_small(nn.Sequential(nn.Linear(5, 7), nn.Tanh()).requires_grad_(False))
    x = torch.randn(2, 5, requires_grad=True)
    for _ in range(3):
        assert compiled(x).requires_grad
    texts = [str(w.message) for w in recwarn if w.category is FallbackWarning]
    assert len(texts) == 1
    assert "requires gradients" in texts[0]


def test_gradients_after_a_call_without(run):
    model = nn.Linear(4, 3)
    compiled = run(model, torch.randn(2, 4))
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.warns(FallbackWarning, match="requires gradients"):
        compiled(x).sum().backward()
    torch.testing.assert_close(x.grad, model.weight.sum(0).expand(2, 4))


def test_frozen_parameters_use_engines_with_grad_mode_on(compilations):
    model = Net().eval().requires_grad_(False)
    check(compile_small(model), model, torch.randn(2, 3, 9, 7))
    assert len(compilations) == 1


class UpdatedNorm(nn.BatchNorm1d):
    """A batch norm by an op that always trains."""

    def forward(self, x):
        update = torch.ops.aten._batch_norm_with_update
        return update(x, self.weight, self.bias, self.running_mean, self.running_var, 0.1, 1e-5)[0]


@pytest.mark.parametrize(
    "make",
    [Net, lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), lambda: UpdatedNorm(4)],
)
def test_training_mode_runs_in_eager(make):
    model, other = make().train(), make().train()
    other.load_state_dict(model.state_dict())
    compiled = compile_small(model)
    x = torch.randn(2, 3, 9, 7) if make is Net else torch.randn(5, 4)
    torch.manual_seed(1)
    with torch.no_grad(), pytest.warns(FallbackWarning, match="training mode"):
        actual = compiled(x)
    with torch.no_grad():
        torch.manual_seed(1)
        torch.testing.assert_close(actual, other(x))
    torch.testing.assert_close(dict(model.state_dict()), dict(other.state_dict()))


def test_threads_share_a_compiled_model(run):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 9, 7))
    inputs = [torch.randn(2, 3, 9, 7) for _ in range(8)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    failures = []

    def work(x, y):
        with torch.no_grad():
            for _ in range(20):
                try:
                    torch.testing.assert_close(compiled(x), y)
                except AssertionError as error:
                    failures.append(error)

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(inputs, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_several_sizes(compilations):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    compiled = compile_small(model, dynamic=False)
    with torch.no_grad():
        for rows in (1, 5, 2, 5):
            check(compiled, model, torch.randn(rows, 4))
    assert len(compilations) == 3


# ---- options


def test_an_unknown_option_names_the_nearest():
    options = {"min_blok_size": 2}
    compiled = torch.compile(nn.ReLU(), backend="stator", options=options)
    with pytest.raises(Exception, match="`min_blok_size`: did you mean `min_block_size`"):
        compiled(torch.randn(3))
    assert options == {"min_blok_size": 2}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_block_size": 0}, "min_block_size"),
        ({"optimization_level": 9}, "from 0 to 5"),
        ({"debug": "yes"}, "a bool"),
        ({"torch_executed_ops": "aten.add"}, "a collection"),
    ],
)
def test_option_values_are_checked(options, message):
    from torch_stator import CompilationSettings

    with pytest.raises(InvalidArgumentError, match=message):
        CompilationSettings.from_options(options)


@pytest.mark.parametrize(
    "op", [torch.ops.aten.exp.default, torch.ops.aten.exp, "torch.ops.aten.exp", "aten.exp.default"]
)
def test_torch_executed_ops(run, compilations, op):
    class Model(nn.Module):
        def forward(self, x):
            return torch.relu(x * 2).exp() + x

    run(Model(), torch.randn(3, 4), coverage=None, torch_executed_ops={op})
    kinds = [part["kind"] for part in compilations[-1].report["parts"]]
    assert kinds == ["engine", "torch", "engine"]
    assert compilations[-1].report["fallbacks"][0]["op"] == "aten.exp.default"


def test_min_block_size_of_infinity_builds_nothing(run, compilations):
    run(Net().eval(), torch.randn(2, 3, 9, 7), coverage=0.0, min_block_size=float("inf"))
    assert all(engine is None for engine in compilations[-1].engines)


def test_weights_as_inputs(run):
    model = Net().eval()
    compiled = run(model, torch.randn(2, 3, 9, 7), freeze_weights=False)
    with torch.no_grad():
        model.fc.weight.mul_(2)
        check(compiled, model, torch.randn(2, 3, 9, 7))


def test_errors_of_the_compiler_are_python_exceptions():
    from torch_stator import _ffi

    with pytest.raises(InvalidArgumentError):
        _ffi.compile_text("graph @g(", "{}")
    with pytest.raises(ValueError, match="expected"):
        _ffi.run_ir(
            "graph @g(%x: f32[2]) {\n  %0 = exp(%x) : f32[2]\n  return %0\n}", [torch.ones(3)]
        )
    assert issubclass(UnsupportedError, NotImplementedError)


def test_debug_tells_what_became_of_the_graph(run, capsys):
    run(nn.ReLU(), torch.randn(3), debug=True)
    assert "1 op in 1 engine" in capsys.readouterr().err
