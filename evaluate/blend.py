"""From the scores of members and folds to the one score of a system."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]


def blend(members: Mapping[str, Floats], how: Literal["mean", "rank_mean"]) -> Floats:
    """One score per image: the mean over each member's folds, then over members.

    Args:
        members: Floats of each member, shape (images, folds); all members on the same images.
        how: What is averaged over members: the scores, or their percentile ranks.

    Returns:
        Shape (images,). NaN wherever a score that goes into it is.

    >>> two = {"a": np.array([[0.1, 0.3], [0.9, 0.7]]), "b": np.array([[0.6], [0.4]])}
    >>> blend(two, "mean").round(3).tolist()
    [0.4, 0.6]
    >>> blend(two, "rank_mean").tolist()
    [0.75, 0.75]
    """
    over_folds = [scores.mean(axis=1) for scores in members.values()]
    if how == "rank_mean":
        over_folds = [percentile_rank(scores) for scores in over_folds]
    blended: Floats = np.stack(over_folds).mean(axis=0)
    return blended


def blend_in_turn(trainings: Iterable[tuple[str, Floats]], how: Literal["mean", "rank_mean"]) -> Floats:
    """As `blend`, of scores that come one training after another: in memory are one sum for each member.

    Args:
        trainings: The member of each, and its scores, shape (images,); all on the same images.
        how: As of `blend`.

    >>> blend_in_turn([("a", np.array([0.1, 0.9])), ("b", np.array([0.6, 0.4])), ("a", np.array([0.3, 0.7]))],
    ...     "mean").round(3).tolist()
    [0.4, 0.6]
    """
    sums: dict[str, Floats] = {}
    folds: Counter[str] = Counter()
    for member, scores in trainings:
        sums[member] = sums[member] + scores if member in sums else scores
        folds[member] += 1
    return blend({member: (total / folds[member])[:, None] for member, total in sums.items()}, how)


def percentile_rank(scores: Floats) -> Floats:
    """Rank from 1 (ties share their mean rank) divided by the number of scores.

    This is `pandas.Series.rank(pct=True)`, with which the first-place authors blend
    (github.com/haqishen/SIIM-ISIC-Melanoma-Classification-1st-Place-Solution).

    >>> percentile_rank(np.array([0.2, 0.9, 0.2, 0.4])).tolist()
    [0.375, 1.0, 0.375, 0.75]
    """
    return np.asarray(pd.Series(scores).rank(pct=True), dtype=np.float64)
