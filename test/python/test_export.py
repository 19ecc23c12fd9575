"""Programs through torch.export: the op stator::execute_engine."""

import subprocess
import sys

import pytest
import torch
import torch_stator
from conftest import check
from test_save import IMAGE, Counter, Net, make
from torch import nn
from torch_stator import CorruptFileError, InvalidArgumentError
from torch_stator.torch_op import _engines

execute_engine = torch.ops.stator.execute_engine


@pytest.fixture
def exported():
    program = make(Net(), IMAGE)
    return program, torch.export.export(program.module(), (IMAGE,))


@pytest.mark.slow
def test_a_program_is_exported_and_loaded_in_another_process(exported, tmp_path):
    program, exported = exported
    calls = [n for n in exported.graph.nodes if n.target is execute_engine.default]
    assert len(calls) == len([p for p in program.report["parts"] if p["kind"] == "engine"])
    torch.export.save(exported, tmp_path / "it.pt2")
    code = (
        "import sys, torch, torch_stator\n"
        "module = torch.export.load(sys.argv[1]).module()\n"
        "x = torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8)\n"
        "print(module(x)['y'].flatten().tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "it.pt2")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    with torch.no_grad():
        expected = program(torch.linspace(-1, 1, 384).reshape(2, 3, 8, 8))["y"].flatten()
    torch.testing.assert_close(torch.tensor(eval(result.stdout)), expected)


def test_results_and_decompositions(exported):
    program, exported = exported
    with torch.no_grad():
        for graph in (exported, exported.run_decompositions()):
            check(graph.module(), program, torch.randn(2, 3, 8, 8))
        check(program.module(), program, torch.randn(2, 3, 8, 8))


def test_dynamic_sizes():
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2), nn.Flatten(0))
    batch = {0: torch.export.Dim("batch", min=2, max=9)}
    x = torch.randn(3, 4)
    program = torch_stator.compile(model, (x,), dynamic_shapes=(batch,), min_block_size=1)
    exported = torch.export.export(program.module(), (x,), dynamic_shapes=((batch,),))
    with torch.no_grad():
        for n in (2, 5, 9):
            check(exported.module(), model, torch.randn(n, 4))


def test_writes():
    program, model = make(Counter(), torch.ones(2)), Counter()
    module = torch.export.export(program.module(), (torch.ones(2),)).module()
    with torch.no_grad():
        for _ in range(2):
            check(module, model, torch.ones(2))


def engine_tensor():
    program = make(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.ones(2, 4))
    plan = program.compilation.engines[0].plan_bytes()
    return program, torch.frombuffer(bytearray(plan), dtype=torch.uint8)


def test_an_engine_is_loaded_once_per_content(monkeypatch):
    program, engine = engine_tensor()
    loads = []
    load = torch_stator._ffi.load_plan_bytes
    monkeypatch.setattr(
        torch_stator.torch_op._ffi, "load_plan_bytes", lambda *args: loads.append(1) or load(*args)
    )
    x = torch.randn(2, 4)
    with torch.no_grad():
        for plan in (engine, engine, engine.clone(), engine.clone()):
            torch.testing.assert_close(execute_engine([x], plan)[0], program(x))
        assert len(loads) == 1
        _, other = engine_tensor()
        first = execute_engine([x], other)[0]
        assert len(loads) == 2
        other.copy_(engine)
        torch.testing.assert_close(execute_engine([x], other)[0], program(x))
        assert not torch.equal(first, program(x))
        assert len(loads) == 2
    assert len(_engines._by_content) <= 32


def test_hostile_bytes_and_wrong_inputs():
    _, engine = engine_tensor()
    x = torch.randn(2, 4)
    damaged = engine.clone()
    damaged[len(damaged) // 2] ^= 255
    for plan in (damaged, engine[:100], engine[:0], torch.zeros(4096, dtype=torch.uint8)):
        for _ in range(2):
            with pytest.raises(CorruptFileError):
                execute_engine([x], plan)
    for plan in (engine.view(1, -1), engine.float()):
        with pytest.raises(InvalidArgumentError, match="expected an engine as a vector"):
            execute_engine([x], plan)
    with pytest.raises(InvalidArgumentError, match="takes 1 inputs, but got 2"):
        execute_engine([x, x], engine)
    with pytest.raises(InvalidArgumentError, match="expected"):
        execute_engine([torch.ones(3)], engine)
    with pytest.raises(Exception, match="without a signature"):
        torch.export.export(Direct(), (x, engine))


class Direct(nn.Module):
    def forward(self, x, engine):
        return execute_engine([x], engine)


def test_gradients_are_refused():
    _, engine = engine_tensor()
    x = torch.randn(2, 4, requires_grad=True)
    with pytest.raises(RuntimeError):
        execute_engine([x], engine)[0].sum().backward()
