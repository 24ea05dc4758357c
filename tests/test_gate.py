"""The gate: it catches what was made worse, lets noise pass, and says what it cannot judge."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner, Result

import cli
import zoo
from benchmarks.results import Latency, Profile, Row
from evaluate.clinical import Request
from evaluate.development import read_development
from evaluate.paired import MIXED
from reports.comment import comment
from reports.comparison import compare
from reports.gate.judge import Outcome, judge
from reports.gate.pairs import Files
from reports.gate.rules import Rule, read_rules
from reports.gate.show import lines, table, workflow_commands
from reports.inputs import read_inputs
from reports.record import MemberCost, Record, Settings, save

SETTINGS = Settings(rule="networks", protocol="clinical", resamples=400, seed=0, latency="off", device="auto")
AUC = Rule(metric="roc_auc", direction="higher", significant=True)
SPECIFICITY = Rule(metric="specificity", direction="higher", significant=True, systems="sge_b3")
SYSTEMS = ("sge_b3", "s2_mlp_b3")
FILES = {"sge_b3": "SGE-B3.csv", "s2_mlp_b3": "S2-MLP-B3.csv"}


def scored(folder: Path) -> Record:
    inputs = read_inputs([folder / "predictions"], folder / "labels.csv")
    return compare([zoo.card(name) for name in SYSTEMS], SETTINGS, inputs)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, made_up: Path) -> tuple[Record, Path]:
    """A record of two systems, and the folder of what it was made from."""
    folder = tmp_path_factory.mktemp("old")
    (folder / "predictions").mkdir()
    shutil.copy(made_up / "labels.csv", folder)
    for name in FILES.values():
        shutil.copy(made_up / "predictions" / name, folder / "predictions")
    return scored(folder), folder


Change = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture
def changed(old: tuple[Record, Path], tmp_path: Path) -> Callable[[Change], tuple[Record, Path]]:
    """Makes the record anew after the scores of one system were changed."""

    def make(change: Change) -> tuple[Record, Path]:
        folder = tmp_path / "new"
        shutil.copytree(old[1], folder)
        file = folder / "predictions" / FILES["sge_b3"]
        change(pd.read_csv(file)).to_csv(file, index=False)
        return scored(folder), folder

    return make


def noise(size: float) -> Change:
    """Moves every score a little, at random."""

    def change(table: pd.DataFrame) -> pd.DataFrame:
        moved = table["target"] + np.random.default_rng(3).normal(0, size, len(table))
        return table.assign(target=moved.clip(0, 1))

    return change


def worse(table: pd.DataFrame) -> pd.DataFrame:
    """Half of the melanomas lose their high scores."""
    hit = (table["y_true"] == 1) & (np.arange(len(table)) % 8 == 0)
    return table.assign(target=table["target"].mask(hit, 0.01))


def verdicts(outcome: Outcome) -> dict[tuple[str, str], str]:
    return {(each.system, each.what): each.verdict for each in outcome.judged}


def test_the_same_record_passes(old: tuple[Record, Path]) -> None:
    outcome = judge(old[0], old[0], read_rules())
    assert outcome.exit_code == 0
    assert lines(outcome) == []
    assert {each.difference for each in outcome.judged} == {0.0}


def test_a_planted_regression_is_caught(old: tuple[Record, Path], changed: Any) -> None:
    new, _ = changed(worse)
    outcome = judge(new, old[0], [AUC])
    assert outcome.exit_code == 1
    assert verdicts(outcome) == {("SGE-B3", "ROC-AUC"): "regression", ("S2-MLP-B3", "ROC-AUC"): "pass"}
    (line,) = lines(outcome)
    assert line.startswith("regression: SGE-B3: ROC-AUC 0.")
    assert "the paired test finds it" in line
    found = outcome.judged[0]
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.difference < found.high < 0  # type: ignore[operator]


def test_noise_is_not_caught(old: tuple[Record, Path], changed: Any) -> None:
    new, _ = changed(noise(0.02))
    assert new.scored("sge_b3", "clinical") != old[0].scored("sge_b3", "clinical")
    assert judge(new, old[0], read_rules()).exit_code == 0


def test_a_change_of_protocol_hides_nothing(old: tuple[Record, Path], changed: Any) -> None:
    new, _ = changed(worse)
    other = msgspec.structs.replace(
        new,
        scores=tuple(msgspec.structs.replace(each, protocol="paper") for each in new.scores),
        settings=msgspec.structs.replace(new.settings, protocol="paper"),
    )
    outcome = judge(other, old[0], [AUC, Rule(metric="macs_pass", direction="lower")])
    assert outcome.exit_code == 2
    assert lines(outcome) == ["not judged: ROC-AUC: scored under other protocols: clinical before, paper now"]
    both = msgspec.structs.replace(other, scores=(*other.scores, *new.scores))
    assert judge(both, old[0], [AUC]).exit_code == 1
    # A figure that only one protocol has is that protocol's.
    weighted = Rule(metric="f1_weighted", direction="higher")
    assert judge(new, old[0], [weighted]).exit_code == 2
    paper = compare(
        [zoo.card(name) for name in SYSTEMS],
        msgspec.structs.replace(SETTINGS, protocol="paper"),
        read_inputs([old[1] / "predictions"], old[1] / "labels.csv"),
    )
    twice = msgspec.structs.replace(old[0], scores=(*old[0].scores, *paper.scores))
    assert judge(twice, twice, [weighted]).exit_code == 0


def test_a_rule_that_compares_nothing_is_not_met(old: tuple[Record, Path]) -> None:
    time = Rule(metric="latency_ms", direction="lower", relative=0.1)
    size = Rule(metric="parameters_networks", direction="lower")
    outcome = judge(old[0], old[0], [size, time])
    assert outcome.exit_code == 2
    assert lines(outcome) == ["not judged: latency of one fold: neither record has such a figure"]
    first = judge(timed(old[0], 100, 0.05), old[0], [size, time])
    assert first.exit_code == 0
    assert first.judged[-1].reason == "new: the old record has no such figure"


def test_what_is_better_passes(old: tuple[Record, Path], changed: Any) -> None:
    new, _ = changed(worse)
    assert judge(old[0], new, [AUC]).exit_code == 0


def locked(folder: Path, at: float) -> Record:
    """The record of a folder at thresholds that development predictions lock at this score."""
    development = folder / "development"
    development.mkdir(exist_ok=True)
    table = pd.DataFrame({"image_name": ["DEV_a", "DEV_b"], "target": [at, 0.0], "y_true": [1, 0]})
    for name in FILES.values():
        table.to_csv(development / name, index=False)
    request = Request(development=read_development([development]))
    inputs = read_inputs([folder / "predictions"], folder / "labels.csv")
    return compare([zoo.card(name) for name in SYSTEMS], SETTINGS, inputs, request=request)


@pytest.fixture
def before(old: tuple[Record, Path], tmp_path: Path) -> tuple[Record, Path]:
    """The old record with thresholds locked at 0.5, and its folder."""
    folder = tmp_path / "before"
    shutil.copytree(old[1], folder)
    return locked(folder, 0.5), folder


def test_a_locked_threshold_stays_in_the_paired_test(before: tuple[Record, Path], changed: Any) -> None:
    """Scores that moved all alike keep their ranking, and lose specificity at a threshold that was locked."""
    _, folder = changed(lambda table: table.assign(target=table["target"] ** 0.5))
    outcome = judge(locked(folder, 0.5), before[0], [SPECIFICITY])
    assert verdicts(outcome) == {("SGE-B3", "Specificity"): "regression"}
    (found,) = outcome.judged
    assert found.low < found.difference < found.high < 0  # type: ignore[operator]


def test_the_same_predictions_at_another_locked_threshold_are_tested(before: tuple[Record, Path]) -> None:
    outcome = judge(locked(before[1], 0.25), before[0], [SPECIFICITY])
    assert verdicts(outcome) == {("SGE-B3", "Specificity"): "regression"}


def test_few_lesions_at_a_locked_threshold_are_left_to_mcnemar(
    before: tuple[Record, Path], changed: Any
) -> None:
    """Five lesions on one side are too few for McNemar's test; resamples would take them for proof."""

    def five_called(table: pd.DataFrame) -> pd.DataFrame:
        passed = table.index[(table["y_true"] == 0) & (table["target"] < 0.5)]
        return table.assign(target=table["target"].mask(table.index.isin(passed[:5]), 0.6))

    _, folder = changed(five_called)
    outcome = judge(locked(folder, 0.5), before[0], [SPECIFICITY])
    assert verdicts(outcome) == {("SGE-B3", "Specificity"): "pass"}
    assert "does not tell from chance" in outcome.judged[0].reason


