"""Whatever the sizes and strides of an input are: the engine's result is eager's."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

MODELS = {
    "linear": lambda width: nn.Sequential(nn.Linear(width, 5), nn.GELU()),
    "norm": lambda width: nn.Sequential(nn.LayerNorm(width), nn.Softmax(-1)),
    "pointwise": lambda width: nn.Sequential(nn.SiLU(), nn.Hardtanh()),
}


@st.composite
def strided(draw):
    """A tensor of rank 2 to 4, whose dims lie in any order, with gaps, repeats and an offset."""
    shape = draw(st.lists(st.integers(0, 9), min_size=2, max_size=4))
    order = draw(st.permutations(range(len(shape))))
    strides, size = [0] * len(shape), 1
    for dim in order:
        if draw(st.integers(0, 9)) > 0:  # else the elements of this dim are one
            strides[dim] = size
            size *= max(shape[dim], 1) + draw(st.integers(0, 2))
    offset = draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    memory = torch.randn(size + offset, generator=generator)
    return memory.as_strided(shape, strides, offset)


@pytest.mark.slow
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(x=strided(), name=st.sampled_from(sorted(MODELS)))
def test_any_sizes_and_strides(x, name):
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = MODELS[name](x.shape[-1]).eval()
    compiled = torch.compile(
        model,
        backend="stator",
        dynamic=False,
        options={"optimization_level": 0, "min_block_size": 1, "pass_through_build_failures": True},
    )
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), model(x))
