"""CompilationSettings: every field has its effect or says why it has none, and refuses bad values.

docs/generated/settings.md names for each field the test that proves it: `test_<field>`, or
`test_without_effect` for those that no engine has a use for.
"""

import contextlib
import dataclasses
import io
import json
import os
import runpy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torch_stator
from conftest import check
from torch import nn
from torch_stator import CompilationSettings, Error, InvalidArgumentError, UnsupportedError, _ffi
from torch_stator.export import export_graph
from torch_stator.reference import ReferenceEngine

ROOT = Path(__file__).parents[2]
FIELDS = {field.name: field for field in dataclasses.fields(CompilationSettings)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 16), nn.Linear(16, 4)

    def forward(self, x):
        y = F.gelu(self.fc1(x))
        return self.fc2(y - 0.25).softmax(-1)


@pytest.fixture
def model():
    return Net().eval()


# ---- fields with an effect


@pytest.mark.parametrize(
    ("precision", "name", "tolerance"), [(torch.half, "f16", 2e-3), (torch.bfloat16, "bf16", 2e-2)]
)
def test_precision(compilations, model, precision, name, tolerance):
    compiled = torch.compile(model, backend="stator", options={"precision": precision})
    x = torch.randn(5, 6)
    with torch.no_grad():
        actual, expected = compiled(x), model(x)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
    assert not torch.equal(actual, expected)
    plan = compilations[0].engines[0].plan_text()
    assert f"{name}[5, 16]" in plan
    assert f"{name}[5, 4]" in plan


@pytest.mark.parametrize("precision", [torch.float32, None])
def test_precision_of_the_model(run, compilations, model, precision):
    run(model, torch.randn(5, 6), precision=precision)
    assert "f16[" not in compilations[0].engines[0].plan_text()


def test_precision_sees_new_weights(model):
    compiled = torch.compile(model, backend="stator", options={"precision": torch.half})
    x = torch.randn(5, 6)
    with torch.no_grad():
        compiled(x)
        model.fc1.weight.mul_(-2)
        torch.testing.assert_close(compiled(x), model(x), rtol=2e-3, atol=2e-3)


def test_precision_keeps_masks_of_the_lowest_number(run):
    class Masked(nn.Module):
        def forward(self, q, k, keep):
            scores = q @ k.mT
            lowest = torch.finfo(torch.float32).min
            return scores.masked_fill(keep == 0, lowest).softmax(-1) @ k

    q, k = torch.randn(2, 3, 8), torch.randn(2, 3, 8)
    keep = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1]])  # nothing to see: no NaN
    compiled = torch.compile(Masked(), backend="stator", options={"precision": torch.half})
    with torch.no_grad():
        torch.testing.assert_close(compiled(q, k, keep), Masked()(q, k, keep), rtol=1e-2, atol=1e-2)


def test_debug(run, model, capsys):
    run(model, torch.randn(5, 6))
    assert not capsys.readouterr().err
    torch._dynamo.reset()
    run(model, torch.randn(5, 6), debug=True, cache=False)
    text = capsys.readouterr().err
    for expected in ("coverage", "time: partition", "ms, emit", " rewrites by simplify"):
        assert expected in text


def test_min_block_size(run, compilations, model):
    assert CompilationSettings().min_block_size == 5
    for size, kind in ((5, "engine"), (100, "torch"), (float("inf"), "torch")):
        run(model, torch.randn(size if size == 5 else 7, 6), coverage=None, min_block_size=size)
        assert [part["kind"] for part in compilations[-1].report["parts"]] == [kind]
        torch._dynamo.reset()


@pytest.mark.parametrize("op", ["torch.ops.aten.sub.Tensor", "aten.sub", torch.ops.aten.sub])
def test_torch_executed_ops(run, compilations, model, op):
    run(model, torch.randn(5, 6), coverage=None, torch_executed_ops={op})
    (fallback,) = compilations[-1].report["fallbacks"]
    assert fallback["op"] == "aten.sub.Tensor"


