"""Whether figures of time and energy may be compared at all."""

from __future__ import annotations

from benchmarks.machine import differences as other_machine
from evaluate.findings import listed
from reports.gate.rules import Rule
from reports.measured import measured
from reports.record import Record


def not_comparable(rule: Rule, new: Record, old: Record, system: str, before: float) -> str:
    """Why a rule on time or energy cannot be judged; empty where it can.

    Args:
        rule: The rule.
        new: The new record.
        old: The old one.
        system: The system's name.
        before: The old figure.
    """
    theirs, ours = (measured(record)[system] for record in (old, new))
    if ours.machine is None or theirs.machine is None:
        return "not all of its networks were timed in both records"
    if found := other_machine(theirs.machine, ours.machine):
        return f"measured on different machines ({'; '.join(listed(found))})"
    if theirs.variant != ours.variant:
        return f"measured in different ways ({theirs.variant} / {ours.variant})"
    if theirs.spread is None or ours.spread is None:
        return "its noise was not measured"
    # Energy is power times time: it repeats no better than the time of the same passes.
    noise = max(theirs.spread, ours.spread)
    tolerance = rule.tolerance(before) / before if before else 0.0
    if tolerance < noise:
        return f"the rule's tolerance of {tolerance:.1%} is tighter than the measured noise of {noise:.1%}"
    return ""


def between_processes(new: Record, old: Record, system: str) -> str:
    """What to say of a verdict on time or energy of a system: nothing where the noise between processes was measured."""
    rounds = min(measured(record)[system].rounds for record in (old, new))
    return "" if rounds > 1 else "the noise between processes was not measured (one round)"
