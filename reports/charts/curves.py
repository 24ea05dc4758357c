"""ROC and precision-recall curves, and what each threshold calls."""

from __future__ import annotations

from collections.abc import Iterator

from evaluate.curves import Curves
from evaluate.protocols import named
from evaluate.scored import Scores
from reports.charts.model import Axis, Chart, Guide, Panel, Series, share
from reports.charts.systems import Shown, main_scores, shown
from reports.figures import decimals
from reports.record import Record

NOT_KEPT = "the record has no curves: an older version made it, or there are no scores"


def curve_charts(record: Record) -> list[Chart]:
    """ROC, precision-recall, and sensitivity and specificity by threshold."""
    found = record.curves
    roc = (share("1 − specificity"), share("Sensitivity"))
    precision = (share("Sensitivity (recall)"), share("PPV (precision)"))  # fmt: skip
    by_score = (Axis(title="Threshold"), share("Share"))
    if found is None:
        panels = [Panel(x=axes[0], y=axes[1], empty=NOT_KEPT) for axes in (roc, precision, by_score)]
        return [
            Chart(name=name, title=title, about=title, panels=(panel,))
            for (name, title), panel in zip(_TITLES.items(), panels, strict=True)
        ]
    bands = f"Bands: {found.level:.0%} intervals, each point on its own, over {found.resamples:,} resamples of whole patients."
    point = _point(record)
    return [
        Chart(
            name="roc",
            title=_TITLES["roc"],
            about=f"ROC curves of {len(found.systems)} systems. {_areas(record, 'roc_auc')}",
            panels=(
                Panel(
                    x=roc[0], y=roc[1],
                    series=(*_lines(record, found, "roc"), *_points(record, "roc")),
                    guides=(Guide(name="guessing", x=(0.0, 1.0), y=(0.0, 1.0)),),
                ),
            ),
            notes=(bands, *point),
        ),
        Chart(
            name="precision_recall",
            title=_TITLES["precision_recall"],
            about=f"Precision-recall curves of {len(found.systems)} systems. {_areas(record, 'average_precision')}",
            panels=(
                Panel(
                    x=precision[0], y=precision[1],
                    series=(*_lines(record, found, "precision"), *_points(record, "precision")),
                    guides=(Guide(name="guessing", x=(0.0, 1.0), y=(found.prevalence,) * 2),),
                ),
            ),
            notes=(
                bands,
                *point,
                f"PPV depends on how frequent melanoma is: {found.prevalence:.1%} here.",
            ),
        ),
        Chart(
            name="sensitivity_specificity",
            title=_TITLES["sensitivity_specificity"],
            about="Sensitivity falls and specificity rises with the threshold, for each system on its own scale.",
            panels=tuple(_calls(record, found)),
            notes=("Scores of two systems are not on one scale; those of ranks are not probabilities.", *point),
        ),
    ]  # fmt: skip


_TITLES = {
    "roc": "ROC curves",
    "precision_recall": "Precision-recall curves",
    "sensitivity_specificity": "Sensitivity and specificity by threshold",
}


def _lines(record: Record, found: Curves, which: str) -> Iterator[Series]:
    systems = shown(record)
    for each in found.systems:
        band = each.roc if which == "roc" else each.precision
        at = slice(None) if which == "roc" else slice(1, None)  # Recall 0 has no precision of its own.
        place = systems.get(each.system)
        yield Series(
            name=each.title,
            x=found.grid[at],
            y=band.value[at],
            low=band.low[at],
            high=band.high[at],
            look="band",
            style=place.style if place else 0,
            hollow=bool(place and place.winner),
        )


def _scores(record: Record) -> Iterator[tuple[Shown, Scores]]:
    scores = main_scores(record)
    systems = shown(record)
    for each in scores.systems if scores else ():
        if each.system in systems and scores:
            yield systems[each.system], scores


def _points(record: Record, which: str) -> Iterator[Series]:
    """Where the protocol's threshold puts each system."""
    for place, scores in _scores(record):
        metrics = next(each.metrics for each in scores.systems if each.system == place.name)
        sensitivity, specificity = metrics["sensitivity"].value, metrics["specificity"].value
        if sensitivity is None or specificity is None:
            continue
        called = sensitivity * scores.positives
        false = (1 - specificity) * (scores.n - scores.positives)
        x, y = (1 - specificity, sensitivity) if which == "roc" else (sensitivity, called / (called + false))
        yield Series(
            name=place.title, x=(x,), y=(y,), style=place.style, hollow=place.winner,
            notes=(f"threshold {metrics['specificity'].threshold:.4g}",) if metrics["specificity"].threshold is not None else (),
        )  # fmt: skip


def _calls(record: Record, found: Curves) -> Iterator[Panel]:
    systems = shown(record)
    scores = main_scores(record)
    for each in found.systems:
        place = systems.get(each.system)
        style = place.style if place else 0
        own = next((s for s in scores.systems if s.system == each.system), None) if scores else None
        cut = own.metrics["specificity"].threshold if own else None
        yield Panel(
            title=each.title,
            x=Axis(title="Threshold" if own is None or own.kind == "probability" else "Threshold (rank)"),
            y=share("Share"),
            series=(
                Series(
                    name="Sensitivity",
                    x=each.calls.thresholds,
                    y=each.calls.sensitivity,
                    look="line",
                    style=style,
                ),
                Series(
                    name="Specificity",
                    x=each.calls.thresholds,
                    y=each.calls.specificity,
                    look="dotted",
                    style=style,
                ),
            ),
            guides=(Guide(name="operating point", x=(cut, cut), y=(0.0, 1.0)),) if cut is not None else (),
        )


def _point(record: Record) -> list[str]:
    scores = main_scores(record)
    point = named(scores.protocol).column("specificity").point if scores else None
    if point is None:
        return []
    origins = {each.metrics["specificity"].threshold_from for each in scores.systems} if scores else set()
    chosen = " chosen on this test set" if "test set" in origins else ""
    return [f"Operating points: the first threshold of {point.value:.0%} {point.by}{chosen}."]


def _areas(record: Record, metric: str) -> str:
    scores = main_scores(record)
    listed = [
        f"{each.title} {decimals(value)}"
        for each in (scores.systems if scores else ())
        if metric in each.metrics and (value := each.metrics[metric].value) is not None
    ]
    return f"Areas: {', '.join(listed)}." if listed else ""
