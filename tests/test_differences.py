"""Differences from a reference as a reader sees them: letters, tables, the frame and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from cli import main
from evaluate import Scores, find, read_labels, score
from evaluate.paired import against
from reports.differences import difference_figures, difference_tables, reference
from reports.figures import estimate, p_value
from reports.tables import scored
from zoo.errors import UnknownNameError


def run(*args: str | Path) -> Result:
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def scores(made_up: Path) -> Scores:
    return score(find(made_up / "predictions")[0], read_labels(made_up / "labels.csv"))


def without(scores: Scores, *names: str) -> Scores:
    systems = tuple(each for each in scores.systems if each.system not in names)
    return msgspec.structs.replace(scores, systems=systems)


def test_the_reference_is_the_first_winner_unless_another_is_asked_for(scores: Scores) -> None:
    assert reference(scores, None) == "first_place"
    assert reference(scores, "SGE-B3") == "sge_b3"
    assert reference(without(scores, "first_place"), None) == "second_place"
    attention = without(scores, "first_place", "second_place", "third_place")
    assert reference(attention, None) == attention.systems[0].system


def test_a_reference_without_scores_is_told(scores: Scores) -> None:
    with pytest.raises(
        UnknownNameError, match="no scores of baseline_b3; there are scores of first_place, s2_"
    ):
        reference(scores, "baseline_b3")


def test_the_letters_stand_beside_each_figure(scores: Scores) -> None:
    table, *_ = scored(scores)
    for system, row in zip(scores.systems, table.rows, strict=True):
        assert row[0] == system.title
        for metric, cell in zip(system.metrics.values(), row[1:], strict=True):
            assert cell == f"{estimate(metric.value, metric.low, metric.high)} {metric.group}"
    assert any("share a letter" in note and "does not make them equal" in note for note in table.notes)


def test_the_table_shows_every_difference_with_its_verdict(scores: Scores) -> None:
    table, _ = difference_tables(scores, "second_place")
    assert table.title == "Differences from Second place"
    titles = [system.title for system in scores.systems if system.system != "second_place"]
    assert [row[0] for row in table.rows] == titles
    cells = {
        (row[0], header): cell for row in table.rows for header, cell in zip(table.headers, row, strict=True)
    }
    verdicts = set()
    for each in against(scores.differences, "second_place"):
        if each.metric == "roc_auc":
            title = next(system.title for system in scores.systems if system.system == each.a)
            mark = " *" if each.separable else ""
            value = estimate(each.value, each.low, each.high, signed=True)
            assert cells[title, "ROC-AUC"] == f"{value}, {p_value(each.p_adjusted)}{mark}"
            verdicts.add(each.separable)
    assert verdicts == {True, False}


def test_textbook_tests_stand_in_a_table_of_their_own(scores: Scores) -> None:
    _, table = difference_tables(scores, "first_place")
    assert table.headers == ("System", "ROC-AUC", "Sensitivity", "Specificity")
    first = against(scores.differences, "first_place")[0]
    shown = estimate(first.value, first.textbook.low, first.textbook.high, signed=True)
    assert table.rows[0][1] == f"{shown}, {p_value(first.textbook.p_adjusted)}"
    assert all(row[3].endswith(", p n/a") and " to " in row[3] for row in table.rows)
    assert table.notes[-1] == "No p-value of Sensitivity, Specificity: thresholds chosen on this test set."


def test_the_frame_has_the_differences(scores: Scores) -> None:
    figures = difference_figures(scores, "first_place", "clinical_")
    assert "first_place" not in figures
    for each in against(scores.differences, "first_place"):
        row, key = figures[each.a], f"clinical_{each.metric}_difference"
        assert (row[key], row[f"{key}_low"], row[f"{key}_high"]) == (each.value, each.low, each.high)
        assert (row[f"{key}_p"], row[f"{key}_separable"]) == (each.p_adjusted, each.separable)


def test_one_system_has_no_differences(made_up: Path) -> None:
    alone = score(find(made_up / "predictions" / "SGE-B3.csv")[0], read_labels(made_up / "labels.csv"))
    assert len(scored(alone)) == 1
    assert not any("letter" in note for note in scored(alone)[0].notes)


def test_score_takes_a_reference(made_up: Path) -> None:
    files = ("score", made_up / "predictions", "--labels", made_up / "labels.csv", "--resamples", "300")
    assert "Differences from First place" in run(*files).stdout
    assert "Differences from S2-MLP-B3" in run(*files, "--reference", "s2_mlp_b3").stdout
    found = json.loads(run(*files, "--json").stdout)
    assert len(found["differences"]) == 21 * 7
    wrong = run(*files, "--reference", "nobody", "--json")
    assert (wrong.exit_code, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)
    assert "no scores of nobody" in wrong.stderr


def test_a_reference_without_predictions_is_refused_before_the_work() -> None:
    shown = run("compare", "--reference", "sge_b3", "--no-latency")
    assert shown.exit_code == 2
    assert shown.stderr == "Error: no scores to compare with sge_b3; give --predictions and --labels\n"
