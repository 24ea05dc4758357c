"""Differences from a reference: which system, its figures for the frame, and the tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from evaluate.paired import Difference, against
from evaluate.predictions import card_of
from evaluate.protocols import title_of
from evaluate.resampling import THE_SAME
from evaluate.scored import Scores
from evaluate.skipped import note
from evaluate.words import many
from reports.figures import estimate, p_value
from reports.render import Table
from zoo.errors import UnknownNameError

_LETTERS = (
    "Systems that share a letter in a column cannot be told apart by it: their paired difference has a p-value "
    "of 0.05 or more after Holm over all pairs of systems. That does not make them equal."
)
UNTESTED = "Pairs without a p-value are not told apart, and share a letter for that reason alone."
"""To be said beside letters where some pairs have none."""


_KEPT_TOGETHER = {
    "patient": "Both keep a patient's lesions together: DeLong with Obuchowski's variance, McNemar by changing the "
    "systems' places patient by patient.",
    "image": "Both take lesions for independent, also those of one patient.",
}
"""What the textbook tests do with several lesions of a patient, by what was resampled."""


def reference(scores: Scores, asked: str | None) -> str:
    """Name of the system that the others are compared with.

    Args:
        scores: Scores of all of them.
        asked: The one asked for, by name or alias. By default it is the first of the group
            `winner`, or the first of all where none of them is.

    Raises:
        UnknownNameError: The one asked for has no scores here.
    """
    cards = {each.system: card_of(each.system) for each in scores.systems}
    if asked is not None:
        card = card_of(asked)
        name = card.name if card else asked
        if name not in cards:
            raise UnknownNameError(f"no scores of {asked}; there are scores of {', '.join(cards)}")
        return name
    winners = [name for name, card in cards.items() if card and card.group == "winner"]
    return [*winners, *cards][0]


def difference_figures(scores: Scores, name: str, prefix: str = "") -> dict[str, dict[str, Any]]:
    """Columns of the frame for each system other than the reference."""
    found: dict[str, dict[str, Any]] = {}
    for each in against(scores.differences, name):
        row, key = found.setdefault(each.a, {}), f"{prefix}{each.metric}_difference"
        row |= {
            key: each.value,
            f"{key}_low": each.low,
            f"{key}_high": each.high,
            f"{key}_p": each.p_adjusted,
        }
        row |= {f"{key}_separable": each.separable, f"{key}_reason": each.reason or None}
    return found


def letter_notes(scores: Scores) -> list[str]:
    """What a reader of the letters must know; nothing where there are no letters."""
    return [_LETTERS, *untested(scores.differences)] if scores.differences else []


def untested(found: Iterable[Difference]) -> list[str]:
    """What to say beside letters where pairs have a difference and no p-value."""
    return [UNTESTED] if any(each.mixed for each in found) else []


def difference_tables(scores: Scores, name: str) -> list[Table]:
    """The differences of all systems from the reference, and the textbook tests beside them."""
    own = against(scores.differences, name)
    if not own:
        return []
    titles = {each.system: each.title for each in scores.systems}
    tested = [each for each in own if each.textbook]
    return [
        _table(
            f"Differences from {titles[name]}",
            titles,
            {(each.a, each.metric): difference_text(each) for each in own},
            [
                *note(scores.skipped, scores.n),
                f"A figure less that of {titles[name]}, on the same lesions: value, 95% percentile interval of the "
                f"paired resamples, and p after Holm over the {many(len({each.a for each in own}), 'difference')} of a column.",
                "* separable: p is below 0.05. The others are not; the intervals are not adjusted for their number.",
                *_reasons((each.metric, each.reason) for each in own),
            ],
        ),
        *_textbook_tables(scores, tested, titles),
    ]


def _textbook_tables(scores: Scores, tested: list[Difference], titles: dict[str, str]) -> list[Table]:
    if not tested:
        return []
    return [
        _table(
            "The same by textbook tests",
            titles,
            {(each.a, each.metric): textbook_text(each) for each in tested},
            [
                *note(scores.skipped, scores.n),
                "ROC-AUC: DeLong's difference with its 95% interval. Figures at a threshold: McNemar's exact test, "
                "with the lesions that the system alone gets right and those that the reference alone does. "
                "p after Holm, as above.",
                _KEPT_TOGETHER[scores.cluster],
                *_reasons((each.metric, each.textbook.reason) for each in tested if each.textbook),
            ],
        )
    ]


def _reasons(by_figure: Iterable[tuple[str, str]]) -> list[str]:
    """Why p-values are missing, each reason once, with the figures it is true of, of all pairs or of some."""
    figures: dict[str, dict[str, None]] = {}
    for figure, reason in by_figure:
        if reason:
            figures.setdefault(reason, {})[title_of(figure)] = None
    return [
        f"{', '.join(titles)}: {reason}."
        if reason == THE_SAME
        else f"No p-value of {', '.join(titles)}: {reason}."
        for reason, titles in figures.items()
    ]


def _table(title: str, titles: dict[str, str], cells: dict[tuple[str, str], str], notes: list[str]) -> Table:
    figures = list(dict.fromkeys(figure for _, figure in cells))
    systems = [system for system in titles if any((system, figure) in cells for figure in figures)]
    return Table(
        title,
        ("System", *(title_of(figure) for figure in figures)),
        tuple((titles[s], *(cells.get((s, figure), "–") for figure in figures)) for s in systems),
        tuple(notes),
    )


def difference_text(found: Difference) -> str:
    """A difference, its interval, its p-value after Holm, and a star where it separates the two.

    A difference that is not tested says so: `p n/a`.
    """
    if found.value is None:
        return "n/a"
    shown = estimate(found.value, found.low, found.high, signed=True)
    mark = " *" if found.separable else ""
    if found.p_adjusted is None:
        return f"{shown}, p n/a" if found.mixed else shown
    return f"{shown}, {p_value(found.p_adjusted)}{mark}"


def textbook_text(found: Difference) -> str:
    """What the textbook test says of a difference."""
    test = found.textbook
    if test is None:
        return "–"
    p = "p n/a" if test.p_adjusted is None else p_value(test.p_adjusted)
    if test.test == "McNemar":
        return f"{test.only_a} to {test.only_b}, {p}"
    return f"{estimate(found.value, test.low, test.high, signed=True)}, {p}"
