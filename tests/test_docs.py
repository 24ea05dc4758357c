"""The documents name what exists: functions, command lines and files."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import torch

import cli
import weights
import zoo
from evaluate.labels import COLUMNS
from evaluate.protocols import PROTOCOLS
from zoo.errors import CheckpointError

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "benchmarks/README.md",
    *sorted(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")),
)
METHODS = (ROOT / "docs" / "methods.md").read_text(encoding="utf-8")


def lines() -> list[str]:
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES)
    found = re.findall(r"^(?: {4})?(melanoma-zoo [^\n]+)$|`(melanoma-zoo [^`\n]+)`", text, re.MULTILINE)
    return sorted({a or b for a, b in found})


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(evaluate(?:\.\w+)+)`", METHODS))))
def test_names_exist(name: str) -> None:
    module, _, member = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), member))


@pytest.mark.parametrize("line", lines())
def test_command_lines_have_their_options(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli.main
    while isinstance(command, click.Group):
        name = words.pop(0)
        assert name in command.commands, name
        command = command.commands[name]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}


def test_every_figure_of_a_protocol_is_explained() -> None:
    text = (ROOT / "docs" / "columns.md").read_text(encoding="utf-8")
    named = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    titles = {column.title for protocol in PROTOCOLS.values() for column in protocol.columns}
    assert not [title for title in titles if not any(title in cell for cell in named)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("#"):
            headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
            assert target[1:] in {re.sub(r"[^\w-]", "", h.lower().replace(" ", "-")) for h in headings}
        elif "://" not in target:
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


TEST_SETS = (ROOT / "docs" / "test-sets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("title", "key"), [("Melanoma", "melanoma"), ("Not melanoma", "not_melanoma")])
def test_all_diagnoses_are_listed(title: str, key: str) -> None:
    shipped = tomllib.loads((ROOT / "evaluate" / "diagnoses.toml").read_text(encoding="utf-8"))
    (listed,) = re.findall(rf"^\*\*{title}\*\*: (.+?)\.\n\n", TEST_SETS, re.MULTILINE | re.DOTALL)
    assert " ".join(listed.split()).split("; ") == shipped[key]


def test_all_roles_are_listed() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", TEST_SETS, re.MULTILINE)
    found = {
        role: tuple(re.findall(r"`(\w+)`", names.partition("(")[0]))
        for role, names in rows
        if role in COLUMNS
    }
    assert found == COLUMNS


def test_the_code_of_the_page_on_weights_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "DIR").mkdir()
    with pytest.raises(CheckpointError, match="DIR: 5 of 5 files of s2_cbam_b3 are missing"):
        exec(code, {})
    trained = zoo.build("s2_cbam_b3")
    names = weights.official_keys(trained, "attention")
    state = {name: trained.state_dict()[ours] for name, ours in names.items()}
    for fold in range(5):
        torch.save(state, tmp_path / "DIR" / f"{zoo.card('s2_cbam_b3').members[0].name}_best_fold{fold}.pth")
    found: dict[str, Any] = {}
    exec(code, found)
    assert len(found["files"]) == 5
    assert list(found["complete"]) == ["s2_cbam_b3"]
    assert found["system"].assumptions[0].settled == "cbam.kernel_size is 49 in the trained files"


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(weights\.[a-z_]+)`", (ROOT / "docs/weights.md").read_text(encoding="utf-8")))))  # fmt: skip
def test_functions_of_the_page_on_weights_exist(name: str) -> None:
    assert name.partition(".")[2] in weights.__all__
