"""Operators in engines, family by family, against eager. Each family is one model that returns the
result of every call; no node of it may be left to torch."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812


def floats(*dims):
    return torch.randn(*dims)


def integers(high, *dims, low=0, dtype=torch.int64):
    return torch.randint(low, high, dims, dtype=dtype)


class Calls(torch.nn.Module):
    """Every function of a list, on the same inputs."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, *inputs):
        return [function(*inputs) for function in self.functions]


def test_pointwise(run):
    run(
        Calls(
            [
                lambda x, y: x.asinh(),
                lambda x, y: (x.abs() + 1.1).acosh(),
                lambda x, y: x.tanh().atanh(),
                lambda x, y: x.erfc(),
                lambda x, y: x.copysign(y),
                lambda x, y: x.copysign(-1),
                lambda x, y: torch.hypot(x, y),
                lambda x, y: torch.fmax(x, y),
                lambda x, y: torch.fmin(x, y),
                lambda x, y: x.signbit(),
                lambda x, y: (-x * 0).signbit(),
                lambda x, y: torch.round(x, decimals=2),
                lambda x, y: torch.round(x * 1000, decimals=-2),
                lambda x, y: torch.ldexp(x, y.long()),
                lambda x, y: torch.logaddexp(x, y),
                lambda x, y: torch.xlogy(x, y.abs()),
                lambda x, y: torch.special.logit(x.sigmoid()),
                lambda x, y: torch.sinc(x),
                lambda x, y: torch.deg2rad(x),
                lambda x, y: F.mse_loss(x, y),
                lambda x, y: F.cross_entropy(x, y[:, 0].abs().long()),
                lambda x, y: torch.nansum(x, 1),
                lambda x, y: torch.aminmax(x, dim=1),
                lambda x, y: torch.renorm(x, 2, 0, 1.0),
                lambda x, y: torch.isin(x.long(), y[0, :2].long()),
            ]
        ),
        floats(4, 5),
        floats(4, 5),
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_integers(run, dtype):
    run(
        Calls(
            [
                lambda x, y: x << y,
                lambda x, y: x >> y,
                lambda x, y: x << 3,
                lambda x, y: x >> 2,
                lambda x, y: (x & y) | (x ^ 5),
                lambda x, y: ~x,
                lambda x, y: x // 3,
                lambda x, y: x % 5,
            ]
        ),
        integers(120, 33, dtype=dtype),
        integers(9, 33, dtype=dtype),
    )


def test_views_that_gather(run):
    run(
        Calls(
            [
                lambda x: x.diagonal() + 0,
                lambda x: x.diagonal(2, 1, 2) + 0,
                lambda x: x.diagonal(-1, 0, 2) + 0,
                lambda x: x.diagonal(9) + 0,
                lambda x: x.unfold(2, 3, 2) + 0,
                lambda x: x.unfold(1, 2, 2) + 0,
                lambda x: x.unfold(0, 2, 1) + 0,
                lambda x: x.diag_embed(),
                lambda x: x.diagonal_scatter(x[:, 0].T, 1, 0, 1),
                lambda x: x.diagonal_scatter(x[:, :2, 1], -2, 1, 2),
                lambda x: x[0, :, :4].trace(),
                lambda x: x.rot90(1, [1, 2]),
                lambda x: F.unfold(x[None], (2, 3), padding=1, stride=2),
                lambda x: F.fold(x.reshape(-1)[:72].reshape(1, 12, 6), (3, 4), (2, 2)),
            ]
        ),
        floats(3, 4, 7),
    )


def test_writes_by_indices(run):
    def assign(x, i, j, v):
        y = x.clone()
        y[i, :, j] = v[:, :, 0]
        y[:, i] = 2.0
        y[y < 0] = 0
        return y

    run(
        Calls(
            [
                assign,
                lambda x, i, j, v: x.index_put((i,), v[:2, :, 0, None], accumulate=True),
                lambda x, i, j, v: x.index_put((i - 4, j), v[0, 0], accumulate=True),
                lambda x, i, j, v: x.index_add(1, j, x[:, :2], alpha=2),
                lambda x, i, j, v: x.index_copy(2, torch.arange(2), x[:, :, 3:]),
                lambda x, i, j, v: x.index_fill(1, i, 3.0),
                lambda x, i, j, v: x.take(i * 3 - 8),
                lambda x, i, j, v: x.put(i[:1], v[0, 0, :1]),
                lambda x, i, j, v: x.put(i, v[0, :2, 0], accumulate=True),
                lambda x, i, j, v: x.masked_scatter(x > 0, v.repeat(9, 1, 1)),
                lambda x, i, j, v: x.masked_scatter(x[0] > 0, v.repeat(9, 1, 1)),
            ]
        ),
        floats(4, 4, 5),
        integers(4, 2),
        integers(4, 2),
        floats(2, 4, 5),
    )


@pytest.mark.parametrize("include_self", [True, False])
def test_scatter(run, include_self):
    def reduce(name):
        return lambda x, i, s: x.scatter_reduce(1, i, s, name, include_self=include_self)

    run(
        Calls(
            [
                *map(reduce, ["sum", "prod", "mean", "amax", "amin"]),
                lambda x, i, s: x.scatter_add(1, i, s),
                lambda x, i, s: torch.scatter(x, 1, i, s, reduce="add"),
                lambda x, i, s: torch.scatter(x, 1, i, 2.0, reduce="multiply"),
                lambda x, i, s: x.scatter(1, i, 3.0),
                lambda x, i, s: x.long().scatter_reduce(
                    1, i, s.long(), "mean", include_self=include_self
                ),
            ]
        ),
        floats(5, 4),
        integers(4, 5, 3),
        floats(5, 3),
    )


def test_random_numbers_are_drawn_anew(run, compilations):
    def draw(x):
        return x * 0 + torch.rand_like(x) + torch.randn_like(x)

    compiled = torch.compile(draw, backend="stator", options={"min_block_size": 1})
    with torch.no_grad():
        torch.manual_seed(1)
        first, second = compiled(torch.ones(9)), compiled(torch.ones(9))
        torch.manual_seed(1)
        assert torch.equal(first, draw(torch.ones(9)))
        assert torch.equal(second, draw(torch.ones(9)))
    assert not torch.equal(first, second)
    assert compilations


@pytest.mark.parametrize("channels_last", [False, True])
def test_resampling(run, channels_last):
    def resample(**arguments):
        return lambda x, g: F.interpolate(x * 2, **arguments)

    functions = [
        *(resample(scale_factor=1.7, mode=mode) for mode in ("nearest", "nearest-exact")),
        *(
            resample(mode=mode, align_corners=align, **size)
            for mode in ("bilinear", "bicubic")
            for align in (False, True)
            for size in ({"scale_factor": 2}, {"size": (9, 37)}, {"scale_factor": (0.5, 1.3)})
        ),
        *(resample(size=(4, 19), mode=mode, antialias=True) for mode in ("bilinear", "bicubic")),
        lambda x, g: F.interpolate(x[:, :, 0], size=33, mode="linear"),
        lambda x, g: F.interpolate(x[None], scale_factor=(1, 2, 1.5), mode="trilinear"),
        lambda x, g: F.interpolate(x, size=(3, 2), mode="area"),
    ]
    x = floats(2, 19, 6, 7)
    run(Calls(functions), x.to(memory_format=torch.channels_last) if channels_last else x, x)


def test_sampling_at_points(run):
    def sample(mode, padding, align):
        return lambda x, g: F.grid_sample(x, g, mode, padding, align)

    functions = [
        sample(mode, padding, align)
        for mode in ("bilinear", "nearest", "bicubic")
        for padding in ("zeros", "border", "reflection")
        for align in (False, True)
    ]
    functions.append(lambda x, g: F.grid_sample(x.permute(0, 3, 1, 2), g, align_corners=False))
    functions.append(lambda x, g: F.affine_grid(g[:, :2, 0, :1].expand(2, 2, 3), (2, 3, 4, 5)))
    run(Calls(functions), floats(2, 3, 6, 7), floats(2, 9, 17, 2))
    volumes = [
        lambda x, g, m=mode, a=align: F.grid_sample(x, g, m, align_corners=a)
        for mode in ("bilinear", "nearest")
        for align in (False, True)
    ]
    run(Calls(volumes), floats(1, 2, 4, 5, 6), floats(1, 2, 3, 4, 3))


def test_adaptive_max_pools(run):
    run(
        Calls(
            [
                lambda x: F.adaptive_max_pool2d(x, (3, 2)),
                lambda x: F.adaptive_max_pool2d(x, (3, None), return_indices=True),
                lambda x: F.adaptive_max_pool1d(x[0] * 2, 4),
                lambda x: F.adaptive_max_pool3d(x[None], 2),
                lambda x: F.pad(x, (2, -1, -3, 3), mode="reflect"),
                lambda x: F.pad(x, (-2, 4, -1, -1), mode="replicate"),
                lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),
            ]
        ),
        floats(2, 4, 6, 8),
    )


