"""What the gate says: a table, one line per failure, and GitHub's annotations."""

from __future__ import annotations

from reports.figures import decimals, giga, millions, milliseconds, with_sign
from reports.gate.judge import Judged, Outcome
from reports.render import Table, printable

_SAID = {
    "pass": "passed",
    "warning": "passed with warnings",
    "regression": "failed: regression",
    "not judged": "failed: could not be judged",
}


def lines(outcome: Outcome) -> list[str]:
    """A line for everything that did not pass, the gravest first."""
    order = ("regression", "not judged", "warning")
    return [_line(each) for verdict in order for each in outcome.judged if each.verdict == verdict]


def _line(judged: Judged) -> str:
    figures = ""
    if judged.old is not None and judged.new is not None:
        figures = f" {_number(judged, judged.old)} → {_number(judged, judged.new)}"
    place = f"{judged.system}: " if judged.system else ""
    return printable(f"{judged.verdict}: {place}{judged.what}{figures}: {judged.reason}").replace("\n", " ")


def table(outcome: Outcome) -> Table:
    """Everything that was judged."""
    return Table(
        _title(outcome),
        ("System", "Figure", *_FIGURES, "Why"),
        tuple((each.system or "all", each.what, *_cells(each), each.reason) for each in outcome.judged),
        _notes(outcome),
        align="llrrrrll",
    )


def tables(outcome: Outcome) -> list[Table]:
    """The same for a terminal, with a table per figure, whose reasons stand below it."""
    groups: dict[str, list[Judged]] = {}
    for each in outcome.judged:
        groups.setdefault(each.what, []).append(each)
    found = [
        Table(
            f"{what[:1].upper()}{what[1:]}",
            ("System", *_FIGURES),
            tuple((each.system or "all", *_cells(each)) for each in group),
            tuple(f"{each.system or 'all'}: {each.reason}" for each in group if each.reason not in _PLAIN),
            align="lrrrrl",
        )
        for what, group in groups.items()
    ]
    return [*found, Table(_title(outcome), (), (), _notes(outcome))]


_FIGURES = ("Old", "New", "Difference", "95% interval", "Verdict")

_PLAIN = ("the same", "better")
"""Reasons that the figures say themselves."""


def _title(outcome: Outcome) -> str:
    return f"Gate {_SAID[outcome.verdict]}"


def _notes(outcome: Outcome) -> tuple[str, ...]:
    counts = {verdict: sum(each.verdict == verdict for each in outcome.judged) for verdict in _SAID}
    warned = f"{counts['warning']} warnings, " if counts["warning"] else ""
    return (
        f"{counts['pass']} passed, {warned}{counts['regression']} regressions, {counts['not judged']} could not be judged.",
        "Interval: of new less old, paired on the same lesions, over resamples of whole patients.",
    )


def _cells(each: Judged) -> tuple[str, ...]:
    """Old, new, difference, interval and verdict."""
    return (
        *("–" if value is None else _number(each, value) for value in (each.old, each.new)),
        "–" if each.difference is None else _difference(each),
        "–" if each.low is None or each.high is None else f"{with_sign(each.low)} to {with_sign(each.high)}",
        each.verdict,
    )


def _number(judged: Judged, value: float) -> str:
    if judged.what.startswith("parameters"):
        return f"{millions(value)} M"
    if judged.what.startswith("macs"):
        return f"{giga(value)} GMACs"
    if judged.what.startswith("latency"):
        return f"{milliseconds(value)} ms"
    if judged.what.startswith("energy"):
        return f"{milliseconds(value)} J"
    return decimals(value) if abs(value) < 100 else f"{value:,.4g}"


def _difference(judged: Judged) -> str:
    found = judged.difference
    assert found is not None
    if abs(found) < 100 and not judged.what.startswith(("parameters", "macs", "latency", "energy")):
        return with_sign(found)
    share = found / judged.old if judged.old else 0.0
    return f"{share:+.1%}".replace("-", "−")


def workflow_commands(outcome: Outcome) -> list[str]:
    """Workflow commands of GitHub Actions: an annotation for everything that did not pass."""
    kinds = {"regression": "error", "not judged": "warning", "warning": "warning"}
    return [
        f"::{kinds[each.verdict]} title={_property('melanoma-zoo gate')}::{_data(_line(each))}"
        for each in outcome.judged
        if each.verdict in kinds
    ]


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
