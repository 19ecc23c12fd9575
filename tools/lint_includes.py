"""Checks that each folder of src includes only what the table in docs/design.md §3 allows.

The table is the block of lines "folder     ← folder folder ...". Prints each breach as file:line
and exits with 1 when there is one, or when a folder has no line.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TABLE_LINE = re.compile(r"^([a-z_/]+) +←(.*)$", re.MULTILINE)
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"')


def main():
    allowed = read_table((ROOT / "docs/design.md").read_text())
    files = [f for f in sorted(ROOT.glob("src/**/*")) if f.suffix in (".h", ".cc", ".cuh")]
    files += sorted(ROOT.glob("tools/*.h")) + sorted(ROOT.glob("tools/*.cc"))
    breaches = [breach for file in files for breach in check_file(file, allowed)]
    for breach in breaches:
        print(breach)
    print(f"includes: {len(files)} files, {len(breaches)} breaches of docs/design.md §3")
    return 1 if breaches else 0


def read_table(text):
    """{"ops": {"base", "ir"}, ...}; None for a folder that may include everything."""
    table = {}
    for folder, names in TABLE_LINE.findall(text):
        names = names.split()
        table[folder] = None if names == ["everything"] else {folder, *names}
    return table


def check_file(file, allowed):
    path = file.relative_to(ROOT).as_posix()
    folder = path.removeprefix("src/").rpartition("/")[0]
    if folder not in allowed:
        yield f"{path}: the table has no line for `{folder}`"
        return
    if allowed[folder] is None:
        return
    for number, line in enumerate(file.read_text().splitlines(), 1):
        match = INCLUDE.match(line)
        included = match and match[1].rpartition("/")[0]
        if included and included not in allowed[folder]:
            yield f"{path}:{number}: `{folder}` may not include `{included}`"


if __name__ == "__main__":
    sys.exit(main())
