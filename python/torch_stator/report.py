"""What became of one graph: the C++ compiler's report (src/compile/report.h), as text and as data.

In:  a compiled module's report. Out: a GraphReport; where a dry run or `debug` asks for it, its
     text on stdout or stderr, or in a file.
File: the reports of all graphs that this process wrote to it, as text, or, for `.json`, as a list.
"""

from __future__ import annotations

import dataclasses
import html
import json
import sys
import threading
from pathlib import Path
from typing import Any

from .settings import CompilationSettings

_lock = threading.Lock()
_written: dict[Path, list[GraphReport]] = {}


@dataclasses.dataclass(frozen=True)
class Fallback:
    """A node left to torch."""

    node: str  # its FX name
    op: str  # "aten.sort.default"
    location: str  # the user's "model.py:41"
    reason: str
    supported: bool = False  # an engine could run it: only its segment is too small


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """One graph that dynamo captured."""

    data: dict[str, Any]  # as ReportToJson (src/compile/report.h) documents it
    text: str

    @property
    def segments(self) -> list[tuple[str, int]]:
        """("engine" or "torch", number of nodes), in the order they run."""
        return [(segment["kind"], segment["num_ops"]) for segment in self.data["segments"]]

    @property
    def fallbacks(self) -> list[Fallback]:
        return [Fallback(**fallback) for fallback in self.data["fallbacks"]]

    @property
    def num_nodes(self) -> int:
        return self.data["num_nodes"]

    @property
    def num_nodes_in_engines(self) -> int:
        return self.data["num_nodes_in_engines"]

    @property
    def stages(self) -> dict[str, float]:
        """Milliseconds of each stage of the compiler."""
        return {stage["name"]: stage["ms"] for stage in self.data["stages"]}

    def __str__(self) -> str:
        return self.text.rstrip()

    def to_html(self) -> str:
        """A section of a page."""
        data = self.data
        rows = [
            (
                segment["kind"],
                str(segment["num_ops"]),
                ", ".join(f"{n} x {op}" if n > 1 else op for op, n in segment["ops"].items()),
                _tensors(segment["inputs"]),
                _tensors(segment["outputs"]),
            )
            for segment in data["segments"]
        ]
        left = [(f.op, f.reason, f.node, f.location) for f in self.fallbacks]
        sizes = [
            tuple(str(value) for value in choice.values()) for choice in data["min_block_size"]
        ]
        ranges = ", ".join(f"{s} in {r}" for s, r in data["graph"]["symbols"].items())
        return "\n".join(
            [
                f"<p>{data['num_supported']} of {data['num_nodes']} ops supported "
                f"({data['coverage']:.1%} coverage), {data['num_nodes_in_engines']} in "
                f"{data['num_engines']} engines. {html.escape(ranges)}</p>",
                _table(("segment", "ops", "which", "reads", "makes"), rows),
                _table(("left to torch", "reason", "node", "location"), left),
                _table(("min_block_size", "engines", "ops in engines"), sizes),
                _table(("setting", "value"), list(data["settings"].items())),
            ]
        )


def publish(report: GraphReport, settings: CompilationSettings) -> None:
    """Prints or writes a report, if the settings ask for it. A file that cannot be written is told
    on stderr, with the report on stdout."""
    if isinstance(settings.dryrun, str):
        try:
            _write(report, Path(settings.dryrun))
        except OSError as error:
            print(f"stator: the report cannot be written: {error}", file=sys.stderr)
            print(report, flush=True)
    elif settings.dryrun:
        print(report, flush=True)
    elif settings.debug:
        print(f"stator: {report}", file=sys.stderr, flush=True)


def _write(report: GraphReport, path: Path) -> None:
    with _lock:
        reports = _written.setdefault(path.absolute(), [])
        reports.append(report)
        if path.suffix == ".json":
            text = json.dumps([report.data for report in reports], indent=2) + "\n"
        else:
            text = "\n".join(report.text for report in reports)
        path.write_text(text, encoding="utf-8")


def _tensors(tensors: list[dict[str, Any]]) -> str:
    return ", ".join(f"{t['name']}: {t['dtype']}{t['shape']}".replace("'", "") for t in tensors)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in rows
    )
    titles = "".join(f"<th>{title}</th>" for title in head)
    return f"<table><tr>{titles}</tr>\n{cells}</table>"
