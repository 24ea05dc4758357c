"""`make bench`: the suite runs, keeps its timings, and compares with earlier ones. No timing is judged."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def bench(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """`make bench` with the interpreter of the tests, of one attention module."""
    (folder / "venv").mkdir(exist_ok=True)
    for stamp in (".python", ".dev"):
        (folder / "venv" / stamp).touch()
    few = "-k 'attention and sge' --benchmark-max-time=0.01 --benchmark-min-rounds=1"
    made = [
        f"VENV={folder / 'venv'}",
        f"BIN={Path(sys.executable).parent}",
        f"TIMINGS={folder}",
        f"ARGS={few}",
    ]
    # pytest-benchmark times nothing in a process that seems to be one of several.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(
        ["make", "bench", *made, *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**alone, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


@pytest.mark.parametrize("path", sorted((ROOT / "benchmarks").glob("bench_*.py")), ids=lambda path: path.stem)
def test_a_busy_machine_fails_no_benchmark(path: Path) -> None:
    """What a benchmark asserts is its result, and never how long it took."""
    asserted = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]  # fmt: skip
    assert [each for each in asserted if re.search(r"stats|median|speedup|seconds|perf_counter", each)] == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_timings_are_kept_and_compared_with_those_of_the_last_run(tmp_path: Path) -> None:
    first = bench(tmp_path)
    assert first.returncode == 0, first.stdout + first.stderr
    latest = tmp_path / "latest.json"
    before = latest.read_bytes()
    (timed,) = json.loads(before)["benchmarks"]
    assert timed["name"] == "test_attention[sge]"
    assert timed["stats"]["median"] > 0
    again = bench(tmp_path, f"BASELINE={latest}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "test_attention[sge] (NOW)" in again.stdout
    assert "2 tests" in again.stdout
    assert latest.read_bytes() != before
    assert "nowhere.json: there is no such file" in bench(tmp_path, "BASELINE=nowhere.json").stderr
