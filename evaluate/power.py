"""How small a difference a test set can show."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from statistics import NormalDist

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.alignment import Aligned
from evaluate.labels import Labels
from evaluate.measure import replicates
from evaluate.metrics import roc_auc
from evaluate.protocols import named
from evaluate.ranking import Ranking
from evaluate.resampling import LEVEL

POWER = 0.8
"""Probability with which a true difference is to be seen."""

LARGEST_RESAMPLES = 200
"""Enough for a standard error: its own is then 5% of it."""


class Detectable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The smallest difference in ROC-AUC between two systems that the test set can show.

    Attributes:
        a: A system.
        b: Another.
        difference: ROC-AUC of `a` minus that of `b`, as observed.
        standard_error: Of that difference.
        smallest: The difference that would be seen with 80% power.
    """

    a: str
    b: str
    difference: float
    standard_error: float
    smallest: float


def smallest_difference(standard_error: float) -> float:
    """The true difference that a two-sided test at 5% finds significant with a probability of 80%.

    (z(0.975) + z(0.8)) × the standard error of the paired difference: Hanley & McNeil, A method of
    comparing the areas under ROC curves derived from the same cases, Radiology 148 (1983) 839-843.

    >>> round(smallest_difference(0.02), 4)
    0.056
    """
    normal = NormalDist()
    return (normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(POWER)) * standard_error


def detectable(
    aligned: Mapping[str, Aligned], labels: Labels, *, resamples: int = LARGEST_RESAMPLES, seed: int = 0
) -> tuple[Detectable, ...]:
    """The smallest difference that can be seen between any two systems, in their order.

    The standard error is that of the paired difference over resamples of whole patients (Rutter,
    Bootstrap estimation of diagnostic accuracy with patient-clustered data, Academic Radiology 7
    (2000) 413-419): Hanley and McNeil's own takes lesions as independent.
    """
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    rankings = [Ranking(each.scores, melanoma, clusters) for each in aligned.values()]
    columns = (named("clinical").column("roc_auc"),)
    drawn = dict(
        zip(
            aligned, replicates(rankings, columns, min(resamples, LARGEST_RESAMPLES), seed)[:, 0], strict=True
        )
    )
    observed = {name: area(each.scores, melanoma) for name, each in aligned.items()}
    found = []
    for a, b in itertools.combinations(aligned, 2):
        error = float(np.nanstd(drawn[a] - drawn[b], ddof=1))
        found.append(
            Detectable(
                a=a,
                b=b,
                difference=observed[a] - observed[b],
                standard_error=error,
                smallest=smallest_difference(error),
            )
        )
    return tuple(found)


def area(scores: npt.NDArray[np.float64], melanoma: npt.NDArray[np.bool_]) -> float:
    """ROC-AUC of one score per lesion image, both of shape (images,)."""
    ranking = Ranking(scores, melanoma, np.arange(len(scores)))
    return float(roc_auc(ranking.curve(ranking.unweighted)).item())
