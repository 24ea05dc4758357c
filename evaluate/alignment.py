"""Joining predictions to labels: one score per lesion image."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.blend import blend
from evaluate.copies import rows_per_image
from evaluate.labels import Labels
from evaluate.predictions import Kind, Predictions, card_of
from evaluate.skipped import image_of
from zoo.errors import InputError


class Aligned(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One score of a system per lesion image.

    Attributes:
        scores: Shape (images,), in the order of the labels.
        kind: Whether they are probabilities or ranks, after the blend.
        rows_per_image: How many rows were averaged per image: 1, or the number of its test-time
            copies and itself.
        notes: What a reader of the scores must know.
    """

    scores: npt.NDArray[np.float64]
    kind: Kind
    rows_per_image: int
    notes: tuple[str, ...]


def align(predictions: Predictions, labels: Labels) -> Aligned:
    """One score per lesion image, in the labels' order.

    Rows are joined by id. Test-time copies are averaged first, then folds, then members as the
    system's card blends them.

    Raises:
        InputError: An id is not in the labels, an image of the labels has no score, images have
            different copies, or the file's own truth is not that of the labels. Skipped images
            have no score: `evaluate.skipped.without_skipped` leaves them out first.
    """
    table, path = predictions.table, predictions.path
    if (none := table["score"].isna()).any():
        raise InputError(
            f"{path}: {table['image'][none].nunique()} images were skipped and have no score, such as "
            f"{table['image'][none].iloc[0]}; leave them out with without_skipped"
        )
    image = _images(predictions, labels)
    member = _column(table, "member", "")
    fold = _column(table, "fold", 0)
    members: dict[str, list[npt.NDArray[np.float64]]] = {}
    rows_each = set()
    for (name, number), rows in table.groupby([member, fold], sort=False):
        part = f"{path} (member {name}, fold {number:.0f})" if name else path
        scores = rows["score"].groupby(image[rows.index]).mean().reindex(labels.table.index)
        if scores.isna().any():
            raise InputError(
                f"{part}: no score for {scores.index[scores.isna()][0]} of {labels.path} "
                f"({int(scores.isna().sum())} such images); complete the predictions, or give a table of the "
                "images that are meant"
            )
        rows_each.add(rows_per_image(rows["image"], image[rows.index], part))
        members.setdefault(str(name), []).append(scores.to_numpy())
    if len(rows_each) > 1:
        raise InputError(
            f"{path}: members or folds differ in rows per image ({sorted(rows_each)}); give all the same"
        )
    return _blended(
        predictions, {name: np.stack(folds, axis=1) for name, folds in members.items()}, rows_each.pop()
    )


def _images(predictions: Predictions, labels: Labels) -> pd.Series[str]:
    """The image of each row, after checking that the labels know it and say the same of it."""
    table, path = predictions.table, predictions.path
    known = labels.table.index
    image = image_of(table["image"], labels)
    unknown = known.get_indexer(pd.Index(image)) < 0
    if unknown.any():
        row = table.index[unknown][0]
        raise InputError(
            f"{path}: row {row}: {table['image'][row]} is not in {labels.path} "
            f"({int(unknown.sum())} such rows); score predictions against the labels of their own test set"
        )
    if "y_true" in table:
        differs = table["y_true"] != image.map(labels.table["melanoma"])
        if differs.any():
            row = table.index[differs][0]
            raise InputError(
                f"{path}: row {row}: y_true of {table['image'][row]} is {table['y_true'][row]:d}, {labels.path} says "
                f"otherwise ({int(differs.sum())} such rows); use the labels that the scores were made for"
            )
    return image


def _blended(
    predictions: Predictions, members: dict[str, npt.NDArray[np.float64]], rows_per_image: int
) -> Aligned:
    kind, notes = predictions.kind, predictions.notes
    how: Literal["mean", "rank_mean"] = "mean"
    card = card_of(predictions.system)
    if "" in members and len(members) > 1:
        raise InputError(f"{predictions.path}: only some rows name a member; name one in all rows or in none")
    if card and "" not in members:
        how = card.blend.members
        kind = "rank" if how == "rank_mean" else kind
        folds = min(scores.shape[1] for scores in members.values())
        known = [member.name for member in card.members]
        if strange := sorted(set(members) - set(known)):
            raise InputError(
                f"{predictions.path}: {card.name} has no member {strange[0]!r}; its members are {', '.join(known)}"
            )
        if max(scores.shape[1] for scores in members.values()) > card.folds:
            raise InputError(f"{predictions.path}: {card.name} has {card.folds} folds, the file has more")
        if len(members) < len(card.members) or folds < card.folds:
            notes += (
                f"Blend of {len(members)} of {len(card.members)} members, "
                f"{folds} of {card.folds} folds: not the whole system.",
            )
    return Aligned(scores=blend(members, how), kind=kind, rows_per_image=rows_per_image, notes=notes)


def _column(table: pd.DataFrame, name: str, where_missing: str | int) -> pd.Series[Any]:
    if name not in table:
        return pd.Series(where_missing, index=table.index)
    return table[name].fillna(where_missing)
