"""Verdicts on published claims: every kind of claim, and every verdict."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

import zoo
from evaluate.paired import Difference
from evaluate.protocols import PROTOCOLS
from reports.claims import Better, Comparable, Figure, _of_readings, claims, judge, other_test_set
from reports.figures import estimate
from reports.record import Finding, Record, Verdict

pytestmark = pytest.mark.slow


def judged(record: Record, text: str) -> Verdict:
    return next(judge(claim, record) for claim in claims() if text in claim.text)


def with_difference(
    record: Record, a: str, b: str, value: float, low: float | None, high: float | None
) -> Record:
    p = None if low is None or high is None else 0.01 if low > 0 or high < 0 else 0.2
    reason = "" if low is not None else "too few"
    found = Difference(
        a=a, b=b, metric="roc_auc", value=value, low=low, high=high,
        p=p, separable=None, reason=reason, resamples=1000, seed=0,
    )  # fmt: skip
    return with_differences(record, found)


def with_differences(record: Record, *found: Difference) -> Record:
    """The record as if these differences had been found by the clinical protocol, and no others."""
    (clinical,) = [scores for scores in record.scores if scores.protocol == "clinical"]
    others = [scores for scores in record.scores if scores.protocol != "clinical"]
    changed = msgspec.structs.replace(clinical, differences=found)
    return msgspec.structs.replace(record, scores=(changed, *others))


def with_metric(record: Record, protocol: str, metric: str, value: float | None) -> Record:
    """The record as if SGE-B3 had scored so."""
    scores = []
    for each in record.scores:
        if each.protocol == protocol:
            systems = tuple(
                msgspec.structs.replace(
                    system,
                    metrics=system.metrics
                    | {metric: msgspec.structs.replace(system.metrics[metric], value=value)},
                )
                if system.system == "sge_b3"
                else system
                for system in each.systems
            )
            each = msgspec.structs.replace(each, systems=systems)
        scores.append(each)
    return msgspec.structs.replace(record, scores=tuple(scores))


def with_locked(record: Record) -> Record:
    """The record as if development predictions had locked SGE-B3's thresholds in the clinical protocol."""
    (clinical,) = [scores for scores in record.scores if scores.protocol == "clinical"]
    others = [scores for scores in record.scores if scores.protocol != "clinical"]
    systems = tuple(
        msgspec.structs.replace(
            system,
            metrics={
                name: msgspec.structs.replace(metric, low=0.001, high=0.002, threshold_from="development")
                if metric.threshold_from
                else metric
                for name, metric in system.metrics.items()
            },
        )
        if system.system == "sge_b3"
        else system
        for system in clinical.systems
    )
    return msgspec.structs.replace(
        record, scores=(msgspec.structs.replace(clinical, systems=systems), *others)
    )


def test_every_claim_names_what_exists() -> None:
    for claim in claims():
        if isinstance(claim, Figure):
            printed = {figure.metric for figure in zoo.card(claim.system).expected}
            assert claim.metric in printed
            for reading in claim.readings:
                PROTOCOLS[reading.protocol].column(reading.metric)
        else:
            for system in claim.systems:
                zoo.card(system)


def test_the_printed_figures_are_each_a_claim() -> None:
    claimed = {claim.metric for claim in claims() if isinstance(claim, Figure)}
    assert claimed == {figure.metric for figure in zoo.card("sge_b3").expected}


@pytest.mark.parametrize(
    ("plain", "mean", "verdict"),
    [
        (0.208, 0.211, "holds"),
        (0.146, 0.209, "holds only under"),
        (0.146, 0.19, "does not hold"),
    ],
)
def test_a_printed_figure_under_its_readings(record: Record, plain: float, mean: float, verdict: str) -> None:
    changed = with_metric(record, "paper", "specificity", plain)
    changed = with_metric(changed, "paper", "specificity_bootstrap_mean", mean)
    found = judged(changed, "specificity of 0.21")
    assert found.verdict == verdict
    assert [finding.agrees for finding in found.findings] == [
        abs(plain - 0.21) < 0.005,
        abs(mean - 0.21) < 0.005,
    ]
    if verdict == "holds only under":
        assert "mean over bootstraps" in found.summary


def test_a_figure_that_is_not_defined_cannot_be_judged(record: Record) -> None:
    found = judged(with_metric(record, "paper", "roc_auc", None), "ROC-AUC of 0.82")
    assert found.verdict == "could not be judged"
    assert "n/a" in found.summary


