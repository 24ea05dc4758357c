"""Metrics of a classifier under many weightings of the images at once.

A bootstrap resample is a weighting: an image drawn twice counts twice. Scores are sorted once;
after that a resample costs one pass of additions, whatever the number of metrics.

Every metric depends on two counts only: how many melanomas and how many other images score at
least as high as a threshold. The first changes only at scores of melanomas, and with it recall;
so thresholds at those scores are enough for exact ranking metrics, however many images there are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


class Confusion(NamedTuple):
    """Counts at one threshold for each resample, shape (resamples,) each."""

    true_positives: Counts
    false_positives: Counts
    positives: Counts
    negatives: Counts


class Curve(NamedTuple):
    """Counts at every threshold where sensitivity changes, from the highest down.

    Attributes:
        gained: Melanomas that score exactly the threshold, shape (thresholds, resamples).
        true_positives: Melanomas at or above it, same shape.
        false_positives: Other images at or above it, same shape.
        tied: Other images that score exactly the threshold, same shape.
        positives: All melanomas, shape (resamples,).
        negatives: All other images, shape (resamples,).
    """

    gained: Counts
    true_positives: Counts
    false_positives: Counts
    tied: Counts
    positives: Counts
    negatives: Counts

    def reaching(self, sensitivity: float) -> npt.NDArray[np.intp]:
        """Index of the first threshold, from the highest down, of at least this sensitivity.

        No other threshold that reaches it has a higher specificity.
        """
        short = self.true_positives / self.positives < sensitivity
        index: npt.NDArray[np.intp] = short.sum(axis=0)
        return index

    def at(self, index: npt.NDArray[np.intp]) -> Confusion:
        """Counts at one threshold for each resample, by its index."""
        cells = (index, np.arange(len(index)))
        return Confusion(
            self.true_positives[cells], self.false_positives[cells], self.positives, self.negatives
        )


class Ranking:
    """The scores of one system on one set of images, sorted once for any number of resamples.

    Args:
        scores: One score per image, shape (images,); higher is more suspicious.
        melanoma: Whether an image is of a melanoma, shape (images,).
        clusters: Number of the cluster of each image, from 0, shape (images,).

    Attributes:
        thresholds: Distinct scores of melanomas, from the highest down.
    """

    def __init__(
        self, scores: Floats, melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp]
    ) -> None:
        self.thresholds = np.unique(scores[melanoma])[::-1]
        self._scores, self._melanoma, self._clusters = scores, melanoma, clusters
        # The first threshold that an image's score reaches; one past the last where it reaches none.
        reached = np.searchsorted(-self.thresholds, -scores)
        size = len(self.thresholds) + 1
        tied = ~melanoma & (np.append(self.thresholds, np.nan)[reached] == scores)
        self._at: dict[float, sparse.csr_array] = {}
        self._gained = self._adder(melanoma, reached, size)
        self._passed = self._adder(~melanoma, reached, size)
        self._tied = self._adder(tied, reached, size)

    @property
    def unweighted(self) -> Counts:
        """Weights under which every image counts once: those of the test set itself."""
        return np.ones((self._clusters.max() + 1, 1), dtype=np.int32)

    def curve(self, weights: Counts) -> Curve:
        """Counts at all thresholds.

        Args:
            weights: How often each cluster counts, shape (clusters, resamples).
        """
        gained = (self._gained @ weights)[:-1]
        passed = np.cumsum(self._passed @ weights, axis=0, dtype=np.int32)
        true_positives = np.cumsum(gained, axis=0, dtype=np.int32)
        return Curve(
            gained=gained,
            true_positives=true_positives,
            false_positives=passed[:-1],
            tied=(self._tied @ weights)[:-1],
            positives=true_positives[-1],
            negatives=passed[-1],
        )

    def at(self, threshold: float, weights: Counts) -> Confusion:
        """Counts at a threshold of one's own; a score equal to it is above it."""
        if threshold not in self._at:
            cell = 2 * self._melanoma + (self._scores >= threshold)
            self._at[threshold] = self._adder(np.ones_like(self._melanoma), cell, 4)
        passed_over, false_positives, missed, true_positives = self._at[threshold] @ weights
        return Confusion(
            true_positives, false_positives, true_positives + missed, false_positives + passed_over
        )

    def _adder(self, which: npt.NDArray[np.bool_], rows: npt.NDArray[np.intp], size: int) -> sparse.csr_array:
        """Adds the weights of chosen images up by row: (size, clusters) @ (clusters, resamples)."""
        ones = np.ones(np.count_nonzero(which), dtype=np.int32)
        shape = (size, self._clusters.max() + 1)
        return sparse.csr_array((ones, (rows[which], self._clusters[which])), shape=shape)


def roc_auc(curve: Curve) -> Floats:
    """Probability that a melanoma scores higher than another image, ties counting half (Mann-Whitney)."""
    lower = curve.negatives - curve.false_positives + curve.tied / 2
    area: Floats = (curve.gained * lower).sum(axis=0) / curve.positives / curve.negatives
    return area


def average_precision(curve: Curve) -> Floats:
    """Sum over thresholds of the gain in recall times precision, without interpolation.

    This is `sklearn.metrics.average_precision_score`.
    """
    called = curve.true_positives + curve.false_positives
    precision = curve.true_positives / np.maximum(called, 1)
    area: Floats = (curve.gained * precision).sum(axis=0) / curve.positives
    return area


def sensitivity(counts: Confusion) -> Floats:
    """TP / (TP + FN)."""
    return counts.true_positives / counts.positives


def specificity(counts: Confusion) -> Floats:
    """TN / (TN + FP)."""
    return 1 - counts.false_positives / counts.negatives


def balanced_accuracy(counts: Confusion) -> Floats:
    """Mean of sensitivity and specificity."""
    return (sensitivity(counts) + specificity(counts)) / 2


def accuracy(counts: Confusion) -> Floats:
    """(TP + TN) / all."""
    right = counts.true_positives + counts.negatives - counts.false_positives
    return right / (counts.positives + counts.negatives)


def f1(counts: Confusion) -> Floats:
    """2 TP / (2 TP + FP + FN): the F1 score of the melanoma class."""
    return 2 * counts.true_positives / (counts.true_positives + counts.false_positives + counts.positives)


def f1_weighted(counts: Confusion) -> Floats:
    """F1 scores of both classes, weighted by their numbers of images."""
    others = Confusion(
        true_positives=counts.negatives - counts.false_positives,
        false_positives=counts.positives - counts.true_positives,
        positives=counts.negatives,
        negatives=counts.positives,
    )
    weighted = counts.positives * f1(counts) + counts.negatives * f1(others)
    return weighted / (counts.positives + counts.negatives)


OF_CURVE: dict[str, Callable[[Curve], Floats]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
}
"""Metrics of the ranking as a whole."""

AT_POINT: dict[str, Callable[[Confusion], Floats]] = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "balanced_accuracy": balanced_accuracy,
    "accuracy": accuracy,
    "f1": f1,
    "f1_weighted": f1_weighted,
}
"""Metrics at one threshold."""
