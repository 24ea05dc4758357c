"""Systems within groups of lesions and patients, and how far each group is from the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr

from evaluate.alignment import align
from evaluate.attributes import ATTRIBUTES, Attribute, groups
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import measure, resampled
from evaluate.metrics import OF_CURVE, Counts, Floats, Ranking
from evaluate.paired import holm
from evaluate.predictions import Predictions, system_title
from evaluate.protocols import Column, title_of
from evaluate.resampling import LEVEL
from evaluate.scores import Metric
from evaluate.skipped import without_skipped
from zoo.errors import UnknownNameError

FEWEST = 10
"""Melanomas, and other lesions, that a group must have for a figure."""

_A_CLASS = "the group has lesions of one class only"
_MIRROR = "the same difference as above, turned round"


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Lesion images that have something in common.

    Attributes:
        attribute: Name of what they were divided by.
        title: That in tables.
        group: What they have in common.
        n: How many images are scored: those of the group, and for an attribute that only
            melanomas have, all other lesions too.
        positives: How many of them are melanomas.
        negatives: Whose other lesions are scored: those of the `group`, or `all`.
    """

    attribute: str
    title: str
    group: str
    n: int
    positives: int
    negatives: Literal["group", "all"]


class InGroup(msgspec.Struct, frozen=True, kw_only=True):
    """A system in a group.

    Attributes:
        metric: The figure in the group.
        gap: The figure in the group minus that in the rest: all images that are known to be in
            another group of the attribute.
        p: Two-sided p-value of the gap, by its bootstrap standard error; None where there is no gap.
        p_holm: The same after Holm's correction over all gaps of all systems.
    """

    metric: Metric
    gap: Metric
    p: float | None
    p_holm: float | None


class SystemSubgroups(msgspec.Struct, frozen=True, kw_only=True):
    """One system in every group, in the order of `Subgroups.groups`."""

    system: str
    title: str
    groups: tuple[InGroup, ...]


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


