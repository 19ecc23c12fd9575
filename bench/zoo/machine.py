"""What a figure was measured on."""

import platform
from pathlib import Path

import torch


def describe_machine(num_threads=None):
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.split(":")[1].strip()
            break
    isa = torch.backends.cpu.get_cpu_capability()
    threads = num_threads or torch.get_num_threads()
    plural = "s" if threads > 1 else ""
    return f"{cpu} ({isa}), {threads} thread{plural}, torch {torch.__version__}"
