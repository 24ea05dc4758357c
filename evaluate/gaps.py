"""Figures of systems within parts of the images, and how far each part is from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from evaluate.development import Development
from evaluate.estimate import estimate
from evaluate.measure import crossing, resampled, threshold
from evaluate.metrics import AT_POINT, OF_CURVE
from evaluate.parts import Kind, Part
from evaluate.protocols import OperatingPoint
from evaluate.ranking import Counts, Floats, Ranking
from evaluate.resampling import SAME, interval, p_value
from evaluate.scored import Metric

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


class Look(NamedTuple):
    """A figure that is looked at in every group: of the ranking, or at a point."""

    kind: Kind
    point: OperatingPoint | None


class Looked:
    """One system, and its figures in any part of the images."""

    def __init__(
        self, whole: Ranking, looks: Sequence[Look], metric: str, development: Development | None
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


def in_groups(
    systems: Sequence[Looked], divided: Sequence[Part], looks: Sequence[Look],
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
                in_group(
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


def in_group(
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
