"""The tables that opinfo.py makes of its units' results."""

import collections
import re
from pathlib import Path

KIND = "kind"  # in place of a variant: whether the op is core ATen
OUTCOMES = ("engine", "fallback", "torch", "rounding", "failed")
# Of what is in "fallback", by a part of the reason: what stays with PyTorch whatever ops we add.
NATURE = re.compile(
    "draws random numbers|runs in eager PyTorch|no tensor comes out|torch cannot trace it|"
    "eager raises|complex|not strided|_fft_|linalg_|lu_unpack|lu_solve|cholesky|geqrf|ormqr|"
    "triangular_solve|nonzero|unique|masked_select|_local_scalar_dense"
)
DOCS = Path(__file__).parents[2] / "docs/generated/ops.md"
PART = re.compile(r"(?<=<!-- measured: .make conformance. renews it -->\n).*(?=<!-- end -->)", re.S)


def make_report(results):
    """For programs: counts of the outcomes by dtype and variant, by op and dtype; the reasons of
    what torch ran, most frequent first; the failures."""
    kinds = {r["op"]: r["kind"] for r in results if r["variant"] == KIND}
    by_dtype, core, by_op = {}, {}, {}
    reasons, reason_ops = collections.Counter(), collections.defaultdict(set)
    failures = []
    for r in results:
        if r["variant"] == KIND:
            continue
        if r["variant"] == "errors":
            rows = [by_dtype.setdefault("errors", {})]
        else:
            rows = [
                by_dtype.setdefault(r["dtype"], {}).setdefault(r["variant"], {}),
                by_op.setdefault(r["op"], {}).setdefault(r["dtype"], {}),
            ]
            if kinds.get(r["op"]) == "core":
                rows.append(core.setdefault(r["dtype"], {}).setdefault(r["variant"], {}))
        for row in rows:
            for kind, count in r["counts"].items():
                row[kind] = row.get(kind, 0) + count
            nature = sum(n for reason, n in r["reasons"].items() if NATURE.search(reason))
            row["nature"] = row.get("nature", 0) + nature
            row["most"] = max(row.get("most", 0), r["most"] or 0)
            row["ops"] = row.get("ops", 0) + 1
            row["whole"] = row.get("whole", 0) + (r["most"] is None)
        for reason, count in r["reasons"].items():
            if r["variant"] != "errors":
                reasons[reason] += count
                reason_ops[reason].add(r["op"])
        where = {key: r[key] for key in ("op", "dtype", "variant")}
        failures += [{**where, **failure} for failure in r["failures"]]
    return {
        "states": len({r["code"] for r in results if r["variant"] != KIND}),
        "by_dtype": by_dtype,
        "core": core,
        "by_op": by_op,
        "kinds": kinds,
        "reasons": [
            {"reason": reason, "samples": count, "ops": sorted(reason_ops[reason])}
            for reason, count in reasons.most_common()
        ],
        "failures": failures,
    }


def totals_to_markdown(report):
    columns = ["ops", "samples of each", *OUTCOMES, "by nature", "in engines"]
    lines = [f"| dtype | variant | {' | '.join(columns)} |", "|---|---|" + "--:|" * len(columns)]
    for dtype, variants in report["by_dtype"].items():
        if dtype != "errors":
            lines += [_row(dtype, variant, row) for variant, row in variants.items()]
            core = report["core"].get(dtype, {})
            lines += [_row(dtype, f"{variant}, core ATen", row) for variant, row in core.items()]
    if "errors" in report["by_dtype"]:
        lines.append(_row("f32", "errors", report["by_dtype"]["errors"]))
    return "\n".join(lines)


def _row(dtype, variant, row):
    counts = [row.get(kind, 0) for kind in OUTCOMES]
    share = 100 * counts[0] / max(1, sum(counts))
    most = f"at most {row['most']}" if row["most"] else "all"
    if row["most"] and row["whole"]:
        most += f"; all of {row['whole']} ops"
    cells = [dtype, variant, row["ops"], most, *counts, row["nature"], f"{share:.1f} %"]
    return f"| {' | '.join(map(str, cells))} |"


def to_markdown(report):
    lines = [
        "# PyTorch's OpInfo samples through Stator",
        "",
        "Written by `python test/conformance/opinfo.py`, which says what the columns mean.",
        "",
        totals_to_markdown(report),
        "",
        "## Failures",
        "",
        *(describe_failure(failure) for failure in report["failures"]),
        "",
        "## What torch ran, and why",
        "",
        "| samples | ops | reason |",
        "|--:|--:|---|",
    ]
    for row in report["reasons"]:
        reason = row["reason"].replace("|", "\\|")
        lines.append(f"| {row['samples']} | {len(row['ops'])} | {reason} |")
    dtypes = [dtype for dtype in report["by_dtype"] if dtype != "errors"]
    lines += [
        "",
        "## Samples in engines, of all, by op and dtype",
        "",
        "| op | " + " | ".join(dtypes) + " |",
        "|---|" + "--:|" * len(dtypes),
    ]
    for op, by_dtype in report["by_op"].items():
        cells = [_cell(by_dtype.get(dtype)) for dtype in dtypes]
        lines.append(f"| {op} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row):
    if not row:
        return ""
    failed = f", {row['failed']} failed" if row.get("failed") else ""
    return f"{row.get('engine', 0)}/{sum(row.get(kind, 0) for kind in OUTCOMES)}{failed}"


def describe_failure(failure):
    where = f"{failure['op']} {failure['dtype']} {failure['variant']} {failure['index']}"
    return f"- {where} {failure['sample']}: {failure['reason']}"


def write_docs(report):
    """Puts the totals into the marked part of docs/generated/ops.md."""
    states = report["states"]
    code = "" if states == 1 else f" These are results of {states} states of the code."
    text = f"""
## PyTorch's own samples

The samples that PyTorch tests its operators with, compared with eager by PyTorch's own tolerances
(test/conformance/opinfo.py, which says what each variant proves).{code} Rows that are not here
were not run. engine: engines ran all of it. fallback: PyTorch ran some of it; by nature: of those,
random numbers, training, sizes that depend on data, graph breaks, FFT, linear algebra, complex and
sparse tensors. torch: what AOTAutograd traced differs from eager before it reaches Stator.
rounding: the result differs by more than PyTorch's tolerance, and by less than what rounding the
inputs does to it (test/conformance/opinfo_compare.py). core ATen: the operators that are core ATen
operators, or decompose into them.

{totals_to_markdown(report)}

"""
    made, num_parts = PART.subn(lambda _: text, DOCS.read_text())
    if num_parts != 1:
        raise SystemExit(f"{DOCS}: expected one measured part, found {num_parts}")
    DOCS.write_text(made)