class _Part(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Images of a group and those of the rest, as masks; why there is nothing to say of either."""

    group: Group
    inside: npt.NDArray[np.bool_]
    rest: npt.NDArray[np.bool_]
    too_few: str
    no_gap: str


def by_subgroup(
    predictions: Sequence[Predictions],
    labels: Labels,
    metric: str = "roc_auc",
    *,
    attributes: Sequence[Attribute] = ATTRIBUTES,
    fewest: int = FEWEST,
    resamples: int = 1000,
    seed: int = 0,
) -> Subgroups:
    """Systems in groups of lesions and patients, with the gap of each group to the rest.

    Group and rest are measured in the same resamples of whole patients, since a patient may have
    lesions in both. The gap's p-value is that of a normal with the bootstrap standard error (Efron &
    Tibshirani 1993, An Introduction to the Bootstrap), since counting resamples could not reach the
    small p-values that a correction needs; Holm's step-down (1979, Scand. J. Stat. 6, 65) keeps the
    chance of any false alarm at 5%. Only melanomas are in situ or thick: a group of these is measured
    against all lesions that are not melanoma.

    Do not take a gap without evidence for equality: groups are small, and most gaps could not be
    seen. Do not take a gap for unfairness or its cause either: groups differ in how hard their
    lesions are, and in what else they have in common (age and site, site and sex). Average
    precision also moves with a group's share of melanomas.

    Args:
        predictions: One for each system.
        labels: Of all images, with the columns that attributes are read from.
        metric: A metric of the ranking as a whole (`evaluate.metrics.OF_CURVE`); one that chooses
            a threshold would choose another in each group.
        attributes: What to divide by; those that the table lacks are left out and named.
        fewest: Melanomas, and other lesions, that a group and its rest must have.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together, or an attribute cannot be read.
        UsageError: There is no such metric, or too few resamples are asked for.
    """
    if metric not in OF_CURVE:
        raise UnknownNameError(f"no metric {metric!r} for subgroups; metrics are {', '.join(OF_CURVE)}")
    column = Column(name=metric, title=title_of(metric), definition="", metric=metric)
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    found = [(attribute, groups(attribute, labels)) for attribute in attributes]
    parts = [
        part
        for attribute, values in found
        if values is not None
        for part in _parts(attribute, values, melanoma, fewest)
    ]
    rows = [
        _in_groups(align(given, labels).scores, melanoma, clusters, parts, column, resamples, seed)
        for given in predictions
    ]
    adjusted = iter(holm([each.p for row in rows for each in row if each.p is not None]))
    return Subgroups(
        metric=metric,
        title=column.title,
        groups=tuple(part.group for part in parts),
        systems=tuple(
            SystemSubgroups(
                system=given.system,
                title=system_title(given.system),
                groups=tuple(
                    each if each.p is None else msgspec.structs.replace(each, p_holm=next(adjusted))
                    for each in row
                ),
            )
            for given, row in zip(predictions, rows, strict=True)
        ),
        compared=sum(each.p is not None for row in rows for each in row),
        fewest=fewest,
        absent=tuple(attribute.title for attribute, values in found if values is None),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
    )


def _parts(
    attribute: Attribute,
    values: pd.Series[pd.CategoricalDtype[str]],
    melanoma: npt.NDArray[np.bool_],
    fewest: int,
) -> list[_Part]:
    names = [name for name in values.cat.categories if (values == name).any()]
    known = values.notna().to_numpy()
    always = ~melanoma if attribute.of_melanoma else np.zeros_like(melanoma)
    parts = []
    for name in names:
        inside = (values == name).fillna(False).to_numpy(dtype=bool)
        here, there = inside | always, known & ~inside | always
        too_few = _too_few(here, melanoma, fewest)
        no_gap = too_few or ("there is no other group" if len(names) == 1 else "")
        if not no_gap and (lacking := _too_few(there, melanoma, fewest)):
            no_gap = f"the rest has {lacking}"
        if not no_gap and len(names) == 2 and name == names[1]:
            no_gap = _MIRROR
        group = Group(
            attribute=attribute.name,
            title=attribute.title,
            group=str(name),
            n=int(here.sum()),
            positives=int((here & melanoma).sum()),
            negatives="all" if attribute.of_melanoma else "group",
        )
        parts.append(_Part(group=group, inside=here, rest=there, too_few=too_few, no_gap=no_gap))
    return parts


def _too_few(mask: npt.NDArray[np.bool_], melanoma: npt.NDArray[np.bool_], fewest: int) -> str:
    positives, negatives = int((mask & melanoma).sum()), int((mask & ~melanoma).sum())
    if positives < fewest:
        return f"{positives} melanomas, fewer than {fewest}"
    return f"{negatives} other lesions, fewer than {fewest}" if negatives < fewest else ""


def _in_groups(
    scores: Floats,
    melanoma: npt.NDArray[np.bool_],
    clusters: npt.NDArray[np.intp],
    parts: Sequence[_Part],
    column: Column,
    resamples: int,
    seed: int,
) -> list[InGroup]:
    def within(mask: npt.NDArray[np.bool_], weights: Counts) -> Floats:
        units, renumbered = np.unique(clusters[mask], return_inverse=True)
        ranking = Ranking(scores[mask], melanoma[mask], renumbered)
        values: Floats = measure(ranking, (column,), weights[units])[0]
        return values

    def figures(weights: Counts) -> Floats:
        nothing = np.full(weights.shape[1], np.nan)
        pairs = [
            [
                nothing if part.too_few else within(part.inside, weights),
                nothing if part.no_gap else within(part.rest, weights),
            ]
            for part in parts
        ]
        return np.array(pairs).reshape(len(parts), 2, weights.shape[1])

    count = int(clusters.max()) + 1
    values = figures(np.ones((count, 1), dtype=np.int32))[..., 0]
    drawn = resampled(figures, count, resamples, seed, rows=len(scores))
    return [
        _in_group(part, point, replicated)
        for part, point, replicated in zip(parts, values, drawn, strict=True)
    ]


def _in_group(part: _Part, point: Floats, drawn: Floats) -> InGroup:
    metric = (
        Metric(value=None, reason=part.too_few)
        if part.too_few
        else estimate(float(point[0]), drawn[0], _A_CLASS)
    )
    if part.no_gap:
        return InGroup(metric=metric, gap=Metric(value=None, reason=part.no_gap), p=None, p_holm=None)
    gaps = drawn[0] - drawn[1]
    gap = estimate(float(point[0] - point[1]), gaps, _A_CLASS)
    error = float(np.nanstd(gaps, ddof=1))
    p = 2 * float(ndtr(-abs(float(point[0] - point[1])) / error)) if gap.low is not None and error else None
    return InGroup(metric=metric, gap=gap, p=p, p_holm=p)
