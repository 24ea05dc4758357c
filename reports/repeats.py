"""Whether repeats of a whole run lie within the spread that it states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

from benchmarks.results import Ceiling, Profile, Row
from reports import render
from reports.ranking import figure, headline, refuse_others, time, variant
from reports.table_files import write_tables


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """A figure of several runs, judged by the spread that the first of them stated.

    Attributes:
        scenario: Its scenario.
        system: The system's name.
        title: The network's name in tables.
        variant: How the network was run, in words.
        figures: Of each run: milliseconds, or images per second; None where it is missing.
        batches: Images per pass of each run; None of a whole protocol.
        spread: That of the first run.
        farthest: How far the farthest repeat lies from it, as a share of its time.
        normalised_error: The largest of all pairs of runs (`normalised_error`); None where neither of a pair states a spread.
        outside: Runs, from 2, that lie outside of the spread of the first.
        error: Why it cannot be judged; empty where it can.
    """

    scenario: str
    system: str
    title: str
    variant: str
    figures: tuple[float | None, ...]
    batches: tuple[int | None, ...]
    spread: float | None
    farthest: float | None = None
    normalised_error: float | None = None
    outside: tuple[int, ...] = ()
    error: str = ""


def judged(profiles: Sequence[Profile]) -> list[Repeated]:
    """Every figure of several runs.

    Args:
        profiles: Of the same systems and options on the same machine.

    Raises:
        UsageError: They are of different machines.
    """
    refuse_others(*(profile.machine for profile in profiles))
    return [_judged(same) for same in _same(profiles)]


def _same(profiles: Sequence[Profile]) -> list[tuple[Row, ...]]:
    """The rows of one figure, for each figure."""
    return list(zip(*(profile.rows for profile in profiles), strict=True))


def _judged(same: Sequence[Row]) -> Repeated:
    first, *further = same
    found = Repeated(
        scenario=first.scenario,
        system=first.system,
        title=first.title,
        variant=variant(first),
        figures=tuple(map(headline, same)),
        batches=tuple(row.batch for row in same),
        spread=first.spread,
    )
    if missing := next((row for row in same if headline(row) is None), None):
        return replace(found, error=missing.error or "not measured")
    errors = [normalised_error(one, other) for one, other in combinations(same, 2)]
    return replace(
        found,
        farthest=max((distance(first, row) for row in further), default=0.0),
        normalised_error=None if None in errors else max(filter(None, errors), default=0.0),
        outside=tuple(run for run, row in enumerate(further, start=2) if not repeated(first, row)),
    )


def repeats(profiles: Sequence[Profile]) -> render.Table:
    """The verdict on every figure of several runs, as a table.

    Raises:
        UsageError: They are of different machines.
    """
    found = judged(profiles)
    held = sum(not each.error and not each.outside for each in found)
    agree = sum(each.normalised_error is not None and each.normalised_error <= 1 for each in found)
    runs = [f"Run {number}" for number in range(1, len(profiles) + 1)]
    promised = (
        "with one round per run the spread is that within a process, and says nothing of a repeat"
        if any(profile.rounds < 2 for profile in profiles)
        else "95 of 100 repeats that follow at once do on a machine that wanders for hours, 99 where chance alone tells rounds apart "
        "(simulated); of those on another day fewer"
    )
    notes = [
        "Milliseconds, or images per second. Within: each repeat lies within the spread that run 1 stated, of its time per image; "
        f"{promised}. E_n (ISO 13528): the difference of two runs / what both of their spreads allow, the largest of all pairs; up "
        "to 1 they agree.",
    ]
    if moved := states(profiles):
        notes.append(
            f"Ceilings of each run, of run 1's: {moved}. Where they moved the machine was in another state."
        )
    return render.Table(
        f"Repeats: {held} of {len(found)} figures within the spread of the first run, {agree} by the spreads of all runs (E_n up to 1)",
        ("Scenario", "Network", "Variant", *runs, "Spread of run 1", "Farthest repeat", "E_n", ""),
        tuple(_shown(each, same) for each, same in zip(found, _same(profiles), strict=True)),
        tuple(notes),
        align="lll" + "r" * (len(runs) + 3) + "l",
    )  # fmt: skip


def states(profiles: Sequence[Profile]) -> str:
    """How the ceilings of further runs lie beside those of the first, in words; empty where there are none.

    What others on the same host take (the bandwidth of memory, say) shows there before it shows in any counter of
    this machine, and no spread of an earlier run foresees it.
    """
    first = {_of(each): each for each in profiles[0].ceilings}
    found = []
    for run, profile in enumerate(profiles[1:], start=2):
        pairs = [(first[_of(each)], each) for each in profile.ceilings if _of(each) in first]
        shares = {
            name: [
                new / old
                for one, other in pairs
                if (old := getattr(one, key)) and (new := getattr(other, key))
            ]
            for name, key in _CEILINGS.items()
        }
        told = [f"{name} {_range(each)}" for name, each in shares.items() if each]
        found += [f"run {run}: {', '.join(told)}"] if told else []
    return "; ".join(found)


_CEILINGS = {"matrix product": "matmul_flops", "convolution": "convolution_flops", "copy": "copy_bytes_per_s"}


def _of(ceiling: Ceiling) -> tuple[str, str, int]:
    return ceiling.device, ceiling.precision, ceiling.threads


def _range(shares: Sequence[float]) -> str:
    return " to ".join(dict.fromkeys(f"{100 * each:.0f}%" for each in (min(shares), max(shares))))


def _shown(found: Repeated, same: Sequence[Row]) -> tuple[str, ...]:
    return (
        found.scenario,
        found.title,
        found.variant,
        *map(_at_batch, same),
        _percent(found.spread),
        _percent(found.farthest),
        "–" if found.normalised_error is None else f"{found.normalised_error:.2f}",
        _verdict(found),
    )


def _verdict(found: Repeated) -> str:
    if found.error:
        return f"n/a ({found.error})"
    return f"OUTSIDE: {', '.join(f'run {run}' for run in found.outside)}" if found.outside else "within"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}%"


def _at_batch(row: Row) -> str:
    """A figure, with the batch where a sweep chose it anew."""
    return f"{figure(row)} at batch {row.batch}" if row.sweep and row.batch else figure(row)


def write_repeats(profiles: Sequence[Profile], folder: Path) -> list[Path]:
    """Writes the verdicts in every format, as `repeats.*`; a line per figure in the CSV.

    Raises:
        MachineError: The folder cannot be written.
        UsageError: They are of different machines.
    """
    runs = [f"run_{number}" for number in range(1, len(profiles) + 1)]
    header = ("scenario", "system", "title", "variant", *runs, "spread", "farthest", "normalised_error", "verdict")  # fmt: skip
    lines = [
        (
            each.scenario,
            each.system,
            each.title,
            each.variant,
            *each.figures,
            each.spread,
            each.farthest,
            each.normalised_error,
            _verdict(each),
        )
        for each in judged(profiles)
    ]
    return write_tables([repeats(profiles)], render.delimited(header, lines), folder, "repeats")


def forget_repeats(folder: Path) -> None:
    """Removes the verdicts of earlier runs: they do not hold for those that are about to begin."""
    for ending in ("csv", "md", "tex", "txt"):
        with suppress(OSError):  # Writing there will say what is wrong.
            (folder / f"repeats.{ending}").unlink(missing_ok=True)


def repeated(first: Row, repeat: Row) -> bool:
    """Whether a repeat lies within the spread that the first of both states, of its own figure."""
    return distance(first, repeat) <= (first.spread or 0.0)


def normalised_error(one: Row, other: Row) -> float | None:
    """The difference of two runs over what both of their spreads allow; None where they state none.

    E_n of ISO 13528 (9.7): the difference / the root of the sum of both squared expanded uncertainties. A spread
    is of the difference between two runs that scatter alike, and so √2 times the uncertainty of its figure. A run
    in a restless hour states a wide spread, and one in a calm hour need not answer for it.
    """
    unsure = math.hypot(*(time(row) * (row.spread or 0.0) for row in (one, other))) / math.sqrt(2)
    return abs(time(one) - time(other)) / unsure if unsure else None


def distance(first: Row, repeat: Row) -> float:
    """How far the time of a repeat lies from that of the first, as a share of it."""
    return abs(time(repeat) / time(first) - 1)
