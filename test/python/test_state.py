"""State that a call updates in place: caches in buffers and in arguments."""

import copy

import pytest
import torch
import torch_stator
from torch import nn
from torch_stator import backend, runner


class IndexCopy(nn.Module):
    """A KV cache as transformers' StaticCache keeps it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("keys", torch.zeros(2, 4, 16, 8))

    def forward(self, x, place):
        self.keys.index_copy_(2, place, x)
        return (x @ self.keys.transpose(2, 3)).softmax(-1)


class SetItem(IndexCopy):
    def forward(self, x, place):
        self.keys[:, :, place] = x
        return (x @ self.keys.transpose(2, 3)).softmax(-1)


class Slice(IndexCopy):
    def forward(self, x, place):
        self.keys[:, :, 3:5] = x
        return (x @ self.keys.transpose(2, 3)).softmax(-1) + place.sum()


class ReadsOld(IndexCopy):
    def forward(self, x, place):
        old = self.keys.sum(-1)
        self.keys.index_copy_(2, place, x)
        return old + self.keys.sum(-1)


class ReturnsOld(IndexCopy):
    def forward(self, x, place):
        old = self.keys.clone()
        self.keys.index_copy_(2, place, x)
        return old, self.keys.sum()


class WritesItself(IndexCopy):
    def forward(self, x, place):
        self.keys.index_copy_(2, place, self.keys[:, :, 4:6])
        return self.keys + x.sum()


class Argument(nn.Module):
    def forward(self, x, place, keys):
        keys[:, :, place] = x
        return keys.sum(-1)


OPTIONS = {"min_block_size": 1}
CALLS = [[0, 1], [5, 2], [15, 15], [3, 0]]


@pytest.fixture
def updates(monkeypatch):
    """The tensors that engines were given to write to."""
    seen = []
    mark = runner._mark_written

    def count(tensor):
        seen.append(tensor)
        mark(tensor)

    monkeypatch.setattr(runner, "_mark_written", count)
    return seen


def inputs_of(call, dtype=torch.float32):
    generator = torch.Generator().manual_seed(sum(call))
    return torch.randn(2, 4, 2, 8, generator=generator).to(dtype), torch.tensor(call)


@pytest.mark.parametrize("make", [IndexCopy, SetItem, Slice, ReadsOld, ReturnsOld, WritesItself])
@pytest.mark.parametrize("way", ["torch.compile", "ahead of time"])
def test_buffer_is_updated_as_in_eager(make, way, updates):
    torch._dynamo.reset()
    eager, model = make().eval(), make().eval()
    with torch.no_grad():
        if way == "torch.compile":
            compiled = torch.compile(model, backend="stator", options=OPTIONS)
        else:
            compiled = torch_stator.compile(model, inputs_of([0, 1]), **OPTIONS)
        for call in CALLS:
            memory = model.keys.data_ptr()
            expected, found = eager(*inputs_of(call)), compiled(*inputs_of(call))
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(model.keys, eager.keys)
            assert model.keys.data_ptr() == memory
    in_place = make in (IndexCopy, SetItem, Slice, ReadsOld)
    assert len(updates) == (len(CALLS) if in_place else 0)
    assert all(tensor.data_ptr() == model.keys.data_ptr() for tensor in updates)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64])
def test_argument_is_updated_as_in_eager(dtype, updates):
    torch._dynamo.reset()
    compiled = torch.compile(Argument().eval(), backend="stator", options=OPTIONS)
    keys = torch.zeros(2, 4, 16, 8).to(dtype)
    expected_keys = keys.clone()
    with torch.no_grad():
        for call in CALLS:
            x, place = inputs_of(call, dtype)
            version = keys._version
            torch.testing.assert_close(
                compiled(x, place, keys), Argument()(x, place, expected_keys), rtol=0, atol=1e-2
            )
            torch.testing.assert_close(keys, expected_keys)
            assert keys._version > version
    assert len(updates) == len(CALLS)


def test_argument_that_lies_otherwise_is_updated_too(updates):
    torch._dynamo.reset()
    compiled = torch.compile(Argument().eval(), backend="stator", options=OPTIONS)
    keys = torch.zeros(2, 16, 4, 8).transpose(1, 2)
    expected_keys = copy.deepcopy(keys)
    with torch.no_grad():
        for call in CALLS:
            x, place = inputs_of(call)
            found, expected = compiled(x, place, keys), Argument()(x, place, expected_keys)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(keys, expected_keys)
    assert not updates


def test_cache_of_dynamic_length_is_updated_in_place(updates):
    torch._dynamo.reset()
    compiled = torch.compile(Argument().eval(), backend="stator", options=OPTIONS, dynamic=True)
    with torch.no_grad():
        for length in (16, 24, 40):
            keys = torch.zeros(2, 4, length, 8)
            expected_keys = keys.clone()
            x, place = inputs_of([5, 2])
            found, expected = compiled(x, place, keys), Argument()(x, place, expected_keys)
            torch.testing.assert_close(found, expected)
            torch.testing.assert_close(keys, expected_keys)
    assert len(updates) == 3


def test_saved_program_updates_in_place(tmp_path, updates):
    model, eager = IndexCopy().eval(), IndexCopy().eval()
    program = torch_stator.compile(model, inputs_of([0, 1]), **OPTIONS)
    torch_stator.save(program, tmp_path / "cache.stator")
    loaded = torch_stator.load(tmp_path / "cache.stator")
    with torch.no_grad():
        for call in CALLS:
            torch.testing.assert_close(loaded(*inputs_of(call)), eager(*inputs_of(call)))
    assert len(updates) == len(CALLS)


def test_parts_report_what_they_can_update():
    torch._dynamo.reset()
    made = []
    backend.on_compilation.append(made.append)
    try:
        with torch.no_grad():
            torch.compile(IndexCopy().eval(), backend="stator", options=OPTIONS)(*inputs_of([0, 1]))
    finally:
        backend.on_compilation.pop()
    (engine,) = made[0].engines
    output, given = engine.in_place()
    assert engine.input_names()[given].endswith("keys")
    assert output < engine.num_outputs()
