"""What the tests of the Python package share."""

import pytest
import torch
from torch_stator.backend import on_compilation


@pytest.fixture(autouse=True)
def fresh_dynamo(tmp_path, monkeypatch):
    """Each test traces anew, with empty caches, and hears the warnings that another has heard."""
    monkeypatch.setenv("STATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr("torch_stator.errors._warned", set())
    torch._dynamo.reset()
    torch.manual_seed(0)


@pytest.fixture
def compilations():
    """The Compilations that the backend makes during the test."""
    made = []
    on_compilation.append(made.append)
    yield made
    on_compilation.pop()


@pytest.fixture
def run(compilations):
    """run(model, *inputs): compiles, checks the result against eager, returns the compiled model.
    All nodes must run in engines, unless `coverage` is given as None."""

    def compile_and_check(model, *inputs, coverage=1.0, **options):
        compiled = torch.compile(
            model,
            backend="stator",
            options={"optimization_level": 0, "min_block_size": 1, **options},
        )
        with torch.no_grad():
            check(compiled, model, *inputs)
        assert compilations, "the backend did not compile"
        if coverage is not None:
            report = compilations[-1].report
            assert report["num_nodes_in_engines"] == coverage * report["num_nodes"], report
        return compiled

    return compile_and_check


def compile_small(model, **kwargs):
    """torch.compile with engines of any size."""
    return torch.compile(model, backend="stator", options={"min_block_size": 1}, **kwargs)


def check(compiled, model, *inputs):
    """The same inputs through both, element by element; inputs that are mutated, too."""
    left, right = ([clone(value) for value in inputs] for _ in range(2))
    torch.testing.assert_close(compiled(*left), model(*right))
    torch.testing.assert_close(left, right)


def clone(value):
    """A copy with the same layout, of its whole storage."""
    if not isinstance(value, torch.Tensor):
        return value
    storage = value.untyped_storage().clone()
    copy = torch.empty(0, dtype=value.dtype)
    return copy.set_(storage, value.storage_offset(), value.shape, value.stride())
