"""torch_stator.compile, save and load."""

import json
import subprocess
import sys
import zipfile

import pytest
import torch
import torch_stator
from conftest import check
from torch import nn
from torch_stator import (
    CorruptFileError,
    FallbackWarning,
    InvalidArgumentError,
    UnsupportedError,
    VersionMismatchError,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 5)

    def forward(self, x, scale=None):
        y = self.fc(self.bn(self.conv(x)).relu().mean((2, 3)))
        return {"y": y if scale is None else y * scale}


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(1)
        return x * self.count


@pytest.fixture
def program():
    return torch_stator.compile(Net().eval(), (torch.randn(2, 3, 8, 8),), optimization_level=0)


def test_compile_equals_eager(program):
    with torch.no_grad():
        check(program, program._model, torch.randn(2, 3, 8, 8))


def test_keyword_inputs():
    model = Net().eval()
    x, scale = torch.randn(2, 3, 8, 8), torch.randn(5)
    program = torch_stator.compile(model, (x,), {"scale": scale})
    with torch.no_grad():
        torch.testing.assert_close(program(x, scale=scale), model(x, scale=scale))
        with pytest.raises(InvalidArgumentError, match="structure"):
            program(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            torch.randn(2, 3, 9, 8),
            r"input `x`: expected float32\[2, 3, 8, 8\], found float32\[2, 3, 9",
        ),
        (torch.randn(2, 3, 8, 8).double(), r"found float64\[2, 3, 8, 8\]"),
        (torch.empty(2, 3, 8, 8, device="meta"), "on cpu, found one on meta"),
        (3, "expected a tensor"),
    ],
)
def test_wrong_inputs_are_named(program, x, message):
    with torch.no_grad(), pytest.raises(InvalidArgumentError, match=message):
        program(x)


def test_changed_weights_are_seen(program):
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        program._model.fc.weight = nn.Parameter(torch.randn(5, 8))
        program._model.conv.weight.data += 1
        check(program, program._model, x)


def test_gradients_are_those_of_eager(program):
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with pytest.warns(FallbackWarning, match="requires gradients"):
        program(x)["y"].sum().backward()
    actual, x.grad = x.grad, None
    program._model(x)["y"].sum().backward()
    torch.testing.assert_close(actual, x.grad)


def test_training_mode_is_refused():
    with pytest.raises(InvalidArgumentError, match="training mode"):
        torch_stator.compile(nn.Dropout().train(), (torch.randn(3),))


def test_an_unknown_option():
    with pytest.raises(InvalidArgumentError, match="did you mean `debug`"):
        torch_stator.compile(Net().eval(), (torch.randn(2, 3, 8, 8),), debgu=True)


def test_a_mutated_buffer_and_a_saved_one(tmp_path):
    model = Counter()
    program = torch_stator.compile(model, (torch.ones(2),), min_block_size=1)
    with torch.no_grad():
        program(torch.ones(2))
        assert program(torch.ones(2)).tolist() == [2, 2]
        assert model.count.tolist() == [2, 2]
        program.save(tmp_path / "counter.stator")
        loaded = torch_stator.load(tmp_path / "counter.stator")
        assert loaded(torch.ones(2)).tolist() == [3, 3]
        assert loaded(torch.ones(2)).tolist() == [4, 4]
    assert model.count.tolist() == [2, 2]


def test_a_mutated_input():
    class Model(nn.Module):
        def forward(self, x):
            x.mul_(2)
            return x + 1

    with torch.no_grad():
        check(
            torch_stator.compile(Model(), (torch.ones(3),), min_block_size=1),
            Model(),
            torch.randn(3),
        )


def test_save_and_load(program, tmp_path):
    path = tmp_path / "net.stator"
    torch_stator.save(program, path)
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = program(x)
        torch.testing.assert_close(torch_stator.load(path)(x), expected, rtol=0, atol=0)
    names = zipfile.ZipFile(path).namelist()
    assert not any(name.endswith((".pkl", ".py")) for name in names)


def test_a_loaded_program_needs_no_model(program, tmp_path):
    torch_stator.save(program, tmp_path / "net.stator")
    torch.save(torch.ones(2, 3, 8, 8), tmp_path / "x.pt")
    code = (
        "import sys, torch, torch_stator; x = torch.ones(2, 3, 8, 8)\n"
        "print(torch_stator.load(sys.argv[1])(x)['y'].sum().item())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "net.stator")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    with torch.no_grad():
        expected = program(torch.ones(2, 3, 8, 8))["y"].sum().item()
    assert float(result.stdout) == pytest.approx(expected, rel=1e-5)


def test_a_program_with_torch_nodes_runs_but_cannot_be_saved(tmp_path):
    class Model(nn.Module):
        def forward(self, x):
            return x.exp().sort(-1).values + 1

    program = torch_stator.compile(Model(), (torch.randn(3, 4),), min_block_size=1)
    with torch.no_grad():
        check(program, Model(), torch.randn(3, 4))
    with pytest.raises(UnsupportedError, match=r"aten\.sort\.default at .*test_aot\.py:\d+"):
        program.save(tmp_path / "sorted.stator")


def test_broken_files(program, tmp_path):
    path = tmp_path / "net.stator"
    torch_stator.save(program, path)
    data = path.read_bytes()
    for broken in (b"", b"hello", data[: len(data) // 2]):
        path.write_bytes(broken)
        with pytest.raises(CorruptFileError):
            torch_stator.load(path)


def test_a_flipped_byte_in_the_plan(program, tmp_path):
    path = tmp_path / "net.stator"
    torch_stator.save(program, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    plan = bytearray(entries["engines/0.plan"])
    plan[len(plan) // 2] ^= 255
    entries["engines/0.plan"] = bytes(plan)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(CorruptFileError):
        torch_stator.load(path)


def test_another_version(program, tmp_path):
    path = tmp_path / "net.stator"
    torch_stator.save(program, path)
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read("program.json"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("program.json", json.dumps({**document, "version": 99}))
    with pytest.raises(VersionMismatchError, match="99"):
        torch_stator.load(path)
