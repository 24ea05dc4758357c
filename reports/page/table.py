"""The comparison as one table that can be sorted, filtered and copied."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from benchmarks.parameters import RULES
from evaluate.protocols import PROTOCOLS
from evaluate.scored import CHOSEN_HERE
from reports.differences import reference
from reports.figures import decimals, fewer, giga, megabytes, millions, milliseconds, with_sign
from reports.measured import energy, quick_mark, timed
from reports.operating import CHOSEN
from reports.record import Record
from reports.rows import Row, protocols, reduction_key, rows, score_prefix, winners
from reports.tables import Column, cell


class Cell(msgspec.Struct, frozen=True):
    """A cell: its text, and the number it is sorted by; None sorts last."""

    text: str
    value: float | None = None


class Head(msgspec.Struct, frozen=True):
    """A column: its key, its header, whether it holds words, and whether it is shown at first."""

    key: str
    title: str
    words: bool
    shown: bool


class Sortable(msgspec.Struct, frozen=True):
    """The table: its columns and rows."""

    heads: tuple[Head, ...]
    rows: tuple[tuple[Cell, ...], ...]


def sortable(record: Record) -> Sortable:
    """Every figure of the comparison: a row per system, a column per figure."""
    found = rows(record)
    words = [
        (Head("title", "System", True, True), [row["title"] for row in found]),
        (Head("group", "Group", True, True), [row["group"] for row in found]),
    ]
    columns = [(column, shown) for column, shown in _columns(record) if any(row.get(column.key) is not None or row.get(f"{column.key}_reason") for row in found)]  # fmt: skip
    heads = [head for head, _ in words] + [
        Head(column.key, column.header, False, shown) for column, shown in columns
    ]
    return Sortable(
        heads=tuple(heads),
        rows=tuple(
            (
                *(Cell(texts[place]) for _, texts in words),
                *(Cell(_text(row, column), row.get(column.key)) for column, _ in columns),
            )
            for place, row in enumerate(found)
        ),
    )


def _text(row: Row, column: Column) -> str:
    """The text of a figure, marked where the test set chose its threshold."""
    chosen = row.get(f"{column.key}_threshold_from") in CHOSEN_HERE
    return cell(row, column) + (CHOSEN if chosen else "")


def _columns(record: Record) -> Iterator[tuple[Column, bool]]:
    """Every column, and whether it is shown at first."""
    first = True
    for name in protocols(record):
        prefix = score_prefix(record, name)
        for column in PROTOCOLS[name].columns:
            mark = f", {PROTOCOLS[name].title.lower()} protocol" if prefix else ""
            shown = first and column.name in ("roc_auc", "average_precision", "specificity")
            yield Column(prefix + column.name, column.title + mark, decimals), shown
            if not prefix and record.scores and column.name == "roc_auc":
                title = next(s.title for s in record.scores[0].systems if s.system == reference(record.scores[0], record.settings.reference))  # fmt: skip
                yield Column("roc_auc_difference", f"ROC-AUC less that of {title}", with_sign), True
        first = False
    for rule in RULES:
        yield Column(f"parameters_{rule}", f"Parameters, M ({RULES[rule].title})", millions), rule == record.settings.rule  # fmt: skip
    yield Column("weight_bytes", "Weights, MB", megabytes), False
    yield Column("macs_pass", "One pass, GMACs", giga), True
    yield Column("macs_protocol", "Protocol, GMACs", giga), False
    yield Column("latency_ms", f"Latency, ms{quick_mark(record)}", milliseconds), timed(record)
    yield Column("energy_j", "Energy for one lesion, J", milliseconds), energy(record)
    for winner in winners(record):
        for rule in RULES:
            yield Column(reduction_key(rule, winner), f"Fewer parameters than {winner.card.title} ({RULES[rule].title})", fewer), False  # fmt: skip
    for key, title in (("members", "Members"), ("folds", "Folds"), ("views", "Views")):
        yield Column(key, title, str), False
