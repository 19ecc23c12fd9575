"""Rows of the zoo in files, one per line: what is done.

In:  files of lines; a row tells the code that made it, and only rows of the code at hand count.
Out: the row of a model that the table shows.
"""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]
SKIPPED = "skipped"


def digest_code():
    """Of what decides a row: the sources of Stator, and the judge."""
    files = [
        *(ROOT / "src").rglob("*.cc"),
        *(ROOT / "src").rglob("*.h"),
        *(ROOT / "python/torch_stator").rglob("*.py"),
        ROOT / "bench/zoo/compare.py",
        ROOT / "bench/zoo/draw.py",
    ]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


class Rows:
    """The rows of `paths` that `code` made; new ones are written to the first. The last of each
    model in the files `older`, which other code made, stands in where there is none."""

    def __init__(self, paths, code, older=()):
        self.path, self.code, self.rows = paths[0], code, {}
        for row in _read(paths):
            if row["code"] == code:
                self._take(row)
        self.older = {row["model"]: row for row in _read(older)}
        if self.path.exists() and not self.path.read_text().endswith("\n"):  # an interrupted write
            whole = self.path.read_text().rpartition("\n")
            self.path.write_text(whole[0] + whole[1])

    def add(self, row):
        row = {"code": self.code} | row
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self._take(row)

    def is_done(self, name, is_timed):
        row = self._best(name)
        return bool(row) and row["status"] == "right" and ("ratio" in row or not is_timed)

    def best(self, name):
        """The row that is not right, else one with timing, else any, else one of older code; None
        where there is none."""
        return self._best(name) or self.older.get(name)

    def _best(self, name):
        return max(self.rows.get(name, {}).values(), key=_rank, default=None)

    def _take(self, row):
        """The last of each machine, but timing is not lost to a run without."""
        of_machine = self.rows.setdefault(row["model"], {})
        before = of_machine.get(row["machine"], row)
        both_right = before["status"] == row["status"] == "right"
        if not (both_right and "ratio" in before and "ratio" not in row):
            of_machine[row["machine"]] = row


def _read(paths):
    for path in paths:
        text = path.read_text() if path.exists() else ""
        for line in text.splitlines()[: None if text.endswith("\n") else -1]:
            yield json.loads(line)


def _rank(row):
    return row["status"] != SKIPPED, row["status"] != "right", "ratio" in row
