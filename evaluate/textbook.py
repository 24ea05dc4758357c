"""Textbook tests of a difference between two systems, to stand beside the clustered bootstrap.

DeLong for the ROC-AUC, McNemar for shares of images got right at a threshold. As they were published both
take images for independent; here they keep the images of one cluster together, and are the published ones
where each cluster is one image. McNemar takes the thresholds for fixed: where the test set chose them, it
is far too sure (benchmarks/results/intervals.md), and no p-value is given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import special

from evaluate.delong import DeLong
from evaluate.protocols import Column
from evaluate.ranking import Floats

Booleans = npt.NDArray[np.bool_]

_SHARE_OF: dict[str, Callable[[Booleans], Booleans]] = {
    "sensitivity": lambda melanoma: melanoma,
    "specificity": lambda melanoma: ~melanoma,
    "accuracy": lambda melanoma: np.ones_like(melanoma),
}
"""Metrics that are a share of images got right, with the images they are a share of."""


class Textbook(msgspec.Struct, frozen=True, kw_only=True):
    """The textbook test of a difference.

    Attributes:
        test: `DeLong`, or `McNemar` (exact).
        p: Its two-sided p-value; None as `reason` says.
        p_adjusted: The same after Holm, over the same family as its difference.
        low: Lower end of its 95% interval; None for McNemar, which has none, or as `reason` says.
        high: Upper end.
        only_a: McNemar: images that system `a` alone gets right.
        only_b: McNemar: images that system `b` alone gets right.
        reason: Why a figure is missing.
    """

    test: Literal["DeLong", "McNemar"]
    p: float | None
    p_adjusted: float | None = None
    low: float | None = None
    high: float | None = None
    only_a: int | None = None
    only_b: int | None = None
    reason: str = ""


def tests(
    columns: Sequence[Column],
    scores: Floats,
    melanoma: Booleans,
    thresholds: Sequence[Sequence[float | None]],
    fixed: Sequence[Sequence[bool]],
    clusters: npt.NDArray[np.intp] | None,
) -> dict[tuple[str, int, int], Textbook]:
    """The textbook tests of all pairs of systems, by name of the figure and index of the two.

    Args:
        columns: The figures; those that have no textbook test are left out.
        scores: Shape (systems, images).
        melanoma: Whether an image is of a melanoma, shape (images,).
        thresholds: Threshold of each system (rows) for each figure; None where it has none.
        fixed: Whether each of these was fixed before the test set was seen; two systems have a p-value where
            both were.
        clusters: Number of the patient of each image, shape (images,); None where images are independent.
    """
    pairs = list(combinations(range(len(scores)), 2))
    found: dict[tuple[str, int, int], Textbook] = {}
    for column, cuts, beforehand in zip(
        columns, zip(*thresholds, strict=True), zip(*fixed, strict=True), strict=True
    ):
        if column.metric == "roc_auc":
            delong = DeLong(scores, melanoma, clusters)
            found |= {(column.name, a, b): _delong(delong, a, b) for a, b in pairs}
        elif column.metric in _SHARE_OF and None not in cuts:
            of = _SHARE_OF[column.metric](melanoma)
            right = (scores[:, of] >= np.array(cuts, dtype=np.float64)[:, np.newaxis]) == melanoma[of]
            units = np.arange(np.count_nonzero(of)) if clusters is None else clusters[of]
            found |= {
                (column.name, a, b): _mcnemar(right[a], right[b], units, beforehand[a] and beforehand[b])
                for a, b in pairs
            }
    return found


def _delong(delong: DeLong, a: int, b: int) -> Textbook:
    found = delong.difference(a, b)
    return Textbook(test="DeLong", p=found.p, low=found.low, high=found.high, reason=found.reason)


def _mcnemar(a: Booleans, b: Booleans, clusters: npt.NDArray[np.intp], fixed: bool) -> Textbook:
    only_a, only_b = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
    net = np.bincount(clusters, a.astype(np.float64) - b).astype(np.int64)
    return Textbook(
        test="McNemar",
        p=mcnemar_clustered(net) if fixed else None,
        only_a=only_a,
        only_b=only_b,
        reason="" if fixed else "thresholds chosen on this test set",
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test (McNemar 1947, doi 10.1007/BF02295996).

    Under no difference each image that one system alone gets right is as likely to be that of either.

    Args:
        only_a: Images that the one system alone gets right.
        only_b: Images that the other alone gets right.

    >>> round(mcnemar(1, 5), 9), mcnemar(0, 0)
    (0.21875, 1.0)
    """
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def mcnemar_clustered(net: npt.NDArray[np.int64]) -> float:
    """Two-sided p-value of McNemar's exact test with the images of each cluster kept together.

    Under no difference the systems could change places in any cluster, so that its net count is as likely
    to be negative as positive: Fisher's randomisation test of paired differences (The Design of
    Experiments, 1935, section 21), with the distribution of the sum worked out exactly. Where all net
    counts are -1, 0 or 1 it is `mcnemar`.

    Args:
        net: Images that the one system alone gets right less those that the other does, shape (clusters,).

    >>> round(mcnemar_clustered(np.array([1, -1, -1, 0, -1, -1, -1])), 9)
    0.21875
    >>> round(mcnemar_clustered(np.array([3, 3, 3])), 9), mcnemar_clustered(np.array([0]))
    (0.25, 1.0)
    """
    from scipy.signal import convolve  # It takes a noticeable time to import.

    sizes, times = np.unique(np.abs(net[net != 0]), return_counts=True)
    if sizes.tolist() == [1]:
        return mcnemar(int(np.sum(net > 0)), int(np.sum(net < 0)))
    # Of the clusters of one size, k of n positive: the sum is size * (2k - n). In steps of 2 from the lowest.
    chances = np.ones(1)
    for size, number in zip(sizes.tolist(), times.tolist(), strict=True):
        spaced = np.zeros(size * number + 1)
        positive = np.arange(number + 1)
        ways = (
            special.gammaln(number + 1)
            - special.gammaln(positive + 1)
            - special.gammaln(number - positive + 1)
        )
        spaced[::size] = np.exp(ways - number * np.log(2))
        chances = convolve(chances, spaced)
    above = (len(chances) - 1 + abs(int(net.sum()))) // 2
    return min(1.0, 2 * float(np.clip(chances[above:], 0, None).sum()))
