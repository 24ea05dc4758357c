"""Scores of a system, sorted once and counted under many weightings of the images at once.

A bootstrap resample is a weighting: an image drawn twice counts twice. Scores are sorted once;
after that a resample costs one pass of additions, whatever the number of metrics.

Every metric (`evaluate.metrics`) depends on two counts only: how many melanomas and how many other
images score at least as high as a threshold. The first changes only at scores of melanomas, and with it
recall; so thresholds at those scores are enough for exact ranking metrics, however many images there are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int32]


class Confusion(NamedTuple):
    """Counts, or shares of all images, at one threshold for each resample, shape (resamples,) each."""

    true_positives: Counts | Floats
    false_positives: Counts | Floats
    positives: Counts | Floats
    negatives: Counts | Floats

    def at_prevalence(self, prevalence: float) -> Confusion:
        """Shares of all images where melanoma is this frequent (Bayes' theorem).

        Sensitivity `se` and specificity `sp` stay: of all images `se * prevalence` are melanomas
        that are called, and `(1 - sp) * (1 - prevalence)` other images that are.

        Do not trust it where the other patients differ in more than how frequent melanoma is: a
        screening clinic sees earlier melanomas and more harmless look-alikes than a biopsy series,
        so that sensitivity and specificity move too.
        """
        share = np.full(np.shape(self.positives), prevalence)
        return Confusion(
            true_positives=share * (self.true_positives / self.positives),
            false_positives=(1 - share) * (self.false_positives / self.negatives),
            positives=share,
            negatives=1 - share,
        )


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

    def keeping(self, specificity: float) -> npt.NDArray[np.intp]:
        """Index of the threshold of the highest sensitivity that keeps at least this specificity.

        Of thresholds with that sensitivity it is the highest, so none keeps more specificity; -1
        where only a threshold above all melanomas keeps enough.
        """
        kept = (self.negatives - self.false_positives) / self.negatives >= specificity
        most = np.where(kept, self.true_positives, 0).max(axis=0)
        return np.where(most > 0, (self.true_positives < most).sum(axis=0), -1)

    def at(self, index: npt.NDArray[np.intp]) -> Confusion:
        """Counts at one threshold for each resample, by its index; -1 is above all images."""
        cells = (index, np.arange(len(index)))
        return Confusion(
            np.where(index < 0, 0, self.true_positives[cells]),
            np.where(index < 0, 0, self.false_positives[cells]),
            self.positives,
            self.negatives,
        )


class Ranking:
    """The scores of one system on one set of images, sorted once for any number of resamples.

    Args:
        scores: One score per image, shape (images,); higher is more suspicious.
        melanoma: Whether an image is of a melanoma, shape (images,).
        clusters: Number of the cluster of each image, from 0, shape (images,).
        only: Images that are counted, shape (images,); all where None. The others still give thresholds, so
            that a part of the images can be looked at where the whole crosses one.

    Attributes:
        thresholds: Distinct scores of melanomas, from the highest down.
    """

    def __init__(
        self,
        scores: Floats,
        melanoma: npt.NDArray[np.bool_],
        clusters: npt.NDArray[np.intp],
        *,
        only: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        self.thresholds = np.unique(scores[melanoma])[::-1]
        self._scores, self._melanoma, self._clusters = scores, melanoma, clusters
        self._only = np.ones_like(melanoma) if only is None else only
        # The first threshold that an image's score reaches; one past the last where it reaches none.
        reached = np.searchsorted(-self.thresholds, -scores)
        size = len(self.thresholds) + 1
        tied = ~melanoma & (np.append(self.thresholds, np.nan)[reached] == scores)
        self._at: dict[tuple[float, ...], sparse.csc_array] = {}
        self._gained = self._adder(melanoma, reached, size)
        self._passed = self._adder(~melanoma, reached, size)
        self._tied = self._adder(tied, reached, size)

    @property
    def unweighted(self) -> Counts:
        """Weights under which every image counts once: those of the test set itself."""
        return np.ones((self._clusters.max() + 1, 1), dtype=np.int32)

    def within(self, mask: npt.NDArray[np.bool_]) -> Ranking:
        """The same ranking, of which only some images are counted."""
        return Ranking(self._scores, self._melanoma, self._clusters, only=mask)

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
        return self.at_all((threshold,), weights)[0]

    def at_all(self, thresholds: tuple[float, ...], weights: Counts) -> list[Confusion]:
        """Counts at each of some thresholds, all in one pass over the images."""
        steps = np.sort(thresholds)
        if thresholds not in self._at:
            cell = 2 * np.searchsorted(steps, self._scores, side="right") + self._melanoma
            self._at[thresholds] = self._adder(np.ones_like(self._melanoma), cell, 2 * len(steps) + 2)
        between = (self._at[thresholds] @ weights).reshape(len(steps) + 1, 2, -1)
        above = np.cumsum(between[::-1], axis=0, dtype=np.int32)[::-1]
        negatives, positives = above[0]
        return [
            Confusion(above[1 + place][1], above[1 + place][0], positives, negatives)
            for place in np.searchsorted(steps, thresholds)
        ]

    def _adder(self, which: npt.NDArray[np.bool_], rows: npt.NDArray[np.intp], size: int) -> sparse.csc_array:
        """Adds the weights of chosen images up by row: (size, clusters) @ (clusters, resamples)."""
        which = which & self._only
        ones = np.ones(np.count_nonzero(which), dtype=np.int32)
        shape = (size, self._clusters.max() + 1)
        return sparse.csc_array((ones, (rows[which], self._clusters[which])), shape=shape)
