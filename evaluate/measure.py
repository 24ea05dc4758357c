"""Measuring the figures of a protocol, on the test set or in every resample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluate.metrics import AT_POINT, OF_CURVE, Confusion, Counts, Curve, Floats, Ranking
from evaluate.protocols import Column, OperatingPoint
from evaluate.resampling import bootstrap

_CELLS = 2**21
"""Size of an array of weights or counts: bounds memory, whatever the number of images."""


def measure(ranking: Ranking, columns: Sequence[Column], weights: Counts) -> Floats:
    """Figures of one system under each weighting.

    Args:
        ranking: Its scores.
        columns: Which figures.
        weights: How often each cluster counts, shape (clusters, resamples).

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
                    at[column.point] = _counts(ranking, curve, column.point, weights)
                row[:] = AT_POINT[column.metric](at[column.point])
    values[:, (curve.positives == 0) | (curve.negatives == 0)] = np.nan
    return values


def replicates(rankings: Sequence[Ranking], columns: Sequence[Column], resamples: int, seed: int) -> Floats:
    """Figures of systems on the same images in the same bootstrap resamples.

    Args:
        rankings: Scores of each system, all with the same clusters.
        columns: Which figures.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        Shape (systems, columns, resamples).
    """
    clusters = len(rankings[0].unweighted)
    rows = max(clusters, *(len(ranking.thresholds) for ranking in rankings))
    parts = [
        [measure(ranking, columns, weights) for ranking in rankings]
        for weights in bootstrap(clusters, resamples, seed, chunk=max(1, _CELLS // rows))
    ]
    return np.concatenate(parts, axis=-1)


def threshold(ranking: Ranking, point: OperatingPoint) -> float:
    """The score that an operating point is on the test set."""
    if point.by == "threshold":
        return point.value
    index = ranking.curve(ranking.unweighted).reaching(point.value)
    return float(ranking.thresholds[index.item()])


def _counts(ranking: Ranking, curve: Curve, point: OperatingPoint, weights: Counts) -> Confusion:
    if point.by == "threshold":
        return ranking.at(point.value, weights)
    return curve.at(curve.reaching(point.value))
