"""Sizes that attention takes twice, and that PyTorch's shape functions do not compare."""

import pytest
import torch
import torch.nn.functional as F
from conftest import check, compile_small
from torch import nn


def step(x, keys, values, mask=None):
    """One more position of a decoder, whose keys and values grow by it."""
    q, k, v = x.sin(), x.cos(), x.exp()
    keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values, mask), keys, values


def caches(length):
    """Of keys and values, whose sizes dynamo shall tell apart."""
    made = [torch.randn(2, 3, length, 8) for _ in range(2)]
    for cache in made:
        torch._dynamo.mark_dynamic(cache, 2)
    return made


@pytest.mark.parametrize("masked", [False, True])
def test_keys_and_values_grow_in_one_engine(compilations, masked):
    compiled = compile_small(step)
    for length in (5, 6, 17, 2):
        x = torch.randn(2, 3, 1, 8)
        given = [x, *caches(length)]
        if masked:
            given.append(torch.randn(2, 1, 1, length + 1))
            torch._dynamo.mark_dynamic(given[-1], 3)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*given), step(*given))
    (compilation,) = compilations
    assert [part["kind"] for part in compilation.report["parts"]] == ["engine"]


class Decoder(nn.Module):
    """Most of its steps are the same at every length of the cache."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x, keys):
        y = F.gelu(self.first(x))
        keys = torch.cat([keys, y], 1)
        return self.last((y @ keys.mT).softmax(-1) @ keys), keys


def test_weights_change_between_sizes(compilations):
    """What sizes share is packed anew for all of them."""
    model = Decoder().eval()
    compiled = compile_small(model, dynamic=True)
    with torch.no_grad():
        for scale in (1, 2, -1):
            for length in (5, 6, 23):
                check(compiled, model, torch.randn(2, 1, 64), torch.randn(2, length, 64))
            for weight in model.parameters():
                weight.mul_(scale)
    (compilation,) = compilations
    assert [part["kind"] for part in compilation.report["parts"]] == ["engine"]
