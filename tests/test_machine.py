from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import torch

from benchmarks import allowance, clocks, machine, worker
from benchmarks.machine import default_threads, differences, fingerprint
from benchmarks.results import Machine
from benchmarks.sweep import available_memory

ROOT = Path(__file__).parents[1]

MACHINE = Machine(
    cpu="A CPU", cores=2, logical_cores=4, memory_gib=16, gpus=(), driver=None, cuda=None,
    os="Linux 6", python="3.12.1", torch="2.6.0", timm="1.0.12",
)  # fmt: skip

REPORT = """<?xml version="1.0" ?>
<nvidia_smi_log>
  <driver_version>570.1</driver_version>
  <cuda_version>12.8</cuda_version>
  <gpu id="0"><product_name>GPU X</product_name><fb_memory_usage><total>81559 MiB</total></fb_memory_usage>
    <gpu_power_readings><current_power_limit>700.00 W</current_power_limit></gpu_power_readings></gpu>
  <gpu id="1"><product_name>GPU Y</product_name><fb_memory_usage><total>24564 MiB</total></fb_memory_usage>
    <power_readings><power_limit>350.00 W</power_limit></power_readings></gpu>
  <gpu id="2"><product_name>GPU Z</product_name><fb_memory_usage><total>1 MiB</total></fb_memory_usage></gpu>
</nvidia_smi_log>
"""


def test_a_fingerprint_is_complete_and_says_nothing_of_its_owner() -> None:
    found = fingerprint()
    assert found.cpu
    assert 1 <= found.cores <= found.logical_cores
    assert found.memory_gib > 0
    text = msgspec.json.encode(found).decode()
    assert socket.gethostname() not in text
    assert str(Path.home()) not in text


def test_a_fingerprint_needs_no_torch() -> None:
    code = "import sys, benchmarks; benchmarks.fingerprint(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout == "False\n"


