"""The summary: what is told apart, thresholds, caveats and gaps, from the record alone."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import cli
from evaluate.clinical import Clinical
from evaluate.gaps import InGroup
from evaluate.parts import Group
from evaluate.scored import Metric
from evaluate.subgroups import Subgroups, SystemSubgroups
from reports.outputs import tables
from reports.record import Record
from reports.summary import summary


def gaps(p_holm: float) -> Subgroups:
    group = Group(attribute="sex", title="Sex", group="female", n=40, positives=20, negatives="group")
    inside = InGroup(
        metric=Metric(value=0.8), gap=Metric(value=-0.2, low=-0.3, high=-0.1), p=p_holm, p_holm=p_holm
    )
    return Subgroups(
        metric="roc_auc", title="ROC-AUC", groups=(group,), fewest=10, absent=(), level=0.95, resamples=100,
        systems=(SystemSubgroups(system="sge_b3", title="SGE-B3", groups=(inside,)),), compared=1, seed=0,
    )  # fmt: skip


def test_best_first_with_the_reference_named(record: Record) -> None:
    (table,) = summary(record)
    areas = [row[1].split()[0] for row in table.rows]
    assert len(areas) == 7
    assert areas == sorted(areas, reverse=True)
    assert [row[0] for row in table.rows if row[2] == "reference"] == ["First place"]
    assert all(row[3].endswith("†") for row in table.rows)
    assert any("chosen on this test set" in note for note in table.notes)


def test_it_follows_the_verdicts_and_leads_the_comparison(record: Record) -> None:
    plain = msgspec.structs.replace(record, claims=())
    assert tables(plain)[0] == summary(record)[0] == tables(record)[2]
    assert summary(msgspec.structs.replace(record, scores=())) == []


@pytest.mark.parametrize(("p", "said"), [(0.01, "1 of 1 gap"), (0.2, "none of 1 gap")])
def test_gaps_that_survive(record: Record, p: float, said: str) -> None:
    asked = msgspec.structs.replace(record, clinical=Clinical(subgroups=gaps(p)))
    note = summary(asked)[0].notes[-1]
    assert said in note
    assert ("SGE-B3 in sex female, ROC-AUC −0.200 (−0.300 to −0.100)" in note) == (p < 0.05)


def test_errors_and_warnings_are_counted(record: Record) -> None:
    assert record.audit is not None
    notes = " ".join(summary(record)[0].notes)
    for finding in record.audit.findings:
        assert (finding.title in notes) == (finding.severity != "note")


def test_real_data_on_one_screen(proveai: Path) -> None:
    shown = CliRunner().invoke(
        cli.main,
        ["compare", "--no-latency", "--subgroups", "--predictions", str(proveai / "predictions"),
         "--labels", str(proveai / "test.csv")],
        env={"COLUMNS": "100"},
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    screen = shown.stdout.rstrip()[shown.stdout.index("In short") :].splitlines()
    assert screen[0].startswith("In short: 603 lesions, 95 melanomas, 435 patients")
    assert len(screen) <= 24, "\n".join(screen)
    assert "0.844 (0.796 to 0.888) a" in "\n".join(screen)


def test_the_screen_ends_with_the_summary(record) -> None:
    from reports.outputs import tables, tables_on_screen

    shown = [table.title for table in tables_on_screen(record)]
    assert shown[-1].startswith("In short")
    assert sorted(shown) == sorted(table.title for table in tables(record))
