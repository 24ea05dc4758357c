"""Reading a table of labels: one row per lesion image, whatever archive it came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
import pandas as pd

from evaluate.copies import originals, rows_per_image
from evaluate.diagnoses import Diagnoses, is_melanoma, joined, read_diagnoses
from evaluate.tables import ids, read_csv, truth
from zoo.errors import InputError, UsageError
from zoo.files import sha256
from zoo.urls import place

COLUMNS: dict[str, tuple[str, ...]] = {
    "image": ("isic_id", "image_name", "image", "image_id"),
    "target": ("target", "y_true", "melanoma"),
    "diagnosis": ("diagnosis", "iddx"),
    "patient": ("patient_id", "patient"),
    "lesion": ("lesion_id", "lesion"),
    "sex": ("sex",),
    "age": ("age_approx", "age"),
    "site": ("anatom_site_general_challenge", "anatom_site_general", "anatom_site_1"),
}
"""What a column is called in the tables we know; the first that is there is taken.

A diagnosis may also be spread over levels, `diagnosis_1` to `diagnosis_5` in today's archive.
"""

_PATIENTS = ("sex", "age", "site")
"""Roles whose column stays in the table: under the first of its names where it has one of your own."""

MISSING_IDS = ("", "-1", "-1.0")
"""What stands for "not known" in columns of ids; `-1` in the ISIC 2019 training table."""


class Labels(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What is known of each lesion image of a test set.

    Attributes:
        table: One row per lesion image, indexed by image id in the order of the file. Columns:
            `melanoma` (bool), `patient` (text, never missing: the unit that is resampled),
            `lesion` (text or missing), and the file's other columns as they are.
        image_of: The image id of every id in the file: of an image, and of its test-time copies.
        without_patient: Images whose patient is not known, nor that of another image of their lesion.
            Each counts as a patient of its own, or as one with the other images of its lesion.
        path: The file.
        sha256: Its checksum.
        skipped: Lesion images of the file that are not in `table`, since a system has no score of
            them, and why (`evaluate.skipped`).
    """

    table: pd.DataFrame
    image_of: pd.Series[str]
    without_patient: int
    path: str
    sha256: str
    skipped: dict[str, str] = {}

    @property
    def patients(self) -> int:
        """Number of patients."""
        return int(self.table["patient"].nunique())

    @property
    def known_patients(self) -> pd.Series[str]:
        """The patients of the images whose patient is known; the others are left out."""
        return self.table["patient"][~_filled(self.table)]


def read_labels(
    path: Path | str,
    *,
    columns: Mapping[str, str] | None = None,
    diagnoses: Path | str | None = None,
    both_classes: bool = True,
) -> Labels:
    """Labels from a CSV table of the ISIC Archive (older or today's), of Kaggle, or of your own.

    Melanoma is read from a 0/1 column; from the diagnosis where there is none. Where a table has
    both they must agree, since a `target` may also mean "malignant". Rows of test-time copies
    (`ISIC_0000001_0`, `ISIC_0000001_1` ... beside `ISIC_0000001`) are folded into their image.

    Args:
        path: The table.
        columns: Which column plays a role of `COLUMNS`, where it has a name of your own or the
            wrong one would be taken. A `target` or `diagnosis` named here is taken alone, without
            a check against the other.
        diagnoses: A table of your own that says which diagnoses are melanoma; its names are
            added to those of `evaluate/diagnoses.toml` and win over them.
        both_classes: Refuse a table that scores could not be computed with.

    Raises:
        InputError: An id is missing or there twice, a label is missing or contradicted, a
            diagnosis is not known, copies disagree, or all images are of one class.
        UsageError: `columns` names a role that does not exist.
    """
    path, given = place(path), dict(columns or {})
    frame, roles = read_roles(path, given)
    source = pd.DataFrame(
        {
            "image": ids(frame, roles["image"][0], str(path)),
            "melanoma": _melanoma(frame, roles, given, read_diagnoses(diagnoses), path),
            "patient": optional(frame, roles["patient"]),
            "lesion": optional(frame, roles["lesion"]),
        }
    )
    if both_classes and source["melanoma"].nunique() < 2:
        kind = "melanoma" if source["melanoma"].all() else "not melanoma"
        raise InputError(f"{path}: all {len(source)} rows are {kind}; scores need images of both classes")
    image = _fold(source, path)
    kept = ("diagnosis", *_PATIENTS)
    used = [column for role, found in roles.items() if role not in kept for column in found]
    others = frame.drop(
        columns=[*used, *(column for column in source if column in frame and column not in used)]
    )
    table = pd.concat([source, others], axis="columns")[image == source["image"]].set_index("image")
    table["patient"] = patients(table)
    without_patient = int(table["patient"].isna().sum())
    table["patient"] = table["patient"].fillna("lesion " + table["lesion"]).fillna(_own(table))
    return Labels(
        table=table,
        image_of=image.set_axis(source["image"]),
        without_patient=without_patient,
        path=str(path),
        sha256=sha256(path),
    )


def only(labels: Labels, images: Collection[str]) -> Labels:
    """The labels of some of the lesion images."""
    table = labels.table[labels.table.index.isin(list(images))]
    return msgspec.structs.replace(
        labels,
        table=table,
        image_of=labels.image_of[labels.image_of.isin(table.index)],
        without_patient=int(_filled(table).sum()),
    )


def patients(table: pd.DataFrame) -> pd.Series[str]:
    """The patients by columns `patient` and `lesion`; one that is missing is that of another image of the lesion, where one is known."""
    known = table[["lesion", "patient"]].dropna().drop_duplicates("lesion").set_index("lesion")["patient"]
    patient = table["patient"].copy()
    wanted = patient.isna() & table["lesion"].isin(known.index)
    patient.loc[wanted] = table["lesion"][wanted].map(known)
    return patient


