"""Which training class a diagnosis belongs to."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources

import msgspec
import pandas as pd

from evaluate.diagnoses import plain_spelling
from evaluate.labels import COLUMNS, Labels
from zoo.card import System

MELANOMA = "MEL"
"""The class of what the labels call melanoma."""

NONE = "none"
"""Stands for diagnoses that no training set has a class for."""


class Classes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `evaluate/classes.toml`, which says what each of its lists means."""

    malignant: frozenset[str]
    catch_all: frozenset[str]
    none: frozenset[str]
    classes: dict[str, frozenset[str]]

    @property
    def class_of(self) -> dict[str, str]:
        """The class of each diagnosis in plain spelling."""
        lists = {**self.classes, NONE: self.none}
        return {plain_spelling(name): label for label, names in lists.items() for name in names}


@cache
def read_classes() -> Classes:
    """The table of this package."""
    text = (resources.files("evaluate") / "classes.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Classes)


def diagnoses(labels: Labels) -> pd.DataFrame | None:
    """The columns of the diagnosis, from the broadest level to the most specific; None where there is none."""
    for name in COLUMNS["diagnosis"]:
        levels = [name, *(f"{name}_{level}" for level in range(1, 6))]
        if found := [column for column in levels if column in labels.table]:
            return labels.table[found]
    return None


def trained_classes(levels: pd.DataFrame, melanoma: pd.Series[bool]) -> pd.Series[str]:
    """The class of each lesion image; `none` where no class fits, missing where the table does not know.

    Args:
        levels: Its diagnosis, from the broadest level to the most specific.
        melanoma: What the labels say.
    """
    class_of = read_classes().class_of
    known = levels.apply(
        lambda level: level.map(
            {name: class_of.get(plain_spelling(name)) for name in level.dropna().unique()}
        )
    )
    return most_specific(known).where(~melanoma, MELANOMA)


def most_specific(levels: pd.DataFrame) -> pd.Series[str]:
    """The last level of each row that is not missing.

    >>> most_specific(pd.DataFrame({"a": ["Benign", "Benign"], "b": ["Nevus", None]})).tolist()
    ['Nevus', 'Benign']
    """
    found: pd.Series[str] = levels.iloc[:, 0]
    for name in levels.columns[1:]:
        found = levels[name].where(levels[name].notna(), found)
    return found


def closed_classes(card: System) -> frozenset[str] | None:
    """The classes of a system's networks; None where they leave room for any diagnosis."""
    classes = frozenset(name for member in card.members for name in member.classes)
    return None if classes & read_classes().catch_all or classes == {MELANOMA} else classes
