"""Which device a graph is compiled for, without a GPU: fake tensors stand for those on one."""

import subprocess
import sys
import textwrap

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch_stator import FallbackWarning, UnsupportedError, _ffi, devices
from torch_stator.devices import find_device, find_tf32
from torch_stator.export import lift_constants
from torch_stator.freeze import can_freeze, notes_on
from torch_stator.save import _find_ordinal

CPU = torch.device("cpu")


def on(*devices):
    with FakeTensorMode():
        return [torch.empty(2, device=device) for device in devices]


def test_the_device_of_the_tensors():
    assert find_device(on("cpu", "cpu"), None) == CPU
    assert find_device(on("cpu"), CPU) == CPU
    assert find_device([], None) == CPU


def test_why_no_engine_runs_there():
    with pytest.raises(UnsupportedError, match="tensors on cpu and cuda:0, and engines run on one"):
        find_device(on("cpu", "cuda:0"), None)
    with pytest.raises(UnsupportedError, match="a tensor on meta, and engines run on cpu or cuda"):
        find_device([torch.empty(2, device="meta")], None)
    with pytest.raises(UnsupportedError, match="on cpu, and the option `device` asks for cuda"):
        find_device(on("cpu"), torch.device("cuda"))
    with pytest.raises(
        UnsupportedError, match="on cuda:1, and the option `device` asks for cuda:0"
    ):
        find_device(on("cuda:1"), torch.device("cuda:0"))
    with pytest.raises(UnsupportedError, match="no device engine for cuda:99: "):
        find_device(on("cuda:99"), None)


def test_a_gpu_that_is_not_there_has_a_reason():
    reason = _ffi.why_no_cuda(99)
    assert "driver" in reason or "without CUDA" in reason


def test_libraries_are_looked_for_where_pip_puts_them(monkeypatch, tmp_path):
    (tmp_path / "nvidia/some/lib").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    given = []
    monkeypatch.setattr(_ffi, "add_cuda_folder", given.append)
    devices._add_cuda_folders.__wrapped__()
    assert str(tmp_path / "nvidia/some/lib") in given


def test_a_graph_on_another_device_runs_in_eager():
    compiled = torch.compile(lambda x: x + 1, backend="stator")
    with torch.no_grad(), pytest.warns(FallbackWarning, match="a tensor on meta"):
        assert compiled(torch.empty(3, device="meta")).device.type == "meta"


def test_a_saved_program_goes_where_it_was_compiled_for():
    assert _find_ordinal("cpu", None) == 0
    assert _find_ordinal("cpu", CPU) == 0
    with pytest.raises(ValueError, match="compiled for cpu and cannot run on cuda:1"):
        _find_ordinal("cpu", torch.device("cuda:1"))
    with pytest.raises(UnsupportedError, match="no device engine for cuda:99"):
        _find_ordinal("cuda", torch.device("cuda:99"))


def test_what_can_be_a_weight():
    with torch.inference_mode():
        made = torch.empty(2)
    assert can_freeze(torch.empty(2))
    assert can_freeze(made)  # on the CPU the fingerprint guards it
    assert not can_freeze(torch.empty(2, device="meta"))


def test_tf32_where_torch_allows_it():
    assert find_tf32() == (False, True)  # torch's defaults
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert find_tf32() == (True, True)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.slow
def test_no_cuda_library_is_loaded_for_the_cpu():
    script = """
        import torch

        def loaded():
            with open("/proc/self/maps") as maps:
                names = {line.split("/")[-1].strip() for line in maps if "/" in line}
            return {name for name in names if name.startswith(("libcu", "libnv"))}

        before = loaded()
        import torch_stator
        with torch.no_grad():
            torch.compile(lambda x: x.exp() + 1, backend="stator",
                          options={"min_block_size": 1})(torch.ones(5))
        print(loaded() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_numbers_come_to_the_device_of_what_reads_them():
    aten, on = torch.ops.aten, torch.device("meta")
    graph = torch.fx.Graph()
    x = graph.placeholder("x")
    numbers = [graph.get_attr(name) for name in ("count", "kept")]
    copies = [graph.call_function(aten.lift_fresh_copy.default, (number,)) for number in numbers]
    filled = graph.call_function(aten.fill.Tensor, (x, copies[0]))
    graph.output((filled, copies[1]))  # the graph gives the caller a number on the CPU
    gm = torch.fx.GraphModule({"count": torch.tensor(3.0), "kept": torch.tensor(4.0)}, graph)
    for node in gm.graph.nodes:
        node.meta["val"] = torch.empty((), device=on if node in (x, filled) else "cpu")
    constants = lift_constants(gm, on)
    assert {name: value.device.type for name, value in constants.items()} == {
        "constant_count": "meta",
        "constant_kept": "cpu",
    }
    assert [copy.meta["val"].device.type for copy in copies] == ["meta", "cpu"]
    placeholders = gm.graph.find_nodes(op="placeholder")
    assert [node.meta["val"].device.type for node in placeholders] == ["meta", "meta", "cpu"]


def test_a_note_on_weights_that_tell_of_no_write():
    weights = [torch.empty(2), torch.empty(2, device="meta")]
    with torch.inference_mode():
        assert notes_on(weights) == []
        weights += [torch.empty(2), torch.empty(2, device="meta")]
    (note,) = notes_on(weights)
    assert note.startswith("1 of the weights were made under torch.inference_mode()")
