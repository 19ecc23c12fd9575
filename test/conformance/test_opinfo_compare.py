"""What the judge of OpInfo's samples excuses, and what it does not."""

import pytest
import torch
from opinfo_compare import Difference, compare
from opinfo_samples import OPS, Sample, call_on_copies
from torch.testing._internal.opinfo.core import SampleInput


def judge(function, inputs, actual, op="softmax"):
    """What `compare` says of `actual` as the result of a function of the inputs."""
    sample = Sample(function, SampleInput(inputs[0], args=tuple(inputs[1:])))
    expected, given = call_on_copies(sample, sample.tensors)
    return compare(OPS[op], inputs[0].dtype, sample, [actual, *given], [*expected, *given])


def attention(q, k, v):
    """Its scores are so large that their rounding shows in the softmax."""
    return torch.softmax(300 * q @ k.mT, -1) @ v


def other_order(q, k, v):
    scores = sum(300 * q[:, i : i + 1] * k[:, i] for i in reversed(range(q.shape[1])))
    return torch.softmax(scores, -1) @ v


@pytest.fixture
def qkv():
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(16, n, generator=generator) for n in (4, 4, 16))
    q *= 10
    k = k[:1] + k / 3000  # close to each other, so that many keys count
    return q, k, v


def test_rounding_of_an_ill_conditioned_result_is_excused(qkv):
    q, k, v = qkv
    actual = other_order(q, k, v)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(actual, attention(q, k, v))
    assert "result 0" in judge(attention, qkv, actual)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda q, k, v: attention(q, k, v) * 1.05,
        lambda q, k, v: attention(q, k, v).roll(1, 0),
        lambda q, k, v: attention(q, k[1:], v[1:]),  # a key is lost
        lambda q, k, v: attention(q[:, 1:], k[:, 1:], v),  # a product is lost
        lambda q, k, v: attention(q * (1 + 1e-4), k, v),
        lambda q, k, v: attention(q.bfloat16().float(), k, v),  # rounded as the plan must not
        lambda q, k, v: attention(q, k, v).where(q[:, :1] > 0, float("nan")),
    ],
)
def test_mistakes_in_an_ill_conditioned_result_are_found(qkv, mistake):
    with pytest.raises(Difference):
        judge(attention, qkv, mistake(*qkv))


def test_mistakes_in_a_well_conditioned_result_are_found():
    x = torch.rand(64, generator=torch.Generator().manual_seed(0)) + 1
    assert judge(torch.log1p, [x], torch.log1p(x)) == ""
    for actual in (torch.log1p(x) * (1 + 1e-4), torch.log1p(x.half()).float()):
        with pytest.raises(Difference):
            judge(torch.log1p, [x], actual)


def test_integers_are_never_excused():
    x = torch.tensor([1.0, 1.0 + 1e-7, 2.0])
    sample = [x * 3]
    assert judge(torch.argmax, sample, torch.tensor(2)) == ""
    with pytest.raises(Difference):
        judge(torch.argmax, sample, torch.tensor(1))


def test_sums_of_integers_as_floats():
    def function(x, y):
        return (x - y * torch.log(x + 0.5)).sum()

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(0, 9, (500,), generator=generator) for _ in range(2))
    terms = x - y * torch.log(x + 0.5)
    other = terms.cumsum(0)[-1]
    judge(function, [x, y], other, "nn.functional.poisson_nll_loss")
    for actual in (other * (1 + 1e-4), terms[1:].sum()):
        with pytest.raises(Difference):
            judge(function, [x, y], actual, "nn.functional.poisson_nll_loss")


def test_wrapped_integers_are_not_floats():
    def function(x, y):
        return (x - y) / 1

    x, y = (torch.tensor(v, dtype=torch.uint8) for v in ([1, 2], [2, 1]))
    assert judge(function, [x, y], torch.tensor([255.0, 1.0])) == ""
    with pytest.raises(Difference):
        judge(function, [x, y], torch.tensor([-1.0, 1.0]))
