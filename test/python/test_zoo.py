"""A slice of the zoo (bench/run_zoo.py): right, one engine per graph. `make zoo` runs the whole."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "bench"))
import run_zoo
import run_zoo_table
import zoo

SLICE = ("lraspp_mobilenet_v3_large", "ghostnet_100", "opt", "llama_generate")


@pytest.mark.parametrize("name", SLICE)
def test_model(name):
    row = run_zoo.measure(name, rounds=0)
    assert row["status"] == "right", row
    assert run_zoo_table.is_whole(row), row
    assert row["graphs"] == (2 if name == "llama_generate" else 1)
    assert run_zoo_table.coverage(row) == 1


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
    assert zoo.relative_change([torch.ones(4)], [torch.ones(4) + 1e-5]) < run_zoo.LEAST_CHANGE


def test_a_crash_is_a_row():
    row = {"model": "m", "status": "crash", "reason": "the process ended with code -9: killed"}
    text = run_zoo_table.to_markdown({"machine": "here", "of": 1, "models": [row]})
    assert "1 crashed" in text
    assert "ended with code -9" in text
