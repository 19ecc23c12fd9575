"""The main job: five models by eager PyTorch and by Stator, side by side in one process.

Every model compiles with empty caches. Every output is compared element by element before anything
is timed (zoo/compare.py), and a wrong output makes the exit code 1. Calls of all ways alternate,
and the medians of each are compared.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import peers
import rich.console
import rich.table
import torch
from readme import to_markdown
from torch_stator.backend import on_compilation
from zoo import BENCHMARKS, compare, compute_exact, load, outputs_of, time_in_turn
from zoo.machine import describe_machine


def main():
    args = parse_arguments()
    rows = []
    with torch.inference_mode():
        for name in args.models or BENCHMARKS:
            with rich.console.Console(stderr=True).status(f"{name}: compiling and timing"):
                rows.append(measure(name, args))
            torch._dynamo.reset()
    geomean = statistics.geometric_mean(row["ratio"] for row in rows)
    report = {"machine": describe_machine(), "geomean": geomean, "models": rows}
    if args.markdown:
        print(to_markdown(report))
    else:
        print_table(report)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(report, indent=1))
    wrong = [row["model"] for row in rows if not row["right"]]
    if wrong:
        print(f"wrong results: {', '.join(wrong)}", file=sys.stderr)
    return 1 if wrong else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--seconds", type=float, default=8, help="to spend on timing each model")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    parser.add_argument(
        "--markdown", action="store_true", help="print the table as README.md has it"
    )
    parser.add_argument(
        "--peers",
        nargs="*",
        default=[],
        choices=peers.PEERS,
        help="others to time in the same run, where they can be imported",
    )
    args = parser.parse_args()
    unknown = sorted(set(args.models) - set(BENCHMARKS))
    if unknown:
        parser.error(f"no model {unknown[0]!r}: expected some of {', '.join(BENCHMARKS)}")
    args.peers = peers.find_installed(args.peers)
    return args


def measure(name, args):
    """A row: times, errors, compile seconds and coverage of one model."""
    module, inputs = load(name)
    expected = outputs_of(module(**inputs))
    compilations = []
    on_compilation.append(compilations.append)
    with tempfile.TemporaryDirectory() as cold:
        options = {"cache_dir": cold}
        compiled = torch.compile(module, backend="stator", dynamic=False, options=options)
        start = time.perf_counter()
        actual = outputs_of(compiled(**inputs))
        first_call = time.perf_counter() - start
    on_compilation.pop()
    reports = [compilation.report for compilation in compilations]
    own = sum(compilation.seconds for compilation in compilations)
    parts = [part for report in reports for part in report["parts"]]

    ways = {"eager": lambda: module(**inputs), "stator": lambda: compiled(**inputs)}
    for peer in args.peers:
        ways[peer] = peers.PEERS[peer](module, inputs)
    ms = time_in_turn(ways, args.seconds)
    return {
        "model": name,
        "ms": ms,
        "ratio": ms["eager"] / ms["stator"],
        **compare(actual, expected, compute_exact(module, inputs)),
        "tracing_s": first_call - own,
        "compile_s": own,
        "segments": sum(part["kind"] == "engine" for part in parts),
        "coverage": sum(report["num_nodes_in_engines"] for report in reports)
        / max(1, sum(report["num_nodes"] for report in reports)),
    }


def print_table(report):
    table = rich.table.Table(title="Batch 1, fp32, medians of calls in turn")
    headers = ["model", *(f"{way} ms" for way in report["models"][0]["ms"]), "ratio", "max abs err"]
    headers += ["max rel err", "trace s", "compile s", "segments", "in engines"]
    for header in headers:
        table.add_column(header, justify="left" if header == "model" else "right")
    for row in report["models"]:
        colour = "green" if row["right"] else "red"
        table.add_row(
            row["model"],
            *(f"{ms:.2f}" for ms in row["ms"].values()),
            f"{row['ratio']:.2f}x",
            f"[{colour}]{row['max_abs']:.1e}",
            f"[{colour}]{row['max_rel']:.1e}",
            f"{row['tracing_s']:.1f}",
            f"{row['compile_s']:.1f}",
            str(row["segments"]),
            f"{row['coverage']:.0%}",
        )
    console = rich.console.Console()
    if not console.is_terminal:
        console.width = 160
    console.print(table)
    print(f"geomean {report['geomean']:.2f}x over eager on {report['machine']}")


if __name__ == "__main__":
    sys.exit(main())
