"""What a call costs beside the work: an engine with one input and one output, called from Python.

The work is one ReLU of 8 elements, so that the time is the call's own. Dynamo's guards are measured
apart, by a backend that runs the graph as it is. All are timed in turn, in one process.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import rich
import rich.table
import torch
import torch_stator
from torch_stator.backend import on_compilation

BOUND_US = 10
CALLS, ROUNDS = 2000, 15


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    x = torch.randn(8)
    module = torch.nn.ReLU().eval()
    compilations = []
    on_compilation.append(compilations.append)
    with torch.inference_mode():
        compiled = torch.compile(module, backend="stator", options={"min_block_size": 1})
        torch.testing.assert_close(compiled(x), module(x))
        ways = {
            "torch eager": module,
            "stator, the engine alone": compilations[0].engines[0].function(False),
            "stator, compiled ahead": torch_stator.compile(module, (x,), min_block_size=1),
            "torch.compile, eager backend": torch.compile(module, backend="eager"),
            "torch.compile, stator": compiled,
        }
        micros = time_in_turn(ways, x)
    own = micros["torch.compile, stator"] - micros["torch.compile, eager backend"]
    own += micros["torch eager"]  # the eager backend's graph also runs the ReLU
    results = {**micros, "stator beside dynamo's guards": own}

    table = rich.table.Table(title="One call, one input, one output")
    table.add_column("way")
    table.add_column("µs", justify="right")
    for way, us in results.items():
        table.add_row(way, f"{us:.1f}")
    rich.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(results, indent=1))
    within = max(micros["stator, compiled ahead"], own) <= BOUND_US
    print(f"call overhead is {'within' if within else 'over'} {BOUND_US} µs")
    return 0 if within else 1


def time_in_turn(ways, x):
    """{way: median µs of a call}; each round times every way."""
    times = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, fn in ways.items():
            start = time.perf_counter()
            for _ in range(CALLS):
                fn(x)
            times[way].append((time.perf_counter() - start) / CALLS * 1e6)
    return {way: statistics.median(us) for way, us in times.items()}


if __name__ == "__main__":
    sys.exit(main())
