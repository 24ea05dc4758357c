from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks import clocks, machine
from benchmarks.machine import default_threads, differences, fingerprint
from benchmarks.results import Machine

ROOT = Path(__file__).parents[1]

MACHINE = Machine(
    cpu="A CPU", cores=2, logical_cores=4, memory_gib=16, gpus=(), driver=None, cuda=None,
    os="Linux 6", python="3.12.1", torch="2.6.0", timm="1.0.12",
)  # fmt: skip

REPORT = """<?xml version="1.0" ?>
<nvidia_smi_log>
  <driver_version>570.1</driver_version>
  <cuda_version>12.8</cuda_version>
  <gpu id="0"><product_name>GPU X</product_name><fb_memory_usage><total>81559 MiB</total></fb_memory_usage></gpu>
  <gpu id="1"><product_name>GPU Y</product_name><fb_memory_usage><total>24564 MiB</total></fb_memory_usage></gpu>
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
    gpus, driver, cuda = machine._nvidia()
    assert gpus == ("GPU X, 81559 MiB", "GPU Y, 24564 MiB")
    assert (driver, cuda) == ("570.1", "12.8")


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
