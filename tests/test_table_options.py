"""`--column` and `--diagnoses`: tables with names of one's own, in every command that reads labels."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner

import cli
from evaluate.labels import COLUMNS
from reports.record import load
from zoo.files import sha256

READERS = ("score", "audit", "compare", "reproduce")


def run(*args) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], env={"COLUMNS": "300"})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def own(made_up, tmp_path) -> Path:
    """The made-up labels with names of one's own, for columns and for diagnoses."""
    frame = pd.read_csv(made_up / "labels.csv").replace({"melanoma": "M", "nevus": "N"})
    names = {"isic_id": "file", "diagnosis": "finding", "patient_id": "who"}
    frame.rename(columns=names).assign(gender=["f", "m"] * 40).to_csv(tmp_path / "own.csv", index=False)
    (tmp_path / "own.toml").write_text('melanoma = ["m"]\nnot_melanoma = ["n"]\n')
    return tmp_path / "own.csv"


def options(own: Path) -> list[object]:
    columns = {"image": "file", "diagnosis": "finding", "patient": "who", "sex": "gender"}
    named = [word for role, name in columns.items() for word in ("--column", f"{role}={name}")]
    return ["--labels", own, *named, "--diagnoses", own.with_suffix(".toml")]


@pytest.mark.parametrize("command", READERS)
def test_every_reader_of_labels_has_the_options_and_names_all_roles(command):
    found = cli.main.get_command(click.Context(cli.main), command)
    (option,) = (each for each in found.params if "--column" in each.opts)
    assert re.split(", | or ", option.help.partition(": ")[2].partition(";")[0]) == list(COLUMNS)
    assert any("--diagnoses" in each.opts for each in found.params)


def test_scores_are_those_of_the_usual_names(made_up, own):
    folder, more = made_up / "predictions", ("--resamples", 50, "--json")
    _, usual, _ = run("score", folder, "--labels", made_up / "labels.csv", *more)
    code, found, errors = run("score", folder, *options(own), *more, "--subgroups")
    assert code == 0, errors
    assert json.loads(found)["systems"] == json.loads(usual)["systems"]
    assert [group["group"] for group in json.loads(found)["subgroups"]["groups"]] == ["f", "m"]


def test_the_record_says_how_the_table_was_read(made_up, own, tmp_path):
    code, _, errors = run(
        "compare", "sge_b3", "first_place", "--no-latency", "--predictions", made_up / "predictions", *options(own),
        "--resamples", 50, "--output", tmp_path / "out",
    )  # fmt: skip
    assert code == 0, errors
    record = load(tmp_path / "out" / "record.json")
    assert record.settings.columns == {
        "image": "file",
        "diagnosis": "finding",
        "patient": "who",
        "sex": "gender",
    }
    (diagnoses,) = (each for each in record.inputs if each.role == "diagnoses")
    assert diagnoses.sha256 == sha256(own.with_suffix(".toml"))


def test_claims_and_the_audit_read_the_same_table(made_up, own):
    predictions = made_up / "predictions"
    code, _, errors = run("audit", predictions, *options(own), "--resamples", 50)
    assert code == 0, errors
    code, _, errors = run("reproduce", "--predictions", predictions, *options(own), "--resamples", 50)
    assert code == 0, errors


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--column", "sex"], 2, "'sex' is not ROLE=NAME"),
        (["--column", "sex="], 2, "'sex=' is not ROLE=NAME"),
        (["--column", "colour=blue"], 2, "no role 'colour'; roles are image, target"),
        (["--column", "sex=a", "--column", "sex=b"], 2, "sex is 'a' and 'b'; name one column for a role"),
        (
            ["--column", "target=cancer"],
            3,
            "no column 'cancer' for the target; columns are isic_id, diagnosis",
        ),
        (["--diagnoses", "absent.toml"], 3, "absent.toml: there is no such file"),
    ],
)
def test_words_that_mean_nothing(made_up, words, code, message):
    found, _, errors = run("score", made_up / "predictions", "--labels", made_up / "labels.csv", *words)
    assert found == code
    assert message in " ".join(errors.split())


def test_a_way_to_read_a_table_needs_the_table(made_up):
    code, _, errors = run("compare", "sge_b3", "--no-latency", "--column", "sex=gender")
    assert code == 2
    assert "give the table with --labels" in errors


def test_an_unknown_diagnosis_names_the_option(made_up, own):
    labels = pd.read_csv(own).rename(columns={"file": "isic_id", "finding": "diagnosis"})
    labels.to_csv(own, index=False)
    code, _, errors = run("score", made_up / "predictions", "--labels", own)
    assert code == 3
    assert "cannot tell whether these diagnoses are melanoma: M; N; " in errors
    assert "--diagnoses FILE" in errors
