"""The action, the workflows and the examples: valid, and their commands do what they say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from reports.comment import MARKER

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "tests" / "example"
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-actions", [ROOT / "action.yml"]),
        ("gitlab-ci", [ROOT / "docs" / "gitlab-ci.example.yml"]),
    ],
)
def test_they_are_valid(schema: str, files: list[Path]) -> None:
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema, which has the schemas in it")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *files],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert files


def test_all_supported_pythons_are_tested() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8"))
    assert workflow["jobs"]["tests"]["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]


def test_no_expression_stands_inside_a_script() -> None:
    """What a pull request controls reaches a shell through the environment only."""
    steps = list(ACTION["runs"]["steps"])
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values():
            steps += job["steps"]
    assert not [step for step in steps if "${{" in step.get("run", "")]


def test_the_report_job_uses_inputs_of_the_action() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "report.yml").read_text(encoding="utf-8"))
    step = workflow["jobs"]["report"]["steps"][-1]
    assert step["uses"] == "./"
    required = {name for name, each in ACTION["inputs"].items() if each.get("required")}
    assert required <= set(step["with"]) <= set(ACTION["inputs"])
    for name in ("predictions", "labels"):
        assert (ROOT / step["with"][name]).exists()


def test_the_hook_names_a_command() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert {"id", "name", "entry", "language"} <= set(hook)
    words = hook["entry"].split()
    assert words[0] == "melanoma-zoo"
    import cli

    assert words[1] in cli.main.commands


class Runner:
    """Runs the steps of the action in a clone, as a runner would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "clone"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self.summary, self.output = folder / "summary.md", folder / "output"
        programs = folder / "bin"
        programs.mkdir()
        (programs / "melanoma-zoo").write_text(
            f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "cli.py"}" "$@"\n'
        )
        (programs / "melanoma-zoo").chmod(0o755)
        self.environment = {
            **os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "RUNNER_TEMP": str(self.temporary), "PYTHONPATH": str(ROOT),
            "GITHUB_STEP_SUMMARY": str(self.summary), "GITHUB_OUTPUT": str(self.output), "GITHUB_ACTION_PATH": str(ROOT),
        }  # fmt: skip

    def step(self, name: str, inputs: dict[str, str], **others: str) -> subprocess.CompletedProcess[str]:
        step = next(each for each in ACTION["runs"]["steps"] if each.get("name") == name)
        given = {key: str(each.get("default", "")) for key, each in ACTION["inputs"].items()} | inputs
        values = {
            key: others[key] if key in others else given[text.removeprefix("${{ inputs.").removesuffix(" }}")]
            for key, text in step.get("env", {}).items()
        }  # fmt: skip
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.clone, env={**self.environment, **values}, capture_output=True, text=True,
        )  # fmt: skip


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.slow
def test_a_pull_request_that_makes_scores_worse(tmp_path: Path) -> None:
    """The base branch has the example; the pull request spoils one file."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    base = tmp_path / "base"
    shutil.copytree(EXAMPLE, base)
    git(base, "init", "--quiet", "--initial-branch=main")
    git(base, "add", ".")
    git(base, "commit", "--quiet", "-m", "base")
    runner = Runner(tmp_path)
    git(tmp_path, "clone", "--quiet", str(base), "clone")
    file = runner.clone / "predictions" / "SGE-B3.csv"
    table = pd.read_csv(file)
    hit = (table["y_true"] == 1) & (table.index % 8 == 0)
    table.assign(target=table["target"].mask(hit, 0.001)).to_csv(file, index=False)
    inputs = {
        "predictions": "predictions", "labels": "labels.csv", "systems": "sge_b3 s2_mlp_b3", "base": "main", "output": "out",
    }  # fmt: skip
    for name in ("Score", "Score the base branch", "Report"):
        done = runner.step(name, inputs)
        assert done.returncode == 0, (name, done.stdout, done.stderr)
    assert (runner.clone / "out" / "page.html").stat().st_size > 4_000_000
    comment = (runner.clone / "out" / "comment.md").read_text(encoding="utf-8")
    assert "**Gate: ❌ regression**" in comment
    assert "| SGE-B3" in comment.partition("What changed")[2]
    assert runner.summary.read_text(encoding="utf-8") == comment
    gated = runner.step("Gate", inputs)
    assert gated.returncode == 1
    assert "::error title=melanoma-zoo gate::regression: SGE-B3: ROC-AUC" in gated.stdout
    assert runner.output.read_text(encoding="utf-8") == "verdict=regression\n"


GH = """#!/bin/sh
printf '%s\\n' "$*" >> "$GH_LOG"
case "$*" in *--paginate*) cat "$GH_COMMENTS" ;; esac
"""
"""Stands in for GitHub's program: it notes its words, and answers a question for comments from a file."""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("", "--method POST repos/a/b/issues/7/comments"),
        ("31\n42\n", "--method PATCH repos/a/b/issues/comments/42"),
    ],
)
def test_the_comment_replaces_its_own_and_no_other(tmp_path: Path, own: str, said: str) -> None:
    runner = Runner(tmp_path)
    (runner.clone / "out").mkdir(parents=True)
    (runner.clone / "out" / "comment.md").write_text(f"{MARKER}\ntext\n", encoding="utf-8")
    program = tmp_path / "bin" / "gh"
    program.write_text(GH)
    program.chmod(0o755)
    (tmp_path / "comments").write_text(own)
    runner.environment |= {
        "GH_LOG": str(tmp_path / "log"), "GH_COMMENTS": str(tmp_path / "comments"), "GITHUB_REPOSITORY": "a/b",
    }  # fmt: skip
    done = runner.step("Comment", {"output": "out"}, PULL_REQUEST="7", GH_TOKEN="")
    assert done.returncode == 0, done.stderr
    asked, written = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert 'select(.user.type == "Bot" and (.body | startswith(env.MARKER)))' in asked
    assert said in written
    assert written.endswith("--field body=@out/comment.md")


def test_without_a_base_there_is_nothing_to_judge(tmp_path: Path) -> None:
    runner = Runner(tmp_path)
    runner.clone.mkdir()
    assert runner.step("Score the base branch", {"base": ""}).returncode == 0
    assert runner.step("Gate", {"base": ""}).returncode == 0
    assert runner.output.read_text(encoding="utf-8") == "verdict=none\n"