def test_gpus_are_read_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_output", lambda *_: REPORT)
    gpus, limits, driver, cuda = machine._nvidia()
    assert gpus == ("GPU X, 81559 MiB", "GPU Y, 24564 MiB", "GPU Z, 1 MiB")
    assert limits == ("700.00 W", "350.00 W", "n/a")
    assert (driver, cuda) == ("570.1", "12.8")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A driver of CUDA 12.8 without its tools, and two GPUs, of which torch takes first what nvidia-smi would list last."""
    gpus = [
        SimpleNamespace(name="GPU Y, small", total_memory=24564 << 20),
        SimpleNamespace(name="GPU X", total_memory=81559 << 20),
    ]

    class Library:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuDriverGetVersion(self, found: Any) -> int:  # noqa: N802
            found._obj.value = 12080
            return 0

    @contextmanager
    def running(_: int) -> Iterator[Any]:
        yield lambda call, given, limit_s: {"result": worker.imported(call)(given)}

    (tmp_path / "version").write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n"
        "GCC version:  gcc version 11.4.0\n"
    )
    monkeypatch.setattr(machine, "CDLL", Library)
    monkeypatch.setattr(machine, "KERNEL", tmp_path / "version")
    monkeypatch.setattr(machine, "_output", lambda *_: "")
    monkeypatch.setattr(worker, "running", running)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "get_device_properties", gpus.__getitem__)
    machine.gpus_of_torch.cache_clear()
    yield
    machine.gpus_of_torch.cache_clear()


@pytest.mark.usefixtures("driver")
def test_where_the_drivers_tools_are_missing_torch_tells_the_gpus() -> None:
    gpus = ("GPU Y, small, 24564 MiB", "GPU X, 81559 MiB")
    assert machine._nvidia() == (gpus, None, "570.86.15", "12.8")
    assert machine.gpu_model() == "GPU Y, small"


@pytest.mark.usefixtures("driver")
def test_the_gpu_that_networks_run_on_is_the_one_that_torch_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_output", lambda *_: REPORT)
    assert machine._nvidia()[0][0] == "GPU X, 81559 MiB"
    assert machine.gpu_model() == "GPU Y, small"


@pytest.mark.usefixtures("driver")
def test_auto_is_what_torch_finds_where_there_is_a_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert machine.resolve("auto") == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.resolve("auto") == "cpu"


def test_without_a_driver_nobody_waits_for_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    def asked(*_: object) -> None:
        raise AssertionError("torch was asked")

    monkeypatch.setattr(machine, "CDLL", none)
    monkeypatch.setattr(machine, "_output", lambda *_: "")
    monkeypatch.setattr(worker, "running", asked)
    monkeypatch.setattr(machine.runtime, "resolve", asked)
    machine.gpus_of_torch.cache_clear()
    try:
        assert machine._nvidia() == ((), (), None, None)
        assert machine.resolve("auto") == "cpu"
        assert machine.gpu_model() == ""
    finally:
        machine.gpus_of_torch.cache_clear()


def test_a_fresh_process_tells_the_gpus_of_torch() -> None:
    with worker.running(1) as ask:
        answer = ask("benchmarks.machine:visible_gpus", {}, limit_s=300)
    assert answer == {"result": machine.visible_gpus({})}


@pytest.mark.parametrize("command", [("no-such-program",), ("false",)])
def test_a_program_that_is_missing_or_fails_prints_nothing(command: tuple[str, ...]) -> None:
    assert machine._output(*command) == ""


def test_threads_are_the_physical_cores_that_may_be_used() -> None:
    assert 1 <= default_threads() <= fingerprint().cores


def test_equal_machines_have_no_differences() -> None:
    assert differences(MACHINE, replace(MACHINE)) == []


def test_every_differing_field_is_named() -> None:
    other = replace(MACHINE, cpu="B CPU", gpus=("GPU X",))
    assert differences(MACHINE, other) == ["cpu: A CPU / B CPU", "gpus: () / ('GPU X',)"]


def test_settings_count_where_both_are_known() -> None:
    two, four = (replace(MACHINE, settings={"threads": n, "a": "b"}) for n in ("2", "4"))
    assert differences(MACHINE, two) == []
    assert differences(two, four) == ["threads: 2 / 4"]
    assert differences(replace(two, settings={"threads": "2", "newer": "c"}), two) == []


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("usable_processors", 2, 4),
        ("cpu_quota", 0.0, 1.5),
        ("power_limits", ("700 W",), ("350 W",)),
        ("environment", (), ("LD_PRELOAD=libjemalloc.so",)),
    ],
)
def test_what_a_process_was_allowed_tells_machines_apart_where_it_is_known(
    name: str, ours: object, theirs: object
) -> None:
    one, other = (replace(MACHINE, **{name: value}) for value in (ours, theirs))
    assert differences(one, other) == [f"{name}: {ours} / {theirs}"]
    assert differences(one, MACHINE) == differences(MACHINE, other) == [], "an older record does not know it"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinity")
def test_a_process_that_is_bound_to_a_processor_says_so_and_takes_one_thread() -> None:
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from benchmarks.machine import default_threads, fingerprint\n"
        "print(default_threads(), fingerprint().usable_processors, fingerprint().environment)"
    )
    given = {"OMP_PROC_BIND": "close", "KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": "9", "MALLOC_ARENA_MAX": "2",
             "LD_PRELOAD": "", "TORCHINDUCTOR_CACHE_DIR": "/home/me"}  # fmt: skip
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **given}
    )  # fmt: skip
    threads, processors, said = run.stdout.strip().split(" ", 2)
    assert (threads, processors) == ("1", "1")
    for each in ("OMP_PROC_BIND=close", "KMP_BLOCKTIME=0", "MALLOC_ARENA_MAX=2"):
        assert each in said
    for each in ("OMP_NUM_THREADS", "LD_PRELOAD", "CACHE_DIR", "/home"):
        assert each not in said


def test_what_packages_set_when_they_are_imported_tells_no_machines_apart() -> None:
    code = (
        "import os\nfrom benchmarks.allowance import environment\nbefore = environment(os.environ)\n"
        "import sklearn\nprint(os.environ['KMP_INIT_AT_FORK'], environment(os.environ) == before)"
    )
    plain = {name: value for name, value in os.environ.items() if not name.startswith("KMP_")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=plain)  # fmt: skip
    assert run.stdout == "FALSE True\n"
    lazy, eager = ({"CUDA_MODULE_LOADING": each} for each in ("LAZY", "EAGER"))
    assert allowance.environment(lazy) == allowance.environment({"MKL_ROOT": "mkl"}) == ()
    assert allowance.environment(eager) == ("CUDA_MODULE_LOADING=EAGER",)


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., float | None]:
    """What the quota is where control groups have some files."""

    def quota(own: str, **files: str) -> float | None:
        folder = tmp_path / "cgroup"
        folder.mkdir()
        for place, content in files.items():
            file = folder / place.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs_", "cpu.cfs_")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content + "\n")
        (tmp_path / "own").write_text(own + "\n")
        monkeypatch.setattr(allowance, "CGROUPS", folder)
        monkeypatch.setattr(allowance, "OWN_CGROUPS", tmp_path / "own")
        return allowance.cpu_quota()

    return quota


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/", {"cpu_max": "150000 100000"}, 1.5),
        ("0::/", {"cpu_max": "max 100000"}, 0.0),
        ("0::/", {}, 0.0),
        ("0::/outer/inner", {"outer__cpu_max": "200000 100000", "outer__inner__cpu_max": "max 100000"}, 2.0),
        (
            "0::/outer/inner",
            {"outer__cpu_max": "200000 100000", "outer__inner__cpu_max": "50000 100000"},
            0.5,
        ),
        ("0::/a/path/outside", {"cpu_max": "300000 100000"}, 3.0),
        ("4:cpu,cpuacct:/\n3:memory:/", {"cpu__cfs_quota_us": "250000", "cpu__cfs_period_us": "100000"}, 2.5),
        ("4:cpu:/", {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 0.0),
        ("4:memory:/", {"memory__cpu_max": "100000 100000"}, 0.0),
    ],
)
def test_a_quota_is_the_smallest_of_all_control_groups(
    groups: Callable[..., float | None], own: str, files: dict[str, str], quota: float
) -> None:
    assert groups(own, **files) == quota


@pytest.mark.parametrize(
    ("own", "files", "left"),
    [
        ("0::/", {}, None),
        ("0::/", {"memory.max": "max", "memory.current": "5"}, None),
        ("0::/", {"memory.max": "1000", "memory.current": "300"}, 700),
        (
            "0::/",
            {"memory.max": "1000", "memory.current": "900", "memory.stat": "file 500\ninactive_file 400"},
            500,
        ),
        ("0::/", {"memory.max": "1000", "memory.current": "1200"}, 0),
        (
            "0::/outer/inner",
            {"outer/memory.max": "1000", "outer/memory.current": "900", "outer/inner/memory.max": "500",
             "outer/inner/memory.current": "100"},
            100,
        ),
        (
            "4:cpu:/\n3:memory:/",
            {"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "400",
             "memory/memory.stat": "total_inactive_file 50"},
            650,
        ),
        ("4:cpu:/", {"cpu/memory.max": "10", "cpu/memory.current": "1"}, None),
    ],
)  # fmt: skip
def test_memory_is_what_the_narrowest_control_group_leaves(
    own: str, files: dict[str, str], left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in files.items():
        file = tmp_path / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")
    (tmp_path / "own").write_text(own + "\n")
    monkeypatch.setattr(allowance, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(allowance, "OWN_CGROUPS", tmp_path / "own")
    assert allowance.memory_left() == left
    if left is None:
        assert (available_memory() or 10**9) > 1000, "that of the machine"
    else:
        assert available_memory() == left


def test_threads_fit_into_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: 64)
    monkeypatch.setattr(machine, "usable_cores", lambda: 64)
    for quota, threads in ((2.5, 2), (0.5, 1), (0.0, 64), (None, 64), (100.0, 64)):
        monkeypatch.setattr(machine, "cpu_quota", lambda quota=quota: quota)
        assert default_threads() == threads


@pytest.mark.parametrize(
    ("allowed", "threads"), [({0, 8}, 1), ({0, 1}, 2), ({0, 1, 8, 9}, 2), (set(range(16)), 8)]
)
def test_hardware_threads_of_one_core_are_one_thread(
    allowed: set[int], threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(16):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 8},{number % 8 + 8}\n")
    monkeypatch.setattr(allowance, "CPUS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(machine, "_cores", lambda: 8)
    monkeypatch.setattr(machine, "cpu_quota", lambda: 0.0)
    assert default_threads() == threads
    monkeypatch.setattr(allowance, "CPUS", tmp_path / "nowhere")
    assert allowance.usable_cores() == len(allowed), "where nothing tells which share a core"


def test_a_system_without_control_groups_has_no_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowance, "CGROUPS", tmp_path / "nowhere")
    assert allowance.cpu_quota() is None


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the kernel's: empty, as of a system that tells no clock."""
    monkeypatch.setattr(clocks, "CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(clocks, "CPUS", tmp_path)
    return tmp_path


def test_clocks_are_read_where_the_kernel_tells_them(kernel: Path) -> None:
    (kernel / "cpuinfo").write_text(
        "processor : 0\ncpu MHz\t\t: 2596.150\n\nprocessor : 1\ncpu MHz\t\t: 3100.4\n"
    )
    begun = clocks.before()
    assert begun.start_mhz == (2596, 3100)
    assert (begun.end_mhz, begun.most_mhz, begun.governor) == (None, None, "")
    assert begun.reasons == {"most_mhz": "there is no cpufreq, as in most virtual machines"}
    for number, (now, governor) in enumerate([("800000", "powersave"), ("3400000", "performance")]):
        folder = kernel / f"cpu{number}" / "cpufreq"
        folder.mkdir(parents=True)
        for name, value in {
            "scaling_cur_freq": now,
            "cpuinfo_max_freq": "3700000",
            "scaling_governor": governor,
        }.items():
            (folder / name).write_text(value + "\n")
    assert clocks.after(begun) == replace(begun, end_mhz=(800, 3400))
    begun = clocks.before()
    assert (begun.start_mhz, begun.most_mhz, begun.governor) == ((800, 3400), 3700, "performance, powersave")
    assert begun.reasons == {}


def test_a_system_that_tells_no_clock_says_so(kernel: Path) -> None:
    found = clocks.after(clocks.before())
    assert (found.start_mhz, found.end_mhz, found.most_mhz) == (None, None, None)
    assert set(found.reasons) == {"start_mhz", "end_mhz", "most_mhz"}