def _filled(table: pd.DataFrame) -> pd.Series[bool]:
    """Which patients stand for one that is not known."""
    of_lesion = (table["patient"] == "lesion " + table["lesion"]).fillna(False)
    return (table["patient"] == _own(table)) | of_lesion


def _own(table: pd.DataFrame) -> pd.Series[str]:
    return "image " + table.index.to_series()


def read_roles(path: Path, given: Mapping[str, str]) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """A table as it is, and which of its columns play which role of `COLUMNS` (none, one, or levels).

    Args:
        path: The table.
        given: Names of your own for columns, by role.

    Raises:
        InputError: The table cannot be read, or lacks a column that is named or one of image ids.
        UsageError: There is no such role.
    """
    if unknown := given.keys() - COLUMNS.keys():
        raise UsageError(f"columns: no role {min(unknown)!r}; roles are {', '.join(COLUMNS)}")
    as_text = {name for role, known in COLUMNS.items() if role not in _PATIENTS for name in known}
    as_text |= {name for role, name in given.items() if role not in _PATIENTS}
    frame = read_csv(path, [spelling for name in as_text for spelling in _with_levels(name)])
    roles = {role: _columns(role, given.get(role), frame, path) for role in COLUMNS}
    if not roles["image"]:
        raise InputError(f"{path}: no column of image ids; {_name('image')}")
    for role in _PATIENTS:
        if role in given:
            usual, own = COLUMNS[role][0], frame[given[role]]
            frame = frame.drop(columns=[name for name in COLUMNS[role] if name in frame]).assign(
                **{usual: own}
            )
            roles[role] = [usual]
    return frame, roles


def optional(frame: pd.DataFrame, columns: list[str]) -> pd.Series[str]:
    """The text of a role's column; missing where nothing is known, or where there is no such column."""
    if not columns:
        return pd.Series(pd.NA, index=frame.index, dtype=object)
    values = frame[columns[0]].str.strip()
    return values.mask(values.isin(MISSING_IDS))


def _name(role: str) -> str:
    return f"name it with --column {role}=NAME (columns={{'{role}': 'NAME'}})"


def _fold(source: pd.DataFrame, path: Path) -> pd.Series[str]:
    """The image of each row, after checking that copies agree with it."""
    image = originals(source["image"], pd.Index(source["image"]))
    is_copy = image != source["image"]
    first = source[~is_copy].set_index("image")
    for column in ("melanoma", "patient", "lesion"):
        expected = image.map(first[column])
        both_missing = source[column].isna() & expected.isna()
        differs = is_copy & ~both_missing & ~(source[column] == expected).fillna(False)
        if differs.any():
            row = source.index[differs][0]
            raise InputError(
                f"{path}: row {row}: {column} of {source['image'][row]} is not that of {image[row]}, "
                "whose copy it is by its name; correct the row"
            )
    rows_per_image(source["image"], image, str(path))
    return image


def _columns(role: str, given: str | None, frame: pd.DataFrame, path: Path) -> list[str]:
    """The columns of a role: none, one, or the levels of a diagnosis."""
    for name in (given,) if given else COLUMNS[role]:
        spellings = _with_levels(name) if role == "diagnosis" else [name]
        if found := [column for column in spellings if column in frame]:
            return found
    if given:
        raise InputError(
            f"{path}: no column {given!r} for the {role}; columns are {', '.join(map(str, frame))}"
        )
    return []


def _with_levels(name: str) -> list[str]:
    return [name, *(f"{name}_{level}" for level in range(1, 6))]


def _melanoma(
    frame: pd.DataFrame,
    roles: Mapping[str, list[str]],
    given: Mapping[str, str],
    diagnoses: Diagnoses,
    path: Path,
) -> pd.Series[bool]:
    target, levels = roles["target"], roles["diagnosis"]
    if "diagnosis" in given and "target" not in given:
        target = []
    if "target" in given and "diagnosis" not in given:
        levels = []
    if not target and not levels:
        raise InputError(
            f"{path}: no column says what is melanoma (no {', '.join(COLUMNS['target'])} and no diagnosis); "
            f"{_name('target')}"
        )
    if not target:
        return _from_diagnosis(frame[levels], diagnoses, path)
    labels = truth(frame[target[0]], str(path))
    if levels:
        diagnosed = is_melanoma(frame[levels], diagnoses, str(path))
        differs = (diagnosed != labels).fillna(False)
        if differs.any():
            row = frame.index[differs][0]
            raise InputError(
                f"{path}: row {row}: {target[0]} is {frame[target[0]][row]}, but the diagnosis "
                f"{joined(frame.loc[row, levels])!r} is {'' if diagnosed[row] else 'not '}melanoma; "
                f"say which to trust with --column target={target[0]} or --column diagnosis=NAME "
                f"(columns={{'target': ...}})"
            )
    return labels


def _from_diagnosis(levels: pd.DataFrame, diagnoses: Diagnoses, path: Path) -> pd.Series[bool]:
    labels = is_melanoma(levels, diagnoses, str(path))
    undecided = levels[labels.isna()]
    if undecided.isna().all(axis="columns").any():
        row = undecided.index[undecided.isna().all(axis="columns")][0]
        raise InputError(f"{path}: row {row} has no diagnosis; complete or remove the row")
    if len(undecided):
        unknown = sorted({joined(row) for _, row in undecided.drop_duplicates().iterrows()})
        raise InputError(
            f"{path}: {len(undecided)} rows, the first is row {undecided.index[0]}: cannot tell whether these "
            f"diagnoses are melanoma: {'; '.join(unknown)}; "
            "list them in a table of your own (--diagnoses FILE)"
        )
    return labels.astype(bool)
