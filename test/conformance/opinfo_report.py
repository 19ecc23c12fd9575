"""The tables that opinfo.py makes of its units' results."""

import collections
import re
from pathlib import Path

KIND = "kind"  # in place of a variant: whether the op is core ATen
OUTCOMES = ("engine", "fallback", "torch", "failed")
# Of what is in "fallback", by a part of the reason: what stays with PyTorch whatever ops we add.
NATURE = re.compile(
    "draws random numbers|runs in eager PyTorch|no tensor comes out|torch cannot trace it|"
    "eager raises|complex|not strided|_fft_|linalg_|lu_unpack|lu_solve|cholesky|geqrf|ormqr|"
    "triangular_solve|nonzero|unique|masked_select|_local_scalar_dense"
)
DOCS = Path(__file__).parents[2] / "docs/generated/ops.md"
PART = re.compile(r"(?<=<!-- measured: .make conformance. renews it -->\n).*(?=<!-- end -->)", re.S)


def make_report(results, most):
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
                rows.append(core.setdefault(r["dtype"], {}))
        for row in rows:
            for kind, count in r["counts"].items():
                row[kind] = row.get(kind, 0) + count
            nature = sum(n for reason, n in r["reasons"].items() if NATURE.search(reason))
            row["nature"] = row.get("nature", 0) + nature
        for reason, count in r["reasons"].items():
            if r["variant"] != "errors":
                reasons[reason] += count
                reason_ops[reason].add(r["op"])
        where = {key: r[key] for key in ("op", "dtype", "variant")}
        failures += [{**where, **failure} for failure in r["failures"]]
    return {
        "most": most,
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
    lines = [
        "| dtype | variant | " + " | ".join(OUTCOMES) + " | by nature | in engines |",
        "|---|---|" + "--:|" * (len(OUTCOMES) + 2),
    ]
    for dtype, variants in report["by_dtype"].items():
        if dtype != "errors":
            lines += [_row(f"{dtype} | {variant}", row) for variant, row in variants.items()]
    lines += [_row(f"{dtype} | core ATen, all", row) for dtype, row in report["core"].items()]
    if "errors" in report["by_dtype"]:
        row = report["by_dtype"]["errors"]
        counts = f"{row.get('fallback', 0)} | | {row.get('failed', 0)}"
        lines.append(f"| f32 | errors | | {counts} | | |")
    return "\n".join(lines)


def _row(head, row):
    counts = [row.get(kind, 0) for kind in OUTCOMES]
    share = 100 * counts[0] / max(1, sum(counts))
    counts.append(row.get("nature", 0))
    return f"| {head} | " + " | ".join(map(str, counts)) + f" | {share:.1f} % |"


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
    most, states = report["most"], report["states"]
    code = "" if states == 1 else f" These are results of {states} states of the code."
    text = f"""
## PyTorch's own samples

The samples that PyTorch tests its operators with ({"all" if most is None else f"at most {most}"} of
each operator, dtype and layout), compared with eager by PyTorch's own tolerances
(test/conformance/opinfo.py, which says what each variant proves).{code} Rows that are not here
were not run. engine: engines ran all of it. fallback: PyTorch ran some of it; by nature: of those,
random numbers, training, sizes that depend on data, graph breaks, FFT, linear algebra, complex and
sparse tensors. torch: what AOTAutograd traced differs from eager before it reaches Stator. core
ATen: the operators that are core ATen operators, or decompose into them.

{totals_to_markdown(report)}

"""
    made, num_parts = PART.subn(lambda _: text, DOCS.read_text())
    if num_parts != 1:
        raise SystemExit(f"{DOCS}: expected one measured part, found {num_parts}")
    DOCS.write_text(made)
