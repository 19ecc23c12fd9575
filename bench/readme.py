"""Puts what `make bench` measured, models.json in a folder, into the marked part of README.md."""

import json
import re
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
PART = re.compile(r"(?<=<!-- measured: .make readme. renews it -->\n).*(?=<!-- end -->)", re.DOTALL)


def main():
    report = json.loads((Path(sys.argv[1]) / "models.json").read_text())
    wrong = [row["model"] for row in report["models"] if not row["right"]]
    if wrong:
        sys.exit(f"wrong results: {', '.join(wrong)}")
    text, num_parts = PART.subn(lambda _: to_markdown(report) + "\n", README.read_text())
    if num_parts != 1:
        sys.exit(f"{README}: expected one measured part, found {num_parts}")
    README.write_text(text)
    print(f"{README}: from {sys.argv[1]}/models.json")


def to_markdown(report):
    """The table of README.md, from what --json wrote."""
    ways = report["models"][0]["ms"]
    lines = [
        f"Batch 1, fp32, on {report['machine']}; medians of calls in turn:",
        "",
        "| model |"
        + "".join(f" {way} ms |" for way in ways)
        + " ratio | max rel err | compile s |",
        "|---|" + "--:|" * (len(ways) + 3),
    ]
    for row in report["models"]:
        times = " | ".join(f"{ms:.1f}" for ms in row["ms"].values())
        lines.append(
            f"| {row['model']} | {times} | {row['ratio']:.2f} | {row['max_rel']:.0e} | "
            f"{row['compile_s']:.1f} |"
        )
    return "\n".join([*lines, "", f"The geometric mean of the ratios is {report['geomean']:.2f}."])


if __name__ == "__main__":
    main()
