"""Threads of the CPU engine: torch's OpenMP pool, and as many of them as torch uses."""

import ctypes
import threading
from pathlib import Path

import pytest
import torch
from torch import nn

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/maps").exists() or not torch.backends.openmp.is_available(),
    reason="needs Linux and a torch with OpenMP",
)


def test_one_openmp_runtime_serves_torch_and_the_engine(run):
    run(nn.Linear(8, 8).eval(), torch.randn(4, 8))
    lines = Path("/proc/self/maps").read_text().splitlines()
    runtimes = {line.split()[-1] for line in lines if "libgomp" in line or "libiomp" in line}
    assert len(runtimes) == 1, runtimes


def test_a_new_thread_uses_as_many_threads_as_torch(run):
    x = torch.randn(4, 8)
    compiled = run(nn.Linear(8, 8).eval(), x)
    counts = []

    def work():
        with torch.no_grad():
            compiled(x)
        counts.append(ctypes.CDLL(None).omp_get_max_threads())

    before = torch.get_num_threads()
    for count in (1, 3):
        torch.set_num_threads(count)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    torch.set_num_threads(before)
    assert counts == [1, 3]
