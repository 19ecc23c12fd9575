"""Dry runs, the coverage report and the counters of torch_stator.stats."""

import json
import resource
import threading
import timeit

import pytest
import torch
import torch_stator
from torch import nn
from torch_stator.report import GraphReport, publish
from torch_stator.stats import CACHE_MISSES, count


class Sorts(nn.Module):
    """Two regions for engines around a frexp, which torch runs."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.fc2(torch.add(*self.fc1(x).relu().frexp()).exp()).tanh()


def call(model, *inputs, **options):
    options = {"optimization_level": 0, "min_block_size": 1, **options}
    compiled = torch.compile(model, backend="stator", dynamic=False, options=options)
    with torch.no_grad():
        torch.testing.assert_close(compiled(*inputs), model(*inputs))
    return compiled


# ---- the report


@pytest.mark.parametrize("options", [{"dryrun": True}, {"debug": True, "min_block_size": 10**9}])
def test_both_recipes_report_and_build_nothing(compilations, capfd, options):
    call(Sorts(), torch.randn(2, 6), **options)
    assert compilations[-1].engines.count(None) == len(compilations[-1].engines)
    out, err = capfd.readouterr()
    text = out if options.get("dryrun") else err
    assert "aten.frexp.Tensor" in text
    assert "coverage" in text
    assert "test_report.py:" in text
    assert "f32[2, 6]" in text
    assert "would give 2 engines" in text


def test_infinity_builds_nothing(compilations, capfd):
    call(Sorts(), torch.randn(2, 6), debug=True, min_block_size=float("inf"))
    assert compilations[-1].report["num_engines"] == 0
    assert compilations[-1].report["num_supported"] > 0
    assert "min_block_size is infinite" in capfd.readouterr().err


def test_report_as_data(compilations, tmp_path):
    path = tmp_path / "report.json"
    call(Sorts(), torch.randn(2, 6), dryrun=str(path), torch_executed_ops={"aten.tanh"})
    (report,) = json.loads(path.read_text())
    assert [segment["kind"] for segment in report["segments"]] == [
        *("engine", "torch", "engine", "torch")
    ]
    assert report["segments"][0]["inputs"] == [{"name": "x", "dtype": "f32", "shape": [2, 6]}]
    assert report["num_nodes"] == sum(segment["num_ops"] for segment in report["segments"])
    assert report["num_supported"] == report["num_nodes"] - 2
    reasons = {fallback["op"]: fallback["reason"] for fallback in report["fallbacks"]}
    assert reasons["aten.tanh.default"] == "listed in torch_executed_ops"
    assert all("test_report.py:" in fallback["location"] for fallback in report["fallbacks"])
    assert report["settings"]["torch_executed_ops"] == "['aten.tanh']"
    assert report["dryrun"] is True


def test_what_min_block_size_would_give_is_what_it_gives(compilations):
    model, x = Sorts(), torch.randn(2, 6)
    call(model, x)
    choices = compilations[-1].report["min_block_size"]
    assert len(choices) == 2
    for choice in choices:
        torch._dynamo.reset()
        call(model, x, min_block_size=choice["min_block_size"])
        report = compilations[-1].report
        assert report["num_engines"] == choice["num_engines"]
        assert report["num_nodes_in_engines"] == choice["num_nodes_in_engines"]


def test_a_file_collects_the_reports_of_all_graphs(tmp_path):
    path = tmp_path / "report.txt"
    compiled = call(Sorts(), torch.randn(2, 6), dryrun=path)
    with torch.no_grad():
        compiled(torch.randn(5, 6))
    text = path.read_text()
    assert text.count("coverage") == 2
    assert "f32[5, 6]" in text


def test_a_report_that_cannot_be_written_is_printed(tmp_path, capfd):
    folder = tmp_path / "folder"
    folder.mkdir()
    settings = torch_stator.CompilationSettings(dryrun=str(folder / "report.txt"))
    folder.rmdir()
    publish(GraphReport({}, "what became of it"), settings)
    out, err = capfd.readouterr()
    assert "what became of it" in out
    assert "cannot be written" in err


def test_a_report_for_a_full_disk_is_printed(tmp_path, capsys):
    """No file may grow beyond 64 bytes."""
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, most))
    try:
        call(Sorts(), torch.randn(2, 6), dryrun=tmp_path / "report.json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    out, err = capsys.readouterr()
    assert "coverage" in out
    assert "the report cannot be written" in err


def test_a_report_of_dynamic_sizes(tmp_path):
    path = tmp_path / "report.json"
    options = {"dryrun": path, "min_block_size": 1}
    x = torch.randn(8, 6)
    torch._dynamo.mark_dynamic(x, 0, min=2, max=64)
    with torch.no_grad():
        torch.compile(Sorts(), backend="stator", options=options)(x)
    (report,) = json.loads(path.read_text())
    ((symbol, bounds),) = report["graph"]["symbols"].items()
    assert bounds == [2, 64]
    assert report["segments"][0]["inputs"][0]["shape"] == [symbol, 6]
    assert report["segments"][1]["outputs"][0]["shape"] == [symbol, 6]


def test_explain_as_a_page():
    page = torch_stator.explain(Sorts(), torch.randn(2, 6), options={"min_block_size": 1}).to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert "aten.frexp.Tensor" in page
    assert "http" not in page  # nothing is loaded


@pytest.mark.parametrize("fast", [True, False])
def test_partitioners_compute_the_same(fast):
    call(Sorts(), torch.randn(2, 6), use_fast_partitioner=fast, min_block_size=2)


# ---- counters


def test_two_batch_sizes_compile_twice():
    torch_stator.reset_stats()
    compiled = torch.compile(
        nn.Linear(6, 3), backend="stator", dynamic=False, options={"min_block_size": 1}
    )
    with torch.no_grad():
        for batch in (4, 8, 4, 8, 4):
            compiled(torch.randn(batch, 6))
    stats = torch_stator.stats()
    assert stats.compiles == 2
    assert stats.engine_calls == 5
    assert stats.fallback_calls == 0


def test_another_path_through_the_code_compiles_once():
    class Branches(nn.Module):
        def forward(self, x, flag):
            return x.exp() if flag else x.sin()

    torch_stator.reset_stats()
    compiled = torch.compile(
        Branches(), backend="stator", dynamic=False, options={"min_block_size": 1}
    )
    with torch.no_grad():
        for flag in (True, False, True, False):
            compiled(torch.randn(3), flag)
    assert torch_stator.stats().compiles == 2


def test_fallbacks_and_refits_are_counted():
    model, x = Sorts(), torch.randn(2, 6)
    compiled = call(model, x)
    torch_stator.reset_stats()
    with torch.no_grad():
        compiled(x)
        assert torch_stator.stats().refits == 0
        model.fc1.weight.mul_(2)
        compiled(x)
    stats = torch_stator.stats()
    assert stats.refits >= 1
    assert stats.engine_calls == 4
    assert stats.fallback_calls == 2


def test_cache_hits_and_misses_are_counted(tmp_path):
    model, x = nn.Linear(6, 3), torch.randn(2, 6)
    torch_stator.reset_stats()
    for _ in range(2):
        torch._dynamo.reset()
        call(model, x, cache_dir=tmp_path / "engines")
    stats = torch_stator.stats()
    assert (stats.compiles, stats.cache_misses, stats.cache_hits) == (2, 1, 1)
    assert sum(stats.cache_miss_reasons.values()) == 1


def test_a_dry_run_cannot_be_saved(tmp_path, capfd):
    program = torch_stator.compile(
        nn.Linear(6, 3).eval(), (torch.randn(2, 6),), min_block_size=1, dryrun=True
    )
    with pytest.raises(torch_stator.UnsupportedError, match="dry run"):
        program.save(tmp_path / "model.stator")
    assert "coverage" in capfd.readouterr().out


def test_counting_from_threads_loses_nothing():
    torch_stator.reset_stats()

    def work():
        for _ in range(1000):
            count(CACHE_MISSES, "not in the folder")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stats = torch_stator.stats()
    assert stats.cache_misses == 8000
    assert stats.cache_miss_reasons == {"not in the folder": 8000}
    assert "8000x: not in the folder" in str(stats)
    torch_stator.reset_stats()
    assert torch_stator.stats().cache_misses == 0


def test_counting_is_cheap():
    seconds = timeit.repeat(lambda: count(CACHE_MISSES), number=100, repeat=200)
    assert min(seconds) / 100 < 1e-6
