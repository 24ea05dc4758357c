"""A record in a few lines, for a pull request or a step summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from reports.figures import decimals, giga, millions, with_sign
from reports.gate.judge import Outcome
from reports.gate.show import lines
from reports.page.headline import headline
from reports.record import Record
from reports.render import Table, markdown, markdown_text
from reports.rows import rows
from reports.summary import summary

MARKER = "<!-- melanoma-zoo report -->"
"""First line of the comment, by which it is found again and replaced."""

MANY = 12
"""Changes that are listed at most."""


def comment(record: Record, old: Record | None = None, outcome: Outcome | None = None) -> str:
    """The headline, the table in short, what changed, and the gate's verdict.

    Args:
        record: The new record.
        old: What it is compared with.
        outcome: What the gate says of the two.
    """
    parts = [f"{MARKER}\n## Melanoma classifiers compared\n"]
    if outcome:
        said = {
            "pass": "✅ passed",
            "warning": "⚠️ passed with warnings",
            "regression": "❌ regression",
            "not judged": "⚠️ could not be judged",
        }
        parts.append(f"**Gate: {said[outcome.verdict]}**\n")
        failed = lines(outcome)
        parts.append("".join(f"- {markdown_text(line)}\n" for line in failed[:MANY]) + _more(len(failed)))
    parts.append("".join(f"- {markdown_text(sentence)}\n" for sentence in headline(record)))
    parts += [markdown([dataclasses.replace(table, notes=table.notes[-3:])]) for table in summary(record)]
    if old:
        table = changes(record, old)
        parts.append(markdown([table]) if table.rows else "No figure changed.\n")
    return "\n".join(filter(None, parts))


def _more(count: int) -> str:
    return f"- and {count - MANY} more\n" if count > MANY else ""


_FIGURES = {
    "roc_auc": ("ROC-AUC", decimals, with_sign),
    "average_precision": ("Average precision", decimals, with_sign),
    "specificity": ("Specificity", decimals, with_sign),
    "parameters_networks": ("Parameters, M", millions, None),
    "macs_pass": ("One pass, GMACs", giga, None),
}


def changes(record: Record, old: Record) -> Table:
    """What differs between two records, system by system."""
    found = list(_changes(record, old))
    notes = (f"{len(found) - MANY} more changes are not listed.",) if len(found) > MANY else ()
    return Table(
        "What changed",
        ("System", "Figure", "Before", "Now", "Difference"),
        tuple(found[:MANY]),
        notes,
        align="llrrr",
    )


def _changes(record: Record, old: Record) -> Iterator[tuple[str, str, str, str, str]]:
    before = {row["system"]: row for row in rows(old)}
    after = {row["system"]: row for row in rows(record)}
    for name, row in {**before, **after}.items():
        if name not in before or name not in after:
            yield (
                row["title"],
                "system",
                *(("–", "new") if name not in before else ("there", "vanished")),
                "–",
            )
            continue
        for key, (title, text, signed) in _FIGURES.items():
            was, now = before[name].get(key), after[name].get(key)
            if was == now:
                continue
            difference = "–"
            if was is not None and now is not None:
                difference = signed(now - was) if signed else f"{(now - was) / was:+.1%}".replace("-", "−")
            yield (
                row["title"], title, *("n/a" if value is None else text(value) for value in (was, now)), difference
            )  # fmt: skip
