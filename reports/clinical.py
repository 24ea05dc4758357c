"""What a clinic asks for, as tables: operating points, decision curves, calibration, subgroups."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from evaluate.calibration import FIGURES as CALIBRATION
from evaluate.calibration import Calibration
from evaluate.clinical import Clinical
from evaluate.decision import DecisionCurves, SystemDecision
from evaluate.operating import FIGURES, AtPoint, OperatingPoints
from evaluate.scores import Metric
from evaluate.subgroups import InGroup, Subgroups
from reports.figures import decimals, ratio, with_sign
from reports.render import Table

CHOSEN = " †"
_CHOSEN_NOTE = (
    "† at a threshold chosen on this test set: every figure of the row is optimistic. "
    "Development predictions lock it (--threshold-from)."
)
_LOCKED_NOTE = "Rows without † have their threshold locked on development predictions."


_OPERATING = {
    "Operating points": ("sensitivity", "specificity", "balanced_accuracy", "f1"),
    "What a call means at them": (
        "ppv",
        "npv",
        "number_needed_to_biopsy",
        "likelihood_ratio_positive",
        "likelihood_ratio_negative",
    ),
}


_TEXT = {
    "number_needed_to_biopsy": ratio,
    "likelihood_ratio_positive": ratio,
    "likelihood_ratio_negative": ratio,
}


def tables(found: Clinical, notes: Iterable[str] = ()) -> list[Table]:
    """A table or more for each part that was asked for; `notes` go below each."""
    parts = [
        *(operating(found.operating_points) if found.operating_points else []),
        *([decision(found.decision_curves)] if found.decision_curves else []),
        *(calibration(found.calibration) if found.calibration else []),
        *(subgroups(found.subgroups) if found.subgroups else []),
    ]
    return [msgspec.structs.replace(part, notes=(*part.notes, *notes)) for part in parts]


def estimated(metric: Metric, text: Callable[[float], str] = decimals) -> str:
    """A figure and its interval, or `n/a` with the reason; an end that is not there is infinite.

    >>> estimated(Metric(value=0.815, low=0.766, high=0.86))
    '0.815 (0.766 to 0.860)'
    >>> estimated(Metric(value=9.5, low=4.0, reason="no upper end: no lesion but melanomas is called"))
    '9.500 (4.000 to ∞)'
    >>> estimated(Metric(value=1.0, reason="no interval: the same in every resample"))
    '1.000 (no interval)'
    >>> estimated(Metric(value=None, reason="no lesion is called"))
    'n/a (no lesion is called)'
    """
    if metric.value is None:
        return f"n/a ({metric.reason})"
    if metric.low is None:
        return f"{text(metric.value)} (no interval)"
    return f"{text(metric.value)} ({text(metric.low)} to {'∞' if metric.high is None else text(metric.high)})"


def operating(found: OperatingPoints) -> list[Table]:
    """A row per system and operating point: what the threshold calls, and what a call then means."""
    origins = {row.threshold_from for row in found.rows}
    notes = (
        "Point: the sensitivity or specificity that the threshold was chosen to reach.",
        *([_CHOSEN_NOTE] if "test set" in origins else []),
        *([_LOCKED_NOTE] if "development" in origins else []),
    )
    return [
        Table(
            title,
            ("System", "Point", "Threshold", *(FIGURES[name].title for name in names)),
            tuple(_operating_row(row, names) for row in found.rows),
            (
                *notes,
                *_prevalence_notes(
                    found, ", ".join(FIGURES[name].title for name in names if FIGURES[name].of_prevalence)
                ),
                " ".join(f"{FIGURES[name].title}: {FIGURES[name].definition}" for name in names),
                *_no_interval([row.metrics[name] for row in found.rows for name in names]),
                *found.notes,
                _resampled(found),
            ),
            align="llr" + "r" * len(names),
        )
        for title, names in _OPERATING.items()
    ]


def decision(found: DecisionCurves) -> Table:
    """A row per threshold probability, a column per system that has probabilities."""
    shown = [system for system in found.systems if _has_figures(system)]
    columns = [[estimated(metric) for metric in system.net_benefit] for system in shown]
    return Table(
        "Net benefit at threshold probabilities",
        ("Threshold probability", "Excise all", "Excise none", *(system.title for system in shown)),
        tuple(
            (f"{threshold:.4g}", decimals(all_), decimals(0), *texts)
            for threshold, all_, *texts in zip(found.thresholds, found.treat_all, *columns, strict=True)
        ),
        (
            "Melanomas excised per lesion, less needless excisions at the rate at which someone who excises "
            "from this probability on would trade them. A system helps where it is above both all and none.",
            *(
                f"{system.title}: n/a ({system.net_benefit[0].reason})"
                for system in found.systems
                if not _has_figures(system)
            ),
            *_prevalence_notes(found, "net benefit"),
            _resampled(found),
        ),
        align="r" * (3 + len(shown)),
    )


def calibration(found: Calibration) -> list[Table]:
    """A row per system, and the reliability data of those that have probabilities."""
    summary = Table(
        "Calibration",
        ("System", *(figure.title for figure in CALIBRATION.values())),
        tuple(
            (system.title, *_said_once([estimated(system.metrics[name]) for name in CALIBRATION]))
            for system in found.systems
        ),
        (
            *(f"{figure.title}: {figure.definition}" for figure in CALIBRATION.values()),
            f"Melanomas are {found.test_prevalence:.1%} of this test set; where they are not, calibration differs.",
            *_no_interval(metric for system in found.systems for metric in system.metrics.values()),
            _resampled(found),
        ),
    )
    reliability = Table(
        "Reliability: melanomas among lesions of similar scores",
        ("System", "Lesions", "Melanomas", "Mean score", "Share of melanomas"),
        tuple(
            (system.title, str(each.n), str(each.positives), decimals(each.score), estimated(each.observed))
            for system in found.systems
            for each in system.bins
        ),
        ("Bins of equal numbers, lesions of one score together; intervals are Wilson's, over lesions.",),
    )
    return [summary, reliability] if reliability.rows else [summary]


def subgroups(found: Subgroups) -> list[Table]:
    """A table per system, a row per group."""
    notes = (
        f"Gap: {found.title} in the group minus that in the rest, which is all lesions known to be in another "
        "group of the same attribute; its interval is of this gap alone.",
        f"p (Holm): two-sided p-value of the gap, corrected over all {found.compared} gaps shown.",
        f"Groups of fewer than {found.fewest} melanomas or {found.fewest} other lesions have no figure.",
        *_melanoma_notes(found),
        *([f"Not in the table of labels: {', '.join(found.absent)}."] if found.absent else []),
        _resampled(found),
    )
    return [
        Table(
            f"Subgroups: {system.title}",
            ("Attribute", "Group", "Lesions", "Melanomas", found.title, "Gap to the rest", "p (Holm)"),
            tuple(
                (group.title, group.group, str(group.n), str(group.positives), *_in_group(each))
                for group, each in zip(found.groups, system.groups, strict=True)
            ),
            notes if system == found.systems[-1] else (),
            align="llrrrrr",
        )
        for system in found.systems
    ]


def _operating_row(row: AtPoint, names: tuple[str, ...]) -> tuple[str, ...]:
    mark = CHOSEN if row.threshold_from == "test set" else ""
    return (
        row.title,
        f"{row.wanted.by} {row.wanted.value:.4g}{mark}",
        ("none" if row.threshold is None else f"{row.threshold:.4g}") + mark,
        *(estimated(row.metrics[name], _TEXT.get(name, decimals)) for name in names),
    )


def _said_once(cells: list[str]) -> list[str]:
    """Cells of a row; where all are missing for one reason, it is said once."""
    if cells[0].startswith("n/a") and len(set(cells)) == 1:
        return [cells[0], *("n/a" for _ in cells[1:])]
    return cells


def _no_interval(metrics: Iterable[Metric]) -> list[str]:
    reasons = {metric.reason for metric in metrics if metric.value is not None and metric.reason}
    return [f"{reason[0].upper()}{reason[1:]}." for reason in sorted(reasons)]


def _in_group(each: InGroup) -> tuple[str, str, str]:
    if each.metric.value is None:
        return estimated(each.metric), "n/a", "n/a"
    return (
        estimated(each.metric),
        estimated(each.gap, with_sign),
        "n/a" if each.p_holm is None else decimals(each.p_holm),
    )


def _has_figures(system: SystemDecision) -> bool:
    return any(metric.value is not None for metric in system.net_benefit)


def _prevalence_notes(found: OperatingPoints | DecisionCurves, what: str) -> list[str]:
    if found.prevalence is None:
        return [
            f"Melanomas are {found.test_prevalence:.1%} of this test set, and what depends on that holds for it only: {what}."
        ]
    return [
        f"Re-weighted by Bayes' theorem from the test set's {found.test_prevalence:.1%} melanomas to "
        f"{found.prevalence:.4g} ({found.prevalence:.2%}): {what}. Sensitivity and specificity are taken to stay."
    ]


def _melanoma_notes(found: Subgroups) -> list[str]:
    titles = dict.fromkeys(group.title for group in found.groups if group.negatives == "all")
    if not titles:
        return []
    return [
        f"{', '.join(titles)}: only melanomas have it, so each group is measured against all lesions that "
        "are not melanoma."
    ]


def _resampled(found: OperatingPoints | DecisionCurves | Calibration | Subgroups) -> str:
    return (
        f"{found.level:.0%} percentile intervals over {found.resamples:,} resamples of whole patients, "
        f"seed {found.seed}."
    )
