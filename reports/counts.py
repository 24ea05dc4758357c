"""Operation counts as tables: what each counter says, and why they differ."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results import Latency
from reports.figures import giga, millions, milliseconds
from reports.record import Entry
from reports.render import Table

OTHERS = ("fvcore", "thop")
"""The counters beside torch's own, whose figure is the one shown first."""


def counted(entries: Sequence[Entry]) -> Table:
    """A row per network: parameters, GMACs of one forward pass by each counter, and its latency where taken."""
    timed = any(member.latency for entry in entries for member in entry.members)
    return Table(
        "One forward pass of each network, batch 1, at its own input size",
        (
            "System",
            "Network",
            "Input px",
            "Parameters, M",
            "GMACs",
            *(f"by {name}" for name in OTHERS),
            *(["Latency, ms (quick)"] if timed else []),
        ),
        tuple(
            (
                entry.card.title,
                member.name,
                str(member.operations.size),
                millions(member.operations.parameters),
                giga(member.operations.macs),
                *(_other(member.operations.counters.get(name)) for name in OTHERS),
                *([_latency(member.latency)] if timed else []),
            )
            for entry in entries
            for member in entry.members
        ),
        (
            "GMACs: convolutions and matrix products, in thousand millions of multiply-accumulates; GFLOPs are "
            "twice as many.",
            "GMACs are torch.utils.flop_counter's FLOPs halved; fvcore and thop count other things too, or less: "
            "melanoma-zoo count --explain.",
        ),
        align="llrrrrr" + "r" * timed,
    )


def _other(macs: int | None) -> str:
    return "n/a" if macs is None else giga(macs)


def _latency(latency: Latency | None) -> str:
    """Median and what makes it doubtful, or why there is none."""
    if latency is None or latency.median_ms is None:
        return f"n/a ({latency.error if latency else 'not measured'})"
    doubts = [flag for flag in latency.flags if flag != "quick"]
    return " ".join([milliseconds(latency.median_ms), *doubts])


def explained(entries: Sequence[Entry]) -> Table:
    """A row per counter, network and type of module that is counted differently."""
    return Table(
        "Why the counters differ from convolutions and matrix products",
        ("System", "Network", "Counter", "Module", "MACs", "Why"),
        tuple(
            (
                entry.card.title,
                member.name,
                gap.counter,
                gap.module,
                f"{gap.macs:+,}".replace("-", "−"),
                gap.reason,
            )
            for entry in entries
            for member in entry.members
            for gap in member.operations.gaps
        ),
        align="llllrl",
    )
