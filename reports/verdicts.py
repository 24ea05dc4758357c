"""What the paper claims and what was found, and what to keep in mind, as tables."""

from __future__ import annotations

from reports.claims import other_test_set
from reports.record import Record
from reports.render import Table


def verdicts(record: Record) -> list[Table]:
    """The claims with their verdicts, and the figures behind each."""
    if not record.claims:
        return []
    return [
        Table(
            "What the paper claims, and what was found",
            ("Claim", "Verdict", "Because", "Audit"),
            tuple(
                (each.claim, each.verdict.upper(), each.summary, ", ".join(map(str, each.citations)) or "–")
                for each in record.claims
            ),
            tuple(
                filter(
                    None,
                    (
                        other_test_set(record),
                        f"Claims: {record.claims[0].source}.",
                        "Audit: numbers of the audit's findings that bear on it." if record.audit else "",
                    ),
                )
            ),
            align="llll",
        ),
        Table(
            "The figures behind each verdict",
            ("Claim", "Under", "Figure", "True?"),
            tuple(
                (each.claim, finding.rule, finding.figure, _AGREES[finding.agrees])
                for each in record.claims
                for finding in each.findings
            ),
            align="llll",
        ),
    ]


_AGREES = {True: "yes", False: "no", None: "cannot be told"}


def caveats(record: Record) -> Table:
    """What each system cannot do, and what no source says of it."""
    found: dict[tuple[str, str], list[str]] = {}
    for entry in record.entries:
        card = entry.card
        said = [("limit", limit) for limit in card.limits]
        said += [(each.kind, f"{each.about}: {each.statement}") for each in card.assumptions]
        said += [("trained on", f"{t.name} ({t.labels} labels): {t.note}") for t in card.trained_on]
        said += [
            ("published scores", f"{each.file}: {text}")
            for each in card.predictions
            for text in (each.note, *each.departures)
            if text
        ]
        for each in said:
            found.setdefault(each, []).append(card.title)
    listed = tuple((", ".join(titles), kind, text) for (kind, text), titles in found.items())
    return Table("What to keep in mind", ("Systems", "What", "Text"), listed, align="lll")
