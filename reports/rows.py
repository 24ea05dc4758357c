"""The comparison as one frame: a row per system, a column per figure.

Every rendering reads these rows, so that the terminal, Markdown, CSV, LaTeX and JSON show the
same figures. A figure `x` may be joined by `x_low` and `x_high` (its interval), `x_group` (its
letters: systems that share one cannot be told apart), `x_threshold_from` (what its threshold was
chosen on), `x_note` (what it rests on) and `x_reason`
(why it is missing) and `x_flag` (why to doubt it). `x_difference` is the figure less that of the row's `reference`, with
`x_difference_p` (Holm-adjusted) and `x_difference_separable`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.parameters import RULES, parameters, protocol_macs, reduction, weight_bytes
from evaluate.protocols import PROTOCOLS
from evaluate.scored import SystemScores
from reports.differences import difference_figures, reference
from reports.measured import TIMED, Measured, measured
from reports.record import Entry, Record
from zoo.card import Expected

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]


def rows(record: Record) -> list[Row]:
    """One row per system, in the record's order, all with the same keys; what is missing is None."""
    compared = _differences(record)
    taken = measured(record)
    found: list[Row] = [
        {
            "system": entry.card.name,
            "title": entry.card.title,
            "group": entry.card.group,
            "members": len(entry.card.members),
            "folds": entry.card.folds,
            "views": entry.card.views.distinct,
            **_costs(entry, record, taken[entry.card.name]),
            **_reductions(entry, record),
            **_scores(entry, record),
            **compared.get(entry.card.name, {}),
            **{printed_key(figure): figure.value for figure in entry.card.expected},
        }
        for entry in record.entries
    ]
    keys = dict.fromkeys(key for row in found for key in row)
    return [{key: row.get(key) for key in keys} for row in found]


def frame(record: Record) -> pd.DataFrame:
    """The comparison as a pandas frame, indexed by system name."""
    import pandas as pd

    return pd.DataFrame(rows(record)).set_index("system")


def winners(record: Record) -> list[Entry]:
    """The systems that the others are measured against."""
    return [entry for entry in record.entries if entry.card.group == "winner"]


def _costs(entry: Entry, record: Record, taken: Measured) -> Row:
    card, operations = entry.card, entry.operations
    if not entry.members:
        costs = [
            *(f"parameters_{rule}" for rule in RULES),
            "weight_bytes",
            "macs_pass",
            "macs_protocol",
            *TIMED,
        ]
        return dict.fromkeys(costs) | {f"{key}_reason": _uncounted(entry, record) for key in costs}
    doubts = [flag for flag in taken.flags if flag != "quick"]
    return {
        **{f"parameters_{rule}": parameters(card, operations, rule) for rule in RULES},
        "weight_bytes": weight_bytes(card, operations, record.settings.rule),
        "macs_pass": sum(counted.macs for counted in operations),
        "macs_protocol": protocol_macs(card, operations),
        "latency_ms": taken.latency_ms,
        "latency_ms_reason": taken.latency_reason or None,
        "latency_ms_note": ", ".join(taken.flags),
        "latency_ms_flag": ", ".join(doubts) or None,
        "energy_j": taken.energy_j,
        "energy_j_reason": taken.energy_reason or None,
        "energy_j_note": ", ".join((*taken.flags, *taken.energy_flags)),
        "energy_j_flag": ", ".join((*doubts, *taken.energy_flags)) or None,
    }


def _uncounted(entry: Entry, record: Record) -> str:
    """Why a system has no costs: it has no network, or none that can be made."""
    if entry.card.members:
        return record.missing.get(entry.card.name, "its networks were not counted")
    return "no network, scores alone"


def _reductions(entry: Entry, record: Record) -> Row:
    row: Row = {}
    for rule in RULES:
        for winner in winners(record):
            if without := next((each for each in (entry, winner) if not each.members), None):
                row[reduction_key(rule, winner)] = None
                row[f"{reduction_key(rule, winner)}_reason"] = _uncounted(without, record)
                continue
            own = parameters(entry.card, entry.operations, rule)
            same = winner.card.name == entry.card.name
            other = parameters(winner.card, winner.operations, rule)
            row[reduction_key(rule, winner)] = None if same else reduction(own, other)
    return row


def reduction_key(rule: str, winner: Entry) -> str:
    """The frame's column for the reduction against a winner."""
    return f"reduction_{rule}_{winner.card.name}"


def score_figures(scored: SystemScores, prefix: str = "") -> Row:
    """The metrics of one system as columns of the frame."""
    row: Row = {"kind": scored.kind}
    for name, metric in scored.metrics.items():
        key = prefix + name
        row |= {key: metric.value, f"{key}_low": metric.low, f"{key}_high": metric.high}
        row |= {f"{key}_note": metric.note or None, f"{key}_reason": metric.reason or None}
        row[f"{key}_group"] = metric.group or None
        if metric.threshold_from is not None:
            row[f"{key}_threshold_from"] = metric.threshold_from
    return row


def score_prefix(record: Record, protocol: str) -> str:
    """What the columns of a protocol begin with: nothing for the one that was asked for."""
    return "" if protocol == record.settings.protocol else f"{protocol}_"


def _scores(entry: Entry, record: Record) -> Row:
    row: Row = {}
    for protocol in protocols(record):
        scored = record.scored(entry.card.name, protocol)
        prefix = score_prefix(record, protocol)
        if scored:
            row |= score_figures(scored, prefix)
        else:
            reason = record.missing.get(entry.card.name, "no predictions")
            for column in PROTOCOLS[protocol].columns:
                row |= {prefix + column.name: None, f"{prefix}{column.name}_reason": reason}
    return row


def _differences(record: Record) -> dict[str, Row]:
    """What each system has beside its scores: how they differ from those of the reference."""
    found: dict[str, Row] = {}
    for scores in record.scores:
        name = reference(scores, record.settings.reference)
        prefix = score_prefix(record, scores.protocol)
        for system, figures in difference_figures(scores, name, prefix).items():
            found.setdefault(system, {"reference": name}).update(figures)
    return found


def protocols(record: Record) -> list[str]:
    """The protocols that were asked for."""
    return [scores.protocol for scores in record.scores] or [record.settings.protocol]


def printed_key(figure: Expected) -> str:
    """The frame's column for a figure that a source printed."""
    return f"printed_{figure.metric}, {figure.test_set}"