def test_a_figure_is_not_shown_with_the_interval_of_another_threshold(record: Record) -> None:
    locked = with_locked(record)
    for text, metric in (("sensitivity of 0.96", "sensitivity"), ("specificity of 0.21", "specificity")):
        paper = record.scored("sge_b3", "paper")
        assert paper is not None
        own = paper.metrics[metric]
        figure = judged(locked, text).findings[0].figure
        assert figure == estimate(own.value, own.low, own.high)
    assert judged(locked, "ROC-AUC of 0.82") == judged(record, "ROC-AUC of 0.82")


def test_a_figure_at_a_locked_threshold_is_not_the_papers(record: Record) -> None:
    found = judged(with_locked(record), "F1 of 0.84")
    weighted, locked = found.findings
    assert weighted == judged(record, "F1 of 0.84").findings[0]
    assert locked.agrees is None
    assert locked.figure.startswith("n/a (the threshold is locked on development predictions")
    assert not weighted.agrees
    assert found.verdict == "could not be judged"  # The other reading is an alternative, and was not refuted.


def test_a_reading_that_agrees_holds_beside_one_that_cannot_be_told() -> None:
    untold = Finding(rule="at 0.95", figure="n/a", agrees=None)
    findings = [
        Finding(rule="weighted", figure="0.840", agrees=True),
        Finding(rule="macro", figure="0.7", agrees=False),
        untold,
    ]
    verdict, summary = _of_readings(findings, "")
    assert verdict == "holds only under"
    assert summary == "weighted: 0.840. Not under macro: 0.7. Cannot be told under at 0.95: n/a"
    assert _of_readings([findings[0], untold], "") == (
        "holds only under", "weighted: 0.840. Cannot be told under at 0.95: n/a",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.01, 0.09, "holds"),
        (-0.02, 0.09, "not separable"),
        (-0.09, -0.01, "does not hold"),
        (None, None, "not separable"),
    ],
)
def test_better_needs_an_interval_above_zero(
    record: Record, low: float | None, high: float | None, verdict: str
) -> None:
    value = 0.04 if low is None or high is None else (low + high) / 2
    changed = with_difference(record, "sge_b3", "second_place", value, low, high)
    claim = Better(text="t", systems=("sge_b3",), reference="second_place", metric="roc_auc")
    assert judge(claim, changed).verdict == verdict


def test_better_for_some_of_the_systems_holds_only_under_those(record: Record) -> None:
    first = with_difference(record, "sge_b3", "second_place", 0.05, 0.01, 0.09).differences
    other = with_difference(record, "spatial_b3", "second_place", 0.01, -0.02, 0.04).differences
    claim = Better(text="t", systems=("sge_b3", "spatial_b3"), reference="second_place", metric="roc_auc")
    found = judge(claim, with_differences(record, *first, *other))
    assert found.verdict == "holds only under"
    assert found.summary.startswith(
        "SGE-B3 against Second place: ROC-AUC difference +0.050 (+0.010 to +0.090)"
    )
    assert "Not under Spatial-B3 against Second place" in found.summary


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.01, 0.09, "holds only under"), (-0.02, 0.09, "not separable"), (-0.09, -0.01, "does not hold")],
)
def test_systems_of_a_claim_without_scores_are_told_and_agree_with_nothing(
    record: Record, low: float, high: float, verdict: str
) -> None:
    changed = with_difference(record, "sge_b3", "second_place", (low + high) / 2, low, high)
    without = msgspec.structs.replace(
        changed, entries=tuple(entry for entry in changed.entries if entry.card.name != "spatial_b3")
    )
    claim = Better(text="t", systems=("sge_b3", "spatial_b3"), reference="second_place", metric="roc_auc")
    for given in (changed, without):
        found = judge(claim, given)
        assert found.verdict == verdict
        assert "Spatial-B3 against Second place: n/a (no scores)" in found.summary
        assert [finding.agrees for finding in found.findings][1:] == [None]


