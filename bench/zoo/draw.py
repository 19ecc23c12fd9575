"""Weights of which a comparison says something.

In:  a module as its library makes it. Fresh weights hide errors: a bias of zeros, a scale of ones,
     a layer scale of 1e-6, a batch norm that has seen no batch and lets activations vanish.
Out: the same module, those drawn at random, and each batch norm's statistics those of a batch.
"""

import torch

_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d)


def draw(module, inputs, gain=None):
    """Draws what is constant in `module`; `inputs`: keyword arguments of a call. `gain`: the
    weights of layers are scaled to it, as standard deviations times the root of the fan-in."""
    with torch.no_grad():
        for layer in module.modules() if gain else ():
            if isinstance(layer, _LAYERS) and layer.weight.std() > 0:
                layer.weight.mul_(gain / (layer.weight.std() * layer.weight[0].numel() ** 0.5))
        for parameter in module.parameters():
            if parameter.is_floating_point() and _is_constant(parameter):
                _draw(parameter)
        norms = [m for m in module.modules() if isinstance(m, _BATCH_NORMS)]
        if norms:
            module.eval()
            for norm in norms:
                norm.momentum = None  # the plain average of what it has seen
                norm.reset_running_stats()
                norm.train()
            module(**_twice(inputs))
    return module.eval()


def _is_constant(tensor):
    return tensor.numel() > 0 and bool((tensor == tensor.flatten()[0]).all())


def _draw(parameter):
    value = parameter.flatten()[0].item()
    if value == 0:  # a bias, or the last layer of a branch
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 100
        parameter.normal_(0, fan_in**-0.5)
    elif abs(value) < 0.1:  # a layer scale
        parameter.uniform_(0.2, 0.5)
    else:
        parameter.uniform_(0.8 * value, 1.2 * value) if value > 0 else parameter.uniform_(
            1.2 * value, 0.8 * value
        )


def _twice(inputs):
    """Two samples for each: a batch norm of one value per channel has no variance."""

    def twice(value):
        if isinstance(value, list):
            return value + [t.flip(-1) for t in value]
        if value.is_floating_point():
            return torch.cat([value, value.flip(-1)])
        return torch.cat([value, value])

    return {name: twice(value) for name, value in inputs.items()}
