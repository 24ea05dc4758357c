"""Decision curves: whether acting on a system does more good than treating all or none."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pandas as pd

from evaluate.alignment import align
from evaluate.calibration import refused
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import resampled
from evaluate.predictions import Predictions
from evaluate.ranking import Confusion, Counts, Floats, Ranking
from evaluate.resampling import LEVEL, effective_clusters, usual_resamples
from evaluate.scored import Metric
from evaluate.skipped import without_skipped
from zoo.errors import UsageError

THRESHOLDS = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
"""Threshold probabilities that are shown where none are asked for."""


class SystemDecision(msgspec.Struct, frozen=True, kw_only=True):
    """Net benefit of one system, at each threshold of the curve.

    Attributes:
        system: Its name.
        title: Its name in tables.
        net_benefit: One figure per threshold.
    """

    system: str
    title: str
    net_benefit: tuple[Metric, ...]


class DecisionCurves(msgspec.Struct, frozen=True, kw_only=True):
    """Net benefit of systems, and of treating without one.

    Attributes:
        thresholds: Threshold probabilities.
        treat_all: Net benefit of excising every lesion, per threshold; that of none is 0.
        systems: Net benefit of each system.
        prevalence: The share of melanomas re-weighted to; None for that of the test set.
        test_prevalence: The share of melanomas in the test set.
        level: Level of the intervals, from resamples of whole patients.
        resamples: Number of resamples.
        seed: Their seed.
    """

    thresholds: tuple[float, ...]
    treat_all: tuple[float, ...]
    systems: tuple[SystemDecision, ...]
    prevalence: float | None
    test_prevalence: float
    level: float
    resamples: int
    seed: int


def decision_curves(
    predictions: Sequence[Predictions],
    labels: Labels,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    prevalence: float | None = None,
    resamples: int | None = None,
    seed: int = 0,
) -> DecisionCurves:
    """Net benefit of acting on each system, with intervals from a bootstrap over patients.

    The net benefit at a threshold probability t is TP/n − FP/n · t/(1 − t): true positives per
    lesion, less false positives at the rate at which someone who acts from probability t on would
    trade them (Vickers & Elkin 2006, Med. Decis. Making 26, 565). At t = 0.1 nine needless
    excisions weigh as much as one melanoma found. A system is of use at t where it beats both
    excising all lesions and excising none. With `prevalence`, TP/n and FP/n are re-weighted as in
    `Confusion.at_prevalence`; the scores themselves stay as they are.

    Do not trust it for scores that are not calibrated: a threshold on a score is then not the
    threshold probability that was meant, and a good ranking may look useless. From ranks it is
    not computed at all. A biopsy series holds only lesions that someone chose to biopsy, so
    "excise all" is what was in fact done there.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        thresholds: Threshold probabilities, above 0 and below 1.
        prevalence: Share of melanomas to re-weight to.
        resamples: Number of resamples; None for the usual one (`evaluate.resampling.usual_resamples`).
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together.
        UsageError: A threshold or the prevalence is not a share, or too few resamples are asked for.
    """
    for share in (*thresholds, *([] if prevalence is None else [prevalence])):
        if not 0 < share < 1:
            raise UsageError(
                f"{share:g} is not above 0 and below 1; give thresholds and prevalence as shares"
            )
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    size = effective_clusters(melanoma, clusters)
    if resamples is None:
        resamples = usual_resamples(int(clusters.max()) + 1)
    aligned = [align(given, labels) for given in predictions]
    usable = [Ranking(each.scores, melanoma, clusters) for each in aligned if not refused(each.kind)]
    figures = iter(_figures(usable, thresholds, prevalence, resamples, seed, size) if usable else ())
    systems = [
        SystemDecision(
            system=given.system,
            title=given.called,
            net_benefit=(Metric(value=None, reason=reason),) * len(thresholds)
            if (reason := refused(each.kind))
            else tuple(next(figures)),
        )
        for given, each in zip(predictions, aligned, strict=True)
    ]
    share = melanoma.mean() if prevalence is None else prevalence
    return DecisionCurves(
        thresholds=tuple(thresholds),
        treat_all=tuple(float(share - (1 - share) * t / (1 - t)) for t in thresholds),
        systems=tuple(systems),
        prevalence=prevalence,
        test_prevalence=float(melanoma.mean()),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
    )


def net_benefit(counts: Confusion, threshold: float) -> Floats:
    """TP/n − FP/n · t/(1 − t) at the threshold probability t.

    >>> one = np.array([1.0])
    >>> net_benefit(Confusion(30 * one, 90 * one, 40 * one, 160 * one), 0.1).round(6).tolist()
    [0.1]
    """
    odds = threshold / (1 - threshold)
    everyone = counts.positives + counts.negatives
    benefit: Floats = (counts.true_positives - odds * counts.false_positives) / everyone
    return benefit


def _figures(
    rankings: Sequence[Ranking], thresholds: Sequence[float], prevalence: float | None, resamples: int,
    seed: int, size: float,
) -> list[list[Metric]]:  # fmt: skip
    def curve(ranking: Ranking, weights: Counts) -> Floats:
        found = []
        for threshold, counts in zip(thresholds, ranking.at_all(tuple(thresholds), weights), strict=True):
            with np.errstate(divide="ignore", invalid="ignore"):
                used = counts if prevalence is None else counts.at_prevalence(prevalence)
            found.append(net_benefit(used, threshold))
        return np.stack(found)

    def curves(weights: Counts) -> Floats:
        return np.stack([curve(ranking, weights) for ranking in rankings])

    every = rankings[0].unweighted
    drawn = resampled(curves, len(every), resamples, seed, rows=len(thresholds))
    return [
        [
            estimate(
                value, replicated, "a class is missing", size, threshold=threshold, threshold_from="fixed"
            )
            for value, replicated, threshold in zip(values, of_system, thresholds, strict=True)
        ]
        for values, of_system in zip(curves(every)[..., 0].tolist(), drawn, strict=True)
    ]
