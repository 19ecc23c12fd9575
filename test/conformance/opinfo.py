"""PyTorch's OpInfo database run through the backend and compared with eager, as a table.

    python test/conformance/opinfo.py build/opinfo [--ops add conv ...] [--dtypes f32 ...]
        [--variants static dynamic ...] [--most N] [--jobs N] [--earlier] [--report]
        [--docs]

In:  each op, each dtype that it claims, each variant (opinfo_samples.py); all samples, or
     N of each.
Out: FOLDER/opinfo.json and FOLDER/opinfo.md; exit code 1 when a sample failed. FOLDER/units.jsonl
     holds what is done: an interrupted run of the same code goes on from there; with --earlier, so
     does one of other code, and the tables say of how many states of the code they are. With
     --report, the tables are of what is done, and nothing is run. With --docs, the totals go into
     docs/generated/ops.md.
A unit is an op, a dtype and a variant. Worker processes run them, GROUP samples in one graph. A
process that dies, or takes longer than LIMIT seconds, is replaced, and runs the samples of that
group one by one; one that is alone then has failed.

What a variant proves, beyond dtypes, sizes, strides and elements being eager's:
static     sizes are constants: each op, argument and dtype
dynamic    sizes are symbols: the rules of sizes, and what a plan computes of them for a call
strided    the op reads tensors with gaps between elements
permuted   the op reads tensors whose dims lie in memory in reverse order; results lie as eager's
errors     what eager refuses, the backend refuses too, and not by an error of its own
dynamo     one sample of each op through torch.compile itself: dynamo, guards, a call
"""

import argparse
import collections
import hashlib
import itertools
import json
import math
import os
import queue
import select
import subprocess
import sys
import threading
from pathlib import Path

import opinfo_report
import rich.progress
from opinfo_report import KIND

LIMIT = 300
GROUP = {"dynamic": 8}  # a graph with many symbols is slow to trace
DEFAULT_GROUP = 16
START_LIMIT = 600  # for a process to start: torch and its tests are large
DTYPES = ("f32", "f16", "bf16", "f64", "i64", "i32", "i16", "i8", "u8", "bool")
VARIANTS = ("static", "dynamic", "strided", "permuted", "errors", "dynamo")
ROOT = Path(__file__).parents[2]


def main():
    args = parse_arguments()
    if args.worker:
        return work(args.device)

    def keep(op, dtype, variant):
        named = args.ops is None or op in args.ops
        return named and (variant == KIND or dtype in args.dtypes and variant in args.variants)

    jobs = 0 if args.report else args.jobs
    report = run(args.folder, keep, args.most, jobs, args.earlier, args.device)
    print(opinfo_report.totals_to_markdown(report))
    for failure in report["failures"]:
        print(opinfo_report.describe_failure(failure))
    if args.docs:
        opinfo_report.write_docs(report)
    return 1 if report["failures"] else 0


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="takes the tables and what is done so far")
    parser.add_argument("--ops", nargs="*", help="OpInfo's full names (default: all)")
    parser.add_argument("--dtypes", nargs="*", default=DTYPES)
    parser.add_argument("--variants", nargs="*", default=VARIANTS)
    parser.add_argument("--most", type=int, help="samples of each op, dtype and variant")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="worker processes")
    parser.add_argument("--earlier", action="store_true", help="keep the results of other code")
    parser.add_argument("--report", action="store_true", help="run nothing")
    parser.add_argument("--docs", action="store_true", help="write the totals into the docs")
    parser.add_argument("--device", default="cpu", help="cuda: the samples' tensors lie there")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---- the workers


