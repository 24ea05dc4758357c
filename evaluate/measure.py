"""Measuring the figures of a protocol, on the test set or in every resample."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from evaluate.metrics import AT_POINT, OF_CURVE
from evaluate.protocols import Column, OperatingPoint
from evaluate.ranking import Confusion, Counts, Curve, Floats, Ranking
from evaluate.resampling import bootstrap

_CELLS = 2**19
"""Size of an array of weights or counts: bounds memory, and stays in the processor's cache."""

_NARROWEST = 16
"""Resamples at a time, however many images there are: one by one each would cost a pass of its own."""


def measure(
    ranking: Ranking, columns: Sequence[Column], weights: Counts, prevalence: float | None = None
) -> Floats:
    """Figures of one system under each weighting.

    Args:
        ranking: Its scores.
        columns: Which figures.
        weights: How often each cluster counts, shape (clusters, resamples).
        prevalence: Share of melanomas for which figures at a point are re-weighted; None for that
            of the images themselves.

    Returns:
        Shape (columns, resamples); NaN where a weighting leaves only one class.
    """
    values = np.empty((len(columns), weights.shape[1]))
    at: dict[OperatingPoint, Confusion] = {}
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = ranking.curve(weights)
        for row, column in zip(values, columns, strict=True):
            if column.point is None:
                row[:] = OF_CURVE[column.metric](curve)
            else:
                if column.point not in at:
                    counts = _counts(ranking, curve, column.point, weights)
                    at[column.point] = counts if prevalence is None else counts.at_prevalence(prevalence)
                row[:] = AT_POINT[column.metric](at[column.point])
    values[:, (curve.positives == 0) | (curve.negatives == 0)] = np.nan
    return values


def replicates(
    rankings: Sequence[Ranking],
    columns: Sequence[Column],
    resamples: int,
    seed: int,
    prevalence: float | None = None,
) -> Floats:
    """Figures of systems on the same images in the same bootstrap resamples.

    Args:
        rankings: Scores of each system, all with the same clusters.
        columns: Which figures.
        resamples: Number of resamples.
        seed: Seed of the resamples.
        prevalence: As for `measure`.

    Returns:
        Shape (systems, columns, resamples).
    """
    return resampled(
        lambda weights: np.stack([measure(each, columns, weights, prevalence) for each in rankings]),
        len(rankings[0].unweighted),
        resamples,
        seed,
        rows=max(len(ranking.thresholds) for ranking in rankings),
    )


def resampled(
    figures: Callable[[Counts], Floats], clusters: int, resamples: int, seed: int, *, rows: int
) -> Floats:
    """Any figures in the bootstrap resamples of a seed, a chunk at a time.

    Args:
        figures: From weights of clusters, shape (clusters, chunk), to figures, shape (..., chunk).
        clusters: Number of clusters.
        resamples: Number of resamples.
        seed: Seed of the resamples.
        rows: Rows of the largest array that `figures` makes, each as wide as a chunk.

    Returns:
        Shape (..., resamples).
    """
    chunk = max(_NARROWEST, _CELLS // max(clusters, rows))
    return np.concatenate(
        [figures(drawn) for drawn in bootstrap(clusters, resamples, seed, chunk=chunk)], axis=-1
    )


def threshold(ranking: Ranking, point: OperatingPoint) -> float:
    """The score that an operating point is on these images; infinite where only calling nothing is."""
    if point.by == "threshold":
        return point.value
    index = crossing(ranking.curve(ranking.unweighted), point).item()
    return float(ranking.thresholds[index]) if index >= 0 else np.inf


def _counts(ranking: Ranking, curve: Curve, point: OperatingPoint, weights: Counts) -> Confusion:
    if point.by == "threshold":
        return ranking.at(point.value, weights)
    return curve.at(crossing(curve, point))


def crossing(curve: Curve, point: OperatingPoint) -> npt.NDArray[np.intp]:
    """Index of the threshold that a sensitivity or specificity is reached at, one per resample."""
    return curve.reaching(point.value) if point.by == "sensitivity" else curve.keeping(point.value)
