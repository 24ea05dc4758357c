"""The Parquet format of predictions, and how it is written and read: row group by row group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from evaluate.blend import Floats
from zoo.errors import InputError
from zoo.files import replacing

SCHEMA_VERSION = 1
"""Version of the Parquet format; files of a later version are refused."""

SCHEMA = pa.schema(
    [
        ("image", pa.string()),
        ("lesion", pa.string()),
        ("patient", pa.string()),
        ("member", pa.string()),
        ("fold", pa.int32()),
        ("score", pa.float64()),
        ("kind", pa.string()),
    ]
)
"""Columns of a Parquet file; `lesion`, `patient`, `member` and `fold` may be null."""

METADATA = b"melanoma_zoo"
"""The key of the file's metadata that holds a `Header`, as JSON."""

ROW_GROUP = 2**16
"""Rows of a row group, which is in memory while a file is written."""


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of itself."""

    schema: int
    system: str
    metadata: dict[str, Any] = {}


def write_rows(
    parts: Iterable[pd.DataFrame], path: Path, *, system: str, kind: str, metadata: Mapping[str, Any]
) -> None:
    """Writes rows that come in parts; the file does not depend on how they are cut.

    Args:
        parts: Rows in their order, with the columns of `evaluate.predictions.Predictions`.
        path: The file.
        system: Name of the system.
        kind: What its scores are.
        metadata: What the file says of itself.

    Raises:
        MachineError: The file cannot be written.
    """
    header = Header(schema=SCHEMA_VERSION, system=system, metadata=dict(metadata))
    schema = SCHEMA.with_metadata({METADATA: msgspec.json.encode(header)})
    with replacing(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for group in _row_groups(parts, kind):
            writer.write_table(group.replace_schema_metadata(schema.metadata), row_group_size=ROW_GROUP)


def _row_groups(parts: Iterable[pd.DataFrame], kind: str) -> Iterator[pa.Table]:
    """Tables of `ROW_GROUP` rows; the last one has what is left."""
    rows = SCHEMA.empty_table()
    for part in parts:
        frame = part.assign(kind=kind).reindex(columns=SCHEMA.names)
        added = pa.Table.from_pandas(frame, schema=SCHEMA, preserve_index=False)
        rows = pa.concat_tables([rows, added.replace_schema_metadata(None)])
        while len(rows) > ROW_GROUP:
            yield rows.slice(0, ROW_GROUP).combine_chunks()
            rows = rows.slice(ROW_GROUP)
    yield rows.combine_chunks()


def read_header(path: Path) -> Header:
    """What a file says of itself, after checking that this version can read it.

    Raises:
        InputError: There is none, or it is not one of predictions, or of a later version.
    """
    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: there is no such file") from error
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    try:
        header = msgspec.json.decode((schema.metadata or {}).get(METADATA, b"{}"), type=Header)
    except msgspec.MsgspecError as error:
        raise InputError(
            f"{path}: does not say what its scores are of ({error}); write it with write_predictions"
        ) from error
    if header.schema > SCHEMA_VERSION:
        raise InputError(
            f"{path}: written in version {header.schema} of the format, this program reads up to "
            f"{SCHEMA_VERSION}; use a newer melanoma-zoo"
        )
    if missing := [name for name in SCHEMA.names if name not in schema.names]:
        raise InputError(f"{path}: no column {missing[0]!r}; columns are {', '.join(schema.names)}")
    return header


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[pd.DataFrame]:
    """Some columns of a file, so many rows at a time as a row group has."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROW_GROUP, columns=list(columns)):
            yield batch.to_pandas()


def trainings(parts: Iterable[pd.DataFrame]) -> Iterator[tuple[str, Floats]]:
    """The member and all scores of one training after another, of rows that are in that order."""
    rows = (
        (training, own) for part in parts for training, own in part.groupby(["member", "fold"], sort=False)
    )
    for (member, _), same in groupby(rows, key=lambda each: each[0]):
        yield str(member), np.concatenate([own["score"].to_numpy() for _, own in same])
