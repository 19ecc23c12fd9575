"""The zoo: what becomes of each of its models, and whether it is right.

    python bench/run_zoo.py FOLDER [MODEL ...] [--rounds N] [--limit S] [--docs]

In:  models of bench/zoo, each in a process of its own: a crash, or a lack of memory, is one row.
Out: FOLDER/zoo.json and FOLDER/zoo.md; exit code 1 when a row is not right. FOLDER/rows.jsonl holds
     what is done: a run of the same code does those that are left, and those that were not right.
     Models that are named are done anew. With --docs the table goes to docs/generated/zoo.md. After
     an interrupt (control-C) the tables hold what is done.
A model is traced and compiled with the default options and an empty cache, and compared with eager
PyTorch by bench/zoo/compare.py. Calls of both alternate, and their medians are compared.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import models
import rich.console
import torch
import zoo
from run_zoo_table import describe_row, to_markdown
from torch_stator import FallbackWarning
from torch_stator.backend import on_compilation

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs/generated/zoo.md"
LEAST_CHANGE = 1e-3  # of the outputs, when the inputs are others
MOST_ERROR = 1e-2  # of eager: beyond, the outputs hang on rounding, or are random
PRELOADED = ("torchvision", "timm", "transformers.modeling_utils", "diffusers.models")
FORKS = multiprocessing.get_context("forkserver")  # of a process that has imported, not computed


def main():
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))  # of the fork server
    FORKS.set_forkserver_preload(["__main__", *PRELOADED])
    rows = run(args)
    report = {"machine": models.describe_machine(), "of": len(zoo.MODELS), "models": rows}
    (args.folder / "zoo.json").write_text(json.dumps(report, indent=1))
    text = to_markdown(report)
    (args.folder / "zoo.md").write_text(text)
    if args.docs:
        DOCS.write_text(text)
    print(text.partition("\n| ")[0])
    return 1 if any(row["status"] != "right" for row in rows) else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="takes the tables and what is done so far")
    parser.add_argument("models", nargs="*", help="names (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="to time; 0: none")
    parser.add_argument("--limit", type=int, default=600, help="seconds for one model")
    parser.add_argument("--docs", action="store_true", help="write docs/generated/zoo.md, too")
    return parser.parse_intermixed_args()


# ---- all models, each in a process


def run(args):
    """The rows of the models that args name, or of all; makes those that are not done."""
    names = list(zoo.MODELS)
    if unknown := sorted(set(args.models) - set(names)):
        raise SystemExit(f"no model {unknown[0]!r}: expected some of {', '.join(names)}")
    done = read_done(args.folder / "rows.jsonl", args.rounds)
    wanted = args.models or names
    console = rich.console.Console(stderr=True)
    with contextlib.suppress(KeyboardInterrupt), (args.folder / "rows.jsonl").open("a") as log:
        for i, name in enumerate(wanted):
            if not args.models and done.get(name, {}).get("status") == "right":
                continue
            with console.status(f"{i + 1} of {len(wanted)}: {name}"):
                done[name] = run_one(name, args)
            log.write(json.dumps(done[name]) + "\n")
            log.flush()
            print(describe_row(done[name]), flush=True)
    return [done[name] for name in wanted if name in done]


def run_one(name, args):
    """The row that a process of its own makes."""
    errors = args.folder / f"{name}.txt"
    receiver, sender = FORKS.Pipe(duplex=False)
    process = FORKS.Process(target=work, args=(name, args.rounds, errors, sender))
    process.start()
    sender.close()
    row = {"model": name, "status": "crash"}
    try:
        if receiver.poll(args.limit):
            row = receiver.recv()
            errors.unlink()
        else:
            row["reason"] = f"took longer than {args.limit} s"
    except EOFError:
        process.join()
        last = (errors.read_text().strip().splitlines() or ["no message"])[-1]
        row["reason"] = f"the process ended with code {process.exitcode}: {last}"[:400]
    process.join(10 if "status" in row else 0)
    process.kill()
    process.join()
    return row


def work(name, rounds, errors, sender):
    with errors.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sender.send(measure(name, rounds))


def read_done(path, rounds):
    """The rows of an earlier run of the same code; none where anything differs."""
    digest = hashlib.sha256(str(rounds).encode())
    library = ROOT / "python/torch_stator"
    judge = [ROOT / "bench/zoo/compare.py", ROOT / "bench/zoo/draw.py"]
    for file in sorted([*library.rglob("*.py"), *judge]):
        digest.update(file.read_bytes())
    digest.update((library / "lib/libstator_ffi.so").read_bytes())
    head = json.dumps({"code": digest.hexdigest()})
    text = path.read_text() if path.exists() else ""
    lines = text.splitlines()
    if not lines or lines[0] != head:
        path.write_text(head + "\n")
        return {}
    whole = lines[1:] if text.endswith("\n") else lines[1:-1]
    path.write_text("\n".join([head, *whole]) + "\n")
    return {row["model"]: row for row in map(json.loads, whole)}


# ---- one model, in this process


def measure(name, rounds):
    start = time.perf_counter()
    module, inputs = zoo.load(name)
    row = {"model": name, "library": zoo.MODELS[name].library}
    row["load_s"] = time.perf_counter() - start
    with torch.inference_mode(), tempfile.TemporaryDirectory() as cold, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = zoo.outputs_of(module(**inputs))
        row["change"] = zoo.relative_change(
            expected, zoo.outputs_of(module(**zoo.other_inputs(name)))
        )
        exact = zoo.compute_exact(module, inputs)
        compiled = zoo.compile_part(name, module, backend="stator", options={"cache_dir": cold})
        row |= compile_and_call(
            compiled, inputs, lambda outputs: zoo.compare(outputs, expected, exact)
        )
        if rounds:
            ways = {"eager": lambda: module(**inputs), "stator": lambda: compiled(**inputs)}
            row["ms"] = zoo.time_in_turn(ways, rounds=rounds)
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
        outputs = zoo.outputs_of(compiled(**inputs))
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


if __name__ == "__main__":
    sys.exit(main())
