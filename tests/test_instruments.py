"""What is read beside time: memory, energy, traffic, the driver, other processes. NVML is a fake here."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import energy, nvml
from benchmarks.cells import Cell, Variant
from benchmarks.drift import measure as drift
from benchmarks.energy import above_idle, rapl, watts
from benchmarks.memory import peak_rss
from benchmarks.nvml import Gpu, Unavailable, Watch
from benchmarks.others import Others
from benchmarks.subject import autocast, backing_off, prepare, tune_allocator
from benchmarks.timing import QUICK
from benchmarks.traffic import traffic_bytes
from zoo.runtime import out_of_memory

MEMBER = {"name": "small", "backbone": "resnet18", "size": 32, "classes": ["MEL", "NV"], "melanoma": 0}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Driver:
    """NVML as a fake: it answers as the library does, through the pointers it is given."""

    def __init__(self, **answers: Any) -> None:
        made = {
            "energy_mj": 5000,
            "clock": 1500,
            "temperature": 60,
            "reasons": 0x4 | 0x1,
            "processes": {7: 100},
        }
        self.answers = {**made, **answers}
        self.uuid = b""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return int(self.answers.get("init", 0))

    def nvmlDeviceGetHandleByUUID(self, name: ctypes.c_char_p, _: Any) -> int:  # noqa: N802
        self.uuid = name.value or b""
        return 0

    def _give(self, key: str, pointer: Any) -> int:
        if key not in self.answers:
            return 3
        pointer._obj.value = self.answers[key]
        return 0

    def nvmlDeviceGetTotalEnergyConsumption(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("energy_mj", found)

    def nvmlDeviceGetClockInfo(self, _: Any, kind: Any, found: Any) -> int:  # noqa: N802
        assert kind.value == 1  # the multiprocessors'
        return self._give("clock", found)

    def nvmlDeviceGetTemperature(self, _: Any, __: Any, found: Any) -> int:  # noqa: N802
        return self._give("temperature", found)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("reasons", found)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, _: Any, count: Any, found: Any) -> int:  # noqa: N802
        for index, (pid, used) in enumerate(self.answers["processes"].items()):
            found[index].pid, found[index].used = pid, used
        count._obj.value = len(self.answers["processes"])
        return 0


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Driver]:
    def install(**answers: Any) -> Driver:
        made = Driver(**answers)
        monkeypatch.setattr(nvml, "gpu_of", lambda *_: Gpu("GPU-1234", made))
        return made

    return install


def test_the_driver_is_asked_in_its_own_units() -> None:
    made = Driver()
    gpu = Gpu("1234", made)
    assert made.uuid == b"GPU-1234"
    assert (gpu.energy_j(), gpu.clock_mhz(), gpu.temperature_c(), gpu.slowed()) == (5.0, 1500, 60, 5)
    assert gpu.processes() == {7: 100}


def test_what_a_driver_does_not_say_is_unavailable() -> None:
    gpu = Gpu("1234", Driver(energy_mj=0))
    del gpu._nvml.answers["energy_mj"]
    with pytest.raises(Unavailable, match="nvmlDeviceGetTotalEnergyConsumption answers with error 3"):
        gpu.energy_j()
    with pytest.raises(Unavailable, match="this driver has no nvmlDeviceGetMemoryInfo"):
        gpu.used_bytes()
    with pytest.raises(Unavailable, match="nvmlInit_v2 answers with error 9"):
        Gpu("1234", Driver(init=9))


def test_a_watch_sees_why_a_gpu_is_slow_and_who_else_is_on_it(driver: Callable[..., Driver]) -> None:
    driver(processes={os.getpid(): 5, 4711: 6})
    with Watch(CUDA) as watch:
        pass
    assert watch.seen() == {
        "clock_mhz": [1500, 1500], "temperature_c": 60, "slowed": "0x5", "throttled": ["power cap"], "shared": True,
    }  # fmt: skip


def test_processes_of_another_namespace_are_nobody(driver: Callable[..., Driver]) -> None:
    driver(processes={1: 5, 4711: 6}, reasons=0x1)
    with Watch(CUDA) as watch:
        pass
    assert (watch.seen()["shared"], watch.seen()["throttled"]) == (False, [])


def test_a_watch_without_a_driver_says_so_and_one_on_a_cpu_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Watch(CPU) as watch:
        pass
    assert watch.seen() == {}

    def missing(*_: object) -> Gpu:
        raise Unavailable("the driver is missing")

    monkeypatch.setattr(nvml, "gpu_of", missing)
    with Watch(CUDA) as watch:
        pass
    assert watch.seen() == {"reason": "the driver is missing"}


def package(folder: Path, name: str, microjoules: int, most: int = 999_999) -> Path:
    made = folder / name
    made.mkdir(parents=True, exist_ok=True)
    (made / "energy_uj").write_text(f"{microjoules}\n")
    (made / "max_energy_range_uj").write_text(f"{most}\n")
    return made


def test_rapl_adds_packages_and_survives_a_counter_that_wraps(tmp_path: Path) -> None:
    first = package(tmp_path, "intel-rapl:0", 900_000)
    second = package(tmp_path, "intel-rapl:1", 100_000)
    package(tmp_path, "intel-rapl:0:0", 5)
    read = rapl(tmp_path)
    assert read() == 0.0
    (first / "energy_uj").write_text("100000")
    (second / "energy_uj").write_text("150000")
    assert read() == pytest.approx(0.25)
    assert read() == pytest.approx(0.25)


def test_no_counter_is_a_reason_and_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", tmp_path)
    found = energy.measure(Cell(kind="energy", members=(MEMBER,), variant=Variant(), rules=QUICK).fields())
    assert found == {"reason": "this machine shows no energy counter (RAPL)"}
    (package(tmp_path, "intel-rapl:0", 0) / "energy_uj").unlink()
    with pytest.raises(Unavailable, match="may not be read here"):
        rapl(tmp_path)


def test_idle_power_is_subtracted() -> None:
    now = iter([0.0, 5.0])
    joules = iter([10.0, 110.0])
    assert watts(lambda: next(joules), lambda: None, lambda: next(now)) == 20.0
    assert above_idle(1000.0, 20.0, 30.0) == 400.0


def test_only_too_little_memory_halves_the_batch() -> None:
    tried: list[int] = []

    def attempt(batch: int) -> str:
        tried.append(batch)
        if batch > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return "fits"

    assert backing_off(16, attempt) == ("fits", 4)
    assert tried == [16, 8, 4]
    with pytest.raises(ValueError, match="no memory error"):
        backing_off(16, lambda _: (_ for _ in ()).throw(ValueError("no memory error")))
    with pytest.raises(MemoryError):
        backing_off(2, lambda _: (_ for _ in ()).throw(MemoryError()))


def test_an_allocation_that_fails_on_a_cpu_is_too_little_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value)
    assert not out_of_memory(RuntimeError("shapes cannot be multiplied"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_network_runs_as_its_variant_says(precision: Any) -> None:
    threads = torch.get_num_threads()
    variant = Variant(precision=precision, memory_format="channels-last", threads=1)
    subject = prepare(Cell(kind="latency", members=(MEMBER,), variant=variant, batch=2))
    torch.set_num_threads(threads)
    network, (image,) = subject.networks[0], subject.inputs[0]
    assert image.shape == (2, 3, 32, 32)
    assert image.is_contiguous(memory_format=torch.channels_last)
    weights = next(module.weight for module in network.modules() if isinstance(module, nn.Conv2d))
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert not network.training
    with torch.inference_mode(), autocast(variant):
        seen = torch.nn.functional.linear(torch.ones(1, 4), torch.ones(2, 4)).dtype
    assert seen == (torch.bfloat16 if precision == "bf16" else torch.float32)
    assert subject.settings["memory format"] == "channels-last"
    assert subject.settings["autocast"] == ("bfloat16" if precision == "bf16" else "off")
    again = prepare(Cell(kind="latency", members=(MEMBER,), variant=Variant(threads=threads), batch=2))
    assert torch.equal(next(again.networks[0].parameters()), next(network.parameters()))
    assert torch.equal(again.inputs[0][0], image)


def test_members_with_metadata_get_some() -> None:
    member = {**MEMBER, "metadata": {"features": 14, "hidden": 8, "out": 4}}
    cell = Cell(kind="latency", members=(member,), variant=Variant(threads=torch.get_num_threads()))
    subject = prepare(cell)
    assert [each.shape[1] for each in subject.inputs[0]] == [3, 14]
    assert subject.forward(subject.networks[0], subject.inputs[0]).shape == (1, 2)


def test_the_allocator_is_tuned_on_glibc_and_recorded() -> None:
    code = "from benchmarks.subject import tune_allocator; print(tune_allocator())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1]).stdout  # fmt: skip
    glibc = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version")
    assert said.startswith("M_MMAP_MAX=0" if glibc else "default")
    assert callable(tune_allocator)


def test_drift_is_measured_against_plain_fp32() -> None:
    variant = Variant(precision="bf16", threads=torch.get_num_threads())
    found = drift(Cell(kind="drift", members=(MEMBER,), variant=variant, rules=QUICK).fields())
    assert 0 < found["drift"] < 0.1
    assert (found["images"], found["files"]) == (8, False)
    same = drift(
        Cell(kind="drift", members=(MEMBER,), variant=Variant(threads=torch.get_num_threads())).fields()
    )
    assert same["drift"] == 0.0


def linear(member: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * member.size**2, 2, bias=False))


def test_traffic_is_every_operand_and_result() -> None:
    cell = Cell(
        kind="memory", members=({**MEMBER, "size": 4},), builder=f"{__name__}:linear", variant=Variant()
    )
    image, weights, out = 48, 96, 2
    assert traffic_bytes(cell, 1) == 4 * (image + weights + out)
    assert traffic_bytes(cell, 5) == 4 * (5 * image + weights + 5 * out)
    half = Cell(kind="memory", members=cell.members, builder=cell.builder, variant=Variant(precision="bf16"))
    assert traffic_bytes(half, 1) == 2 * (image + weights + out)


def test_peak_memory_is_that_of_this_process() -> None:
    before = peak_rss()
    assert before > 10_000_000
    held = bytearray(os.urandom(1)) * (before + 100_000_000)
    assert peak_rss() > before + 90_000_000
    del held


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_peak_memory_is_not_handed_on_by_a_large_parent() -> None:
    code = "held = bytearray(b'x') * 600_000_000\nimport subprocess, sys\n" \
           "print(subprocess.run([sys.executable, '-c', sys.argv[1]], capture_output=True, text=True, check=True).stdout)"  # fmt: skip
    child = "from benchmarks.memory import peak_rss; print(peak_rss())"
    plain = int(_printed(child))
    assert int(_printed(code, child)) < plain + 100_000_000


def _printed(code: str, *given: str) -> str:
    run = subprocess.run([sys.executable, "-c", code, *given], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[1])  # fmt: skip
    return run.stdout


def test_other_processes_are_counted_and_this_one_is_not() -> None:
    others = Others()
    share = others.share()
    assert share is not None
    assert share >= 0
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        others = Others()
        with pytest.raises(subprocess.TimeoutExpired):
            busy.wait(1.5)
        found = others.share()
    finally:
        busy.kill()
        busy.wait()
    assert found is not None
    assert found > 0.3 / (os.cpu_count() or 1) / 2
