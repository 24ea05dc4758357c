"""Which diagnoses are melanoma."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path

import msgspec
import pandas as pd

from zoo.errors import InputError


class Diagnoses(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names of diagnoses, in plain spelling: no case, no underscores, single spaces.

    Attributes:
        melanoma: Those that are melanoma.
        not_melanoma: Those that are not.
    """

    melanoma: frozenset[str] = frozenset()
    not_melanoma: frozenset[str] = frozenset()


def read_diagnoses(own: Path | str | None = None) -> Diagnoses:
    """The table of this package, `evaluate/diagnoses.toml`.

    Args:
        own: A table of your own; its names are added and win.

    Raises:
        InputError: The table cannot be read, or a name is in both of its lists.
    """
    shipped = resources.files("evaluate") / "diagnoses.toml"
    known = _parse(shipped.read_bytes(), "evaluate/diagnoses.toml")
    if own is None:
        return known
    try:
        more = _parse(Path(own).read_bytes(), str(own))
    except OSError as error:
        raise InputError(f"{own}: cannot be read: {error.strerror}") from error
    return Diagnoses(
        melanoma=known.melanoma - more.not_melanoma | more.melanoma,
        not_melanoma=known.not_melanoma - more.melanoma | more.not_melanoma,
    )


def is_melanoma(levels: pd.DataFrame, diagnoses: Diagnoses, path: str) -> pd.Series[bool]:
    """What the diagnosis of each row says; missing where no level of it is in the table.

    Args:
        levels: One column, or one for each level of the diagnosis; indexed by row in the file.
        diagnoses: The table.
        path: The file, for the message.

    Raises:
        InputError: Two levels of a row contradict each other.
    """
    plain = levels.apply(
        lambda level: level.str.replace(r"[\s_]+", " ", regex=True).str.strip().str.casefold()
    )
    yes = plain.isin(diagnoses.melanoma).any(axis="columns")
    no = plain.isin(diagnoses.not_melanoma).any(axis="columns")
    if (yes & no).any():
        row = levels.index[yes & no][0]
        raise InputError(
            f"{path}: row {row}: the diagnosis {joined(levels.loc[row])!r} is melanoma by one level "
            "and not by another; correct the row"
        )
    decided: pd.Series[bool] = yes.astype("boolean").mask(~yes & ~no)
    return decided


def joined(levels: pd.Series[str]) -> str:
    """The levels of one diagnosis as one text."""
    return " > ".join(levels.dropna())


def _parse(text: bytes, where: str) -> Diagnoses:
    try:
        table = msgspec.convert(tomllib.loads(text.decode()), Diagnoses)
    except (ValueError, msgspec.ValidationError) as error:
        raise InputError(f"{where}: not a table of diagnoses: {error}") from error
    plain = Diagnoses(
        melanoma=frozenset(map(plain_spelling, table.melanoma)),
        not_melanoma=frozenset(map(plain_spelling, table.not_melanoma)),
    )
    if both := plain.melanoma & plain.not_melanoma:
        raise InputError(f"{where}: {min(both)!r} is in both lists; keep it in one")
    return plain


def plain_spelling(name: str) -> str:
    """A diagnosis without what spellings differ in: case, underscores, repeated spaces."""
    return re.sub(r"[\s_]+", " ", name).strip().casefold()
