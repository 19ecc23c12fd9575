"""The zoo's rows as text."""

import collections
import statistics

MIN_BLOCK_SIZE = 5  # the default of the setting
MOST_REASONS = 3  # in a cell of the table
LEAST_RATIO = 0.95  # below, slower than eager beyond noise


def to_markdown(report):
    """`report`: {"code", "of": number of models in the zoo, "models": rows}."""
    rows = report["models"]
    lines = [
        "# The zoo",
        "",
        f"Written by `make zoo`. Models of {_libraries(rows)}, random weights, float32, run by the "
        f"code with digest {report['code']} (bench/zoo/rows.py): {_machines(rows)}."
        f"{_older(rows, report['code'])}",
        "",
        f"{_sum_up(rows, report['of'])} {_sum_up_times(rows)}",
        "",
        "graphs: that dynamo captured; one of fewer than 5 operators is left to PyTorch. engines: "
        "in all of them. nodes: the share that engines run. "
        "error, eager's: the greatest distance from float64, in parts of an element's own size "
        "plus the root mean square. trace, compile: seconds of dynamo and AOTAutograd, and of "
        "Stator. ratio: eager's time over Stator's, medians of calls in turn.",
        "",
        "| model | library | graphs | engines | nodes | error | eager's | trace | compile | ratio "
        "| left to torch |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    return "\n".join([*lines, *map(_row, rows)]) + "\n"


def _libraries(rows):
    told = dict.fromkeys(f"{row['library']} {row['version']}" for row in rows if "version" in row)
    return ", ".join(told) or "no library"


def _machines(rows):
    counts = collections.Counter((row["machine"], "ratio" in row) for row in rows)
    return "; ".join(
        f"{n} on {machine}, {'timed' if timed else 'not timed'}"
        for (machine, timed), n in counts.most_common()
    )


def _older(rows, code):
    older = [row["model"] for row in rows if row["code"] != code]
    return f" Of other, older code are the rows of {', '.join(older)}." if older else ""


def _sum_up(rows, of):
    statuses = ("right", "wrong", "crash", "says nothing", "skipped")
    counts = {status: sum(row["status"] == status for row in rows) for status in statuses}
    told = [row for row in rows if "engines" in row]
    whole, shares = sum(map(is_whole, told)), [coverage(row) for row in told]
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return (
        f"{len(rows)} of {of} models: {counts['right']} right, {counts['wrong']} wrong, "
        f"{counts['crash']} crashed, {counts['says nothing']} whose outputs say nothing{skipped}. "
        f"{whole} ({whole / max(1, len(told)):.0%}) run in one engine per graph; of the median "
        f"model's nodes, {statistics.median(shares or [0]):.1%} run in engines."
    )


def _sum_up_times(rows):
    ratios = {row["model"]: row["ratio"] for row in rows if "ratio" in row}
    if not ratios:
        return "Not timed."
    slow = ", ".join(name for name, ratio in ratios.items() if ratio < LEAST_RATIO)
    return (
        f"{len(ratios)} timed: the geometric mean of the ratios is "
        f"{statistics.geometric_mean(ratios.values()):.2f}; slower than eager (ratio below "
        f"{LEAST_RATIO}): {slow or 'none'}."
    )


def is_whole(row):
    """One engine in each graph that is large enough for one."""
    pairs = zip(row["engines"], row["nodes"], strict=True)
    return not row["warnings"] and all(
        engines == 1 or nodes < MIN_BLOCK_SIZE for engines, nodes in pairs
    )


def coverage(row):
    return sum(row["nodes_in_engines"]) / max(1, sum(row["nodes"]))


def _row(row):
    if "engines" not in row:
        return f"| {row['model']} | | | | | | | | | | **{row['status']}**: {row['reason']} |"
    cells = [
        row["model"],
        row["library"],
        str(row["graphs"]),
        str(sum(row["engines"])),
        f"{coverage(row):.1%}",
        f"{row['error']:.1e}" + ("" if row["status"] == "right" else f" **{row['status']}**"),
        f"{row['error_eager']:.1e}",
        f"{row['tracing_s']:.1f}",
        f"{row['compile_s']:.1f}",
        f"{row['ratio']:.2f}" if "ratio" in row else "",
        _reasons(row),
    ]
    return "| " + " | ".join(cells) + " |"


def _reasons(row):
    reasons = [f"{op.removesuffix('.default')} ({reason})" for op, reason, _ in row["fallbacks"]]
    breaks = sum(n for _, n in row["graph_breaks"])
    reasons = [f"{breaks} graph breaks"] * bool(breaks) + reasons + row["warnings"]
    more = [f"{len(reasons) - MOST_REASONS} more"] if len(reasons) > MOST_REASONS else []
    text = "; ".join(dict.fromkeys(reasons[:MOST_REASONS] + more))
    return text.replace("|", "\\|").replace("\n", " ")


def describe_row(row):
    """For a terminal."""
    if "engines" not in row:
        return f"{row['model']}: {row['status']}: {row['reason']}"
    ratio = f", {row['ratio']:.2f}x" if "ratio" in row else ""
    return (
        f"{row['model']}: {row['status']}, {row['graphs']} graphs, {sum(row['engines'])} engines, "
        f"{coverage(row):.1%}, error {row['error']:.1e} (eager's {row['error_eager']:.1e}){ratio}"
    )
