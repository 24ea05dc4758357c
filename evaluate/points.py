"""Operating points, and the figures that are given at them, as data."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from evaluate.protocols import OperatingPoint
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

COMPARED = ("sensitivity", "specificity")
"""Figures at a point by which systems are compared: the others follow from these two."""


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
