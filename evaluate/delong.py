"""DeLong's test: areas under the ROC curves of systems on the same images, and their covariance.

DeLong, DeLong & Clarke-Pearson 1988 (doi 10.2307/2531595), by mid-ranks in O(n log n) as Sun & Xu
2014 (doi 10.1109/LSP.2014.2337313) do it.

It takes images for independent. Where patients have several, intervals come out too short and
p-values too small; the patient-clustered bootstrap is then the one to believe. Nor is its normal
approximation any good for a handful of melanomas, or for an area close to 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from evaluate.resampling import LEVEL

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-28
"""A variance below it is that of rounding: one swap among a million million pairs still gives 1e-24."""


class Estimate(NamedTuple):
    """An area, or a difference of two, with its normal 95% interval.

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

    Attributes:
        aucs: Shape (systems,).

    >>> two = DeLong(np.array([[0.9, 0.8, 0.5, 0.5, 0.1], [0.9, 0.8, 0.1, 0.4, 0.3]]), np.arange(5) < 2)
    >>> two.aucs.tolist()
    [1.0, 1.0]
    >>> two.auc(0).reason
    'degenerate: the estimated variance is 0, which says nothing of the true one'
    """

    def __init__(self, scores: Floats, melanoma: npt.NDArray[np.bool_]) -> None:
        # Structural components: for each melanoma the share of others below it (ties counting half),
        # for each other image the share of melanomas above it. A rank among all less the rank among
        # one's own kind is the number of the other kind below.
        both = _midranks(scores)
        ill, well = scores[:, melanoma], scores[:, ~melanoma]
        self._ill = (both[:, melanoma] - _midranks(ill)) / max(1, well.shape[1])
        self._well = 1 - (both[:, ~melanoma] - _midranks(well)) / max(1, ill.shape[1])
        with np.errstate(invalid="ignore"):
            self.aucs: Floats = self._ill.sum(axis=1) / np.float64(ill.shape[1])
        if not well.shape[1]:
            self.aucs[:] = np.nan

    @property
    def covariance(self) -> Floats:
        """Covariance of the areas, shape (systems, systems); needs two images of each class."""
        ill, well = (np.atleast_2d(np.cov(each)) / each.shape[1] for each in (self._ill, self._well))
        covariance: Floats = ill + well
        return covariance

    def auc(self, system: int) -> Estimate:
        """The area of one system."""
        return _estimate(self.aucs[system], self._ill[system], self._well[system])._replace(p=None)

    def difference(self, a: int, b: int) -> Estimate:
        """The area of one system less that of another.

        The variance is taken of the differences of components: the same as from the covariance
        matrix, but exactly 0 for systems that rank alike.
        """
        return _estimate(
            self.aucs[a] - self.aucs[b], self._ill[a] - self._ill[b], self._well[a] - self._well[b]
        )


def _estimate(value: np.float64, ill: Floats, well: Floats) -> Estimate:
    if min(len(ill), len(well)) < 2:
        return Estimate(float(value), None, None, None, None, "needs two images of each class")
    variance = float(ill.var(ddof=1) / len(ill) + well.var(ddof=1) / len(well))
    if variance < _ROUNDING:
        reason = "degenerate: the estimated variance is 0, which says nothing of the true one"
        return Estimate(float(value), 0.0, None, None, 1.0 if value == 0 else None, reason)
    error = variance**0.5
    reach = special.ndtri((1 + LEVEL) / 2) * error
    p = 2 * special.ndtr(-abs(value) / error)
    return Estimate(float(value), variance, float(value - reach), float(value + reach), float(p), "")


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
