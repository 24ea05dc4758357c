"""Published claims against what was computed.

The claims are data (`claims.toml`). Each is checked under every rule or reading it can be
understood by, and the verdict says which of them it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from benchmarks.parameters import RULES, parameters, reduction
from evaluate.paired import Difference, adjusted, against
from evaluate.predictions import system_title
from evaluate.protocols import title_of
from evaluate.words import many
from reports.figures import estimate, p_value
from reports.record import Finding, InputFile, Record, Verdict, Word
from zoo.errors import CardError

SOURCE = "Nazari & Garcia 2025, and the introduction of their repository"


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A way to compute a printed figure: a protocol's metric, and what that means."""

    metric: str
    rule: str
    protocol: str = "paper"


class _Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    text: str


class Figure(_Claim, frozen=True, tag="figure"):
    """A system has a printed figure; value and tolerance are those of its card."""

    system: str
    metric: str
    readings: Annotated[tuple[Reading, ...], Meta(min_length=1)]


class Better(_Claim, frozen=True, tag="better"):
    """Systems score higher than a reference."""

    systems: tuple[str, ...]
    reference: str
    metric: str


class Comparable(_Claim, frozen=True, tag="comparable"):
    """Systems score as a reference does, within a margin."""

    systems: tuple[str, ...]
    reference: str
    metric: str
    margin: float


class FewerParameters(_Claim, frozen=True, tag="fewer_parameters"):
    """One of the systems has at least this share fewer parameters than each reference."""

    systems: tuple[str, ...]
    references: tuple[str, ...]
    at_least: float


Claim = Figure | Better | Comparable | FewerParameters


class TestSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the paper's figures were measured on."""

    name: str
    lesions: int
    melanomas: int


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    test_set: TestSet
    claims: tuple[Claim, ...]


def claims() -> tuple[Claim, ...]:
    """The published claims, in the order of the paper."""
    return _file().claims


def other_test_set(record: Record) -> str:
    """What to say where the scores are not of the paper's test set; empty where they may be."""
    paper = _file().test_set
    for scores in record.scores:
        if (scores.n, scores.positives) != (paper.lesions, paper.melanomas):
            return (
                f"These scores are of another test set ({scores.n} lesions, {scores.positives} melanomas) "
                f"than the paper's ({paper.name}: {paper.lesions} lesions, {paper.melanomas} melanomas): "
                "verdicts on scores are not verdicts on the paper."
            )
    return ""


@cache
def _file() -> _File:
    text = (resources.files("reports") / "claims.toml").read_text(encoding="utf-8")
    try:
        return msgspec.toml.decode(text, type=_File)
    except msgspec.DecodeError as error:
        raise CardError(f"reports/claims.toml: {error}") from error


def judge(claim: Claim, record: Record) -> Verdict:
    """What became of a claim, given a record of the paper's protocol and its differences."""
    if isinstance(claim, Figure):
        findings, missing = _figure(claim, record)
    elif isinstance(claim, Better | Comparable):
        findings, missing = _difference(claim, record)
    else:
        findings, missing = _fewer(claim, record)
    if isinstance(claim, Figure):
        verdict, summary = _of_readings(findings, missing)
    else:
        verdict, summary = _verdict(findings, missing)
    return Verdict(
        claim=claim.text,
        source=SOURCE,
        verdict=verdict,
        summary=summary + (_departing(claim, record) if findings else ""),
        findings=tuple(findings),
        citations=_cited(claim, record) if findings else (),
    )


def _cited(claim: Claim, record: Record) -> tuple[int, ...]:
    """Numbers of the audit findings that bear on the figures of a claim; counts of parameters have none.

    Notes are left out: they say how to read the figures, and hold for all claims alike.
    """
    if record.audit is None or isinstance(claim, FewerParameters):
        return ()
    if isinstance(claim, Figure):
        systems, metrics = {claim.system}, {claim.metric, *(reading.metric for reading in claim.readings)}
    else:
        systems, metrics = {*claim.systems, claim.reference}, {claim.metric}
    return tuple(
        number
        for number, finding in enumerate(record.audit.findings, start=1)
        if finding.severity != "note" and finding.bears_on(systems, metrics)
    )


def _verdict(findings: list[Finding], missing: str) -> tuple[Word, str]:
    if not findings:
        return "could not be judged", missing
    agreeing = [finding for finding in findings if finding.agrees]
    if len(agreeing) == len(findings):
        return "holds", _listed(findings)
    if agreeing:
        others = [finding for finding in findings if not finding.agrees]
        return "holds only under", f"{_listed(agreeing)}. Not under {_listed(others)}"
    if any(finding.agrees is False for finding in findings):
        return "does not hold", _listed(findings)
    return "not separable", _listed(findings)


def _of_readings(findings: list[Finding], missing: str) -> tuple[Word, str]:
    """Of readings that are alternatives: one that cannot be told leaves open what the others do not refute."""
    untold = [finding for finding in findings if finding.agrees is None]
    told = [finding for finding in findings if finding.agrees is not None]
    if not untold:
        return _verdict(findings, missing)
    if not any(finding.agrees for finding in told):
        return "could not be judged", _listed(findings)
    _, summary = _verdict(told, missing)
    return "holds only under", f"{summary}. Cannot be told under {_listed(untold)}"


def _listed(findings: Sequence[Finding]) -> str:
    return "; ".join(f"{finding.rule}: {finding.figure}" for finding in findings)


