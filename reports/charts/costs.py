"""What a system gets right against what it costs, with the front that no other system beats in both."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec

from benchmarks.parameters import RULES
from evaluate.protocols import title_of
from reports.charts.model import Axis, Chart, Guide, Panel, Series
from reports.charts.systems import shown
from reports.figures import decimals
from reports.measured import quick_mark
from reports.record import Record
from reports.rows import Row, rows

NET_BENEFIT_AT = 0.1
"""Threshold probability at which net benefit is set against cost: ten biopsies for a melanoma."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """A cost: its column of the frame, the title of its axis, and what its figures are divided by."""

    key: str
    title: str
    unit: float = 1.0


def costs(record: Record) -> tuple[Cost, ...]:
    """The costs of a record."""
    rule = record.settings.rule
    return (
        Cost(
            key=f"parameters_{rule}", title=f"Parameters, millions (counting {RULES[rule].title})", unit=1e6
        ),
        Cost(key="macs_pass", title="One pass of one fold, GMACs", unit=1e9),
        Cost(key="macs_protocol", title="Whole protocol for one lesion, GMACs", unit=1e9),
        Cost(key="latency_ms", title=f"Latency of one fold, ms{quick_mark(record)}"),
        Cost(key="energy_j", title="Energy for one lesion, J"),
    )


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points that no other beats in both: cheaper (x) and better (y).

    >>> front([(1, 0.7), (3, 0.9), (2, 0.6), (4, 0.8)])
    [(1, 0.7), (3, 0.9)]
    """
    best: list[tuple[float, float]] = []
    for point in sorted(points, key=lambda each: (each[0], -each[1])):
        if not best or point[1] > best[-1][1]:
            best.append(point)
    return best


def cost_charts(record: Record) -> list[Chart]:
    """ROC-AUC against parameters; the same against every other cost; net benefit against all of them."""
    first, *others = costs(record)
    found = rows(record)
    gain = [
        {
            **row,
            "gain": row.get("roc_auc"),
            "low": row.get("roc_auc_low"),
            "high": row.get("roc_auc_high"),
            "gain_reason": row.get("roc_auc_reason"),
        }
        for row in found
    ]
    benefit = _net_benefit(record, found)
    auc = title_of("roc_auc")
    why = "" if record.scores else record.unscored or "no scores"
    notes = (
        "Bars: 95% intervals over resamples of whole patients. Hollow: the competition's winners.",
        "Dotted steps: systems that no other beats in both.",
        *_without(found, why),
    )
    return [
        Chart(
            name="auc_by_parameters",
            title=f"{auc} against parameters",
            about=_about(auc, gain),
            panels=(_panel(record, gain, first, auc, why),),
            notes=notes,
        ),
        Chart(
            name="auc_by_cost",
            title=f"{auc} against operations, time and energy",
            about=_about(auc, gain),
            panels=tuple(_panel(record, gain, cost, auc, why) for cost in others),
            notes=notes,
        ),
        Chart(
            name="net_benefit_by_cost",
            title=f"Net benefit against cost, acting from a probability of {NET_BENEFIT_AT:.0%} on",
            about=_about("net benefit", benefit),
            panels=tuple(
                _panel(record, benefit, cost, "Net benefit", _no_benefit(record)) for cost in (first, *others)
            ),
            notes=(*notes, "Systems whose scores are not known to be probabilities have no net benefit."),
            table="Net benefit at threshold probabilities",
        ),
    ]


def _without(found: Sequence[Row], why: str) -> list[str]:
    """Who is not in the figure, and why."""
    reasons: dict[str, list[str]] = {}
    for row in found:
        if row.get("roc_auc") is None:
            reasons.setdefault(row.get("roc_auc_reason") or "no score", []).append(row["title"])
    return [] if why else [f"{', '.join(titles)}: n/a ({reason})." for reason, titles in reasons.items()]


def _net_benefit(record: Record, found: Sequence[Row]) -> list[Row]:
    curves = record.clinical.decision_curves if record.clinical else None
    if curves is None or NET_BENEFIT_AT not in curves.thresholds:
        return []
    place = curves.thresholds.index(NET_BENEFIT_AT)
    by_system = {system.system: system.net_benefit[place] for system in curves.systems}
    return [
        {
            **row,
            "gain": metric.value,
            "low": metric.low,
            "high": metric.high,
            "gain_reason": metric.reason,
        }
        for row in found
        if (metric := by_system.get(row["system"]))
    ]


def _no_benefit(record: Record) -> str:
    if record.clinical and record.clinical.decision_curves:
        return ""
    return "net benefit was not asked for (compare --decision-curves)"


def _panel(record: Record, found: Sequence[Row], cost: Cost, gain: str, empty: str) -> Panel:
    axes = (Axis(title=cost.title, log=True), Axis(title=gain))
    points = [row for row in found if row["gain"] is not None and row.get(cost.key)]
    if empty or not points:
        return Panel(x=axes[0], y=axes[1], empty=empty or _reason(found, cost, gain))
    systems = shown(record)
    series = tuple(
        Series(
            name=row["title"],
            x=(row[cost.key] / cost.unit,),
            y=(row["gain"],),
            low=(row["low"],),
            high=(row["high"],),
            style=systems[row["system"]].style,
            hollow=systems[row["system"]].winner,
            labelled=True,
            notes=tuple(filter(None, (row.get(f"{cost.key}_note"),))),
        )
        for row in points
    )
    best = front([(row[cost.key] / cost.unit, row["gain"]) for row in points])
    # Steps: no system lies between two of the front.
    steps = [each for (_, before), point in itertools.pairwise(best) for each in ((point[0], before), point)]
    line = [*best[:1], *steps]
    guide = Guide(
        name="no other is better and cheaper", x=tuple(x for x, _ in line), y=tuple(y for _, y in line)
    )
    guides = (guide,) if len(best) > 1 else ()
    return Panel(x=axes[0], y=axes[1], series=series, guides=guides)


def _reason(found: Sequence[Row], cost: Cost, gain: str) -> str:
    """Why no system has a point: none has the gain, or none that has it has the cost."""
    gained = [row for row in found if row["gain"] is not None]
    title = cost.title if gained else gain
    reasons = [row.get(f"{cost.key}_reason") for row in gained] or [row["gain_reason"] for row in found]
    return f"{title}: {'; '.join(dict.fromkeys(filter(None, reasons))) or 'not measured'}"


def _about(gain: str, found: Sequence[Row]) -> str:
    known = sorted((row for row in found if row["gain"] is not None), key=lambda row: -row["gain"])
    listed = ", ".join(f"{row['title']} {decimals(row['gain'])}" for row in known)
    return f"{gain} of each system against its cost on a logarithmic axis, from the best down: {listed or 'none'}."
