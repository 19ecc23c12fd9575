"""Weights that a thread packs behind the compilation: nobody sees them half done."""

import os
import subprocess
import sys

import pytest
import torch
import torch_stator
from conftest import check
from torch import nn


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(*[nn.Linear(1024, 1024) for _ in range(6)]).eval()  # 24 MiB


@pytest.fixture
def x():
    return torch.randn(4, 1024)


def test_the_first_call_packs_what_is_left(model, x):
    for _ in range(3):
        with torch.no_grad():
            check(torch_stator.compile(model, (x,)), model, x)


def test_a_weight_changes_while_it_is_packed(model, x):
    for change in (lambda w: w.neg_(), lambda w: w.data.neg_()):
        program = torch_stator.compile(model, (x,))
        with torch.no_grad():
            for layer in model:
                change(layer.weight)
            check(program, model, x)


@pytest.mark.parametrize("calls", [0, 1])
def test_a_child_packs_for_itself(model, x, calls):
    with torch.no_grad():
        expected = model(x)
        program = torch_stator.compile(model, (x,))
        for _ in range(calls):
            program(x)
        child = os.fork()
        if child == 0:
            right = torch.allclose(program(x), expected, rtol=1e-4, atol=1e-5)
            os._exit(0 if right else 1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        check(program, model, x)


def test_a_program_that_is_not_called(model, x):
    torch_stator.compile(model, (x,))  # its engine goes while it is packed


@pytest.mark.slow
def test_the_process_ends():
    code = (
        "import torch, torch_stator\n"
        "layers = [torch.nn.Linear(1024, 1024) for _ in range(6)]\n"
        "keep = torch_stator.compile(torch.nn.Sequential(*layers), (torch.randn(4, 1024),))\n"
        "torch.keep = keep"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
