"""Figures beside each other: which network is faster, and do repeats agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

from benchmarks.cells import Variant
from benchmarks.machine import differences
from benchmarks.results import Machine, Profile, Row
from reports.figures import milliseconds
from reports.render import Table
from zoo.errors import UsageError

_PER_SECOND = ("throughput", "end-to-end")
"""Scenarios whose figure is images per second; more is better."""

_APART = ("GPU", "cuDNN", "CPU capability", "allocator")
"""Settings beside a row that decide its speed, and that the machine does not tell."""


def headline(row: Row) -> float | None:
    """The figure that a row is about: images per second, or milliseconds."""
    return row.images_per_s if row.scenario in _PER_SECOND else row.ms


def variant(row: Row) -> str:
    """How a network was run, in words."""
    return Variant.of(row).label


def apart(variants: Sequence[Variant]) -> tuple[list[str], str]:
    """What tells variants apart, for each of them; and what all have in common.

    >>> apart([Variant(), Variant(precision="bf16")])
    (['fp32', 'bf16'], 'cpu, 1 thread, contiguous')
    """
    parts = [variant.parts for variant in variants]
    differ = [len(set(values)) > 1 for values in zip(*parts, strict=True)]
    common = variants[0].label.split(", ") if variants else []
    return (
        [
            ", ".join(part for part, other in zip(each, differ, strict=True) if other and part)
            for each in parts
        ],
        ", ".join(part for part in common if all(part in each for each in parts)),
    )


def figure(row: Row) -> str:
    """A row's figure with what makes it doubtful, or why there is none."""
    value = headline(row)
    if value is None:
        return f"n/a ({row.error or 'not measured'})"
    return " ".join([milliseconds(value), *([f"[{'; '.join(row.flags)}]"] if row.flags else [])])


def ranking(profiles: Mapping[str, Profile]) -> list[Table]:
    """Networks from fast to slow, within each scenario and variant that has several.

    Args:
        profiles: Of one machine, by what they are called; rows of an earlier one come beside those of a later.

    Raises:
        UsageError: They are of different machines; the message names the fields that differ.
    """
    refuse_others(*(profile.machine for profile in profiles.values()))
    groups: dict[tuple[str, str, str, tuple[str, ...], int | None, bool], list[Row]] = {}
    whose: dict[int, str] = {}
    for name, profile in profiles.items():
        for row in filter(headline, profile.rows):
            # Files of other images take other times, and short measurements are no match for whole ones.
            images = profile.images_sha256 if row.scenario == "end-to-end" else ""
            settings = tuple(row.settings.get(each, "") for each in _APART)
            asked = row.batch_asked if row.scenario in _PER_SECOND else None
            group = (row.scenario, variant(row), images, settings, asked, profile.quick)
            groups.setdefault(group, []).append(row)
            whose[id(row)] = name
    several = len(profiles) > 1
    found = [
        (*group[:2], str(place), row.title, *([whose[id(row)]] if several else []), figure(row))
        for group, rows in groups.items()
        if len(rows) > 1
        for place, row in places(rows)
    ]
    if not found:
        return []
    return [
        Table(
            "From fast to slow, within each scenario and variant",
            ("Scenario", "Variant", "Place", "Network", *(["Of"] if several else []), "ms or images/s"),
            tuple(found),
            (
                "Networks share a place where their figures differ by no more than the larger of their spreads. Those "
                "with another GPU, cuDNN, instruction set, allocator, other images or another batch asked for are ranked apart.",
            ),
            align="llrl" + "l" * several + "r",
        )
    ]


def refuse_others(first: Machine, *others: Machine) -> None:
    """Refuses to compare figures of different machines.

    Raises:
        UsageError: They differ; the message says in what.
    """
    for other in others:
        if different := differences(first, other):
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
    """Whether repeats of a whole run lie within the spread that the first of them stated.

    Args:
        profiles: Of the same systems and options on the same machine.

    Raises:
        UsageError: They are of different machines.
    """
    refuse_others(*(profile.machine for profile in profiles))
    found = []
    held = 0
    for same in zip(*(profile.rows for profile in profiles), strict=True):
        first, *further = same
        missing = next((row for row in same if headline(row) is None), None)
        if missing:
            apart_by, pairs, verdict = "–", "–", f"n/a ({missing.error})"
        else:
            outside = [
                f"run {number}" for number, row in enumerate(further, start=2) if not repeated(first, row)
            ]
            held += not outside
            apart_by = f"{100 * max((distance(first, row) for row in further), default=0.0):.1f}%"
            judged = [repeated(one, other) for one, other in permutations(same, 2)]
            pairs = f"{sum(judged)} of {len(judged)}"
            verdict = f"OUTSIDE: {', '.join(outside)}" if outside else "within"
        stated = "–" if first.spread is None else f"{100 * first.spread:.1f}%"
        shown = [_at_batch(row) for row in same]
        found.append((first.scenario, first.title, variant(first), *shown, stated, apart_by, pairs, verdict))
    runs = [f"Run {index}" for index in range(1, len(profiles) + 1)]
    notes = [
        "Milliseconds, or images per second. Within: each repeat lies within the spread that run 1 stated, of its time per image; "
        "where nothing but chance tells rounds apart, about 94 of 100 repeats do. Pairs: each run by the spread of each other.",
    ]
    if any(profile.rounds < 2 for profile in profiles):
        notes.append("One round per run: the spread is that within a process, and says nothing of a repeat.")
    return Table(
        f"Repeats: {held} of {len(found)} figures within the spread of the first run",
        ("Scenario", "Network", "Variant", *runs, "Spread of run 1", "Farthest repeat", "Pairs within", ""),
        tuple(found),
        tuple(notes),
        align="lll" + "r" * (len(runs) + 3) + "l",
    )  # fmt: skip


def repeated(first: Row, repeat: Row) -> bool:
    """Whether a repeat lies within the spread that the first of both states, of its own figure."""
    return distance(first, repeat) <= (first.spread or 0.0)


def distance(first: Row, repeat: Row) -> float:
    """How far the time of a repeat lies from that of the first, as a share of it.

    Of images per second it is the time of one, since spreads are shares of a time.
    """
    one, other = headline(first), headline(repeat)
    assert one
    assert other
    ratio = one / other if first.scenario in _PER_SECOND else other / one
    return abs(ratio - 1)


def _at_batch(row: Row) -> str:
    """A figure, with the batch where a sweep chose it anew."""
    return f"{figure(row)} at batch {row.batch}" if row.sweep else figure(row)
