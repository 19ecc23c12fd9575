"""What surrounds a model's operators: checkpoints, autocast and grad-mode regions, and hooks."""

import pytest
import torch
import torch_stator
from torch import nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

OPTIONS = {"min_block_size": 1, "optimization_level": 0}


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.LayerNorm(8)

    def block(self, x):
        return self.norm(self.a(x)).relu()


class Checkpoints(Layers):
    def forward(self, x):
        y = checkpoint(self.block, x, use_reentrant=False)
        y = y + checkpoint(self.b, x, use_reentrant=False, preserve_rng_state=False)
        return y + checkpoint(lambda x, *, k: self.a(x) * k, y, k=2.0, use_reentrant=False)


class Reentrant(Layers):
    def forward(self, x):
        return checkpoint(self.block, x, use_reentrant=True) + 1


class Hooked(Layers):
    def __init__(self):
        super().__init__()
        self.a.register_forward_pre_hook(lambda _, args, kw: ((args[0] + 1,), kw), with_kwargs=True)
        self.a.register_forward_hook(lambda _, args, out: out * 2)
        self.b.register_forward_hook(lambda _, args, kw, out: out + args[0], with_kwargs=True)
        self.b.register_forward_hook(lambda _, args, out: None, always_call=True)
        self.register_forward_hook(lambda _, args, out: (out, out.sum()))

    def forward(self, x):
        return self.b(self.block(x)).relu()


class Parametrized(Layers):
    def __init__(self):
        super().__init__()
        parametrizations.weight_norm(self.a)
        parametrizations.spectral_norm(self.b)
        self.c = parametrizations.weight_norm(nn.Linear(8, 8), dim=None)

    def forward(self, x):
        return self.c(self.b(self.block(x)))


class GradModes(Layers):
    def forward(self, x):
        with torch.no_grad():
            y = self.block(x)
        with torch.set_grad_enabled(False):
            return self.b(y) + y


def compiled_of(model):
    return torch.compile(model, backend="stator", options=OPTIONS)


def check(found, expected):
    torch.testing.assert_close(*(torch.utils._pytree.tree_leaves(v) for v in (found, expected)))


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", [Checkpoints, Reentrant, Hooked, Parametrized, GradModes])
def test_in_engines_also_ahead_of_time(kind, compilations):
    model, x = kind().eval(), torch.randn(3, 8)
    with torch.no_grad():
        check(compiled_of(model)(x), model(x))
        assert not any(one.report["fallbacks"] for one in compilations)
        program = torch_stator.compile(model, (x,), **OPTIONS)
        check(program(x), model(x))
        assert not program.report["fallbacks"]


def test_a_sequence_of_checkpoints():
    model, x = Layers().eval(), torch.randn(3, 8)

    def run(x):
        return checkpoint_sequential([model.a, model.norm, model.b], 2, x, use_reentrant=False) * 2

    with torch.no_grad():
        check(compiled_of(run)(x), run(x))


@pytest.mark.filterwarnings("ignore::torch_stator.FallbackWarning")
def test_gradients_through_a_checkpoint():
    model, x = Checkpoints().train(), torch.randn(3, 8)
    gradients = []
    for run in (model, compiled_of(model)):
        model.zero_grad()
        run(x).sum().backward()
        gradients.append([weight.grad.clone() for weight in model.parameters()])
    check(*gradients)


class Autocast(Layers):
    def forward(self, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.a(x)
            scores = torch.softmax(y @ y.transpose(-1, -2), -1)
            with torch.autocast("cpu", enabled=False):
                z = self.b(x)
        return y, scores, self.norm(y.float()), z, self.b(x)


def check_rounded(found, eager, exact):
    """Ours is no further from the result without autocast than twice what eager is."""
    for ours, theirs, right in zip(found, eager, exact, strict=True):
        assert ours.dtype == theirs.dtype
        error, allowed = ((value.float() - right).abs().max() for value in (ours, theirs))
        assert error <= 2 * allowed + 1e-6


def test_autocast_regions(compilations):
    model, x = Autocast().eval(), torch.randn(3, 8)
    with torch.no_grad():
        found, eager = compiled_of(model)(x), model(x)
        y = model.a(x)
        exact = (y, torch.softmax(y @ y.t(), -1), model.norm(y), model.b(x), model.b(x))
        check_rounded(found, eager, exact)
        check(found[3:], eager[3:])
        assert found[0].dtype is torch.bfloat16
        assert not compilations[0].report["fallbacks"]


def test_a_call_under_autocast_and_one_without():
    model, x = Layers().eval(), torch.randn(3, 8)
    compiled = compiled_of(model.block)
    with torch.no_grad():
        for enabled in (True, False, True):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                found, eager = compiled(x), model.block(x)
            check_rounded([found], [eager], [model.block(x)])
            if not enabled:
                check(found, eager)


def test_hooks_come_and_go():
    model, x = Hooked().eval(), torch.randn(3, 8)
    compiled = compiled_of(model)
    with torch.no_grad():
        check(compiled(x), model(x))
        handle = model.a.register_forward_hook(lambda _, args, out: out - 3)
        check(compiled(x), model(x))
        handle.remove()
        check(compiled(x), model(x))
        handle = nn.modules.module.register_module_forward_hook(
            lambda module, args, out: out * 1.5 if isinstance(module, nn.Linear) else out
        )
        try:
            torch._dynamo.reset()  # dynamo does not guard on hooks of all modules
            check(compiled(x), model(x))
        finally:
            handle.remove()


def test_a_hook_that_keeps_what_it_sees():
    model, x, seen = Layers().eval(), torch.randn(3, 8), []
    model.a.register_forward_hook(lambda _, args, out: seen.append(out))
    compiled = compiled_of(model.block)
    with torch.no_grad():
        for scale in (1, 2):
            check(
                compiled(x * scale),
                model.norm(nn.functional.linear(x * scale, model.a.weight, model.a.bias)).relu(),
            )
            check(seen.pop(), nn.functional.linear(x * scale, model.a.weight, model.a.bias))
            assert not seen
