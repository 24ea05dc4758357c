"""Calibration: whether a probability of 20% means melanoma in one lesion of five."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri

from evaluate.alignment import align
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import resampled
from evaluate.predictions import Kind, Predictions
from evaluate.ranking import Counts, Floats
from evaluate.recalibration import Grouped, inside
from evaluate.resampling import LEVEL, effective_clusters, usual_resamples
from evaluate.scored import Metric
from evaluate.skipped import without_skipped

BINS = 10
"""Number of equal-mass bins of the reliability data and the expected calibration error."""


class Figure(msgspec.Struct, frozen=True):
    """A calibration figure: the header of its column, and what it says."""

    title: str
    definition: str


FIGURES: dict[str, Figure] = {
    "brier": Figure("Brier score", "Mean squared difference of probability and outcome; 0 is perfect."),
    "slope": Figure(
        "Calibration slope", "Slope of the outcome on the logit of the score; 1 is perfect, less is overconfident."
    ),
    "intercept": Figure("Calibration intercept", "Intercept of that regression; 0 is perfect."),
    "in_the_large": Figure(
        "Calibration in the large",
        "Intercept with the slope held at 1; 0 is perfect, less means that scores are too high on average.",
    ),
    "ece": Figure(
        "Expected calibration error",
        f"Mean gap of melanoma share and mean score over {BINS} bins of equal numbers; 0 is perfect.",
    ),
}  # fmt: skip
"""Calibration figures by name, in the order of tables."""


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Lesion images of similar scores.

    Attributes:
        n: How many.
        positives: How many of them are melanomas.
        score: Their mean score.
        observed: The share of melanomas among them, with its Wilson interval over lesions: a
            bootstrap would call a bin without melanomas certain.
    """

    n: int
    positives: int
    score: float
    observed: Metric


class SystemCalibration(msgspec.Struct, frozen=True, kw_only=True):
    """Calibration of one system.

    Attributes:
        system: Its name.
        title: Its name in tables.
        metrics: The `FIGURES` by their names.
        bins: Reliability data, from the lowest scores up; empty for ranks.
    """

    system: str
    title: str
    metrics: dict[str, Metric]
    bins: tuple[Bin, ...] = ()


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """Calibration of systems on one test set.

    Attributes:
        systems: One for each system.
        test_prevalence: The share of melanomas in the test set.
        level: Level of the intervals, from resamples of whole patients.
        resamples: Number of resamples.
        seed: Their seed.
    """

    systems: tuple[SystemCalibration, ...]
    test_prevalence: float
    level: float
    resamples: int
    seed: int


def refused(kind: Kind) -> str:
    """Why scores of a kind may not be taken for probabilities; empty where they may.

    Every figure that takes a score for a probability asks here.
    """
    return "" if kind == "probability" else "the scores are ranks, or not known to be probabilities"


def calibration_of(
    predictions: Sequence[Predictions], labels: Labels, *, resamples: int | None = None, seed: int = 0
) -> Calibration:
    """Calibration of each system, with intervals from a bootstrap over patients.

    The Brier score is the mean squared difference of probability and outcome (Brier 1950, Mon.
    Weather Rev. 78, 1). Slope and intercept are those of logistic recalibration, outcome on logit
    of the score (Cox 1958, Biometrika 45, 562); calibration in the large is the intercept with the slope
    held at 1 (Van Calster et al. 2019, BMC Med. 17, 230). The expected calibration error averages the
    gap of melanoma share and mean score over bins of equal numbers (Nguyen & O'Connor 2015,
    EMNLP; Nixon et al. 2019, CVPR workshops); images of one score share a bin.

    Do not trust calibration to carry over: it changes with how frequent melanoma is, and a biopsy
    series is not a clinic. The Brier score mixes calibration with ranking and with prevalence. The
    expected calibration error is too high in small sets, more so the more bins, and resampling adds
    to that: it gets no interval. From ranks nothing here is computed.

    With more than `evaluate.recalibration.MOST_IMAGES` images the resamples of slope and intercepts take images of nearly the same
    score together; the figures themselves are of single images always.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        resamples: Number of resamples; None for the usual one (`evaluate.resampling.usual_resamples`).
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together.
        UsageError: Too few resamples are asked for.
    """
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    if resamples is None:
        resamples = usual_resamples(int(clusters.max()) + 1)
    aligned = [align(given, labels) for given in predictions]
    usable = [each.scores for each in aligned if not refused(each.kind)]
    found = iter(_of_systems(usable, melanoma, clusters, resamples, seed) if usable else ())
    systems = []
    for given, each in zip(predictions, aligned, strict=True):
        reason = refused(each.kind)
        metrics: dict[str, Metric] = dict.fromkeys(FIGURES, Metric(value=None, reason=reason))
        bins: tuple[Bin, ...] = ()
        if not reason:
            metrics, bins = next(found)
        systems.append(SystemCalibration(system=given.system, title=given.called, metrics=metrics, bins=bins))
    return Calibration(
        systems=tuple(systems),
        test_prevalence=float(melanoma.mean()),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
    )


