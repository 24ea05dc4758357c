"""What an audit looks at, and what it finds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from evaluate.alignment import Aligned
from evaluate.development import Development
from evaluate.duplicates import ImageHashes
from evaluate.labels import Labels
from evaluate.overlap import TrainingTable
from evaluate.power import Detectable
from evaluate.predictions import Predictions
from evaluate.scored import Scores

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
"""From the gravest down."""

EXAMPLES = 5
"""Ids that a finding names at most."""


class AuditFinding(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that could make a comparison wrong.

    Attributes:
        check: Id of the check that found it (`evaluate.audit.CHECKS`).
        severity: `error`: figures are wrong or mean nothing until it is mended. `warning`: they
            may mislead. `note`: what a reader must know to read them right.
        title: What it is, in a few words.
        found: What was found, with the figures.
        done: What was done about it.
        figures: The figures by name.
        examples: The first few ids that show it.
        systems: Names of the systems it bears on; all of them where empty.
        metrics: Names of the figures it bears on; all scores where empty.
    """

    check: str
    severity: Severity
    title: str
    found: str
    done: str
    figures: dict[str, int | float] = {}
    examples: tuple[str, ...] = ()
    systems: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()

    def bears_on(self, systems: Collection[str], metrics: Collection[str]) -> bool:
        """Whether it bears on one of these figures of one of these systems.

        >>> about_a = AuditFinding(check="c", severity="note", title="t", found="f", done="d", systems=("a",))
        >>> about_a.bears_on({"a", "b"}, {"roc_auc"}), about_a.bears_on({"b"}, {"roc_auc"})
        (True, False)
        """
        return all(
            not own or set(own) & set(asked)
            for own, asked in ((self.systems, systems), (self.metrics, metrics))
        )


class Evidence(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """All that the checks look at.

    Attributes:
        labels: Of the test set.
        predictions: Of the systems that can be scored.
        aligned: Their scores per lesion image, by system.
        unusable: Why a file of predictions cannot be scored, by file.
        scores: Their figures; None where no system can be scored.
        pairs: What difference can be seen between any two systems.
        training: Tables of images that systems were trained on.
        runs: Further predictions of a system in the comparison: the name is that system's.
        images: Hashes of the test images, where they are at hand.
        train_images: Hashes of training images, where they are at hand.
        development: Predictions that lock thresholds, by system.
    """

    labels: Labels
    predictions: tuple[Predictions, ...] = ()
    aligned: Mapping[str, Aligned] = {}
    unusable: Mapping[str, str] = {}
    scores: Scores | None = None
    pairs: tuple[Detectable, ...] = ()
    training: tuple[TrainingTable, ...] = ()
    runs: tuple[Predictions, ...] = ()
    images: ImageHashes | None = None
    train_images: ImageHashes | None = None
    development: Mapping[str, Development] = {}

    @property
    def melanoma(self) -> npt.NDArray[np.bool_]:
        """Whether each lesion image is of a melanoma, shape (images,)."""
        return self.labels.table["melanoma"].to_numpy()


Outcome = list[AuditFinding] | str
"""What a check finds; or, as text, why it could not be run."""


def listed(ids: Collection[str]) -> tuple[str, ...]:
    """The first few of many ids."""
    return tuple(list(ids)[:EXAMPLES])
