"""Models on an NVIDIA GPU: eager PyTorch, Inductor's modes and Stator, side by side.

The models are those below, and by name those of the zoo (bench/zoo) at the batch size that it has.
Each case (a model at a batch size, float16) runs in a process of its own. Before anything is timed,
every output is compared with float32 eager element by element: Stator's greatest error may be twice
that of float16 eager, plus TOLERANCE of the output's root mean square. Then, unless --seconds is 0,
the calls of all ways alternate:
  latency     one call, synchronised before and after: what a caller waits
  throughput  a queue of calls, synchronised at its end: the device's own time
  host        what the call takes until it returns, which is before the device is done
Compile seconds are those of the first call, with empty caches.
"""

import argparse
import functools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

FACTOR, TOLERANCE = 2, 2e-3
MODES = {"inductor": None, "reduce-overhead": "reduce-overhead", "max-autotune": "max-autotune"}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), help="default: those below")
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 32])
    parser.add_argument("--modes", nargs="*", default=[], choices=MODES, help="of Inductor")
    parser.add_argument("--seconds", type=float, default=2, help="to time each case; 0: not at all")
    parser.add_argument("--jobs", type=int, default=1, help="cases at once, where none is timed")
    parser.add_argument("--timeout", type=float, default=240, help="seconds for a case")
    parser.add_argument("--profile", action="store_true", help="also list each way's kernels")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    if args.jobs > 1 and args.seconds > 0:
        parser.error("--jobs needs --seconds 0: cases that run at once tell no times")
    rows = []
    cases = [(name, batch, args) for batch in args.batch for name in args.models]
    with ThreadPoolExecutor(args.jobs) as pool:
        for row in pool.map(lambda case: measure_in_process(*case), cases):
            rows.append(row)
            print(format_row(row), flush=True)
            if args.json:
                args.json.parent.mkdir(parents=True, exist_ok=True)
                args.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row.get("right") for row in rows) else 1


def measure_in_process(name, batch, args):
    settings = (name, batch, args.modes, args.seconds, args.profile)
    row = run_child(f"import gpu_models; gpu_models.measure{settings!r}", args.timeout)
    return {"model": name, "batch": batch, **row}


def run_child(code, timeout, environment=None):
    """What `code` prints last, as JSON, in a process of its own; "error" when there is nothing."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"no result after {timeout} s"}
    if done.returncode:
        return {"error": done.stderr[-1500:]}
    sys.stderr.write(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def format_row(row):
    head = f"{row['model']:<10} b{row['batch']:<3}"
    if "error" in row:
        return f"{head} FAILED: {row['error']}"

    def times(way):
        kinds = ("latency_ms", "throughput_ms", "host_ms")
        return "/".join(f"{row[kind][way]:.3f}" for kind in kinds) + " ms, "

    ways = "  ".join(
        f"{way} {times(way) if row['latency_ms'] else ''}{seconds:.1f} s"
        for way, seconds in row["compile_s"].items()
    )
    right = "right" if row["right"] else "WRONG"
    return (
        f"{head} {right} (error {row['error_stator']:.1e}, eager's {row['error_eager']:.1e}), "
        f"{row['engines']} engines, {row['coverage']:.0%}: {ways}"
    )


def measure(name, batch, modes, seconds, profile):
    """Prints the row of one case as JSON."""
    import torch
    from torch.utils import _pytree as pytree
    from torch_stator.backend import on_compilation
    from zoo import outputs_of

    module, inputs = load(name, batch)

    def to_half(value):
        return (
            value.half() if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        )

    compilations = []
    on_compilation.append(compilations.append)
    ways, compile_s, outputs = {}, {}, {}

    def first_call(way, fn):
        ways[way] = fn
        start = time.perf_counter()
        outputs[way] = [t.clone() for t in outputs_of(fn(**inputs))]
        torch.cuda.synchronize()
        compile_s[way] = time.perf_counter() - start

    with torch.inference_mode():
        exact = [t.clone() for t in outputs_of(module(**inputs))]
    module.half()  # under inference_mode its weights would tell of no write, and be inputs
    inputs = pytree.tree_map(to_half, inputs)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as cold:
        first_call("eager", module)
        for way in modes:
            first_call(way, compile_model(name, module, mode=MODES[way]))
        options = {"cache_dir": cold}
        first_call("stator", compile_model(name, module, backend="stator", options=options))
        ways = {way: functools.partial(fn, **inputs) for way, fn in ways.items()}
        times = {"latency_ms": {}}
        if seconds > 0:
            for fn in ways.values():
                for _ in range(3):
                    fn()
            times = time_in_turn(ways, seconds)
        kernels = {w: profile_kernels(fn) for w, fn in ways.items()} if profile else {}
        errors = {way: max_error(outputs[way], exact) for way in ("eager", "stator")}
    reports = [compilation.report for compilation in compilations]
    parts = [part for report in reports for part in report["parts"]]
    row = {
        **times,
        "compile_s": compile_s,
        "kernels": kernels,
        "error_eager": errors["eager"],
        "error_stator": errors["stator"],
        "right": errors["stator"] <= FACTOR * errors["eager"] + TOLERANCE,  # false for NaN
        "engines": sum(part["kind"] == "engine" for part in parts),
        "coverage": sum(report["num_nodes_in_engines"] for report in reports)
        / max(1, sum(report["num_nodes"] for report in reports)),
        "device": torch.cuda.get_device_name(),
    }
    for report in reports:
        for fallback in report["fallbacks"][:8]:
            print(f"{name}: {fallback['op']}: {fallback['reason']}", file=sys.stderr)
    print(json.dumps(row))


def load(name, batch):
    """(a module and its keyword arguments, on the GPU in float32)."""
    import torch
    import zoo
    from torch.utils import _pytree as pytree

    if name in MODELS:
        torch.manual_seed(0)
        make, make_inputs = MODELS[name]
        module, inputs = make(), make_inputs(batch)
    else:
        module, inputs = zoo.load(name)

    def to_gpu(value):
        return value.cuda() if isinstance(value, torch.Tensor) else value

    return module.eval().cuda(), pytree.tree_map(to_gpu, inputs)


def compile_model(name, module, **options):
    import torch
    import zoo

    if name in MODELS:
        return torch.compile(module, dynamic=False, **options)
    return zoo.compile_part(name, module, dynamic=False, **options)


def profile_kernels(fn):
    """[(name, launches in a call, microseconds in a call)], the most expensive first."""
    import torch

    calls = 10
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(calls):
            fn()
        torch.cuda.synchronize()
    events = sorted(profiler.key_averages(), key=lambda event: -event.device_time_total)
    return [(e.key, e.count / calls, e.device_time_total / calls) for e in events if e.count]


def max_error(actual, expected):
    """The greatest difference, in parts of the output's root mean square."""
    worst = 0.0
    for a, e in zip(actual, expected, strict=True):
        if a.shape != e.shape:
            return math.nan
        a, e = a.double(), e.double()
        scale = e.square().mean().sqrt()
        error = ((a - e).abs() / scale).max().item()
        worst = error if math.isnan(error) else max(worst, error)
    return worst


