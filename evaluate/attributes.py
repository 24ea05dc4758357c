"""Attributes of lesions and patients that subgroups are made of, as data, and how they are read."""

from __future__ import annotations

import re
from itertools import pairwise

import msgspec
import pandas as pd

from evaluate.labels import Labels
from zoo.errors import InputError


class Attribute(msgspec.Struct, frozen=True, kw_only=True):
    """What lesions are divided by.

    Attributes:
        name: Its name.
        title: Its name in tables.
        columns: What its column is called in the tables we know; the first that is there is taken.
        edges: For a number: where its bands begin and end.
        unit: For a number: what it is measured in.
        patterns: Names of groups and what, found in a value without regard to case, puts it
            there; empty where each value is a group of its own.
        of_melanoma: Only melanomas have it.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    edges: tuple[float, ...] = ()
    unit: str = ""
    patterns: dict[str, str] = {}
    of_melanoma: bool = False


ATTRIBUTES: tuple[Attribute, ...] = (
    Attribute(name="sex", title="Sex", columns=("sex",)),
    Attribute(name="age", title="Age", columns=("age_approx", "age"), edges=(40, 60, 80), unit="years"),
    Attribute(
        name="site",
        title="Site",
        columns=("anatom_site_general", "anatom_site_general_challenge", "anatom_site_1"),
    ),
    Attribute(name="dermoscopy", title="Dermoscopy", columns=("dermoscopic_type",)),
    Attribute(
        name="skin_type",
        title="Fitzpatrick skin type",
        columns=("fitzpatrick_skin_type",),
        patterns={"I to II": "^(I|II|[12])$", "III to IV": "^(III|IV|[34])$", "V to VI": "^(V|VI|[56])$"},
    ),
    Attribute(
        name="invasion",
        title="Melanoma",
        columns=("mel_class", "diagnosis_3"),
        patterns={"in situ": "in situ", "invasive": "invasive"},
        of_melanoma=True,
    ),
    Attribute(
        name="thickness",
        title="Melanoma thickness",
        columns=("mel_thick_mm",),
        edges=(0.8,),
        unit="mm",
        of_melanoma=True,
    ),
)
"""Attributes in the order of tables. 0.8 mm divides T1a from T1b (AJCC, 8th edition); Fitzpatrick's
six skin types are taken in pairs, since single ones hold too few melanomas."""

MISSING = ("", "-1", "-1.0", "unknown", "unspecified", "not specified", "na", "nan", "none")
"""What stands for "not known" in columns of attributes, in any case."""


def groups(attribute: Attribute, labels: Labels) -> pd.Series[pd.CategoricalDtype[str]] | None:
    """The group of each lesion image; missing where it is not known.

    Args:
        attribute: What to divide by.
        labels: The labels, with the columns of their table.

    Returns:
        Names of groups as an ordered categorical, indexed as the labels; None where the table has
        no such column or nothing in it.

    Raises:
        InputError: A value is not a number and should be.
    """
    column = next((name for name in attribute.columns if name in labels.table), None)
    if column is None:
        return None
    text = labels.table[column].astype("string").str.strip()
    text = text.mask(text.str.casefold().isin(MISSING))
    if attribute.of_melanoma:
        text = text.where(labels.table["melanoma"])
    if attribute.edges:
        found = _bands(attribute, text, column, labels)
    elif attribute.patterns:
        found = _matching(attribute, text)
    else:
        found = text.astype("category")
    return None if found.isna().all() else found


def band_names(edges: tuple[float, ...], unit: str) -> list[str]:
    """Names of the bands between edges; each begins with its lower edge.

    >>> band_names((40, 60), "years")
    ['under 40 years', '40 to under 60 years', '60 years and over']
    """
    inner = [f"{low:g} to under {high:g} {unit}" for low, high in pairwise(edges)]
    return [f"under {edges[0]:g} {unit}", *inner, f"{edges[-1]:g} {unit} and over"]


def _bands(
    attribute: Attribute, text: pd.Series[str], column: str, labels: Labels
) -> pd.Series[pd.CategoricalDtype[str]]:
    values = pd.to_numeric(text, errors="coerce").astype("float64")
    wrong = text.notna() & values.isna()
    if wrong.any():
        image = text.index[wrong][0]
        raise InputError(
            f"{labels.path}: {column} of {image} is {text[image]!r}; it must be a number, or empty "
            "where it is not known"
        )
    edges = [-float("inf"), *attribute.edges, float("inf")]
    return pd.cut(values, edges, right=False, labels=band_names(attribute.edges, attribute.unit)).astype(
        "category"
    )


def _matching(attribute: Attribute, text: pd.Series[str]) -> pd.Series[pd.CategoricalDtype[str]]:
    def group(value: object) -> str | None:
        if not isinstance(value, str):
            return None
        return next(
            (name for name, pattern in attribute.patterns.items() if re.search(pattern, value, re.I)), None
        )

    found = [group(value) for value in text]
    return pd.Series(pd.Categorical(found, categories=list(attribute.patterns)), index=text.index)
