"""Scores of systems on one test set, and differences between two of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import pandas as pd

from evaluate import protocols
from evaluate.alignment import Aligned, align
from evaluate.labels import Labels
from evaluate.measure import measure, replicates, threshold
from evaluate.metrics import Floats, Ranking
from evaluate.paired import Difference, differences, groups
from evaluate.predictions import Kind, Predictions, system_title
from evaluate.protocols import Column, Protocol
from evaluate.resampling import LEVEL, RESAMPLES, interval, undefined
from evaluate.skipped import note, without_skipped
from evaluate.textbook import tests
from zoo.errors import UsageError

FEWEST_RESAMPLES = 40
"""With fewer, a tail of a 95% percentile interval would hold less than one resample."""

_RANKS = "The scores are ranks, or not known to be probabilities: 0.5 is only a point on their scale."


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of one system.

    Attributes:
        value: The figure; None where it is not defined.
        low: Lower end of its interval; None where the protocol gives none, or as `reason` says.
        high: Upper end of its interval; None beside a `low` where it is infinite.
        reason: Why a figure or its interval is not defined; empty where they are.
        threshold: The score from which on an image is called melanoma; None where the metric has none.
        threshold_from: Where the threshold comes from: `fixed` by the protocol; locked on
            `development` predictions; or chosen on the `test set`, or on `each resample` anew, which makes the figure optimistic.
        undefined: In how many resamples the figure is not defined, because they lack a class.
        group: Its letters: systems that share one cannot be told apart by this figure
            (`evaluate.paired`). Empty for a figure that is not compared.
        note: What a reader of this figure must know.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    reason: str = ""
    threshold: float | None = None
    threshold_from: Literal["fixed", "development", "test set", "each resample"] | None = None
    undefined: int = 0
    group: str = ""
    note: str = ""


class SystemScores(msgspec.Struct, frozen=True, kw_only=True):
    """All figures of one system.

    Attributes:
        system: Its name.
        title: Its name in tables.
        kind: Whether its scores are probabilities or ranks. From ranks no figure may be computed
            that takes them for probabilities (calibration, Brier score, net benefit).
        path: File of its predictions.
        sha256: Checksum of that file.
        rows_per_image: How many rows were averaged per lesion image (test-time copies).
        metrics: Its figures by their names in the protocol.
        notes: What a reader must know.
    """

    system: str
    title: str
    kind: Kind
    path: str
    sha256: str
    rows_per_image: int
    metrics: dict[str, Metric]
    notes: tuple[str, ...] = ()


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """Scores of systems on one test set.

    Attributes:
        protocol: Name of the protocol (`evaluate.protocols`).
        labels: The table of labels.
        labels_sha256: Its checksum.
        n: Number of lesion images.
        positives: How many of them are melanomas.
        patients: Number of patients.
        cluster: What was resampled as a whole.
        level: Level of the intervals.
        resamples: Number of resamples; all systems and figures share them.
        seed: Seed of the resamples.
        skipped: Lesion images that are in none of it, since a system has no score of them, and why.
        systems: Scores of each system, in the order of the predictions.
        differences: Of all pairs of systems, for every figure of the test set.
        notes: What a reader must know of all of them.
    """

    protocol: str
    labels: str
    labels_sha256: str
    n: int
    positives: int
    patients: int
    cluster: Literal["patient", "image"]
    level: float
    resamples: int
    seed: int
    systems: tuple[SystemScores, ...]
    differences: tuple[Difference, ...] = ()
    skipped: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    def frame(self) -> pd.DataFrame:
        """The figures as a pandas frame: a row per system, a column per figure; missing where not defined."""
        figures = {each.title: {name: m.value for name, m in each.metrics.items()} for each in self.systems}
        return pd.DataFrame.from_dict(figures, orient="index").rename_axis("system")

    def _repr_html_(self) -> str:
        return self.frame().to_html(float_format=lambda value: f"{value:.3f}", na_rep="n/a")


def score(
    predictions: Sequence[Predictions],
    labels: Labels,
    protocol: str = "clinical",
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Scores systems on the same lesion images.

    Under `clinical` the intervals are of a bootstrap over patients, since images of one patient
    are alike, and every resample chooses its threshold anew: choosing it on the test set is part
    of the procedure, and an interval at one fixed threshold would hide what that choice costs.

    Args:
        predictions: One for each system. Images that one of them skipped are left out for all.
        labels: Of all images, and no others.
        protocol: `clinical` or `paper`.
        resamples: How often to resample, at least `FEWEST_RESAMPLES`.
        seed: Seed of the resamples.

    Raises:
        InputError: Predictions and labels do not fit together.
        UsageError: There is no such protocol, or too few resamples are asked for.
    """
    plan = protocols.named(protocol)
    predictions, labels = without_skipped(predictions, labels)
    aligned = [align(each, labels) for each in predictions]
    rankings = _rankings(aligned, labels, plan)
    drawn = _replicates(rankings, plan.columns, resamples, seed)
    points = np.stack([measure(ranking, plan.columns, ranking.unweighted)[:, 0] for ranking in rankings])
    systems = []
    for given, scored, ranking, figures, values in zip(
        predictions, aligned, rankings, points, drawn, strict=True
    ):
        systems.append(
            SystemScores(
                system=given.system,
                title=system_title(given.system),
                kind=scored.kind,
                path=given.path,
                sha256=given.sha256,
                rows_per_image=scored.rows_per_image,
                metrics={
                    column.name: _metric(column, ranking, point, replicated, scored.kind)
                    for column, point, replicated in zip(plan.columns, figures.tolist(), values, strict=True)
                },
                notes=scored.notes,
            )
        )
    cuts = [[each.metrics[column.name].threshold for column in plan.columns] for each in systems]
    textbook = tests(
        plan.columns,
        np.stack([each.scores for each in aligned]),
        labels.table["melanoma"].to_numpy(),
        cuts,
        [not _chosen_here(column.name, systems) for column in plan.columns],
    )
    found = differences([each.system for each in systems], plan.columns, points, drawn, seed, textbook)
    return Scores(
        protocol=plan.name,
        labels=labels.path,
        labels_sha256=labels.sha256,
        n=len(labels.table),
        positives=int(labels.table["melanoma"].sum()),
        patients=labels.patients,
        cluster=plan.cluster,
        level=LEVEL,
        resamples=resamples,
        seed=seed,
        systems=_grouped(systems, found),
        differences=found,
        skipped=labels.skipped,
        notes=_notes(labels, plan),
    )