class OutOfRange(nn.Module):
    def forward(self, x):
        return x + 2**40


def test_pass_through_build_failures(run, compilations):
    x = torch.arange(4)
    run(OutOfRange(), x, coverage=0.0, truncate_long_and_double=True)
    assert "build failed" in compilations[-1].report["fallbacks"][0]["reason"]
    torch._dynamo.reset()
    with pytest.raises(Exception, match="does not fit in i32"):
        run(OutOfRange(), x, truncate_long_and_double=True, pass_through_build_failures=True)


def times_measured(folder):
    file = folder / "timing.json"
    return json.loads(file.read_text()) if file.exists() else {}


def test_optimization_level(tmp_path, model):
    x = torch.randn(5, 6)
    counts = []
    for level in (0, 2, 4):
        folder = tmp_path / str(level)
        torch_stator.compile(model, (x,), optimization_level=level, cache_dir=folder)
        counts.append(len(str(times_measured(folder))))
    assert counts[0] < counts[1] < counts[2]
    settings = json.loads(CompilationSettings().to_json())
    assert settings["optimization_level"] == 3


def test_use_python_runtime(compilations, model):
    compiled = torch.compile(model, backend="stator", options={"use_python_runtime": True})
    x = torch.randn(5, 6)
    with torch.no_grad():
        check(compiled, model, x)
        model.fc2.weight.mul_(2)
        check(compiled, model, x)
        model.fc1.weight.data = torch.randn(16, 6)
        check(compiled, model, x)
    assert isinstance(compilations[0].engines[0], ReferenceEngine)
    assert all(kind == "engine" for kind in (p["kind"] for p in compilations[0].report["parts"]))


@pytest.mark.parametrize("runtime", [False, None])
def test_use_python_runtime_of_c(run, compilations, model, runtime):
    run(model, torch.randn(5, 6), use_python_runtime=runtime)
    assert not isinstance(compilations[0].engines[0], ReferenceEngine)


def test_truncate_long_and_double(compilations):
    class Wide(nn.Module):
        def forward(self, n, x):
            return n * 3 + 1, (x * 0.1).exp().sum(-1)

    options = {"truncate_long_and_double": True, "min_block_size": 1}
    compiled = torch.compile(Wide(), backend="stator", options=options)
    n, x = torch.arange(-4, 4), torch.randn(5, 6, dtype=torch.float64)
    longs, doubles = compiled(n, x)
    expected_longs, expected_doubles = Wide()(n, x)
    torch.testing.assert_close(longs, expected_longs, rtol=0, atol=0)
    torch.testing.assert_close(doubles, expected_doubles, rtol=1e-6, atol=1e-6)
    assert not torch.equal(doubles, expected_doubles)
    plan = compilations[0].engines[0].plan_text()
    assert "i32[8]" in plan
    assert "f32[5, 6]" in plan


def test_use_fast_partitioner(run, compilations):
    """Where two regions are too small, one takes an operator of the other."""

    class Waits(nn.Module):
        def forward(self, x):
            y = torch.add(*x.sin().frexp())
            return -(y * x.exp())

    for fast in (True, False):
        options = {"use_fast_partitioner": fast, "min_block_size": 4}
        run(Waits(), torch.randn(3, 4), coverage=None, **options)
        torch._dynamo.reset()
    counts = [compilation.report["num_nodes_in_engines"] for compilation in compilations]
    assert counts == [0, 4]


def test_enable_experimental_decompositions(run, compilations):
    class Swish(nn.Module):
        def forward(self, x):
            return F.hardswish(x)

    for every in (False, True):
        run(Swish(), torch.randn(9), enable_experimental_decompositions=every)
        torch._dynamo.reset()
    kept = ["hardswish" in str(compilation.gm.graph) for compilation in compilations]
    assert kept == [True, False]


