"""What became of one graph, from the C++ compiler's ReportToJson (src/compile/compile.h)."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Fallback:
    """A node left to torch."""

    node: str  # its FX name
    op: str  # "aten.sort.default"
    location: str  # the user's "model.py:41"
    reason: str


@dataclasses.dataclass(frozen=True)
class GraphReport:
    """One graph that dynamo captured."""

    segments: list[tuple[str, int]]  # ("engine" or "torch", number of nodes), in order
    fallbacks: list[Fallback]
    num_nodes: int
    num_nodes_in_engines: int
    stages: dict[str, float]  # milliseconds of each stage of the compiler

    @classmethod
    def from_json(cls, report: dict[str, Any]) -> GraphReport:
        return cls(
            segments=[(part["kind"], len(part["nodes"])) for part in report["parts"]],
            fallbacks=[Fallback(**fallback) for fallback in report["fallbacks"]],
            num_nodes=report["num_nodes"],
            num_nodes_in_engines=report["num_nodes_in_engines"],
            stages={stage["name"]: stage["ms"] for stage in report["stages"]},
        )

    def __str__(self) -> str:
        lines = [f"{self.num_nodes_in_engines} of {self.num_nodes} nodes in engines"]
        lines += [f"  {kind}: {count} node(s)" for kind, count in self.segments]
        lines += [
            f"  left to torch: {f.node} ({f.op}) at {f.location or 'unknown'}: {f.reason}"
            for f in self.fallbacks
        ]
        times = ", ".join(f"{name} {ms:.0f} ms" for name, ms in self.stages.items())
        return "\n".join([*lines, f"  compile time: {times}"])
