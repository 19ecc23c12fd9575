"""What cuBLASLt and cuDNN run: epilogues, layouts and masks, NaN and infinities.

Needs an NVIDIA GPU, and is skipped with the reason without one.
"""

import pytest
import torch
from test_cuda import DTYPES, assert_as_good, compile_whole, fresh, make, pytestmark  # noqa: F401
from torch import nn
from torch.nn import functional as F


class Layer(nn.Module):
    def __init__(self, activation, residual, bias=True):
        super().__init__()
        self.linear = nn.Linear(96, 64, bias=bias)
        self.activation, self.residual = activation, residual

    def forward(self, x, r):
        y = self.linear(x)
        return self.activation(y + r if self.residual else y)


class Conv(nn.Module):
    def __init__(self, conv, activation=torch.relu, residual=False):
        super().__init__()
        self.conv, self.activation, self.residual = conv, activation, residual

    def forward(self, x):
        y = self.conv(x)
        return self.activation(y + x if self.residual else y)


class Attention(nn.Module):
    def __init__(self, causal=False, groups=False):
        super().__init__()
        self.causal, self.groups = causal, groups

    def forward(self, q, k, v, mask=None):
        y = F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=self.causal, enable_gqa=self.groups
        )
        return y.contiguous()


def tanh_gelu(x):
    return F.gelu(x, approximate="tanh")


ACTIVATIONS = {"relu": torch.relu, "tanh_gelu": tanh_gelu, "erf_gelu": F.gelu, "none": lambda x: x}
CONVS = {
    "stem": (lambda: nn.Conv2d(3, 16, 7, 2, 3), (2, 3, 33, 31)),
    "pointwise": (lambda: nn.Conv2d(24, 40, 1), (2, 24, 9, 7)),
    "depthwise": (lambda: nn.Conv2d(24, 24, 3, 1, 1, groups=24), (2, 24, 9, 7)),
    "depthwise_7x7": (lambda: nn.Conv2d(96, 96, 7, 1, 3, groups=96), (4, 96, 56, 56)),
    "depthwise_strided": (lambda: nn.Conv2d(144, 144, 5, 2, 2, groups=144), (3, 144, 30, 27)),
    "groups": (lambda: nn.Conv2d(24, 48, 3, 1, 1, groups=3), (2, 24, 9, 7)),
    "dilated": (lambda: nn.Conv2d(8, 8, 3, 1, 2, dilation=2), (2, 8, 9, 7)),
    "odd": (lambda: nn.Conv2d(7, 5, 3), (1, 7, 9, 7)),
    "one_dim": (lambda: nn.Conv1d(8, 16, 3, padding=1), (2, 8, 31)),
    "three_dims": (lambda: nn.Conv3d(8, 16, 3, padding=1), (1, 8, 5, 6, 7)),
    "transposed": (lambda: nn.ConvTranspose2d(8, 16, 2, 2), (2, 8, 5, 6)),
}


def check(model, *inputs):
    compiled = compile_whole(model, *inputs)
    for _ in range(4):  # plainly, captured, replayed
        result = compiled(*inputs)
    assert_as_good(result, model, *inputs)
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_layers(name, residual, dtype):
    for rows in (1, 17, 128):
        torch._dynamo.reset()
        x = torch.randn(rows, 96, device="cuda", dtype=dtype)
        r = torch.randn(rows, 64, device="cuda", dtype=dtype)
        check(make(Layer(ACTIVATIONS[name], residual), dtype), x, r)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONVS)
def test_convolutions(name, dtype):
    build, shape = CONVS[name]
    check(make(Conv(build()), dtype), torch.randn(shape, device="cuda", dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("batch", [1, 32])
def test_depthwise_convolutions_with_an_activation(batch, dtype):
    conv = nn.Conv2d(72, 72, 3, 1, 1, groups=72)
    x = torch.randn(batch, 72, 28, 28, device="cuda", dtype=dtype)
    check(make(Conv(conv, F.silu, residual=True), dtype), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["relu", "none", "erf_gelu"])
def test_residual_blocks(name, dtype):
    conv = nn.Conv2d(16, 16, 3, 1, 1)
    x = torch.randn(2, 16, 14, 14, device="cuda", dtype=dtype)
    check(make(Conv(conv, ACTIVATIONS[name], residual=True), dtype), x)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("heads", [4, 2, 1])
@pytest.mark.parametrize("width", [64, 40, 36])
def test_attention(width, heads, causal, dtype):
    q = torch.randn(2, 4, 17, width, device="cuda", dtype=dtype)
    k, v = (torch.randn(2, heads, 17, width, device="cuda", dtype=dtype) for _ in range(2))
    check(Attention(causal, groups=heads != 4), q, k, v)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 1, 17, 23), (2, 4, 17, 23), (2, 1, 1, 23)])
def test_attention_with_an_added_mask(shape, dtype):
    q = torch.randn(2, 4, 17, 64, device="cuda", dtype=dtype)
    k, v = (torch.randn(2, 4, 23, 64, device="cuda", dtype=dtype) for _ in range(2))
    mask = torch.randn(shape, device="cuda", dtype=dtype)
    mask[..., 5:9] = -torch.inf
    check(Attention(), q, k, v, mask)


class Windows(nn.Module):
    """Attention in shifted windows: a bias of each head, then a mask of each window."""

    def __init__(self, windows, heads, tokens):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(heads, tokens, tokens))
        mask = torch.zeros(windows, tokens, tokens)
        mask[:, : tokens // 2, tokens // 2 :] = -100
        self.register_buffer("mask", mask)

    def forward(self, qkv):
        batch, tokens, _, heads, width = qkv.shape
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        scores = (q * width**-0.5) @ k.transpose(-2, -1) + self.bias
        windows = len(self.mask)
        scores = scores.view(batch // windows, windows, heads, tokens, tokens)
        scores = scores + self.mask[None, :, None]
        y = scores.view(-1, heads, tokens, tokens).softmax(-1) @ v
        return y.transpose(1, 2).reshape(batch, tokens, heads * width)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_attention_in_windows(dtype):
    qkv = torch.randn(8, 49, 3, 3, 32, device="cuda", dtype=dtype)
    check(make(Windows(4, 3, 49), dtype), qkv)


def test_nan_and_infinities_stay():
    for dtype in DTYPES:
        torch._dynamo.reset()
        x = torch.randn(17, 96, device="cuda", dtype=dtype)
        x[3, 5], x[4, 5] = torch.nan, torch.inf
        r = torch.randn(17, 64, device="cuda", dtype=dtype)
        model = make(Layer(torch.relu, False), dtype)
        result = compile_whole(model, x, r)(x, r)
        assert torch.equal(result.isnan(), model(x, r).isnan())
        torch._dynamo.reset()
        image = torch.randn(2, 16, 14, 14, device="cuda", dtype=dtype)
        image[0, 3, 5, 5] = torch.nan
        model = make(Conv(nn.Conv2d(16, 16, 3, 1, 1)), dtype)
        result = compile_whole(model, image)(image)
        assert torch.equal(result.isnan(), model(image).isnan())
