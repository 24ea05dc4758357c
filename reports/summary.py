"""The answer on one screen: who can be told apart, by how much, at which threshold, with which caveats."""

from __future__ import annotations

from collections import Counter

from evaluate.audit import Audit
from evaluate.operating import OperatingPoints
from evaluate.paired import ALPHA, Difference, against
from evaluate.protocols import OperatingPoint, named
from evaluate.provenance import RANDOM
from evaluate.scored import Metric, Scores, SystemScores
from evaluate.skipped import note
from evaluate.subgroups import Subgroups
from evaluate.words import many
from reports.differences import reference
from reports.figures import estimate, with_sign
from reports.operating import CHOSEN, estimated, left_open, separation
from reports.record import Record
from reports.render import Table


def summary(record: Record) -> list[Table]:
    """The summary of a record, best system first; nothing where there are no scores."""
    found = [scores for scores in record.scores if scores.protocol == record.settings.protocol]
    return [_summary(record, scores) for scores in found]


def _summary(record: Record, scores: Scores) -> Table:
    name = reference(scores, record.settings.reference)
    titles = {each.system: each.title for each in scores.systems}
    differences = {each.a: each for each in against(scores.differences, name) if each.metric == "roc_auc"}
    point = named(scores.protocol).column("specificity").point
    assert point is not None, "specificity is taken at a threshold"
    rows = tuple(
        (
            system.title,
            _with_letters(system.metrics["roc_auc"]),
            "reference" if system.system == name else _difference(differences.get(system.system)),
            _specificity(system.metrics["specificity"]),
        )
        for system in sorted(scores.systems, key=_area, reverse=True)
    )
    return Table(
        f"In short: {many(scores.n, 'lesion')}, {many(scores.positives, 'melanoma')}, {many(scores.patients, 'patient')}",
        (
            "System",
            "ROC-AUC",
            f"Less that of {titles[name]}",
            f"Specificity at {point.value:.0%} sensitivity",
        ),
        rows,
        (
            *note(scores.skipped, scores.n),
            *meaningless(scores),
            *_separation(record, scores, titles, name),
            *_thresholds(scores),
            *(_caveats(record.audit) if record.audit else ()),
            *(_gaps(record.clinical.subgroups) if record.clinical and record.clinical.subgroups else ()),
        ),
    )


def meaningless(scores: Scores) -> list[str]:
    """Whose networks have random weights, which no rank or difference may let forget."""
    titles = [each.title for each in scores.systems if any(n.startswith(RANDOM) for n in each.notes)]
    return [f"{RANDOM}, so the scores mean nothing: {', '.join(titles)}."] if titles else []


def _area(system: SystemScores) -> float:
    value = system.metrics["roc_auc"].value
    return float("-inf") if value is None else value


def _with_letters(metric: Metric) -> str:
    return f"{estimated(metric)} {metric.group}".rstrip()


def _difference(found: Difference | None) -> str:
    if found is None or found.value is None:
        return "n/a"
    return estimate(found.value, found.low, found.high, signed=True) + (" *" if found.separable else "")


def _specificity(metric: Metric) -> str:
    return estimated(metric) + (CHOSEN if metric.threshold_from == "test set" else "")


def _separation(record: Record, scores: Scores, titles: dict[str, str], name: str) -> list[str]:
    pairs = [each for each in scores.differences if each.metric == "roc_auc"]
    if not pairs:
        return []
    apart = sum(each.separable is True for each in pairs)
    reasons = sorted({each.reason for each in pairs if each.separable is None})
    return [
        f"{apart} of {len(pairs)} pairs of systems can be told apart by ROC-AUC (Holm over all); systems that "
        "share a letter cannot.",
        *(f"Some pairs are left open: {reason}." for reason in reasons),
        *_at_points(record, scores),
        f"* told apart from {titles[name]} when only this column is looked at (Holm over it).",
    ]


def _at_points(record: Record, scores: Scores) -> list[str]:
    """Pairs that can be told apart at operating points: those asked for, or else the protocol's own."""
    asked = record.clinical.operating_points if record.clinical else None
    if asked and asked.comparisons:
        counts = [
            separation(each, figure)
            for each in asked.comparisons
            for figure in ("sensitivity", "specificity")
            if not (figure == each.wanted.by and _all_chosen(asked, each.wanted))
        ]
        return [f"Pairs told apart at operating points (Holm over all of each): {', '.join(counts)}."]
    own = [each for each in scores.differences if each.metric == "specificity"]
    apart = sum(each.separable is True for each in own)
    return [
        f"{apart} of {len(own)} pairs can be told apart by specificity at that sensitivity (Holm over all)"
        f"{left_open(own)}."
    ]


def _all_chosen(asked: OperatingPoints, point: OperatingPoint) -> bool:
    """Whether the test set itself chose every threshold of a point, so that all reach it alike."""
    return all(row.threshold_from == "test set" for row in asked.rows if row.wanted == point)


def _thresholds(scores: Scores) -> list[str]:
    """Where the thresholds come from; a locked one need not reach the sensitivity that was wanted."""
    locked = [each for each in scores.systems if each.metrics["specificity"].threshold_from == "development"]
    reached = ", ".join(f"{each.title} {estimated(each.metrics['sensitivity'])}" for each in locked)
    return [
        *(
            [f"{CHOSEN.strip()} threshold chosen on this test set: optimistic."]
            if len(locked) < len(scores.systems)
            else []
        ),
        *(
            [f"Thresholds locked on development predictions; sensitivity reached here: {reached}."]
            if locked
            else []
        ),
    ]


def _caveats(found: Audit) -> list[str]:
    """Titles of the errors and warnings; notes are left to the audit's own table."""
    said = []
    for severity in ("error", "warning"):
        titles = Counter(each.title for each in found.findings if each.severity == severity)
        if titles:
            listed = "; ".join(
                title if times == 1 else f"{title} ({times})" for title, times in titles.items()
            )
            said.append(f"Audit, {many(titles.total(), severity)}: {listed}.")
    return said or ["Audit: no errors or warnings."]


def _gaps(found: Subgroups) -> list[str]:
    """The gaps between subgroups that survive Holm's correction."""
    survive = [
        f"{system.title} in {group.title.lower()} {group.group}, {what} {estimated(each.gap, with_sign)}"
        for system in found.systems
        for what, groups in (
            (found.title, system.groups),
            *((f"{at.figure} at {at.wanted.by} {at.wanted.value:.4g}", at.groups) for at in system.at),
        )
        for group, each in zip(found.groups, groups, strict=True)
        if each.p_holm is not None and each.p_holm < ALPHA
    ]
    verb = "survive" if len(survive) > 1 else "survives"
    count = f"{len(survive) or 'none'} of {many(found.compared, 'gap')} {verb} Holm's correction"
    shown = survive[:_MOST_GAPS]
    if survive[_MOST_GAPS:]:
        shown.append(f"and {len(survive) - len(shown)} more, in the tables of subgroups")
    return [f"Subgroups: {count}{': ' if survive else ''}{'; '.join(shown)}."]


_MOST_GAPS = 4
"""Gaps between subgroups that the summary names."""