@pytest.mark.parametrize("turned", [False, True])
def test_a_locked_threshold_is_not_compared_with_one_that_the_test_set_chose(
    before: tuple[Record, Path], old: tuple[Record, Path], turned: bool
) -> None:
    pair = (old[0], before[0]) if turned else (before[0], old[0])
    loose = msgspec.structs.replace(SPECIFICITY, significant=False, absolute=1.0)
    outcome = judge(*pair, [SPECIFICITY, loose, AUC])
    assert outcome.exit_code == 2
    assert len(lines(outcome)) == 2
    assert all(MIXED in line for line in lines(outcome))


def test_without_the_predictions_a_loss_cannot_be_judged(
    old: tuple[Record, Path], changed: Any, tmp_path: Path
) -> None:
    new, folder = changed(worse)
    kept = tmp_path / "elsewhere"
    shutil.move(folder, kept)
    outcome = judge(new, old[0], [AUC])
    assert outcome.exit_code == 2
    assert "is not at hand" in lines(outcome)[0]
    # Found again by their checksums, wherever they are and whatever they are called.
    (kept / "predictions" / FILES["sge_b3"]).rename(kept / "renamed.csv")
    assert judge(new, old[0], [AUC], Files([kept])).exit_code == 1


def test_predictions_that_changed_are_not_taken(old: tuple[Record, Path], changed: Any) -> None:
    new, folder = changed(worse)
    (folder / "predictions" / FILES["sge_b3"]).write_text("image_name,target\na,1\n")
    outcome = judge(new, old[0], [AUC])
    assert outcome.exit_code == 2
    assert "has changed since the record was made" in lines(outcome)[0]


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (Rule(metric="roc_auc", direction="higher", absolute=0.5), 0),
        (Rule(metric="roc_auc", direction="higher", absolute=0.001), 1),
        (Rule(metric="roc_auc", direction="higher", relative=0.001), 1),
        (Rule(metric="roc_auc", direction="higher", relative=0.9), 0),
        (Rule(metric="roc_auc", direction="lower", absolute=0.0), 0),
        (Rule(metric="roc_auc", direction="higher", systems="s2_*"), 0),
        (Rule(metric="roc_auc", direction="higher", systems="nobody"), 2),
        (Rule(metric="macs_pass", direction="lower"), 0),
    ],
)
def test_directions_tolerances_and_globs(
    old: tuple[Record, Path], changed: Any, rule: Rule, code: int
) -> None:
    new, _ = changed(worse)
    assert judge(new, old[0], [rule]).exit_code == code


