"""The zoo: models of five libraries with random weights, fp32, in evaluation mode.

`load(name)` makes one and its inputs, the same on each call. BENCHMARKS are those that are timed
beside others; run_zoo.py runs them all.
"""

import copy

import torch

from .audio import FOLDER, TORCHAUDIO, import_torchaudio
from .compare import compare as compare
from .compare import compute_exact as compute_exact
from .compare import relative_change as relative_change
from .diffusion import DIFFUSERS
from .draw import draw as draw
from .model import outputs_of as outputs_of
from .text import TRANSFORMERS
from .timing import time_in_turn as time_in_turn
from .vision import TIMM, TORCHVISION

if FOLDER.exists():
    import_torchaudio()

MODELS = TORCHVISION | TIMM | TRANSFORMERS | TORCHAUDIO | DIFFUSERS
BENCHMARKS = ("resnet50", "mobilenet_v3_large", "vit_b_16", "bert_base", "gpt2")


def load(name):
    """(module, keyword arguments), the same on each call."""
    model = MODELS[name]
    torch.manual_seed(0)
    inputs = model.make_inputs()
    return draw(model.make(), inputs, model.gain), inputs


def other_inputs(name):
    """Inputs of the same sizes with other content."""
    torch.manual_seed(1)
    return MODELS[name].make_inputs()


def compile_part(name, module, **options):
    """What is called like `module`, with the model's part compiled: torch.compile's `options`."""
    part = MODELS[name].part
    if not part:
        return torch.compile(module, **options)
    whole, inner = copy.copy(module), copy.copy(module.get_submodule(part))
    whole._modules = module._modules | {part: inner}
    inner.forward = torch.compile(inner.forward, **options)
    return whole