def test_order(run):
    ties = [
        lambda x: x.sort(dim=1, stable=True),
        lambda x: x.sort(dim=1).values,
        lambda x: x.sort(dim=0, descending=True, stable=True),
        lambda x: torch.argsort(x, stable=True, descending=True),
        lambda x: x.topk(3),
        lambda x: x.topk(20, sorted=False),
        lambda x: x.topk(2, 0, largest=False),
        lambda x: torch.searchsorted(torch.arange(0, 9, 2), x),
        lambda x: torch.bucketize(x, torch.arange(0, 9, 2), right=True, out_int32=True),
        lambda x: torch.searchsorted(x[0].sort(stable=True).values, 3),
        lambda x: torch.searchsorted(x[0], x, sorter=x[0].argsort(stable=True)),
        lambda x: x.sort(1),
        lambda x: x.argsort(0, descending=True),
        lambda x: x.kthvalue(150),
        lambda x: x.kthvalue(2, 0, True),
        lambda x: x.median(1),
        lambda x: x.median(0, keepdim=True).indices,
        lambda x: x.median(),
        lambda x: x.nanmedian(1),
        lambda x: x.mode(),
        lambda x: x.mode(0, True),
        lambda x: (x[0, 0].median(0), x[0, 0].mode(), x[0, 0].kthvalue(1), x[0, 0].nanmedian()),
    ]
    run(Calls(ties), integers(9, 4, 200))
    indices = [
        lambda x, f=function: f(torch.where(x > 1, float("nan"), x))[1]
        for function in (ties[0], ties[2], ties[4], ties[6], *ties[11:16], *ties[18:21])
    ]
    run(Calls(indices), floats(3, 200))
    nans = [
        lambda x: (x / 0 * 0).median(1).indices,
        lambda x: (x / 0 * 0).nanmedian(1).indices,
        lambda x: (x / 0 * 0).median().isnan(),
    ]
    run(Calls(nans), integers(9, 3, 40))


