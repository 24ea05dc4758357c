"""Systems within groups of lesions and patients, and how far each group is from the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.alignment import align
from evaluate.attributes import ATTRIBUTES, Attribute, groups
from evaluate.development import Development
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import crossing, resampled, threshold
from evaluate.metrics import AT_POINT, OF_CURVE
from evaluate.paired import holm
from evaluate.parts import Group, Kind, Part, parts
from evaluate.predictions import Predictions, system_title
from evaluate.protocols import OperatingPoint, title_of
from evaluate.ranking import Counts, Floats, Ranking
from evaluate.resampling import LEVEL, SAME, interval, p_value, usual_resamples
from evaluate.scored import Metric
from evaluate.skipped import without_skipped
from zoo.errors import UnknownNameError

FEWEST = 10
"""Melanomas, and other lesions, that a group must have for a figure."""

_ONE_SIDED = "no interval: the figure of the group or of the rest is the same in every resample"
_A_CLASS = "the group has lesions of one class only"


class InGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A system in a group.

    Attributes:
        metric: The figure in the group.
        gap: The figure in the group minus that in the rest: all images that are known to be in
            another group of the attribute.
        p: Two-sided p-value of the gap, by inversion of the gap's interval; None where there is no gap.
        p_holm: The same after Holm's correction over all gaps of all systems.
    """

    metric: Metric
    gap: Metric
    p: float | None
    p_holm: float | None


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
    looks = [_Look("ranking", None), *(_Look(kind, point) for point in points for kind in _AT_A_POINT)]
    systems = [
        _System(
            Ranking(align(given, labels).scores, melanoma, clusters), looks, metric, locked.get(given.system)
        )
        for given in predictions
    ]
    rows = _in_groups(systems, divided, looks, melanoma, clusters, fewest, resamples, seed)
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
                title=system_title(given.system),
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


_AT_A_POINT: tuple[Literal["sensitivity", "specificity"], ...] = ("sensitivity", "specificity")


class _Look(NamedTuple):
    """A figure that is looked at in every group: of the ranking, or at a point."""

    kind: Kind
    point: OperatingPoint | None


class _System:
    """One system, and its figures in any part of the images."""

    def __init__(
        self, whole: Ranking, looks: Sequence[_Look], metric: str, development: Development | None
    ) -> None:
        self.whole, self._looks, self._metric = whole, looks, metric
        self._cuts = {
            look.point: threshold(development.ranking, look.point)
            for look in looks
            if development and look.point
        }

    def figures(self, within: Sequence[Ranking], weights: Counts) -> Floats:
        """Figures of `looks` in parts of the images, shape (parts, looks, resamples)."""
        found = np.empty((len(within), len(self._looks), weights.shape[1]))
        with np.errstate(divide="ignore", invalid="ignore"):
            curve = self.whole.curve(weights)
            missing = (curve.positives == 0) | (curve.negatives == 0)
            chosen = {
                look.point: crossing(curve, look.point)
                for look in self._looks
                if look.point and look.point not in self._cuts
            }
            for row, part in zip(found, within, strict=True):
                here = part.curve(weights)
                for values, (kind, point) in zip(row, self._looks, strict=True):
                    if point is None:
                        values[:] = OF_CURVE[self._metric](here)
                        values[(here.positives == 0) | (here.negatives == 0)] = np.nan
                    elif point in self._cuts:
                        values[:] = AT_POINT[kind](part.at(self._cuts[point], weights))
                    else:
                        values[:] = np.where(missing, np.nan, AT_POINT[kind](here.at(chosen[point])))
        return found


def _in_groups(
    systems: Sequence[_System], divided: Sequence[Part], looks: Sequence[_Look],
    melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp], fewest: int, resamples: int, seed: int,
) -> list[list[list[InGroup]]]:  # fmt: skip
    """What each system (outermost) has for each look in each group."""
    masks = [mask for part in divided for mask in (part.inside, part.rest)]
    within = [[each.whole.within(mask) for mask in masks] for each in systems]

    def figures(weights: Counts) -> Floats:
        return np.stack(
            [each.figures(parts_of, weights) for each, parts_of in zip(systems, within, strict=True)]
        )

    values = figures(np.ones((int(clusters.max()) + 1, 1), dtype=np.int32))[..., 0]
    drawn = resampled(figures, int(clusters.max()) + 1, resamples, seed, rows=int(melanoma.sum()))
    return [
        [
            [
                _in_group(
                    part.too_few(look.kind, melanoma, fewest),
                    part.no_gap(look.kind, melanoma, fewest),
                    part.size(look.kind, melanoma, clusters),
                    part.images(look.kind, melanoma),
                    values[system, 2 * place : 2 * place + 2, index],
                    drawn[system, 2 * place : 2 * place + 2, index],
                )
                for place, part in enumerate(divided)
            ]
            for index, look in enumerate(looks)
        ]
        for system in range(len(systems))
    ]


def _in_group(
    too_few: str, no_gap: str, sizes: tuple[float, float], images: tuple[int, int] | None,
    point: Floats, drawn: Floats,
) -> InGroup:  # fmt: skip
    """A figure in a group and its gap to the rest; `point` and `drawn` hold both (group, rest)."""
    metric = (
        Metric(value=None, reason=too_few)
        if too_few
        else estimate(float(point[0]), drawn[0], _A_CLASS, sizes[0])
    )
    if no_gap:
        return InGroup(metric=metric, gap=Metric(value=None, reason=no_gap), p=None, p_holm=None)
    value = float(point[0] - point[1])
    gaps = drawn[0] - drawn[1]
    gap = estimate(value, gaps, _A_CLASS, sizes[1])
    ends = [interval(each, size) for each, size in zip(drawn, sizes, strict=True)]
    same = [low is not None and high is not None and high - low < SAME for low, high in ends]
    if gap.low is not None and any(same):
        # All or none of a group, again in nearly every resample: that hides how uncertain its figure is.
        gap = Metric(value=value, reason=_ONE_SIDED, undefined=gap.undefined)
    p = None if gap.low is None else p_value(gaps, sizes[1], value)
    if p is not None and images:
        p = max(p, _fisher(point, images))
    return InGroup(metric=metric, gap=gap, p=p, p_holm=None)


def _fisher(shares: Floats, images: tuple[int, int]) -> float:
    """Two-sided p-value of Fisher's exact test of two shares of so many images."""
    from scipy.stats import fisher_exact  # It takes a noticeable time to import.

    right = np.round(shares * images)
    return float(fisher_exact(np.stack([right, images - right]).astype(np.int64)).pvalue)
