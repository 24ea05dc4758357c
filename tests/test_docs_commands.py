"""The command lines of the other pages run too, in the order of their page, on small files under the names that they use."""

from __future__ import annotations

import re
import shlex
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import cli
import weights
import zoo

ROOT = Path(__file__).parents[1]
PAGES = ("ci", "data", "engines", "methods", "predict", "reports", "scaling", "test-sets", "weights")
ELSEWHERE = {
    "--base-url": "a server is needed: tests/test_fetch.py",
    "--output carried": "a server is needed: tests/test_fetch.py",
    "--address": "a cluster is needed: tests/test_ray.py",
    "--slurm": "Slurm is needed: tests/test_launchers.py",
    "--compile": "compiling takes minutes: tests/test_engines.py",
}
"""Lines that are not run here, by a part of them, and why."""

MEANT = {
    "--test-set": {"DIR": "few"},
    "--weights": {"DIR": "trained"},
    "--predictions": {"DIR": "predictions"},
    "--labels": {"TABLE": "test.csv"},
    "--train-table": {"TRAIN": "train.csv"},
    "convert": {"second_place": "sge_b3"},
    "second_place": {"DIR": "trained"},
    "verify": {"DIR": "trained"},
    "audit": {"DIR": "predictions"},
    "predict": {"first_place": "sge_b3"},
    "--reference": {"first_place": "third_place"},
}
"""What a word stands for after another. Winners are large: smaller systems stand in for them."""

LESS = {
    "predict": ["--folds", "0", "--limit", "1"],
    "profile": ["--quick", "--threads", "1", "--batch-size", "1"],
}
"""What is added, so that it takes seconds."""


def command_lines(page: str) -> list[list[str]]:
    """The words of each line of a page that begins with the program's name."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"^ {4}melanoma-zoo ([^\n]+)$", text, re.MULTILINE)
    return [shlex.split(line) for line in found if not any(part in line for part in ELSEWHERE)]


def runnable(line: list[str]) -> list[str]:
    """A line with the files of these tests."""
    words = [line[0]]
    for before, word in pairwise(line):
        words.append(MEANT.get(before, {}).get(word, word))
    if words[0] == "compare":
        whole = "--test-set" in words
        words += ["sge_b3", *([] if whole else ["third_place"]), "--no-latency"]
        words += ["--limit", "2", "--views", "1"] if whole else []
    return [*words, *LESS.get(words[0], [])]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five folds of SGE-B3, as its authors' files are."""
    folder = tmp_path_factory.mktemp("trained")
    network = zoo.build("sge_b3", seed=0)
    keys = weights.official_keys(network, "attention")
    state = {name: network.state_dict()[ours] for name, ours in keys.items()}
    torch.save(state, folder / "fold.pth")
    for fold in range(5):
        (folder / f"{zoo.card('sge_b3').members[0].name}_best_fold{fold}.pth").hardlink_to(
            folder / "fold.pth"
        )
    (folder / "fold.pth").unlink()
    return folder


@pytest.fixture
def folder(tmp_path: Path, made_up: Path, trained: Path, draw, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that has what the pages name."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "trained", copy_function=lambda a, b: Path(b).hardlink_to(a))
    (tmp_path / "mine.pth").hardlink_to(next((tmp_path / "trained").iterdir()))
    shutil.copytree(made_up / "predictions", tmp_path / "predictions")
    scores = sorted((tmp_path / "predictions").iterdir())
    (tmp_path / "development").mkdir()
    for name, source in zip(("mine", "yours"), scores, strict=False):
        shutil.copy(source, tmp_path / f"{name}.csv")
        developed = pd.read_csv(source)
        developed["image_name"] = developed["image_name"].str.replace("ISIC", "DEV")
        developed.to_csv(tmp_path / "development" / f"{name}.csv", index=False)
    (tmp_path / "other_runs").mkdir()
    shutil.copy(tmp_path / "predictions" / "SGE-B3.csv", tmp_path / "other_runs" / "final-SA6.csv")
    labels = pd.read_csv(made_up / "labels.csv")
    labels["sex"] = np.where(np.arange(len(labels)) % 2, "male", "female")
    labels.to_csv(tmp_path / "test.csv", index=False)
    labels.iloc[:5].to_csv(tmp_path / "train.csv", index=False)
    melanoma = labels["diagnosis"] == "melanoma"
    clinic = pd.DataFrame({"file": labels["isic_id"], "histology_melanoma": melanoma.astype(int)})
    clinic["isic_id"] = clinic["file"]
    clinic["diagnosis"] = np.where(melanoma, "melanoma, uncertain primary", "trichoepithelioma")
    clinic.to_csv(tmp_path / "clinic.csv", index=False)
    text = (ROOT / "docs" / "test-sets.md").read_text(encoding="utf-8")
    own = re.findall(r"^ {4}((?:not_)?melanoma = .+)$", text, re.MULTILINE)
    (tmp_path / "own.toml").write_text("\n".join(own) + "\n", encoding="utf-8")
    for name in labels["isic_id"]:
        draw(tmp_path / "photos" / f"{name}.jpg")
    draw(tmp_path / "training" / "other.jpg")
    for name in labels["isic_id"][:2]:
        draw(tmp_path / "few" / f"{name}.jpg")
    labels.iloc[:2].to_csv(tmp_path / "few" / "labels.csv", index=False)
    (tmp_path / "time.toml").write_text(
        '[[rule]]\nmetric = "latency_ms"\ndirection = "lower"\nrelative = 5.0\n', encoding="utf-8"
    )
    return tmp_path


def run(words: list[str], codes: tuple[int, ...] = (0,)) -> str:
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code in codes, f"melanoma-zoo {shlex.join(words)}\n{done.output}"
    return done.output


def before(words: list[str], folder: Path) -> None:
    """What an earlier run, or the other branch, left."""
    if words[0] == "report" and not (folder / "out").exists():
        run(["compare", "sge_b3", "third_place", "--predictions", "predictions", "--labels", "test.csv", "--no-latency", "--output", "out"])  # fmt: skip
    if words[0] == "report" and not (folder / "other").exists():
        shutil.copytree(folder / "out", folder / "other")
    if words[:2] == ["gate", "out/record.json"]:
        run(["compare", "sge_b3", "third_place", "--predictions", "predictions", "--labels", "test.csv", "--no-latency", "--output", "out"])  # fmt: skip
        shutil.copytree(folder / "out", folder / "main")
    if "mine.pth" in words:
        shutil.rmtree(folder / "OUT")
    if words[:2] == ["gate", "new"]:
        shutil.copytree(folder / "new", folder / "old")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_runs(folder: Path, page: str) -> None:
    lines = command_lines(page)
    assert lines
    for line in lines:
        words = runnable(line)
        before(words, folder)
        # Trained files that are not there, and scores that were not fetched, are told by the code.
        absent = words[:2] in (["weights", "list"], ["data", "path"]) or words[0] == "data"
        run(words, (0, 3) if absent else (0,))


def test_what_is_not_run_is_run_elsewhere() -> None:
    for part, why in ELSEWHERE.items():
        file = re.search(r"tests/\w+\.py", why)
        assert file
        option = part.split()[0].strip("-").replace("-", "_")
        assert option in (ROOT / file[0]).read_text(encoding="utf-8"), f"{option} is not in {file[0]}"
