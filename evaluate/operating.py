"""Systems at clinical operating points: what a threshold calls, and what a call then means."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import pandas as pd

from evaluate.alignment import align
from evaluate.development import Development, carries_over
from evaluate.estimate import estimate
from evaluate.labels import Labels
from evaluate.measure import measure, replicates, threshold
from evaluate.metrics import Floats, Ranking
from evaluate.predictions import Predictions, system_title
from evaluate.protocols import Column, OperatingPoint
from evaluate.resampling import LEVEL
from evaluate.scores import Metric
from evaluate.skipped import without_skipped
from zoo.errors import UsageError


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure at an operating point.

    Attributes:
        title: Header of its column.
        definition: One sentence for a reader.
        undefined: When it is undefined or infinite.
        of_prevalence: Whether it changes with how frequent melanoma is.
    """

    title: str
    definition: str
    undefined: str = "a class is missing"
    of_prevalence: bool = False


FIGURES: dict[str, Figure] = {
    "sensitivity": Figure(title="Sensitivity", definition="Share of melanomas that are called."),
    "specificity": Figure(title="Specificity", definition="Share of other lesions that are passed."),
    "ppv": Figure(
        title="PPV",
        definition="Share of called lesions that are melanoma.",
        undefined="no lesion is called",
        of_prevalence=True,
    ),
    "npv": Figure(
        title="NPV",
        definition="Share of passed lesions that are not melanoma.",
        undefined="no lesion is passed",
        of_prevalence=True,
    ),
    "balanced_accuracy": Figure(title="Balanced accuracy", definition="Mean of sensitivity and specificity."),
    "likelihood_ratio_positive": Figure(
        title="LR+",
        definition="Sensitivity / (1 − specificity): what a call multiplies the odds of melanoma by.",
        undefined="no lesion but melanomas is called",
    ),
    "likelihood_ratio_negative": Figure(
        title="LR−",
        definition="(1 − sensitivity) / specificity: what a pass multiplies the odds of melanoma by.",
        undefined="no lesion but melanomas is passed",
    ),
    "number_needed_to_biopsy": Figure(
        title="Number needed to biopsy",
        definition="1 / PPV: called lesions per melanoma among them.",
        undefined="no melanoma is called",
        of_prevalence=True,
    ),
    "f1": Figure(
        title="F1",
        definition="Harmonic mean of PPV and sensitivity.",
        of_prevalence=True,
    ),
}
"""Figures at an operating point by their names in `evaluate.metrics`, in the order of tables."""


POINTS = (
    OperatingPoint(by="sensitivity", value=0.9),
    OperatingPoint(by="sensitivity", value=0.95),
    OperatingPoint(by="specificity", value=0.9),
)
"""Operating points where none are named."""


class AtPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One system at one operating point.

    Attributes:
        system: Its name.
        title: Its name in tables.
        wanted: The sensitivity or specificity that was asked for.
        threshold: The score from which on a lesion is called; None where nothing may be called.
        threshold_from: Whether it was locked on `development` predictions, or chosen on the
            `test set` itself, which makes every figure here optimistic.
        metrics: The `FIGURES` by their names.
    """

    system: str
    title: str
    wanted: OperatingPoint
    threshold: float | None
    threshold_from: Literal["development", "test set"]
    metrics: dict[str, Metric]


class OperatingPoints(msgspec.Struct, frozen=True, kw_only=True):
    """Systems at operating points.

    Attributes:
        rows: One for each system and point, points of a system together.
        prevalence: The share of melanomas that figures are re-weighted to; None where they are
            those of the test set.
        test_prevalence: The share of melanomas in the test set.
        level: Level of the intervals, from resamples of whole patients.
        resamples: Number of resamples.
        seed: Their seed.
        notes: What a reader must know.
    """

    rows: tuple[AtPoint, ...]
    prevalence: float | None
    test_prevalence: float
    level: float
    resamples: int
    seed: int
    notes: tuple[str, ...] = ()


def read_point(text: str) -> OperatingPoint:
    """An operating point from words such as `sensitivity=0.9`.

    Raises:
        UsageError: They are other words.

    >>> read_point("specificity=0.9").value
    0.9
    """
    match = re.fullmatch(r"\s*(sensitivity|specificity)\s*=\s*(\d*\.?\d+)\s*", text)
    if not match:
        raise UsageError(f"no operating point {text!r}; write it as sensitivity=0.9 or specificity=0.9")
    by: Literal["sensitivity", "specificity"] = "sensitivity" if match[1] == "sensitivity" else "specificity"
    return OperatingPoint(by=by, value=float(match[2]))


def operating_points(
    predictions: Sequence[Predictions],
    labels: Labels,
    points: Sequence[OperatingPoint],
    *,
    development: Mapping[str, Development] | None = None,
    prevalence: float | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> OperatingPoints:
    """Systems at operating points, each figure with the interval of a bootstrap over patients.

    A threshold that development predictions give is locked: it is the same in every resample. One
    chosen on the test set is chosen anew in every resample, so that the interval holds what the
    choice costs; the figures stay optimistic all the same and are marked.

    Predictive values follow how frequent melanoma is. With `prevalence` they are re-weighted by
    Bayes' theorem: PPV = se p / (se p + (1 − sp)(1 − p)), NPV = sp (1 − p) / (sp (1 − p) + (1 − se) p),
    and so are the number needed to biopsy and F1 (Altman & Bland 1994, BMJ 309, 102). Likelihood ratios
    do not depend on it (Deeks & Altman 2004, BMJ 329, 168).

    Do not trust a wanted sensitivity to be reached elsewhere: a threshold is as good as the
    development images are like the patients it is used on. Figures at one threshold say nothing
    of others; compare two systems at the same sensitivity or the same specificity.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        points: By `sensitivity` or `specificity`.
        development: By system; those without choose on the test set.
        prevalence: Share of melanomas to re-weight to, above 0 and below 1.
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels, or test and development scores, do not fit together, or
            development images are test images.
        UsageError: A point or the prevalence is not a share, development predictions are of a
            system that is not scored, or too few resamples are asked for.
    """
    locked = dict(development or {})
    _check(points, prevalence, locked, [each.system for each in predictions])
    predictions, labels = without_skipped(predictions, labels)
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"])
    rows: list[AtPoint] = []
    notes = []
    for given in predictions:
        aligned = align(given, labels)
        dev = locked.get(given.system)
        if dev:
            notes += carries_over(dev, aligned, given, labels)
        found = _at_points(
            Ranking(aligned.scores, melanoma, clusters), points, dev, prevalence, resamples, seed
        )
        rows += [
            AtPoint(
                system=given.system,
                title=system_title(given.system),
                wanted=point,
                threshold=cut if np.isfinite(cut) else None,
                threshold_from="development" if dev else "test set",
                metrics=metrics,
            )
            for point, (cut, metrics) in zip(points, found, strict=True)
        ]
    return OperatingPoints(
        rows=tuple(rows),
        prevalence=prevalence,
        test_prevalence=float(melanoma.mean()),
        level=LEVEL,
        resamples=resamples,
        seed=seed,
        notes=tuple(notes),
    )


def _at_points(
    ranking: Ranking, points: Sequence[OperatingPoint], dev: Development | None,
    prevalence: float | None, resamples: int, seed: int,
) -> list[tuple[float, dict[str, Metric]]]:  # fmt: skip
    """The threshold and the figures of each point."""
    cuts = [threshold(dev.ranking if dev else ranking, point) for point in points]
    used = [OperatingPoint(by="threshold", value=cut) for cut in cuts] if dev else list(points)
    columns = [
        Column(name=name, title=figure.title, definition=figure.definition, metric=name, point=point)
        for point in used
        for name, figure in FIGURES.items()
    ]
    values = measure(ranking, columns, ranking.unweighted, prevalence)[:, 0].reshape(len(points), -1)
    drawn = replicates([ranking], columns, resamples, seed, prevalence)[0].reshape(*values.shape, -1)
    return [
        (cut, _metrics(cut, "development" if dev else "test set", at, in_resamples))
        for cut, at, in_resamples in zip(cuts, values, drawn, strict=True)
    ]


def _metrics(
    cut: float, origin: Literal["development", "test set"], values: Floats, drawn: Floats
) -> dict[str, Metric]:
    return {
        name: estimate(
            value, replicated, figure.undefined,
            threshold=cut if np.isfinite(cut) else None, threshold_from=origin,
        )
        for (name, figure), value, replicated in zip(FIGURES.items(), values.tolist(), drawn, strict=True)
    }  # fmt: skip


def _check(
    points: Sequence[OperatingPoint],
    prevalence: float | None,
    development: Mapping[str, Development],
    systems: Sequence[str],
) -> None:
    for point in points:
        if point.by == "threshold" or not 0 < point.value <= 1:
            raise UsageError(
                f"no operating point at {point.by}={point.value:g}; give a sensitivity or specificity "
                "above 0 and at most 1, as in sensitivity=0.9"
            )
    if prevalence is not None and not 0 < prevalence < 1:
        raise UsageError(
            f"a prevalence of {prevalence:g} is not above 0 and below 1; give a share, as in 0.02"
        )
    for system, dev in development.items():
        if system not in systems:
            raise UsageError(
                f"{dev.path}: development predictions of {system}, which is not scored "
                f"({', '.join(systems)} are); name the file as the one that is scored"
            )
