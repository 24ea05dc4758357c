from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from benchmarks import machine
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
