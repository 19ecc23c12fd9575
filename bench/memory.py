"""Peak resident memory while compiling, over a bare `import torch`.

Each model compiles in a process of its own, with empty caches: resident memory is taken after
`import torch`, and its peak from the built model to the end of its first call. The bound is 2.5
times the weights' size plus 300 MB; the model's own weights count.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MB = 1e6
FACTOR, FIXED_MB = 2.5, 300


def main():
    import rich
    import rich.table
    from zoo import BENCHMARKS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    args = parser.parse_args()
    rows = [measure_in_process(name) for name in args.models or BENCHMARKS]

    table = rich.table.Table(title="Peak memory while compiling, over `import torch`")
    for column in ("model", "weights MB", "peak MB", "bound MB", "within"):
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        table.add_row(
            row["model"],
            f"{row['weights_mb']:.0f}",
            f"{row['peak_mb']:.0f}",
            f"{row['bound_mb']:.0f}",
            "yes" if row["peak_mb"] <= row["bound_mb"] else "[red]no",
        )
    rich.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(rows, indent=1))
    return 0 if all(row["peak_mb"] <= row["bound_mb"] for row in rows) else 1


def measure_in_process(name):
    child = f"import memory; memory.measure({name!r})"
    done = subprocess.run(
        [sys.executable, "-c", child], cwd=Path(__file__).parent, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout)


def measure(name):
    """Prints the row of one model as JSON; for a process that has done nothing yet."""
    import torch

    bare = read_status("VmRSS")
    from zoo import load

    module, inputs = load(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: proc(5)
    with torch.inference_mode(), tempfile.TemporaryDirectory() as cold:
        torch.compile(module, backend="stator", options={"cache_dir": cold})(**inputs)
    peak = read_status("VmHWM")
    weights = sum(t.nbytes for t in [*module.parameters(), *module.buffers()])
    row = {
        "model": name,
        "weights_mb": weights / MB,
        "peak_mb": (peak - bare) / MB,
        "bound_mb": FACTOR * weights / MB + FIXED_MB,
    }
    print(json.dumps(row))


def read_status(field):
    """Bytes that /proc/self/status gives for a field."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(field)


if __name__ == "__main__":
    sys.exit(main())