def test_device(run, model):
    for device in ("cpu", torch.device("cpu")):
        assert CompilationSettings(device=device).device == torch.device("cpu")
    run(model, torch.randn(5, 6), device="cpu")
    with pytest.raises(UnsupportedError, match="no device engine for meta; expected cpu or cuda"):
        CompilationSettings(device="meta")
    for device in ("cuda:99", 99, torch.device("cuda", 99)):  # no driver, or not as many
        with pytest.raises(UnsupportedError, match="no device engine for cuda:99: "):
            CompilationSettings(device=device)


class Sorted(nn.Module):
    def forward(self, x):
        return torch.add(*x.exp().frexp()) + torch.add(*x.cumsum(-1).frexp())


def test_require_full_compilation(run, model):
    x = torch.randn(5, 6)
    program = torch_stator.compile(nn.ReLU(), (x,), require_full_compilation=True)
    assert program.report["num_nodes_in_engines"] == 1  # min_block_size does not count
    with pytest.raises(UnsupportedError) as error:
        torch_stator.compile(Sorted(), (x,), require_full_compilation=True)
    assert str(error.value).count("test_settings.py:") == 2


def test_require_full_compilation_in_torch_compile(run, compilations):
    """No effect, as the guide says, and the report says so."""
    run(Sorted(), torch.randn(5, 6), coverage=None, require_full_compilation=True)
    (note,) = compilations[0].report["notes"]
    assert note.startswith("require_full_compilation has no effect in torch.compile")
    assert note in compilations[0].text


def test_engine_capability():
    default = torch_stator.EngineCapability.DEFAULT
    assert CompilationSettings(engine_capability="STANDARD").engine_capability is default
    for name in ("SAFETY", "DLA_STANDALONE"):
        with pytest.raises(UnsupportedError, match=f"no device engine for {name}"):
            CompilationSettings(engine_capability=name)


def test_num_avg_timing_iters(tmp_path, model):
    x = torch.randn(5, 6)
    torch_stator.compile(model, (x,), cache_dir=tmp_path)
    measured = len(str(times_measured(tmp_path)))
    torch_stator.compile(model, (x,), cache_dir=tmp_path, num_avg_timing_iters=3)
    text = str(times_measured(tmp_path))
    assert len(text) > measured
    assert "average of 3" in text


def test_dryrun(run, compilations, model, tmp_path, capsys):
    run(model, torch.randn(5, 6), coverage=None, dryrun=True)
    assert "aten.gelu" in capsys.readouterr().out
    torch._dynamo.reset()
    run(model, torch.randn(5, 6), coverage=None, dryrun=str(tmp_path / "report.json"))
    assert json.loads((tmp_path / "report.json").read_text())[0]["dryrun"] is True
    assert all(compilation.engines == [None] for compilation in compilations)


def test_hardware_compatible(model):
    """test/unit/cpu_build_tactics_test.cc tells which ways are left out on a CPU."""
    assert json.loads(CompilationSettings(hardware_compatible=True).to_json())[
        "hardware_compatible"
    ]
    for kernel_of in (True, False):
        text = plan_for_gpu(model, torch.randn(5, 6), hardware_compatible=kernel_of)
        arch = "compute_80" if kernel_of else "sm_90a"
        assert f'target "cuda {arch}"' in text
        assert f'code 0 = "{arch}"' in text


def test_workspace_size(run, compilations, model):
    x = torch.randn(5, 6)
    assert "workspace" not in plan_for_gpu(model, x)
    assert "workspace = 4096" in plan_for_gpu(model, x, workspace_size=4096)
    run(model, x, workspace_size=4096)
    assert "workspace_size has no effect on cpu: " in compilations[0].report["notes"][0]


def test_max_aux_streams(run, compilations, model):
    """test/unit/runtime_schedule_test.cc tells which steps go where, test_cuda.py that it runs."""
    x = torch.randn(5, 6)
    assert 'target "cuda sm_90a" aux_streams 3\n' in plan_for_gpu(model, x)
    assert "aux_streams" not in plan_for_gpu(model, x, max_aux_streams=0)
    assert 'target "cuda sm_90a" aux_streams 2\n' in plan_for_gpu(model, x, max_aux_streams=2)
    assert "aux_streams 64\n" in plan_for_gpu(model, x, max_aux_streams=1000)
    run(model, x, max_aux_streams=2)
    assert "aux_streams" not in compilations[0].engines[0].plan_text()
    assert "max_aux_streams has no effect on cpu: " in compilations[0].report["notes"][0]


