"""Several records in one ranking, as far as their figures may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from benchmarks.machine import differences as other_machine
from benchmarks.parameters import parameters
from evaluate.protocols import PROTOCOLS
from evaluate.scored import CHOSEN_HERE, Metric, Scores, SystemScores
from reports.figures import giga, millions, milliseconds
from reports.measured import Measured, measured
from reports.operating import CHOSEN, estimated
from reports.record import Entry, Record
from reports.render import Table
from reports.summary import meaningless
from zoo.errors import UsageError


class Named(msgspec.Struct, frozen=True):
    """A record and the name it has in the tables."""

    name: str
    record: Record


class Ranked(msgspec.Struct, frozen=True):
    """A system with scores, and where it comes from."""

    source: Named
    scores: Scores
    system: SystemScores

    @property
    def entry(self) -> Entry | None:
        """Its card and what it costs."""
        return self.source.record.entry(self.system.system)


class Board(msgspec.Struct, frozen=True):
    """A leaderboard.

    Attributes:
        names: Names of the records.
        tables: All tables, the rankings first.
        rankings: Rows of each ranking of scores by the title of its table, the best first.
    """

    names: tuple[str, ...]
    tables: tuple[Table, ...]
    rankings: dict[str, tuple[Ranked, ...]]


def leaderboard(records: Sequence[Named], figures: Sequence[str] = ()) -> Board:
    """A ranking for each test set and protocol, and one of time for each machine.

    Args:
        records: The records, with their names.
        figures: Names of the figures that are shown; all of the protocol where empty.

    Figures of other lesions, protocols or machines are never in one ranking: they stand in sections
    of their own, which say why.

    Raises:
        UsageError: Two records have the same name, so that nobody could tell their rows apart.
    """
    names = [each.name for each in records]
    if len(set(names)) < len(names):
        raise UsageError(
            f"two records are called {next(n for n in names if names.count(n) > 1)}; rename a folder"
        )
    sections: dict[tuple[str, str], list[Ranked]] = {}
    for each in records:
        for scores in each.record.scores:
            rows = sections.setdefault((scores.protocol, _lesions(each.record, scores)), [])
            rows += [Ranked(each, scores, system) for system in scores.systems]
    ranked = [tuple(sorted(rows, key=_falling)) for rows in sections.values()]
    tables = [_ranking(rows, list(sections), figures) for rows in ranked]
    return Board(
        names=tuple(names),
        tables=(*tables, *_times(records), *_unscored(records), _sources(records)),
        rankings={table.title: rows for table, rows in zip(tables, ranked, strict=True)},
    )


def _falling(row: Ranked) -> float:
    return -(row.system.metrics["roc_auc"].value or float("-inf"))


def _lesions(record: Record, scores: Scores) -> str:
    """What tells the lesions of two records apart; an old record knows only its table of labels."""
    return record.lesions.sha256 if record.lesions else f"labels {scores.labels_sha256} {scores.n}"


def _ranking(rows: Sequence[Ranked], sections: Sequence[tuple[str, str]], figures: Sequence[str]) -> Table:
    first = rows[0]
    protocol = PROTOCOLS[first.scores.protocol]
    several = len({row.source.name for row in rows}) > 1
    columns = [
        column
        for column in protocol.columns
        if column.name in first.system.metrics and (not figures or column.name in figures)
    ]
    chosen = any(_chosen(row.system.metrics[column.name]) for row in rows for column in columns)
    digest = _lesions(first.source.record, first.scores)
    return Table(
        f"Ranking, {protocol.title.lower()} protocol: {first.scores.n} lesions, {first.scores.positives} melanomas "
        f"({digest.removeprefix('labels ')[:12]})",
        ("Rank", "System", "Record", "Parameters, M", *(column.title for column in columns)),
        tuple(
            (
                str(place),
                row.system.title,
                row.source.name,
                _size(row),
                *(_figure(row.system.metrics[column.name]) for column in columns),
            )
            for place, row in enumerate(rows, start=1)
        ),
        (
            *_meaningless(rows),
            "By ROC-AUC. A rank is no proof: systems whose intervals overlap may not be told apart.",
            *(["Rows of different records are ranked, not tested against each other; gate does that."] if several else []),
            *([f"{CHOSEN.strip()} at a threshold chosen on this test set: optimistic."] if chosen else []),
            *_apart(first, sections),
        ),
        align="rllr" + "r" * len(columns),
    )  # fmt: skip


def _meaningless(rows: Sequence[Ranked]) -> list[str]:
    """Whose scores are of random weights, record by record."""
    scores = {row.source.name: row.scores for row in rows}
    return [f"{name}: {said}" for name, each in scores.items() for said in meaningless(each)]


def _figure(metric: Metric) -> str:
    return estimated(metric) + (CHOSEN if _chosen(metric) else "")


def _chosen(metric: Metric) -> bool:
    """Whether the test set chose the threshold, which flatters the figure."""
    return metric.threshold_from in CHOSEN_HERE


def _size(row: Ranked) -> str:
    entry = row.entry
    return millions(parameters(entry.card, entry.operations, "networks")) if entry and entry.members else "–"


def _apart(row: Ranked, sections: Sequence[tuple[str, str]]) -> list[str]:
    """Why other scores are not in this ranking."""
    own = (row.scores.protocol, _lesions(row.source.record, row.scores))
    reasons = []
    if any(lesions != own[1] for _, lesions in sections):
        reasons.append("of other test sets (other lesions or labels)")
    if any(protocol != own[0] for protocol, _ in sections):
        reasons.append("under other protocols")
    return (
        [f"Not in this ranking: scores {' and '.join(reasons)}; they cannot be compared."] if reasons else []
    )


class _Time(msgspec.Struct, frozen=True):
    """A system that was timed, and where it comes from."""

    source: Named
    entry: Entry
    taken: Measured


def _times(records: Sequence[Named]) -> Iterator[Table]:
    """A ranking of latency for each machine and each way of measuring."""
    groups: list[list[_Time]] = []
    for each in records:
        for name, taken in measured(each.record).items():
            entry = each.record.entry(name)
            if entry is None or taken.latency_ms is None:
                continue
            row = _Time(each, entry, taken)
            home = next((group for group in groups if _comparable(group[0].taken, taken)), None)
            groups.append([row]) if home is None else home.append(row)
    for group in groups:
        first = group[0].taken
        machine = first.machine
        assert machine is not None
        where = "; ".join(machine.gpus) if first.variant.startswith("cuda") else machine.cpu
        joules = any(row.taken.energy_j is not None for row in group)
        yield Table(
            f"Ranking of latency on {where}, {machine.cores} cores ({first.variant})",
            ("Rank", "System", "Record", "Latency of one fold, ms", *(["Energy for one lesion, J"] if joules else []), "One pass, GMACs", "Doubts"),
            tuple(
                (
                    str(place), row.entry.card.title, row.source.name, milliseconds(row.taken.latency_ms or 0.0),
                    *([f"n/a ({row.taken.energy_reason})" if row.taken.energy_j is None else milliseconds(row.taken.energy_j)] if joules else []),
                    giga(sum(counted.macs for counted in row.entry.operations)),
                    ", ".join((*row.taken.flags, *row.taken.energy_flags)) or "–",
                )
                for place, row in enumerate(sorted(group, key=lambda row: row.taken.latency_ms or 0.0), start=1)
            ),
            ("Not in this ranking: times of other machines, devices, precisions or ways of measuring; they cannot be compared.",)
            if len(groups) > 1
            else (),
            align="rllr" + "r" * joules + "rl",
        )  # fmt: skip


def _comparable(a: Measured, b: Measured) -> bool:
    assert a.machine is not None
    assert b.machine is not None
    return a.variant == b.variant and not other_machine(a.machine, b.machine)


def _unscored(records: Sequence[Named]) -> list[Table]:
    rows = tuple(
        (entry.card.title, each.name, each.record.missing.get(entry.card.name, each.record.unscored or "no predictions"))
        for each in records
        for entry in each.record.entries
        if not any(s.system == entry.card.name for scores in each.record.scores for s in scores.systems)
    )  # fmt: skip
    return [Table("Not ranked: no scores", ("System", "Record", "Why"), rows, align="lll")] if rows else []


def _sources(records: Sequence[Named]) -> Table:
    return Table(
        "Records",
        ("Record", "Made", "By", "Systems", "Machine"),
        tuple(
            (
                each.name,
                each.record.created,
                f"melanoma-zoo {each.record.tool}",
                str(len(each.record.entries)),
                f"{each.record.machine.cpu}, {each.record.machine.os}, torch {each.record.machine.torch}",
            )
            for each in records
        ),
        align="lllrl",
    )
