"""Metrics of a classifier from counts (`evaluate.ranking`), for many resamples at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from evaluate.ranking import Confusion, Curve, Floats


def roc_auc(curve: Curve) -> Floats:
    """Probability that a melanoma scores higher than another image, ties counting half (Mann-Whitney)."""
    lower = curve.negatives - curve.false_positives + curve.tied / 2
    area: Floats = (curve.gained * lower).sum(axis=0) / curve.positives / curve.negatives
    return area


def average_precision(curve: Curve) -> Floats:
    """Sum over thresholds of the gain in recall times precision, without interpolation.

    This is `sklearn.metrics.average_precision_score`.
    """
    called = curve.true_positives + curve.false_positives
    precision = curve.true_positives / np.maximum(called, 1)
    area: Floats = (curve.gained * precision).sum(axis=0) / curve.positives
    return area


PARTIAL_ABOVE = 0.8
"""Sensitivity above which the partial area under the ROC curve is taken."""


def partial_auc(curve: Curve) -> Floats:
    """Area under the ROC curve above 80% sensitivity, from 0 to 0.2: the score of the ISIC 2024 challenge.

    It is the mean specificity over the sensitivities from 80% to 100%, times 0.2; ties are straight
    lines of the curve. The challenge computes it with scikit-learn: labels and scores flipped,
    `roc_auc_score(..., max_fpr=0.2)`, and the standardisation of McClish (1989, Med. Decis. Making 9,
    190) undone. A system that guesses gets 0.02.

    Do not trust it with few melanomas: it rests on the fifth of them that scores lowest.
    """
    before = curve.true_positives - curve.gained
    skipped = np.clip(PARTIAL_ABOVE * curve.positives - before, 0, curve.gained)
    # Of images tied with a threshold's melanomas, those passed when half of the kept part is gained.
    still_passed = curve.tied * (1 - skipped / np.maximum(curve.gained, 1)) / 2
    passed = curve.negatives - curve.false_positives + still_passed
    area: Floats = ((curve.gained - skipped) * passed).sum(axis=0) / curve.positives / curve.negatives
    return area


def sensitivity(counts: Confusion) -> Floats:
    """TP / (TP + FN)."""
    return counts.true_positives / counts.positives


def specificity(counts: Confusion) -> Floats:
    """TN / (TN + FP)."""
    return 1 - counts.false_positives / counts.negatives


def balanced_accuracy(counts: Confusion) -> Floats:
    """Mean of sensitivity and specificity."""
    return (sensitivity(counts) + specificity(counts)) / 2


def ppv(counts: Confusion) -> Floats:
    """TP / (TP + FP): the share of the called that are melanoma; undefined where nothing is called."""
    return counts.true_positives / (counts.true_positives + counts.false_positives)


def npv(counts: Confusion) -> Floats:
    """TN / (TN + FN): the share of the passed that are not melanoma; undefined where nothing is passed."""
    passed = counts.negatives - counts.false_positives
    return passed / (passed + counts.positives - counts.true_positives)


def number_needed_to_biopsy(counts: Confusion) -> Floats:
    """1 / PPV: called lesions per melanoma among them; infinite where no melanoma is called."""
    return 1 / ppv(counts)


def likelihood_ratio_positive(counts: Confusion) -> Floats:
    """Sensitivity / (1 - specificity): by how much a call multiplies the odds of melanoma."""
    return (counts.true_positives / counts.positives) / (counts.false_positives / counts.negatives)


def likelihood_ratio_negative(counts: Confusion) -> Floats:
    """(1 - sensitivity) / specificity: by how much a pass multiplies the odds of melanoma."""
    missed = counts.positives - counts.true_positives
    passed = counts.negatives - counts.false_positives
    return (missed / counts.positives) / (passed / counts.negatives)


def accuracy(counts: Confusion) -> Floats:
    """(TP + TN) / all."""
    right = counts.true_positives + counts.negatives - counts.false_positives
    return right / (counts.positives + counts.negatives)


def f1(counts: Confusion) -> Floats:
    """2 TP / (2 TP + FP + FN): the F1 score of the melanoma class."""
    return 2 * counts.true_positives / (counts.true_positives + counts.false_positives + counts.positives)


def f1_weighted(counts: Confusion) -> Floats:
    """F1 scores of both classes, weighted by their numbers of images."""
    others = Confusion(
        true_positives=counts.negatives - counts.false_positives,
        false_positives=counts.positives - counts.true_positives,
        positives=counts.negatives,
        negatives=counts.positives,
    )
    weighted = counts.positives * f1(counts) + counts.negatives * f1(others)
    return weighted / (counts.positives + counts.negatives)


OF_CURVE: dict[str, Callable[[Curve], Floats]] = {
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "partial_auc": partial_auc,
}
"""Metrics of the ranking as a whole."""

AT_POINT: dict[str, Callable[[Confusion], Floats]] = {
    "sensitivity": sensitivity,
    "specificity": specificity,
    "ppv": ppv,
    "npv": npv,
    "balanced_accuracy": balanced_accuracy,
    "likelihood_ratio_positive": likelihood_ratio_positive,
    "likelihood_ratio_negative": likelihood_ratio_negative,
    "number_needed_to_biopsy": number_needed_to_biopsy,
    "accuracy": accuracy,
    "f1": f1,
    "f1_weighted": f1_weighted,
}
"""Metrics at one threshold."""
