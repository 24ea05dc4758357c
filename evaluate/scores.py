"""Scores of systems on one test set, and differences between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np
import pandas as pd

from evaluate import protocols
from evaluate.alignment import align
from evaluate.development import Development, carries_over
from evaluate.labels import Labels
from evaluate.measure import measure, resampled, threshold
from evaluate.paired import Difference, differences, groups, mixed
from evaluate.predictions import Kind, Predictions
from evaluate.protocols import Column, OperatingPoint, Protocol
from evaluate.ranking import Counts, Floats, Ranking
from evaluate.resampling import LEVEL, SAME, THE_SAME, effective_clusters, enough, interval, undefined
from evaluate.scored import CHOSEN_HERE, Metric, Scores, SystemScores
from evaluate.skipped import note, without_skipped
from evaluate.textbook import tests
from zoo.errors import UsageError

_RANKS = "The scores are ranks, or not known to be probabilities: 0.5 is only a point on their scale."


def score(
    predictions: Sequence[Predictions],
    labels: Labels,
    protocol: str = "clinical",
    *,
    resamples: int | None = None,
    seed: int = 0,
    development: Mapping[str, Development] | None = None,
) -> Scores:
    """Scores systems on the same lesion images.

    Under `clinical` the intervals are of a bootstrap over patients, since images of one patient
    are alike, and every resample chooses its threshold anew: choosing it on the test set is part
    of the procedure, and an interval at one fixed threshold would hide what that choice costs.

    Args:
        predictions: One for each system. Images that one of them skipped are left out for all.
        labels: Of all images, and no others.
        protocol: `clinical` or `paper`.
        resamples: How often to resample, at least `evaluate.resampling.FEWEST_RESAMPLES`; None leaves it
            to the protocol (`Protocol.resamples_of`).
        seed: Seed of the resamples.
        development: Predictions that lock the thresholds of `clinical`, by system. The `paper` protocol
            always chooses them on the test set, as the authors did.

    Raises:
        InputError: Predictions and labels, or test and development scores, do not fit together.
        UsageError: There is no such protocol, or too few resamples are asked for.
    """
    plan = protocols.named(protocol)
    predictions, labels = without_skipped(predictions, labels)
    aligned = [align(each, labels) for each in predictions]
    if not aligned:
        raise UsageError("no predictions to score; name at least one file")
    melanoma = labels.table["melanoma"].to_numpy()
    clusters, _ = pd.factorize(labels.table["patient"] if plan.cluster == "patient" else labels.table.index)
    rankings = [Ranking(each.scores, melanoma, clusters) for each in aligned]
    size = effective_clusters(melanoma, clusters)
    resamples = enough(plan.resamples_of(int(clusters.max()) + 1) if resamples is None else resamples)
    locked = [development.get(each.system) if development and plan.locks else None for each in predictions]
    used = [[_locked(column, dev) for column in plan.columns] for dev in locked]

    def figures(weights: Counts) -> Floats:
        return np.stack([measure(*each, weights) for each in zip(rankings, used, strict=True)])

    drawn = resampled(figures, int(clusters.max()) + 1, resamples, seed, rows=int(melanoma.sum()))
    points = figures(rankings[0].unweighted)[..., 0]
    kept = [
        carries_over(dev, scored, given, labels) if dev else []
        for dev, scored, given in zip(locked, aligned, predictions, strict=True)
    ]
    systems = []
    for given, scored, ranking, columns, point, values, dev in zip(
        predictions, aligned, rankings, used, points, drawn, locked, strict=True
    ):
        systems.append(
            SystemScores(
                system=given.system,
                title=given.called,
                kind=scored.kind,
                path=given.path,
                sha256=given.sha256,
                rows_per_image=scored.rows_per_image,
                metrics={
                    column.name: _metric(
                        column, ranking, value, replicated, size, scored.kind, locked=dev is not None
                    )
                    for column, value, replicated in zip(columns, point.tolist(), values, strict=True)
                },
                notes=scored.notes,
            )
        )
    cuts = [[each.metrics[column.name].threshold for column in plan.columns] for each in systems]
    origins = [[each.metrics[column.name].threshold_from for column in plan.columns] for each in systems]
    textbook = tests(
        plan.columns,
        np.stack([each.scores for each in aligned]),
        melanoma,
        cuts,
        [[each in ("fixed", "development") for each in own] for own in origins],
        None if plan.cluster == "image" else clusters,
    )
    chosen = [[each and each not in ("fixed", "development") for each in own] for own in origins]
    found = differences(
        [each.system for each in systems],
        plan.columns,
        points,
        drawn,
        seed,
        size,
        textbook,
        mixed(plan.columns, chosen),
    )
    return Scores(
        protocol=plan.name,
        labels=labels.path,
        labels_sha256=labels.sha256,
        n=len(labels.table),
        positives=int(melanoma.sum()),
        patients=labels.patients,
        cluster=plan.cluster,
        level=LEVEL,
        resamples=resamples,
        seed=seed,
        systems=_grouped(systems, found),
        differences=found,
        skipped=labels.skipped,
        notes=(*_notes(labels, plan, systems), *(text for notes in kept for text in notes)),
    )


def difference(
    a: Predictions,
    b: Predictions,
    metric: str,
    labels: Labels,
    *,
    resamples: int | None = None,
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


def _locked(column: Column, dev: Development | None) -> Column:
    """The column at the threshold that development predictions give, where it has one to choose."""
    if dev is None or column.point is None or column.point.by == "threshold":
        return column
    point = OperatingPoint(by="threshold", value=threshold(dev.ranking, column.point))
    return msgspec.structs.replace(column, point=point)


def _metric(
    column: Column, ranking: Ranking, point: float, values: Floats, size: float, kind: Kind, *, locked: bool
) -> Metric:
    """A figure from its value on the test set and its values in the resamples."""
    at_fixed = column.point is not None and column.point.by == "threshold"
    chosen_on: Literal["test set", "each resample"] = "each resample" if column.mean else "test set"
    reason = undefined(values)
    low, high = (None, None) if column.mean else interval(values, size)
    if low is not None and high is not None and high - low < SAME:
        low, high, reason = None, None, THE_SAME
    mean = None if reason else float(np.nanmean(values))
    return Metric(
        value=mean if column.mean else point,
        low=low,
        high=high,
        reason=reason,
        threshold=threshold(ranking, column.point) if column.point and not column.mean else None,
        threshold_from=None
        if column.point is None
        else ("development" if locked else "fixed")
        if at_fixed
        else chosen_on,
        undefined=int(np.isnan(values).sum()),
        note=_RANKS if at_fixed and not locked and kind == "rank" else "",
    )


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


def _notes(labels: Labels, plan: Protocol, systems: Sequence[SystemScores]) -> tuple[str, ...]:
    notes = note(labels.skipped, len(labels.table))
    origins = {
        system.title: {metric.threshold_from for metric in system.metrics.values()} for system in systems
    }
    chosen = [title for title, found in origins.items() if found & CHOSEN_HERE]
    locked = [title for title, found in origins.items() if "development" in found]
    if chosen:
        notes.append(
            f"{'Thresholds' if not locked else ', '.join(chosen) + ': thresholds'} that reach a sensitivity or "
            "specificity are chosen on this test set, which makes the figures at them optimistic."
        )
    if locked:
        notes.append(f"{', '.join(locked)}: thresholds are locked on development predictions.")
    if plan.cluster == "patient" and labels.without_patient:
        notes.append(
            f"The patient of {labels.without_patient} of {len(labels.table)} images is not known: each "
            "counts as a patient of its own, or as one with the other images of its lesion."
        )
    return tuple(notes)
