"""What a test set shares with the tables that systems were trained on."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import pandas as pd

from evaluate.alignment import align
from evaluate.labels import COLUMNS, MISSING_IDS, Labels
from evaluate.predictions import Predictions
from evaluate.tables import read_csv
from evaluate.words import many
from zoo.errors import InputError
from zoo.files import sha256

ROLES = ("image", "lesion", "patient")
"""What can be shared, from the closest to the loosest tie."""


class TrainingTable(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The ids of a training table.

    Attributes:
        ids: Those of its images, lesions and patients, by `ROLES`; empty where it has none.
        rows: How many rows it has.
        path: The file.
        sha256: Its checksum.
    """

    ids: dict[str, frozenset[str]]
    rows: int
    path: str
    sha256: str


class Overlap(msgspec.Struct, frozen=True, kw_only=True):
    """What a test set and a training table share.

    Attributes:
        ids: How many distinct ids of each role they share.
        images: The test images of them, by role: an image that is itself in the table is also of
            a shared patient where the patient is known.
    """

    ids: dict[str, int]
    images: dict[str, tuple[str, ...]]

    @property
    def all_images(self) -> tuple[str, ...]:
        """Test images with any tie to the table, each once."""
        return tuple(dict.fromkeys(image for role in ROLES for image in self.images[role]))

    @property
    def said(self) -> str:
        """How many images, lesions and patients are shared, as words: `2 images and 1 patient`."""
        return " and ".join(many(self.ids[role], role) for role in ROLES if self.ids[role])


def plain_name(names: pd.Series[str]) -> pd.Series[str]:
    """Ids of images without what copies of the archive add to them: a file ending, `_downsampled`.

    >>> plain_name(pd.Series([" ISIC_0000001_downsampled", "ISIC_0000002.jpg", "ISIC_0000003"])).tolist()
    ['ISIC_0000001', 'ISIC_0000002', 'ISIC_0000003']
    """
    endings = r"(?i)(?:\.(?:jpe?g|png))?$"
    return names.str.strip().str.replace(endings, "", regex=True).str.removesuffix("_downsampled")


def read_training_table(path: Path | str) -> TrainingTable:
    """The ids of a training table: any CSV with a column of image ids, whatever else it holds.

    An id may be there twice; a missing patient (empty or `-1`) is nobody's.

    Raises:
        InputError: The file cannot be read, or has no column of image ids.
    """
    path = Path(path)
    frame = read_csv(path, [name for role in ROLES for name in COLUMNS[role]])
    ids = {}
    for role in ROLES:
        column = next((name for name in COLUMNS[role] if name in frame), None)
        values = frame[column].dropna().str.strip() if column else pd.Series([], dtype=str)
        known = values[~values.isin(MISSING_IDS)]
        ids[role] = frozenset(plain_name(known) if role == "image" else known)
    if not ids["image"]:
        raise InputError(
            f"{path}: no column of image ids ({', '.join(COLUMNS['image'])}); a training table needs one"
        )
    return TrainingTable(ids=ids, rows=len(frame), path=str(path), sha256=sha256(path))


def ids_of(labels: Labels) -> dict[str, pd.Series[str]]:
    """The ids of labelled images, by `ROLES`; a patient that is not known is left out."""
    return {
        "image": plain_name(labels.table.index.to_series()),
        "lesion": labels.table["lesion"].dropna(),
        "patient": labels.known_patients,
    }


def overlap(labels: Labels, training: TrainingTable) -> Overlap:
    """What the test set shares with a training table."""
    own = ids_of(labels)
    shared = {role: values[values.isin(training.ids[role])] for role, values in own.items()}
    return Overlap(
        ids={role: int(values.nunique()) for role, values in shared.items()},
        images={role: tuple(values.index) for role, values in shared.items()},
    )


def without(
    predictions: Sequence[Predictions], labels: Labels, images: Collection[str]
) -> tuple[list[Predictions], Labels]:
    """Predictions and labels without some lesion images.

    Copies, folds and members are averaged first, so that a rank blend keeps the ranks it has in
    the whole test set.

    Raises:
        InputError: The predictions do not fit the labels.
    """
    kept = labels.table[~labels.table.index.isin(list(images))]
    rest = msgspec.structs.replace(labels, table=kept, image_of=pd.Series(kept.index, index=kept.index))
    left = []
    for each in predictions:
        scored = align(each, labels)
        table = pd.DataFrame({"image": labels.table.index, "score": scored.scores})
        left.append(
            msgspec.structs.replace(
                each, kind=scored.kind, notes=scored.notes, table=table[table["image"].isin(kept.index)]
            )
        )
    return left, rest
