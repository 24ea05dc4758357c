"""Figures of a leaderboard: each ranking with its intervals, and against parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.parameters import RULES, parameters
from evaluate.protocols import title_of
from reports.charts.costs import front
from reports.charts.model import Axis, Chart, Panel, Series
from reports.figures import estimate
from reports.leaderboard import Board, Ranked

LABELLED = 12
"""Points that have their names beside them at most; where there are more, those that no other beats have."""


def board_charts(board: Board) -> list[Chart]:
    """A figure for each ranking of scores; a system has the same style in all of them."""
    systems = dict.fromkeys(row.system.system for rows in board.rankings.values() for row in rows)
    styles = {system: place for place, system in enumerate(systems)}
    return [
        _chart(number, title, rows, styles) for number, (title, rows) in enumerate(board.rankings.items())
    ]


def _chart(number: int, title: str, rows: Sequence[Ranked], styles: dict[str, int]) -> Chart:
    known = [row for row in rows if row.system.metrics["roc_auc"].value is not None]
    several = len({row.source.name for row in known}) > 1
    names = [_name([row], several) for row in known]
    figure = title_of("roc_auc")
    listed = "; ".join(
        f"{name} {estimate(metric.value, metric.low, metric.high)}"
        for name, metric in zip(names, (row.system.metrics["roc_auc"] for row in known), strict=True)
    )
    empty = "" if known else "no system has a figure"
    return Chart(
        name=f"ranking-{number}",
        title=title.partition(" (")[0],
        about=f"{figure} of each system of the ranking: {listed}.",
        panels=(
            Panel(
                x=Axis(title=figure),
                y=Axis(title="", categories=tuple(names)),
                series=tuple(
                    _series(row, name, styles, metric=(name,), along="x") for row, name in zip(known, names, strict=True)
                ),
                empty=empty,
            ),
            _against_parameters(known, styles, figure),
        ),
        notes=("Bars: 95% intervals. Hollow: the competition's winners. A system has one colour and marker in all records.",),
        table=title,
    )  # fmt: skip


def _against_parameters(rows: Sequence[Ranked], styles: dict[str, int], figure: str) -> Panel:
    found: dict[tuple[str, float, float | None, float | None, float | None], list[Ranked]] = {}
    for row in rows:
        if row.entry and row.entry.members:
            size = parameters(row.entry.card, row.entry.operations, "networks") / 1e6
            metric = row.system.metrics["roc_auc"]
            found.setdefault((row.system.system, size, metric.value, metric.low, metric.high), []).append(row)
    best = front([(size, value or 0.0) for _, size, value, _, _ in found])
    differ = Counter(system for system, *_ in found)
    return Panel(
        x=Axis(title=f"Parameters, millions (counting {RULES['networks'].title})", log=True),
        y=Axis(title=figure),
        series=tuple(
            _series(
                same[0], _name(same, differ[system] > 1), styles, metric=(size,), along="y",
                labelled=len(found) <= LABELLED or (size, value) in best,
            )
            for (system, size, value, *_), same in found.items()
        ),
        empty="" if found else "no system has networks",
    )  # fmt: skip


def _series(
    row: Ranked, name: str, styles: dict[str, int], *, metric: tuple[float | str, ...], along: str, labelled: bool = False
) -> Series:  # fmt: skip
    found = row.system.metrics["roc_auc"]
    assert found.value is not None
    value: tuple[float | str, ...] = (found.value,)
    return Series(
        name=name,
        x=value if along == "x" else metric,
        y=metric if along == "x" else value,
        low=(found.low,),
        high=(found.high,),
        along="x" if along == "x" else "y",
        style=styles[row.system.system],
        hollow=row.entry is not None and row.entry.card.group == "winner",
        labelled=labelled,
        listed=False,
    )


def _name(rows: Sequence[Ranked], several: bool) -> str:
    """The title of a system, with the names of its records where they tell rows apart."""
    title = rows[0].system.title
    return f"{title} ({', '.join(row.source.name for row in rows)})" if several else title
