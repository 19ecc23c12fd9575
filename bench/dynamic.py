"""What each further size costs an engine that serves a range of sizes.

Each model compiles in a process of its own with dynamic sizes. The stall of a new size is its first
call's time beyond the median of later calls; the memory of one is what the engine's packed copies
and the process grow by, divided by the number of sizes after the first. The bound on every stall
is 50 ms.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

MB = 1e6
BOUND_MS = 50
# The sizes that each model meets, the largest first: it alone makes the arena grow.
SIZES = {
    "resnet50": [(4, 256), (5, 192), (2, 224), (3, 224), (2, 192), (3, 160), (4, 224)],
    "bert_base": [(2, 256), (2, 128), (2, 64), (2, 65), (3, 100), (2, 37), (2, 200)],
    "gpt2": [(1, 127), *((1, length) for length in range(32, 64))],  # a cache that grows
}


def main():
    import rich
    import rich.table

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(SIZES)} (default: all)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    rows = [measure_in_process(name) for name in args.models or SIZES]

    table = rich.table.Table(title=f"Cost of a new size (bound: stalls of {BOUND_MS} ms)")
    columns = ("model", "sizes", "compiles", "stall ms", "largest", "copies MB/size", "rss MB/size")
    for column in (*columns, "within"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        table.add_row(
            row["model"],
            str(len(row["sizes"])),
            str(row["compiles"]),
            f"{row['stall_ms']:.0f}",
            f"{max(row['stalls_ms']):.0f}",
            f"{row['copies_mb_per_size']:.1f}",
            f"{row['rss_mb_per_size']:.1f}",
            "yes" if max(row["stalls_ms"]) <= BOUND_MS else "[red]no",
        )
    rich.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(max(row["stalls_ms"]) <= BOUND_MS for row in rows) else 1


def measure_in_process(name):
    child = f"import dynamic; dynamic.measure({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def measure(name, sizes=None, num_later=5):
    """Prints the row of one model as JSON; for a process that has done nothing yet."""
    import torch
    import torch_stator
    from memory import read_status
    from torch_stator.backend import on_compilation
    from zoo import load

    def timed(batch, size):
        inputs = make_inputs(name, module, batch, size)
        start = time.perf_counter()
        compiled(**inputs)
        return (time.perf_counter() - start) * 1e3

    module, _ = load(name)
    compilations = []
    on_compilation.append(compilations.append)
    compiled = torch.compile(module, backend="stator", dynamic=True)
    sizes = sizes or SIZES[name]
    stalls, copies, resident = [], [], []
    with torch.inference_mode():
        for size in sizes:
            first, *later = (timed(*size) for _ in range(1 + num_later))
            stalls.append(first - statistics.median(later))
            engines = [e for c in compilations for e in c.engines if e is not None]
            copies.append(sum(engine.derived_bytes() for engine in engines))
            resident.append(read_status("VmRSS"))
    row = {
        "model": name,
        "sizes": sizes,
        "compiles": torch_stator.stats().compiles,
        "stall_ms": statistics.median(stalls[1:]),
        "stalls_ms": stalls[1:],
        "copies_mb": copies[0] / MB,
        "copies_mb_per_size": (copies[-1] - copies[0]) / MB / (len(sizes) - 1),
        "rss_mb_per_size": (resident[-1] - resident[0]) / MB / (len(sizes) - 1),
    }
    print(json.dumps(row))


def make_inputs(name, module, batch, size):
    """Inputs of one size; for GPT-2 a position after as many as `size` says."""
    import torch
    import transformers

    if name == "bert_base":
        return {"input_ids": torch.randint(30000, (batch, size))}
    if name == "gpt2":
        cache = transformers.DynamicCache()
        heads = module.config.n_head
        shape = (batch, heads, size, module.config.n_embd // heads)
        for layer in range(module.config.n_layer):
            cache.update(torch.randn(shape), torch.randn(shape), layer)
        return {"input_ids": torch.randint(50000, (batch, 1)), "past_key_values": cache}
    return {"x": torch.randn(batch, 3, size, size)}


if __name__ == "__main__":
    sys.exit(main())
