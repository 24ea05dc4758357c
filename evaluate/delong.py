"""DeLong's test: areas under the ROC curves of systems on the same images, and their covariance.

DeLong, DeLong & Clarke-Pearson 1988 (doi 10.2307/2531595), by mid-ranks in O(n log n) as Sun & Xu
2014 (doi 10.1109/LSP.2014.2337313) do it.

As it was published it takes images for independent; where patients have several, intervals come out too
short and p-values too small. With `clusters` the variance is that of Obuchowski 1997 (doi
10.2307/2533958), which keeps each patient's images together, and the intervals are Student's. Neither is
any good for a handful of melanomas, or for an area close to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from evaluate.resampling import LEVEL, effective_clusters

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-28
"""A variance below it is that of rounding: one swap among a million million pairs still gives 1e-24."""


class Estimate(NamedTuple):
    """An area, or a difference of two, with its 95% interval.

    Attributes:
        value: The estimate.
        variance: Its variance; None with fewer than two images of a class.
        low: Lower end of the interval; None as `reason` says. It is not cut off at 0 or 1.
        high: Upper end.
        p: Two-sided p-value of a difference being 0; None for a single area, or as `reason` says.
        reason: Why there is no interval.
    """

    value: float
    variance: float | None
    low: float | None
    high: float | None
    p: float | None
    reason: str


class DeLong:
    """Areas under the ROC curves of systems on the same images.

    Args:
        scores: Shape (systems, images); higher is more suspicious.
        melanoma: Whether an image is of a melanoma, shape (images,).
        clusters: Number of the patient of each image, from 0, shape (images,). None takes images for
            independent, as DeLong does, with the quantiles of a normal; otherwise they are those of
            Student's t with one degree less than `evaluate.resampling.effective_clusters`.

    Attributes:
        aucs: Shape (systems,).

    >>> two = DeLong(np.array([[0.9, 0.8, 0.5, 0.5, 0.1], [0.9, 0.8, 0.1, 0.4, 0.3]]), np.arange(5) < 2)
    >>> two.aucs.tolist()
    [1.0, 1.0]
    >>> two.auc(0).reason
    'degenerate: the estimated variance is 0, which says nothing of the true one'
    """

    def __init__(
        self,
        scores: Floats,
        melanoma: npt.NDArray[np.bool_],
        clusters: npt.NDArray[np.intp] | None = None,
    ) -> None:
        # Structural components: for each melanoma the share of others below it (ties counting half),
        # for each other image the share of melanomas above it. A rank among all less the rank among
        # one's own kind is the number of the other kind below.
        both = _midranks(scores)
        ill, well = scores[:, melanoma], scores[:, ~melanoma]
        of_ill = (both[:, melanoma] - _midranks(ill)) / max(1, well.shape[1])
        of_well = 1 - (both[:, ~melanoma] - _midranks(well)) / max(1, ill.shape[1])
        with np.errstate(invalid="ignore"):
            self.aucs: Floats = of_ill.sum(axis=1) / np.float64(ill.shape[1])
        if not well.shape[1]:
            self.aucs[:] = np.nan
        # Single images are the clusters where none are given.
        units = np.arange(len(melanoma)) if clusters is None else clusters
        self._degrees = np.inf if clusters is None else effective_clusters(melanoma, clusters) - 1
        self._ill = _Part(of_ill - self.aucs[:, np.newaxis], units[melanoma], int(units.max()) + 1)
        self._well = _Part(of_well - self.aucs[:, np.newaxis], units[~melanoma], int(units.max()) + 1)

    @property
    def covariance(self) -> Floats:
        """Covariance of the areas, shape (systems, systems); needs two clusters with images of each class."""
        return _covariance(self._ill, self._well, self._ill.sums, self._well.sums)

    def auc(self, system: int) -> Estimate:
        """The area of one system."""
        return self._estimate(self.aucs[system], self._ill.sums[system], self._well.sums[system])._replace(
            p=None
        )

    def difference(self, a: int, b: int) -> Estimate:
        """The area of one system less that of another.

        The variance is taken of the differences of components: the same as from the covariance
        matrix, but exactly 0 for systems that rank alike.
        """
        ill, well = self._ill.sums, self._well.sums
        return self._estimate(self.aucs[a] - self.aucs[b], ill[a] - ill[b], well[a] - well[b])

    def _estimate(self, value: np.float64, ill: Floats, well: Floats) -> Estimate:
        if min(self._ill.clusters, self._well.clusters) < 2:
            what = "images" if np.isinf(self._degrees) else "patients"
            return Estimate(float(value), None, None, None, None, f"needs two {what} of each class")
        variance = float(_covariance(self._ill, self._well, ill[np.newaxis], well[np.newaxis]).item())
        if variance < _ROUNDING or not self._degrees > 0:
            reason = "degenerate: the estimated variance is 0, which says nothing of the true one"
            return Estimate(float(value), 0.0, None, None, 1.0 if value == 0 else None, reason)
        error = variance**0.5
        if np.isinf(self._degrees):
            reach, tail = special.ndtri((1 + LEVEL) / 2), special.ndtr(-abs(value) / error)
        else:
            reach = special.stdtrit(self._degrees, (1 + LEVEL) / 2)
            tail = special.stdtr(self._degrees, -abs(value) / error)
        low, high = float(value - reach * error), float(value + reach * error)
        return Estimate(float(value), variance, low, high, float(2 * tail), "")


class _Part:
    """Components of the images of one class, less the area, and their sums per cluster.

    Attributes:
        sums: Shape (systems, clusters).
        images: How many images there are.
        clusters: In how many clusters they are.
    """

    def __init__(self, components: Floats, clusters: npt.NDArray[np.intp], size: int) -> None:
        self.sums: Floats = np.stack([np.bincount(clusters, each, minlength=size) for each in components])
        self.images = len(clusters)
        self.clusters = int(np.count_nonzero(np.bincount(clusters, minlength=size)))


def _covariance(ill: _Part, well: _Part, of_ill: Floats, of_well: Floats) -> Floats:
    """Obuchowski's covariance; DeLong's where every cluster is one image, and the cross terms are 0."""
    m, n, all_ = ill.images, well.images, of_ill.shape[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        cross = of_ill @ of_well.T * np.divide(all_, (all_ - 1) * m * n)
        own = [
            each @ each.T * np.divide(part.clusters, (part.clusters - 1) * part.images**2)
            for part, each in ((ill, of_ill), (well, of_well))
        ]
    found: Floats = own[0] + own[1] + cross + cross.T
    return found


def _midranks(scores: Floats) -> Floats:
    """Ranks from 1 within each row, of equal scores the mean of theirs.

    >>> _midranks(np.array([[0.3, 0.1, 0.3, 0.2]])).tolist()
    [[3.5, 1.0, 3.5, 2.0]]
    """
    ranks = np.empty(scores.shape)
    for row, values in zip(ranks, scores, strict=True):
        _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
        row[:] = (np.cumsum(counts) - (counts - 1) / 2)[place]
    return ranks
