"""torch_stator.stats: counters of what Stator did in this process.

In:  `count`, wherever a graph is compiled, the engine cache is asked or torch runs a part. Calls of
     engines and refits are counted in C++ (src/api/ffi.cc), since they are on the way of each call.
Out: a Stats, a snapshot that prints as text.
"""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

from . import _ffi

COMPILES = "compiles"
CACHE_HITS = "cache_hits"
CACHE_MISSES = "cache_misses"
FALLBACK_CALLS = "fallback_calls"
VERIFY_FAILURES = "verify_failures"

_lock = threading.Lock()
_counts: collections.Counter[str] = collections.Counter()
_miss_reasons: collections.Counter[str] = collections.Counter()
_native_start = (0, 0)  # engine calls and refits at the last reset


@dataclasses.dataclass(frozen=True)
class Stats:
    """Counts since the process started or `reset_stats` was called."""

    compiles: int  # graphs that were compiled: once per graph and set of sizes
    cache_hits: int  # engines taken from the engine cache
    cache_misses: int  # engines that had to be built
    cache_miss_reasons: dict[str, int]
    engine_calls: int
    fallback_calls: int  # runs of a region, or of a whole graph, in eager PyTorch
    refits: int  # engines that took new content of their weights
    verify_failures: int  # graphs whose engines the setting `verify` found wrong

    def __str__(self) -> str:
        lines = [
            f"{field.name:<15} {getattr(self, field.name)}"
            for field in dataclasses.fields(self)
            if field.name != "cache_miss_reasons"
        ]
        lines += [
            f"cache missed {number}x: {reason}"
            for reason, number in sorted(self.cache_miss_reasons.items())
        ]
        return "\n".join(lines)


def stats() -> Stats:
    """A snapshot of the counters."""
    engine_calls, refits = _ffi.counters()
    with _lock:
        return Stats(
            compiles=_counts[COMPILES],
            cache_hits=_counts[CACHE_HITS],
            cache_misses=_counts[CACHE_MISSES],
            cache_miss_reasons=dict(_miss_reasons),
            engine_calls=engine_calls - _native_start[0],
            fallback_calls=_counts[FALLBACK_CALLS],
            refits=refits - _native_start[1],
            verify_failures=_counts[VERIFY_FAILURES],
        )


def reset_stats() -> None:
    """Sets all counters to zero."""
    global _native_start
    with _lock:
        _counts.clear()
        _miss_reasons.clear()
        _native_start = _ffi.counters()


def count(name: str, detail: str | None = None) -> None:
    """Counts one of the names above; `detail` is the reason of a cache miss. For threads."""
    with _lock:
        _counts[name] += 1
        if detail is not None:
            _miss_reasons[detail] += 1


def count_compilation(report: dict[str, Any]) -> None:
    """Counts a compiled graph and what the engine cache had of it (ModuleToJson,
    src/compile/compile.h)."""
    count(COMPILES)
    for part in report["parts"]:
        found, _, reason = part["cache"].partition(": ")
        if found == "hit":
            count(CACHE_HITS)
        elif found == "miss":
            count(CACHE_MISSES, reason)


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, of which each call counts as one in eager PyTorch."""

    def call(*args: Any) -> Any:
        count(FALLBACK_CALLS)
        return function(*args)

    return call
