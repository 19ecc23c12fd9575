"""ATen overloads through the importer: programs as torch.export writes them, with composite and
in-place ops, and after run_decompositions(), compiled and run without Python, against eager.

Each case is a function of tensors that returns several results of one family of overloads."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

CASES = {}


def case(*inputs):
    """Registers a function with its inputs: sizes of float tensors, or tensors."""

    def register(function):
        CASES[function.__name__] = (function, inputs)
        return function

    return register


def integers(low, high, *sizes, dtype=torch.int64):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(low, high, sizes, generator=generator, dtype=dtype)


SPECIAL = torch.tensor([[float("nan"), float("inf"), -float("inf"), 0.0], [2.5, -0.5, 30.0, -30.0]])


# ---- elementwise
@case((3, 4), integers(-5, 6, 3, 4), integers(0, 2, 3, 4, dtype=torch.bool), ())
def promotion(x, i, b, scalar):
    pairs = [(x, i), (i, b), (b, b), (x, scalar), (i, scalar), (x.double(), x), (x.half(), i)]
    sums = [p + q for p, q in pairs] + [p * q for p, q in pairs]
    return [*sums, *(p / q for p, q in pairs), i + 1.5, i // 2, i / 2, b + 1, x.half() * 0.1, 2 - i]


@case(SPECIAL)
def functions(x):
    names = (
        "floor ceil trunc round sign neg abs square exp2 log1p tan atan sinh isnan isinf isfinite"
    )
    return [getattr(torch, name)(x) for name in names.split()] + [torch.nan_to_num(x), x.frac()]


@case(SPECIAL)
def activations(x):
    return [
        *(F.relu6(x), F.silu(x), F.elu(x, 0.3), F.selu(x), F.celu(x, 1.7), F.softplus(x, 2.0, 5.0)),
        *(F.hardswish(x), F.hardtanh(x, -2, 1.5), F.leaky_relu(x, 0.2), F.threshold(x, 0.5, 7.0)),
        *(F.logsigmoid(x), F.hardshrink(x), F.softshrink(x), F.hardsigmoid(x), F.glu(x, 1)),
    ]


@case((3, 4))
def powers(x):
    x = x.abs() + 0.1
    return [x**2, x**3, x**0.5, x**-0.5, x**-1, x**-2, x**2.5, 2**x, x**x, x**0]


@case((3, 4), integers(-9, 9, 3, 4))
def division(x, i):
    modes = [torch.div(x, x.flip(0), rounding_mode=mode) for mode in ("floor", "trunc")]
    return [*modes, i // 4, i % 4, i % -4, torch.fmod(i, -4), x % 0.3, torch.atan2(x, x.flip(0))]


@case((3, 4), (4,), integers(0, 2, 3, 4, dtype=torch.bool))
def selection(x, bound, mask):
    fills = [x.masked_fill(mask, float("-inf")), torch.where(mask, x, 0.0), torch.where(mask, 1, 0)]
    clamps = [
        x.clamp(-0.2, 1),
        x.clamp(min=0),
        x.clamp(max=bound),
        torch.clamp(x, bound, bound + 1),
    ]
    return [*fills, *clamps, torch.addcmul(x, x, bound, value=2.5), torch.lerp(x, x + 1, 0.3)]


# ---- views, joins, indices
@case((3, 4, 5))
def views(x):
    return [
        *(
            x.view(12, 5),
            x.reshape(3, -1),
            x.transpose(0, 2),
            x.permute(2, 0, 1),
            x.mT,
            x.flatten(1),
        ),
        *(x.unflatten(2, (5, 1)), x.movedim(0, 2), x.expand(2, 3, 4, 5), x[:, 1:3], x[:, ::2]),
        *(x[..., -2:], x[0, :, 1], x[-1], x.narrow(1, 1, 2), *x.split(2, 1), *x.chunk(3, 2)),
        *(*x.unbind(0), *x.split([1, 3], 1), x[:, :1].squeeze(1), x.unsqueeze(-1)),
    ]


@case((3, 4, 5), (2, 4, 5))
def joins(x, y):
    repeats = [x.repeat(2, 1, 3), x.repeat(2, 1, 1, 2), x.tile(2), x.repeat_interleave(2, 1)]
    rolls = [x.roll(-2, 2), x.roll((1, 2), (0, 1)), x.roll(7), x.flip((0, 2)), x.tril(), x.triu(1)]
    diffs = x.diff(), x.diff(dim=0, prepend=y), (x > 0).diff(dim=0, append=y > 0)
    return [torch.cat([x, y]), torch.stack([x, x * 2], -1), *repeats, *rolls, *diffs]


@case((3, 4, 5), integers(0, 3, 7))
def indices(x, j):
    gathers = [x.gather(0, j[:1, None, None].expand(1, 4, 5)), F.embedding(j, x[0])]
    return [x[j], x[:, j], x[j, j], x[j, :, j], x[j[:, None], j], x.index_select(0, j), *gathers]


@case((5, 4), (2, 4), torch.tensor([3, 0]))
def index_writes(x, y, j):
    scatters = [torch.slice_scatter(x, y, 0, 1, 3), torch.slice_scatter(x, y, 0, 0, 4, 2)]
    puts = [torch.index_put(x, (j,), y), torch.index_put(x, (j - 5,), y), x.index_copy(0, j, y)]
    masked = x.index_put((x > 0,), torch.tensor(0.5))
    return [*scatters, *puts, masked, x.index_fill(1, j, 2.0), x.scatter(0, j[:, None], 2.0)]


# ---- reductions
@case((3, 4, 5))
def reductions(x):
    return [
        *(
            x.sum(),
            x.mean((0, 2)),
            x.var(1),
            x.std((0, 1), correction=0),
            x.prod(1),
            x.amin((0, 1)),
        ),
        *(*torch.var_mean(x, 2), *x.max(1), *x.min(-1, keepdim=True), x.argmin(1), x.cumsum(-1)),
        *(x.norm(dim=1), x.norm(3, 1), x.norm(float("inf"), 1), x.logsumexp((0, 2)), x.any(1)),
        *(x.softmax(0), x.log_softmax(1), x.count_nonzero(1), x.half().softmax(1, torch.float32)),
    ]


@case(SPECIAL, (3, 0, 2))
def special_reductions(x, empty):
    return [
        x.amax(1),
        x.sum(1),
        x.argmax(1),
        x.softmax(1),
        empty.sum(1),
        empty.prod(1),
        empty.all(1),
    ]


# ---- products, windows, norms
@case((2, 4, 5), (2, 5, 6), (5,))
def products(x, y, v):
    adds = [torch.addmm(v[0], x[0], y[0], alpha=2.0, beta=0.5), torch.baddbmm(x @ y, x, y, beta=0)]
    return [
        x @ y,
        torch.bmm(x, y),
        x @ v,
        v @ y,
        v @ v,
        x @ y[0],
        *adds,
        F.linear(x, y[0].t(), y[0, 0]),
    ]


@case((2, 4, 9, 8), (6, 4, 3, 3), (6,), (6, 2, 3, 3), (6, 4, 2, 4))
def convolutions(x, w, bias, grouped, even):
    same = [F.conv2d(x, w, bias, padding="same"), F.conv2d(x, even, padding="same")]
    strided = [F.conv2d(x, w, None, 2, 1), F.conv2d(x, w, bias, (2, 1), (0, 2), (1, 2))]
    line = F.conv1d(x[:, :, 0], w[:, :, 0])
    return [
        F.conv2d(x, w, bias),
        *strided,
        F.conv2d(x, grouped, groups=2),
        *same,
        F.conv2d(x[0], w),
        line,
    ]


@case((2, 4, 9, 8), (4, 6, 3, 3), (6,))
def transposed_convolutions(x, w, bias):
    return [F.conv_transpose2d(x, w, bias), F.conv_transpose2d(x, w, None, 2, 1, 1)]


@case((2, 4, 9, 8))
def windows(x):
    pools = [
        F.max_pool2d(x, 3, 2, 1),
        F.max_pool2d(x, (2, 3), ceil_mode=True),
        F.avg_pool2d(x, 3, 2, 1),
    ]
    adaptive = [F.adaptive_avg_pool2d(x, 1), F.adaptive_avg_pool2d(x, (3, 5))]
    pads = [F.pad(x, (1, 2, 3, 0), value=2.0), F.pad(x, (1, 2, 0, 3), mode="reflect")]
    images = [F.interpolate(x, scale_factor=2), F.pixel_shuffle(x, 2), F.channel_shuffle(x, 2)]
    return [*pools, F.max_pool2d(x, 2, return_indices=True)[1], *adaptive, *pads, *images]


@case((1, 4, 9, 8), (4,), (4,))
def norms(x, w, bias):
    batch = F.batch_norm(x, bias, w.abs() + 0.1, w, bias)
    rows = F.layer_norm(x.permute(0, 2, 3, 1), (4,), w, bias, 1e-3)
    return [batch, rows, F.group_norm(x, 2, w, bias), F.instance_norm(x), F.rms_norm(x, (8,))]


@case((2, 4, 7, 8), (2, 4, 5, 8), integers(0, 2, 7, 5, dtype=torch.bool))
def attention(q, k, mask):
    mask = mask | (torch.arange(5) == 0)
    masked = F.scaled_dot_product_attention(q, k, k, mask)
    causal = F.scaled_dot_product_attention(q, q, q, is_causal=True, scale=0.3)
    return [F.scaled_dot_product_attention(q, k, k), masked, causal]


@case((3, 4, 5))
def creation(x):
    ranges = [torch.arange(2, 9, 2), torch.arange(0.0, 1.0, 0.25), torch.linspace(3, -1, 4)]
    filled = [torch.ones_like(x), x.new_full((2,), 3.0), torch.zeros_like(x, dtype=torch.int64)]
    return (
        [r + x[0, 0, 0] for r in ranges]
        + [f + x[0, 0, 0] for f in filled]
        + [torch.eye(2, 4) + x[:1, :2, :4]]
    )


# ---- in place, through views
@case((3, 4, 5))
def writes_to_slices(x):
    y = x * 1
    y.add_(1)
    y[0] = 0
    y[:, 1].mul_(3)
    y[..., ::2] += 10
    y[1, 2, 3] = 5
    y.masked_fill_(y > 9, 4.0).clamp_(min=-0.5)
    return [y]


@case((3, 4, 5))
def writes_to_views(x):
    y = x.clone()
    turned = y.transpose(0, 1)
    turned.relu_()
    flat = y.view(-1)
    flat[3] = 7
    flat += 1
    left, right = y.split([1, 3], 1)
    left.zero_()
    right.copy_(right * 2)
    return [y, turned, flat, left, right]


@case((3, 4, 5))
def writes_to_copies(x):
    y = x + 0
    same = y.contiguous()
    same.add_(1)
    copy = y.transpose(0, 2).contiguous()
    copy.zero_()
    view = y.reshape(12, 5)
    view.mul_(2)
    other = y.permute(2, 0, 1).reshape(-1)
    other.zero_()
    broadcast = y[0:1].expand(3, 4, 5)
    y.sub_(1, alpha=2)
    return [y, same, copy, view, other, broadcast + 0]


# ---- what torch makes of other ops
@case((2, 3, 4), (2, 4, 5), (4,), (2, 5, 3))
def einsums(x, y, v, z):
    equations = ["bij,bjk->bik", "bij,bjk->bki", "bij,bjk->ik", "bij,bjk", "...ij,...jk->...ik"]
    pairs = [torch.einsum(equation, x, y) for equation in equations]
    single = [torch.einsum("bij->jb", x), torch.einsum("bij->i", x), torch.einsum("i,j->ij", v, v)]
    return [*pairs, *single, torch.einsum("bij,bjk,bki->b", x, y, z), torch.einsum("bij,j", x, v)]


@case((4, 5), (5, 4), (4, 4), (3, 4), (3, 4), (2, 4, 4))
def composite_products(x, y, z, p, q, w):
    angles = [
        F.cosine_similarity(p, q),
        F.cosine_similarity(p, q, 0),
        F.cosine_similarity(w, p[:1]),
    ]
    return [torch.chain_matmul(x, y, z), torch.kron(p, q[:2, 0]), F.bilinear(p, q, w), *angles]


@case((5, 3), (30, 3), (2, 40, 3))
def distances(x, y, z):
    ways = [torch.cdist(x, x, p) for p in (0.0, 1.0, 2.0, 3.0, float("inf"))]
    return [*ways, torch.cdist(x, y), torch.cdist(z, y), F.pdist(x), F.pdist(x, 1), F.pdist(x[:1])]


@case((3, 4), (3, 4), (4,), integers(0, 3, 2, 4), integers(0, 5, 2, 3))
def composite_joins(x, y, v, place, classes):
    stacks = [
        torch.hstack([x, y]),
        torch.hstack([v, v]),
        torch.vstack([x, v]),
        torch.dstack([x, y]),
    ]
    turns = [torch.rot90(x, k) for k in range(-1, 4)]
    diagonals = [torch.diag_embed(x), torch.diag_embed(x, 1, 0, 2), torch.diag_embed(x, -2)]
    taken = [torch.take_along_dim(x, place, 0), torch.take_along_dim(x, classes)]
    return [*stacks, *turns, *diagonals, torch.diag(v, -1), *taken, F.one_hot(classes, 7)]


@case((2, 3, 7, 8))
def columns(x):
    return [
        F.unfold(x, 3),
        F.unfold(x, (2, 3), (1, 2), (0, 1), (2, 1)),
        F.unfold(x[0], 2, stride=2),
    ]


@case(SPECIAL, SPECIAL.flip(0))
def closeness(x, y):
    close = [torch.isclose(x, y), torch.isclose(x, x, equal_nan=True), torch.isclose(x, x + 1e-9)]
    return [*close, torch.deg2rad(x), torch.rad2deg(x)]


@case((4, 20), (4, 20))
def running(x, y):
    extrema = [*x.cummax(1), *x.cummin(0), *x.round().cummax(1)]
    return [*extrema, x.logcumsumexp(1), x.logcumsumexp(0), y.sort(1)[0], torch.msort(y)]


@case((9, 5), integers(0, 9, 12), torch.tensor([0, 3, 3, 12]), (12,))
def bags(table, indices, offsets, weights):
    modes = [F.embedding_bag(indices, table, offsets, mode=mode) for mode in ("sum", "mean", "max")]
    padded = F.embedding_bag(indices, table, offsets, padding_idx=2, include_last_offset=True)
    weighted = F.embedding_bag(indices, table, offsets, mode="sum", per_sample_weights=weights)
    return [*modes, padded, weighted, F.embedding_bag(indices.reshape(3, 4), table)]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "RNN relu"])
@pytest.mark.parametrize("cell", [False, True])
def test_recurrent_layers(stator, tmp_path, kind, cell):
    name, _, activation = kind.partition(" ")
    torch.manual_seed(0)
    options = {"nonlinearity": activation} if activation else {}
    if cell:
        layer, x = getattr(nn, name + "Cell")(4, 3, **options), torch.randn(2, 4)
    else:
        options |= {"num_layers": 2, "bidirectional": True, "batch_first": True}
        layer, x = getattr(nn, name)(4, 3, **options), torch.randn(2, 5, 4)
    compare_program(stator, tmp_path, layer.eval(), (x,), decomposed=False)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def make_inputs(specs):
    generator = torch.Generator().manual_seed(3)
    made = (
        s.clone() if isinstance(s, torch.Tensor) else torch.randn(s, generator=generator)
        for s in specs
    )
    return tuple(made)


@pytest.mark.parametrize("decomposed", [False, True], ids=["composite", "decomposed"])
@pytest.mark.parametrize("name", CASES)
def test_overloads(stator, tmp_path, name, decomposed):
    function, specs = CASES[name]
    compare_program(stator, tmp_path, Function(function), make_inputs(specs), decomposed)


def flatten(results):
    for result in results if isinstance(results, (list, tuple)) else [results]:
        yield from flatten(result) if isinstance(result, (list, tuple)) else [result]


def compare_program(stator, tmp_path, module, inputs, decomposed):
    """Compiles and runs the saved program of a module without Python."""
    with torch.no_grad():
        expected = list(flatten(module(*inputs)))
        program = torch.export.export(module, inputs, strict=False)
        if decomposed:
            program = program.run_decompositions()
    torch.export.save(program, tmp_path / "model.pt2")
    assert "left to torch: nothing" in stator("inspect", tmp_path / "model.pt2").stdout

    files = [tmp_path / f"in{i}.npy" for i in range(len(inputs))]
    for file, tensor in zip(files, inputs, strict=True):
        np.save(file, tensor.numpy())
    stator("compile", tmp_path / "model.pt2", "-o", tmp_path / "model.plan")
    stator("run", tmp_path / "model.plan", "--inputs", *files, "--outputs", tmp_path / "out.npz")
    actual = list(np.load(tmp_path / "out.npz").values())
    assert len(actual) == len(expected)
    for i, (a, e) in enumerate(zip(actual, expected, strict=True)):
        torch.testing.assert_close(
            torch.from_numpy(a), e, equal_nan=True, msg=lambda text, i=i: f"result {i}: {text}"
        )
