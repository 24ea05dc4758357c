"""Differences from the reference, with their intervals."""

from __future__ import annotations

from evaluate.paired import MIXED, Difference, against
from evaluate.protocols import title_of
from evaluate.scored import Scores
from reports.charts.model import Axis, Chart, Guide, Panel, Series
from reports.charts.systems import main_scores, shown
from reports.differences import reference
from reports.figures import estimate
from reports.record import Record

FIGURES = ("roc_auc", "average_precision", "specificity")
"""Figures whose differences are drawn; the table has those of all."""


def forest_chart(record: Record) -> Chart:
    """Each system less the reference, for the main figures."""
    scores = main_scores(record)
    axes = (Axis(title="Difference"), Axis(title=""))
    if scores is None or not scores.differences:
        reason = record.unscored or "there are no two systems with scores"
        return Chart(
            name="differences",
            title="Differences",
            about="Differences of systems.",
            panels=(Panel(x=axes[0], y=axes[1], empty=reason),),
        )
    name = reference(scores, record.settings.reference)
    titles = {each.system: each.title for each in scores.systems}
    own = against(scores.differences, name)
    panels = tuple(
        _panel(record, scores, name, metric, [each for each in own if each.metric == metric])
        for metric in FIGURES
        if any(each.metric == metric for each in own)
    )
    listed = "; ".join(
        f"{titles[each.a]} {estimate(each.value, each.low, each.high, signed=True)}"
        for each in own
        if each.metric == FIGURES[0]
    )
    return Chart(
        name="differences",
        title=f"Differences from {titles[name]}",
        about=f"Differences from {titles[name]} in {title_of(FIGURES[0])}: {listed}.",
        panels=panels,
        notes=(
            "On the same lesions; bars: 95% intervals of paired resamples of whole patients. Where a bar "
            "crosses zero no difference is shown. *: p below 0.05 after Holm over the column.",
            *(
                f"{', '.join(named)}, {title_of(metric)}: not tested, {MIXED}."
                for metric in FIGURES
                if (named := [titles[each.a] for each in own if each.metric == metric and each.mixed])
            ),
        ),
        table=f"Differences from {titles[name]}",
    )


def _panel(record: Record, scores: Scores, name: str, metric: str, found: list[Difference]) -> Panel:
    systems = shown(record)
    titles = {each.system: each.title for each in scores.systems}
    found = sorted(found, key=lambda each: -(each.value if each.value is not None else float("-inf")))
    labels = {each.a: titles[each.a] + (" *" if each.separable else "") for each in found}
    categories = tuple(labels.values())
    return Panel(
        title=title_of(metric),
        x=Axis(title=f"Less that of {titles[name]}"),
        y=Axis(title="", categories=categories),
        series=tuple(
            Series(
                name=titles[each.a],
                x=(each.value,),
                y=(labels[each.a],),
                low=(each.low,),
                high=(each.high,),
                along="x",
                style=systems[each.a].style if each.a in systems else 0,
                hollow=each.a in systems and systems[each.a].winner,
            )
            for each in found
            if each.value is not None
        ),
        guides=(Guide(name="no difference", x=(0.0, 0.0), y=(categories[0], categories[-1])),),
    )
