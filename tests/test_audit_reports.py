"""The audit where it is shown: in the command, in every comparison, and behind verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
import zoo
from evaluate.audit import Audit, audit
from evaluate.findings import AuditFinding
from reports.audit import audited, report
from reports.claims import claims, judge
from reports.comparison import compare
from reports.inputs import read_inputs
from reports.outputs import tables
from reports.record import Record, Settings, load, save
from reports.render import markdown
from zoo.errors import UsageError

SETTINGS = Settings(rule="networks", protocol="clinical", resamples=40, seed=0, latency="off", device="auto")


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "250"})


@pytest.fixture
def train(tmp_path: Path) -> Path:
    frame = pd.DataFrame({"image_name": ["other"], "patient_id": ["IP_0000004"]})
    frame.to_csv(tmp_path / "train.csv", index=False)
    return tmp_path / "train.csv"


def finding(check: str, severity: str = "warning", **scope: tuple[str, ...]) -> AuditFinding:
    return AuditFinding(check=check, severity=severity, title=check, found="f.", done="d.", **scope)  # type: ignore[arg-type]


# The command


def test_the_command_shows_findings_and_scores_without_the_shared(made_up: Path, train: Path) -> None:
    shown = run(
        "audit", made_up / "predictions", "--labels", made_up / "labels.csv", "--train-table", train, "--resamples", "40",
        "--run", f"SGE-B3={made_up / 'predictions' / 'Spatial-B3.csv'}",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    flat = " ".join(shown.stdout.split())
    assert "Test set shared with train.csv" in flat
    assert "with and without the 2 lesion images" in flat
    assert "Two runs that disagree" in flat
    assert "Checked, nothing found" in flat
    assert "give --images DIR" in flat
    assert "SGE-B3 − Second place" in flat


def test_json_is_the_audit(made_up: Path, train: Path) -> None:
    shown = run(
        "audit", made_up / "predictions", "--labels", made_up / "labels.csv", "--train-table", train, "--json",
        "--resamples", "40",
    )  # fmt: skip
    found = msgspec.json.decode(shown.stdout, type=Audit)
    assert found.shared == 2
    assert found.findings[0].severity != "note"


def test_only_strict_makes_an_error_the_exit_code(made_up: Path, tmp_path: Path) -> None:
    for name in ("SGE-B3.csv", "First_place.csv"):
        (tmp_path / name).write_bytes((made_up / "predictions" / name).read_bytes())
    args = ("audit", tmp_path, "--labels", made_up / "labels.csv", "--resamples", "40")
    assert run(*args, "--strict").exit_code == 0, "warnings and notes are no errors"
    lines = (tmp_path / "SGE-B3.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "SGE-B3.csv").write_text("\n".join(lines[:-1]), encoding="utf-8")
    shown = run(*args)
    assert shown.exit_code == 0
    assert "no score for ISIC_0000079" in " ".join(shown.stdout.split())
    strict = run(*args, "--strict")
    assert (strict.exit_code, strict.stdout) == (3, shown.stdout)


@pytest.mark.parametrize(
    ("extra", "code", "reason"),
    [
        (("--run", "sge_b3"), 2, "is not SYSTEM=FILE"),
        (("--run", "sge_b3=absent.csv"), 3, "there is no such file"),
        (("--train-table", "LABELS_WITHOUT_IDS"), 3, "a training table needs one"),
        (("--images", "EMPTY"), 3, "holds no image"),
        (("--resamples", "3"), 2, "not in the range"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    made_up: Path, tmp_path: Path, extra, code: int, reason: str
) -> None:
    (tmp_path / "no_ids.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty").mkdir()
    places = {"LABELS_WITHOUT_IDS": tmp_path / "no_ids.csv", "EMPTY": tmp_path / "empty"}
    shown = run(
        "audit",
        made_up / "predictions",
        "--labels",
        made_up / "labels.csv",
        *(places.get(arg, arg) for arg in extra),
    )
    assert shown.exit_code == code, shown.output
    assert reason in shown.stderr
    assert sum(line.startswith("Error: ") for line in shown.stderr.splitlines()) == 1


@pytest.mark.parametrize("system", ["sge_b", "mine", "torch:absent.pt2"])
def test_a_run_of_a_system_that_is_not_among_the_files_is_one_line(made_up: Path, system: str) -> None:
    scores = made_up / "predictions"
    shown = run(
        "audit", scores, "--labels", made_up / "labels.csv", "--run", f"{system}={scores / 'SGE-B3.csv'}"
    )
    assert shown.exit_code == 2, shown.output
    assert system in shown.stderr
    assert sum(line.startswith("Error: ") for line in shown.stderr.splitlines()) == 1


def test_a_run_names_its_system_as_everywhere_by_an_alias_too(made_up: Path) -> None:
    scores = made_up / "predictions"
    shown = run(
        "audit", scores, "--labels", made_up / "labels.csv", "--resamples", "40", "--json",
        "--run", f"SGE-B3={scores / 'Spatial-B3.csv'}",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    found = msgspec.json.decode(shown.stdout, type=Audit)
    runs = [each for each in found.findings if each.check == "disagreeing_runs"]
    assert [each.systems for each in runs] == [("sge_b3",)]


def test_a_run_may_be_of_a_system_without_a_card(made_up: Path, tmp_path: Path) -> None:
    for name, source in (("mine", "SGE-B3"), ("again", "Spatial-B3")):
        (tmp_path / f"{name}.csv").write_bytes((made_up / "predictions" / f"{source}.csv").read_bytes())
    shown = run(
        "audit", tmp_path / "mine.csv", "--extra", "--labels", made_up / "labels.csv", "--resamples", "40",
        "--json", "--run", f"mine={tmp_path / 'again.csv'}",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    found = msgspec.json.decode(shown.stdout, type=Audit)
    assert [each.systems for each in found.findings if each.check == "disagreeing_runs"] == [("mine",)]


# Comparisons


def test_every_comparison_with_scores_has_an_audit(made_up: Path, train: Path, tmp_path: Path) -> None:
    cards = [zoo.card("sge_b3"), zoo.card("s2_mlp_b3")]
    inputs = read_inputs([made_up / "predictions"], made_up / "labels.csv", training=[train])
    record = compare(cards, SETTINGS, inputs)
    assert record.audit is not None
    assert record.audit.shared == 2
    assert {each.system for each in record.audit.rescored} == {"sge_b3", "s2_mlp_b3"}
    assert [each.name for each in record.inputs if each.role == "training"] == [str(train)]
    assert {pair.a for pair in record.audit.detectable} | {pair.b for pair in record.audit.detectable} == {
        "sge_b3", "s2_mlp_b3",
    }  # fmt: skip
    save(record, tmp_path / "record.json")
    assert load(tmp_path / "record.json") == record
    titles = [table.title for table in tables(record)]
    assert "Audit: what could make these figures wrong" in titles
    assert "Scores with and without the 2 lesion images shared with training" in titles
    assert "SGE-B3" in markdown(audited(record.audit, {"sge_b3": "SGE-B3"}))


def test_the_audit_of_a_comparison_takes_its_resamples_and_seed(made_up: Path) -> None:
    names = ("sge_b3", "s2_mlp_b3")
    inputs = read_inputs([made_up / "predictions"], made_up / "labels.csv")
    assert inputs is not None
    settings = msgspec.structs.replace(SETTINGS, resamples=60, seed=7)
    found = compare([zoo.card(name) for name in names], settings, inputs).audit
    own = [each for each in inputs.predictions if each.system in names]
    assert found is not None
    assert found.detectable == audit(own, inputs.labels, resamples=60, seed=7).detectable
    assert found.detectable != audit(own, inputs.labels, resamples=60, seed=8).detectable


def test_a_comparison_without_scores_has_none(made_up: Path) -> None:
    assert compare([zoo.card("sge_b3")], SETTINGS).audit is None
    inputs = read_inputs([made_up / "predictions"], made_up / "labels.csv")
    assert compare([zoo.card("baseline_b3")], SETTINGS, inputs).audit is None


def test_a_training_table_needs_something_to_compare_with(train: Path) -> None:
    with pytest.raises(UsageError, match="--predictions"):
        read_inputs([], None, training=[train])


def test_json_of_a_comparison_has_the_audit(made_up: Path) -> None:
    shown = run(
        "compare", "sge_b3", "--no-latency", "--resamples", "40", "--format", "json", "--predictions",
        made_up / "predictions", "--labels", made_up / "labels.csv",
    )  # fmt: skip
    content = json.loads(shown.stdout)
    assert msgspec.convert(content["audit"], Audit).findings


def test_tables_say_why_there_are_no_scores_without_the_shared() -> None:
    found = Audit(findings=(), checked=(), shared=3, unscored="none is left")
    assert "n/a (none is left)" in markdown(report(found))


# Verdicts


@pytest.mark.slow
def test_verdicts_cite_what_bears_on_them(record: Record) -> None:
    found = (
        finding("everywhere"),
        finding("sge only", systems=("sge_b3",)),
        finding("third only", systems=("third_place",)),
        finding("specificity only", metrics=("specificity",)),
        finding("auc of second", systems=("second_place",), metrics=("roc_auc",)),
        finding("for reading", severity="note"),
        finding("elsewhere", systems=("baseline_b3",)),
    )
    changed = msgspec.structs.replace(record, audit=Audit(findings=found, checked=()))
    cited = {claim.text: judge(claim, changed).citations for claim in claims()}
    assert cited["SGE-B3 reaches a ROC-AUC of 0.82"] == (1, 2)
    assert cited["SGE-B3 has a specificity of 0.21 at that threshold"] == (1, 2, 4)
    assert cited["The attention networks outperform the second winner"] == (1, 2, 5)
    assert cited["The attention networks outperform the third winner"] == (1, 2, 3)
    assert cited["The attention networks have up to 95% fewer parameters than the winners"] == ()
    bare = msgspec.structs.replace(record, audit=None)
    assert all(judge(claim, bare).citations == () for claim in claims())


@pytest.mark.slow
def test_citations_are_shown_beside_the_verdict(record: Record) -> None:
    verdict = next(each for each in record.claims if "second winner" in each.claim)
    assert verdict.citations
    assert record.audit is not None
    cited = [record.audit.findings[number - 1] for number in verdict.citations]
    assert {"power", "pseudo_labels", "departing_runs"} <= {each.check for each in cited}
    (shown,) = (row for row in tables(record)[0].rows if row[0] == verdict.claim)
    assert shown[-1] == ", ".join(map(str, verdict.citations))