def work(device):
    """Runs the tasks on stdin, one JSON text a line; answers in lines of JSON: [index, text] of the
    samples of a group before it runs, [index, text, kind, reason] of each after, null at the end.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what torch prints is no answer

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    import torch

    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False  # results in float32 are compared as such
    import opinfo_check  # torch's tests, which it imports, fix such flags
    import opinfo_samples

    opinfo_samples.DEVICE = device
    for line in sys.stdin:
        task = json.loads(line)
        if "op" not in task:
            for name, op in opinfo_samples.OPS.items():
                claims = itertools.product(opinfo_samples.DTYPES, opinfo_samples.VARIANTS)
                answer([name, [c for c in claims if opinfo_samples.has_dtype(op, *c)]])
        elif task["variant"] == KIND:
            answer(opinfo_check.classify(opinfo_samples.OPS[task["op"]]))
        else:
            _run_samples(task, answer)
        answer(None)
    return 0


def _run_samples(task, answer):
    import opinfo_check
    import opinfo_samples

    op, dtype, variant = opinfo_samples.OPS[task["op"]], task["dtype"], task["variant"]
    samples = opinfo_samples.make_samples(op, dtype, variant, task["most"])
    samples = [(index, sample) for index, sample in samples if index >= task["start"]]
    while samples:
        alone = samples[0][0] <= task["last_alone"]
        size = 1 if alone else GROUP.get(variant, DEFAULT_GROUP)
        group, samples = samples[:size], samples[size:]
        names = [(index, str(sample)[:400]) for index, sample in group]
        answer(names)
        outcomes = opinfo_check.run_samples(op, dtype, variant, [sample for _, sample in group])
        answer([[*name, o.kind, o.reason] for name, o in zip(names, outcomes, strict=True)])


class Worker:
    """A process that runs units, one at a time."""

    def __init__(self, errors, device):
        self._errors, self._device = errors, device
        self._start()

    def _start(self):
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", "--device", self._device, "."],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._buffer = b""
        self._limit = START_LIMIT

    def ask(self, task):
        """Yields the answers to a task; raises WorkerDied."""
        self._process.stdin.write(json.dumps(task).encode() + b"\n")
        self._process.stdin.flush()
        while (answer := self._read()) is not None:
            yield answer

    def _read(self):
        output = self._process.stdout
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([output], [], [], self._limit)
            if not ready:
                self._replace()
                raise WorkerDied(f"took longer than {self._limit} s")
            piece = os.read(output.fileno(), 1 << 16)
            if not piece:
                code = self._process.wait()
                self._replace()
                raise WorkerDied(f"the process ended with code {code}")
            self._buffer += piece
        self._limit = LIMIT
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)

    def _replace(self):
        self.stop()
        self._start()

    def stop(self):
        self._process.kill()
        self._process.wait()

    def run_unit(self, unit, most, on_sample):
        """The unit's result: how many samples had which outcome, and why."""
        op, dtype, variant = unit
        if variant == KIND:
            (kind,) = self.ask({"op": op, "variant": variant})
            return {"op": op, "dtype": dtype, "variant": variant, "kind": kind}
        counts = collections.Counter()
        reasons = collections.Counter()
        failures = []
        task = {"op": op, "dtype": dtype, "variant": variant, "most": most}
        task.update(start=0, last_alone=-1)
        while True:
            group = []
            try:
                for group in self.ask(task):
                    for index, text, *outcome in group:
                        if not outcome:
                            continue
                        kind, reason = outcome
                        counts[kind] += 1
                        if kind == "failed":
                            failures.append({"index": index, "sample": text, "reason": reason})
                        elif reason:
                            reasons[f"{kind}: {reason}"] += 1
                        on_sample()
                break
            except WorkerDied as error:
                if not group or len(group[0]) > 2:  # not in a sample
                    raise
                index, text = group[0][:2]
                task.update(start=index, last_alone=group[-1][0])
                if len(group) == 1:
                    counts["failed"] += 1
                    failures.append({"index": index, "sample": text, "reason": str(error)})
                    task["start"] = index + 1
        return {
            "op": op,
            "dtype": dtype,
            "variant": variant,
            "counts": counts,
            "reasons": reasons,
            "failures": failures,
        }


class WorkerDied(Exception):
    pass


# ---- a run


def run(folder, keep, most=None, jobs=2, earlier=False, device="cpu"):
    """Runs the units that `keep(op, dtype, variant)` wants and that are not done yet; writes the
    tables and returns the one for programs. `most`: samples of each unit. `jobs`: processes; 0 runs
    nothing. `earlier`: whether what other code has done is done."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "errors.txt").open("w") as errors:
        results = _run_units(folder, keep, most, jobs, earlier, errors, device)
    report = opinfo_report.make_report(results)
    (folder / "opinfo.json").write_text(json.dumps(report, indent=1))
    (folder / "opinfo.md").write_text(opinfo_report.to_markdown(report))
    return report


def _run_units(folder, keep, most, jobs, earlier, errors, device):
    code = _hash_code()
    done = _read_done(folder / "units.jsonl", most, None if earlier else code)
    if jobs == 0:
        return [result for unit, result in done.items() if keep(*unit)]
    workers = [Worker(errors, device) for _ in range(jobs)]
    try:
        units = [
            (name, *claim)
            for name, claims in workers[0].ask({})
            for claim in [("", KIND), *claims]
            if keep(name, *claim)
        ]
        todo = queue.SimpleQueue()
        for unit in units:
            if unit not in done:
                todo.put(unit)
        with (folder / "units.jsonl").open("a") as log, _progress() as progress:
            bar = progress.add_task("units", total=len(units), completed=len(units) - todo.qsize())
            samples = progress.add_task("samples", total=None)
            lock = threading.Lock()

            def serve(worker):
                while True:
                    try:
                        unit = todo.get_nowait()
                    except queue.Empty:
                        return
                    result = worker.run_unit(unit, most, lambda: progress.advance(samples))
                    result.update(most=None if unit[2] == KIND else most, code=code)
                    with lock:
                        done[unit] = result
                        log.write(json.dumps(result) + "\n")
                        log.flush()
                        progress.advance(bar)

            threads = [threading.Thread(target=serve, args=(worker,)) for worker in workers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return [done[unit] for unit in units]
    finally:
        for worker in workers:
            worker.stop()


def _progress():
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        console=rich.console.Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


def _hash_code():
    digest = hashlib.sha256()
    for file in sorted(
        [*(ROOT / "python/torch_stator").rglob("*.py"), *Path(__file__).parent.glob("opinfo*.py")]
    ):
        digest.update(file.read_bytes())
    digest.update((ROOT / "python/torch_stator/lib/libstator_ffi.so").read_bytes())
    return digest.hexdigest()


def _read_done(path, most, code):
    """By unit, its last result of `code`, or of any where that is None, and of at least `most`
    samples."""
    if not path.exists():
        return {}
    text = path.read_text()
    if not text.endswith("\n"):  # interrupted
        text = text[: text.rfind("\n") + 1]
        path.write_text(text)
    results = [json.loads(line) for line in text.splitlines()]
    wanted = math.inf if most is None else most
    return {
        (r["op"], r["dtype"], r["variant"]): r
        for r in results
        if code in (None, r["code"]) and (r["most"] is None or r["most"] >= wanted)
    }


if __name__ == "__main__":
    sys.exit(main())
