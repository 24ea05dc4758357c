"""Figures beside each other: which network is faster, and do repeats agree."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.machine import differences
from benchmarks.results import Machine, Profile, Row
from reports.figures import milliseconds
from reports.render import Table
from zoo.errors import UsageError

_PER_SECOND = ("throughput", "end-to-end")
"""Scenarios whose figure is images per second; more is better."""


def headline(row: Row) -> float | None:
    """The figure that a row is about: images per second, or milliseconds."""
    return row.images_per_s if row.scenario in _PER_SECOND else row.ms


def variant(row: Row) -> str:
    """How a network was run, in words."""
    where = f"cpu, {row.threads} thread{'s' * (row.threads > 1)}" if row.device == "cpu" else row.device
    return ", ".join([where, row.precision, row.memory_format, *["compiled"] * row.compiled])


def ranking(profiles: Sequence[Profile]) -> list[Table]:
    """Networks from fast to slow, within each scenario and variant that has several.

    Args:
        profiles: Of one machine; an earlier one's rows come beside those of a later.

    Raises:
        UsageError: They are of different machines; the message names the fields that differ.
    """
    for other in profiles[1:]:
        refuse_others(profiles[0].machine, other.machine)
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in (row for profile in profiles for row in profile.rows if headline(row)):
        groups.setdefault((row.scenario, variant(row)), []).append(row)
    found = [
        (*group, str(place), row.title, milliseconds(headline(row) or 0.0))
        for group, rows in groups.items()
        if len(rows) > 1
        for place, row in places(rows)
    ]
    if not found:
        return []
    return [
        Table(
            "From fast to slow, within each scenario and variant",
            ("Scenario", "Variant", "Place", "Network", "ms or images/s"),
            tuple(found),
            (
                "Networks share a place where their figures differ by no more than the larger of their spreads.",
            ),
            align="llrlr",
        )
    ]


def refuse_others(a: Machine, b: Machine) -> None:
    """Refuses to compare figures of two machines.

    Raises:
        UsageError: They differ; the message says in what.
    """
    if different := differences(a, b):
        raise UsageError(
            f"figures of different machines are not ranked; these differ in {'; '.join(different)}"
        )


def places(rows: Sequence[Row]) -> list[tuple[int, Row]]:
    """Rows of one scenario and variant from fast to slow, with their places.

    A row shares the place of the first that has it if their figures differ by no more than the
    larger of both spreads.
    """
    falling = rows[0].scenario in _PER_SECOND
    ordered = sorted(rows, key=lambda row: headline(row) or 0.0, reverse=falling)
    found: list[tuple[int, Row]] = []
    first, place = ordered[0], 1
    for index, row in enumerate(ordered, start=1):
        if not agree([first, row]):
            first, place = row, index
        found.append((place, row))
    return found


def agree(rows: Sequence[Row]) -> bool:
    """Whether figures differ by no more than the largest of their spreads, as a share of the largest figure."""
    figures = [headline(row) or 0.0 for row in rows]
    return max(figures) - min(figures) <= max(row.spread or 0.0 for row in rows) * max(figures)


def repeats(profiles: Sequence[Profile]) -> Table:
    """Whether repeats of a whole run lie within the spread that they state.

    Args:
        profiles: Of the same systems and options on the same machine.

    Raises:
        UsageError: They are of different machines.
    """
    for other in profiles[1:]:
        refuse_others(profiles[0].machine, other.machine)
    found = []
    outside = 0
    for same in zip(*(profile.rows for profile in profiles), strict=True):
        figures = [headline(row) for row in same]
        if None in figures:
            verdict = f"n/a ({next(row.error for row in same if headline(row) is None)})"
        else:
            verdict = "within" if agree(same) else "OUTSIDE"
            outside += not agree(same)
        row = same[0]
        shown = ["n/a" if figure is None else milliseconds(figure) for figure in figures]
        known = [figure for figure in figures if figure]
        differ = f"{100 * (max(known) - min(known)) / max(known):.1f}%" if known else "–"
        stated = f"{100 * max(row.spread or 0.0 for row in same):.1f}%"
        found.append((row.scenario, row.title, variant(row), *shown, differ, stated, verdict))
    runs = [f"Run {index}" for index in range(1, len(profiles) + 1)]
    return Table(
        f"Repeats: {len(found) - outside} of {len(found)} figures within their own spread",
        ("Scenario", "Network", "Variant", *runs, "Differ by", "Stated spread", ""),
        tuple(found),
        ("Milliseconds, or images per second. Within: they differ by no more than the largest spread that a run states.",),
        align="lll" + "r" * (len(runs) + 2) + "l",
    )  # fmt: skip
