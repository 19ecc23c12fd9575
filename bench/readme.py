"""Puts what `make bench` measured, models.json in a folder, into the marked part of README.md."""

import json
import re
import sys
from pathlib import Path

import models

README = Path(__file__).parents[1] / "README.md"
PART = re.compile(r"(?<=<!-- measured: .make readme. renews it -->\n).*(?=<!-- end -->)", re.DOTALL)


def main():
    report = json.loads((Path(sys.argv[1]) / "models.json").read_text())
    wrong = [row["model"] for row in report["models"] if not row["right"]]
    if wrong:
        sys.exit(f"wrong results: {', '.join(wrong)}")
    text, num_parts = PART.subn(lambda _: models.to_markdown(report) + "\n", README.read_text())
    if num_parts != 1:
        sys.exit(f"{README}: expected one measured part, found {num_parts}")
    README.write_text(text)
    print(f"{README}: from {sys.argv[1]}/models.json")


if __name__ == "__main__":
    main()