def time_in_turn(ways, seconds):
    """{"latency_ms", "throughput_ms", "host_ms"}: each {way: median ms of a call}."""
    import torch

    queue = 20
    kinds = ("latency_ms", "throughput_ms", "host_ms")
    times = {kind: {way: [] for way in ways} for kind in kinds}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["host_ms"]["eager"]) < 5:
        for way, fn in ways.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            fn()
            returned = time.perf_counter()
            torch.cuda.synchronize()
            times["host_ms"][way].append(1e3 * (returned - start))
            times["latency_ms"][way].append(1e3 * (time.perf_counter() - start))
            start = time.perf_counter()
            for _ in range(queue):
                fn()
            torch.cuda.synchronize()
            times["throughput_ms"][way].append(1e3 * (time.perf_counter() - start) / queue)
    return {
        kind: {way: statistics.median(ms) for way, ms in by_way.items()}
        for kind, by_way in times.items()
    }


# ---- the models: (a module, its inputs at a batch size)
def _images(batch):
    import torch

    return {"x": torch.randn(batch, 3, 224, 224)}


def _tokens(vocabulary):
    def make(batch):
        import torch

        return {"input_ids": torch.randint(0, vocabulary, (batch, 128))}

    return make


def _torchvision(name):
    def make():
        import torch
        import torchvision
        from zoo import draw

        model = getattr(torchvision.models, name)()
        return draw(model, {"x": torch.randn(1, 3, 224, 224)})

    return make, _images


def _transformers(architecture, config, vocabulary, **sizes):
    def make():
        import transformers

        return getattr(transformers, architecture)(getattr(transformers, config)(**sizes))

    return make, _tokens(vocabulary)


MODELS = {
    "resnet50": _torchvision("resnet50"),
    "bert": _transformers("BertModel", "BertConfig", 30522),
    "vit_b": _torchvision("vit_b_16"),
    "gpt2": _transformers("GPT2LMHeadModel", "GPT2Config", 50257, use_cache=False),
    "llama1b": _transformers(
        "LlamaForCausalLM",
        "LlamaConfig",
        32000,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        use_cache=False,
    ),
    "convnext": _torchvision("convnext_tiny"),
    "effnet": _torchvision("efficientnet_b0"),
    "swin": _torchvision("swin_t"),
}


if __name__ == "__main__":
    sys.exit(main())
