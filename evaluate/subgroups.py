"""Systems within groups of lesions and patients, and how far each group is from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import pandas as pd

from evaluate.alignment import align
from evaluate.attributes import ATTRIBUTES, Attribute, groups
from evaluate.development import Development
from evaluate.gaps import InGroup, Look, Looked, in_groups
from evaluate.labels import Labels
from evaluate.metrics import OF_CURVE
from evaluate.paired import holm
from evaluate.parts import Group, parts
from evaluate.predictions import Predictions
from evaluate.protocols import OperatingPoint, title_of
from evaluate.ranking import Ranking
from evaluate.resampling import LEVEL, usual_resamples
from evaluate.skipped import without_skipped
from zoo.errors import UnknownNameError

FEWEST = 10
"""Melanomas, and other lesions, that a group must have for a figure."""

_AT_A_POINT: tuple[Literal["sensitivity", "specificity"], ...] = ("sensitivity", "specificity")


class InGroupsAt(msgspec.Struct, frozen=True, kw_only=True):
    """A system's sensitivity or specificity in every group, at one threshold for all of them.

    Attributes:
        wanted: The operating point that the threshold was chosen to reach on all images together.
        figure: Which of the two.
        threshold_from: Where the threshold comes from.
        groups: The figure in each group, in the order of `Subgroups.groups`.
    """

    wanted: OperatingPoint
    figure: Literal["sensitivity", "specificity"]
    threshold_from: Literal["development", "test set"]
    groups: tuple[InGroup, ...]


class SystemSubgroups(msgspec.Struct, frozen=True, kw_only=True):
    """One system in every group, in the order of `Subgroups.groups`; also at operating points, if asked for."""

    system: str
    title: str
    groups: tuple[InGroup, ...]
    at: tuple[InGroupsAt, ...] = ()


class Subgroups(msgspec.Struct, frozen=True, kw_only=True):
    """Systems in groups of lesions.

    Attributes:
        metric: Name of the figure, one of the ranking as a whole.
        title: Its name in tables.
        groups: The groups, by attribute.
        systems: Each system in each group.
        compared: Number of gaps that Holm's correction is over.
        fewest: Melanomas, and other lesions, that a group must have for a figure.
        absent: Attributes that the table of labels does not have.
        level: Level of the intervals, from resamples of whole patients; of one gap at a time.
        resamples: Number of resamples.
        seed: Their seed.
    """

    metric: str
    title: str
    groups: tuple[Group, ...]
    systems: tuple[SystemSubgroups, ...]
    compared: int
    fewest: int
    absent: tuple[str, ...]
    level: float
    resamples: int
    seed: int


def by_subgroup(
    predictions: Sequence[Predictions],
    labels: Labels,
    metric: str = "roc_auc",
    *,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    fewest: int = FEWEST,
    points: Sequence[OperatingPoint] = (),
    development: Mapping[str, Development] | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> Subgroups:
    """Systems in groups of lesions and patients, with the gap of each group to the rest.

    Group and rest are measured in the same resamples of whole patients, since a patient may have
    lesions in both. The gap's p-value is that of its interval (`evaluate.resampling.p_value`); for
    shares of few images, of which resamples know too little, never below that of Fisher's exact test. Holm's
    step-down (1979, Scand. J. Stat. 6, 65) over all gaps keeps the chance of any false alarm at 5%. At an
    operating point every group has the threshold that all images together have, locked or chosen on
    them (in every resample anew), so that a group may be called more often than the rest. Only melanomas are in situ or thick: a group of these is measured
    against all lesions that are not melanoma.

    Do not take a gap without evidence for equality: groups are small, and most gaps could not be
    seen. Do not take a gap for unfairness or its cause either: groups differ in how hard their
    lesions are, and in what else they have in common (age and site, site and sex). Average
    precision also moves with a group's share of melanomas.

    Args:
        predictions: One for each system.
        labels: Of all images, with the columns that attributes are read from.
        metric: A metric of the ranking as a whole (`evaluate.metrics.OF_CURVE`).
        attributes: What to divide by; those that the table lacks are left out and named.
        fewest: Melanomas, and other lesions, that a group and its rest must have.
        points: Operating points at which sensitivity and specificity are given too.
        development: Predictions that lock their thresholds, by system; those without choose on the test set.
        resamples: Number of resamples; None for the usual one (`evaluate.resampling.usual_resamples`).
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together, or an attribute cannot be read.
        UsageError: There is no such metric, or too few resamples are asked for.
    """
    if metric not in OF_CURVE:
        raise UnknownNameError(f"no metric {metric!r} for subgroups; metrics are {', '.join(OF_CURVE)}")
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    if resamples is None:
        resamples = usual_resamples(int(clusters.max()) + 1)
    found = [(attribute, groups(attribute, labels)) for attribute in attributes]
    divided = [
        part
        for attribute, values in found
        if values is not None
        for part in parts(attribute, values, melanoma)
    ]
    locked = development or {}
    looks = [Look("ranking", None), *(Look(kind, point) for point in points for kind in _AT_A_POINT)]
    systems = [
        Looked(
            Ranking(align(given, labels).scores, melanoma, clusters), looks, metric, locked.get(given.system)
        )
        for given in predictions
    ]
    rows = in_groups(systems, divided, looks, melanoma, clusters, fewest, resamples, seed)
    adjusted = iter(holm([each.p for row in rows for look in row for each in look]))
    corrected = [
        [tuple(msgspec.structs.replace(each, p_holm=next(adjusted)) for each in look) for look in row]
        for row in rows
    ]
    return Subgroups(
        metric=metric,
        title=title_of(metric),
        groups=tuple(part.group for part in divided),
        systems=tuple(
            SystemSubgroups(
                system=given.system,
                title=given.called,
                groups=row[0],
                at=tuple(
                    InGroupsAt(
                        wanted=look.point,
                        figure=look.kind,
                        threshold_from="development" if given.system in locked else "test set",
                        groups=each,
                    )
                    for look, each in zip(looks[1:], row[1:], strict=True)
                    if look.point is not None and look.kind != "ranking"
                ),
            )
            for given, row in zip(predictions, corrected, strict=True)
        ),
        compared=sum(each.p is not None for row in rows for look in row for each in look),
        fewest=fewest,
        absent=tuple(attribute.title for attribute, values in found if values is None),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
    )
