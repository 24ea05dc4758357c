"""What `make gpu` runs and hands on, as far as a machine without a GPU can tell."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks import bench_gpu, machine
from benchmarks.bench_gpu_rates import Row as Rate
from benchmarks.machine import fingerprint
from benchmarks.results import Profile, Row
from reports import base, gpu, record
from zoo.card import Member, System

ROW = Row(
    system="a", title="A", scenario="latency", device="cpu", precision="fp32", memory_format="contiguous",
    threads=1, compiled=False, ms=1.0,
)  # fmt: skip

ONE = System(
    schema=1, name="one", title="One", group="mine", summary="One small network.", folds=1,
    members=(Member(name="first", backbone="resnet18", size=32, classes=("MEL", "NV"), melanoma=0),),
)  # fmt: skip

AVAILABLE = """
import torch

torch.cuda.is_available = lambda: True
"""


@pytest.fixture
def counts(counts_of: Callable[[System], Path]) -> Path:
    """Counts of one small network."""
    return counts_of(ONE)


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


def test_predict_is_timed_with_a_network_that_reads_images_alone(
    quick: list[tuple[Rate, Any]], tmp_path: Path
) -> None:
    words = ["--device", "cpu", "--quick", "--no-tests", "--output", str(tmp_path / "out"), "first_place"]
    done = CliRunner().invoke(gpu.main, words)
    assert (done.exit_code, quick) == (0, []), done.output
    assert "bench_gpu: not run: networks that come first read metadata" in done.stderr
    assert CliRunner().invoke(gpu.main, [*words, "sge_b3"]).exit_code == 0
    assert {given.system for _, given in quick} == {"sge_b3"}


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


def test_how_long_all_of_it_takes_is_said_before_it_begins(
    quick: list[tuple[Rate, Any]], tmp_path: Path
) -> None:
    words = ["--device", "cpu", "--quick", "--no-tests", "--no-predict", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(gpu.main, [*words, "--scenario", "latency", "--precision", "fp32", "sge_b3"])
    assert done.exit_code == 0, done.output
    assert quick == []
    assert "2 rows, less than a minute" in done.stderr.splitlines(), "the network, and its whole protocol"


def test_systems_that_cannot_be_run_are_named_once(tmp_path: Path) -> None:
    made = base.only(base.read(), ["sge_b3"])
    counts = tmp_path / "counts.json"
    counts.write_text(json.dumps({**made, "entries": [{**each, "members": []} for each in made["entries"]]}))
    done = CliRunner().invoke(gpu.main, ["--device", "cpu", "--counts", str(counts)])
    assert done.exit_code == 2
    assert done.stderr.count("sge_b3: not counted") == 1


_WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in {missing}
        return None if missing else PathFinder.find_spec(name, path, target)

sys.meta_path[:] = [Without if finder is PathFinder else finder for finder in sys.meta_path]
"""
_MISSING = {
    "cv2", "fvcore", "h5py", "hypothesis", "imagehash", "msgspec", "natsort", "platformdirs", "psutil", "pyarrow",
    "pynvml", "scipy", "simplejpeg", "sklearn", "tabulate", "thop",
}  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--precision", "fp8"), 2, "'fp8' is not one of"),
        (("--scenario", "speed"), 2, "'speed' is not one of"),
        (("nobody",), 2, "no system is called 'nobody'"),
        (("--counts", "nowhere.json"), 3, "nowhere.json: cannot be read"),
        (("--images", "nowhere"), 3, "--images nowhere: there is no such folder"),
    ],
)
def test_make_gpu_refuses_what_it_does_not_know(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    done = CliRunner().invoke(gpu.main, [*words, "--no-tests", "--output", str(tmp_path / "out")])
    assert done.exit_code == code
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_make_gpu_without_a_gpu_says_so_and_writes_nothing(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("needs a machine without a CUDA GPU")
    done = CliRunner().invoke(gpu.main, ["--output", str(tmp_path / "out")])
    assert done.exit_code == 4
    assert "finds no CUDA GPU here" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("given", [True, False], ids=["images", "made up"])
def test_make_gpu_times_image_files(counts: Path, tmp_path: Path, given: bool, draw: Any) -> None:
    pytest.importorskip("evaluate.images", reason="needs the decoding of evaluate")
    for number in range(3):
        draw(tmp_path / "images" / f"{number}.jpg")
    words = ["--device", "cpu", "--quick", "--counts", str(counts), "--output", str(tmp_path / "out"), "--no-tests",
             "--no-predict", "--scenario", "end-to-end", "--precision", "fp32", "one"]  # fmt: skip
    words += ["--images", str(tmp_path / "images")] if given else []
    done = CliRunner().invoke(gpu.main, words)
    assert done.exit_code == 0, done.output
    found = record.load(tmp_path / "out" / "record.json").profile
    assert found is not None
    (row,) = [each for each in found.rows if each.scenario == "end-to-end"]
    assert (row.error, row.batch) == ("", 8)
    assert row.images_per_s
    assert (found.images, found.images_real) == ((3, True) if given else (16, False))


@pytest.fixture
def made_gpu(tmp_path: Path) -> Callable[..., tuple[int, list[str], str]]:
    """Runs `make gpu` with a program in the place of Python: make's exit code, the arguments of each call, stderr."""
    make = shutil.which("make")
    if not make:
        pytest.skip("needs make")
    log, python = tmp_path / "log", tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    outer = {"ARGS", "IMAGES", "MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PYTHON", "VENV"}  # of `make test`
    environment = {name: value for name, value in os.environ.items() if name not in outer}

    def go(*words: str, code: int = 0, lacks: str = "") -> tuple[int, list[str], str]:
        log.write_text("")
        broken = f"echo Traceback >&2; echo \"ModuleNotFoundError: No module named '{lacks}'\" >&2; exit 1"
        python.write_text(
            f"#!/bin/sh\nprintf '%s|' \"$@\" >> {log}; echo >> {log}\n"
            f'if [ "$1" = -c ]; then {broken if lacks else "exit 0"}; fi\nexit {code}\n'
        )
        python.chmod(0o755)
        done = subprocess.run(
            [make, "gpu", *words], capture_output=True, text=True, check=False, cwd=gpu.ROOT, env=environment
        )
        return done.returncode, log.read_text().splitlines(), done.stderr

    return go


MADE = "-c|import click, pandas, rich, timm, torch|"


def test_make_gpu_is_one_program(made_gpu: Callable[..., tuple[int, list[str], str]], tmp_path: Path) -> None:
    python = f"PYTHON={tmp_path / 'venv' / 'bin' / 'python'}"
    assert made_gpu(python) == (0, [MADE, "-m|reports.gpu|"], "")
    assert made_gpu(python, "IMAGES=some images", "ARGS=--quick --device cpu")[:2] == (
        0,
        [MADE, "-m|reports.gpu|--images|some images|--quick|--device|cpu|"],
    )
    assert made_gpu(python, code=5)[0] == 2, "what failed there fails here, with the code of make"


def test_make_gpu_takes_the_python_that_the_other_commands_made(
    made_gpu: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    assert made_gpu(f"VENV={tmp_path / 'venv'}")[:2] == (0, [MADE, "-m|reports.gpu|"])
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\nexit 0\n")
    other.chmod(0o755)
    assert made_gpu(f"VENV={tmp_path / 'venv'}", f"PYTHON={other}")[:2] == (0, [])


def test_make_gpu_says_in_one_line_what_python_lacks(
    made_gpu: Callable[..., tuple[int, list[str], str]], tmp_path: Path
) -> None:
    failed, called, said = made_gpu(f"VENV={tmp_path / 'venv'}", lacks="torch")
    assert failed
    assert called == [MADE], "nothing is begun"
    line, *makes = said.splitlines()
    assert line == (
        f"{tmp_path / 'venv' / 'bin' / 'python'}: ModuleNotFoundError: No module named 'torch'; "
        "name a Python with torch, timm, pandas, click and rich: make gpu PYTHON=/path/to/python"
    )
    assert len(makes) == 1
    assert "Error 4" in makes[0]


def test_cuda_tests_that_hang_are_ended_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_hangs.py").write_text("import time\n\ndef test_hangs():\n    time.sleep(600)\n")
    monkeypatch.setattr(gpu, "_TESTS", (tmp_path / "test_hangs.py",))
    monkeypatch.setattr(gpu, "_TESTS_S", 1)
    assert gpu.cuda_tests(tmp_path) == ("CUDA tests: not done after 1 s", True)
    assert (tmp_path / "cuda-tests.txt").exists()


@pytest.mark.slow
def test_the_path_of_make_gpu_needs_five_packages_alone(counts: Path, tmp_path: Path) -> None:
    """On the CPU, with everything hidden that a machine may lack but torch, timm, pandas, click and rich."""
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(_WITHOUT.replace("{missing}", repr(_MISSING)))
    path = os.pathsep.join([str(tmp_path / "without"), str(gpu.ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "reports.gpu", "--device", "cpu", "--quick", "--counts", counts,
         "--output", tmp_path / "out", "--scenario", "latency", "--scenario", "end-to-end", "--precision", "fp32", "one"],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("CUDA tests:")]
    assert "skipped" in said or "passed" in said
    assert "test_cuda.py" in (tmp_path / "out" / "cuda-tests.txt").read_text()
    assert "bench_gpu: not run: predict needs cv2, which is not installed" in done.stderr.splitlines()
    loaded = record.load(tmp_path / "out" / "record.json")
    assert loaded.profile is not None
    assert loaded.profile.samples == "samples.csv.gz"
    assert len(pd.read_csv(tmp_path / "out" / "samples.csv.gz")) > 0
    assert all(row.ms and row.peak_rss_bytes for row in loaded.profile.rows if row.scenario == "latency")
    (unread,) = [row for row in loaded.profile.rows if row.scenario == "end-to-end"]
    assert unread.error == "reading images needs cv2, which is not installed"
    assert f"n/a ({unread.error})" in " ".join(done.stdout.split())
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "cuda-tests.txt", "profile.csv", "profile.tex", "profile.txt", "readings", "record.json", "samples.csv.gz",
    }  # fmt: skip


_BUILDS = """
import json
import torch
from benchmarks.cells import specification
from benchmarks.subject import member_of
from benchmarks.worker import imported
from reports import base

found = {}
with torch.device("meta"):
    for target in base.targets(base.read()):
        for network in target.networks:
            alike = json.dumps(specification(network.member))
            if alike not in found:
                made = imported(target.builder)(member_of(network.member, target.builder))
                found[alike] = sum(each.numel() for each in made.parameters())
            print(found[alike])
"""


@pytest.mark.slow
def test_every_network_is_built_with_five_packages_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_WITHOUT.replace("{missing}", repr(_MISSING)))
    done = subprocess.run(
        [sys.executable, "-c", _BUILDS], capture_output=True, text=True, cwd=tmp_path, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(gpu.ROOT)])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counted = [
        member["operations"]["parameters"] for entry in base.read()["entries"] for member in entry["members"]
    ]
    assert len(counted) > 30
    assert list(map(int, done.stdout.split())) == counted
