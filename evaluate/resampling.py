"""The bootstrap: weights of clusters, and intervals from what is measured under them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from zoo.errors import UsageError

Weights = npt.NDArray[np.int32]
"""How often each cluster was drawn, shape (clusters, resamples)."""

LEVEL = 0.95
"""Level of all intervals."""

RESAMPLES = 1000
"""Resamples where none are asked for: enough for Holm over the pairs of seven systems. A family that needs
more to tell anything apart says how many."""

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
        count = min(chunk, resamples - start)
        drawn = random.integers(clusters, size=(count, clusters))
        cells = drawn * count + np.arange(count)[:, np.newaxis]
        weights = np.bincount(cells.ravel(), minlength=clusters * count)
        yield weights.reshape(clusters, count).astype(np.int32)


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


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """The 95% percentile interval of a figure over resamples, without those where it is undefined.

    Args:
        values: Shape (resamples,); NaN where the figure is undefined.

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
    low, high = np.nanquantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high
