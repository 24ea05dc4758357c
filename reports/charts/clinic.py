"""Figures of what a clinic asks for: reliability, decision curves, subgroups."""

from __future__ import annotations

from collections.abc import Iterator

from evaluate.scored import Metric
from reports.charts.model import Axis, Chart, Guide, Panel, Series, share
from reports.charts.systems import Shown, shown
from reports.record import Record


def clinic_charts(record: Record) -> list[Chart]:
    """Reliability, decision curves and subgroups; each says why where it was not asked for."""
    return [_reliability(record), _decision(record), _subgroups(record)]


def _style(systems: dict[str, Shown], name: str) -> int:
    return systems[name].style if name in systems else 0


def _reliability(record: Record) -> Chart:
    found = record.clinical.calibration if record.clinical else None
    axes = (share("Mean score"), share("Share of melanomas"))
    systems = shown(record)
    panels = [
        Panel(
            title=each.title,
            x=axes[0],
            y=axes[1],
            series=(
                Series(
                    name=each.title,
                    x=tuple(bin_.score for bin_ in each.bins),
                    y=tuple(bin_.observed.value or 0.0 for bin_ in each.bins),
                    low=tuple(bin_.observed.low for bin_ in each.bins),
                    high=tuple(bin_.observed.high for bin_ in each.bins),
                    style=_style(systems, each.system),
                    hollow=each.system in systems and systems[each.system].winner,
                    notes=tuple(f"{bin_.positives} of {bin_.n} lesions" for bin_ in each.bins),
                ),
            ),
            guides=(Guide(name="perfect", x=(0.0, 1.0), y=(0.0, 1.0)),),
        )
        for each in (found.systems if found else ())
        if each.bins
    ]
    ranks = [each.title for each in (found.systems if found else ()) if not each.bins]
    reason = (
        "calibration was not asked for (compare --calibration)"
        if found is None
        else "no scores are known to be probabilities"
    )
    return Chart(
        name="reliability",
        title="Reliability: is a score of 20% melanoma in one lesion of five?",
        about="For lesions of similar scores, the share of melanomas among them against their mean score.",
        panels=tuple(panels) or (Panel(x=axes[0], y=axes[1], empty=reason),),
        notes=(
            "Bins of equal numbers of lesions; bars: Wilson's 95% intervals. Line: perfect calibration.",
            *([f"{', '.join(ranks)}: n/a (scores are ranks, or not known to be probabilities)."] if ranks and panels else []),
        ),
        table="Reliability: melanomas among lesions of similar scores",
    )  # fmt: skip


def _decision(record: Record) -> Chart:
    found = record.clinical.decision_curves if record.clinical else None
    systems = shown(record)
    axes = (Axis(title="Threshold probability"), Axis(title="Net benefit"))
    series: tuple[Series, ...] = ()
    guides: tuple[Guide, ...] = ()
    if found:
        series = tuple(
            _curve(systems, each.system, each.title, found.thresholds, each.net_benefit)
            for each in found.systems
            if any(metric.value is not None for metric in each.net_benefit)
        )
        drawn = [value for each in series for value in (*each.y, *each.high) if isinstance(value, float)]
        lowest = min([0.0, *(value for each in series for value in each.y if isinstance(value, float))])
        highest = max([0.0, *drawn, *found.treat_all])
        axes = (
            axes[0],
            Axis(title="Net benefit", low=min(-0.03, lowest - 0.01), high=highest + 0.01),
        )
        guides = (
            Guide(name="excise all", x=found.thresholds, y=found.treat_all, listed=True),
            Guide(
                name="excise none", x=(found.thresholds[0], found.thresholds[-1]), y=(0.0, 0.0), listed=True
            ),
        )
    reason = (
        "net benefit was not asked for (compare --decision-curves)"
        if found is None
        else "no scores are known to be probabilities"
    )
    return Chart(
        name="decision_curves",
        title="Decision curves: does acting on a system do more good than excising all or none?",
        about="Net benefit of each system by threshold probability, beside excising all lesions and none.",
        panels=(
            Panel(x=axes[0], y=axes[1], series=series, guides=guides)
            if series
            else Panel(x=axes[0], y=axes[1], empty=reason),
        ),
        notes=(
            "Bands: 95% intervals over resamples of whole patients. Only probabilities have a net benefit.",
        ),
        table="Net benefit at threshold probabilities",
    )


def _curve(
    systems: dict[str, Shown], name: str, title: str, x: tuple[float, ...], metrics: tuple[Metric, ...]
) -> Series:
    known = [(at, metric) for at, metric in zip(x, metrics, strict=True) if metric.value is not None]
    return Series(
        name=title,
        x=tuple(at for at, _ in known),
        y=tuple(metric.value for _, metric in known if metric.value is not None),
        low=tuple(metric.low for _, metric in known),
        high=tuple(metric.high for _, metric in known),
        look="band",
        style=_style(systems, name),
        hollow=name in systems and systems[name].winner,
    )


def _subgroups(record: Record) -> Chart:
    found = record.clinical.subgroups if record.clinical else None
    title = found.title if found else "ROC-AUC"
    panels = list(_of_systems(record)) if found and found.groups else []
    reason = "subgroups were not asked for (compare --subgroups)"
    if found:
        reason = f"the table of labels has none of the attributes: {', '.join(found.absent)}"
    empty = Panel(
        x=Axis(title=title),
        y=Axis(title=""),
        empty=reason,
    )
    return Chart(
        name="subgroups",
        title=f"{title} in subgroups",
        about=f"{title} of each system in every subgroup, with its interval and the figure of all lesions.",
        panels=tuple(panels) or (empty,),
        notes=(
            "Bars: 95% intervals over resamples of whole patients. Dashed: all lesions. n: lesions, melanomas.",
            *(
                [f"Groups of fewer than {found.fewest} melanomas or other lesions have no figure."]
                if found
                else []
            ),
        ),
        table="Subgroups",
    )


def _of_systems(record: Record) -> Iterator[Panel]:
    found = record.clinical.subgroups if record.clinical else None
    assert found is not None
    systems = shown(record)
    names = [f"{group.group} ({group.n}, {group.positives})" for group in found.groups]
    once = [name if names.count(name) == 1 else f"{group.title}: {name}" for name, group in zip(names, found.groups, strict=True)]  # fmt: skip
    ends = [
        group.metric.low for each in found.systems for group in each.groups if group.metric.low is not None
    ]
    for each in found.systems:
        known = [
            (name, group.metric)
            for name, group in zip(once, each.groups, strict=True)
            if group.metric.value is not None
        ]
        scored = record.scored(each.system, "clinical")
        whole = scored.metrics[found.metric].value if scored and found.metric in scored.metrics else None
        yield Panel(
            title=each.title,
            x=Axis(title=found.title, low=min([0.4, *ends]) - 0.02, high=1.02),
            y=Axis(title="", categories=tuple(once)),
            series=(
                Series(
                    name=each.title,
                    x=tuple(metric.value for _, metric in known if metric.value is not None),
                    y=tuple(name for name, _ in known),
                    low=tuple(metric.low for _, metric in known),
                    high=tuple(metric.high for _, metric in known),
                    along="x",
                    style=_style(systems, each.system),
                    hollow=each.system in systems and systems[each.system].winner,
                ),
            ),
            guides=(Guide(name="all lesions", x=(whole, whole), y=(once[0], once[-1])),) if whole is not None else (),
        )  # fmt: skip
