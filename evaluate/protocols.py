"""What is scored, as data: named protocols and the definition of each of their figures."""

from __future__ import annotations

from typing import Literal

import msgspec

from evaluate.resampling import usual_resamples
from zoo.errors import UnknownNameError


class OperatingPoint(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold from which on an image is called melanoma.

    Attributes:
        by: `threshold`: a fixed score. `sensitivity`: the first score, from the highest down,
            that reaches a sensitivity on the test set itself. `specificity`: the score of the
            highest sensitivity that keeps a specificity on the test set itself.
        value: That score, sensitivity or specificity.
    """

    by: Literal["threshold", "sensitivity", "specificity"]
    value: float


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a protocol.

    Attributes:
        name: Its name in results and on cards.
        title: Header of its column in tables.
        definition: One sentence for a reader.
        metric: Name of the metric in `evaluate.metrics`.
        point: Where it is taken; None for metrics of the whole ranking.
        mean: The mean over the resamples is reported, not the figure of the test set.
    """

    name: str
    title: str
    definition: str
    metric: str
    point: OperatingPoint | None = None
    mean: bool = False


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """A named way to score.

    Attributes:
        name: Its name.
        title: Its name in headings.
        definition: What it does, for a reader.
        cluster: What is resampled as a whole.
        columns: Its figures, in order.
        resamples: How often it resamples where nothing else is asked for; None for as often as the number
            of clusters allows (`evaluate.resampling.usual_resamples`).
        locks: Whether development predictions lock its thresholds, where there are any.
    """

    name: str
    title: str
    definition: str
    cluster: Literal["patient", "image"]
    columns: tuple[Column, ...]
    resamples: int | None = None
    locks: bool = True

    def resamples_of(self, clusters: int) -> int:
        """How often it resamples that many clusters where nothing else is asked for."""
        return self.resamples or usual_resamples(clusters)

    def column(self, name: str) -> Column:
        """A figure by its name.

        Raises:
            UnknownNameError: The protocol has no such figure.
        """
        for column in self.columns:
            if column.name == name:
                return column
        raise UnknownNameError(
            f"protocol {self.name} has no metric {name!r}; "
            f"its metrics are {', '.join(column.name for column in self.columns)}"
        )


def named(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        UnknownNameError: There is none of that name.
    """
    try:
        return PROTOCOLS[name]
    except KeyError:
        raise UnknownNameError(f"no protocol {name!r}; protocols are {', '.join(PROTOCOLS)}") from None


def title_of(metric: str) -> str:
    """The header of a figure, in whichever protocol it is."""
    titles = {column.name: column.title for protocol in PROTOCOLS.values() for column in protocol.columns}
    return titles.get(metric, metric)


_AT_95 = OperatingPoint(by="sensitivity", value=0.95)
_AT_HALF = OperatingPoint(by="threshold", value=0.5)

_AUC = Column(
    name="roc_auc",
    title="ROC-AUC",
    definition="Area under the ROC curve: how often a melanoma scores higher than another lesion, ties counting half.",
    metric="roc_auc",
)
_AVERAGE_PRECISION = Column(
    name="average_precision",
    title="Average precision",
    definition="Area under the precision-recall curve as a sum of steps, without interpolation (often called PR-AUC).",
    metric="average_precision",
)
_PARTIAL_AUC = Column(
    name="partial_auc",
    title="Partial AUC above 80% sensitivity",
    definition="Area under the ROC curve above 80% sensitivity, from 0 to 0.2, as in the ISIC 2024 challenge.",
    metric="partial_auc",
)
_SENSITIVITY = Column(
    name="sensitivity",
    title="Sensitivity",
    definition="Share of melanomas called at the first threshold that calls at least 95% of them.",
    metric="sensitivity",
    point=_AT_95,
)
_SPECIFICITY = Column(
    name="specificity",
    title="Specificity",
    definition="Share of other lesions passed at the first threshold that calls at least 95% of melanomas.",
    metric="specificity",
    point=_AT_95,
)

PROTOCOLS: dict[str, Protocol] = {
    "clinical": Protocol(
        name="clinical",
        title="Clinical",
        definition=(
            "Figures of the test set with 95% percentile intervals from a bootstrap that draws whole "
            "patients; a threshold that the test set chooses, every resample chooses anew."
        ),
        cluster="patient",
        columns=(
            _AUC,
            _AVERAGE_PRECISION,
            _PARTIAL_AUC,
            _SENSITIVITY,
            _SPECIFICITY,
            Column(
                name="balanced_accuracy",
                title="Balanced accuracy",
                definition="Mean of sensitivity and specificity at the first threshold that calls at least 95% of melanomas.",
                metric="balanced_accuracy",
                point=_AT_95,
            ),
            Column(
                name="f1",
                title="F1 of melanoma",
                definition=(
                    "Harmonic mean of precision and sensitivity for melanoma, at the first threshold "
                    "that calls at least 95% of melanomas."
                ),
                metric="f1",
                point=_AT_95,
            ),
        ),
    ),
    "paper": Protocol(
        name="paper",
        title="Paper",
        definition=(
            "What the attention networks' authors report: figures of the test set, and means over a bootstrap "
            "that draws single images and chooses its threshold anew each time. The 95% percentile intervals "
            "are of that same bootstrap; the authors give none."
        ),
        cluster="image",
        resamples=1000,
        locks=False,
        columns=(
            _AUC,
            _AVERAGE_PRECISION,
            Column(
                name="f1_weighted",
                title="Weighted F1 at 0.5",
                definition="F1 of both classes at threshold 0.5, weighted by their numbers of images.",
                metric="f1_weighted",
                point=_AT_HALF,
            ),
            Column(
                name="accuracy",
                title="Accuracy at 0.5",
                definition="Share of all lesions that threshold 0.5 puts on the right side.",
                metric="accuracy",
                point=_AT_HALF,
            ),
            _SENSITIVITY,
            _SPECIFICITY,
            Column(
                name="sensitivity_bootstrap_mean",
                title="Sensitivity, bootstrap mean",
                definition=(
                    "Mean over resamples of the sensitivity at the first threshold that calls at least "
                    "95% of the resample's melanomas."
                ),
                metric="sensitivity",
                point=_AT_95,
                mean=True,
            ),
            Column(
                name="specificity_bootstrap_mean",
                title="Specificity, bootstrap mean",
                definition=(
                    "Mean over resamples of the specificity at the first threshold that calls at least "
                    "95% of the resample's melanomas: the best of each, so above the test set's own."
                ),
                metric="specificity",
                point=_AT_95,
                mean=True,
            ),
        ),
    ),
}
"""The protocols by name."""
