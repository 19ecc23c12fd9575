"""The five models of the benchmarks: batch 1, fp32, random weights, in evaluation mode."""

from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Model:
    make: Callable[[], torch.nn.Module]
    make_inputs: Callable[[], dict]  # keyword arguments of forward


def load(name):
    """(module, keyword arguments), the same on each call."""
    torch.manual_seed(0)
    model = MODELS[name]
    return model.make().eval(), model.make_inputs()


def outputs_of(result):
    """The tensors of a result, in order."""
    return [t for t in torch.utils._pytree.tree_leaves(result) if isinstance(t, torch.Tensor)]


def _vision(name):
    def make():
        import torchvision

        return spread(getattr(torchvision.models, name)())

    return Model(make, lambda: {"x": torch.randn(1, 3, 224, 224)})


def spread(model):
    """Fresh weights give outputs that vanish; a trained model's do not. Draws the layers that start
    at zero, and lets each batch norm see a batch."""
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and not module.weight.any():
            torch.nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain average of what it has seen
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 224, 224))
    return model


def _bert():
    import transformers

    return transformers.BertModel(transformers.BertConfig())


def _gpt2():
    import transformers

    return transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False))


def _tokens(vocabulary):
    return lambda: {"input_ids": torch.randint(0, vocabulary, (1, 128))}


MODELS = {
    "resnet50": _vision("resnet50"),
    "mobilenet_v3_large": _vision("mobilenet_v3_large"),
    "vit_b_16": _vision("vit_b_16"),
    "bert_base": Model(_bert, _tokens(30522)),
    "gpt2": Model(_gpt2, _tokens(50257)),
}
