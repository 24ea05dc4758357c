"""What a record says, in three sentences."""

from __future__ import annotations

from collections import Counter

from benchmarks.parameters import RULES, parameters, reduction
from evaluate.paired import Difference
from evaluate.scored import Scores, SystemScores
from evaluate.words import many
from reports.charts.systems import main_scores
from reports.figures import estimate, fewer
from reports.record import Record, Word
from reports.summary import meaningless

_VERDICTS: dict[Word, tuple[str, str]] = {
    "holds": ("holds", "hold"),
    "holds only under": ("holds only under some readings", "hold only under some readings"),
    "not separable": ("is not separable", "are not separable"),
    "does not hold": ("does not hold", "do not hold"),
    "could not be judged": ("could not be judged", "could not be judged"),
}
"""What is said of one claim, and of several."""


def headline(record: Record) -> list[str]:
    """Which system scores highest, the smallest that cannot be told apart from it, and what the audit says."""
    scores = main_scores(record)
    said = (
        [*meaningless(scores), *_best(record, scores)]
        if scores
        else [f"No system has scores: {record.unscored or 'none were given'}."]
    )
    if record.claims:
        verdicts = Counter(each.verdict for each in record.claims)
        said.append(
            f"Of {many(len(record.claims), 'published claim')}: "
            + ", ".join(f"{count} {_VERDICTS[verdict][count > 1]}" for verdict, count in verdicts.items())
            + "."
        )
    if record.audit:
        found = Counter(each.severity for each in record.audit.findings)
        said.append(
            f"Audit: {many(found['error'], 'error')}, {many(found['warning'], 'warning')}, {many(found['note'], 'note')}."
        )
    return said


def _best(record: Record, scores: Scores) -> list[str]:
    known = [each for each in scores.systems if each.metrics["roc_auc"].value is not None]
    if not known:
        return []
    best = max(known, key=_area)
    area = best.metrics["roc_auc"]
    said = [f"{best.title} scores highest: ROC-AUC {estimate(area.value, area.low, area.high)}."]
    alike = [each for each in known if each is not best and _open(scores, best, each)]
    sizes = {each.system: size for each in [best, *alike] if (size := _size(record, each.system)) is not None}
    size = sizes.get(best.system, 0)
    smaller = [each for each in alike if each.system in sizes and sizes[each.system] < size]
    if smaller:
        least = min(smaller, key=lambda each: (sizes[each.system], -_area(each)))
        # Of systems of about the same size the better one is named.
        least = max((each for each in smaller if sizes[each.system] <= 1.1 * sizes[least.system]), key=_area)
        found = _between(scores, best, least)
        assert found is not None
        share = fewer(reduction(sizes[least.system], sizes[best.system]))
        said.append(
            f"{least.title} has {share} fewer parameters (counting {RULES[record.settings.rule].title}) and cannot be "
            f"told apart from it: difference {_shown(found, least)}. That does not make them equal."
        )
    elif len(known) > 1 and not alike:
        judged = [_between(scores, best, each) for each in known if each is not best]
        said.append(
            "Every other system can be told apart from it."
            if all(each is not None and each.separable for each in judged)
            else "Whether all others can be told apart from it could not be judged."
        )
    return said


def _area(system: SystemScores) -> float:
    return system.metrics["roc_auc"].value or 0.0


def _between(scores: Scores, a: SystemScores, b: SystemScores) -> Difference | None:
    pair = {a.system, b.system}
    return next(
        (each for each in scores.differences if each.metric == "roc_auc" and {each.a, each.b} == pair), None
    )


def _open(scores: Scores, a: SystemScores, b: SystemScores) -> bool:
    found = _between(scores, a, b)
    return found is not None and found.separable is False


def _shown(found: Difference, system: SystemScores) -> str:
    if found.a == system.system:
        return estimate(found.value, found.low, found.high, signed=True)
    value, low, high = (None if each is None else 0 - each for each in (found.value, found.high, found.low))
    return estimate(value, low, high, signed=True)


def _size(record: Record, system: str) -> int | None:
    entry = record.entry(system)
    counted = entry is not None and entry.members
    return parameters(entry.card, entry.operations, record.settings.rule) if entry and counted else None