def test_numbers_between_tensors(run):
    run(
        Calls(
            [
                lambda a, b: torch.linspace(a, b, 7),
                lambda a, b: torch.linspace(a, 3, 1),
                lambda a, b: torch.linspace(-2, b, 4, dtype=torch.int32),
                lambda a, b: torch.linspace(-2, 7, 4, dtype=torch.int64) + a,
                lambda a, b: torch.linspace(a, b, 9, dtype=torch.bfloat16),
                lambda a, b: torch.logspace(a, b, 5, base=2),
            ]
        ),
        torch.tensor(1.5),
        torch.tensor(-7.25),
    )


def test_the_statistics_of_norms(run):
    run(
        Calls(
            [
                lambda x, w: torch.native_layer_norm(x, [6], w, w, 1e-3),
                lambda x, w: torch.native_group_norm(x, None, None, 2, 4, 6, 2, 1e-3),
                lambda x, w: torch.native_batch_norm(x, None, None, w[:4], w[:4], False, 0.1, 1e-3),
            ]
        ),
        floats(2, 4, 6),
        floats(6).abs(),
    )


def rotate(x, frequencies):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * frequencies).flatten(-2)


def test_complex_numbers(run):
    run(
        Calls(
            [
                lambda x, t: rotate(x, torch.polar(torch.ones_like(t), t)),
                lambda x, t: rotate(x, torch.polar(torch.ones(5, 4), t)[:, None].transpose(0, 1)),
                lambda x, t: rotate(x, torch.complex(t, t * 2).unsqueeze(0)),
                lambda x, t: rotate(x, t),
                lambda x, t: torch.view_as_complex(x.reshape(-1, 2)).abs(),
                lambda x, t: torch.complex(t, -t).conj().angle(),
                lambda x, t: torch.view_as_real(torch.complex(t, t[0, 0])),
                lambda x, t: torch.view_as_real(torch.complex(t[:, :1], t[0])),
                lambda x, t: (torch.complex(t, -t) + torch.complex(t, t)).view(-1).imag,
            ]
        ),
        floats(2, 3, 5, 8),
        floats(5, 4),
    )