def test_nothing_measured_fails(old: tuple[Record, Path]) -> None:
    empty = msgspec.structs.replace(old[0], scores=(), unscored="no predictions", lesions=None)
    outcome = judge(empty, old[0], [AUC])
    assert outcome.exit_code == 1
    assert "nothing was measured" in lines(outcome)[0]
    assert judge(empty, empty, [AUC]).exit_code == 2


def test_a_system_that_vanished_fails(old: tuple[Record, Path]) -> None:
    less = msgspec.structs.replace(old[0], entries=old[0].entries[:1])
    outcome = judge(less, old[0], [AUC])
    assert outcome.exit_code == 1
    assert lines(outcome) == [
        "regression: S2-MLP-B3: system: vanished: it is in the old record and not in the new one"
    ]
    scores = old[0].scores[0]
    mute = msgspec.structs.replace(
        old[0], scores=(msgspec.structs.replace(scores, systems=scores.systems[:1]),)
    )
    assert judge(mute, old[0], [AUC]).exit_code == 1
    assert judge(old[0], less, [AUC]).exit_code == 0


def test_a_lesion_that_vanished_fails_and_is_named(old: tuple[Record, Path], tmp_path: Path) -> None:
    folder = tmp_path / "less"
    shutil.copytree(old[1], folder)
    for file in (folder / "labels.csv", *(folder / "predictions").iterdir()):
        rows = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(rows[:-1]))
    outcome = judge(scored(folder), old[0], [AUC])
    assert outcome.exit_code == 1
    assert "1 lesion vanished, such as ISIC_0000079" in lines(outcome)[0]


def test_other_test_sets_cannot_be_judged(old: tuple[Record, Path]) -> None:
    scores = msgspec.structs.replace(old[0].scores[0], labels_sha256="0" * 64, n=old[0].scores[0].n + 1)
    other = msgspec.structs.replace(old[0], scores=(scores,), lesions=None)
    outcome = judge(other, old[0], [AUC, Rule(metric="macs_pass", direction="lower")])
    assert outcome.exit_code == 2
    assert "test sets differ" in lines(outcome)[0]
    assert verdicts(outcome)["SGE-B3", "macs of one pass"] == "pass"


