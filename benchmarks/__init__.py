"""What a system costs: parameters, operations, time, memory and energy.

>>> import benchmarks
>>> benchmarks.reduction(10, 200)
0.95
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from benchmarks.machine import differences, fingerprint
from benchmarks.parameters import RULES, parameters, protocol_macs, reduction, weight_bytes
from benchmarks.results import Gap, Latency, Machine, Operations

if TYPE_CHECKING:
    from benchmarks.counters import count
    from benchmarks.latency import quick_latency
    from benchmarks.operations import count_all

__all__ = [
    "RULES",
    "Gap",
    "Latency",
    "Machine",
    "Operations",
    "count",
    "count_all",
    "differences",
    "fingerprint",
    "parameters",
    "protocol_macs",
    "quick_latency",
    "reduction",
    "weight_bytes",
]

_LATER = {"count": "counters", "count_all": "operations", "quick_latency": "latency"}


def __getattr__(name: str) -> Any:
    # With the first use, not before: counting imports torch, and `import benchmarks` must stay quick.
    if name in _LATER:
        return getattr(import_module(f"benchmarks.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
