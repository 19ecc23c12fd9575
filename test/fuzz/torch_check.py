"""Random graphs against torch: each node by the torch expression that its row declares.

torch_check.py graph.ir [--seed N]    exits with 0 when torch differs, as `stator reduce --test`
                                      wants it
"""

import argparse
import collections
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch_stator import _ffi

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "test/conformance"))

from torch_rows import DTYPES, evaluate_row  # noqa: E402

FUZZ = Path(os.environ.get("STATOR_FUZZ", ROOT / "build/test/fuzz"))
ROWS = {row["name"]: row for row in json.loads(_ffi.op_table())}
FEW_SAMPLES, MANY_SAMPLES = 8, 64


class Undefined(Exception):
    """Something of which torch does not say what it gives."""


def read_cases(*args):
    """Yields (header, bytes) of what test/fuzz/case_stream.h writes."""
    with subprocess.Popen([FUZZ, *map(str, args)], stdout=subprocess.PIPE) as process:
        while line := process.stdout.readline():
            header = json.loads(line)
            yield header, process.stdout.read(header["bytes"])
        if process.wait() != 0:
            raise RuntimeError(f"{FUZZ} {args}: exit code {process.returncode}")


class Reader:
    def __init__(self, data):
        self.data, self.at = bytearray(data), 0

    def read(self, dtype, dims):
        count = math.prod(dims)
        if count == 0:
            return torch.zeros(dims, dtype=dtype)
        tensor = torch.frombuffer(self.data, dtype=dtype, count=count, offset=self.at)
        self.at += count * dtype.itemsize
        return tensor.clone().reshape(dims)


DIVISIONS = ("floor_div", "trunc_div", "remainder", "fmod")


def check_defined(op, inputs):
    if op in DIVISIONS and not inputs[0].dtype.is_floating_point:
        smallest = torch.iinfo(inputs[0].dtype).min
        if (inputs[1] == 0).any() or ((inputs[1] == -1).any() and (inputs[0] == smallest).any()):
            raise Undefined("integer division by zero, or of the smallest integer by -1")


def check_results_defined(node, inputs, results):
    op = node["op"]
    if op == "max_pool_indices" and (results[0] >= math.prod(inputs[0].shape[2:])).any():
        raise Undefined("the index of the largest element of padding alone")
    # of a row-major image torch 2.15 takes the intermediate for a channels-last one
    if op == "resample" and node["attrs"]["mode"].endswith("_aa") and results[0].shape[-1] == 1:
        raise Undefined("an antialiased image one pixel wide: in torch strides decide")


def evaluate(case, leaves):
    """The graph's outputs by torch; what is undefined raises Undefined."""
    values = dict(zip(case["leaves"], leaves, strict=True))
    for node in case["nodes"]:
        inputs = [values[i] if i >= 0 else None for i in node["inputs"]]
        check_defined(node["op"], inputs)
        dtypes = [DTYPES[case["values"][str(i)][0]] for i in node["outputs"]]
        try:
            results = evaluate_row(ROWS[node["op"]], inputs, node["attrs"], dtypes)
        except NotImplementedError as error:  # a row may hold more than torch's function takes
            raise Undefined(f"{node['op']} of a kind that torch does not implement") from error
        except (RuntimeError, IndexError) as error:
            if "INTERNAL ASSERT" in str(error):
                raise Undefined("what is a mistake in torch, as it says itself") from error
            if "without overflow" in str(error):
                raise Undefined("a number that torch does not convert") from error
            # the rows' rules let sizes pass that are symbols, or 0, or a window's on padding
            symbolic = "where s" in case["graph"].partition("\n")[0]
            dims = [t.shape for t in inputs if t is not None]
            dims += [case["values"][str(i)][1] for i in node["outputs"]]
            empty = any(0 in sizes for sizes in dims)
            if symbolic or empty or "smaller than kernel size" in str(error):
                raise Undefined("sizes that torch rejects") from error
            raise
        check_results_defined(node, inputs, results)
        for index, result in zip(node["outputs"], results, strict=True):
            dims = case["values"][str(index)][1]
            if list(result.shape) != dims:
                raise AssertionError(f"{node['op']} gives {list(result.shape)}, not {dims}")
            values[index] = result
    return [values[i] for i in case["outputs"]]


def find_difference(case, data):
    """What differs, in words, or an empty string."""
    reader = Reader(data)

    def read(index):
        dtype, dims = case["values"][str(index)]
        return reader.read(DTYPES[dtype], dims)

    leaves = [read(i) for i in case["leaves"]]
    found = evaluate(case, leaves)
    expected = [read(i) for i in case["outputs"]]
    for k, (a, e) in enumerate(zip(found, expected, strict=True)):
        bound = reader.read(torch.float64, list(e.shape))
        same = (a == e) | ((a != a) & (e != e))
        near = (a.double() - e.double()).abs() <= bound
        wrong = ~(same | torch.isinf(bound) | (near & e.dtype.is_floating_point))
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            return (
                f"output {k}, element {list(at)}: torch gives {a[at].item()}, "
                f"expected {e[at].item()} +- {bound[at].item():.3g}"
            )
    return ""


def compare(first, count, skipped):
    """Yields (seed, difference) of the graphs that differ; counts what is not compared and why."""
    for case, data in read_cases("cases", first, count, FEW_SAMPLES):
        seed = int(case["name"].split()[1])
        try:
            difference = find_difference(case, data)
            if difference:  # with few samples a bound may be too small
                for case, data in read_cases("cases", seed, 1, MANY_SAMPLES):
                    difference = find_difference(case, data)
        except Undefined as reason:
            skipped[str(reason)] += 1
            continue
        except Exception as error:
            difference = f"torch raises {type(error).__name__}: {str(error).splitlines()[0]}"
        if difference:
            yield seed, difference


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("graph", nargs="?", help="a graph in text form")
    parser.add_argument("--seed", type=int, default=0, help="of inputs, or the first graph's")
    parser.add_argument("--count", type=int, default=0, help="random graphs to compare")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.graph:
        differences = []
        for case, data in read_cases("case", args.graph, args.seed, MANY_SAMPLES):
            try:
                differences.append(find_difference(case, data))
            except Undefined:
                differences.append("")
            except Exception as error:
                differences.append(f"torch raises {type(error).__name__}: {error}")
        print(*differences)
        sys.exit(0 if any(differences) else 1)
    skipped, num_bad = collections.Counter(), 0
    for seed, difference in compare(args.seed, args.count, skipped):
        print(f"seed {seed}, torch: {difference}", flush=True)
        num_bad += 1
    for reason, count in skipped.items():
        print(f"{count} graphs not compared with torch: {reason}")
    sys.exit(1 if num_bad else 0)


if __name__ == "__main__":
    main()