def timed(record: Record, median: float, spread: float, **machine: Any) -> Record:
    at = dataclasses.replace(record.machine, **machine)
    latency = Latency(
        median_ms=median, spread=spread, device="cpu", measured="2026-01-01T00:00:00Z", machine=at
    )
    entries = tuple(
        msgspec.structs.replace(
            entry,
            members=tuple(
                MemberCost(name=member.name, operations=member.operations, latency=latency) for member in entry.members
            ),
        )
        for entry in record.entries
    )  # fmt: skip
    return msgspec.structs.replace(
        record, entries=entries, settings=msgspec.structs.replace(record.settings, latency="quick")
    )


def test_times_hold_on_one_machine_only_and_not_below_the_noise(old: tuple[Record, Path]) -> None:
    rule = Rule(metric="latency_ms", direction="lower", relative=0.1)
    before = timed(old[0], 100, 0.05)
    assert judge(timed(old[0], 105, 0.05), before, [rule]).exit_code == 0
    demanding = msgspec.structs.replace(rule, one_round=True)
    assert judge(timed(old[0], 120, 0.05), before, [demanding]).exit_code == 1
    elsewhere = judge(timed(old[0], 105, 0.05, cpu="another"), before, [rule])
    assert elsewhere.exit_code == 2
    assert "measured on different machines (cpu: " in lines(elsewhere)[0]
    noisy = judge(timed(old[0], 120, 0.2), before, [rule])
    assert noisy.exit_code == 2
    assert "tolerance of 10.0% is tighter than the measured noise of 20.0%" in lines(noisy)[0]
    assert judge(old[0], before, [rule]).exit_code == 1  # It has no figure any more.


def profiled(record: Record, ms: float, rounds: int) -> Record:
    """A record with a profile of all of its networks."""
    rows = tuple(
        Row(
            system=entry.card.name, title=entry.card.title, network=member.name, scenario="latency", device="cpu",
            precision="fp32", memory_format="contiguous", threads=1, compiled=False, ms=ms, rounds=rounds, spread=0.05,
        )
        for entry in record.entries
        for member in entry.members
    )  # fmt: skip
    profile = Profile(
        rows=rows, ceilings=(), machine=record.machine, seed=0, rounds=rounds, quick=rounds == 1
    )
    return msgspec.structs.replace(record, profile=profile)


UNKNOWN = "the noise between processes was not measured (one round)"


@pytest.mark.parametrize(
    "make", [lambda record, ms: timed(record, ms, 0.05), lambda r, ms: profiled(r, ms, 1)]
)
def test_a_time_of_one_process_warns_and_does_not_fail(old: tuple[Record, Path], make: Any) -> None:
    rule = Rule(metric="latency_ms", direction="lower", relative=0.1)
    before = make(old[0], 100)
    outcome = judge(make(old[0], 120), before, [rule])
    assert (outcome.verdict, outcome.exit_code) == ("warning", 0)
    assert lines(outcome)[0].startswith("warning: ")
    assert lines(outcome)[0].endswith(f"; {UNKNOWN}")
    assert all(each.startswith("::warning title=") for each in workflow_commands(outcome))
    assert "Gate passed with warnings" in table(outcome).title
    assert "passed with warnings" in comment(old[0], outcome=outcome)
    within = judge(make(old[0], 105), before, [rule])
    assert within.verdict == "pass"
    assert all(each.reason.endswith(f"; {UNKNOWN}") for each in within.judged)
    assert judge(make(old[0], 120), before, [msgspec.structs.replace(rule, one_round=True)]).exit_code == 1


def test_a_time_of_several_processes_fails_the_gate(old: tuple[Record, Path]) -> None:
    rule = Rule(metric="latency_ms", direction="lower", relative=0.1)
    outcome = judge(profiled(old[0], 120, 3), profiled(old[0], 100, 3), [rule])
    assert outcome.exit_code == 1
    assert not any(UNKNOWN in each.reason for each in outcome.judged)
    assert judge(profiled(old[0], 120, 1), profiled(old[0], 100, 1), [rule]).exit_code == 0
    size = Rule(metric="parameters_networks", direction="lower")
    assert UNKNOWN not in judge(profiled(old[0], 120, 1), profiled(old[0], 100, 1), [size]).judged[0].reason