def _figure(claim: Figure, record: Record) -> tuple[list[Finding], str]:
    entry = record.entry(claim.system)
    findings = []
    for reading in claim.readings:
        scored = record.scored(claim.system, reading.protocol)
        if entry is None or scored is None:
            return [], _lacking([claim.system], record)
        printed = next(figure for figure in entry.card.expected if figure.metric == claim.metric)
        metric = scored.metrics[reading.metric]
        if metric.threshold_from == "development":
            findings.append(Finding(rule=reading.rule, figure=_LOCKED, agrees=None))
            continue
        if metric.value is None:
            return [], f"{reading.rule}: n/a ({metric.reason})"
        agrees = abs(metric.value - printed.value) <= printed.tolerance
        # Intervals of the clinical protocol keep a patient's images together; they are the wider truth.
        clinical = record.scored(claim.system, "clinical")
        same = clinical.metrics.get(reading.metric) if clinical else None
        # But not at a threshold that was locked: it is another than the figure's.
        shown = same if same and same.threshold_from == metric.threshold_from else metric
        findings.append(
            Finding(rule=reading.rule, figure=estimate(metric.value, shown.low, shown.high), agrees=agrees)
        )
    return findings, ""


_LOCKED = "n/a (the threshold is locked on development predictions, the paper's was not)"


def _difference(claim: Better | Comparable, record: Record) -> tuple[list[Finding], str]:
    # Holm over the pairs that the claim names: its own family, however many systems there are.
    family = [
        each
        for each in against(record.differences, claim.reference)
        if each.a in claim.systems and each.metric == claim.metric
    ]
    own = f"Holm over the {many(len(family), 'pair')} of this claim"
    pairs = {each.a: each for each in adjusted(family) if record.entry(each.a) and record.entry(each.b)}
    if not pairs:
        return [], _lacking([claim.reference], record) or _lacking(claim.systems, record)
    findings = []
    for system in claim.systems:
        found = pairs.get(system)
        if isinstance(claim, Better):
            rule = f"{_title(system, record)} against {_title(claim.reference, record)}"
        else:
            rule = f"within {claim.margin:g} (our margin: the paper gives none)"
        if found is None:
            findings.append(Finding(rule=rule, figure="n/a (no scores)", agrees=None))
            continue
        if isinstance(claim, Better):
            agrees = found.value is not None and found.value > 0 if found.separable else None
        else:
            agrees = _within(found, claim.margin)
        figure = (
            f"{title_of(found.metric)} difference {estimate(found.value, found.low, found.high, signed=True)}"
        )
        if found.p_adjusted is not None:
            figure += f", {p_value(found.p_adjusted)} ({own})"
        findings.append(Finding(rule=rule, figure=figure, agrees=agrees))
    return findings, ""


def _lacking(systems: Sequence[str], record: Record) -> str:
    """Why systems have no scores; empty where all have some."""
    scored = {each.system for scores in record.scores for each in scores.systems}
    without = [name for name in systems if name not in scored]
    return record.unscored or "; ".join(
        f"{_title(name, record)}: {record.missing.get(name, 'no predictions')}"
        if record.entry(name)
        else f"{_title(name, record)} is not in this comparison"
        for name in without
    )


def _title(system: str, record: Record) -> str:
    """A system's title: that of the record, or else of its card where it is not compared."""
    entry = record.entry(system)
    return entry.card.title if entry else system_title(system)


def _departing(claim: Claim, record: Record) -> str:
    """Whose published scores are of a re-run that departs from the system; nothing where none is."""
    if isinstance(claim, FewerParameters):
        return ""
    names = (claim.system,) if isinstance(claim, Figure) else (claim.reference, *claim.systems)
    departing = {
        file.system for file in record.inputs if file.role == "predictions" and _departs(file, record)
    }
    titles = [entry.card.title for name in names if name in departing and (entry := record.entry(name))]
    return (
        f". This is of the published re-run of {', '.join(titles)}, which departs from the system."
        if titles
        else ""
    )


def _departs(file: InputFile, record: Record) -> bool:
    entry = record.entry(file.system) if file.system else None
    published = entry.card.predictions if entry else ()
    return any(each.file == Path(file.name).name and each.departures for each in published)


def _within(found: Difference, margin: float) -> bool | None:
    """Whether the difference lies within the margin; None where its interval leaves that open."""
    if found.low is None or found.high is None:
        return None
    if -margin <= found.low and found.high <= margin:
        return True
    return False if found.separable else None


def _fewer(claim: FewerParameters, record: Record) -> tuple[list[Finding], str]:
    """The largest reduction that one of the systems reaches, per rule and reference."""
    entries = [entry for name in claim.systems if (entry := record.entry(name)) and entry.members]
    findings = []
    for rule in RULES:
        for name in claim.references:
            reference = record.entry(name)
            if reference is None or not reference.members or not entries:
                continue
            largest = max(
                reduction(
                    parameters(entry.card, entry.operations, rule),
                    parameters(reference.card, reference.operations, rule),
                )
                for entry in entries
            )
            findings.append(
                Finding(
                    rule=f"{reference.card.title}, {RULES[rule].title}",
                    figure=f"{100 * largest:.1f}% fewer",
                    agrees=largest >= claim.at_least,
                )
            )
    return findings, "the systems are not in this comparison"
