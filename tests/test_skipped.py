"""Images without a score are left out for all systems, are never averaged over, and are said wherever scores are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import cli
from evaluate import (
    Predictions,
    align,
    difference,
    find,
    read_labels,
    read_predictions,
    score,
    write_predictions,
)
from evaluate.audit import audit
from evaluate.clinical import Request, clinical
from evaluate.development import read_development
from evaluate.points import POINTS
from evaluate.published import write_published
from evaluate.skipped import note, without_skipped
from reports import clinical as clinic
from reports.record import load
from reports.tables import scored
from zoo.errors import InputError

SKIPPED = {"ISIC_0000003": "cut short", "ISIC_0000008": "missing"}
SAYS = "2 of 80 lesion images are n/a, and left out for all systems: ISIC_0000003 (cut short), ISIC_0000008 (missing)."


def predictions(system: str, images, scores, skipped=None) -> Predictions:
    table = pd.DataFrame({"image": images, "score": np.asarray(scores, dtype=float)})
    return Predictions(
        system=system, kind="probability", table=table, metadata={"skipped": skipped} if skipped else {}
    )


@pytest.fixture
def labels(made_up):
    return read_labels(made_up / "labels.csv")


@pytest.fixture
def folder(made_up, tmp_path) -> Path:
    """The made-up predictions, of which one system skipped two images and is a Parquet file."""
    for each in find(made_up / "predictions")[0]:
        table = each.table.copy()
        metadata = {}
        if each.system == "sge_b3":
            table.loc[table["image"].isin(SKIPPED), "score"] = np.nan
            metadata = {"skipped": SKIPPED}
        mended = Predictions(system=each.system, kind=each.kind, table=table, metadata=metadata)
        write_predictions(mended, tmp_path / "predictions" / f"{each.system}.parquet")
    return tmp_path / "predictions"


def test_skipped_rows_are_null_in_the_file_and_come_back(folder):
    path = folder / "sge_b3.parquet"
    assert pq.read_table(path)["score"].null_count == 2
    read = read_predictions(path)
    assert read.skipped == SKIPPED
    assert read.table.loc[read.table["score"].isna(), "image"].tolist() == list(SKIPPED)


def test_only_skipped_images_may_lack_a_score():
    with pytest.raises(InputError, match="the score nan of B is not a finite number"):
        predictions("mine", ["A", "B"], [0.1, np.nan])
    with pytest.raises(InputError, match="the score nan of B is not a finite number"):
        predictions("mine", ["A", "B"], [np.nan, np.nan], {"A": "missing"})
    with pytest.raises(InputError, match=r"row 0: A was skipped \(missing\) and has a score"):
        predictions("mine", ["A", "B"], [0.1, 0.2], {"A": "missing"})
    with pytest.raises(InputError, match="must give a reason for each skipped image"):
        Predictions(
            system="mine",
            kind="rank",
            table=pd.DataFrame({"image": [], "score": []}),
            metadata={"skipped": ["A"]},
        )


def test_an_image_that_nobody_declared_is_an_error(made_up, labels):
    first, *_ = find(made_up / "predictions")[0]
    with pytest.raises(InputError, match="no score for ISIC_0000000 of"):
        score([Predictions(system="mine", kind="rank", table=first.table.iloc[1:])], labels)


def test_skipped_images_are_never_averaged_over(folder, labels):
    with pytest.raises(InputError, match="2 images were skipped and have no score, such as ISIC_0000003"):
        align(read_predictions(folder / "sge_b3.parquet"), labels)


def test_all_systems_are_scored_on_the_same_lesions(folder, labels, made_up):
    found = score(find(folder)[0], labels, resamples=50)
    assert found.skipped == SKIPPED
    assert (found.n, found.positives) == (78, 19)
    assert found.notes[0] == SAYS
    kept = labels.table.drop(index=list(SKIPPED)).reset_index()
    kept.rename(columns={"image": "isic_id", "melanoma": "target"}).to_csv(
        folder.parent / "rest.csv", index=False
    )
    rest = [
        Predictions(system=each.system, kind=each.kind, table=each.table[~each.table["image"].isin(SKIPPED)])
        for each in find(made_up / "predictions")[0]
    ]
    expected = {
        each.system: each
        for each in score(rest, read_labels(folder.parent / "rest.csv"), resamples=50).systems
    }
    for each in found.systems:
        assert each.metrics == expected[each.system].metrics


def test_a_difference_is_on_the_lesions_of_both(folder, labels):
    one, two = read_predictions(folder / "sge_b3.parquet"), read_predictions(folder / "first_place.parquet")
    there, back = (difference(a, b, "roc_auc", labels, resamples=50) for a, b in ((one, two), (two, one)))
    assert there.value == pytest.approx(-back.value)


def test_systems_without_gaps_keep_all_lesions(made_up, labels):
    given = find(made_up / "predictions")[0]
    left, same = without_skipped(given, labels)
    assert list(left) == given
    assert same is labels


def test_a_lesion_is_out_where_one_of_its_copies_is(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("isic_id,target\nA,1\nB,0\nC,1\nD,0\n")
    names = [f"{image}{copy}" for image in "ABCD" for copy in ("", "_0")]
    mine = predictions("mine", names, [0.1, np.nan, *np.linspace(0.2, 0.9, 6)], {"A_0": "cut short"})
    other = predictions("other", ["A", "B", "C", "D"], [0.1, 0.2, 0.3, 0.4])
    left, labels = without_skipped([mine, other], read_labels(path))
    assert labels.skipped == {"A": "A_0: cut short"}
    assert [each.table["image"].str[0].unique().tolist() for each in left] == [["B", "C", "D"]] * 2
    again, same = without_skipped(left, labels)
    assert (again, same) == (left, labels)


def test_a_skipped_image_needs_no_row(labels, made_up):
    first, second, *_ = find(made_up / "predictions")[0]
    short = Predictions(
        system="mine",
        kind="rank",
        table=first.table[~first.table["image"].isin(SKIPPED)],
        metadata={"skipped": SKIPPED},
    )
    assert score([short, second], labels, resamples=50).n == 78


def test_a_skipped_image_that_the_labels_do_not_have_needs_no_score(folder, made_up, tmp_path):
    table = pd.read_csv(made_up / "labels.csv", dtype=str)
    without = table[~table.isin(list(SKIPPED)).any(axis=1)]
    assert len(without) == len(table) - len(SKIPPED)
    without.to_csv(tmp_path / "without.csv", index=False)
    (left,), kept = without_skipped(
        [read_predictions(folder / "sge_b3.parquet")], read_labels(tmp_path / "without.csv")
    )
    assert kept.skipped == {}
    assert len(align(left, kept).scores) == 78


def test_a_class_must_be_left(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("isic_id,target\nA,1\nB,0\nC,0\n")
    mine = predictions("mine", ["A", "B", "C"], [np.nan, 0.1, 0.2], {"A": "missing"})
    with pytest.raises(
        InputError, match="without the 1 lesion images that a system has no score of, 2 of at most one class"
    ):
        score([mine], read_labels(path))


def test_patients_that_are_not_known_are_counted_anew(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("isic_id,target,patient_id,lesion_id\nA,1,,L\nB,0,P,\nC,0,,\nD,1,P,\n")
    mine = predictions("mine", list("ABCD"), [np.nan, 0.1, 0.2, 0.3], {"A": "missing"})
    assert without_skipped([mine], read_labels(path))[1].without_patient == 1


def test_what_a_clinic_asks_is_of_the_same_lesions(folder, labels):
    everything = Request(points=POINTS, decision_curves=True, calibration=True, subgroups=True)
    found = clinical(find(folder)[0], labels, everything, resamples=50)
    kept = without_skipped(find(folder)[0], labels)[1].table["melanoma"]
    assert found.calibration.test_prevalence == pytest.approx(kept.mean())
    assert found.operating_points.test_prevalence == pytest.approx(kept.mean())
    assert found.decision_curves.test_prevalence == pytest.approx(kept.mean())


def test_thresholds_are_chosen_on_the_development_images_that_have_scores(tmp_path, made_up, folder):
    table = pd.read_csv(made_up / "labels.csv").assign(patient_id=lambda each: "D" + each["patient_id"])
    table["isic_id"] = "D" + table["isic_id"]
    table.to_csv(tmp_path / "labels.csv", index=False)
    read = read_predictions(folder / "sge_b3.parquet")
    own = read.table.assign(image="D" + read.table["image"])
    dev = Predictions(
        system="sge_b3",
        kind=read.kind,
        table=own,
        metadata={"skipped": {f"D{k}": v for k, v in SKIPPED.items()}},
    )
    write_predictions(dev, tmp_path / "dev.parquet")
    found = read_development([tmp_path / "dev.parquet"], tmp_path / "labels.csv")["sge_b3"]
    assert len(found.images) == 78


def test_the_audit_says_it(folder, labels):
    given = find(folder)[0]
    runs = [read_predictions(folder / "sge_b3.parquet")]
    found = audit(given, labels, runs=runs, resamples=50)
    (finding,) = (each for each in found.findings if each.check == "skipped_images")
    assert finding.severity == "warning"
    assert finding.figures == {"skipped": 2, "lesion images": 80}
    assert "ISIC_0000003 (cut short); ISIC_0000008 (missing)" in finding.found
    without = audit(given[1:2], labels, resamples=50)
    assert not [each for each in without.findings if each.check == "skipped_images"]


def run(*args) -> str:
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "400"})
    assert result.exit_code == 0, result.output
    return result.output


def test_every_table_of_scores_says_it(folder, labels, made_up):
    given = find(folder)[0]
    everything = Request(points=POINTS, decision_curves=True, calibration=True, subgroups=True)
    found = score(given, labels, resamples=50)
    more = clinical(given, labels, everything, resamples=50)
    tables = [*scored(found), *clinic.tables(more, found.systems[0].system, note(found.skipped, found.n))]
    assert len(tables) > 8
    for table in tables:
        assert SAYS in table.notes, table.title
    options = (folder, "--labels", made_up / "labels.csv", "--resamples", 50, "--at", "sensitivity=0.9")
    assert run("score", *options).count(SAYS) == 6
    assert json.loads(run("score", *options, "--json"))["skipped"] == SKIPPED


def test_the_record_carries_it(folder, made_up, tmp_path):
    shown = run(
        "compare", "sge_b3", "first_place", "--no-latency", "--predictions", folder, "--labels", made_up / "labels.csv",
        "--resamples", 50, "--output", tmp_path / "out", "--format", "markdown",
    )  # fmt: skip
    titles = [line for line in shown.splitlines() if line.startswith("### ")]
    assert [title for title in titles if title.startswith(("### In short", "### Scores", "### Differences"))]
    assert shown.replace("\\_", "_").count(SAYS) == 4
    assert [scores.skipped for scores in load(tmp_path / "out" / "record.json").scores] == [SKIPPED]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["skipped"] == SKIPPED
    alone = run(
        "compare", "first_place", "--no-latency", "--predictions", folder, "--labels", made_up / "labels.csv",
        "--resamples", 50,
    )  # fmt: skip
    assert "n/a, and left out" not in alone


def test_a_csv_of_our_own_says_what_was_skipped_and_comes_back(made_up, labels, tmp_path):
    (each,) = [each for each in find(made_up / "predictions")[0] if each.system == "sge_b3"]
    table = each.table.assign(member="9c_SGE-b3_384_384_35ep", fold=0)
    table.loc[table["image"].isin(SKIPPED), "score"] = np.nan
    metadata = {"skipped": SKIPPED, "weights": [{"member": "a", "fold": 0, "untrained_seed": 3}]}
    ours = Predictions(system="sge_b3", kind="probability", table=table, metadata=metadata)
    write_predictions(ours, tmp_path / "sge_b3.parquet")
    write_published(tmp_path / "sge_b3.parquet", None, tmp_path / "sge_b3.csv")
    read = read_predictions(tmp_path / "sge_b3.csv")
    assert read.skipped == SKIPPED
    assert "Untrained weights: the scores mean nothing." in read.notes
    found = score([read], labels, resamples=40)
    assert found.skipped == SKIPPED
    assert found.n == 78
    shown = CliRunner().invoke(cli.main, ["score", str(tmp_path / "sge_b3.csv"), "--labels", str(made_up / "labels.csv"), "--resamples", "40"], env={"COLUMNS": "250"})  # fmt: skip
    assert shown.exit_code == 0, shown.output
    assert SAYS in shown.output


def test_an_empty_score_of_a_csv_is_no_skipped_image(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("image_name,target\nA,0.5\n\nB,n/a\nC,0.2\n", encoding="utf-8")
    assert read_predictions(path).skipped == {"B": "n/a in the file"}
    path.write_text("image_name,target,skipped\nA,0.5,\nB,,missing\n", encoding="utf-8")
    with pytest.raises(InputError, match="row 3: the score nan of B is not a finite number"):
        read_predictions(path)


def test_predictions_of_the_first_images_are_scored_on_these_for_all(made_up, labels, folder):
    """Only where the file says that a limit was asked for: else a missing row is a mistake."""
    few = labels.table.index[:30]
    path = folder / "sge_b3.parquet"
    read = read_predictions(path)
    cut = read.table[read.table["image"].isin(few)]
    write_predictions(Predictions(system="sge_b3", kind=read.kind, table=cut, metadata={"skipped": SKIPPED, "limit": 30}), path)  # fmt: skip
    found = score(find(folder)[0], labels, resamples=40)
    assert found.n == 28
    assert len(found.skipped) == 52
    said = note(found.skipped, found.n)[0]
    assert said.startswith("52 of 80 lesion images are n/a, and left out for all systems: 50 images such as ")
    assert "(beyond the limit of 30), ISIC_0000003 (cut short)" in said
    (warning,) = [each for each in audit(find(folder)[0], labels).findings if each.check == "skipped_images"]
    assert "50 images such as" in warning.found
    write_predictions(Predictions(system="sge_b3", kind=read.kind, table=cut, metadata={"skipped": SKIPPED}), path)  # fmt: skip
    with pytest.raises(InputError, match=r"50 such images.*give a table of the images that are meant"):
        score(find(folder)[0], labels, resamples=40)
