"""What scoring comes to: the figures of systems on one test set, as plain data."""

from __future__ import annotations

from typing import Literal

import msgspec
import pandas as pd

from evaluate.paired import Difference
from evaluate.predictions import Kind

CHOSEN_HERE = frozenset({"test set", "each resample"})
"""Where a threshold comes from that the scored lesions chose themselves, which flatters the figure."""


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
        """The figures as a pandas frame: a row per system, a column per figure; missing where not defined.

        Rows are called by the systems' titles, and by their names where two have one title.
        """
        titles = [each.title for each in self.systems]
        once = [each.title if titles.count(each.title) == 1 else each.system for each in self.systems]
        figures = [{name: metric.value for name, metric in each.metrics.items()} for each in self.systems]
        return pd.DataFrame(figures, index=pd.Index(once, name="system"))

    def _repr_html_(self) -> str:
        return self.frame().to_html(float_format=lambda value: f"{value:.3f}", na_rep="n/a")
