"""How the rooms hang together: one direction of imports, quick starts, one home for what is published."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("zoo", "weights", "evaluate", "benchmarks", "reports")
ALLOWED = {
    "zoo": {"zoo"},
    "weights": {"weights", "zoo"},
    "evaluate": {"evaluate", "weights", "zoo"},
    "benchmarks": {"benchmarks", "weights", "zoo"},
    "reports": {"reports", "evaluate", "benchmarks", "weights", "zoo"},
}
# Benchmarks and simulations measure the rooms from outside, wherever their files lie.
MODULES = sorted(
    path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if not path.name.startswith(("bench_", "simulate_"))
)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found.add((node.module or "").partition(".")[0])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    assert imported(path) & {*ROOMS, "cli"} <= ALLOWED[room]


def test_reports_never_meet_networks() -> None:
    for path in (ROOT / "reports").rglob("*.py"):
        assert not imported(path) & {"torch", "timm"}, path


def test_no_system_is_named_in_code() -> None:
    names = {path.stem for path in (ROOT / "zoo" / "cards").glob("*.toml")}
    for path in [*MODULES, ROOT / "cli.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert node.value not in names, f"{path}:{node.lineno}: a system is data"


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_is_light(room: str) -> None:
    code = f"import sys, {room}; print([m for m in ('torch', 'timm', 'pandas', 'sklearn', 'scipy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("room", ROOMS)
def test_all_public_names_of_a_room_are_there(room: str) -> None:
    module = __import__(room)
    assert module.__all__ == sorted(
        module.__all__, key=lambda name: (not name.isupper(), not name[0].isupper(), name)
    )
    for name in module.__all__:
        assert getattr(module, name).__doc__ or name.isupper(), f"{room}.{name} has no docstring"


def test_the_lowest_versions_are_stated_and_nothing_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        assert ">=" in requirement
        assert "==" not in requirement.partition(";")[0]
