"""Paired comparison: differences between systems on the same images, and which of them to believe.

Every difference is measured in the same patient-clustered resamples as the figures themselves, so
that what makes an image hard for both systems cancels. Systems that cannot be told apart, after
Holm over all pairs, share a letter.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType

import msgspec
import numpy as np

from evaluate.letters import letters
from evaluate.protocols import Column
from evaluate.ranking import Floats
from evaluate.resampling import LEVEL, SAME, THE_SAME, interval, p_value, undefined
from evaluate.textbook import Textbook

ALPHA = round(1 - LEVEL, 9)
"""Two systems are told apart where the adjusted p-value is below it."""

MIXED = "one threshold locked, one chosen on this test set"
"""Why there is no p-value: the one that the test set chose is flattered, the other is not."""


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of system `a` minus that of system `b` on the same images.

    Attributes:
        a: Name of the one system.
        b: Name of the other.
        metric: Name of the figure in the protocol.
        value: The difference on the test set; None where a system has no such figure.
        low: Lower end of its 95% percentile interval over paired resamples, expanded for small samples,
            not adjusted for the number of pairs; None as `reason` says. Beside the reason `MIXED` it stays: it
            says what was seen, not which system is better.
        high: Upper end.
        p: Two-sided p-value by inversion of that interval (`evaluate.resampling.p_value`), and never below that of
            McNemar's test; None where there is none, or as `reason` says.
        p_adjusted: The same after Holm over a family of pairs under this metric: all pairs, unless
            `against` or `adjusted` chose another.
        separable: Whether the adjusted p-value is below 0.05; None where that cannot be told.
        reason: Why a figure is missing, or why it cannot be told.
        resamples: Number of resamples.
        seed: Their seed.
        textbook: The textbook test of the same difference, where there is one.
    """

    a: str
    b: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None = None
    p_adjusted: float | None = None
    separable: bool | None
    reason: str
    resamples: int
    seed: int
    textbook: Textbook | None = None

    @property
    def mixed(self) -> bool:
        """Whether there is no p-value because one threshold is locked and the other is not."""
        return self.reason.endswith(MIXED)


def differences(
    names: Sequence[str],
    columns: Sequence[Column],
    points: Floats,
    drawn: Floats,
    seed: int,
    size: float = np.inf,
    tests: Mapping[tuple[str, int, int], Textbook] = MappingProxyType({}),
    mixed: Collection[tuple[str, int, int]] = (),
) -> tuple[Difference, ...]:
    """All differences between two systems, for every figure of the test set, with Holm per figure.

    Args:
        names: Name of each system.
        columns: Which figures; means over resamples have no interval and are left out.
        points: Figures of the test set, shape (systems, columns); NaN where undefined.
        drawn: Figures in paired resamples, shape (systems, columns, resamples).
        seed: Seed of the resamples.
        size: What the sample is worth (`evaluate.resampling.effective_clusters`).
        tests: Textbook tests by name of the figure and index of the two systems.
        mixed: Figure and systems of pairs that are not compared at thresholds of one origin (`mixed`).
    """
    found: list[Difference] = []
    for figure, column in enumerate(columns):
        if column.mean:
            continue
        family = [
            _difference(
                (names[a], names[b]),
                column.name,
                float(points[a, figure] - points[b, figure]),
                drawn[a, figure] - drawn[b, figure],
                seed,
                size,
                tests.get((column.name, a, b)),
                mixed=(column.name, a, b) in mixed,
            )
            for a, b in combinations(range(len(names)), 2)
        ]
        found += adjusted(family)
    return tuple(found)


def mixed(columns: Sequence[Column], chosen: Sequence[Sequence[bool | None]]) -> set[tuple[str, int, int]]:
    """Figure and systems of pairs of which one threshold was chosen on the test set, and the other was not.

    Args:
        columns: The figures.
        chosen: For each system (rows) and figure, whether the test set chose its threshold; None
            where it has none.

    Returns:
        Name of the figure and index of the two systems.
    """
    return {
        (column.name, a, b)
        for column, own in zip(columns, zip(*chosen, strict=True), strict=True)
        for a, b in combinations(range(len(chosen)), 2)
        if None not in (own[a], own[b]) and own[a] != own[b]
    }


