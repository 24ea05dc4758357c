"""The page's sections: which figures and tables stand where."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from evaluate.lesions import Disagreements
from reports.charts.model import Chart
from reports.figures import decimals
from reports.outputs import tables
from reports.record import Record
from reports.render import Table

CHARTS = {
    "cost": ("auc_by_cost", "net_benefit_by_cost"),
    "curves": ("roc", "precision_recall", "sensitivity_specificity"),
    "differences": ("differences",),
    "clinic": ("reliability", "decision_curves"),
    "subgroups": ("subgroups",),
}
"""Charts by section."""

TITLES = {
    "overview": "In short",
    "claims": "Claims",
    "comparison": "All figures",
    "cost": "Cost",
    "curves": "Curves",
    "differences": "Differences",
    "clinic": "In the clinic",
    "subgroups": "Subgroups",
    "lesions": "Lesions",
    "audit": "Audit",
    "method": "How it was measured",
}
"""Sections in the order of the page."""

_PROFILED = (
    "Latency",
    "Throughput",
    "Images per second",
    "End to end",
    "The whole published protocol",
    "Memory",
    "The GPU",
)

_STARTS = {
    "overview": ("In short",),
    "claims": ("What the paper claims", "The figures behind each verdict"),
    "cost": ("What each system costs", "Fewer parameters", "One forward pass", *_PROFILED),
    "curves": ("Scores,",),
    "differences": ("Differences from", "The same by textbook"),
    "clinic": ("Operating points", "What a call means", "Net benefit", "Calibration", "Reliability"),
    "subgroups": ("Subgroups",),
    "audit": ("Audit", "Scores with and without"),
}
"""Tables of a section, by how their titles begin; one that no section claims stands in the last."""


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the page with its figures and tables."""

    key: str
    title: str
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


def sections(record: Record, charts: Sequence[Chart]) -> list[Section]:
    """The sections that have something to show, in the order of the page; no table is left out."""
    by_name = {chart.name: chart for chart in charts}
    placed: dict[str, list[Table]] = {key: [] for key in TITLES}
    for table in (*tables(record), *measured(record)):
        placed[_home(table)].append(table)
    if record.disagreements:
        placed["lesions"].append(lesions(record.disagreements))
    found = [
        Section(
            key=key,
            title=title,
            charts=tuple(by_name[name] for name in CHARTS.get(key, ()) if name in by_name),
            tables=tuple(placed[key]),
        )
        for key, title in TITLES.items()
    ]
    return [each for each in found if each.charts or each.tables or each.key in ("overview", "comparison")]


def _home(table: Table) -> str:
    for key, starts in _STARTS.items():
        if table.title.startswith(starts):
            return key
    return "method"


def lesions(found: Disagreements) -> Table:
    """The lesions on which systems disagree most."""
    return Table(
        f"The {len(found.lesions)} lesions on which systems disagree most",
        ("Lesion", "Melanoma", "Diagnosis", "Spread of ranks", *found.titles),
        tuple(
            (
                each.image,
                "yes" if each.melanoma else "no",
                each.diagnosis or "–",
                decimals(each.spread),
                *(
                    f"{decimals(score)} (rank {rank:.0%})"
                    for score, rank in zip(each.scores, each.ranks, strict=True)
                ),
            )
            for each in found.lesions
        ),
        (
            "Score of each system, and the share of all lesions that it scores lower: scores of two systems are "
            "not on one scale, ranks are. Spread: the largest rank less the smallest.",
        ),
        align="lllr" + "r" * len(found.titles),
    )


def measured(record: Record) -> list[Table]:
    """How everything was measured: settings, machine, and the files with their checksums."""
    settings = {name: _plain(value) for name, value in msgspec.to_builtins(record.settings).items()}
    machine = {name: _plain(value) for name, value in msgspec.to_builtins(record.machine).items()}
    made = {
        "written by": f"melanoma-zoo {record.tool}",
        "written": record.created,
        "schema": str(record.schema),
    }
    found = [
        Table("What was asked for", ("Setting", "Value"), _facts({**made, **settings}), align="ll"),
        Table(
            "The machine (fingerprint)",
            ("What", "Value"),
            _facts(machine),
            ("Figures of time are comparable only where all of this is the same.",),
            align="ll",
        ),
    ]
    if record.profile and record.profile.machine != record.machine:
        profiled = {
            name: _plain(value) for name, value in msgspec.to_builtins(record.profile.machine).items()
        }
        found.append(
            Table("The machine of the profile (fingerprint)", ("What", "Value"), _facts(profiled), align="ll")
        )
    if record.inputs:
        found.append(
            Table(
                "Files that were read",
                ("Read as", "System", "File", "SHA-256"),
                tuple((each.role, each.system or "–", each.name, each.sha256) for each in record.inputs),
                align="llll",
            )
        )
    out = {**record.left_out, **record.missing}
    if out:
        found.append(Table("Left out, or without scores", ("What", "Why"), _facts(out), align="ll"))
    return found


def _facts(facts: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", " "), value) for name, value in facts.items())


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {each}" for key, each in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else str(value)
