"""Sizes that attention takes twice, and that PyTorch's shape functions do not compare."""

import pytest
import torch
import torch.nn.functional as F
from conftest import compile_small


def step(x, keys, values, mask=None):
    """One more position of a decoder, whose keys and values grow by it."""
    q, k, v = x.sin(), x.cos(), x.exp()
    keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
    return F.scaled_dot_product_attention(q, keys, values, mask), keys, values


def caches(length, longer=0):
    """Of keys and values, whose sizes dynamo shall tell apart."""
    made = [torch.randn(2, 3, length + more, 8) for more in (0, longer)]
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


def test_more_values_than_keys(compilations):
    """Eager reads as many of them as there are keys."""
    compiled = compile_small(step)
    with torch.no_grad():
        for longer in (0, 2):
            given = [torch.randn(2, 3, 1, 8), *caches(5, longer)]
            torch.testing.assert_close(compiled(*given), step(*given))
    assert len(compilations) == 2
