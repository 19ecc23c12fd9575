"""torch_stator.explain: what of a model engines run, what torch runs, and why.

In:  a model and inputs. Out: an Explanation, which prints as text or as a page of HTML.
"""

from __future__ import annotations

import dataclasses
import functools
import html
from collections.abc import Mapping
from typing import Any

import torch

from . import backend
from .compiler import Compilation
from .report import Fallback, GraphReport


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What torch.compile(model, backend="stator") does with a model."""

    graphs: list[GraphReport]  # each before those of its control flow
    graph_breaks: list[str]  # each with its reason and the user's file:line

    @property
    def coverage(self) -> float:
        """The share of nodes that engines run."""
        total = sum(graph.num_nodes for graph in self.graphs)
        return sum(graph.num_nodes_in_engines for graph in self.graphs) / total if total else 1.0

    @property
    def fallbacks(self) -> list[Fallback]:
        return [fallback for graph in self.graphs for fallback in graph.fallbacks]

    def __str__(self) -> str:
        lines = [
            f"{len(self.graphs)} graph(s), {len(self.graph_breaks)} graph break(s), "
            f"{self.coverage:.1%} of the nodes in engines"
        ]
        lines += [f"graph {i}: {graph}" for i, graph in enumerate(self.graphs)]
        lines += [f"graph break: {text}" for text in self.graph_breaks]
        return "\n".join(lines)

    def to_html(self) -> str:
        """One self-contained page."""
        parts = [f"<h1>Stator: {self.coverage:.1%} of the nodes in engines</h1>"]
        for i, graph in enumerate(self.graphs):
            parts += [f"<h2>Graph {i}</h2>", graph.to_html()]
        parts.append(f"<h2>{len(self.graph_breaks)} graph break(s)</h2>")
        parts += [f"<p>{html.escape(text)}</p>" for text in self.graph_breaks]
        body = "\n".join(parts)
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Stator</title>'
            f"<style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
        )


_STYLE = (
    "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
    "th,td{border:1px solid #ccc;padding:.3em .6em;text-align:left;vertical-align:top}"
    "th{background:#eee}"
)


def explain(
    model: torch.nn.Module,
    *inputs: Any,
    options: Mapping[str, Any] | None = None,
    **kwargs: Any,
) -> Explanation:
    """Compiles `model` for these inputs, under no_grad, and tells what became of it. `kwargs` are
    the model's; a warning says when the model as a whole runs in eager PyTorch."""
    compilations: list[Compilation] = []
    backend.on_compilation.append(compilations.append)
    try:
        with torch.no_grad():
            compile_fn = functools.partial(backend.stator, options=options)
            torch.compile(model, backend=compile_fn, dynamic=False)(*inputs, **kwargs)
            breaks = torch._dynamo.explain(model)(*inputs, **kwargs).break_reasons
    finally:
        backend.on_compilation.remove(compilations.append)
    return Explanation(
        graphs=[GraphReport(one.report, one.text) for made in compilations for one in made.all()],
        graph_breaks=[_describe_break(reason) for reason in breaks],
    )


def _describe_break(reason: Any) -> str:
    frame = reason.user_stack[-1] if reason.user_stack else None
    location = f" at {frame.filename}:{frame.lineno}" if frame else ""
    text = reason.reason
    if text.startswith("generic_jump"):  # dynamo's words for it
        text = f"data-dependent branch: the condition is a tensor's value ({text})"
    return f"{text}{location}"
