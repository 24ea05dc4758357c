"""The examples, run as their readers would: in an environment of their own, and the notebook as it stands."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

import cli
import zoo

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
PACKAGE = EXAMPLES / "package"
SHARED = ROOT.parent / "shared"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The Python of a new environment with the example installed, of each test its own: one installs another card.

    Fresh are the environment and the example, built and installed by pip; torch and all other
    requirements are those of the environment that the tests run in.
    """
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", "posix_prefix", vars=paths))
    ours = sysconfig.get_path("purelib")
    (site / "requirements.pth").write_text(
        f"import sys, site; sys.path.insert(0, {str(ROOT)!r}); site.addsitedir({ours!r})\n", encoding="utf-8"
    )
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", str(PACKAGE)]  # fmt: skip
    subprocess.run(install, check=True, cwd=folder)
    return python


def run(python: Path, *words: object, code: int = 0, cwd: Path | None = None) -> str:
    """A command of the environment, from a folder where nothing of the project lies."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run(
        [str(python), "-m", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd or python.parent,
        env=env,
    )
    assert found.returncode == code, found.stdout + found.stderr
    return found.stdout


@pytest.mark.slow
def test_the_package_is_installed_checked_run_compared_and_gated(
    environment: Path, tmp_path: Path, draw
) -> None:
    assert "spotnet" in run(environment, "cli", "list", "spot*")
    checks = json.loads(run(environment, "cli", "check", "spotnet", "--json"))["checks"]
    assert {each["name"] for each in checks if each["state"] == "pass"} >= {"card", "output", "second process", "counters", "exports"}  # fmt: skip
    run(environment, "pytest", "-q", "-p", "no:cacheprovider", PACKAGE / "tests", cwd=tmp_path)

    photos = SHARED / "data" / "isic2017"
    if photos.is_dir():
        images, labels = photos / "images", photos / "labels.csv"
    else:  # Where the real photographs are not, small ones that were drawn.
        images, labels = tmp_path / "photos", tmp_path / "photos" / "labels.csv"
        for number in range(8):
            draw(images / f"ISIC_{number:07d}.jpg", number)
        pd.DataFrame({"isic_id": [f"ISIC_{n:07d}" for n in range(8)], "diagnosis": ["melanoma", "nevus"] * 4}).to_csv(labels, index=False)  # fmt: skip
    code = "import sys, torch, zoo; torch.save(zoo.build('spotnet', seed=1).state_dict(), sys.argv[1])"
    (tmp_path / "weights").mkdir()
    subprocess.run([environment, "-c", code, tmp_path / "weights" / "spotnet.pth"], check=True, cwd=tmp_path)
    words = ("--test-set", images, "--labels", labels, "--weights", tmp_path / "weights", "--limit", 60)
    run(environment, "cli", "predict", "spotnet", *words, "--output", tmp_path / "spotnet.parquet")
    assert len(pd.read_parquet(tmp_path / "spotnet.parquet")) in (8, 60)
    run(environment, "cli", "compare", "spotnet", "timm:test_resnet", *words, "--no-latency", "--resamples", 40, "--output", tmp_path / "out")  # fmt: skip
    record = json.loads((tmp_path / "out" / "record.json").read_text(encoding="utf-8"))
    assert [each["card"]["name"] for each in record["entries"]] == ["spotnet", "timm:test_resnet"]
    if "gate" in cli.main.commands:
        run(environment, "cli", "gate", tmp_path / "out", tmp_path / "out")


def steps() -> list[str]:
    """What the example's CI runs, one script after the other."""
    text = (PACKAGE / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    return [step["run"] for step in yaml.safe_load(text)["jobs"]["test"]["steps"] if "run" in step]


def test_the_ci_file_calls_what_exists() -> None:
    lines = re.findall(r"^ *melanoma-zoo ([^|>\n]+)", "\n".join(steps()).replace("\\\n", ""), re.MULTILINE)
    assert {line.split()[0] for line in lines} == {"check", "predict", "compare", "report", "gate"}
    for line in lines:
        name, *words = shlex.split(line)
        known = {
            option for each in cli.main.commands[name].params for option in (*each.opts, *each.secondary_opts)
        }
        assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.slow
def test_the_ci_file_gates_from_its_second_run_on(environment: Path, tmp_path: Path) -> None:
    """Its own script in a repository of its own: a first commit, and one that makes the network larger."""
    tools = tmp_path / "tools"
    tools.mkdir()
    install = f"{sys.executable} -m pip --python {environment} install --no-deps --no-build-isolation --disable-pip-version-check"
    for name, does in {"pip": f'shift; exec {install} "$@"', "melanoma-zoo": f'exec {environment} -P -m cli "$@"'}.items():  # fmt: skip
        (tools / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    repository = tmp_path / "repository"
    shutil.copytree(PACKAGE, repository, ignore=shutil.ignore_patterns("__pycache__", "build", "dist"))
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b.c"}  # fmt: skip
    env = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "GITHUB_STEP_SUMMARY")
    }
    env |= own | {"PATH": f"{tools}:{env['PATH']}", "COLUMNS": "200"}
    (script,) = [step for step in steps() if "gate" in step]

    def commit_and_run() -> subprocess.CompletedProcess[str]:
        commands = "git add --all && git commit --quiet --message x"
        subprocess.run(["bash", "-c", commands], check=True, cwd=repository, env=env)
        # As GitHub runs it.
        return subprocess.run(["bash", "-e", "-o", "pipefail", "-c", script], cwd=repository, env=env, capture_output=True, text=True)  # fmt: skip

    subprocess.run(["git", "init", "--quiet"], check=True, cwd=repository, env=env)
    (repository / ".gitignore").write_text("scores\nnow\nbefore\nbuild\n__pycache__\n", encoding="utf-8")
    first = commit_and_run()
    assert first.returncode == 0, first.stderr
    assert "::notice::the first commit" in first.stdout
    assert (repository / "now" / "page.html").is_file()
    card = repository / "spotnet" / "cards" / "spotnet.toml"
    card.write_text(card.read_text(encoding="utf-8").replace("width = 16", "width = 20"), encoding="utf-8")
    second = commit_and_run()
    assert second.returncode == 1, second.stdout + second.stderr
    assert "::error" in second.stdout
    assert "parameters (networks)" in second.stdout


def test_the_card_alone_builds_and_is_complete() -> None:
    from reports.check import _facts
    from zoo import registry

    try:
        zoo.add_folder(EXAMPLES / "card_only")
        assert _facts(zoo.card("resnet_spots")).state == "pass"
        with torch.inference_mode():
            assert zoo.build("resnet_spots")(torch.zeros(1, 3, 176, 176)).shape == (1, 4)
    finally:
        registry._folders.clear()


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    """With the notebook's own kernel, in a folder of its own."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(ROOT)
    try:
        NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("text/html" in output.get("data", {}) for output in shown)
    assert not any(output.output_type == "error" for output in shown)
