"""Systems at clinical operating points: what a threshold calls, and what a call then means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.alignment import align
from evaluate.development import Development, carries_over
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import measure, resampled, threshold
from evaluate.paired import Difference, differences, groups, mixed
from evaluate.points import COMPARED, FIGURES
from evaluate.predictions import Predictions
from evaluate.protocols import Column, OperatingPoint
from evaluate.ranking import Counts, Floats, Ranking
from evaluate.resampling import LEVEL, effective_clusters, usual_resamples
from evaluate.scored import Metric
from evaluate.skipped import without_skipped
from evaluate.textbook import tests
from zoo.errors import UsageError


class AtPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One system at one operating point.

    Attributes:
        system: Its name.
        title: Its name in tables.
        wanted: The sensitivity or specificity that was asked for.
        threshold: The score from which on a lesion is called; None where nothing may be called.
        threshold_from: Whether it was locked on `development` predictions, or chosen on the
            `test set` itself, which makes every figure here optimistic.
        metrics: The `FIGURES` by their names; those of `COMPARED` with their letters.
    """

    system: str
    title: str
    wanted: OperatingPoint
    threshold: float | None
    threshold_from: Literal["development", "test set"]
    metrics: dict[str, Metric]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Systems compared at one operating point.

    Attributes:
        wanted: The point.
        differences: Of all pairs of systems, for each of `COMPARED`, with Holm over the pairs.
    """

    wanted: OperatingPoint
    differences: tuple[Difference, ...]


class OperatingPoints(msgspec.Struct, frozen=True, kw_only=True):
    """Systems at operating points.

    Attributes:
        rows: One for each system and point, points of a system together.
        prevalence: The share of melanomas that figures are re-weighted to; None where they are
            those of the test set.
        test_prevalence: The share of melanomas in the test set.
        level: Level of the intervals, from resamples of whole patients.
        resamples: Number of resamples.
        seed: Their seed.
        notes: What a reader must know.
        comparisons: One for each point; none where there is one system only.
    """

    rows: tuple[AtPoint, ...]
    prevalence: float | None
    test_prevalence: float
    level: float
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()


def operating_points(
    predictions: Sequence[Predictions],
    labels: Labels,
    points: Sequence[OperatingPoint],
    *,
    development: Mapping[str, Development] | None = None,
    prevalence: float | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> OperatingPoints:
    """Systems at operating points, each figure with the interval of a bootstrap over patients.

    A threshold that development predictions give is locked: it is the same in every resample. One
    chosen on the test set is chosen anew in every resample, so that the interval holds what the
    choice costs; the figures stay optimistic all the same and are marked.

    Predictive values follow how frequent melanoma is. With `prevalence` they are re-weighted by
    Bayes' theorem: PPV = se p / (se p + (1 − sp)(1 − p)), NPV = sp (1 − p) / (sp (1 − p) + (1 − se) p),
    and so are the number needed to biopsy and F1 (Altman & Bland 1994, BMJ 309, 102). Likelihood ratios
    do not depend on it (Deeks & Altman 2004, BMJ 329, 168).

    Sensitivity and specificity of all pairs of systems are compared in the same resamples, and by
    McNemar's exact test where both thresholds are locked. Where one is locked and the other is not,
    the difference is given and not tested: the threshold that the test set chose is flattered.

    Do not trust a wanted sensitivity to be reached elsewhere: a threshold is as good as the
    development images are like the patients it is used on. Figures at one threshold say nothing
    of others; compare two systems at the same sensitivity or the same specificity.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        points: By `sensitivity` or `specificity`.
        development: By system; those without choose on the test set.
        prevalence: Share of melanomas to re-weight to, above 0 and below 1.
        resamples: Number of resamples; None for the usual one (`evaluate.resampling.usual_resamples`).
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels, or test and development scores, do not fit together, or
            development images are test images.
        UsageError: A point or the prevalence is not a share, development predictions are of a
            system that is not scored, or too few resamples are asked for.
    """
    locked = dict(development or {})
    if not predictions:
        raise UsageError("no predictions to score; name at least one file")
    _check(points, prevalence, locked, [each.system for each in predictions])
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    size = effective_clusters(melanoma, clusters)
    if resamples is None:
        resamples = usual_resamples(int(clusters.max()) + 1)
    systems: list[_System] = []
    notes = []
    for given in predictions:
        aligned = align(given, labels)
        dev = locked.get(given.system)
        if dev:
            notes += carries_over(dev, aligned, given, labels)
        ranking = Ranking(aligned.scores, melanoma, clusters)
        cuts = [threshold(dev.ranking if dev else ranking, point) for point in points]
        used = [OperatingPoint(by="threshold", value=cut) for cut in cuts] if dev else points
        columns = [
            Column(name=name, title=figure.title, definition=figure.definition, metric=name, point=point)
            for point in used
            for name, figure in FIGURES.items()
        ]
        systems.append(
            _System(given.system, given.called, aligned.scores, ranking, cuts, columns, dev is not None)
        )

    def figures(weights: Counts) -> Floats:
        found = [measure(each.ranking, each.columns, weights, prevalence) for each in systems]
        return np.stack(found).reshape(len(systems), len(points), len(FIGURES), -1)

    values = figures(systems[0].ranking.unweighted)[..., 0]
    drawn = resampled(figures, int(clusters.max()) + 1, resamples, seed, rows=int(melanoma.sum()))
    rows: list[AtPoint] = []
    comparisons = []
    for index, point in enumerate(points):
        at = [
            _at(system, index, point, value, replicated, size)
            for system, value, replicated in zip(systems, values[:, index], drawn[:, index], strict=True)
        ]
        if len(systems) > 1:
            found = _compared(
                systems, index, values[:, index], drawn[:, index], melanoma, clusters, size, seed
            )
            at = _with_letters(at, found)
            comparisons.append(Comparison(wanted=point, differences=found))
        rows += at
    order = {system.name: place for place, system in enumerate(systems)}
    return OperatingPoints(
        rows=tuple(sorted(rows, key=lambda row: order[row.system])),
        prevalence=prevalence,
        test_prevalence=float(melanoma.mean()),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
        notes=tuple(notes),
        comparisons=tuple(comparisons),
    )


class _System(NamedTuple):
    """A system's scores, and for each point its threshold; its columns are all figures at all points."""

    name: str
    title: str
    scores: Floats
    ranking: Ranking
    cuts: list[float]
    columns: list[Column]
    locked: bool


