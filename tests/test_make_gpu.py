"""What `make gpu` runs and hands on, as far as a machine without a GPU can tell."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks import bench_gpu, machine
from benchmarks.bench_gpu_rates import Row as Rate
from benchmarks.machine import fingerprint
from benchmarks.results import Profile, Row
from reports import gpu

ROW = Row(
    system="a", title="A", scenario="latency", device="cpu", precision="fp32", memory_format="contiguous",
    threads=1, compiled=False, ms=1.0,
)  # fmt: skip

AVAILABLE = """
import torch

torch.cuda.is_available = lambda: True
"""


@pytest.mark.slow
def test_cuda_tests_find_their_fixtures_without_conftest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where nothing is skipped, but for what the tests themselves do."""
    (tmp_path / "available.py").write_text(AVAILABLE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(gpu.ROOT)]))
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p available --setup-plan")
    said, failed = gpu.cuda_tests(tmp_path)
    text = (tmp_path / "cuda-tests.txt").read_text()
    assert not failed, text
    assert "no tests ran" in said
    assert "test_units_that_share_a_batch_have_the_results_of_the_cpu" in text
    assert "test_parity_with_the_cpu" in text


@pytest.fixture
def tests_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts files in the place of the CUDA tests."""

    def put(**files: str) -> None:
        for name, content in files.items():
            (tmp_path / f"{name}.py").write_text(content)
        monkeypatch.setattr(gpu, "_TESTS", tuple(tmp_path / f"{name}.py" for name in files))

    return put


def test_a_library_that_is_missing_costs_the_tests_that_need_it_alone(
    tests_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "with").mkdir()
    (tmp_path / "with" / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "with"), str(gpu.ROOT)]))
    real = gpu._TESTS[1]
    tests_of(test_works="def test_works(): pass\n", test_real=real.read_text())
    said, failed = gpu.cuda_tests(tmp_path)
    assert not failed
    assert said.startswith("CUDA tests: 1 passed, 1 skipped in ")
    assert (
        "needs what predict needs: libGL.so.1: cannot open shared object file"
        in (tmp_path / "cuda-tests.txt").read_text()
    )


def test_a_file_that_cannot_be_imported_fails_and_the_other_is_run(tests_of: Any, tmp_path: Path) -> None:
    tests_of(test_broken="import nowhere\n", test_works="def test_works(): pass\n")
    said, failed = gpu.cuda_tests(tmp_path)
    assert failed
    assert said.startswith("CUDA tests: 1 passed, 1 error in ")


def test_what_tests_print_does_not_say_whose_machine_it_is(
    tests_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "alice"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    tests_of(
        test_fails="import sys\nfrom pathlib import Path\n\ndef test_fails(tmp_path):\n"
        "    print(tmp_path, sys.prefix, Path.home() / 'data', sys.path)\n    assert False\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(gpu.ROOT / "tests"))
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setenv("LOGNAME", "alice")
    _, failed = gpu.cuda_tests(tmp_path)
    text = (tmp_path / "cuda-tests.txt").read_text()
    assert failed
    assert "~/data" in text
    assert "'./tests'" in text
    for each in ("alice", str(gpu.ROOT), sys.prefix, "rootdir"):
        assert each not in text, each


def test_results_lie_in_the_folder_of_the_gpu_that_torch_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpus_of_torch", lambda: ("GPU Y, 24564 MiB", "GPU X, 81559 MiB"))
    monkeypatch.setattr(gpu, "processor", lambda: "CPU (R) Z")
    assert gpu.results("cuda") == gpu.ROOT / "reports" / "results" / "gpu-y"
    assert gpu.results("cpu").name == "cpu-r-z"
    monkeypatch.setattr(machine, "gpus_of_torch", lambda: ())
    assert gpu.folder_name("cuda") == "cuda", "never that of something else"


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Rate, Any]]:
    """Rows that `bench_gpu` asks for, with all that is asked of it, where nothing is measured."""
    asked: list[tuple[Rate, Any]] = []

    def fresh(row: Rate, given: Any, _: Path) -> dict[str, Any]:
        asked.append((row, given))
        return {"error": "not measured"}

    found = Profile(rows=(ROW,), ceilings=(), machine=fingerprint(), seed=0, rounds=1, quick=True)
    monkeypatch.setattr(gpu, "run", lambda *_, **__: (found, []))
    monkeypatch.setattr(gpu, "tables", lambda _: [])
    monkeypatch.setattr(gpu, "write_all", lambda *_: [])
    monkeypatch.setattr(bench_gpu, "fresh", fresh)
    return asked


def test_predict_is_timed_as_the_rest_was_asked_for(
    quick: list[tuple[Rate, Any]], tmp_path: Path, draw: Any
) -> None:
    draw(tmp_path / "images" / "one.JPG")
    words = ["--device", "cpu", "--quick", "--no-tests", "--precision", "fp32", "sge_b3"]
    done = CliRunner().invoke(
        gpu.main, [*words, "--images", str(tmp_path / "images"), "--output", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    assert {row.precision for row, _ in quick} == {"fp32", ""}
    (given,) = {id(given): given for _, given in quick}.values()
    assert (given.system, given.device, given.quick, given.rounds) == ("sge_b3", "cpu", True, 1)
    assert 0 < given.count < bench_gpu.COUNT["cpu"]
    text = (tmp_path / "out" / "predict.md").read_text()
    assert text.startswith("# predict beside timm's benchmark (quick)\n")
    assert f"{given.count} JPEG files" in text, "and no made-up ones"
    assert text in done.stdout


def test_of_all_systems_predict_is_timed_with_one(quick: list[tuple[Rate, Any]], tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    for words in ([], ["sge_b3", bench_gpu.SYSTEM]):
        quick.clear()
        done = CliRunner().invoke(
            gpu.main, ["--device", "cpu", "--quick", "--no-tests", "--output", out, *words]
        )
        assert done.exit_code == 0, done.output
        assert {given.system for _, given in quick} == {bench_gpu.SYSTEM}
    quick.clear()
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--no-tests", "--no-predict", "--output", out])
    assert (done.exit_code, quick) == (0, [])


def test_a_cuda_test_that_failed_fails_all_at_the_end(
    quick: list[tuple[Rate, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "cuda_tests", lambda _: ("CUDA tests: 1 failed, 20 passed in 9s", True))
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--quick", "--output", str(tmp_path / "out")])
    assert done.exit_code == 5
    assert (
        f"CUDA tests: 1 failed, 20 passed in 9s; {tmp_path / 'out' / 'cuda-tests.txt'} says which"
        in done.stderr
    )
    assert (tmp_path / "out" / "predict.md").exists()
