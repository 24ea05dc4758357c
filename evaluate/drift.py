"""What a drift is: how far another engine or precision moves results from single precision in torch."""

from __future__ import annotations

from typing import Any

import msgspec


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What became of some images' scores.

    Attributes:
        images: How many images were seen twice.
        max_difference: Largest absolute difference of a probability of one network.
        threshold: Of the system's score (the mean over folds, then members), from which on a decision
            is for melanoma.
        threshold_from: Where it comes from.
        changed: Images whose decision differs.
        auc_difference: ROC-AUC less that in single precision; None as `auc_reason` says.
        auc_low: Lower end of its 95% interval (paired DeLong); None as `auc_reason` says.
        auc_high: Upper end.
        auc_reason: Why there is no difference, or no interval.
    """

    images: int
    max_difference: float
    threshold: float
    threshold_from: str
    changed: int
    auc_difference: float | None = None
    auc_low: float | None = None
    auc_high: float | None = None
    auc_reason: str = ""


def note(described: Any) -> str:
    """What a reader must know of a drift, from the metadata of predictions.

    Raises:
        msgspec.ValidationError: It is none.
    """
    one = msgspec.convert(described, Drift)
    auc = f"n/a ({one.auc_reason})"
    if one.auc_difference is not None:
        interval = (
            f" (95% {one.auc_low:+.4f} to {one.auc_high:+.4f})"
            if one.auc_low is not None
            else f" (no interval: {one.auc_reason})"
        )
        auc = f"{one.auc_difference:+.4f}{interval}"
    return (
        f"Against single precision in torch, on {one.images} images: probabilities move by up to "
        f"{one.max_difference:.1g}, {one.changed} of {one.images} decisions change at {one.threshold:.3g} "
        f"({one.threshold_from}), ROC-AUC by {auc}."
    )
