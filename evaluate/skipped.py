"""Images that a system has no score of: their file was missing or damaged, or a `--limit` ended before them.

Figures are compared on the same lesions, and a missing one is never averaged over: a lesion image
that any system lacks is left out for all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pandas as pd

from evaluate.copies import originals
from evaluate.labels import Labels, only
from evaluate.predictions import Predictions
from zoo.errors import InputError

_LISTED = 10

BEYOND = "beyond the limit of"
"""How the reason begins of an image that was not predicted since a limit was asked for."""


def without_skipped(
    predictions: Sequence[Predictions], labels: Labels
) -> tuple[tuple[Predictions, ...], Labels]:
    """Predictions and labels of the lesion images that every system has all scores of.

    A lesion image with test-time copies is left out where any of its rows was skipped. Images
    beyond the limit that predictions say they were made with are left out too; without such a word a
    lesion image that has no row stays, and `align` refuses the predictions.

    Returns:
        The predictions without those rows, and the labels without those images: `Labels.skipped`
        says which they are and why.

    Raises:
        InputError: No image of one of the classes is left.
    """
    predictions = [_known(each, labels) for each in predictions]
    reasons: dict[str, str] = {}
    for each in predictions:
        names = pd.Series(list(each.skipped), dtype=str)
        for name, image in zip(names, image_of(names, labels), strict=True):
            reason = each.skipped[name]
            reasons.setdefault(image, reason if name == image else f"{name}: {reason}")
        limit = each.metadata.get("limit")
        if isinstance(limit, int) and limit:
            there = set(image_of(each.table["image"], labels))
            for image in labels.table.index[~labels.table.index.isin(list(there))]:
                reasons.setdefault(image, f"{BEYOND} {limit}")
    out = {image: reasons[image] for image in labels.table.index if image in reasons}
    if not out:
        return tuple(predictions), labels
    kept = only(labels, labels.table.index[~labels.table.index.isin(list(out))])
    if kept.table["melanoma"].nunique() < 2:
        raise InputError(
            f"{labels.path}: without the {len(out)} lesion images that a system has no score of, "
            f"{len(kept.table)} of at most one class are left; complete the predictions"
        )
    left = tuple(
        msgspec.structs.replace(
            each, table=each.table[~image_of(each.table["image"], labels).isin(list(out))]
        )
        for each in predictions
    )
    return left, msgspec.structs.replace(kept, skipped={**labels.skipped, **out})


def _known(predictions: Predictions, labels: Labels) -> Predictions:
    """Predictions without rows that were skipped of images that the labels do not have: nothing is known of these."""
    rows = predictions.table["image"]
    skipped = rows[rows.isin(list(predictions.skipped))]
    strangers = skipped[~image_of(skipped, labels).isin(labels.table.index)]
    if strangers.empty:
        return predictions
    return msgspec.structs.replace(predictions, table=predictions.table.drop(index=strangers.index))


def image_of(names: pd.Series[str], labels: Labels) -> pd.Series[str]:
    """The lesion image that each id belongs to; the id itself where the labels know none."""
    found = names.map(labels.image_of)
    # Looking for copies takes a while in a large table, and most have none.
    return found.fillna(originals(names, labels.table.index)) if found.isna().any() else found


def note(skipped: Mapping[str, str], left: int) -> list[str]:
    """What a reader of scores must know of the images that are not in them; nothing where all are.

    Args:
        skipped: The lesion images, and why they have no score.
        left: How many others there are.

    >>> note({"ISIC_1": "cut short"}, 602)
    ['1 of 603 lesion images is n/a, and left out for all systems: ISIC_1 (cut short).']
    >>> note(dict.fromkeys(map(str, range(20, 603)), "beyond the limit of 20"), 20)
    ['583 of 603 lesion images are n/a, and left out for all systems: 583 images such as 20 (beyond the limit of 20).']
    """
    if not skipped:
        return []
    named = listed_by_reason(skipped)
    more = f" and {len(named) - _LISTED} more" if len(named) > _LISTED else ""
    return [
        f"{len(skipped):,} of {left + len(skipped):,} lesion images {'is' if len(skipped) == 1 else 'are'} n/a, and "
        f"left out for all systems: {', '.join(named[:_LISTED])}{more}."
    ]


def listed_by_reason(skipped: Mapping[str, str]) -> list[str]:
    """Each image with its reason; many images of one reason together."""
    images: dict[str, list[str]] = {}
    for image, reason in skipped.items():
        images.setdefault(reason, []).append(image)
    many = {reason for reason, names in images.items() if len(names) > _LISTED}
    together = [
        f"{len(images[reason]):,} images such as {images[reason][0]} ({reason})" for reason in sorted(many)
    ]
    return [*together, *(f"{image} ({reason})" for image, reason in skipped.items() if reason not in many)]
