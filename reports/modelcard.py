"""A model card per system, with the front matter that the Hugging Face Hub reads."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evaluate.protocols import title_of
from evaluate.words import many
from reports.cards import full
from reports.charts.systems import main_scores
from reports.figures import estimate
from reports.record import Entry, Record
from reports.render import Table, markdown, markdown_text
from zoo.card import System
from zoo.files import write

LICENCES = {"MIT": "mit", "Apache-2.0": "apache-2.0", "BSD-3-Clause": "bsd-3-clause"}
"""Licences as the Hub calls them; others are `other`."""

_LONGEST = 200
"""Letters of a file name before its ending; file systems hold 255."""


def write_cards(record: Record, folder: Path) -> list[Path]:
    """Writes a card for every system of a record, as `NAME.md`; what a file's name cannot hold is replaced.

    Raises:
        MachineError: The folder cannot be written.
    """
    written = []
    names = _file_names([entry.card.name for entry in record.entries])
    for name, entry in zip(names, record.entries, strict=True):
        path = folder / f"{name}.md"
        write(path, model_card(record, entry))
        written.append(path)
    return written


def _file_names(systems: Sequence[str]) -> list[str]:
    """A plain file name for each system: a name such as `csv:/data/mine.csv` is a path itself.

    No two are equal, in upper or lower case, which some file systems take for the same.

    >>> _file_names(["sge_b3", "csv:/a/b.csv", "csv:a/b.csv"])
    ['sge_b3', 'csv_a_b.csv', 'csv_a_b.csv-2']
    """
    found: dict[str, str] = {}
    for system in systems:
        plain = re.sub(r"[^A-Za-z0-9_.,=-]+", "_", system)[-_LONGEST:].lstrip(".")
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        own = next(name for name in itertools.chain([plain], numbered) if name.casefold() not in found)
        found[own.casefold()] = own
    return list(found.values())


def model_card(record: Record, entry: Entry) -> str:
    """The card of a system: what it is, what it scored, what it costs, what is assumed, and its limits."""
    import yaml

    card = entry.card
    matter = yaml.safe_dump(front_matter(record, entry), allow_unicode=True, sort_keys=False, width=1000)
    parts = [f"---\n{matter}---\n", f"# {markdown_text(card.title)}\n", f"{markdown_text(card.summary)}\n"]
    parts.append(
        "For research. Not a medical device: do not decide about patients with it. Figures are of the test set "
        "named with them, and may be lower elsewhere.\n"
    )
    parts.append(markdown([_scored(record, entry), _cost(entry)]))
    parts.append(_listed("Assumptions", [f"{each.about}: {each.statement}" for each in card.assumptions], "Nothing that the results rest on is assumed."))  # fmt: skip
    limits = [
        *card.limits,
        *(text for each in card.predictions for text in (each.note, *each.departures) if text),
    ]
    parts.append(_listed("Limits", limits, "None are known; that is not the same as none."))
    parts.append(markdown(full(card)))
    return "\n".join(parts)


def front_matter(record: Record, entry: Entry) -> dict[str, Any]:
    """The front matter: licence, tags, data sets, metrics and results."""
    card = entry.card
    found: dict[str, Any] = {
        "license": _licence(card),
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["melanoma", "dermoscopy", "medical-imaging", f"group:{card.group}"],
        "base_model": sorted({f"timm/{member.backbone}" for member in card.members}),
    }
    scores = main_scores(record)
    scored = record.scored(card.name, record.settings.protocol)
    if scores and scored:
        metrics = [
            {
                "type": name,
                "name": f"{title_of(name)} ({scores.protocol} protocol)",
                "value": round(metric.value, 6),
            }
            for name, metric in scored.metrics.items()
            if metric.value is not None
        ]
        dataset = {
            "type": "dermoscopy",
            "name": f"{many(scores.n, 'lesion')}, {many(scores.positives, 'melanoma')}",
            "revision": record.lesions.sha256 if record.lesions else scores.labels_sha256,
        }
        found["metrics"] = list(scored.metrics)
        found["model-index"] = [
            {
                "name": card.title,
                "results": [
                    {"task": {"type": "image-classification"}, "dataset": dataset, "metrics": metrics}
                ],
            }
        ]
    return found


def _licence(card: System) -> str:
    stated = [source.licence for source in card.sources if source.licence]
    return LICENCES.get(stated[0], "other") if stated else "other"


def _scored(record: Record, entry: Entry) -> Table:
    scores = main_scores(record)
    scored = record.scored(entry.card.name, record.settings.protocol)
    if scores is None or scored is None:
        reason = record.missing.get(entry.card.name, record.unscored or "no predictions")
        return Table("Scores", ("Figure", "Value"), (("all", f"n/a ({reason})"),))
    return Table(
        f"Scores: {many(scores.n, 'lesion')}, {many(scores.positives, 'melanoma')}, {many(scores.patients, 'patient')}",
        ("Figure", "Value", "95% interval"),
        tuple(
            (
                title_of(name),
                estimate(metric.value, None, None) if metric.value is not None else f"n/a ({metric.reason})",
                "–"
                if metric.low is None or metric.high is None
                else f"{metric.low:.3f} to {metric.high:.3f}",
            )
            for name, metric in scored.metrics.items()
        ),
        scored.notes + scores.notes,
    )


def _cost(entry: Entry) -> Table:
    from benchmarks.parameters import RULES, parameters, protocol_macs
    from reports.figures import giga, millions

    if not entry.members:
        return Table("Cost", ("Figure", "Value"), (("all", "n/a (not counted)"),))
    rows = [(f"Parameters, M ({rule.title})", millions(parameters(entry.card, entry.operations, name))) for name, rule in RULES.items()]  # fmt: skip
    rows.append(("One pass of one fold, GMACs", giga(sum(each.macs for each in entry.operations))))
    rows.append(("Whole protocol for one lesion, GMACs", giga(protocol_macs(entry.card, entry.operations))))
    return Table("Cost", ("Figure", "Value"), tuple(rows))


def _listed(title: str, said: list[str], none: str) -> str:
    text = "".join(f"- {markdown_text(each)}\n" for each in said) or f"{none}\n"
    return f"### {title}\n\n{text}"
