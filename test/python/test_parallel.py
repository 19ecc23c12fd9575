"""Tensor parallelism: engines between the collectives, which torch.distributed runs, and weights
that are DTensors."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch has no distributed"),
]


def run_both(tmp_path, *arguments):
    """What each of two processes prints."""
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                str(Path(__file__).with_name("make_parallel.py")),
                str(rank),
                str(tmp_path / "store"),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        results = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in results]


def list_kinds(report):
    return [segment["kind"] for segment in report["segments"]]


def list_collectives(report):
    return [
        fallback["op"].split(".")[1]
        for fallback in report["fallbacks"]
        if not fallback["op"].endswith("wait_tensor.default")
    ]


GATHER, SCATTER = "all_gather_into_tensor", "reduce_scatter_tensor"
COLLECTIVES = {
    "tensor": ["all_reduce", "all_reduce"],
    "sequence": [GATHER, SCATTER, GATHER, SCATTER],
}
DEVICES = ["cpu"] + ["cuda"] * (torch.cuda.device_count() >= 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", COLLECTIVES)
def test_a_block_of_a_llama_in_two_processes(kind, device, tmp_path):
    for result in run_both(tmp_path, kind, device):
        report = result["reports"][0]
        assert list_kinds(report).count("engine") >= 2
        assert list_collectives(report) == COLLECTIVES[kind]
        reasons = {fallback["reason"] for fallback in report["fallbacks"]}
        assert reasons == {"a collective, which torch.distributed runs"}
        assert result["weights"] == 10, "an engine takes a weight as an input"
        assert result["refits"] > 0
        assert len(result["reports"]) == 1, "a change of weights compiled again"


def test_the_snippet_of_the_documentation(tmp_path):
    for result in run_both(tmp_path, "docs", "cpu"):
        assert result["engine_calls"] > 0
