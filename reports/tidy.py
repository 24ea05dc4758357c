"""What does not fit a row per system, as tidy tables: one figure a row, for a statistics program.

Each is a list of rows with the same keys; a missing figure is None, with its `reason`.
"""

from __future__ import annotations

from typing import Any

from evaluate.calibration import Calibration
from evaluate.decision import DecisionCurves
from evaluate.gaps import InGroup
from evaluate.operating import OperatingPoints
from evaluate.paired import Difference
from evaluate.protocols import OperatingPoint
from evaluate.scored import Metric
from evaluate.subgroups import Subgroups
from reports.record import Record

Row = dict[str, Any]


def tidy(record: Record) -> dict[str, list[Row]]:
    """The parts of a record that have rows, by name: differences, and what a clinic asked for."""
    asked = record.clinical
    points = asked.operating_points if asked else None
    found = {
        "differences": [
            *(
                _difference(each, scores.protocol, None)
                for scores in record.scores
                for each in scores.differences
            ),
            *(
                _difference(each, "clinical", comparison.wanted)
                for comparison in (points.comparisons if points else ())
                for each in comparison.differences
            ),
        ],
        "operating_points": operating_points(points) if points else [],
        "decision_curves": decision_curves(asked.decision_curves) if asked and asked.decision_curves else [],
        "calibration": calibration(asked.calibration) if asked and asked.calibration else [],
        "reliability": reliability(asked.calibration) if asked and asked.calibration else [],
        "subgroups": subgroups(asked.subgroups) if asked and asked.subgroups else [],
    }
    return {part: rows for part, rows in found.items() if rows}


def operating_points(found: OperatingPoints) -> list[Row]:
    """A row per system, point and figure."""
    return [
        {
            "system": row.system,
            **_point(row.wanted),
            "threshold": row.threshold,
            "threshold_from": row.threshold_from,
            "prevalence": found.test_prevalence if found.prevalence is None else found.prevalence,
            "figure": figure,
            **_metric(metric),
            "group": metric.group or None,
        }
        for row in found.rows
        for figure, metric in row.metrics.items()
    ]


def decision_curves(found: DecisionCurves) -> list[Row]:
    """A row per system and threshold probability; `excise_all` is the net benefit without a system."""
    return [
        {
            "system": system.system,
            "threshold_probability": threshold,
            "prevalence": found.test_prevalence if found.prevalence is None else found.prevalence,
            "excise_all": everyone,
            **_metric(metric),
        }
        for system in found.systems
        for threshold, everyone, metric in zip(
            found.thresholds, found.treat_all, system.net_benefit, strict=True
        )
    ]


def calibration(found: Calibration) -> list[Row]:
    """A row per system and figure."""
    return [
        {"system": system.system, "figure": figure, **_metric(metric)}
        for system in found.systems
        for figure, metric in system.metrics.items()
    ]


def reliability(found: Calibration) -> list[Row]:
    """A row per system and bin of equal numbers, from the lowest scores up."""
    return [
        {
            "system": system.system,
            "bin": number,
            "n": each.n,
            "positives": each.positives,
            "mean_score": each.score,
            **_metric(each.observed),
        }
        for system in found.systems
        for number, each in enumerate(system.bins, start=1)
    ]


def subgroups(found: Subgroups) -> list[Row]:
    """A row per system, figure and group."""
    return [
        {
            "system": system.system,
            "figure": figure,
            **_point(point),
            "threshold_from": origin,
            "attribute": group.attribute,
            "group": group.group,
            "n": group.n,
            "positives": group.positives,
            **_in_group(each),
        }
        for system in found.systems
        for figure, point, origin, groups in (
            (found.metric, None, None, system.groups),
            *((at.figure, at.wanted, at.threshold_from, at.groups) for at in system.at),
        )
        for group, each in zip(found.groups, groups, strict=True)
    ]


def _in_group(each: InGroup) -> Row:
    return {
        **_metric(each.metric),
        **{f"gap_{key}": value for key, value in _metric(each.gap).items()},
        "p": each.p,
        "p_holm": each.p_holm,
    }


def _difference(found: Difference, protocol: str, point: OperatingPoint | None) -> Row:
    test = found.textbook
    return {
        "protocol": protocol,
        **_point(point),
        "figure": found.metric,
        "a": found.a,
        "b": found.b,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "reason": found.reason or None,
        "p": found.p,
        "p_holm": found.p_adjusted,
        "separable": found.separable,
        **{
            f"test_{name}": getattr(test, name) if test else None
            for name in ("test", "low", "high", "only_a", "only_b", "p", "p_adjusted")
        },
        "test_reason": test.reason or None if test else None,
    }


def _point(point: OperatingPoint | None) -> Row:
    return {"point": point.by if point else None, "wanted": point.value if point else None}


def _metric(metric: Metric) -> Row:
    return {"value": metric.value, "low": metric.low, "high": metric.high, "reason": metric.reason or None}
