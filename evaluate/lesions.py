"""The lesions of a test set: what tells two test sets apart, and on which lesions systems disagree."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.stats import rankdata

from evaluate.alignment import align
from evaluate.labels import Labels
from evaluate.predictions import Predictions
from evaluate.ranking import Floats
from evaluate.skipped import without_skipped

SHOWN = 30
"""Lesions that are listed where none are asked for."""

NAMED = 2000
"""Test sets of up to so many lesions are kept with their ids, larger ones as a checksum only."""


class Lesions(msgspec.Struct, frozen=True, kw_only=True):
    """The lesions that a record scored.

    Attributes:
        sha256: Checksum of their ids and labels, whatever the table of labels has beside them.
        ids: Their ids, in order; empty where they are more than `NAMED`.
    """

    sha256: str
    ids: tuple[str, ...] = ()


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """A lesion image on which systems disagree.

    Attributes:
        image: Its id.
        melanoma: What it is.
        diagnosis: What the table of labels calls it; empty where it does not say.
        scores: The score of each system, in the order of `Disagreements.systems`.
        ranks: Share of the lesions that each system scores lower, ties counting half.
        spread: Largest less smallest of the ranks.
        thumbnail: The image, as a data URI; empty where none was at hand.
    """

    image: str
    melanoma: bool
    diagnosis: str
    scores: tuple[float, ...]
    ranks: tuple[float, ...]
    spread: float
    thumbnail: str = ""


class Disagreements(msgspec.Struct, frozen=True, kw_only=True):
    """The lesion images on which systems disagree most, from the largest spread down."""

    systems: tuple[str, ...]
    titles: tuple[str, ...]
    lesions: tuple[Disagreement, ...]


def lesions(labels: Labels) -> Lesions:
    """What tells these lesions from others; the same for another table of the same lesions and labels."""
    table = labels.table.sort_index()
    text = "".join(f"{image},{int(melanoma)}\n" for image, melanoma in table["melanoma"].items())
    return Lesions(
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        ids=tuple(map(str, table.index)) if len(table) <= NAMED else (),
    )


def ranks(scores: Floats) -> Floats:
    """Share of the images that score lower than each, ties counting half.

    Scores of two systems are not on one scale; their ranks are.

    >>> ranks(np.array([0.2, 0.9, 0.9, 0.1])).tolist()
    [0.375, 0.75, 0.75, 0.125]
    """
    shares: Floats = (rankdata(scores) - 0.5) / len(scores)
    return shares


def disagreements(
    predictions: Sequence[Predictions], labels: Labels, *, shown: int = SHOWN
) -> Disagreements | None:
    """The lesions whose ranks differ most between systems; None where there are no two systems.

    Args:
        predictions: One for each system.
        labels: Of all images, and no others.
        shown: How many lesions at most.

    Raises:
        InputError: Predictions and labels do not fit together.
    """
    if len(predictions) < 2:
        return None
    predictions, labels = without_skipped(predictions, labels)
    scores = np.stack([align(each, labels).scores for each in predictions])
    placed = np.stack([ranks(each) for each in scores])
    spread = np.ptp(placed, axis=0)
    table = labels.table
    named = next((name for name in ("diagnosis", "diagnosis_3", "diagnosis_2") if name in table), None)
    order = np.argsort(-spread, kind="stable")[:shown]
    return Disagreements(
        systems=tuple(each.system for each in predictions),
        titles=tuple(each.called for each in predictions),
        lesions=tuple(
            Disagreement(
                image=str(table.index[place]),
                melanoma=bool(table["melanoma"].iloc[place]),
                diagnosis=str(table[named].fillna("").iloc[place]) if named else "",
                scores=tuple(scores[:, place].round(6).tolist()),
                ranks=tuple(placed[:, place].round(4).tolist()),
                spread=round(float(spread[place]), 4),
            )
            for place in order.tolist()
        ),
    )
