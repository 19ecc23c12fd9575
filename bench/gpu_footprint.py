"""Device memory and start of models on an NVIDIA GPU: Stator beside Inductor's reduce-overhead.

The models are those of gpu_models.py, float16. Each way runs in a process of its own, and has the
GPU for itself: processes load what they need side by side, and then take turns.
  held    what the GPU holds when calls run, beyond the bare process and the model's own weights
  peak    the most that it held at any time from the first call on, likewise
  start   seconds of the first call: cold with empty caches; Stator's also warm, in another process
          with full ones, and what of that is its own: all but what torch takes to trace the model
          and to make its guards
Stator's memory is to be no more than Inductor's, and its own part of a warm start no more than 1 s.
Processes that load beside the one that has its turn slow that one down: --jobs 1 times best.
"""

import argparse
import fcntl
import json
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

MB = 1e6
WARM_S = 1.0
WAYS = ("stator", "reduce-overhead")


def main():
    from gpu_models import MODELS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help="default: all eight")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS)
    parser.add_argument("--jobs", type=int, default=1, help="processes that load at once")
    parser.add_argument("--timeout", type=float, default=240, help="seconds for a process")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        cases = [(name, way, args, folder) for name in args.models for way in args.ways]
        rows = []
        for row in pool.map(lambda case: measure_way(*case), cases):
            rows.append(row)
            print(format_row(row), flush=True)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1))
    return 0 if is_within(rows) else 1


def measure_way(name, way, args, folder):
    caches = f"{folder}/{name}-{way}"
    row = {"model": name, "way": way, **measure_in_process(name, way, args, folder, caches)}
    if "error" in row or way != WAYS[0]:
        return row
    warm = measure_in_process(name, way, args, folder, caches)
    if "error" in warm:
        return {**row, "error": warm["error"]}
    return {**row, "warm_s": warm["first_call_s"], "warm_own_s": warm["own_s"]}


def measure_in_process(name, way, args, folder, caches):
    from gpu_models import run_child

    settings = (name, args.batch, way, folder, caches)
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": caches}
    code = f"import gpu_footprint; gpu_footprint.measure{settings!r}"
    return run_child(code, args.timeout, environment)


def measure(name, batch, way, folder, caches):
    """Prints one process's figures as JSON."""
    import gpu_models
    import torch
    from torch.utils import _pytree as pytree
    from torch_stator import backend, runner

    torch.manual_seed(0)
    make, make_inputs = gpu_models.MODELS[name]
    module, inputs = make().eval().half(), make_inputs(batch)
    with open(f"{folder}/turn", "w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # until the process ends

        def bring(value):
            value = value.cuda()
            return value.half() if value.is_floating_point() else value

        inputs = pytree.tree_map(bring, inputs)
        torch.cuda.synchronize()
        bare = used()
        module = module.cuda()
        weights = sum(t.nbytes for t in {*module.parameters(), *module.buffers()})
        own = Timer(backend, "compile_graph"), Timer(runner.Runner, "run")
        options = {"backend": "stator", "options": {"cache_dir": caches}}
        compiled = torch.compile(
            module, dynamic=False, **(options if way == "stator" else {"mode": way})
        )
        with torch.inference_mode(), Peak() as peak:
            start = time.perf_counter()
            compiled(**inputs)
            torch.cuda.synchronize()
            first_call_s = time.perf_counter() - start
            own_s = sum(timer.seconds for timer in own)
            for _ in range(5):
                compiled(**inputs)
            torch.cuda.synchronize()
        torch.cuda.empty_cache()
        held = used() - bare - weights
        row = {
            "weights_mb": weights / MB,
            "held_mb": held / MB,
            "peak_mb": (peak.bytes - bare - weights) / MB,
            "first_call_s": first_call_s,
            "own_s": own_s,
            "device": torch.cuda.get_device_name(),
        }
        print(json.dumps(row), flush=True)
        os._exit(0)  # the turn is over when the device's memory is free


def used():
    import torch

    free, total = torch.cuda.mem_get_info()
    return total - free


class Timer:
    """Adds up the seconds of the calls of a function, in whose place it puts itself."""

    def __init__(self, owner, name):
        self.seconds = 0.0
        function = getattr(owner, name)

        def call(*args, **kwargs):
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        setattr(owner, name, call)


class Peak:
    """The most that the device holds in a scope, looked at every few milliseconds."""

    def __enter__(self):
        self.bytes = used()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self):
        while not self._over.wait(0.005):
            self.bytes = max(self.bytes, used())

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()
        self.bytes = max(self.bytes, used())


def format_row(row):
    head = f"{row['model']:<10} {row['way']:<16}"
    if "error" in row:
        return f"{head} FAILED: {row['error']}"
    warm = ""
    if "warm_s" in row:
        warm = f", {row['warm_s']:5.2f} warm, of it its own {row['warm_own_s']:5.2f}"
    return (
        f"{head} weights {row['weights_mb']:7.0f} MB, held {row['held_mb']:6.0f}, "
        f"peak {row['peak_mb']:6.0f}, start {row['first_call_s']:5.1f} s cold{warm}"
    )


def is_within(rows):
    if any("error" in row for row in rows):
        return False
    held = {(row["model"], row["way"]): row["held_mb"] for row in rows}
    less = all(
        mine <= held.get((name, WAYS[1]), mine)
        for (name, way), mine in held.items()
        if way == WAYS[0]
    )
    soon = all(row["warm_own_s"] <= WARM_S for row in rows if row["way"] == WAYS[0])
    print(
        f"memory {'within' if less else 'above'} Inductor's, its own part of a warm start ", end=""
    )
    print("within" if soon else "above", f"{WARM_S} s")
    return less and soon


if __name__ == "__main__":
    sys.exit(main())