def equal_mass_bins(scores: Floats, bins: int = BINS) -> npt.NDArray[np.intp]:
    """The bin of each image, from 0 for the lowest scores; equal scores share a bin.

    An image with k of n images below it is in bin floor(bins · k / n), so that bins hold equal
    numbers where no scores are equal. A bin may be empty where many are.

    >>> equal_mass_bins(np.array([0.1, 0.4, 0.2, 0.9]), 2).tolist()
    [0, 1, 0, 1]
    >>> equal_mass_bins(np.array([0.5, 0.5, 0.5, 0.9]), 2).tolist()
    [0, 0, 0, 1]
    """
    below = np.searchsorted(np.sort(scores), scores)
    found: npt.NDArray[np.intp] = bins * below // len(scores)
    return found


def _of_systems(
    scores: Sequence[Floats], melanoma: npt.NDArray[np.bool_], clusters: npt.NDArray[np.intp],
    resamples: int, seed: int,
) -> list[tuple[dict[str, Metric], tuple[Bin, ...]]]:  # fmt: skip
    """Figures and bins of each system, all from the same resamples."""
    size = effective_clusters(melanoma, clusters)
    grouped = [Grouped(each, melanoma, clusters) for each in scores]
    loss = np.stack([np.bincount(clusters, (each - melanoma) ** 2) for each in scores])
    images = np.bincount(clusters).astype(np.float64)
    brier = loss.sum(axis=1) / images.sum()
    values = np.array([[one, *each.of_images()] for one, each in zip(brier, grouped, strict=True)])

    def figures(weights: Counts) -> Floats:
        fits = np.stack([each.of_resamples(weights) for each in grouped])
        times = weights.astype(np.float64)
        return np.concatenate([(loss @ times / (images @ times))[:, np.newaxis], fits], axis=1)

    rows = max(each.rows for each in grouped)
    drawn = resampled(figures, int(clusters.max()) + 1, resamples, seed, rows=rows)
    return [
        _of_system(own, melanoma, point, replicated, size)
        for own, point, replicated in zip(scores, values, drawn, strict=True)
    ]


def _of_system(
    scores: Floats, melanoma: npt.NDArray[np.bool_], values: Floats, drawn: Floats, size: float
) -> tuple[dict[str, Metric], tuple[Bin, ...]]:
    flat = (
        "the scores separate the classes or are all equal"
        if inside(scores)
        else "a score is exactly 0 or 1, where the logit is infinite"
    )
    reasons = {"brier": "", "slope": flat, "intercept": flat, "in_the_large": flat}
    metrics = {
        name: estimate(value, replicated, reason, size)
        for (name, reason), value, replicated in zip(reasons.items(), values.tolist(), drawn, strict=True)
    }
    bin_of = equal_mass_bins(scores)
    bins = tuple(
        Bin(
            n=int(each.sum()),
            positives=int(melanoma[each].sum()),
            score=float(scores[each].mean()),
            observed=_share(int(melanoma[each].sum()), int(each.sum())),
        )
        for each in (bin_of == number for number in np.unique(bin_of))
    )
    gaps = [abs(each.positives - each.n * each.score) for each in bins]
    ece = Metric(
        value=sum(gaps) / len(scores),
        reason="no interval: resampling adds to this figure, so that an interval would lie too high",
    )
    return {**metrics, "ece": ece}, bins


def _share(positives: int, n: int) -> Metric:
    """A share with its interval by Wilson (1927, J. Am. Stat. Assoc. 22, 209)."""
    z = float(ndtri((1 + LEVEL) / 2))
    value = positives / n
    centre = (positives + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * (positives * (n - positives) / n + z**2 / 4) ** 0.5
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    # Rounding may leave the ends for none and for all a hair inside the share itself.
    return Metric(value=value, low=min(value, low), high=max(value, high))
