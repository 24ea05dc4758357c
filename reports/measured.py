"""What a system takes in time and energy: from a profile where the record has one, else the quick latency.

Both are sums over the members of a system. All systems of a record are shown in one variant (device,
precision, memory format, threads), so that no axis mixes two.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks.results import Machine, Row
from reports.ranking import variant
from reports.record import Entry, Record

TIMED = ("latency_ms", "energy_j")
"""Columns of the frame that depend on the machine."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of one system.

    Attributes:
        latency_ms: One forward pass of one fold of every member, batch 1; None where it has no figure.
        latency_reason: Why it has none.
        energy_j: One lesion image through all members, folds and distinct views, above the idle machine.
        energy_reason: Why there is none.
        flags: What makes the figures doubtful.
        energy_flags: What makes the energy alone doubtful.
        spread: How far a repeat of the latency may lie from it; that of the widest member.
        rounds: Fresh processes that each time comes from, at least. One of them tells nothing of the noise between
            processes: `spread` has it from other networks then, or where these have one process too, from none.
        variant: How the networks were run, and whether in a short run.
        machine: What they were run on; None where nothing was timed.
    """

    latency_ms: float | None = None
    latency_reason: str = ""
    energy_j: float | None = None
    energy_reason: str = "not measured"
    flags: tuple[str, ...] = ()
    energy_flags: tuple[str, ...] = ()
    spread: float | None = None
    rounds: int = 1
    variant: str = ""
    machine: Machine | None = None


def measured(record: Record) -> dict[str, Measured]:
    """What was measured of each system of a record, by its name."""
    shown = _shown(record)
    if shown is None:
        return {entry.card.name: _quick(entry) for entry in record.entries}
    return {entry.card.name: _profiled(entry, record, shown) for entry in record.entries}


def timed(record: Record) -> bool:
    """Whether time was measured at all."""
    return record.settings.latency != "off" or _shown(record) is not None


def energy(record: Record) -> bool:
    """Whether the energy of any system was measured."""
    return any(each.energy_j is not None for each in measured(record).values())


def quick(record: Record) -> bool:
    """Whether the times are those of a short run."""
    return record.profile.quick if record.profile and _shown(record) else True


def quick_mark(record: Record) -> str:
    """What the title of a time says of a short run."""
    return " (quick)" if quick(record) else ""


def note(record: Record) -> str:
    """How the times of a profile were taken; empty where they are not a profile's."""
    shown = _shown(record)
    if shown is None or record.profile is None:
        return ""
    machine = record.profile.machine
    where = "; ".join(machine.gpus) if shown.startswith("cuda") else machine.cpu
    return (
        f"Latency and energy: from a profile ({shown}; {record.profile.rounds} fresh processes). Latency: median of a "
        "forward pass of batch 1, summed over the members of one fold. Energy: of that pass above the idle machine, "
        f"times folds and distinct views. Measured on {where}, {machine.cores} cores, torch {machine.torch}."
    )


def _quick(entry: Entry) -> Measured:
    """Sum over the members of one fold; n/a as a whole where one member has no figure."""
    total = 0.0
    taken = [member.latency for member in entry.members if member.latency]
    if not taken:
        return Measured(latency_reason="not measured")
    for member in entry.members:
        if member.latency is None or member.latency.median_ms is None:
            error = member.latency.error if member.latency else "not measured"
            return Measured(latency_reason=f"{member.name}: {error}")
        total += member.latency.median_ms
    runs = dict.fromkeys((each.device, each.precision, each.memory_format) for each in taken)
    return Measured(
        latency_ms=total,
        flags=tuple(sorted({flag for each in taken for flag in each.flags})),
        spread=_widest([each.spread for each in taken]),
        variant="; ".join(", ".join(each) for each in runs) + (", quick" if taken[0].quick else ""),
        machine=taken[0].machine,
    )


def _profiled(entry: Entry, record: Record, shown: str) -> Measured:
    profile = record.profile
    assert profile is not None
    rows = {row.network: row for row in _latencies(record, entry.card.name) if variant(row) == shown}
    if entry.members and not rows:
        return Measured(latency_reason="not profiled", energy_reason="not profiled")
    for member in entry.members:
        row = rows.get(member.name)
        if row is None or row.ms is None:
            why = f"{member.name}: {row.error if row else 'not profiled'}"
            return Measured(latency_reason=why, energy_reason=why)
    taken = [rows[member.name] for member in entry.members]
    if not taken:
        return Measured(latency_reason="not measured")
    joules = [row.joules for row in taken if row.joules is not None]
    whole = len(joules) == len(taken)
    without = next((row for row in taken if row.joules is None), taken[0])
    # That a run was short is said once, of time and energy together.
    doubts = {f"energy: {flag}" for row in taken for flag in row.energy_flags if whole and flag != "quick"}
    return Measured(
        latency_ms=sum(row.ms or 0.0 for row in taken),
        energy_j=sum(joules) * entry.card.folds * entry.card.views.distinct if whole else None,
        energy_reason="" if whole else without.reasons.get("joules", "not measured"),
        flags=tuple(sorted({flag for row in taken for flag in row.flags})),
        energy_flags=tuple(sorted(doubts)),
        spread=_widest([row.spread for row in taken]),
        rounds=min(row.rounds for row in taken),
        variant=shown + (", quick" if profile.quick else ""),
        machine=profile.machine,
    )


def _widest(spreads: Sequence[float | None]) -> float | None:
    """The widest spread; None where one was not measured."""
    known = [each for each in spreads if each is not None]
    return max(known) if known and len(known) == len(spreads) else None


def _latencies(record: Record, system: str | None = None) -> list[Row]:
    return [
        row
        for row in (record.profile.rows if record.profile else ())
        if row.scenario == "latency" and system in (None, row.system)
    ]


def _shown(record: Record) -> str | None:
    """The variant that is shown: of those that most networks were timed in, the plainest.

    Plain is torch in fp32, contiguous and eager; a GPU is taken before a CPU, and more threads before fewer.
    None where no network of the record was profiled.
    """
    names = {entry.card.name for entry in record.entries}
    found: dict[str, list[Row]] = {}
    for row in _latencies(record):
        if row.ms is not None and row.system in names:
            found.setdefault(variant(row), []).append(row)

    def order(name: str) -> tuple[int, bool, bool, bool, bool, bool, int]:
        first = found[name][0]
        return (
            -len(found[name]),
            first.engine != "torch",
            first.compiled,
            first.precision != "fp32",
            first.memory_format != "contiguous",
            first.device != "cuda",
            -first.threads,
        )

    return min(found, key=order, default=None)
