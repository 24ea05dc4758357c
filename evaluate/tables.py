"""Reading CSV tables so that an error can name the row."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from zoo.errors import InputError
from zoo.urls import is_url, read_content

_TRUTH = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def read_csv(path: Path, text: Iterable[str]) -> pd.DataFrame:
    """A CSV table, indexed by its row in the file (the header is row 1); blank rows are left out.

    Args:
        path: The file; a byte-order mark and any line ends are understood.
        text: Names of columns that are kept as text, however much they look like numbers.

    Raises:
        InputError: The file cannot be read as a table, or two columns have one of the names.
    """
    names = list(text)
    try:
        with warnings.catch_warnings():
            # pandas only warns when rows are longer than the header, and drops what is too much.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                _content(path),
                dtype=dict.fromkeys(names, str),
                index_col=False,
                skip_blank_lines=False,
                low_memory=False,
            )
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read as a CSV table: it is not text in UTF-8") from error
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path}: the file is empty") from error
    except MemoryError:
        raise
    except Exception as error:
        # Each kind of archive has errors of its own, also where a package is missing for it.
        raise InputError(f"{path}: cannot be read as a CSV table: {' '.join(str(error).split())}") from error
    if len(frame.columns) == 1 and ";" in str(frame.columns[0]):
        raise InputError(f"{path}: its columns are separated by semicolons; save it with commas")
    if twice := [name for name in names if name in frame and f"{name}.1" in frame and _repeats(path, name)]:
        raise InputError(f"{path}: two columns are called {twice[0]!r}; keep or rename one of them")
    frame.index = pd.RangeIndex(2, len(frame) + 2, name="row")
    frame = frame.dropna(how="all")
    if frame.empty:
        raise InputError(f"{path}: the table has no rows")
    return frame


def _content(path: Path) -> Path | io.BytesIO:
    """What pandas reads."""
    return io.BytesIO(read_content(path)) if is_url(path) else path


def _repeats(path: Path, name: str) -> bool:
    """Whether a header has a name twice; pandas calls the second `name.1`, which a table may have of itself."""
    header = pd.read_csv(_content(path), header=None, nrows=1, dtype=str, skip_blank_lines=False)
    return bool((header.iloc[0] == name).sum() > 1)


def ids(frame: pd.DataFrame, column: str, path: str) -> pd.Series[str]:
    """The column of image ids.

    Raises:
        InputError: An id is missing or there twice; names the row.
    """
    found: pd.Series[str] = frame[column].str.strip()
    found = found.mask(found == "")
    if found.isna().any():
        raise InputError(
            f"{path}: row {found.index[found.isna()][0]} has no {column}; give every row an image id"
        )
    twice = found.duplicated()
    if twice.any():
        row = found.index[twice][0]
        first = found.index[found == found[row]][0]
        raise InputError(f"{path}: row {row} repeats {found[row]} of row {first}; keep one of them")
    return found


def truth(column: pd.Series[str], path: str) -> pd.Series[bool]:
    """A column of 0 and 1 (or false and true) as booleans.

    Raises:
        InputError: A value is missing or something else; names the row.
    """
    values = column.str.strip().str.casefold().map(_TRUTH)
    if values.isna().any():
        row = column.index[values.isna()][0]
        value = "missing" if pd.isna(column[row]) else repr(column[row])
        raise InputError(f"{path}: row {row}: {column.name} is {value}; it must be 1 (melanoma) or 0")
    return values.astype(bool)


def numbers(column: pd.Series[str], path: str) -> pd.Series[float]:
    """A column of text as the nearest floating-point numbers; a missing value stays missing.

    `pandas.to_numeric` may be off by the last bit (before pandas 3), which makes or breaks ties.

    Raises:
        InputError: A value is not a number; names the row.
    """
    try:
        # Python's own reading of each text, in one go.
        values = column.to_numpy(dtype=object, na_value=float("nan")).astype("float64")
    except ValueError:
        row, text = next((row, text) for row, text in column.items() if not _is_number(text))
        raise InputError(f"{path}: row {row}: {column.name} is {text!r}; it must be a number") from None
    return pd.Series(values, index=column.index, dtype="float64")


def spelled(path: Path, column: str, text: str) -> pd.Series[bool]:
    """Which rows of a column have exactly this text, where pandas would read several as missing.

    Args:
        path: A table that `read_csv` has read.
        column: One of its columns.
        text: What is looked for, such as `n/a`.
    """
    cells = pd.read_csv(
        path, usecols=[column], dtype=str, index_col=False, skip_blank_lines=False, keep_default_na=False
    )[column]
    cells.index = pd.RangeIndex(2, len(cells) + 2, name="row")
    return cells.str.strip() == text


def _is_number(text: object) -> bool:
    try:
        float(text)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True
