"""A record in every format: what is printed, and what is written beside it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from evaluate.skipped import note
from reports import clinical, render
from reports.audit import audited
from reports.counts import counted
from reports.differences import reference
from reports.profile import tables as profiled
from reports.record import Record, load, save
from reports.rows import rows as all_rows
from reports.summary import summary
from reports.tables import comparison
from reports.tidy import tidy
from reports.verdicts import caveats, verdicts
from zoo.errors import InputError, UsageError
from zoo.files import sha256, write

FORMATS = {"markdown": "md", "csv": "csv", "latex": "tex", "json": "json"}
"""Formats of files, and the ending of each; the terminal has its own."""


def tables(record: Record) -> list[render.Table]:
    """All tables of a record: verdicts on claims where there are any, the summary, then the comparison."""
    answers = _answers(record)
    titles = {entry.card.name: entry.card.title for entry in record.entries}
    findings = audited(record.audit, titles) if record.audit else []
    return [
        *verdicts(record),
        *summary(record),
        *comparison(record),
        *answers,
        *findings,
        *_filled(counted(record.entries)),
        *(profiled(record.profile) if record.profile else ()),
        *_filled(caveats(record)),
    ]


def _filled(table: render.Table) -> list[render.Table]:
    """A table that has rows; nothing where it has none."""
    return [table] if table.rows else []


def tables_on_screen(record: Record) -> list[render.Table]:
    """All tables of a record in the order of a screen, which ends with the verdicts and the summary."""
    last = [*verdicts(record), *summary(record)]
    return [*tables(record)[len(last) :], *last]


def _skipped(record: Record) -> list[str]:
    return next((note(scores.skipped, scores.n) for scores in record.scores), [])


def _answers(record: Record) -> list[render.Table]:
    """What a clinic asked for; its systems are compared with the reference of the scores."""
    if record.clinical is None or not record.scores:
        return []
    return clinical.tables(
        record.clinical, reference(record.scores[0], record.settings.reference), _skipped(record)
    )


def text(record: Record, style: str) -> str:
    """The record in one of `FORMATS`.

    CSV and JSON hold the whole frame, a row per system and a column per figure; JSON has the
    settings, the machine, the verdicts and the clinical figures too. What does not fit the frame's rows
    is in the further CSV files of `write_all`.
    """
    if style == "markdown":
        return render.markdown(tables(record))
    if style == "latex":
        return render.latex(tables(record))
    rows = all_rows(record)
    if style == "csv":
        return render.delimited(list(rows[0]), [list(row.values()) for row in rows])
    content = {
        "systems": rows,
        "claims": record.claims,
        "clinical": record.clinical,
        "audit": record.audit,
        "profile": record.profile,
        "left_out": record.left_out,
        "skipped": record.scores[0].skipped if record.scores else {},
        "schema": record.schema,
        "settings": record.settings,
        "machine": record.machine,
        "inputs": record.inputs,
        "created": record.created,
        "tool": record.tool,
    }
    return msgspec.json.format(msgspec.json.encode(content), indent=2).decode() + "\n"


def write_all(record: Record, folder: Path, name: str) -> list[Path]:
    """Writes `record.json`, `name` in every format, and the parts of `reports.tidy` as CSV.

    Parts of the record that was there before, which this one lacks, are removed: nothing in them says whose they are.

    Returns:
        The files written.

    Raises:
        MachineError: The folder cannot be written.
        UsageError: A table would replace a file that the record was made from; `record.json` is written then.
    """
    earlier = _parts(folder / "record.json")
    save(record, folder / "record.json")
    written = [folder / "record.json"]
    read = {each.sha256 for each in record.inputs}
    for path in [
        *(folder / f"{name}.{ending}" for ending in FORMATS.values()),
        *(folder / f"{part}.csv" for part in tidy(record)),
    ]:
        if path.is_file() and sha256(path) in read:
            raise UsageError(
                f"{path}: was read, and a table of this name would replace it; the record is in {folder / 'record.json'}: "
                f"write its tables elsewhere with `report`, or name another --output"
            )
    for style, ending in FORMATS.items():
        path = folder / f"{name}.{ending}"
        write(path, text(record, style))
        written.append(path)
    for part, rows in tidy(record).items():
        path = folder / f"{part}.csv"
        write(path, render.delimited(list(rows[0]), [list(row.values()) for row in rows]))
        written.append(path)
    for part in earlier:
        path = folder / f"{part}.csv"
        with suppress(OSError):
            if path not in written and sha256(path) not in read:
                path.unlink()
    return written


def _parts(path: Path) -> list[str]:
    """The parts that were written beside a record; none where there is no record that can be read."""
    try:
        return list(tidy(load(path)))
    except InputError:
        return []
