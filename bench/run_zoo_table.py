"""The zoo's rows as text."""

import statistics

MIN_BLOCK_SIZE = 5  # the default of the setting
MOST_REASONS = 3  # in a cell of the table


def to_markdown(report):
    rows = report["models"]
    counts = {s: sum(row["status"] == s for row in rows) for s in ("right", "wrong", "crash")}
    told = [row for row in rows if "engines" in row]
    whole = sum(map(is_whole, told))
    shares = [coverage(row) for row in told]
    median = statistics.median(shares) if shares else 0
    slow = [row["model"] for row in told if row.get("ratio", 1) < 0.95]
    timed = any("ratio" in row for row in told)
    slower = f"Slower than eager (ratio below 0.95): {', '.join(slow) or 'none'}."
    lines = [
        "# The zoo",
        "",
        "Written by `make zoo`. Models of five libraries, random weights, float32, on "
        f"{report['machine']}.",
        "",
        f"{len(rows)} of {report['of']} models: {counts['right']} right, {counts['wrong']} wrong, "
        f"{counts['crash']} crashed, {len(rows) - sum(counts.values())} whose outputs say nothing. "
        f"{whole} ({whole / max(1, len(told)):.0%}) run in one engine per graph; of the median "
        f"model's nodes, {median:.1%} run in engines. {slower if timed else 'Not timed.'}",
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