def test_a_verdict_names_its_family_and_the_departing_re_run(record: Record) -> None:
    claim = Better(text="t", systems=("sge_b3", "spatial_b3"), reference="second_place", metric="roc_auc")
    found = judge(claim, record)
    assert found.summary.count("(Holm over the 2 pairs of this claim)") == 2
    departing = [
        entry.card.title
        for entry in record.entries
        if entry.card.name in {"sge_b3", "spatial_b3", "second_place"}
        and any(file.departures for file in entry.card.predictions)
    ]
    said = f"This is of the published re-run of {', '.join(departing)}, which departs from the system."
    assert departing
    assert found.summary.endswith(said)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (-0.01, 0.015, "holds"),
        (-0.06, 0.01, "not separable"),
        (-0.06, -0.01, "does not hold"),
        (-0.015, -0.005, "holds"),
    ],
)
def test_comparable_needs_the_whole_interval_within_the_margin(
    record: Record, low: float, high: float, verdict: str
) -> None:
    changed = with_difference(record, "sge_b3", "first_place", (low + high) / 2, low, high)
    claim = Comparable(text="t", systems=("sge_b3",), reference="first_place", metric="roc_auc", margin=0.02)
    found = judge(claim, changed)
    assert found.verdict == verdict
    assert "our margin" in found.findings[0].rule


def test_fewer_parameters_names_every_rule_and_winner(record: Record) -> None:
    found = judged(record, "fewer parameters")
    assert found.verdict == "holds only under"
    assert len(found.findings) == 9
    assert [finding.agrees for finding in found.findings].count(True) == 4
    assert "Second place" not in found.summary.partition("Not under")[0]


def test_without_predictions_only_the_counts_can_be_judged(record: Record) -> None:
    bare = msgspec.structs.replace(record, scores=(), unscored="no predictions")
    verdicts = [judge(claim, bare) for claim in claims()]
    assert [v.verdict for v in verdicts].count("could not be judged") == len(verdicts) - 1
    assert all(v.summary == "no predictions" for v in verdicts if v.verdict == "could not be judged")


def test_systems_without_scores_are_named_where_nothing_can_be_judged(record: Record) -> None:
    """They are in the comparison, and have costs: what they lack are scores."""
    claim = Better(text="t", systems=("sge_b3", "spatial_b3"), reference="second_place", metric="roc_auc")
    for gone, said in (
        ({"second_place"}, "Second place: no predictions"),
        ({"sge_b3", "spatial_b3"}, "SGE-B3: no predictions; Spatial-B3: cannot be built"),
    ):
        scores = tuple(
            msgspec.structs.replace(
                each,
                systems=tuple(system for system in each.systems if system.system not in gone),
                differences=tuple(pair for pair in each.differences if not {pair.a, pair.b} & gone),
            )
            for each in record.scores
        )
        left = msgspec.structs.replace(record, scores=scores, missing={"spatial_b3": "cannot be built"})
        found = judge(claim, left)
        assert (found.verdict, found.summary) == ("could not be judged", said)
        if "sge_b3" in gone:
            assert judged(left, "ROC-AUC of 0.82").summary == "SGE-B3: no predictions"
        entries = tuple(entry for entry in record.entries if entry.card.name not in gone)
        absent = judge(claim, msgspec.structs.replace(left, entries=entries))
        assert absent.summary.endswith("is not in this comparison")


def test_another_test_set_is_told(record: Record) -> None:
    assert "another test set (80 lesions, 20 melanomas)" in other_test_set(record)
    paper = [msgspec.structs.replace(scores, n=603, positives=95) for scores in record.scores]
    assert other_test_set(msgspec.structs.replace(record, scores=tuple(paper))) == ""


def test_the_published_scores_give_the_known_verdicts(proveai: Path) -> None:
    from reports.cards import in_order
    from reports.comparison import reproduce
    from reports.inputs import read_inputs
    from reports.record import Settings

    settings = Settings(
        rule="networks", protocol="clinical", resamples=1000, seed=0, latency="off", device="auto"
    )
    inputs = read_inputs([proveai / "predictions"], proveai / "test.csv")
    found = reproduce(in_order([zoo.card(name) for name in zoo.systems()]), settings, inputs)
    verdicts = {verdict.claim: verdict.verdict for verdict in found.claims}
    assert verdicts == {
        "SGE-B3 reaches a ROC-AUC of 0.82": "holds",
        "SGE-B3 reaches an F1 of 0.84": "holds only under",
        "SGE-B3 reaches a PR-AUC of 0.54": "holds",
        "SGE-B3 has a sensitivity of 0.96 at a predefined threshold of 95%": "holds",
        "SGE-B3 has a specificity of 0.21 at that threshold": "holds only under",
        "The attention networks outperform the second winner": "not separable",
        "The attention networks outperform the third winner": "holds",
        "SGE-B3 is comparable to the first winner": "not separable",
        "The attention networks have up to 95% fewer parameters than the winners": "holds only under",
    }
    assert list(found.left_out) == [str(proveai / "predictions" / "final-SA6.csv")]
