"""Records and their renderings: one run, one file, the same figures in every format.

record = reports.load(Path("out/record.json"))
reports.frame(record)
reports.plots(record)["roc"].savefig("roc.pdf")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reports.charts.printed import plots as plots
    from reports.comparison import compare as compare
    from reports.comparison import reproduce as reproduce
    from reports.record import Record as Record
    from reports.record import load as load
    from reports.record import save as save
    from reports.rows import frame as frame

_HOMES = {
    "Record": "reports.record",
    "compare": "reports.comparison",
    "frame": "reports.rows",
    "load": "reports.record",
    "plots": "reports.charts.printed",
    "reproduce": "reports.comparison",
    "save": "reports.record",
}

__all__ = ["Record", "compare", "frame", "load", "plots", "reproduce", "save"]


def __getattr__(name: str) -> Any:
    # Resolved at first use, so that `import reports` is quick.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
