"""Dynamic sizes: one engine for a range of sizes, right at each, and compiled as often as said."""

import pytest
import torch
import torch.nn.functional as F
from conftest import check, compile_small
from torch import nn
from torch.export import Dim
from torch.utils import _pytree as pytree
from torch_stator import InvalidArgumentError, load
from torch_stator import compile as compile_ahead

OPTIONS = {"optimization_level": 0, "min_block_size": 1}


class ConvNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x):
        x = F.relu(self.bn(self.conv1(x)))
        x = F.max_pool2d(F.hardswish(self.conv2(x)) + x, 2)
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Block(nn.Module):
    """A transformer's block, its sizes taken from the input."""

    def __init__(self, width=16, heads=2):
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x):
        batch, length, width = x.shape
        y = self.norm(x)
        q, k, v = (
            layer(y).view(batch, length, self.heads, -1).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(y.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(x)


class TorchInTheMiddle(nn.Module):
    """A frexp, which torch runs, of a tensor that carries no size alone; then sizes again."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 6)

    def forward(self, x):
        batch, length, width = x.shape
        flat = self.fc(x).relu().reshape(batch * length, width)
        flat = torch.add(*flat.frexp()) * 2
        return flat.reshape(batch, length, width).softmax(1) + length, batch * length


class Parts(nn.Module):
    """What the op families below take besides the input, which is [batch, length, 8]."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.table = nn.Embedding(64, 8)
        self.position = nn.Buffer(torch.randn(1, 64, 8))
        self.ids = nn.Buffer(torch.arange(64)[None])
        self.causal = nn.Buffer(torch.ones(64, 64, dtype=torch.bool).tril()[None, None])
        self.linear, self.conv = nn.Linear(8, 8), nn.Conv1d(8, 4, 3, padding=1)
        self.layer_norm, self.group_norm = nn.LayerNorm(8), nn.GroupNorm(2, 8)

    def forward(self, x):
        return self.function(self, x)


def attend(x, mask):
    q = x[:, None]
    return F.scaled_dot_product_attention(q, q, q, attn_mask=mask)


def scores_where(m, x):
    length = x.shape[1]
    masked = torch.where(m.causal[0, 0, :length, :length], x @ x.mT, torch.finfo(x.dtype).min)
    return masked.softmax(-1)


def rotary(m, x):
    angles = torch.outer(torch.arange(x.shape[1]).float(), 1e4 ** (-torch.arange(8) / 8))
    return x * angles.cos() + x.flip(-1) * angles.sin()


FAMILIES = {
    "pointwise": lambda m, x: torch.where(x > 0, x.exp(), x * x.shape[1] + x.shape[0]),
    "linear": lambda m, x: F.gelu(m.linear(x)),
    "matmul": lambda m, x: torch.bmm(x, x.mT),
    "conv": lambda m, x: m.conv(x.mT).relu(),
    "pool": lambda m, x: F.avg_pool1d(F.pad(x.mT, (1, 1)), 2),
    "norms": lambda m, x: (m.layer_norm(x), m.group_norm(x.mT)),
    "reductions": lambda m, x: (x.sum(1), x.mean((0, 1)), x.amax(1), x.argmax(1), x.std(-1)),
    "softmax": lambda m, x: x.softmax(1),
    "scan": lambda m, x: x.cumsum(1),
    "window on a table": lambda m, x: x + m.table.weight[: x.shape[1]],
    "window at the end": lambda m, x: x + m.position[:, 64 - x.shape[1] :],
    "window of ids": lambda m, x: x + m.table(m.ids[:, : x.shape[1]]),
    "product with a window": lambda m, x: x @ m.position[0, : x.shape[1]].T,
    "arange": lambda m, x: x + m.table(torch.arange(2, x.shape[1] + 2)),
    "index": lambda m, x: x.index_select(1, torch.arange(x.shape[1]).flip(0)),
    "numbers": lambda m, x: x.clamp(-x.shape[1], x.shape[0] - x.shape[1]),
    "diagonal": lambda m, x: (x.diagonal(1, 1, 2), x.diagonal(0, 0, 1)),
    "expand": lambda m, x: m.table.weight[:1].expand(x.shape[0], x.shape[1], 8) + x,
    "concat": lambda m, x: torch.cat([m.position[:, :1].expand(x.shape[0], -1, -1), x], 1),
    "pad": lambda m, x: F.pad(x, (0, 0, 1, 2)),
    "repeat": lambda m, x: x.repeat(1, 2, 1).repeat_interleave(2, 1),
    "views": lambda m, x: x.unflatten(2, (2, 4)).transpose(1, 2).flatten(0, 1) * 2,
    "rotary": rotary,
    "attention": lambda m, x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
    "mask from a buffer": lambda m, x: attend(x, m.causal[:, :, : x.shape[1], : x.shape[1]]),
    "mask from arange": lambda m, x: attend(
        x, torch.arange(x.shape[1])[:, None] >= torch.arange(x.shape[1])
    ),
    "mask of padding": lambda m, x: attend(
        x, (x[:, None, None, :, 0] > -9).expand(x.shape[0], 1, x.shape[1], x.shape[1])
    ),
    "mask of infinities": lambda m, x: attend(
        x, torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
    ),
    "scores with a window": scores_where,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family):
    model = Parts(FAMILIES[family]).eval()
    shapes = ({0: Dim("batch", min=1, max=8), 1: Dim("length", min=1, max=62)},)
    program = compile_ahead(
        model,
        (torch.randn(2, 5, 8),),
        dynamic_shapes=shapes,
        require_full_compilation=True,
        **OPTIONS,
    )
    with torch.no_grad():
        for batch, length in ((2, 5), (1, 1), (8, 62), (1, 7), (3, 1), (5, 33)):
            x = torch.randn(batch, length, 8)
            torch.testing.assert_close(program(x), model(x))


def tiny_bert():
    import transformers

    config = transformers.BertConfig(
        vocab_size=99,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=48,
    )
    return transformers.BertModel(config)


def tiny_gpt2():
    import transformers

    config = transformers.GPT2Config(
        vocab_size=99,
        n_positions=48,
        n_embd=32,
        n_layer=2,
        n_head=2,
        use_cache=False,
        bos_token_id=1,
        eos_token_id=1,
    )
    return transformers.GPT2LMHeadModel(config)


class Tokens(nn.Module):
    """A model as a function of token ids that gives its first output."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids)[0]


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt2])
def test_a_transformer_of_any_length(compilations, make):
    model = Tokens(make()).eval()
    sizes = [(2, 12), (2, 48), (3, 7), (5, 2), (2, 31)]
    run_sizes(model, lambda n, t: [torch.randint(99, (n, t))], sizes, dynamic=True)
    assert len(compilations) == 1
    assert len(compilations[0].report["parts"]) == 1
    assert whole(compilations[0])


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny_bert, tiny_gpt2])
def test_a_transformer_of_any_length_ahead_of_time(make):
    model = Tokens(make()).eval()
    shapes = ({0: Dim("batch", min=1, max=8), 1: Dim("length", min=1, max=48)},)
    options = {"dynamic_shapes": shapes, "require_full_compilation": True, **OPTIONS}
    program = compile_ahead(model, (torch.randint(99, (2, 12)),), **options)
    with torch.no_grad():
        for batch, length in ((2, 12), (1, 1), (8, 48), (3, 1), (1, 31)):
            ids = torch.randint(99, (batch, length))
            torch.testing.assert_close(program(ids), model(ids))
    with torch.no_grad(), pytest.raises(InvalidArgumentError, match=r"in \[1, 48\].*\[2, 49\]"):
        program(torch.randint(99, (2, 49)))


@pytest.mark.parametrize("dynamic", [False, True])
def test_views_of_arguments(compilations, dynamic):
    """AOTAutograd makes them again from the strides and the offset of what the backend returns."""

    def model(x):
        heads = x.view(x.shape[0], x.shape[1], 2, 4).transpose(1, 2)
        return heads.reshape(-1, x.shape[1], 4), x[:, 1:], x.mT, x.exp()

    compiled = torch.compile(model, backend="stator", options=OPTIONS, dynamic=dynamic)
    with torch.no_grad():
        for size in ((2, 5), (1, 7), (1, 9)):
            x = torch.randn(*size, 8)
            results, expected = compiled(x), model(x)
            torch.testing.assert_close(results, expected)
            assert [r.stride() for r in results] == [e.stride() for e in expected]
            assert results[1].data_ptr() == x[:, 1:].data_ptr()


def run_sizes(model, make_inputs, sizes, **options):
    compiled = torch.compile(model, backend="stator", options=OPTIONS, **options)
    with torch.no_grad():
        for size in sizes:
            check(compiled, model, *make_inputs(*size))


def whole(compilation):
    report = compilation.report
    return report["num_nodes_in_engines"] == report["num_nodes"] > 0


def mlp():
    return nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 4)).eval()


def test_a_second_size_makes_one_dynamic_engine(compilations):
    run_sizes(mlp(), lambda n: [torch.randn(n, 16)], [(4,), (7,), (129,), (2,), (1,), (7,), (1,)])
    assert len(compilations) == 3  # 4; then a range from 2; then 1, which dynamo tells apart
    assert all(map(whole, compilations))


def test_all_sizes_share_one_packed_copy(compilations):
    model = nn.Sequential(nn.Linear(256, 384), nn.GELU(), nn.Linear(384, 256)).eval()
    options = {"min_block_size": 1}  # the ways to run a kernel are measured
    compiled = torch.compile(model, backend="stator", options=options, dynamic=True)
    held = []
    with torch.no_grad():
        for rows in (128, 2, 7, 33, 55, 96, 256, 600):
            check(compiled, model, torch.randn(rows, 256))
            held.append(compilations[0].engines[0].derived_bytes())
    assert len(compilations) == 1
    assert len(set(held)) == 1
    assert held[0] > 0


def test_dynamic_from_the_start(compilations):
    run_sizes(mlp(), lambda n: [torch.randn(n, 16)], [(4,), (7,), (301,), (2,)], dynamic=True)
    assert len(compilations) == 1


@pytest.mark.parametrize("dynamic", [True, None])
def test_static_engines_of_dynamic_sizes(compilations, dynamic):
    """As under dynamic=False, whatever torch takes for dynamic: sizes, strides, numbers."""

    def model(x, y, n):
        return (x[:, ::2] * n + y.shape[0], x.t().exp() + n, y.nonzero() * 2)

    options = {**OPTIONS, "dynamic_shapes": "static"}
    compiled = torch.compile(model, backend="stator", options=options, dynamic=dynamic)
    with torch.no_grad():
        for n in (4, 6, 4, 9, 6):
            check(compiled, model, torch.randn(n, n + 1), torch.arange(n) % 3, n)
    texts = [e.plan_text() for c in compilations for e in c.engines if e is not None]
    assert len(texts) >= 3
    assert not any("symbol" in text for text in texts)


def test_a_dynamic_mark_contradicts_static_engines():
    x = torch.randn(4, 16)
    torch._dynamo.mark_dynamic(x, 0)
    options = {**OPTIONS, "dynamic_shapes": "static"}
    compiled = torch.compile(mlp(), backend="stator", options=options)
    with torch.no_grad(), pytest.raises(Exception, match="marked .* as dynamic"):
        compiled(x)


def test_mark_dynamic(compilations):
    model = mlp()
    compiled = torch.compile(model, backend="stator", options=OPTIONS)
    with torch.no_grad():
        for rows in (8, 2, 31, 64):
            x = torch.randn(rows, 16)
            torch._dynamo.mark_dynamic(x, 0, min=2, max=64)
            torch.testing.assert_close(compiled(x), model(x))
        assert len(compilations) == 1
        assert whole(compilations[0])
        assert "s" in compilations[0].engines[0].plan_text().partition("in [2, 64]")[0]
        check(compiled, model, torch.randn(65, 16))  # dynamo compiles anew
        assert len(compilations) == 2


@pytest.mark.parametrize("size", [(2, 9, 7), (4, 16, 18), (5, 33, 20)])
def test_convolutions(compilations, size):
    sizes = [size, (7, 21, 12), (2, 40, 31)]
    run_sizes(ConvNet().eval(), lambda n, h, w: [torch.randn(n, 3, h, w)], sizes, dynamic=True)
    assert len(compilations) == 1
    assert whole(compilations[0])


def test_attention(compilations):
    sizes = [(2, 7), (3, 64), (5, 2), (2, 33)]
    run_sizes(Block().eval(), lambda n, t: [torch.randn(n, t, 16)], sizes, dynamic=True)
    assert len(compilations) == 1
    assert whole(compilations[0])


def test_torch_runs_a_part(compilations):
    sizes = [(2, 7), (3, 8), (5, 2)]
    model = TorchInTheMiddle().eval()
    run_sizes(model, lambda n, t: [torch.randn(n, t, 6)], sizes, dynamic=True)
    assert len(compilations) == 1
    report = compilations[0].report
    assert [part["kind"] for part in report["parts"]] == ["engine", "torch", "engine"]
    assert [fallback["op"] for fallback in report["fallbacks"]] == ["aten.frexp.Tensor"]


def test_a_dynamic_number(compilations):
    class Model(nn.Module):
        def forward(self, x, n):
            return (x.exp() * n).sum(-1)

    run_sizes(Model(), lambda n: [torch.randn(n, 4), n - 20], [(5,), (6,), (9,)], dynamic=True)


def test_a_number_that_is_a_size(compilations):
    class Model(nn.Module):
        def forward(self, x, n):
            y = torch.relu(x[:, :n]) * 2
            return y + torch.arange(n), x.new_zeros(n, 3) + x[0, :3], F.pad(y, (0, n)).exp()

    def make(n):
        return [torch.randn(2, 20), n]

    run_sizes(Model(), make, [(5,), (6,), (20,), (1,), (0,)], dynamic=True)
    assert [engine.num_inputs() for engine in compilations[0].engines] == [2]


def test_a_number_that_may_be_negative_is_left_to_torch(compilations):
    run_sizes(Padded(), lambda n: [torch.randn(2, 20), n], [(5,), (-6,), (0,)], dynamic=True)
    assert "its sizes depend on" in compilations[-1].report["fallbacks"][0]["reason"]


def test_a_size_that_is_a_sum(compilations):
    class Model(nn.Module):
        def forward(self, x, y):
            z = torch.cat([x, y], 1)
            return z.softmax(1), z.flatten().exp(), torch.arange(z.shape[1]) * 2

    def make(a, b):
        return [torch.randn(2, a, 3), torch.randn(2, b, 3)]

    run_sizes(Model(), make, [(4, 5), (7, 2), (3, 3)], dynamic=True)


class Padded(nn.Module):
    def forward(self, x, n):
        return F.pad(x, (0, n)).exp()


# ---- ahead of time


def test_ahead_of_time(tmp_path):
    model = Block().eval()
    shapes = ({0: Dim("batch", min=1, max=8), 1: Dim("length", min=1, max=50)},)
    program = compile_ahead(model, (torch.randn(2, 12, 16),), dynamic_shapes=shapes, **OPTIONS)
    program.save(tmp_path / "block.stator")
    for callee in (program, load(tmp_path / "block.stator")):
        with torch.no_grad():
            for batch, length in ((2, 12), (1, 1), (8, 50), (3, 1), (1, 37)):
                x = torch.randn(batch, length, 16)
                torch.testing.assert_close(callee(x), model(x))
        out_of_range = pytest.raises(
            InvalidArgumentError, match=r"in \[1, 8\].* found float32\[9, 12, 16\]"
        )
        with torch.no_grad(), out_of_range:
            callee(torch.randn(9, 12, 16))


def test_sizes_that_depend_on_each_other():
    class Model(nn.Module):
        def forward(self, x, y):
            return x + y[::2], y.exp()

    half = Dim("half", min=1, max=100)
    program = compile_ahead(
        Model(),
        (torch.randn(3), torch.randn(6)),
        dynamic_shapes=({0: half}, {0: 2 * half}),
        **OPTIONS,
    )
    for n in (1, 3, 50):
        inputs = torch.randn(n), torch.randn(2 * n)
        torch.testing.assert_close(program(*inputs), Model()(*inputs))
    with pytest.raises(InvalidArgumentError, match="input `y`: expected float32"):
        program(torch.randn(3), torch.randn(5))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.chunk(2),
        lambda x: x[1:].transpose(0, 1),
        lambda x: (x * 2).chunk(2),
        lambda x: (y := x + 1, y[1:], y.t()),
        lambda x: (x + 1, x.t()),
    ],
)
@torch.no_grad()
def test_outputs_that_are_views(function):
    compiled = torch.compile(function, backend="stator", dynamic=True, options=OPTIONS)
    for size in (4, 6):
        x = torch.randn(size, 5)
        results, expected = (pytree.tree_leaves(f(x)) for f in (compiled, function))
        torch.testing.assert_close(results, expected, check_stride=True)
        for result, true in zip(results, expected, strict=True):
            assert (result.data_ptr() == x.data_ptr()) == (true.data_ptr() == x.data_ptr())


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic"])
@torch.no_grad()
def test_resizing_to_sizes_of_another_tensor(mode, compilations):
    def resize(x, y):
        return F.interpolate(x * 2, size=(y.shape[2] + 1, y.shape[3]), mode=mode) + 1

    compiled = torch.compile(resize, backend="stator", dynamic=True, options=OPTIONS)
    for height, width in ((5, 7), (9, 4)):
        check(compiled, resize, torch.randn(1, 2, 6, 8), torch.randn(1, 1, height, width))
    assert len(compilations) == 1


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.t() + 1,
        lambda x: torch.cat([x.t(), x.t()]),
        lambda x: x.t().softmax(-1),
        lambda x: (x.t() + 1).sum(0, keepdim=True),
        lambda x: torch.relu(x[None, :, :, None].expand(2, -1, -1, 3).permute(0, 3, 1, 2)),
        lambda x: (x.t().exp(), x.t().exp().contiguous()),
        lambda x: (x.t() * 2).as_strided((2, 2), (1, 2)),
        lambda x: torch.zeros_like(x.t()),
    ],
)
@torch.no_grad()
def test_outputs_have_the_strides_of_eager(function, dynamic):
    compiled = torch.compile(function, backend="stator", dynamic=dynamic, options=OPTIONS)
    for size in (4, 6):
        x = torch.randn(size, 5)
        results, expected = (pytree.tree_leaves(f(x)) for f in (compiled, function))
        torch.testing.assert_close(results, expected, check_stride=True)


def test_slices_with_steps(compilations):
    """What two slices with steps join, and slices that a size may cut short."""

    def model(x):
        turned = torch.stack([-x[..., 1::2], x[..., 0::2]], -1).flatten(-2)
        both = torch.cat([x[..., 1::2], x[..., 0::2]], 0)
        return turned, both, x[:, ::3].exp(), x[:, 1:-1:2] * 2, x[:, :5:2] + 1, x[:, 3:1].exp()

    compiled = compile_small(model, dynamic=True)
    for n in (8, 12, 6):
        check(compiled, model, torch.randn(n + 1, n))
    (compilation,) = compilations
    assert not compilation.report["fallbacks"]
