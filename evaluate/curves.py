"""Curves behind the figures: ROC, precision-recall, and what each threshold calls, at fixed grids of points."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.alignment import align
from evaluate.labels import Labels
from evaluate.measure import resampled
from evaluate.predictions import Predictions
from evaluate.ranking import Counts, Curve, Floats, Ranking
from evaluate.resampling import LEVEL
from evaluate.skipped import without_skipped

POINTS = 101
"""Points of each grid: every hundredth."""

BANDS = 1000
"""Resamples that bands are drawn from at most: more would not be seen in a figure."""

_DIGITS = 5


class Band(msgspec.Struct, frozen=True, kw_only=True):
    """A curve over a grid, with a pointwise interval at each of its points."""

    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """What thresholds call.

    Attributes:
        thresholds: Quantiles of the scores, from the lowest up; a score equal to one is called.
        sensitivity: Share of melanomas called at each.
        specificity: Share of other lesions passed at each.
    """

    thresholds: tuple[float, ...]
    sensitivity: tuple[float, ...]
    specificity: tuple[float, ...]


class SystemCurves(msgspec.Struct, frozen=True, kw_only=True):
    """The curves of one system.

    Attributes:
        system: Its name.
        title: Its name in figures.
        roc: Sensitivity over `Curves.grid` as the false-positive rate.
        precision: Precision over `Curves.grid` as the recall; that of recall 0 is of the highest score.
        calls: Sensitivity and specificity by threshold.
    """

    system: str
    title: str
    roc: Band
    precision: Band
    calls: Calls


class Curves(msgspec.Struct, frozen=True, kw_only=True):
    """Curves of systems on one test set.

    Attributes:
        grid: False-positive rates and recalls that the curves are given at.
        systems: One for each system.
        prevalence: The share of melanomas: the precision of a guess.
        level: Level of the bands, from resamples of whole patients, each point on its own.
        resamples: Number of resamples.
        seed: Their seed.
    """

    grid: tuple[float, ...]
    systems: tuple[SystemCurves, ...]
    prevalence: float
    level: float
    resamples: int
    seed: int


def curves(
    predictions: Sequence[Predictions], labels: Labels, *, resamples: int = BANDS, seed: int = 0
) -> Curves:
    """The curves of systems on the same lesion images, with bands from a bootstrap over patients.

    The resamples are those of the scores, of which the first `BANDS` are taken. Bands are pointwise
    percentile intervals: of a whole curve, more than 5% leaves its band somewhere.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        resamples: Number of resamples, of which at most `BANDS` are used.
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together.
    """
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    used = min(resamples, BANDS)
    grid = np.linspace(0, 1, POINTS)
    systems = []
    for given in predictions:
        scores = align(given, labels).scores
        ranking = Ranking(scores, melanoma, clusters)
        roc, precision = _bands(ranking, grid, used, seed)
        systems.append(
            SystemCurves(
                system=given.system,
                title=given.called,
                roc=roc,
                precision=precision,
                calls=calls(scores, melanoma),
            )
        )
    return Curves(
        grid=_rounded(grid),
        systems=tuple(systems),
        prevalence=float(melanoma.mean()),
        level=LEVEL,
        resamples=used,
        seed=seed,
    )


def roc_at(curve: Curve, rates: Floats) -> Floats:
    """Sensitivity at false-positive rates, in each resample; ties are straight lines of the curve.

    Args:
        curve: Counts at all thresholds.
        rates: Shape (points,).

    Returns:
        Shape (points, resamples); NaN where a class is missing.
    """
    found = np.full((len(rates), len(curve.positives)), np.nan)
    before = curve.true_positives - curve.gained, curve.false_positives - curve.tied
    for column in np.flatnonzero((curve.positives > 0) & (curve.negatives > 0)):
        rising = np.stack([before[0][:, column], curve.true_positives[:, column]], axis=1).ravel()
        passing = np.stack([before[1][:, column], curve.false_positives[:, column]], axis=1).ravel()
        across = np.concatenate([[0], passing, [curve.negatives[column]]]) / curve.negatives[column]
        up = np.concatenate([[0], rising, [curve.positives[column]]]) / curve.positives[column]
        found[:, column] = np.interp(rates, across, up)
    return found


def precision_at(curve: Curve, recalls: Floats) -> Floats:
    """Precision at the first threshold, from the highest down, that reaches each recall, in each resample.

    Args:
        curve: Counts at all thresholds.
        recalls: Shape (points,).

    Returns:
        Shape (points, resamples); NaN where a class is missing.
    """
    found = np.full((len(recalls), len(curve.positives)), np.nan)
    called = np.maximum(curve.true_positives + curve.false_positives, 1)
    precision = curve.true_positives / called
    for column in np.flatnonzero((curve.positives > 0) & (curve.negatives > 0)):
        reached = curve.true_positives[:, column] / curve.positives[column]
        # Recall 0 is reached by calling nothing, which has no precision: the first melanoma's stands for it.
        least = np.maximum(recalls, 1 / curve.positives[column])
        found[:, column] = precision[np.searchsorted(reached, least - 1e-12), column]
    return found


def calls(scores: Floats, melanoma: npt.NDArray[np.bool_]) -> Calls:
    """Sensitivity and specificity at quantiles of the scores.

    >>> found = calls(np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, False, True, True]))
    >>> [(s, p) for t, s, p in zip(found.thresholds, found.sensitivity, found.specificity) if t == 0.6]
    [(1.0, 1.0)]
    """
    ordered = np.unique(scores)
    picked = np.unique(ordered[np.linspace(0, len(ordered) - 1, POINTS).round().astype(int)])
    positives, negatives = np.sort(scores[melanoma]), np.sort(scores[~melanoma])
    sensitivity = 1 - np.searchsorted(positives, picked) / len(positives)
    specificity = np.searchsorted(negatives, picked) / len(negatives)
    return Calls(
        thresholds=tuple(picked.tolist()),
        sensitivity=_rounded(sensitivity),
        specificity=_rounded(specificity),
    )


def _bands(ranking: Ranking, grid: Floats, resamples: int, seed: int) -> tuple[Band, Band]:
    def both(weights: Counts) -> Floats:
        curve = ranking.curve(weights)
        return np.stack([roc_at(curve, grid), precision_at(curve, grid)])

    points = both(ranking.unweighted)[..., 0]
    drawn = resampled(both, len(ranking.unweighted), resamples, seed, rows=2 * len(ranking.thresholds))
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail], axis=-1)
    roc, precision = (
        Band(value=_rounded(points[index]), low=_rounded(low[index]), high=_rounded(high[index]))
        for index in (0, 1)
    )
    return roc, precision


def _rounded(values: Floats) -> tuple[float, ...]:
    return tuple(values.round(_DIGITS).tolist())
