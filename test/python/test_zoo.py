"""A slice of the zoo (bench/run_zoo.py): right, one engine per graph. `make zoo` runs the whole."""

import argparse
import json
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import zoo
from zoo import jobs, measure, rows, table

SLICE = ("lraspp_mobilenet_v3_large", "ghostnet_100", "opt", "llama_generate")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLICE)
def test_model(name):
    row = measure.measure(name, rounds=0)
    assert row["status"] == "right", row
    assert table.is_whole(row), row
    assert row["graphs"] == (2 if name == "llama_generate" else 1)
    assert table.coverage(row) == 1


def test_a_wrong_output_is_found():
    x = torch.randn(100, dtype=torch.float64)
    eager = x.float()
    wrong = eager.clone()
    wrong[7] += 1e-4
    assert zoo.compare([eager], [eager], [x])["right"]
    assert not zoo.compare([wrong], [eager], [x])["right"]
    assert not zoo.compare([eager.double()], [eager], [x])["right"]
    assert not zoo.compare([eager * torch.nan], [eager], [x])["right"]
    assert not zoo.compare([], [eager], [x])["right"]


def test_outputs_that_say_nothing_are_found():
    assert zoo.relative_change([torch.zeros(4)], [torch.zeros(4)]) == 0
    assert zoo.relative_change([torch.zeros(0)], [torch.zeros(0)]) == 0
    assert zoo.relative_change([torch.ones(4)], [torch.ones(4) + 1e-5]) < measure.LEAST_CHANGE


def test_a_crash_is_a_row():
    text = table.to_markdown({"code": "c", "of": 1, "models": [make_row("m", "crash")]})
    assert "1 crashed" in text
    assert "ended with code -9" in text


def make_row(model, status="right", machine="here", **others):
    row = {"code": "c", "model": model, "machine": machine, "status": status, **others}
    return row if status == "right" else row | {"reason": "the process ended with code -9: killed"}


def test_rows_of_the_same_code_are_taken_together(tmp_path):
    ours, theirs = tmp_path / "ours.jsonl", tmp_path / "theirs.jsonl"
    there = [
        make_row("a", machine="there", ratio=2.0),
        make_row("b", "crash", machine="there"),
        make_row("c", "skipped", machine="there"),
        make_row("d", "crash", machine="there", code="of old"),
    ]
    theirs.write_text("".join(json.dumps(row) + "\n" for row in there))
    ours.write_text('{"code": "c", "mod')  # an interrupted write
    done = rows.Rows([ours, theirs], "c")
    for name in "abcd":
        done.add(make_row(name))
    again = rows.Rows([ours, theirs], "c")
    assert [again.best(name)["machine"] for name in "abcd"] == ["there", "there", "here", "here"]
    assert again.is_done("a", is_timed=True)
    assert not again.is_done("b", is_timed=False)
    assert again.is_done("c", is_timed=False)
    assert not again.is_done("c", is_timed=True)
    assert rows.Rows([ours], "other").best("a") is None


def test_rows_of_older_code_fill_up(tmp_path):
    ours, older = tmp_path / "ours.jsonl", tmp_path / "older.jsonl"
    older.write_text("".join(json.dumps(make_row(m, code="of old")) + "\n" for m in "ab"))
    done = rows.Rows([ours], "c", [older])
    done.add(make_row("a"))
    assert [done.best(name)["code"] for name in "ab"] == ["c", "of old"]
    assert not done.is_done("b", is_timed=False)
    told = {"engines": [], "nodes": [], "nodes_in_engines": [], "warnings": [], "fallbacks": []}
    told |= {"library": "l", "version": "1", "graphs": 0, "graph_breaks": [], "error": 0}
    told |= {"error_eager": 0, "tracing_s": 0, "compile_s": 0}
    models = [done.best(name) | told for name in "ab"]
    text = table.to_markdown({"code": "c", "of": 2, "models": models})
    assert "older code are the rows of b." in text


def test_timing_is_not_lost_to_a_run_without(tmp_path):
    done = rows.Rows([tmp_path / "rows.jsonl"], "c")
    done.add(make_row("a", ratio=1.5))
    done.add(make_row("a"))
    assert done.best("a")["ratio"] == 1.5
    done.add(make_row("a", "crash"))
    assert done.best("a")["status"] == "crash"
    done.add(make_row("a"))
    assert done.best("a")["status"] == "right"


def test_a_model_of_a_missing_library_is_skipped(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.importlib.util, "find_spec", lambda name: None)
    args = argparse.Namespace(jobs=2, threads=1, rounds=0, limit=1, folder=tmp_path)
    (row,) = jobs.run(["opt"], args, tell=lambda line: None)
    assert row["status"] == "skipped"
    assert "transformers" in row["reason"]
    assert "1 skipped" in table.to_markdown({"code": "c", "of": 1, "models": [{"code": "c"} | row]})
