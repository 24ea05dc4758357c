"""Logistic recalibration under many weightings of the images at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.special import expit, logit

from evaluate.ranking import Counts, Floats

MOST_IMAGES = 8192
"""With more images, resamples take images of nearly the same score together."""

_CUTS = 512
_ITERATIONS = 60
_LONGEST_STEP = 3.0


def inside(scores: Floats) -> bool:
    """Whether all scores have a finite logit."""
    return bool(((scores > 0) & (scores < 1)).all())


def recalibration(
    scores: Floats, melanoma: npt.NDArray[np.bool_], weights: npt.NDArray[Any], *, slope: bool = True
) -> Floats:
    """Maximum-likelihood logistic regression of the outcome on the logit of the score.

    Args:
        scores: Probabilities strictly between 0 and 1, shape (images,).
        melanoma: Outcomes, shape (images,).
        weights: How often each image counts, shape (images, resamples).
        slope: Whether the slope is fitted, or held at 1.

    Returns:
        Intercept and slope, shape (2, resamples); NaN where there is no finite maximum, because
        the scores separate the classes, are all equal, or a class is missing.
    """
    return _fit(logit(scores), weights * melanoma[:, np.newaxis], weights, slope=slope)


class Grouped:
    """The scores of one system, with images of nearly the same score taken together where there are many.

    Groups are cut at equally frequent scores of all images, of melanomas alone, and at equal steps of the
    logit, since a few melanomas among many images lie where images are sparse. Within a group the logit is
    its mean.

    Args:
        scores: Probabilities, shape (images,).
        melanoma: Outcomes, shape (images,).
        clusters: Number of the cluster of each image, from 0, shape (images,).

    Attributes:
        rows: Number of groups.
    """

    def __init__(
        self, scores: Floats, melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp]
    ) -> None:
        self._scores, self._melanoma = scores, melanoma
        self._logits = logit(scores) if inside(scores) else None
        self._fits = [np.full(2, np.nan)] * 2
        group = np.zeros(len(scores), dtype=np.intp)
        if self._logits is not None:
            group = _groups(self._logits, melanoma)
            self._logits = np.bincount(group, self._logits) / np.bincount(group)
        self.rows = int(group.max()) + 1
        ones, shape = np.ones(len(scores), dtype=np.int32), (self.rows, int(clusters.max()) + 1)
        self._all = sparse.csc_array((ones, (group, clusters)), shape=shape)
        self._ill = sparse.csc_array((ones[melanoma], (group[melanoma], clusters[melanoma])), shape=shape)

    def of_images(self) -> Floats:
        """Slope, intercept, and intercept with the slope held at 1, from every image by itself, shape (3,)."""
        if self._logits is not None:
            once = np.ones((len(self._scores), 1))
            self._fits = [
                recalibration(self._scores, self._melanoma, once, slope=slope)[:, 0]
                for slope in (True, False)
            ]
        (intercept, slope), (in_the_large, _) = self._fits
        return np.array([slope, intercept, in_the_large])

    def of_resamples(self, weights: Counts) -> Floats:
        """The same from groups of images.

        Args:
            weights: How often each cluster counts, shape (clusters, resamples).

        Returns:
            Shape (3, resamples).
        """
        if self._logits is None:
            return np.full((3, weights.shape[1]), np.nan)
        ill, everyone = self._ill @ weights, self._all @ weights
        fits = [
            _fit(self._logits, ill, everyone, slope=slope, start=start)
            for slope, start in zip((True, False), self._fits, strict=True)
        ]
        return np.stack([fits[0][1], fits[0][0], fits[1][0]])


def _groups(logits: Floats, melanoma: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The group of each image, from 0; each image is its own where there are few."""
    if len(logits) <= MOST_IMAGES:
        return np.arange(len(logits))
    steps = np.linspace(0, 1, _CUTS)
    cuts = [
        np.quantile(each, steps)
        for each in (logits, logits[melanoma], logits[[logits.argmin(), logits.argmax()]])
    ]
    group: npt.NDArray[np.intp] = np.unique(np.searchsorted(np.unique(cuts), logits), return_inverse=True)[1]
    return group


def _fit(
    logits: Floats,
    ill: npt.NDArray[Any],
    everyone: npt.NDArray[Any],
    *,
    slope: bool,
    start: Floats | None = None,
) -> Floats:
    """Newton's method, all resamples at once.

    Args:
        logits: Of each group of images, shape (groups,).
        ill: Melanomas in each group, shape (groups, resamples).
        everyone: Images in each group, same shape.
        slope: Whether the slope is fitted, or held at 1.
        start: Intercept and slope to begin with, shape (2,); NaN where there are none.

    Returns:
        Intercept and slope, shape (2, resamples).
    """
    centre, spread = (logits.mean(), logits.std() or 1.0) if slope else (0.0, 1.0)
    x = ((logits - centre) / spread)[:, np.newaxis]
    first = np.array([0.0, 0.0 if slope else 1.0])
    if start is not None and np.isfinite(start).all():
        first = np.array([start[0] + start[1] * centre, start[1] * spread])
    found = np.repeat(first[:, np.newaxis], ill.shape[1], axis=1)
    step = np.full_like(found, np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_ITERATIONS):
            expected = expit(found[0] + found[1] * x)
            called = everyone * expected
            step = _newton_step(x[:, 0], ill - called, called * (1 - expected), slope)
            # Short steps cannot overshoot into the flat ends of the logistic curve.
            found += np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
            if not (np.abs(step) > 1e-9).any():
                break
    found[:, ~(np.abs(step) <= 1e-9).all(axis=0)] = np.nan
    fitted = found[1] / spread
    return np.stack([found[0] - fitted * centre, fitted])


def _newton_step(x: Floats, residual: Floats, variance: Floats, slope: bool) -> Floats:
    gradient, curvature = residual.sum(axis=0), variance.sum(axis=0)
    if not slope:
        return np.stack([gradient / curvature, np.zeros_like(gradient)])
    gradient_x, mixed, curvature_x = x @ residual, x @ variance, x**2 @ variance
    determinant = curvature * curvature_x - mixed**2
    return np.stack(
        [
            (curvature_x * gradient - mixed * gradient_x) / determinant,
            (curvature * gradient_x - mixed * gradient) / determinant,
        ]
    )
