"""Figures beside each other: which network is faster?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from benchmarks.cells import Variant
from benchmarks.machine import differences
from benchmarks.results import Machine, Profile, Row
from reports.figures import milliseconds
from reports.render import Table
from zoo.errors import UsageError

PER_SECOND = ("throughput", "end-to-end")
"""Scenarios whose figure is images per second; more is better."""

_APART = ("GPU", "cuDNN", "CPU capability", "allocator")
"""Settings beside a row that decide its speed, and that the machine does not tell."""


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A figure with its place among those that it is comparable with.

    Attributes:
        scenario: Its scenario.
        variant: How the network was run, in words.
        place: From 1; shared where figures differ by no more than the larger of their spreads.
        system: The system's name.
        title: The network's name in tables.
        of: Which profile it is of.
        figure: Milliseconds, or images per second.
        flags: What makes it doubtful.
    """

    scenario: str
    variant: str
    place: int
    system: str
    title: str
    of: str
    figure: float
    flags: tuple[str, ...]


def headline(row: Row) -> float | None:
    """The figure that a row is about: images per second, or milliseconds."""
    return row.images_per_s if row.scenario in PER_SECOND else row.ms


def time(row: Row) -> float:
    """The time that a row's spread is a share of: of a pass or lesion, or of an image, in ms; of a row with a figure."""
    value = headline(row)
    assert value
    return 1e3 / value if row.scenario in PER_SECOND else value


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
    return f"n/a ({row.error or 'not measured'})" if value is None else _flagged(value, row.flags)


def _flagged(value: float, flags: Sequence[str]) -> str:
    return " ".join([milliseconds(value), *([f"[{'; '.join(flags)}]"] if flags else [])])


def ranked(profiles: Mapping[str, Profile]) -> list[Placed]:
    """Networks from fast to slow, within each scenario and variant that has several.

    Args:
        profiles: Of one machine, by what they are called; rows of an earlier one come beside those of a later.

    Raises:
        UsageError: They are of different machines; the message names the fields that differ.
    """
    refuse_others(*(profile.machine for profile in profiles.values()))
    groups: dict[tuple[tuple[str, str], ...], list[Row]] = {}
    whose: dict[int, str] = {}
    for name, profile in profiles.items():
        for row in filter(headline, profile.rows):
            groups.setdefault(tuple(_conditions(row, profile).items()), []).append(row)
            whose[id(row)] = name
    return [
        Placed(
            scenario=row.scenario,
            variant=variant(row),
            place=place,
            system=row.system,
            title=row.title,
            of=whose[id(row)],
            figure=headline(row) or 0.0,
            flags=row.flags,
        )
        for rows in groups.values()
        if len(rows) > 1
        for place, row in places(rows, several=len(profiles) > 1)
    ]


def incomparable(profiles: Mapping[str, Profile]) -> dict[str, str]:
    """Profiles of which nothing is ranked beside the first, by what they are called, and why.

    The nearest rows are the two that agree in most, one of the first and one of the other.
    """
    (called, first), *others = profiles.items()
    found = {}
    for name, profile in others:
        pairs = list(product(_all_conditions(first), _all_conditions(profile)))
        if not pairs:
            found[name] = f"{called if not _all_conditions(first) else name} holds no figure"
        elif differing := min((_differing(*pair) for pair in pairs), key=len):
            found[name] = f"the nearest rows differ in {'; '.join(differing)}"
    return found


def _all_conditions(profile: Profile) -> list[dict[str, str]]:
    return [_conditions(row, profile) for row in filter(headline, profile.rows)]


def _conditions(row: Row, profile: Profile) -> dict[str, str]:
    """What rows agree in that are ranked beside each other, in words."""
    per_second = row.scenario in PER_SECOND
    return {
        "scenario": row.scenario,
        **dict(
            zip(
                ("device", "threads", "precision", "memory format", "run as"),
                Variant.of(row).parts,
                strict=True,
            )
        ),
        **{each: row.settings.get(each, "") for each in _APART},
        # Files of other images take other times, and short measurements are no match for whole ones.
        "images": profile.images_sha256[:12] if row.scenario == "end-to-end" else "",
        "batch asked for": str(row.batch_asked or "by a sweep") if per_second else "",
        "length": "quick" if profile.quick else "full",
    }


def _differing(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    return [
        f"{name}: {value or '–'} / {theirs[name] or '–'}"
        for name, value in mine.items()
        if value != theirs[name]
    ]


def ranking(profiles: Mapping[str, Profile]) -> list[Table]:
    """The same as tables: the ranking, where there is one, and the profiles that nothing is ranked of.

    Raises:
        UsageError: They are of different machines; the message names the fields that differ.
    """
    found, left = ranked(profiles), incomparable(profiles)
    several = len(profiles) > 1
    tables = []
    if found:
        tables.append(
            Table(
                "From fast to slow, within each scenario and variant",
                ("Scenario", "Variant", "Place", "Network", *(["Of"] if several else []), "ms or images/s"),
                tuple(
                    (
                        each.scenario,
                        each.variant,
                        str(each.place),
                        each.title,
                        *([each.of] if several else []),
                        _flagged(each.figure, each.flags),
                    )
                    for each in found
                ),
                (
                    "Networks share a place where their figures differ by no more than "
                    + (
                        "the larger of their spreads"
                        if several
                        else "the samples or the rounds of either scatter (95%)"
                    )
                    + ". Those with another GPU, cuDNN, instruction set, allocator, other images or another batch asked for are ranked apart.",
                ),
                align="llrl" + "l" * several + "r",
            )
        )
    if left:
        tables.append(
            Table(
                "Not ranked beside this run: nothing in them is comparable",
                ("Record", "Why (this run / the record)"),
                tuple(left.items()),
                align="ll",
            )
        )
    return tables


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


def places(rows: Sequence[Row], *, several: bool = False) -> list[tuple[int, Row]]:
    """Rows of one scenario and variant from fast to slow, with their places.

    A row shares the place of the first that has it if their times differ by no more than the larger of what
    both may be off by: of rows of `several` runs that is how far a repeat may lie.
    """
    ordered = sorted(rows, key=time)
    found: list[tuple[int, Row]] = []
    first, place = ordered[0], 1
    for index, row in enumerate(ordered, start=1):
        if time(row) - time(first) > max(_off_ms(each, several) for each in (first, row)):
            first, place = row, index
        found.append((place, row))
    return found


def _off_ms(row: Row, several: bool) -> float:
    # The rounds of one run are shuffled: what wanders for longer than that falls on all of its rows alike. A single
    # round tells nothing of that, and then what the other rows tell of the machine has to do.
    alone = several or row.between_rounds is None
    share = row.spread if alone else max(row.iqr or 0.0, row.between_rounds or 0.0)
    return (share or 0.0) * time(row)