def against(found: Sequence[Difference], reference: str) -> list[Difference]:
    """Each other system less the reference, with Holm over these pairs only, figure by figure."""
    turned = [_turned(each) if each.a == reference else each for each in found]
    own = [each for each in turned if each.b == reference]
    figures = dict.fromkeys(each.metric for each in own)
    return [each for name in figures for each in adjusted([other for other in own if other.metric == name])]


def _turned(found: Difference) -> Difference:
    """The same, seen from the other system."""
    textbook = found.textbook
    if textbook:
        textbook = msgspec.structs.replace(
            textbook,
            low=_negative(textbook.high),
            high=_negative(textbook.low),
            only_a=textbook.only_b,
            only_b=textbook.only_a,
        )
    return msgspec.structs.replace(
        found,
        a=found.b,
        b=found.a,
        value=_negative(found.value),
        low=_negative(found.high),
        high=_negative(found.low),
        textbook=textbook,
    )


def _negative(value: float | None) -> float | None:
    # Not -value: the negative of zero would print a sign.
    return None if value is None else 0 - value


def _difference(
    pair: tuple[str, str], metric: str, value: float, drawn: Floats, seed: int, size: float,
    textbook: Textbook | None, *, mixed: bool,
) -> Difference:  # fmt: skip
    low, high = interval(drawn, size)
    reason = undefined(drawn)
    p = None if low is None else p_value(drawn, size, value)
    if p is not None and textbook and textbook.test == "McNemar" and textbook.p is not None:
        p = max(p, textbook.p)  # Of a handful of images that the two differ in, resamples know too little.
    if value and low is not None and high is not None and high - low < SAME:
        low, high, reason = None, None, THE_SAME
    if mixed and not np.isnan(value):
        p, reason = None, f"{reason}; {MIXED}" if reason else MIXED
    return Difference(
        a=pair[0],
        b=pair[1],
        metric=metric,
        value=None if np.isnan(value) else value,
        low=low,
        high=high,
        p=p,
        separable=None,
        reason=reason,
        resamples=len(drawn),
        seed=seed,
        textbook=textbook,
    )


def adjusted(family: Sequence[Difference]) -> list[Difference]:
    """Differences of one figure that are looked at together: Holm over them, and what follows from it.

    What is looked at together is the reader's choice: all pairs, those with one reference, or those
    that a claim names. The more pairs, the more it takes to tell any of them apart.
    """
    bootstrapped = holm([each.p for each in family])
    tested = holm([each.textbook.p if each.textbook else None for each in family])
    return [
        msgspec.structs.replace(
            each,
            p_adjusted=p,
            separable=None if p is None else p < ALPHA,
            textbook=each.textbook and msgspec.structs.replace(each.textbook, p_adjusted=other),
        )
        for each, p, other in zip(family, bootstrapped, tested, strict=True)
    ]


def groups(
    names: Sequence[str], values: Sequence[float | None], family: Sequence[Difference]
) -> dict[str, str]:
    """The letters of systems under one figure; those that share one cannot be told apart.

    Where no pair has a p-value nothing was compared, and there are no letters.

    Args:
        names: Name of each system.
        values: Its figure; a system without one has no letter.
        family: Differences of this figure, of all pairs.
    """
    if all(each.p_adjusted is None for each in family):
        return {}
    ranked = sorted(
        ((value, name) for value, name in zip(values, names, strict=True) if value is not None),
        key=lambda each: -each[0],
    )
    apart = [frozenset((each.a, each.b)) for each in family if each.separable]
    return letters([name for _, name in ranked], apart)


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted for their number by Holm's step-down procedure (Holm 1979, jstor 4615733).

    A missing p-value stays missing and does not count.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    adjusted: list[float | None] = [None] * len(p)
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    reached = 0.0
    for rank, (value, place) in enumerate(known):
        reached = max(reached, min(1.0, (len(known) - rank) * value))
        adjusted[place] = reached
    return adjusted
