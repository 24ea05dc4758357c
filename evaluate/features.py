"""What members read beside the image: features made from a test set's table, as the card says.

A card describes each feature by its kind; the kinds are here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from evaluate.attributes import MISSING
from evaluate.folder import listed
from evaluate.labels import COLUMNS
from evaluate.testset import TestSet
from zoo.card import MetadataFeature, System
from zoo.errors import InputError

Floats = npt.NDArray[np.float64]


def metadata_features(card: System, test_set: TestSet) -> npt.NDArray[np.float32]:
    """The features of each image, side by side in the order of the card.

    Counts are over all images of the set: those that were skipped or lie beyond a limit count too,
    so that an image has the same features whatever else is left out. Test-time copies are images.

    Args:
        card: The system; where it reads no metadata, there are no features.
        test_set: The images and their table.

    Returns:
        Shape (images, features), in the order of `test_set.images`.

    Raises:
        InputError: There is no table, it lacks a column, or has a value that is not a number or
            is none of the values that the card knows. A missing value is no error: the card
            says what it gives.
    """
    if untold := [feature.name for feature in card.metadata if feature.kind is None]:
        raise InputError(
            f"{card.name}: its card does not say how {untold[0]} is made; give its metadata a kind"
        )
    _check_columns(card, test_set)
    none = np.empty((len(test_set.images), 0))
    columns = [_KINDS[str(feature.kind)](feature, test_set) for feature in card.metadata]
    return np.concatenate([none, *columns], axis=1, dtype=np.float32, casting="same_kind")


def _check_columns(card: System, test_set: TestSet) -> None:
    roles = [feature.role for feature in card.metadata if feature.role]
    missing = [role for role in dict.fromkeys(roles) if role not in test_set.columns]
    if not missing:
        return
    needs = ", ".join(f"{role} ({' or '.join(COLUMNS[role])})" for role in missing)
    if test_set.table is None:
        raise InputError(
            f"{test_set.path}: {card.name} reads metadata of each image: {needs}; give a table with --labels TABLE"
        )
    options = " ".join(f"--column {role}=NAME" for role in missing)
    # `lesion` and `patient` are made, and may be there without a column of the file.
    made = {"lesion", "patient"} - set(test_set.columns)
    there = [str(name) for name in test_set.table if name not in made]
    raise InputError(
        f"{test_set.table_path}: {card.name} reads metadata that the table has no column of: {needs}; its columns are "
        f"{', '.join(there)}; name them with {options}"
    )


def _values(feature: MetadataFeature, test_set: TestSet) -> pd.Series[str]:
    """The text of a feature's column, in plain spelling; missing where not known."""
    assert test_set.table is not None
    assert feature.role is not None
    text = test_set.table[test_set.columns[feature.role]].astype("string").str.strip()
    return text.mask(text.str.casefold().isin(MISSING))


def _of_images(values: pd.Series[float], test_set: TestSet) -> Floats:
    ids = [image.id for image in test_set.images]
    return np.array(values.loc[ids], dtype=np.float64)[:, None]


def _code(feature: MetadataFeature, test_set: TestSet) -> Floats:
    known = {name.casefold(): number for name, number in feature.codes.items()}
    text = _values(feature, test_set).str.casefold()
    _check_known(feature, text, list(known), test_set)
    return _of_images(text.map(known).astype("float64").fillna(feature.unknown), test_set)


def _scaled(feature: MetadataFeature, test_set: TestSet) -> Floats:
    text = _values(feature, test_set)
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    wrong = text.notna() & ~np.isfinite(values)
    if wrong.any():
        image = text.index[wrong][0]
        raise InputError(
            f"{test_set.table_path}: the {feature.role} of {image} is {text[image]!r} ({int(wrong.sum())} such rows); "
            "it must be a number, or empty where it is not known"
        )
    return _of_images((values / feature.divisor).fillna(feature.unknown), test_set)


def _one_hot(feature: MetadataFeature, test_set: TestSet) -> Floats:
    names = [name.casefold() for name in feature.categories]
    text = _values(feature, test_set).str.casefold()
    _check_known(feature, text, names, test_set)
    column = text.map({name: number for number, name in enumerate(names)}).astype("float64")
    chosen = _of_images(column.fillna(len(names)), test_set)
    return np.array(chosen == np.arange(len(names) + 1), dtype=np.float64)


def _log_count(feature: MetadataFeature, test_set: TestSet) -> Floats:
    text = _values(feature, test_set)
    counts = text.map(text.value_counts()).astype("float64").fillna(feature.unknown)
    logs: Floats = np.log1p(_of_images(counts, test_set))
    return logs


def _log_file_size(_: MetadataFeature, test_set: TestSet) -> Floats:
    sizes = [[image.size] for image in test_set.images]
    return np.log(np.array(sizes, dtype=np.float64))


def _check_known(feature: MetadataFeature, text: pd.Series[str], known: list[str], test_set: TestSet) -> None:
    strange = text[text.notna() & ~text.isin(known)]
    if len(strange):
        raise InputError(
            f"{test_set.table_path}: {len(strange)} images have a {feature.role} that the system does not know: "
            f"{listed(sorted(map(repr, set(strange))))}; write {', '.join(known)}, or leave it empty where it is not known"
        )


_KINDS: dict[str, Callable[[MetadataFeature, TestSet], Floats]] = {
    "code": _code,
    "scaled": _scaled,
    "one_hot": _one_hot,
    "log_count": _log_count,
    "log_file_size": _log_file_size,
}