def _at(
    system: _System, index: int, point: OperatingPoint, values: Floats, drawn: Floats, size: float
) -> AtPoint:
    cut = system.cuts[index]
    finite = cut if np.isfinite(cut) else None
    origin: Literal["development", "test set"] = "development" if system.locked else "test set"
    # Sensitivity and specificity are undefined where a class is missing, and nowhere else.
    lacking = int(np.isnan(drawn[list(FIGURES).index("sensitivity")]).sum())
    figures = zip(FIGURES.items(), values.tolist(), drawn, strict=True)
    return AtPoint(
        system=system.name,
        title=system.title,
        wanted=point,
        threshold=finite,
        threshold_from=origin,
        metrics={
            name: estimate(
                value,
                replicated,
                figure.undefined,
                size,
                lacking=lacking,
                threshold=finite,
                threshold_from=origin,
            )
            for (name, figure), value, replicated in figures
        },
    )


def _compared(
    systems: Sequence[_System], index: int, values: Floats, drawn: Floats,
    melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp], size: float, seed: int,
) -> tuple[Difference, ...]:  # fmt: skip
    """Differences of all pairs at one point; figures of shape (systems, figures) and (..., resamples)."""
    places = [list(FIGURES).index(name) for name in COMPARED]
    columns = [
        Column(name=name, title=FIGURES[name].title, definition=FIGURES[name].definition, metric=name)
        for name in COMPARED
    ]
    textbook = tests(
        columns,
        np.stack([each.scores for each in systems]),
        melanoma,
        [[each.cuts[index]] * len(columns) for each in systems],
        [[each.locked] * len(columns) for each in systems],
        clusters,
    )
    names = [each.name for each in systems]
    unlike = mixed(columns, [[not each.locked] * len(columns) for each in systems])
    return differences(names, columns, values[:, places], drawn[:, places], seed, size, textbook, unlike)


def _with_letters(rows: Sequence[AtPoint], found: Sequence[Difference]) -> list[AtPoint]:
    names = [row.system for row in rows]
    letters = {
        figure: groups(
            names,
            [row.metrics[figure].value for row in rows],
            [each for each in found if each.metric == figure],
        )
        for figure in COMPARED
    }
    return [
        msgspec.structs.replace(
            row,
            metrics={
                name: msgspec.structs.replace(metric, group=letters.get(name, {}).get(row.system, ""))
                for name, metric in row.metrics.items()
            },
        )
        for row in rows
    ]


def _check(
    points: Sequence[OperatingPoint],
    prevalence: float | None,
    development: Mapping[str, Development],
    systems: Sequence[str],
) -> None:
    for point in points:
        if point.by == "threshold" or not 0 < point.value <= 1:
            raise UsageError(
                f"no operating point at {point.by}={point.value:g}; give a sensitivity or specificity "
                "above 0 and at most 1, as in sensitivity=0.9"
            )
    if prevalence is not None and not 0 < prevalence < 1:
        raise UsageError(
            f"a prevalence of {prevalence:g} is not above 0 and below 1; give a share, as in 0.02"
        )
    for system, dev in development.items():
        if dev.named and system not in systems:
            raise UsageError(
                f"{dev.path}: development predictions of {system}, which is not scored "
                f"({', '.join(systems)} are); name the file as the one that is scored"
            )