def difference(
    a: Predictions,
    b: Predictions,
    metric: str,
    labels: Labels,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """A figure of the `clinical` protocol of one system minus that of another, paired.

    Both are measured in the same resamples, so that what makes an image hard for both cancels.

    Raises:
        InputError: Predictions and labels do not fit together.
        UsageError: There is no such metric, or too few resamples are asked for.
    """
    protocols.named("clinical").column(metric)
    found = score([a, b], labels, resamples=resamples, seed=seed).differences
    return next(each for each in found if each.metric == metric)


def _rankings(aligned: Sequence[Aligned], labels: Labels, plan: Protocol) -> list[Ranking]:
    if not aligned:
        raise UsageError("no predictions to score; name at least one file")
    melanoma = labels.table["melanoma"].to_numpy()
    units = labels.table["patient"] if plan.cluster == "patient" else labels.table.index
    clusters, _ = pd.factorize(units)
    return [Ranking(each.scores, melanoma, clusters) for each in aligned]


def _replicates(rankings: Sequence[Ranking], columns: Sequence[Column], resamples: int, seed: int) -> Floats:
    if resamples < FEWEST_RESAMPLES:
        raise UsageError(f"{resamples} resamples are too few; take at least {FEWEST_RESAMPLES}")
    return replicates(rankings, columns, resamples, seed)


def _metric(column: Column, ranking: Ranking, point: float, values: Floats, kind: Kind) -> Metric:
    """A figure from its value on the test set and its values in the resamples."""
    at_fixed = column.point is not None and column.point.by == "threshold"
    chosen_on: Literal["test set", "each resample"] = "each resample" if column.mean else "test set"
    reason = undefined(values)
    low, high = (None, None) if column.mean else interval(values)
    mean = None if reason else float(np.nanmean(values))
    return Metric(
        value=mean if column.mean else point,
        low=low,
        high=high,
        reason=reason,
        threshold=threshold(ranking, column.point) if column.point and not column.mean else None,
        threshold_from=None if column.point is None else "fixed" if at_fixed else chosen_on,
        undefined=int(np.isnan(values).sum()),
        note=_RANKS if at_fixed and kind == "rank" else "",
    )


def _chosen_here(figure: str, systems: Sequence[SystemScores]) -> bool:
    return any(each.metrics[figure].threshold_from == "test set" for each in systems)


def _grouped(systems: Sequence[SystemScores], found: Sequence[Difference]) -> tuple[SystemScores, ...]:
    """The systems with the letters of each figure that was compared."""
    letters = {
        name: groups(
            [each.system for each in systems],
            [each.metrics[name].value for each in systems],
            [each for each in found if each.metric == name],
        )
        for name in dict.fromkeys(each.metric for each in found)
    }
    return tuple(
        msgspec.structs.replace(
            each,
            metrics={
                name: msgspec.structs.replace(metric, group=letters.get(name, {}).get(each.system, ""))
                for name, metric in each.metrics.items()
            },
        )
        for each in systems
    )


def _notes(labels: Labels, plan: Protocol) -> tuple[str, ...]:
    notes = note(labels.skipped, len(labels.table))
    if any(column.point and column.point.by != "threshold" for column in plan.columns):
        notes.append(
            "Thresholds that reach a sensitivity or specificity are chosen on this test set, which makes the figures "
            "at them optimistic."
        )
    if plan.cluster == "patient" and labels.without_patient:
        notes.append(
            f"The patient of {labels.without_patient} of {len(labels.table)} images is not known: each "
            "counts as a patient of its own, or as one with the other images of its lesion."
        )
    return tuple(notes)
