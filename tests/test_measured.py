"""Time and energy of a profile beside the scores: on the axes, in the tables, at the gate, in the leaderboard."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

import cli
from benchmarks.results import Machine, Profile, Row
from reports import outputs
from reports.charts.all import charts
from reports.gate.judge import judge
from reports.gate.rules import Rule
from reports.gate.show import lines
from reports.leaderboard import Named, leaderboard
from reports.measured import measured
from reports.record import Record, save
from reports.rows import rows

GPU = {"device": "cuda", "precision": "fp32", "memory_format": "contiguous", "threads": 1, "compiled": False}
CPU = {**GPU, "device": "cpu"}


def profiled(record: Record, ms: float = 8.0, spread: float = 0.02, cpu: str = "a processor") -> Record:
    """The record with a profile of three systems; one network of the second place has no figure."""
    machine = Machine(
        cpu=cpu, cores=16, logical_cores=16, memory_gib=128, gpus=("a card",), driver="1", cuda="12", os="Linux", python="3.12",
        torch="2.9", timm="1.0",
    )  # fmt: skip
    found = []
    for entry in record.entries:
        if entry.card.name not in ("sge_b3", "first_place", "second_place"):
            continue
        for place, member in enumerate(entry.members):
            broken = entry.card.name == "second_place" and place == 1
            for variant, factor in ((CPU, 10), ({**GPU, "precision": "bf16"}, 0.5), (GPU, 1)):
                found.append(
                    Row(
                        system=entry.card.name, title=entry.card.title, network=member.name, scenario="latency", **variant,
                        ms=None if broken else ms * factor, error="out of memory" if broken else "", spread=spread, rounds=3,
                        joules=2.0 if variant["device"] == "cuda" else None,
                        reasons={} if variant["device"] == "cuda" else {"joules": "no energy counter"},
                    )
                )  # fmt: skip
    return msgspec.structs.replace(
        record,
        profile=Profile(rows=tuple(found), ceilings=(), machine=machine, seed=0, rounds=3, quick=False),
    )


def test_sums_are_over_members_of_one_variant(record: Record) -> None:
    found = measured(profiled(record))
    sge = record.entry("sge_b3")
    first = record.entry("first_place")
    assert sge is not None
    assert first is not None
    assert found["sge_b3"].variant == "cuda, fp32, contiguous"
    assert found["sge_b3"].latency_ms == 8.0
    assert found["sge_b3"].energy_j == 2.0 * 5 * 8
    assert found["first_place"].latency_ms == 8.0 * 18
    assert found["first_place"].energy_j == 2.0 * 18 * first.card.folds * first.card.views.distinct
    broken = found["second_place"]
    assert (broken.latency_ms, broken.energy_j) == (None, None)
    assert broken.latency_reason == "bee517: out of memory"
    assert found["third_place"].latency_reason == "not profiled"


def test_energy_that_no_counter_measured_says_so(record: Record) -> None:
    both = profiled(record)
    assert both.profile is not None
    alone = dataclasses.replace(
        both.profile, rows=tuple(row for row in both.profile.rows if row.device == "cpu")
    )
    found = measured(msgspec.structs.replace(both, profile=alone))["sge_b3"]
    assert (found.latency_ms, found.energy_j, found.energy_reason) == (80.0, None, "no energy counter")


def test_what_makes_energy_doubtful_stands_with_it_and_not_with_the_time(record: Record) -> None:
    both = profiled(record)
    assert both.profile is not None
    doubtful = dataclasses.replace(
        both.profile,
        rows=tuple(
            dataclasses.replace(row, flags=("noisy",), energy_flags=("busy",)) for row in both.profile.rows
        ),
    )
    found = msgspec.structs.replace(both, profile=doubtful)
    row = next(row for row in rows(found) if row["title"] == "SGE-B3")
    assert (row["latency_ms_flag"], row["energy_j_flag"]) == ("noisy", "noisy, energy: busy")
    assert (row["latency_ms_note"], row["energy_j_note"]) == ("noisy", "noisy, energy: busy")
    board = leaderboard([Named("a", found)])
    (times,) = [table for table in board.tables if "Energy for one lesion, J" in table.headers]
    assert times.rows[0][times.headers.index("Doubts")] == "noisy, energy: busy"


def test_that_a_run_was_short_is_said_once(record: Record) -> None:
    both = profiled(record)
    assert both.profile is not None
    marked = tuple(
        dataclasses.replace(row, flags=("quick",), energy_flags=("quick", "busy"))
        for row in both.profile.rows
    )
    short = dataclasses.replace(both.profile, rows=marked, quick=True)
    found = measured(msgspec.structs.replace(both, profile=short))["sge_b3"]
    assert (found.flags, found.energy_flags) == (("quick",), ("energy: busy",))


def test_without_a_profile_nothing_is_made_up(record: Record) -> None:
    assert {(each.latency_ms, each.energy_j, each.machine) for each in measured(record).values()} == {
        (None, None, None)
    }
    assert "energy_j" in rows(record)[0]
    assert "Energy" not in outputs.tables(record)[3].headers


def test_the_axes_of_cost_have_the_figures_of_the_profile(record: Record) -> None:
    both = profiled(record)
    by_title = {row["title"]: row for row in rows(both)}
    (chart,) = [each for each in charts(both) if each.name == "auc_by_cost"]
    for title, key in (("Latency of one fold, ms", "latency_ms"), ("Energy for one lesion, J", "energy_j")):
        (panel,) = [each for each in chart.panels if each.x.title == title]
        shown = {series.name: (series.x[0], series.y[0]) for series in panel.series}
        assert shown == {
            title: (by_title[title][key], by_title[title]["roc_auc"]) for title in ("SGE-B3", "First place")
        }
    (cost,) = [table for table in outputs.tables(both) if table.title.startswith("What each system costs")]
    assert cost.headers[-2:] == ("Latency, ms", "Energy, J")
    assert any("from a profile (cuda, fp32, contiguous; 3 fresh processes)" in note for note in cost.notes)


@pytest.mark.parametrize("metric", ["latency_ms", "energy_j"])
def test_the_gate_takes_times_and_energy_of_profiles(record: Record, metric: str) -> None:
    rule = Rule(metric=metric, direction="lower", relative=0.1, systems="sge_b3")
    before = profiled(record)
    assert judge(before, before, [rule]).exit_code == 0
    elsewhere = judge(profiled(record, cpu="another"), before, [rule])
    assert elsewhere.exit_code == 2
    assert "measured on different machines (cpu: a processor / another)" in lines(elsewhere)[0]
    noisy = judge(profiled(record, spread=0.3), before, [rule])
    assert noisy.exit_code == 2
    assert "tighter than the measured noise of 30.0%" in lines(noisy)[0]


def test_a_slower_profile_is_a_regression_and_a_shortened_one_is_not_judged(record: Record) -> None:
    rule = Rule(metric="latency_ms", direction="lower", relative=0.1, systems="sge_b3")
    before, after = profiled(record), profiled(record, ms=10.0)
    assert lines(judge(after, before, [rule])) == [
        "regression: SGE-B3: latency of one fold 8.00 ms → 10.0 ms: worse by 2, the tolerance is 0.8"
    ]
    assert after.profile is not None
    short = msgspec.structs.replace(after, profile=dataclasses.replace(after.profile, quick=True))
    assert "measured in different ways" in lines(judge(short, before, [rule]))[0]


def test_a_leaderboard_ranks_the_times_of_one_machine(record: Record) -> None:
    found = leaderboard(
        [Named("a", profiled(record)), Named("b", profiled(record, ms=4.0)), Named("c", profiled(record, cpu="another"))]
    ).tables  # fmt: skip
    times = [table for table in found if table.title.startswith("Ranking of latency")]
    assert [sorted({row[2] for row in table.rows}) for table in times] == [["a", "b"], ["c"]]
    assert [row[1:4] for row in times[0].rows][:2] == [("SGE-B3", "b", "4.00"), ("SGE-B3", "a", "8.00")]
    assert times[0].headers[4] == "Energy for one lesion, J"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli.main, ["report", *map(str, words)])


def test_a_profile_given_beside(record: Record, tmp_path: Path) -> None:
    save(record, tmp_path / "scores" / "record.json")
    save(profiled(record), tmp_path / "profile" / "record.json")
    text = run(tmp_path / "scores", "--profile", tmp_path / "profile", "--format", "csv")
    assert text.exit_code == 0
    assert "energy_j" in text.stdout.splitlines()[0]
    assert ",80.0," in text.stdout
    page = run(
        tmp_path / "scores",
        "--profile",
        tmp_path / "profile",
        "--format",
        "html",
        "--output",
        tmp_path / "p.html",
    )
    assert page.exit_code == 0
    assert "The machine of the profile" in (tmp_path / "p.html").read_text(encoding="utf-8")
    none = run(tmp_path / "scores", "--profile", tmp_path / "scores", "--format", "csv")
    assert none.exit_code == 3
    assert "holds no profile" in none.output
    other = msgspec.structs.replace(
        profiled(record),
        entries=tuple(
            msgspec.structs.replace(
                entry,
                members=tuple(
                    msgspec.structs.replace(
                        each, operations=dataclasses.replace(each.operations, parameters=1)
                    )
                    for each in entry.members
                ),
            )
            for entry in record.entries
        ),
    )
    save(other, tmp_path / "other" / "record.json")
    refused = run(tmp_path / "scores", "--profile", tmp_path / "other", "--format", "csv")
    assert refused.exit_code == 3
    assert "is of other networks" in refused.output
    assert run(tmp_path / "scores", tmp_path / "profile", "--profile", tmp_path / "other").exit_code == 2
