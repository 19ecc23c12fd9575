"""Whole models against eager, element by element: small ones of each family, then the full five."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import zoo

# An element may differ by this share of its own size and of the output's root mean square.
TOLERANCE = 2e-5


def randomise(model):
    """Random content everywhere: fresh models have zero heads, unit scales and equal statistics."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and tensor.dim() <= 1:
            tensor.data.uniform_(0.5, 1.5) if "var" in name else tensor.data.normal_(0.5, 0.3)
        elif name.endswith(("head.weight", "heads.head.weight")):
            tensor.data.normal_(0, 0.05)
    return model.eval()


def compare(model, inputs, compilations):
    compiled = torch.compile(
        model, backend="stator", dynamic=False, options={"optimization_level": 1}
    )
    with torch.no_grad():
        actual = zoo.outputs_of(compiled(**inputs))
        expected = zoo.outputs_of(model(**inputs))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        atol = TOLERANCE * e.square().mean().sqrt().item()
        assert e.std() > 0, "the output says nothing"
        torch.testing.assert_close(a, e, rtol=TOLERANCE, atol=atol)
    (compilation,) = compilations
    assert [part["kind"] for part in compilation.report["parts"]] == ["engine"]


def make_resnet18():
    import torchvision

    return torchvision.models.resnet18(), {"x": torch.randn(2, 3, 64, 64)}


def make_mobilenet():
    import torchvision

    return torchvision.models.mobilenet_v3_small(), {"x": torch.randn(1, 3, 64, 64)}


def make_vit():
    import torchvision

    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=4, hidden_dim=64, mlp_dim=128
    )
    return model, {"x": torch.randn(2, 3, 32, 32)}


def make_timm_vit():
    import timm

    name = "vit_tiny_patch16_224"
    return timm.create_model(name, depth=2, img_size=64), {"x": torch.randn(1, 3, 64, 64)}


def make_bert():
    import transformers

    config = transformers.BertConfig(
        vocab_size=99,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
    )
    ids = torch.randint(0, 99, (2, 11))
    mask = torch.ones(2, 11, dtype=torch.int64)
    mask[1, 7:] = 0
    return transformers.BertModel(config), {"input_ids": ids, "attention_mask": mask}


def make_gpt2():
    import transformers

    config = transformers.GPT2Config(
        vocab_size=99, n_positions=32, n_embd=64, n_layer=2, n_head=4, use_cache=False
    )
    return transformers.GPT2LMHeadModel(config), {"input_ids": torch.randint(0, 99, (2, 13))}


SMALL = [make_resnet18, make_mobilenet, make_vit, make_timm_vit, make_bert, make_gpt2]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            make,
            id=make.__name__.removeprefix("make_"),
            marks=[] if make is make_resnet18 else pytest.mark.slow,
        )
        for make in SMALL
    ],
)
def test_small_model(make, compilations):
    model, inputs = make()
    compare(randomise(model), inputs, compilations)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.BENCHMARKS)
def test_full_model(name, compilations):
    model, inputs = zoo.load(name)
    compare(randomise(model), inputs, compilations)
