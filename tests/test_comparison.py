"""The comparison: the known figures, the same in every format, golden tables."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import msgspec
import pytest
from syrupy.assertion import SnapshotAssertion

import zoo
from benchmarks.results import Latency
from evaluate.clinical import Request
from evaluate.points import POINTS
from reports import outputs, rows
from reports.comparison import compare, reproduce
from reports.inputs import read_inputs
from reports.record import Record, Settings
from reports.tables import comparison
from reports.verdicts import verdicts

pytestmark = pytest.mark.slow


def row(record: Record, system: str) -> rows.Row:
    return next(row for row in rows.rows(record) if row["system"] == system)


def test_attention_networks_come_first_and_winners_last(record: Record) -> None:
    assert [entry.card.name for entry in record.entries] == [
        "s2_cbam_b3", "s2_mlp_b3", "sge_b3", "spatial_b3", "baseline_b3", "first_place", "second_place", "third_place",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("system", "rule", "millions"),
    [
        ("sge_b3", "networks", 10.708_624),
        ("sge_b3", "weights", 53.543_12),
        ("first_place", "networks", 618),
        ("first_place", "architectures", 254),
        ("second_place", "networks", 145),
        ("third_place", "networks", 326),
    ],
)
def test_published_parameter_counts(record: Record, system: str, rule: str, millions: float) -> None:
    assert row(record, system)[f"parameters_{rule}"] / 1e6 == pytest.approx(millions, abs=1.2)


@pytest.mark.parametrize(
    ("rule", "winner", "percent"),
    [
        ("networks", "first_place", 98.3),
        ("networks", "second_place", 92.6),
        ("networks", "third_place", 96.7),
        ("architectures", "first_place", 95.8),
        ("weights", "third_place", 83.6),
    ],
)
def test_published_reductions_of_sge_b3(record: Record, rule: str, winner: str, percent: float) -> None:
    assert round(100 * row(record, "sge_b3")[f"reduction_{rule}_{winner}"], 1) == percent


def test_operations_of_a_pass_and_of_the_protocol(record: Record) -> None:
    sge = row(record, "sge_b3")
    assert sge["macs_pass"] / 1e9 == pytest.approx(2.82, abs=0.02)
    assert sge["macs_protocol"] == sge["macs_pass"] * 5 * 8
    third = row(record, "third_place")
    assert third["macs_protocol"] == third["macs_pass"]


def test_a_system_without_predictions_says_so(record: Record) -> None:
    baseline = row(record, "baseline_b3")
    assert baseline["roc_auc"] is None
    assert baseline["roc_auc_reason"] == "no predictions"
    shown = outputs.text(record, "markdown")
    assert "n/a (no predictions)" in shown
    assert "Latency" not in shown


def test_printed_figures_stand_in_columns_of_their_own(record: Record) -> None:
    sge = row(record, "sge_b3")
    assert sge["printed_roc_auc, PROVE-AI"] == 0.82
    assert sge["roc_auc"] != 0.82
    assert row(record, "first_place")["printed_roc_auc, ISIC 2020 private leaderboard"] == 0.949
    assert row(record, "first_place")["printed_roc_auc, PROVE-AI"] is None


def test_csv_json_and_frame_hold_the_same_figures(record: Record) -> None:
    table = rows.frame(record)
    read = {line["system"]: line for line in csv.DictReader(io.StringIO(outputs.text(record, "csv")))}
    parsed = {line["system"]: line for line in json.loads(outputs.text(record, "json"))["systems"]}
    assert list(read) == list(parsed) == list(table.index)
    for system in read:
        for key in (
            "parameters_networks",
            "macs_pass",
            "reduction_weights_first_place",
            "roc_auc",
            "roc_auc_low",
        ):
            expected = table.loc[system, key]
            if expected != expected:  # NaN: missing
                assert read[system][key] == ""
                assert parsed[system][key] is None
            else:
                assert float(read[system][key]) == expected == parsed[system][key]


def test_tables_show_the_figures_of_the_frame(record: Record) -> None:
    sge = row(record, "sge_b3")
    shown = f"{sge['roc_auc']:.3f} ({sge['roc_auc_low']:.3f} to {sge['roc_auc_high']:.3f})"
    assert shown in outputs.text(record, "markdown")
    assert shown in outputs.text(record, "latex")


def test_figures_at_thresholds_of_the_test_set_are_marked(record: Record) -> None:
    scores = next(table for table in comparison(record) if table.title.startswith("Scores, clinical"))
    marked = [header for header in scores.headers if header.endswith("†")]
    assert [header.split()[0] for header in marked] == ["Sensitivity", "Specificity", "Balanced", "F1"]
    assert any("† at a threshold chosen on this test set" in note for note in scores.notes)


def test_limits_and_assumptions_are_shown(record: Record) -> None:
    shown = outputs.text(record, "markdown")
    assert "49x49" in shown
    assert "cannot score one image alone" in shown


def timed(record: Record) -> Record:
    """Three systems of the record as if they had been timed: one quietly, one noisily, one in vain."""

    def latency(median: float | None, *flags: str) -> Latency:
        return Latency(
            median_ms=median, error="" if median else "killed by SIGKILL (out of memory?)", flags=("quick", *flags),
            device="cpu", measured="2026-01-01T00:00:00+00:00", machine=record.machine,
        )  # fmt: skip

    quiet, doubtful = latency(100.0), latency(2000.0, "invalid")
    failed = latency(None)
    per_system = {
        "sge_b3": [quiet],
        "second_place": [quiet, doubtful, quiet],
        "third_place": [failed] + [quiet] * 7,
    }
    entries = tuple(
        msgspec.structs.replace(
            entry,
            members=tuple(
                msgspec.structs.replace(member, latency=given)
                for member, given in zip(entry.members, per_system[entry.card.name], strict=True)
            ),
        )
        for entry in record.entries
        if entry.card.name in per_system
    )
    settings = msgspec.structs.replace(record.settings, latency="quick")
    return msgspec.structs.replace(record, entries=entries, settings=settings)


def test_a_doubtful_latency_is_marked_where_it_stands(record: Record) -> None:
    changed = timed(record)
    costs = next(table for table in comparison(changed) if table.title.startswith("What each system costs"))
    assert costs.headers[-1] == "Latency, ms (quick)"
    assert {line[0]: line[-1] for line in costs.rows} == {
        "SGE-B3": "100",
        "Second place": "2,200 invalid",
        "Third place": "n/a (EfficientNetB6_256x256_2020_epoch13_auc_0.92: killed by SIGKILL (out of memory?))",
    }


def test_every_network_has_its_own_latency(record: Record) -> None:
    networks = next(t for t in outputs.tables(timed(record)) if t.title.startswith("One forward pass"))
    assert len(networks.rows) == 12
    shown = {line[1]: line[-1] for line in networks.rows}
    assert shown["bee517"] == "2,000 invalid"
    assert shown["bee508"] == "100"
    assert shown["EfficientNetB6_256x256_2020_epoch13_auc_0.92"].startswith("n/a (killed by SIGKILL")


@pytest.mark.parametrize("style", ["markdown", "latex"])
def test_golden_tables(record: Record, style: str, snapshot: SnapshotAssertion) -> None:
    from reports import render

    tables = [*verdicts(record), *comparison(record)]
    assert getattr(render, style)(tables) == snapshot


def test_golden_tables_on_a_terminal_of_80_columns(record: Record, snapshot: SnapshotAssertion) -> None:
    from rich.console import Console

    from reports.render import terminal

    shown = io.StringIO()
    Console(width=80, file=shown, color_system=None).print(terminal(outputs.tables_on_screen(record)))
    assert shown.getvalue() == snapshot


def test_systems_of_one_title_are_called_by_their_names_everywhere(made_up: Path, tmp_path: Path) -> None:
    files = [tmp_path / folder / "mine.csv" for folder in ("a", "b")]
    for file, scores in zip(files, ("SGE-B3", "Spatial-B3"), strict=True):
        file.parent.mkdir()
        shutil.copy(made_up / "predictions" / f"{scores}.csv", file)
    names = [f"csv:{file},kind=probability" for file in files]
    own = [zoo.card(name) for name in names]
    assert own[0].title == own[1].title
    inputs = read_inputs([made_up / "predictions"], made_up / "labels.csv", elsewhere=own)
    settings = Settings(
        rule="networks", protocol="clinical", resamples=40, seed=0, latency="off", device="auto"
    )
    request = Request(points=POINTS[:1], decision_curves=True, calibration=True, subgroups=True)
    systems = [*own, zoo.card("sge_b3")]
    found = reproduce(systems, settings, inputs, request=request)
    assert [entry.card.title for entry in found.entries] == [*names, "SGE-B3"]
    assert {each.title for scores in found.scores for each in scores.systems} == {*names, "SGE-B3"}
    assert len(found.scores) == 2
    assert f'"title":"{own[0].title}"'.encode() not in msgspec.json.encode(found)
    assert found.disagreements is not None
    assert set(found.disagreements.titles) == {*names, "SGE-B3"}
    alone = compare([own[0], zoo.card("sge_b3")], settings, inputs)
    assert {each.title for each in alone.scores[0].systems} == {own[0].title, "SGE-B3"}
