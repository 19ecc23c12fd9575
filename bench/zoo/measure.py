"""One model of the zoo, in this process: whether Stator's outputs are right, and what it made.

In:  a name. Out: its row, a dictionary that JSON holds.
"""

import collections
import importlib.metadata
import tempfile
import time
import warnings

import torch
from torch_stator import FallbackWarning
from torch_stator.backend import on_compilation

from . import MODELS, compile_part, load, other_inputs
from .compare import compare, compute_exact, relative_change
from .machine import describe_machine
from .model import outputs_of
from .timing import time_in_turn

LEAST_CHANGE = 1e-3  # of the outputs, when the inputs are others
MOST_ERROR = 1e-2  # of eager: beyond, the outputs hang on rounding, or are random


def measure(name, rounds):
    start = time.perf_counter()
    module, inputs = load(name)
    library = MODELS[name].library
    row = {"model": name, "library": library, "version": importlib.metadata.version(library)}
    row["machine"] = describe_machine()
    row["load_s"] = time.perf_counter() - start
    with torch.inference_mode(), tempfile.TemporaryDirectory() as cold, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = outputs_of(module(**inputs))
        row["change"] = relative_change(expected, outputs_of(module(**other_inputs(name))))
        exact = compute_exact(module, inputs)
        compiled = compile_part(name, module, backend="stator", options={"cache_dir": cold})
        row |= compile_and_call(compiled, inputs, lambda outputs: compare(outputs, expected, exact))
        if rounds:
            ways = {"eager": lambda: module(**inputs), "stator": lambda: compiled(**inputs)}
            row["ms"] = time_in_turn(ways, rounds=rounds)
            row["ratio"] = row["ms"]["eager"] / row["ms"]["stator"]
    if not row["change"] >= LEAST_CHANGE or row["error_eager"] > MOST_ERROR:
        row["status"] = "says nothing"
    elif not row["right"]:
        row["status"] = "wrong"
    else:
        row["status"] = "right"
    return row


def compile_and_call(compiled, inputs, compare):
    """What the first call shows: graphs, engines, seconds, errors."""
    compilations = []
    on_compilation.append(compilations.append)
    torch._dynamo.utils.counters.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", FallbackWarning)
        start = time.perf_counter()
        outputs = outputs_of(compiled(**inputs))
        first_call = time.perf_counter() - start
    counters = torch._dynamo.utils.counters
    reports = [compilation.report for compilation in compilations]
    own = sum(compilation.seconds for compilation in compilations)
    return {
        **compare(outputs),
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": [[text.splitlines()[0], n] for text, n in counters["graph_break"].items()],
        "engines": [report["num_engines"] for report in reports],
        "nodes": [report["num_nodes"] for report in reports],
        "nodes_in_engines": [report["num_nodes_in_engines"] for report in reports],
        "fallbacks": count_fallbacks(reports),
        "warnings": [str(warning.message) for warning in caught],
        "tracing_s": first_call - own,
        "compile_s": own,
    }


def count_fallbacks(reports):
    """[op, reason, number of nodes], most frequent first."""
    counts = collections.Counter(
        (fallback["op"], fallback["reason"])
        for report in reports
        for fallback in report["fallbacks"]
    )
    return [[op, reason, n] for (op, reason), n in counts.most_common()]