def test_disable_tf32(model):
    """Torch allows TF32 in convolutions, and in products where one asks for it."""
    conv = nn.Sequential(nn.Conv2d(8, 8, 3), nn.ReLU())
    inputs = {conv: torch.randn(1, 8, 9, 9), model: torch.randn(5, 6)}

    def uses_tf32(model, **options):
        return "tf32 = true" in plan_for_gpu(model, inputs[model], **options)

    assert [uses_tf32(conv), uses_tf32(model)] == [True, False]
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        assert uses_tf32(model)
        assert not uses_tf32(model, disable_tf32=True)
        assert not uses_tf32(conv, disable_tf32=True)
        assert not uses_tf32(model, precision=torch.half)  # what it multiplies is no float32
    finally:
        torch.set_float32_matmul_precision(before)


def plan_for_gpu(model, x, **options):
    """The text of a plan for an H100 that is not there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch_stator.settings.require_engine", lambda device: None)
        settings = CompilationSettings(device="cuda", pass_through_build_failures=True, **options)
        document = json.loads(settings.to_json())
    document.update(device="sm_90a", min_block_size=1, cache_folder="", timing_cache="")
    exported = torch.export.export(model, (x,)).run_decompositions(settings.decompositions())
    try:
        compiled = _ffi.compile(
            export_graph(exported.graph_module, []), [], [], json.dumps(document)
        )
    except Error as error:
        if "NVRTC" in str(error) or "without CUDA's headers" in str(error):
            pytest.skip(str(error))
        raise
    return compiled.plan_text(0)


def test_cache(run, compilations, model):
    for cache in (True, True, False):
        run(model, torch.randn(5, 6), cache=cache)
        torch._dynamo.reset()
    found = [compilation.report["parts"][0]["cache"].split(":")[0] for compilation in compilations]
    assert found == ["miss", "hit", "off"]


def test_cache_dir(tmp_path, model):
    torch_stator.compile(model, (torch.randn(5, 6),), cache_dir=tmp_path / "here")
    assert list((tmp_path / "here").iterdir())
    torch_stator.compile(model, (torch.randn(5, 6),), cache_dir=None)
    assert not (tmp_path / "cache").exists()


def test_dynamic_shapes(compilations, model):
    """test_dynamic.py tells more."""
    counts = []
    for policy in ("auto", "static"):
        torch._dynamo.reset()
        before = len(compilations)
        options = {"min_block_size": 1, "optimization_level": 0, "dynamic_shapes": policy}
        compiled = torch.compile(model, backend="stator", dynamic=True, options=options)
        with torch.no_grad():
            for rows in (4, 7, 4):
                check(compiled, model, torch.randn(rows, 6))
        counts.append(len(compilations) - before)
    assert counts == [1, 2]
    engines = [compilation.engines[0].plan_text() for compilation in compilations]
    assert ["symbol" in text for text in engines] == [True, False, False]
    x = torch.randn(4, 6)
    program = torch_stator.compile(model, (x,), dynamic_shapes="static")  # as it is without
    with torch.no_grad():
        check(program, model, x)


def test_verify(run, model):
    """test_verify.py tells more."""
    torch_stator.reset_stats()
    run(model, torch.randn(5, 6), verify=True)
    assert torch_stator.stats().fallback_calls == 1
    assert torch_stator.stats().verify_failures == 0


def test_freeze_weights(run, compilations, model):
    for freeze in (True, False):
        run(model, torch.randn(5, 6), freeze_weights=freeze)
        torch._dynamo.reset()
    names = [len(compilation.engines[0].weight_names()) for compilation in compilations]
    assert names == [4, 0]


# ---- fields without an effect on the CPU engine

WITHOUT_EFFECT = {
    "workspace_size": 2**20,
    "max_aux_streams": 2,
    "version_compatible": True,
    "disable_tf32": True,
    "sparse_weights": True,
    "refit": True,
    "dla_sram_size": 1,
    "dla_local_dram_size": 1,
    "dla_global_dram_size": 1,
}


def test_without_effect_are_all():
    fields = [name for name, field in FIELDS.items() if field.metadata["no_effect"]["cpu"]]
    assert sorted(fields) == sorted(WITHOUT_EFFECT)
    assert CompilationSettings().notes() == []


@pytest.mark.parametrize("field", WITHOUT_EFFECT)
def test_without_effect(run, compilations, model, field):
    run(model, torch.randn(5, 6), **{field: WITHOUT_EFFECT[field]})
    (note,) = compilations[0].report["notes"]
    assert note.startswith(f"{field} has no effect on cpu: ")


# ---- bad values

BAD = {
    "precision": [torch.int8, "half", 16],
    "debug": ["yes", 1, None],
    "workspace_size": [-1, 1.5, True],
    "min_block_size": [0, -1, 2.5, float("nan"), "5"],
    "torch_executed_ops": ["aten.add", {"relu"}, {"aten.subb"}, {torch.sub}, 3],
    "pass_through_build_failures": [1],
    "max_aux_streams": [-1, "2"],
    "version_compatible": [None],
    "optimization_level": [6, -1, True, "3"],
    "use_python_runtime": ["cpp"],
    "truncate_long_and_double": [0],
    "use_fast_partitioner": ["global"],
    "enable_experimental_decompositions": [1],
    "device": ["gpu", 1.5],
    "require_full_compilation": ["all"],
    "disable_tf32": [1],
    "sparse_weights": [1],
    "refit": [1],
    "engine_capability": ["FAST", 0, None],
    "num_avg_timing_iters": [0, 1.5],
    "dla_sram_size": [-1],
    "dla_local_dram_size": [-1],
    "dla_global_dram_size": ["1GB"],
    "dryrun": [1, "", "/no/such/folder/report.txt", "/"],
    "hardware_compatible": [1],
    "cache": [1],
    "cache_dir": [3, ""],
    "freeze_weights": [None],
    "dynamic_shapes": ["dynamic", True, None, {0: 1}],
    "verify": [1, "yes"],
}


def test_bad_values_are_known_of_every_field():
    assert sorted(BAD) == sorted(FIELDS)


@pytest.mark.parametrize(("field", "value"), [(f, v) for f, values in BAD.items() for v in values])
def test_a_bad_value(field, value):
    with pytest.raises(InvalidArgumentError, match=f"option `{field}`: expected .*, found "):
        CompilationSettings.from_options({field: value})


@pytest.mark.parametrize("name", ["presicion", "truncate_double", "Debug", 7])
def test_an_unknown_name(name):
    options = {name: 1}
    with pytest.raises(InvalidArgumentError, match=f"unknown option `{name}`: did you mean `"):
        CompilationSettings.from_options(options)
    assert options == {name: 1}


def test_a_contradiction(model):
    options = {"require_full_compilation": True, "min_block_size": float("inf")}
    with pytest.raises(InvalidArgumentError, match="contradict each other"):
        torch_stator.compile(model, (torch.randn(5, 6),), **options)


def test_options_are_not_changed(run, model):
    options = {"torch_executed_ops": {"aten.sub"}, "min_block_size": 2}
    copy = {"torch_executed_ops": {"aten.sub"}, "min_block_size": 2}
    compiled = torch.compile(model, backend="stator", options=options)
    with torch.no_grad():
        check(compiled, model, torch.randn(5, 6))
    assert options == copy


# ---- documentation


def test_generated_docs_are_current():
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        runpy.run_path(str(ROOT / "tools/settings_table.py"))
    text = printed.getvalue()
    path = ROOT / "docs/generated/settings.md"
    if "STATOR_UPDATE_GOLDEN" in os.environ:
        path.write_text(text)
    assert path.read_text() == text, "run `make golden`"
