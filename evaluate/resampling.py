"""The bootstrap: weights of clusters, and intervals from what is measured under them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import special

from zoo.errors import UsageError

Weights = npt.NDArray[np.int32]
"""How often each cluster was drawn, shape (clusters, resamples)."""

LEVEL = 0.95
"""Level of all intervals."""

RESAMPLES = 10_000
"""Resamples where none are asked for: the ends of an interval then move by about a fiftieth of its width
from seed to seed, and p-values are counted down to 0.0002."""

RESAMPLES_OF_MANY = 1000
"""The same where there are more than `MANY` clusters: drawing 400,000 of them 10,000 times takes minutes."""

MANY = 20_000

FEWEST_RESAMPLES = 40
"""With fewer, a tail of a 95% percentile interval would hold less than one resample."""

SAME = 1e-12
"""A spread below it is that of rounding: the figure is the same in every resample, which is no certainty."""

THE_SAME = "no interval: the same in every resample"

LARGEST_UNDEFINED_SHARE = 0.05
"""Where a figure is undefined in more than this share of the resamples, nothing is said of them."""


def bootstrap(clusters: int, resamples: int, seed: int = 0, *, chunk: int = 1024) -> Iterator[Weights]:
    """Draws as many clusters as there are, with replacement, `resamples` times (Efron 1979).

    A cluster is what was sampled as a whole: a patient with all lesion images, or one image.
    The same arguments give the same weights, whatever the chunk, so that all that is measured
    with one seed is paired.

    Args:
        clusters: Number of clusters.
        resamples: Number of resamples.
        seed: Seed of the generator (PCG64).
        chunk: Resamples drawn at a time.

    Yields:
        Integer weights, shape (clusters, up to `chunk`).

    >>> next(bootstrap(4, 3)).sum(axis=0).tolist()
    [4, 4, 4]
    """
    if seed < 0:
        raise UsageError(f"seed {seed} is negative; choose 0 or more")
    random = np.random.default_rng(seed)
    for start in range(0, resamples, chunk):
        drawn = random.integers(clusters, size=(min(chunk, resamples - start), clusters), dtype=np.int32)
        # Counted one resample at a time, so that the counts stay in the processor's cache.
        weights = np.empty(drawn.shape, dtype=np.int32)
        for row, chosen in zip(weights, drawn, strict=True):
            row[:] = np.bincount(chosen, minlength=clusters)
        yield np.ascontiguousarray(weights.T)


def undefined(values: npt.NDArray[np.float64]) -> str:
    """Why nothing may be said of a figure's values over resamples; empty where something may.

    Args:
        values: Shape (resamples,); NaN where the figure is undefined.

    >>> undefined(np.array([0.5, np.nan, 0.7]))
    'undefined in 1 of 3 resamples, which lack a class'
    >>> undefined(np.array([0.5, 0.6, 0.7]))
    ''
    """
    count = np.count_nonzero(np.isnan(values))
    if count <= LARGEST_UNDEFINED_SHARE * len(values):
        return ""
    return f"undefined in {count} of {len(values)} resamples, which lack a class"


def usual_resamples(clusters: int) -> int:
    """Resamples where none are asked for.

    >>> usual_resamples(435), usual_resamples(400_000)
    (10000, 1000)
    """
    return RESAMPLES if clusters <= MANY else RESAMPLES_OF_MANY


def enough(resamples: int) -> int:
    """The number of resamples, where it is enough for an interval.

    Raises:
        UsageError: It is not.
    """
    if resamples < FEWEST_RESAMPLES:
        raise UsageError(f"{resamples} resamples are too few; take at least {FEWEST_RESAMPLES}")
    return resamples


def effective_number(clusters: npt.NDArray[np.intp]) -> float:
    """How many equally large clusters some images are worth (Kish 1965, Survey Sampling).

    It is (sum of m)² / sum of m², with m the images in each cluster: their number where all have as
    many, and less the more unequal they are.

    Args:
        clusters: Number of the cluster of each image, from 0, shape (images,).

    >>> effective_number(np.array([0, 0, 1, 1])), effective_number(np.array([0, 0, 0, 1]))
    (2.0, 1.6)
    """
    counts = np.bincount(clusters).astype(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if counts.any() else 0.0


def effective_clusters(melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp]) -> float:
    """What the rarer class is worth in equally large clusters: the smaller `effective_number` of both.

    What is known of a figure's spread comes from these, however many clusters lack the class.

    Args:
        melanoma: Whether an image is of a melanoma, shape (images,).
        clusters: Number of the cluster of each image, from 0, shape (images,).

    >>> effective_clusters(np.array([1, 1, 1, 0, 0, 0, 0], bool), np.array([0, 1, 2, 3, 3, 4, 4]))
    2.0
    """
    return min(effective_number(clusters[melanoma]), effective_number(clusters[~melanoma]))


def expanded_tail(size: float) -> float:
    """Share of the resamples beyond each end of a 95% interval: 0.025 in the limit, less in small samples.

    Percentile intervals are too short in small samples: the spread of resamples is that of a variance
    with divisor n, and normal where it should be Student's. Hesterberg 2015 (Am. Stat. 69, 371, section
    5.1) widens them to Φ(−t · √(n/(n − 1))), with t the 97.5% quantile of n − 1 degrees of freedom, so
    that for a mean they are as wide as the t interval.

    Args:
        size: `effective_clusters`; there is no correction where it is infinite.

    >>> [round(expanded_tail(size), 4) for size in (10, 95, 1e9)]
    [0.0086, 0.023, 0.025]
    """
    if np.isinf(size):
        return (1 - LEVEL) / 2
    if size <= 1:
        return 0.0
    return float(special.ndtr(special.stdtrit(size - 1, (1 - LEVEL) / 2) * (size / (size - 1)) ** 0.5))


def interval(
    values: npt.NDArray[np.float64], size: float = np.inf
) -> tuple[float, float] | tuple[None, None]:
    """The 95% percentile interval of a figure over resamples, without those where it is undefined.

    Args:
        values: Shape (resamples,); NaN where the figure is undefined.
        size: What the sample is worth (`effective_clusters`); the plain interval where infinite.

    Returns:
        Its ends; None where too many values are undefined.

    >>> low, high = interval(np.arange(201.0))
    >>> round(low, 9), round(high, 9)
    (5.0, 195.0)
    >>> interval(np.array([0.5, np.nan]))
    (None, None)
    """
    if undefined(values):
        return None, None
    tail = expanded_tail(size)
    low, high = np.nanquantile(values, [tail, 1 - tail]).tolist()
    return low, high


def p_value(values: npt.NDArray[np.float64], size: float = np.inf, observed: float | None = None) -> float:
    """Two-sided p-value of a difference being 0, by inversion of the interval.

    It is the smallest level at which the interval leaves out 0 (Efron & Tibshirani 1993, section
    15.4), from the share of resamples on the far side of 0 or on it. The test set itself counts as
    one more resample there, so that it is never 0 (Davison & Hinkley 1997, section 4.2). Where no
    resample lies there, counting has run out: the share is then that of a normal with the
    resamples' standard deviation, if it is smaller.

    Args:
        values: The difference in each resample, shape (resamples,); those that are NaN do not count.
        size: As for `interval`.
        observed: The difference on the test set; the resamples' mean where None.

    >>> round(p_value(np.arange(-4.0, 95.0)), 9)
    0.12
    >>> p_value(np.zeros(99))
    1.0
    >>> p_value(np.random.default_rng(0).normal(5, 1, 999)) < 1e-5
    True
    """
    known = values[~np.isnan(values)]
    tail = int(min(np.count_nonzero(known <= 0), np.count_nonzero(known >= 0)))
    share = (1 + tail) / (len(known) + 1)
    spread = float(known.std(ddof=1))
    if tail == 0 and spread > SAME:
        centre = float(known.mean()) if observed is None else observed
        share = min(share, float(special.ndtr(-abs(centre) / spread)))
    if size <= 1 or share >= 0.5:
        return 1.0
    if np.isinf(size):
        return 2 * share
    return float(2 * special.stdtr(size - 1, special.ndtri(share) * ((size - 1) / size) ** 0.5))