def test_annotations_keep_to_one_line(old: tuple[Record, Path]) -> None:
    less = msgspec.structs.replace(old[0], entries=old[0].entries[:1])
    hostile = msgspec.structs.replace(old[0], entries=tuple(
        msgspec.structs.replace(entry, card=msgspec.structs.replace(entry.card, title="a%\n::error::b")) for entry in old[0].entries
    ))  # fmt: skip
    (line,) = workflow_commands(
        judge(less, hostile, [Rule(metric="macs_pass", direction="lower", systems="sge*")])
    )
    assert line.startswith("::error title=melanoma-zoo gate::regression: a%25 ::error::b: system: vanished")
    assert "\n" not in line


def run(*words: str | Path, **environment: str) -> Result:
    return CliRunner().invoke(cli.main, ["gate", *map(str, words)], env=environment)


def test_the_command(old: tuple[Record, Path], changed: Any, tmp_path: Path) -> None:
    new, folder = changed(worse)
    save(old[0], old[1] / "record.json")
    save(new, folder / "record.json")
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nmetric = "roc_auc"\ndirection = "higher"\nsignificant = true\n')
    assert run(old[1], old[1], "--rules", rules).exit_code == 0
    failed = run(folder, old[1] / "record.json", "--rules", rules)
    assert failed.exit_code == 1
    assert failed.stderr.startswith("regression: SGE-B3: ROC-AUC")
    assert failed.stderr.count("\n") == 1
    narrow = run(folder, old[1], "--rules", rules, COLUMNS="80").stdout.splitlines()
    assert max(map(len, narrow)) <= 80
    assert [line.split()[-1] for line in narrow if line.startswith((" SGE-B3", " S2-MLP-B3"))] == [
        "regression",
        "pass",
    ]
    assert "Gate failed: regression" in narrow
    summary = tmp_path / "summary.md"
    github = run(folder, old[1], "--rules", rules, "--format", "github", GITHUB_STEP_SUMMARY=str(summary))
    assert github.exit_code == 1
    assert github.stdout.startswith("::error title=melanoma-zoo gate::regression: SGE-B3")
    assert "### Gate failed: regression" in summary.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        (
            '[[rule]]\nmetric = "roc_auk"\ndirection = "higher"\n',
            3,
            "rules: no figure is called 'roc_auk'; did you mean roc_auc",
        ),
        ('[[rule]]\nmetric = "roc_auc"\n', 3, "direction"),
        ('[[rule]]\nmetric = "roc_auc"\ndirection = "higher"\ntolerance = 1\n', 3, "tolerance"),
        ('[[rule]]\nmetric = "roc_auc"\ndirection = "higher"\nabsolute = 1\nrelative = 1\n', 3, "not both"),
        ('[[rule]]\nmetric = "roc_auc"\ndirection = "higher"\nabsolute = -1\n', 3, "absolute"),
        ("rule = []\n", 3, "rule"),
        ("[[", 3, "rules look like"),
    ],
)
def test_rules_that_are_none_are_refused(
    old: tuple[Record, Path], tmp_path: Path, text: str, code: int, said: str
) -> None:
    save(old[0], tmp_path / "record.json")
    (tmp_path / "rules.toml").write_text(text)
    refused = run(tmp_path, tmp_path, "--rules", tmp_path / "rules.toml")
    assert refused.exit_code == code, refused.output
    assert said in refused.output
    assert "Traceback" not in refused.output


def test_the_published_scores_gate_a_worsened_copy(proveai: Path, tmp_path: Path) -> None:
    """As a user does it: score, make one file worse, score again, gate."""
    shutil.copytree(proveai / "predictions", tmp_path / "predictions")
    program = Path(sys.executable).with_name("melanoma-zoo")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}
    common = ("sge_b3", "--no-latency", "--labels", proveai / "test.csv", "--predictions")
    subprocess.run([program, "compare", *common, proveai / "predictions", "--output", tmp_path / "old"], check=True, capture_output=True, env=environment)  # fmt: skip
    file = tmp_path / "predictions" / "SGE-B3.csv"
    table = pd.read_csv(file)
    table.assign(target=table["target"].where(table["y_true"] == 0, table["target"] * 0.7)).to_csv(
        file, index=False
    )
    subprocess.run([program, "compare", *common, tmp_path / "predictions", "--output", tmp_path / "new"], check=True, capture_output=True, env=environment)  # fmt: skip
    done = subprocess.run(
        [program, "gate", tmp_path / "new", tmp_path / "old"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[0].startswith("regression: SGE-B3: ROC-AUC 0.815 → 0.")
