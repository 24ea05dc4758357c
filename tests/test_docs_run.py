"""The documentation to the letter: every command block runs, in order, and the site builds without a warning."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner

import cli
import zoo
from zoo import registry

ROOT = Path(__file__).parents[1]
PAGES = ("index.md", "add.md", "reproduce.md", "own-ci.md")
NOT_RUN = "<!-- not run"


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page, without those that say they are not run."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"(?:(<!-- not run[^>]*-->)\n)?```{language}\n(.*?)```", text, re.DOTALL)
    return [code for marker, code in found if not marker]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, draw, made_up: Path) -> Path:
    """What the pages say a reader has: photographs, a trained file, an exported file and scores."""
    names = [f"ISIC_{number:07d}" for number in range(6)]
    for number, name in enumerate(names):
        draw(tmp_path / "photos" / f"{name}.jpg", number)
    table = pd.DataFrame({"isic_id": names, "diagnosis": ["melanoma", "nevus"] * 3})
    table.to_csv(tmp_path / "photos" / "labels.csv", index=False)
    network = zoo.build("timm:test_resnet,classes=4,melanoma=2", seed=1)
    torch.save(network.state_dict(), tmp_path / "my.pth")
    (tmp_path / "weights").mkdir()
    torch.save(network.state_dict(), tmp_path / "weights" / "test_resnet.pth")
    pd.DataFrame({"image_name": names, "target": np.linspace(0.1, 0.9, 6)}).to_csv(
        tmp_path / "mine.csv", index=False
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    registry._folders.clear()


def export(folder: Path) -> None:
    network = torch.nn.Sequential(torch.nn.AvgPool2d(16), torch.nn.Flatten(), torch.nn.Linear(12, 4)).eval()
    torch.export.save(torch.export.export(network, (torch.zeros(1, 3, 32, 32),)), folder / "exported.pt2")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_runs(folder: Path, page: str, made_up: Path) -> None:
    if page == "add.md":
        export(folder)
        (folder / "labels.csv").write_bytes((folder / "photos" / "labels.csv").read_bytes())
    elif page == "reproduce.md":
        (folder / "predictions").symlink_to(made_up / "predictions")
        (folder / "labels.csv").symlink_to(made_up / "labels.csv")
    else:
        (folder / "labels.csv").write_bytes((folder / "photos" / "labels.csv").read_bytes())
    ran = 0
    for block in blocks(page, "sh"):
        for line in block.strip().splitlines():
            words = shlex.split(line)
            if words[0] == "pip":
                continue
            assert words[0] == "melanoma-zoo", line
            if words[1] == "gate":  # What an earlier run made.
                shutil.copytree(folder / "new", folder / "old")
            target = None
            if ">" in words:
                words, target = words[: words.index(">")], folder / words[-1]
            registry._folders.clear()
            result = CliRunner().invoke(cli.main, words[1:])
            assert result.exit_code == 0, f"{line}\n{result.output}"
            if target:
                target.write_text(result.stdout, encoding="utf-8")
            ran += 1
    assert ran


def test_every_python_block_runs() -> None:
    found = [block for page in (ROOT / "docs").glob("*.md") for block in blocks(page.name, "python")]
    assert found
    for block in found:
        if page_needs_files(block):
            continue
        subprocess.run([sys.executable, "-c", block], check=True, cwd=ROOT)


def page_needs_files(block: str) -> bool:
    """Blocks of other pages that read a user's files are run by the tests of those pages."""
    return 'zoo.build("timm:' not in block


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    run = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    cards = (tmp_path / "site" / "cards" / "index.html").read_text(encoding="utf-8")
    assert all(
        f"<code>{name}</code>" in cards for name in ("keep_shape", "network", "melanoma", "trained_on")
    )
    commands = (tmp_path / "site" / "commands" / "index.html").read_text(encoding="utf-8")
    assert all(f"--{name}" in commands for name in ("zoo", "manifest", "backbone"))


def test_the_workflow_of_the_docs_is_that_of_the_example() -> None:
    (shown,) = blocks("own-ci.md", "yaml")
    file = ROOT / "examples" / "package" / ".github" / "workflows" / "ci.yml"
    text = file.read_text(encoding="utf-8")
    assert shown == text[text.index("jobs:") :]


def test_the_options_of_references_are_all_told() -> None:
    from zoo.references import OPTIONS, SCHEMES

    text = (ROOT / "docs" / "add.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in OPTIONS)
    assert all(f"{scheme}:" in text for scheme in SCHEMES)


def test_every_check_is_told(tmp_path: Path) -> None:
    from reports.check import check

    text = (ROOT / "docs" / "add.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([a-z0-9 ,]+) \|", text[text.index("## What `check`") :], re.MULTILINE)
    told = {name.strip() for row in rows for name in row.split(",")}
    assert {each.name for each in check(zoo.card("timm:test_resnet"))} <= told


_SHELLS = {
    "bash": """
eval "$(_MELANOMA_ZOO_COMPLETE=bash_source melanoma-zoo)"
COMP_WORDS=(melanoma-zoo show s2) COMP_CWORD=2
_melanoma_zoo_completion melanoma-zoo
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "fish": """
_MELANOMA_ZOO_COMPLETE=fish_source melanoma-zoo | source
complete --do-complete 'melanoma-zoo show s2'
""",
    # What completion would show is printed: a line editor is needed for the rest.
    "zsh": """
autoload -Uz compinit && compinit -u -D
eval "$(_MELANOMA_ZOO_COMPLETE=zsh_source melanoma-zoo)"
_describe() { print -rl -- ${(P)@[-1]} ${(P)@[-2]}; }
compadd() { print -rl -- "$@"; }
words=(melanoma-zoo show s2) CURRENT=3
_melanoma_zoo_completion
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("shell", _SHELLS)
def test_a_real_shell_completes_systems(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed here")
    command = tmp_path / "melanoma-zoo"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT / "cli.py"} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    quiet = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    found = subprocess.run([program, *quiet, "-c", _SHELLS[shell]], capture_output=True, text=True, env=env, cwd=tmp_path)  # fmt: skip
    assert {"s2_cbam_b3", "s2_mlp_b3"} <= set(re.split(r"[\s:,]+", found.stdout)), found.stdout + found.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_systems(shell: str, tmp_path: Path) -> None:
    script = CliRunner().invoke(cli.main, [], prog_name="melanoma-zoo", env={"_MELANOMA_ZOO_COMPLETE": f"{shell}_source"})  # fmt: skip
    assert script.exit_code == 0
    assert "_MELANOMA_ZOO_COMPLETE" in script.output
    words = {"COMP_WORDS": "melanoma-zoo show s2", "COMP_CWORD": "s2" if shell == "fish" else "2"}
    found = CliRunner().invoke(cli.main, [], prog_name="melanoma-zoo", env={"_MELANOMA_ZOO_COMPLETE": f"{shell}_complete", **words})  # fmt: skip
    assert {"s2_cbam_b3", "s2_mlp_b3"} <= set(re.split(r"[\s,]+", found.output))
