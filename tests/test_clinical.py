"""Clinical tables: what the command line prints of the made-up set, and known figures of the real one."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
from evaluate import find, read_labels
from evaluate.clinical import Clinical, Request, clinical
from evaluate.points import POINTS
from evaluate.protocols import OperatingPoint
from reports.clinical import tables
from reports.outputs import tables as all_tables
from reports.record import load
from reports.render import latex, markdown
from zoo.files import sha256


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "300"})


@pytest.fixture
def command(made_up: Path) -> list[str | Path]:
    return [
        "score", made_up / "predictions" / "SGE-B3.csv", made_up / "predictions" / "Second_place.csv",
        "--labels", made_up / "labels.csv", "--resamples", "50",
    ]  # fmt: skip


@pytest.fixture
def development(made_up: Path, tmp_path: Path) -> Path:
    """The made-up set under other names, so that it may lock thresholds."""
    scores = pd.read_csv(made_up / "predictions" / "SGE-B3.csv")
    scores["image_name"] = scores["image_name"].str.replace("ISIC", "DEV")
    scores.to_csv(tmp_path / "SGE-B3.csv", index=False)
    return tmp_path / "SGE-B3.csv"


def test_nothing_is_added_where_nothing_is_asked(command) -> None:
    content = json.loads(run(*command, "--json").stdout)
    assert not content.keys() & {"operating_points", "decision_curves", "calibration", "subgroups"}


def test_points_are_printed_and_marked(command) -> None:
    shown = run(*command, "--at", "sensitivity=0.9", "--at", "specificity=0.9", "--at", "sensitivity=0.9")
    assert shown.exit_code == 0, shown.output
    lines = shown.output.splitlines()
    for point in ("sensitivity 0.9 †", "specificity 0.9 †"):
        assert (
            sum(point in line for line in lines) == 5
        )  # two systems in two tables, one in that of differences
    assert "† at a threshold chosen on this test set: every figure of the row is optimistic" in shown.output
    assert "locked on development" not in shown.output


def test_locked_thresholds_lose_the_mark(command, development: Path) -> None:
    shown = run(*command, "--threshold-from", development)
    assert shown.exit_code == 0, shown.output
    points = [line for line in shown.output.splitlines() if "sensitivity 0.9 " in line]
    # The last is their difference: one of its two thresholds was chosen on the test set.
    assert ["†" in line for line in points] == [False, True, False, True, True]
    assert "locked on development predictions" in shown.output
    assert points[-1].count("p n/a") == 4  # two figures, each by resamples and by McNemar
    assert "*" not in points[-1]
    assert "p n/a: one threshold locked, one chosen on this test set" in shown.output
    assert "F1 of melanoma: one threshold locked, one chosen on this test set" in shown.output
    content = json.loads(run(*command, "--threshold-from", development, "--json").stdout)
    found = [row["threshold_from"] for row in content["operating_points"]["rows"]]
    assert found == ["development"] * 3 + ["test set"] * 3


def test_prevalence_says_so(command) -> None:
    shown = run(*command, "--prevalence", "0.02", "--decision-curves").output
    assert "from the test set's 25.0% melanomas to 0.02 (2.00%): PPV, NPV, Number needed to biopsy" in shown
    assert "to 0.02 (2.00%): net benefit" in shown
    plain = run(*command, "--decision-curves").output
    assert "Operating points" not in plain
    assert "Melanomas are 25.0% of this test set" in plain


def test_ranks_are_not_taken_for_probabilities(command) -> None:
    content = json.loads(run(*command, "--calibration", "--decision-curves", "--json").stdout)
    sge, second = content["calibration"]["systems"]
    assert sge["metrics"]["brier"]["value"] is not None
    assert second["metrics"]["brier"]["value"] is None
    assert "ranks" in second["metrics"]["brier"]["reason"]
    assert content["decision_curves"]["systems"][1]["net_benefit"][0]["value"] is None
    shown = run(*command, "--calibration", "--decision-curves").output
    assert "Second place: n/a (the scores are ranks" in shown


def test_subgroups_name_what_the_table_lacks(command) -> None:
    shown = run(*command, "--subgroups").output
    assert "Not in the table of labels: Sex, Age, Site" in shown


@pytest.mark.parametrize(
    ("args", "code", "reason"),
    [
        (["--at", "auc=0.9"], 2, "write it as sensitivity=0.9"),
        (["--at", "sensitivity=90"], 2, "at most 1"),
        (["--prevalence", "2"], 2, "above 0 and below 1"),
        (["--threshold-labels", "LABELS"], 2, "give both"),
        (["--threshold-from", "TEST"], 3, "are test images"),
    ],
)
def test_wrong_words(command, made_up: Path, args: list[str], code: int, reason: str) -> None:
    places = {"LABELS": made_up / "labels.csv", "TEST": made_up / "predictions" / "SGE-B3.csv"}
    shown = run(*command, *(places.get(arg, arg) for arg in args))
    assert shown.exit_code == code, shown.output
    assert reason in shown.stderr
    assert shown.stderr.count("\n") == 1


def test_tables_go_into_every_format(made_up: Path) -> None:
    predictions, _ = find(made_up / "predictions")
    everything = Request(
        points=POINTS, prevalence=0.02, decision_curves=True, calibration=True, subgroups=True
    )
    found = clinical(predictions, read_labels(made_up / "labels.csv"), everything, resamples=50)
    shown = tables(found, "sge_b3")
    # Points, calls and differences; decision curves; calibration and reliability; for each system its
    # ranking, and sensitivity and specificity at three points, in subgroups.
    assert len(shown) == 3 + 1 + 2 + len(predictions) * (1 + 2 * len(POINTS))
    assert "sensitivity 0.95 †" in markdown(shown)
    assert "∞" not in latex(shown)
    assert tables(Clinical(), "sge_b3") == []


def test_no_p_value_of_a_subgroup_is_shown_as_0(made_up: Path) -> None:
    found, _ = find([made_up / "predictions" / "SGE-B3.csv"])
    labels = read_labels(made_up / "labels.csv")
    sexed = labels.table.assign(sex=np.where(np.arange(len(labels.table)) % 2, "male", "female"))
    asked = clinical(
        found,
        msgspec.structs.replace(labels, table=sexed.set_index(labels.table.index)),
        Request(subgroups=True),
        resamples=40,
    )
    assert asked.subgroups is not None
    (system,) = asked.subgroups.systems
    values = (0.0, 0.0004, 0.25)
    groups = tuple(
        msgspec.structs.replace(
            system.groups[0],
            metric=msgspec.structs.replace(system.groups[0].metric, value=0.5),
            p_holm=value,
        )
        for value in values
    )
    shown = msgspec.structs.replace(
        asked.subgroups,
        groups=asked.subgroups.groups[:1] * len(values),
        systems=(msgspec.structs.replace(system, groups=groups),),
    )
    (table,) = (
        each for each in tables(Clinical(subgroups=shown), "sge_b3") if each.headers[-1] == "p (Holm)"
    )
    assert [row[-1] for row in table.rows] == ["<0.001", "<0.001", "0.250"]


def test_a_record_holds_what_was_asked_and_the_files_behind_it(
    made_up: Path, development: Path, tmp_path: Path
) -> None:
    shown = run(
        "compare", "sge_b3", "--no-latency", "--predictions", made_up / "predictions", "--labels",
        made_up / "labels.csv", "--resamples", "50", "--threshold-from", development, "--calibration",
        "--output", tmp_path / "out", "--format", "markdown",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert "### Operating points" in shown.stdout
    record = load(tmp_path / "out" / "record.json")
    assert record.clinical is not None
    assert record.clinical.operating_points is not None
    assert record.clinical.subgroups is None
    assert markdown(tables(record.clinical, "sge_b3")) in shown.stdout
    assert {table.title for table in tables(record.clinical, "sge_b3")} <= {
        t.title for t in all_tables(record)
    }
    roles = {each.role: each for each in record.inputs}
    assert roles["development"].name == str(development)
    assert roles["development"].sha256 == sha256(development)


def test_locked_thresholds_give_mcnemar_its_p_values(command, made_up: Path, development: Path) -> None:
    """Through the command line: with development predictions of both systems, and of one only."""
    other = pd.read_csv(made_up / "predictions" / "Second_place.csv")
    other["image_name"] = other["image_name"].str.replace("ISIC", "DEV")
    second = development.parent / "Second_place.csv"
    other.to_csv(second, index=False)
    both = ("--threshold-from", development, "--threshold-from", second, "--at", "specificity=0.8")
    shown = run(*command, *both)
    assert shown.exit_code == 0, shown.output
    assert "Differences from Second place at the operating points" in shown.stdout
    assert (
        "†"
        not in shown.stdout.partition("at the operating points")[2].partition("Point")[2].split("A figure")[0]
    )
    (comparison,) = json.loads(run(*command, *both, "--json").stdout)["operating_points"]["comparisons"]
    for each in comparison["differences"]:
        assert each["textbook"]["test"] == "McNemar"
        assert 0 < each["textbook"]["p"] <= 1
    (comparison,) = json.loads(run(*command, *both[:2], *both[4:], "--json").stdout)["operating_points"][
        "comparisons"
    ]
    assert all(each["textbook"]["p"] is None for each in comparison["differences"])
    assert all(each["p"] is None for each in comparison["differences"])


def test_every_part_goes_into_a_tidy_file(made_up: Path, development: Path, tmp_path: Path) -> None:
    """`reproduce` takes what a clinic asks for, and writes a row per figure."""
    shown = run(
        "reproduce", "--predictions", made_up / "predictions", "--labels", made_up / "labels.csv",
        "--resamples", "50", "--threshold-from", development, "--calibration", "--decision-curves", "--subgroups",
        "--output", tmp_path / "out",
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    record = load(tmp_path / "out" / "record.json")
    assert record.claims
    assert record.clinical is not None
    assert record.clinical.operating_points is not None
    assert record.clinical.decision_curves is not None
    read = {path.stem: pd.read_csv(path) for path in (tmp_path / "out").glob("*.csv")}
    assert read.keys() == {
        "claims", "differences", "operating_points", "decision_curves", "calibration", "reliability",
    }  # fmt: skip
    points = read["operating_points"].set_index(["system", "point", "wanted", "figure"])
    assert points.index.is_unique
    for row in record.clinical.operating_points.rows:
        for figure, metric in row.metrics.items():
            written = points.loc[(row.system, row.wanted.by, row.wanted.value, figure)]
            assert written["value"] == pytest.approx(metric.value, nan_ok=True) or metric.value is None
            assert (written["threshold_from"], pd.isna(written["low"])) == (
                row.threshold_from,
                metric.low is None,
            )
    pairs = 21 * (len(record.clinical.operating_points.comparisons) * 2)
    assert read["differences"]["point"].notna().sum() == pairs
    assert len(read["differences"]) == pairs + sum(len(each.differences) for each in record.scores)
    assert set(read["calibration"].loc[read["calibration"]["system"] == "second_place", "reason"]) == {
        "the scores are ranks, or not known to be probabilities"
    }


def test_locked_thresholds_lock_the_comparison_and_its_summary(
    made_up: Path, development: Path, tmp_path: Path
) -> None:
    files = (
        "--predictions",
        made_up / "predictions",
        "--labels",
        made_up / "labels.csv",
        "--resamples",
        "50",
    )
    args = ("compare", "sge_b3", "--no-latency", *files, "--output", tmp_path / "out")
    locked = run(*args, "--threshold-from", development).stdout.rpartition("In short")[2]
    assert "Thresholds locked on development predictions; sensitivity reached here: SGE-B3" in locked
    assert "†" not in locked
    frame = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert frame["specificity_threshold_from"].tolist() == ["development"]
    assert "†" in run(*args).stdout.rpartition("In short")[2]
    assert pd.read_csv(tmp_path / "out" / "comparison.csv")["specificity_threshold_from"].tolist() == [
        "test set"
    ]


def test_clinical_figures_need_predictions() -> None:
    shown = run("compare", "sge_b3", "--no-latency", "--at", "sensitivity=0.9")
    assert shown.exit_code == 2
    assert "--predictions DIR --labels TABLE" in shown.stderr


@pytest.fixture(scope="module")
def real(proveai: Path) -> Clinical:
    predictions, _ = find(proveai / "predictions")
    points = (OperatingPoint(by="sensitivity", value=0.95), OperatingPoint(by="specificity", value=0.9))
    request = Request(points=points, decision_curves=True, calibration=True, subgroups=True)
    return clinical(predictions, read_labels(proveai / "test.csv"), request, resamples=200)


PUBLISHED = {
    # Sensitivity and specificity at the first threshold that reaches 95% sensitivity.
    "sge_b3": (0.958, 0.146),
    "s2_cbam_b3": (0.958, 0.148),
    "s2_mlp_b3": (0.958, 0.219),
    "spatial_b3": (0.958, 0.116),
    "first_place": (0.958, 0.376),
    "second_place": (0.958, 0.209),
    "third_place": (0.958, 0.087),
}


def test_published_operating_points(real: Clinical) -> None:
    assert real.operating_points is not None
    rows = {row.system: row for row in real.operating_points.rows if row.wanted.by == "sensitivity"}
    assert rows.keys() == PUBLISHED.keys()
    for system, (sensitivity, specificity) in PUBLISHED.items():
        metrics = rows[system].metrics
        assert metrics["sensitivity"].value == pytest.approx(sensitivity, abs=0.0005)
        assert metrics["specificity"].value == pytest.approx(specificity, abs=0.0005)
        called = 91 + 508 * (1 - metrics["specificity"].value)
        assert metrics["number_needed_to_biopsy"].value == pytest.approx(called / 91)
        assert rows[system].threshold_from == "test set"


def test_only_probabilities_are_calibrated(real: Clinical) -> None:
    assert real.calibration is not None
    assert real.decision_curves is not None
    refused = {each.system for each in real.calibration.systems if each.metrics["brier"].value is None}
    assert refused == {"second_place", "third_place"}
    assert refused == {
        each.system for each in real.decision_curves.systems if each.net_benefit[0].value is None
    }


def test_the_real_subgroups(real: Clinical, proveai: Path) -> None:
    assert real.subgroups is not None
    assert real.subgroups.absent == ("Fitzpatrick skin type",)
    counts = {(group.attribute, group.group): (group.n, group.positives) for group in real.subgroups.groups}
    assert counts["sex", "female"] == (324, 32)
    assert counts["sex", "male"] == (279, 63)
    assert counts["site", "posterior torso"] == (180, 26)
    assert counts["site", "palms/soles"] == (5, 0)
    assert counts["age", "under 40 years"] == (63, 4)
    assert counts["invasion", "in situ"] == (508 + 49, 49)
    assert counts["invasion", "invasive"] == (508 + 46, 46)
    assert counts["thickness", "under 0.8 mm"] == (508 + 40, 40)
    assert counts["thickness", "0.8 mm and over"] == (508 + 6, 6)
    for system in real.subgroups.systems:
        for at in system.at:
            for group, each in zip(real.subgroups.groups, at.groups, strict=True):
                enough = (
                    group.positives >= 10
                    if at.figure == "sensitivity"
                    else (group.n - group.positives >= 10 and group.negatives == "group")
                )
                assert (each.metric.value is not None) == enough
        for group, each in zip(real.subgroups.groups, system.groups, strict=True):
            assert (each.metric.value is None) == (group.positives < 10)
    table = pd.read_csv(proveai / "test.csv").set_index("isic_id")
    scores = pd.read_csv(proveai / "predictions" / "SGE-B3.csv").set_index("image_name")
    sex = table.loc[scores.index, "sex"] == "female"
    wins = np.subtract.outer(
        scores.target[sex & (scores.y_true == 1)].to_numpy(),
        scores.target[sex & (scores.y_true == 0)].to_numpy(),
    )
    sge = next(each for each in real.subgroups.systems if each.system == "sge_b3")
    assert sge.groups[0].metric.value == pytest.approx(np.mean((wins > 0) + 0.5 * (wins == 0)))


@pytest.fixture
def mine(made_up: Path, tmp_path: Path) -> Path:
    """A file that matches no card."""
    (tmp_path / "mine.csv").write_bytes((made_up / "predictions" / "SGE-B3.csv").read_bytes())
    return tmp_path / "mine.csv"


def test_the_kind_of_a_file_of_ones_own_can_be_said(made_up: Path, mine: Path) -> None:
    command = [
        "score",
        mine,
        "--labels",
        made_up / "labels.csv",
        "--extra",
        "--resamples",
        "50",
        "--calibration",
    ]
    plain = run(*command)
    assert plain.exit_code == 0, plain.output
    assert "mine: scores are not known to be probabilities." in plain.output
    assert "scores are ranks, not" not in plain.output
    assert "--kind NAME=probability" in run(*command, "--json").stdout
    said = run(*command, "--kind", "mine=probability", "--json")
    assert said.exit_code == 0, said.output
    content = json.loads(said.stdout)
    assert content["systems"][0]["kind"] == "probability"
    assert content["calibration"]["systems"][0]["metrics"]["brier"]["value"] > 0
    audited = run("audit", *command[1:-1], "--kind", "mine=rank", "--json").stdout
    assert "stated to be ranks" in audited
    assert "not stated to be ranks or probabilities" in run("audit", *command[1:-1], "--json").stdout
    for wrong, message in (
        ("mine=odds", "is not NAME=probability or NAME=rank"),
        ("mien=rank", "no scores of 'mien'"),
    ):
        failed = run(*command, "--kind", wrong)
        assert failed.exit_code == 2
        assert message in failed.output


def test_a_folder_of_development_files_may_hold_systems_that_are_not_scored(
    command: list[str | Path], development: Path
) -> None:
    (development.parent / "Spatial-B3.csv").write_bytes(development.read_bytes())
    (development.parent / "notes.csv").write_text("a,b\n1,2\n")
    shown = run(*command, "--threshold-from", development.parent, "--json")
    assert shown.exit_code == 0, shown.output
    for name in ("Spatial-B3.csv", "notes.csv"):
        left_out = (
            f"left out: {development.parent / name}: development predictions of a system that is not scored"
        )
        assert left_out in shown.stderr
    rows = json.loads(shown.stdout)["operating_points"]["rows"]
    assert {row["system"]: row["threshold_from"] for row in rows}["sge_b3"] == "development"
    strict = run(*command, "--threshold-from", development.parent / "Spatial-B3.csv")
    assert strict.exit_code == 2
    assert "which is not scored" in strict.output
    compared = ["compare", "sge_b3", "--no-latency", "--predictions", command[1], *command[3:]]
    shown = run(*compared, "--threshold-from", development.parent, "--at", "sensitivity=0.9")
    assert shown.exit_code == 0, shown.output
    assert f"left out: {development.parent / 'notes.csv'}" in shown.stderr
