"""Systems at operating points, as tables: figures, what a call means, and who can be told apart there."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from evaluate.calibration import Calibration
from evaluate.decision import DecisionCurves
from evaluate.operating import AtPoint, Comparison, OperatingPoints
from evaluate.paired import MIXED, Difference, against
from evaluate.points import COMPARED, FIGURES
from evaluate.protocols import OperatingPoint
from evaluate.scored import Metric
from evaluate.subgroups import Subgroups
from reports.differences import difference_text, textbook_text, untested
from reports.figures import decimals, ratio
from reports.render import Table

CHOSEN = " †"
_CHOSEN_NOTE = (
    "† at a threshold chosen on this test set: every figure of the row is optimistic. "
    "Development predictions lock it (--threshold-from)."
)
_LOCKED_NOTE = "Rows without † have their threshold locked on development predictions."
_LETTERS = (
    "Systems that share a letter at a point cannot be told apart by that figure there (Holm over all pairs); "
    "that does not make them equal."
)

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


def operating(found: OperatingPoints, reference: str) -> list[Table]:
    """A row per system and point: what the threshold calls, what a call then means, and the differences.

    Args:
        found: Systems at operating points.
        reference: Name of the system that the others are compared with.
    """
    origins = {row.threshold_from for row in found.rows}
    notes = (
        "Point: the sensitivity or specificity that the threshold was chosen to reach.",
        *([_CHOSEN_NOTE] if "test set" in origins else []),
        *([_LOCKED_NOTE] if "development" in origins else []),
    )
    tables = [
        Table(
            title,
            ("System", "Point", "Threshold", *(FIGURES[name].title for name in names)),
            tuple(_row(row, names) for row in found.rows),
            (
                *notes,
                *(
                    _letters(found)
                    if any(row.metrics[name].group for row in found.rows for name in names)
                    else []
                ),
                *prevalence_notes(
                    found, ", ".join(FIGURES[name].title for name in names if FIGURES[name].of_prevalence)
                ),
                " ".join(f"{FIGURES[name].title}: {FIGURES[name].definition}" for name in names),
                *no_interval([row.metrics[name] for row in found.rows for name in names]),
                *found.notes,
                resampled(found),
            ),
            align="llr" + "r" * len(names),
        )
        for title, names in _OPERATING.items()
    ]
    return [*tables, *_differences(found, reference)]


def _letters(found: OperatingPoints) -> list[str]:
    return [_LETTERS, *untested(each for point in found.comparisons for each in point.differences)]


def separation(found: Comparison, figure: str) -> str:
    """How many pairs of systems a figure tells apart at a point.

    The sensitivity that a threshold was chosen to reach tells nothing, so that the other is asked.
    """
    pairs = [each for each in found.differences if each.metric == figure]
    apart = sum(each.separable is True for each in pairs)
    return f"{apart} of {len(pairs)} by {figure} at {_said(found.wanted)}{left_open(pairs)}"


def left_open(pairs: Iterable[Difference]) -> str:
    """How many of some pairs are not tested, in brackets; nothing where all are."""
    count = sum(each.mixed for each in pairs)
    return f" ({count} left open: {MIXED})" if count else ""


def _said(point: OperatingPoint) -> str:
    return f"{point.by} {point.value:.4g}"


def _differences(found: OperatingPoints, reference: str) -> list[Table]:
    """Each other system less the reference at each point; nothing where there is one system only."""
    titles = {row.system: row.title for row in found.rows}
    marks = {(row.system, row.wanted): row.threshold_from == "test set" for row in found.rows}
    rows = []
    reasons = []
    open_ = False
    for comparison in found.comparisons:
        own = {(each.a, each.metric): each for each in against(comparison.differences, reference)}
        for system in dict.fromkeys(name for name, _ in own):
            chosen = marks[system, comparison.wanted] or marks[reference, comparison.wanted]
            cells = [own[system, figure] for figure in COMPARED]
            rows.append(
                (
                    titles[system],
                    _said(comparison.wanted) + (CHOSEN if chosen else ""),
                    *(text for each in cells for text in (difference_text(each), _mcnemar(each))),
                )
            )
            reasons += [each.textbook.reason for each in cells if each.textbook and each.textbook.reason]
            open_ = open_ or any(each.mixed for each in cells)
    if not rows:
        return []
    headers = [text for name in COMPARED for text in (FIGURES[name].title, "McNemar")]
    notes = (
        f"A figure less that of {titles[reference]}, on the same lesions: value, 95% percentile interval of the "
        "paired resamples, and p after Holm over the differences of a column at one point. * separable: p is below 0.05.",
        *([f"p n/a: {MIXED}; the interval says what was seen, not which is better."] if open_ else []),
        "McNemar: lesions that the system alone gets right, and those that the reference alone does; its exact test, "
        "a patient's lesions kept together, after Holm.",
        *(f"No p-value of McNemar's test (†): {reason}." for reason in dict.fromkeys(reasons)),
    )
    return [
        Table(
            f"Differences from {titles[reference]} at the operating points",
            ("System", "Point", *headers),
            tuple(rows),
            notes,
            align="ll" + "r" * len(headers),
        )
    ]


def _mcnemar(found: Difference) -> str:
    return textbook_text(found) if found.textbook else "–"


def _row(row: AtPoint, names: tuple[str, ...]) -> tuple[str, ...]:
    mark = CHOSEN if row.threshold_from == "test set" else ""
    return (
        row.title,
        f"{_said(row.wanted)}{mark}",
        ("none" if row.threshold is None else f"{row.threshold:.4g}") + mark,
        *(
            f"{estimated(row.metrics[name], _TEXT.get(name, decimals))} {row.metrics[name].group}".rstrip()
            for name in names
        ),
    )


def no_interval(metrics: Iterable[Metric]) -> list[str]:
    """Why figures have no interval, each reason once."""
    reasons = {metric.reason for metric in metrics if metric.value is not None and metric.reason}
    return [f"{reason[0].upper()}{reason[1:]}." for reason in sorted(reasons)]


def prevalence_notes(found: OperatingPoints | DecisionCurves, what: str) -> list[str]:
    """Which share of melanomas figures hold for."""
    if found.prevalence is None:
        return [
            f"Melanomas are {found.test_prevalence:.1%} of this test set, and what depends on that holds for it only: {what}."
        ]
    return [
        f"Re-weighted by Bayes' theorem from the test set's {found.test_prevalence:.1%} melanomas to "
        f"{found.prevalence:.4g} ({found.prevalence:.2%}): {what}. Sensitivity and specificity are taken to stay."
    ]


def resampled(found: OperatingPoints | DecisionCurves | Calibration | Subgroups) -> str:
    """What the intervals are of."""
    return (
        f"{found.level:.0%} percentile intervals, expanded for small samples, over {found.resamples:,} resamples of "
        f"whole patients, seed {found.seed}."
    )
