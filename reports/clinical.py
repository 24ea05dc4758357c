"""What a clinic asks for, as tables: operating points, decision curves, calibration, subgroups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from evaluate.calibration import FIGURES as CALIBRATION
from evaluate.calibration import Calibration
from evaluate.clinical import Clinical
from evaluate.decision import DecisionCurves, SystemDecision
from evaluate.gaps import InGroup
from evaluate.subgroups import Subgroups, SystemSubgroups
from evaluate.words import many
from reports.figures import decimals, p_value, with_sign
from reports.operating import CHOSEN, estimated, no_interval, operating, prevalence_notes, resampled
from reports.render import Table


def tables(found: Clinical, reference: str, notes: Iterable[str] = ()) -> list[Table]:
    """A table or more for each part that was asked for, with `notes` below; systems are compared with the `reference`."""
    parts = [
        *(operating(found.operating_points, reference) if found.operating_points else []),
        *([decision(found.decision_curves)] if found.decision_curves else []),
        *(calibration(found.calibration) if found.calibration else []),
        *(subgroups(found.subgroups) if found.subgroups else []),
    ]
    return [dataclasses.replace(part, notes=(*part.notes, *notes)) for part in parts]


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
            *prevalence_notes(found, "net benefit"),
            resampled(found),
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
            *no_interval(metric for system in found.systems for metric in system.metrics.values()),
            resampled(found),
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
        "Gap: the figure in the group minus that in the rest, which is all lesions known to be in another "
        "group of the same attribute; its interval is of this gap alone.",
        f"p (Holm): two-sided p-value of the gap, corrected over {_gaps(found.compared)} shown.",
        f"A figure needs {found.fewest} lesions of each class that it is of: melanomas for sensitivity, others for specificity.",
        *_melanoma_notes(found),
        *no_interval(
            metric
            for system in found.systems
            for groups in (system.groups, *(at.groups for at in system.at))
            for each in groups
            for metric in (each.metric, each.gap)
        ),
        *([f"Not in the table of labels: {', '.join(found.absent)}."] if found.absent else []),
        resampled(found),
    )
    chosen = any(at.threshold_from == "test set" for system in found.systems for at in system.at)
    shown = [table for system in found.systems for table in _of_system(found, system)]
    last = (*notes[:-1], *([_CHOSEN] if chosen else []), notes[-1])
    return [*shown[:-1], dataclasses.replace(shown[-1], notes=(*shown[-1].notes, *last))] if shown else []


_CHOSEN = (
    "† at a threshold chosen on this test set, the same for all groups: optimistic. Development predictions lock it "
    "(--threshold-from)."
)


def _of_system(found: Subgroups, system: SystemSubgroups) -> list[Table]:
    """The ranking figure in every group, and sensitivity and specificity at each point."""
    looks = [(found.title, "", system.groups)]
    for at in system.at:
        mark = CHOSEN if at.threshold_from == "test set" else ""
        point = f", threshold for {at.wanted.by} {at.wanted.value:.4g}{mark}"
        looks.append((at.figure.capitalize(), f"{at.figure}{point}", at.groups))
    return [
        Table(
            f"Subgroups: {system.title}" + (f", {what}" if what else ""),
            ("Attribute", "Group", "Lesions", "Melanomas", title, "Gap to the rest", "p (Holm)"),
            tuple(
                (group.title, group.group, str(group.n), str(group.positives), *_in_group(each))
                for group, each in zip(found.groups, groups, strict=True)
                if each.metric.value is not None
            ),
            tuple(_too_small(found, groups)),
            align="llrrrrr",
        )
        for title, what, groups in looks
    ]


def _too_small(found: Subgroups, groups: Sequence[InGroup]) -> list[str]:
    """The groups without a figure, folded into a line for each reason."""
    reasons: dict[str, list[str]] = {}
    for group, each in zip(found.groups, groups, strict=True):
        if each.metric.value is None:
            reasons.setdefault(each.metric.reason, []).append(f"{group.title} {group.group}")
    return [f"n/a ({reason}): {', '.join(named)}." for reason, named in reasons.items()]


def _said_once(cells: list[str]) -> list[str]:
    """Cells of a row; where all are missing for one reason, it is said once."""
    if cells[0].startswith("n/a") and len(set(cells)) == 1:
        return [cells[0], *("n/a" for _ in cells[1:])]
    return cells


def _in_group(each: InGroup) -> tuple[str, str, str]:
    return (
        estimated(each.metric),
        estimated(each.gap, with_sign),
        "n/a" if each.p_holm is None else p_value(each.p_holm).removeprefix("p "),
    )


def _gaps(count: int) -> str:
    return (
        f"all {many(count, 'gap')}"
        if count > 1
        else f"the {many(count, 'gap')}"
        if count
        else "the gaps, of which none is"
    )


def _has_figures(system: SystemDecision) -> bool:
    return any(metric.value is not None for metric in system.net_benefit)


def _melanoma_notes(found: Subgroups) -> list[str]:
    titles = dict.fromkeys(group.title for group in found.groups if group.negatives == "all")
    if not titles:
        return []
    return [
        f"{', '.join(titles)}: only melanomas have it, so each group is measured against all lesions that "
        "are not melanoma."
    ]
