"""The guide of Torch-TensorRT's torch.compile backend: its snippets word for word, on Stator.

Each snippet runs as the guide prints it, through the compat package; its names (`model`, `inputs`)
are what the guide leaves to the reader. Asserted are results against eager, and what was compiled.
"""

import importlib
import inspect
import re

import pytest
import torch
import torch_tensorrt
from torch import nn


class Model(nn.Module):
    """Convolutions, a subtraction, and enough operators behind it for a second engine."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.fc1, self.fc2 = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        y = self.bn(self.conv(x)).relu().mean((2, 3))
        y = self.fc1(y - 0.5)
        return self.fc2(y.relu()).softmax(-1)


BASIC = """
import torch_tensorrt
optimized_model = torch.compile(model, backend="torch_tensorrt", dynamic=False)
"""

CUSTOM = """
import torch_tensorrt
optimized_model = torch.compile(model, backend="torch_tensorrt", dynamic=False,
                                options={"truncate_long_and_double": True,
                                         "precision": torch.half,
                                         "debug": True,
                                         "min_block_size": 2,
                                         "torch_executed_ops": {"torch.ops.aten.sub.Tensor"},
                                         "optimization_level": 4,
                                         "use_python_runtime": False,})
"""

CALL = """
import torch_tensorrt
# Causes model compilation to occur
first_outputs = optimized_model(*inputs)

# Subsequent inference runs with the same, or similar inputs will not cause recompilation
# For a full discussion of this, see "Recompilation Conditions" below
second_outputs = optimized_model(*inputs)
"""

COVERAGE = """
import torch_tensorrt
optimized_model = torch.compile(model, backend="torch_tensorrt", dynamic=False,
                                options={"debug": True,
                                         "min_block_size": float("inf"),})
"""

BREAKS = """
import torch
import torch_tensorrt
explanation = torch._dynamo.explain(model)(*inputs)
print(f"Graph breaks: {explanation.graph_break_count}")
optimized_model = torch.compile(model, backend="torch_tensorrt", dynamic=False, options={"truncate_long_and_double": True})
"""  # noqa: E501


@pytest.fixture
def names():
    """What the snippets find: a model, its inputs, and torch."""
    with torch.no_grad():
        yield {"torch": torch, "model": Model().eval(), "inputs": (torch.randn(2, 3, 12, 12),)}


def call(names):
    """Runs the guide's call; returns its outputs and eager's."""
    exec(CALL, names)
    torch.testing.assert_close(names["first_outputs"], names["second_outputs"], rtol=0, atol=0)
    return names["first_outputs"], names["model"](*names["inputs"])


def kinds(compilation):
    return [part["kind"] for part in compilation.report["parts"]]


def test_the_backend_by_its_name(names, compilations):
    exec(BASIC, names)
    torch.testing.assert_close(*call(names))
    assert len(compilations) == 1, "the second call compiled again"
    assert kinds(compilations[0]) == ["engine"]


def test_custom_settings(names, compilations, capsys):
    exec(CUSTOM, names)
    outputs, expected = call(names)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, expected, rtol=2e-2, atol=2e-3)
    assert not torch.equal(outputs, expected), "computed in float32"
    (compilation,) = compilations
    assert kinds(compilation) == ["engine", "torch", "engine"]
    (fallback,) = compilation.report["fallbacks"]
    assert fallback["op"] == "aten.sub.Tensor"
    assert "f16" in compilation.engines[0].plan_text()
    assert "aten.sub.Tensor" in capsys.readouterr().err


def test_operator_coverage_without_a_build(names, compilations, capsys):
    exec(COVERAGE, names)
    torch.testing.assert_close(*call(names), rtol=0, atol=0)
    assert compilations[0].engines == [None]
    text = capsys.readouterr().err
    assert str(compilations[0].report["num_nodes"]) in text


def test_feasibility_of_serialization(names, compilations, capsys):
    exec(BREAKS, names)
    assert capsys.readouterr().out == "Graph breaks: 0\n"
    torch.testing.assert_close(*call(names))
    assert len(compilations) == 1


def test_recompilation_for_new_batch_sizes_alone(names, compilations):
    exec(BASIC, names)
    for batch in (4, 8, 4, 8):
        names["inputs"] = (torch.randn(batch, 3, 12, 12),)
        torch.testing.assert_close(*call(names))
    assert len(compilations) == 2


def test_both_backends_are_listed():
    assert {"tensorrt", "torch_tensorrt", "stator"} <= set(torch._dynamo.list_backends())


SIGNATURE = """\
precision: ~torch.dtype = torch.float32, debug: bool = False, workspace_size: int = 0, \
min_block_size: int = 5, torch_executed_ops: X = <factory>, pass_through_build_failures: bool = \
False, max_aux_streams: ~typing.Optional[int] = None, version_compatible: bool = False, \
optimization_level: ~typing.Optional[int] = None, use_python_runtime: ~typing.Optional[bool] = \
False, truncate_long_and_double: bool = False, use_fast_partitioner: bool = True, \
enable_experimental_decompositions: bool = False, device: X = <factory>, \
require_full_compilation: bool = False, disable_tf32: bool = False, sparse_weights: bool = False, \
refit: bool = False, engine_capability: X = <EngineCapability.DEFAULT: 0>, num_avg_timing_iters: \
int = 1, dla_sram_size: int = 1048576, dla_local_dram_size: int = 1073741824, \
dla_global_dram_size: int = 536870912, dryrun: X = False, hardware_compatible: bool = False"""


def test_the_settings_have_the_guides_names_and_defaults():
    parameters = inspect.signature(torch_tensorrt.dynamo.CompilationSettings).parameters
    fields = re.findall(r"(\w+): [^=]*= (<factory>|<[^>]*>|[^,]+)", SIGNATURE)
    assert list(parameters)[: len(fields)] == [name for name, _ in fields]
    for name, default in fields:
        if default != "<factory>":
            assert repr(parameters[name].default) == default
    settings = torch_tensorrt.dynamo.CompilationSettings()
    assert settings.torch_executed_ops == frozenset()
    assert settings.device is None  # where the tensors of the graph lie


def test_the_compat_package_refuses_the_real_one(monkeypatch, tmp_path):
    folder = tmp_path / "torch_tensorrt-2.9.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: torch-tensorrt\nVersion: 2.9.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"torch-tensorrt 2\.9\.0 is installed, too"):
        importlib.reload(torch_tensorrt)
