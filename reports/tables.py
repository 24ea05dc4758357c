"""The comparison as tables: costs, parameter reductions, scores, and what was printed elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from benchmarks.parameters import RULES
from evaluate.predictions import UNSTATED
from evaluate.protocols import PROTOCOLS, title_of
from evaluate.protocols import Column as Figure
from evaluate.scored import CHOSEN_HERE, Scores
from evaluate.words import many
from reports.differences import difference_tables, letter_notes, reference
from reports.figures import decimals, fewer, giga, megabytes, millions, milliseconds
from reports.measured import energy, note, quick_mark, timed
from reports.operating import no_interval
from reports.record import Record
from reports.render import Table
from reports.rows import (
    Row,
    printed_key,
    protocols,
    reduction_key,
    rows,
    score_figures,
    score_prefix,
    winners,
)


class Column(msgspec.Struct, frozen=True):
    """How a figure is shown: its key in the frame, its header, and its text."""

    key: str
    header: str
    text: Callable[[Any], str] = str


class Section(msgspec.Struct, frozen=True):
    """Figures that are shown together, with what a reader must know of them."""

    title: str
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()


def comparison(record: Record) -> list[Table]:
    """The comparison as tables: costs, parameter reductions, scores, and what was printed elsewhere."""
    found = rows(record)
    return [
        _table(_cost_section(record), found),
        *_reductions(record),
        *(_table(section, found) for section in _score_sections(record)),
        *_difference_tables(record),
        *(_table(section, found) for section in _printed_sections(record)),
    ]


def _difference_tables(record: Record) -> list[Table]:
    """Differences under the protocol that was asked for; the frame has those of the others."""
    return [
        table
        for scores in record.scores
        if scores.protocol == record.settings.protocol
        for table in difference_tables(scores, reference(scores, record.settings.reference))
    ]


def cell(row: Row, column: Column) -> str:
    """The text of one figure: its value, interval, letters and doubts, or `n/a` with the reason."""
    value = row.get(column.key)
    if value is None:
        reason = row.get(f"{column.key}_reason")
        return f"n/a ({reason})" if reason else "–"
    low, high = row.get(f"{column.key}_low"), row.get(f"{column.key}_high")
    text = column.text(value)
    if low is not None and high is not None:
        text += f" ({column.text(low)} to {column.text(high)})"
    marks = (row.get(f"{column.key}_group"), row.get(f"{column.key}_flag"))
    return " ".join((text, *filter(None, marks)))


def _table(section: Section, found: list[Row]) -> Table:
    return Table(
        section.title,
        ("System", *(column.header for column in section.columns)),
        tuple((row["title"], *_cells(row, section.columns)) for row in found),
        section.notes,
    )


def _cells(row: Row, columns: tuple[Column, ...]) -> list[str]:
    """The cells of a row; where all figures are missing for one reason, it is said once."""
    cells = [cell(row, column) for column in columns]
    if len(set(cells)) == 1 and cells[0].startswith("n/a"):
        return [cells[0], *("n/a" for _ in cells[1:])]
    return cells


def _cost_section(record: Record) -> Section:
    rule = RULES[record.settings.rule]
    columns = [
        Column("members", "Members"),
        Column("folds", "Folds"),
        Column(f"parameters_{record.settings.rule}", "Parameters, M", millions),
        Column("weight_bytes", "Weights, MB", megabytes),
        Column("macs_pass", "One pass, GMACs", giga),
        Column("macs_protocol", "Protocol, GMACs", giga),
    ]
    if timed(record):
        columns.append(Column("latency_ms", f"Latency, ms{quick_mark(record)}", milliseconds))
    if energy(record):
        columns.append(Column("energy_j", "Energy, J", milliseconds))
    return Section(
        f"What each system costs (counting {rule.title})",
        tuple(columns),
        (
            f"Parameters and weights: {rule.title}. {rule.definition}",
            "Weights: parameters and buffers in fp32, under the same rule.",
            "One pass: one forward pass of one fold of every member, batch 1, each at its own input size. "
            "GMACs: convolutions and matrix products, in thousand millions of multiply-accumulates (GFLOPs "
            "are twice as many).",
            "Protocol: one lesion image through all members, folds and distinct views.",
            *_view_notes(record),
            *_latency_notes(record),
        ),
    )


def _reductions(record: Record) -> list[Table]:
    """Parameters under every counting rule, and how many fewer than each winner."""
    against = winners(record)
    if not against:
        return []
    found = [
        (
            row["title"],
            RULES[rule].title,
            cell(row, Column(f"parameters_{rule}", "", millions)),
            *(cell(row, Column(reduction_key(rule, winner), "", fewer)) for winner in against),
        )
        for row in rows(record)
        for rule in RULES
    ]
    return [
        Table(
            "Fewer parameters than each winner, under each counting rule",
            ("System", "Counting", "Parameters, M", *(f"than {winner.card.title}" for winner in against)),
            tuple(found),
            tuple(f"{rule.title}: {rule.definition}" for rule in RULES.values()),
            align="ll" + "r" * (1 + len(against)),
        )
    ]


def _view_notes(record: Record) -> list[str]:
    """Where the published procedure passes an image more or less often than is counted."""
    found: dict[str, list[str]] = {}
    for card in (entry.card for entry in record.entries):
        views = card.views
        if views.crops > 1:
            found.setdefault(f"up to {views.crops} crops, by the image's shape", []).append(card.title)
        if views.published > views.distinct:
            text = f"{views.published} views are computed as published, {views.distinct} distinct ones are counted"
            found.setdefault(text, []).append(card.title)
        if views.note:
            found.setdefault(views.note, []).append(card.title)
    return [f"{', '.join(titles)}: {text}." for text, titles in found.items()]


def _latency_notes(record: Record) -> list[str]:
    if said := note(record):
        return [said]
    latencies = [member.latency for entry in record.entries for member in entry.members if member.latency]
    if not latencies:
        return []
    first = latencies[0]
    return [
        f"Latency: median of a forward pass of batch 1 in a fresh process, {first.precision}, summed over the "
        f"members of one fold; a short run (quick), to be read as an order of magnitude: noisy where a member's "
        "samples spread by more than 10% of their median, invalid by more than 25%. "
        f"Measured on {'; '.join(first.machine.gpus) if first.device == 'cuda' else first.machine.cpu}, "
        f"{first.machine.cores} cores, torch {first.machine.torch}."
    ]


def _score_sections(record: Record) -> list[Section]:
    scored_by = {scores.protocol: scores for scores in record.scores}
    return [
        _score_section(name, scored_by.get(name), score_prefix(record, name)) for name in protocols(record)
    ]


def scored(scores: Scores, asked: str | None = None) -> list[Table]:
    """Scores alone, without cards or costs, and their differences from a reference."""
    name = reference(scores, asked)
    found = [{"title": system.title, **score_figures(system)} for system in scores.systems]
    return [_table(_score_section(scores.protocol, scores, ""), found), *difference_tables(scores, name)]


def _score_section(name: str, scores: Scores | None, prefix: str) -> Section:
    protocol = PROTOCOLS[name]
    columns = tuple(Column(prefix + c.name, c.title + _mark(c, scores), decimals) for c in protocol.columns)
    title = f"Scores, {protocol.title.lower()} protocol"
    if scores is None:
        return Section(title, (Column(columns[0].key, "All figures"),), (protocol.definition,))
    title += f": {many(scores.n, 'lesion')}, {many(scores.positives, 'melanoma')}, {many(scores.patients, 'patient')}"
    notes = [protocol.definition]
    if any(_mark(column, scores) for column in protocol.columns):
        notes.append(f"{_CHOSEN.strip()} at a threshold chosen on this test set.")
    notes += [*letter_notes(scores), *scores.notes, *_rank_notes(scores)]
    notes += no_interval(metric for system in scores.systems for metric in system.metrics.values())
    notes += [f"{system.title}: {note}" for system in scores.systems for note in system.notes]
    notes.append(f"{scores.resamples:,} resamples, seed {scores.seed}.")
    return Section(title, columns, tuple(notes))


def _printed_sections(record: Record) -> list[Section]:
    figures = {printed_key(f): f for entry in record.entries for f in entry.card.expected}
    if not figures:
        return []
    columns = tuple(
        Column(key, f"{title_of(f.metric)}, {f.test_set}", lambda value: f"{value:g}")
        for key, f in figures.items()
    )
    return [
        Section(
            "As printed elsewhere: not computed here, and not on one test set",
            columns,
            tuple(
                dict.fromkeys(
                    f"{title_of(f.metric)}: {f.note} ({f.source})" for f in figures.values() if f.note
                )
            ),
        )
    ]


_CHOSEN = " †"


def _mark(column: Figure, scores: Scores | None) -> str:
    """A mark for figures whose threshold the test set itself chose, for one system or all."""
    origins = {each.metrics[column.name].threshold_from for each in scores.systems} if scores else set()
    return _CHOSEN if origins & CHOSEN_HERE else ""


def _rank_notes(scores: Scores) -> list[str]:
    ranks = [each for each in scores.systems if each.kind == "rank"]
    unstated = [each.title for each in ranks if UNSTATED in each.notes]
    titles = [each.title for each in ranks if each.title not in unstated]
    return [
        *([f"{', '.join(titles)}: scores are ranks, not probabilities."] if titles else []),
        *([f"{', '.join(unstated)}: scores are not known to be probabilities."] if unstated else []),
    ]