def test_complex_tensors_from_outside(run):
    frequencies = torch.polar(torch.ones(5, 4), floats(5, 4))
    run(Calls([rotate]), floats(2, 3, 5, 8), frequencies, coverage=None)
    run(
        Calls([lambda x, f: (rotate(x, f) * 2, torch.fft.fft(f * f).abs(), f * 2)]),
        floats(2, 3, 5, 8),
        frequencies,
        coverage=None,
    )


def test_windows_on_memory(run):
    windows = [
        lambda x: (x + 1).as_strided((3, 4, 5), (40, 5, 1)),
        lambda x: (x + 1).as_strided((2, 5, 20), (40, 10, 1), 0),
        lambda x: (x + 1).transpose(0, 2).contiguous().as_strided((4, 3), (2, 7), 0),
        lambda x: (x + 1).transpose(1, 2).as_strided((2, 3), (1, 1)),
        lambda x: (x * 2)[1].as_strided((2, 8), (8, 1)) + 1,
        lambda x: (x * 2).as_strided((), (), 3),
    ]
    run(Calls(windows), floats(3, 8, 5))


@pytest.mark.parametrize(
    ("size", "stride"),
    [
        ((3, 3), (2, 1)),
        ((4, 2, 3), (5, 1, 2)),
        ((3, 4), (0, 2)),
        ((4, 3), (1, 0)),
        ((2, 3, 4), (3, 0, 9)),
        ((2, 3), (1, 2)),
        ((6,), (3,)),
        ((2, 2, 5), (10, 20, 1)),
        ((1, 5), (7, 1)),
        ((2, 1, 3), (1, 9, 4)),
        ((2, 3), (4, 4)),
        ((3, 2), (4, 4)),
    ],
)
def test_what_is_made_of_windows_lies_as_in_torch(run, size, stride):
    model = Calls([lambda x: (x + 1).as_strided(size, stride, 1) * 2])
    x = floats(60)
    (made,), (expected,) = run(model, x)(x), model(x)
    assert made.stride() == expected.stride()


def test_layers(run):
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    first = torch.nn.TransformerEncoderLayer(
        8, 2, 16, batch_first=True, norm_first=True, activation="gelu"
    ).eval()
    run(torch.nn.Sequential(layer, first).eval(), floats(2, 5, 8))
    norm = torch.nn.BatchNorm2d(4, track_running_stats=False).eval()
    run(norm, floats(3, 4, 5, 6))


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16])
def test_sums_of_halves_are_rounded_once(run, dtype):
    """2 / eps + 1 lies between two numbers of the dtype; so do the products, and the sum with 1
    does not."""
    big = 2 / torch.finfo(dtype).eps
    x = torch.ones(2, 2, 2, dtype=dtype)
    y = torch.tensor([[[big], [1]]] * 2, dtype=dtype)
    one = torch.ones(1, dtype=dtype)
    batch, row, column = torch.ones(2, 2, 1), torch.ones(1), torch.ones(2)
    unit = torch.tensor([[1.0], [0.0]])
    functions = [
        lambda x, y, one: torch.baddbmm(one, x, y),
        lambda x, y, one: torch.baddbmm(one[0], x, y),
        lambda x, y, one: torch.baddbmm(batch.to(x), x, y),
        lambda x, y, one: torch.addmm(row.to(x), x[0], y[0]),
        lambda x, y, one: torch.addmv(column.to(x), x[0], y[0, :, 0]),
        lambda x, y, one: F.bilinear(x[0], x[0], torch.cat([y[0], unit.to(x)], 1)[None]),
    ]
    compiled = run(Calls(functions), x, y, one)
    for result in compiled(x, y, one):
        assert result.flatten()[0] == big + 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.half])
def test_batch_norm_with_its_own_statistics(run, dtype):
    run(
        Calls(
            [
                lambda x, v: torch.ops.aten._native_batch_norm_legit(
                    x, v, v, v.clone(), v.abs() + 1, False, 0.1, 1e-5
                )[0]
            ]
        ),
        floats(3, 4, 5).to(dtype),
        floats(4).to(dtype),
    )
