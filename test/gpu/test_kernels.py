"""Kernels of our own of every form, at sizes that use their tiles, clusters and shared memory.

Needs an NVIDIA GPU, and is skipped with the reason without one. `bench/gpu.sh sanitize` runs these
under compute-sanitizer; at level 5 every variant of a kernel runs, for its time is measured.
"""

import pytest
import torch
from test_cuda import assert_as_good, compile_whole, fresh, make, pytestmark  # noqa: F401
from test_libraries import Conv, Windows
from torch import nn
from torch.nn import functional as F


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def channels_last(*shape):
    return torch.randn(shape).to(memory_format=torch.channels_last)


def means(x):
    return x.mean((2, 3)), x.mean((2, 3), keepdim=True) * x


def norms(x, y):
    z = x + y
    return F.layer_norm(z, z.shape[-1:]), F.rms_norm(z, z.shape[-1:], eps=1e-6), z.softmax(-1)


def along_lines(x):
    index = torch.arange(x.shape[1], device=x.device).flip(0).expand_as(x)
    return x.cumsum(1), torch.zeros_like(x).scatter(1, index, x), x.gather(1, index)


def moved(x):
    rolled = torch.roll(x, (-3, 3), (2, 3))
    return rolled, x.permute(0, 3, 2, 1).contiguous(), F.pad(x, (1, 2, 3, 0)), x.flip(2)


def pooled(x):
    return F.max_pool2d(x, 3, 2, 1), F.avg_pool2d(x, 2), x.argmax(1), x.amax((0, 2))


def depthwise(size, stride=1):
    return Conv(nn.Conv2d(96, 96, size, stride, size // 2, groups=96), F.silu)


class Across(nn.Module):
    """A product with a matrix that is contiguous along its columns."""

    def __init__(self, *size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size) / 16)

    def forward(self, x):
        return F.gelu(x @ self.weight)


CASES = {
    "few_rows": (lambda: nn.Sequential(nn.Linear(1024, 264), nn.SiLU()), [(4, 1024)]),
    "split_sum": (lambda: nn.Sequential(nn.Linear(2048, 264), nn.GELU()), [(70, 2048)]),
    "convolution": (lambda: Conv(nn.Conv2d(64, 72, 3, padding=1), F.silu), [(2, 64, 9, 7)]),
    "large_product": (lambda: nn.Sequential(nn.Linear(200, 1416), nn.SiLU()), [(1530, 200)]),
    "large_odd": (lambda: nn.Linear(200, 1417), [(1530, 200)]),
    "large_across": (lambda: Across(200, 1416), [(2, 765, 200)]),
    "large_conv": (lambda: Conv(nn.Conv2d(64, 160, 3, padding=1), F.silu), [(4, 64, 57, 56)]),
    "image": (lambda: Conv(nn.Conv2d(3, 64, 7, 2, 3), F.silu), [(8, 3, 112, 110)]),
    "depthwise_3x3": (lambda: depthwise(3), [(2, 96, 15, 13)]),
    "depthwise_7x7": (lambda: depthwise(7, 2), [(2, 96, 15, 13)]),
    "windows": (lambda: Windows(4, 3, 49), [(8, 49, 3, 3, 32)]),
    "means": (lambda: Function(means), [(1, 672, 14, 14)]),
    "norms": (lambda: Function(norms), [(33, 768), (33, 768)]),
    "along_lines": (lambda: Function(along_lines), [(5, 77)]),
    "moved": (lambda: Function(moved), [(2, 40, 14, 14)]),
    "pooled": (lambda: Function(pooled), [(2, 40, 14, 14)]),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_kernels(name, dtype):
    build, shapes = CASES[name]
    inputs = [
        (channels_last(*shape) if len(shape) == 4 else torch.randn(shape)).to("cuda", dtype)
        for shape in shapes
    ]
    model = make(build(), dtype)
    compiled = compile_whole(model, *inputs, optimization_level=5)
    for _ in range(3):  # plainly, captured, replayed
        result = compiled(*inputs)
    assert_as_good(result, model, *inputs)
