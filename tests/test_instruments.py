"""What is read beside time: memory, energy, traffic, the driver, other processes. NVML is a fake here."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import ceilings, energy, memory, nvml, rapl, worker
from benchmarks import others as others_module
from benchmarks.cells import HOMES, Cell, Variant
from benchmarks.drift import measure as drift
from benchmarks.figures import NO_NUMBERS, timed
from benchmarks.lines import Line, Options, Target, ceiling_cells
from benchmarks.memory import peak_rss
from benchmarks.nvml import Gpu, Unavailable, Watch, together
from benchmarks.others import Others
from benchmarks.results import Row
from benchmarks.stopwatch import measure as time_of
from benchmarks.subject import Subject, autocast, backing_off, prepare, tune_allocator
from benchmarks.timing import QUICK
from benchmarks.traffic import traffic_bytes
from zoo.runtime import out_of_memory

MEMBER = {"name": "small", "backbone": "resnet18", "size": 32, "classes": ["MEL", "NV"], "melanoma": 0}
CELL = Cell(kind="latency", members=(MEMBER,), variant=Variant(), rules=QUICK)
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
            "index": 2,
            "limit_mw": 350_000,
            "persistence": 1,
            "compute_mode": 3,
        }
        self.answers = {**made, **answers}
        self.uuid = b""

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return int(self.answers.get("init", 0))

    def nvmlDeviceGetHandleByUUID(self, name: ctypes.c_char_p, _: Any) -> int:  # noqa: N802
        self.uuid = name.value or b""
        if self.uuid.startswith(self.answers.get("kind", b"GPU-")):
            return int(self.answers.get("found", 0))
        return 6

    def _give(self, key: str, pointer: Any) -> int:
        if key not in self.answers:
            return 3
        if isinstance(self.answers[key], Exception):
            raise self.answers[key]
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

    def nvmlDeviceGetIndex(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("index", found)

    def nvmlDeviceGetEnforcedPowerLimit(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("limit_mw", found)

    def nvmlDeviceGetPersistenceMode(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("persistence", found)

    def nvmlDeviceGetComputeMode(self, _: Any, found: Any) -> int:  # noqa: N802
        return self._give("compute_mode", found)

    def nvmlDeviceGetComputeRunningProcesses_v3(self, _: Any, count: Any, found: Any) -> int:  # noqa: N802
        if "processes" not in self.answers:
            return 3
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


def test_a_slice_of_a_gpu_is_found_by_its_own_kind_of_name() -> None:
    made = Driver(kind=b"MIG-")
    assert Gpu("1234", made).settings()["uuid"] == "MIG-1234"
    assert made.uuid == b"MIG-1234"
    with pytest.raises(Unavailable, match="nvmlDeviceGetHandleByUUID answers with error 6"):
        Gpu("1234", Driver(kind=b"neither"))
    with pytest.raises(Unavailable, match="answers with error 15"):  # The GPU is lost, and no slice of one.
        Gpu("1234", Driver(found=15))


SETTINGS = {
    "uuid": "GPU-1234",
    "index": 2,
    "power_limit_w": 350.0,
    "persistence": True,
    "compute_mode": "exclusive process",
}
LOOKS = {
    "clock_mhz": [1500, 1500],
    "temperature_c": 60,
    "slowed": "0x5",
    "throttled": ["power cap"],
    "shared": False,
}
ASKED = {
    "clock": ("clock_mhz", "nvmlDeviceGetClockInfo"),
    "temperature": ("temperature_c", "nvmlDeviceGetTemperature"),
    "reasons": ("slowed", "nvmlDeviceGetCurrentClocksThrottleReasons"),
    "processes": ("shared", "nvmlDeviceGetComputeRunningProcesses_v3"),
    "index": ("index", "nvmlDeviceGetIndex"),
    "limit_mw": ("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    "persistence": ("persistence", "nvmlDeviceGetPersistenceMode"),
    "compute_mode": ("compute_mode", "nvmlDeviceGetComputeMode"),
}


def test_what_a_driver_does_not_say_is_unavailable() -> None:
    gpu = Gpu("1234", Driver())
    del gpu._nvml.answers["energy_mj"]
    with pytest.raises(Unavailable, match="nvmlDeviceGetTotalEnergyConsumption answers with error 3"):
        gpu.energy_j()
    gpu._nvml = object()
    with pytest.raises(Unavailable, match="this driver has no nvmlDeviceGetTemperature"):
        gpu.temperature_c()
    with pytest.raises(Unavailable, match="nvmlInit_v2 answers with error 9"):
        Gpu("1234", Driver(init=9))


def test_a_watch_sees_which_gpu_it_is_why_it_is_slow_and_who_else_is_on_it(
    driver: Callable[..., Driver],
) -> None:
    driver(processes={os.getpid(): 5, 4711: 6})
    with Watch(CUDA) as watch:
        pass
    assert watch.seen() == {**SETTINGS, **LOOKS, "shared": True, "reasons": {}}


@pytest.mark.parametrize("key", ASKED)
@pytest.mark.parametrize("error", [None, ValueError("NULL pointer access")])
def test_a_reading_that_is_not_available_leaves_its_own_figure_out(
    driver: Callable[..., Driver], key: str, error: ValueError | None
) -> None:
    made = driver(processes={os.getpid(): 5})
    if error and key != "processes":
        made.answers[key] = error
    else:
        del made.answers[key]
    with Watch(CUDA) as watch:
        pass
    name, function = ASKED[key]
    lost = {name, "throttled"} if name == "slowed" else {name}
    seen = watch.seen()
    reasons = seen.pop("reasons")
    assert seen == {**SETTINGS, **LOOKS} | dict.fromkeys(lost)
    assert set(reasons) == {name}
    assert reasons[name].startswith(function)


def test_what_fails_now_and_then_is_told_by_the_other_looks(driver: Callable[..., Driver]) -> None:
    made = driver()
    with Watch(CUDA) as watch:
        pass
    del made.answers["temperature"]
    made.answers["clock"], made.answers["reasons"] = 1200, 0x40
    watch._poll()  # once more: it is over
    seen = watch.seen()
    assert (seen["temperature_c"], seen["clock_mhz"]) == (60, [1200, 1500])
    assert seen["throttled"] == ["power cap", "hardware thermal slowdown"]
    assert "temperature_c" not in seen["reasons"]


def test_processes_of_another_namespace_leave_unknown_who_is_on_a_gpu(driver: Callable[..., Driver]) -> None:
    driver(processes={1: 5, 4711: 6}, reasons=0x1)
    with Watch(CUDA) as watch:
        pass
    seen = watch.seen()
    assert (seen["shared"], seen["throttled"]) == (None, [])
    assert "container" in seen["reasons"]["shared"]


def test_rounds_are_told_as_one() -> None:
    first = {**SETTINGS, **LOOKS, "reasons": {}}
    second = {
        **first,
        "clock_mhz": [900, 1600],
        "temperature_c": None,
        "throttled": ["power brake"],
        "slowed": "0x80",
    }
    second |= {"shared": True, "reasons": {"temperature_c": "error 3"}}
    found = together([first, second])
    assert (found["clock_mhz"], found["temperature_c"], found["slowed"]) == ([900, 1600], 60, "0x85")
    assert (found["throttled"], found["shared"], found["reasons"]) == (["power cap", "power brake"], True, {})
    assert together([{}, {}]) == {}
    assert together([{"reason": "no driver"}]) == {"reason": "no driver"}


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


def test_memory_that_the_driver_does_not_tell_is_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Driver(processes={os.getpid(): 2**64 - 1, 7: 100})
    assert Gpu("1234", made).processes() == {os.getpid(): None, 7: 100}
    monkeypatch.setattr(memory, "gpu_of", lambda _: Gpu("1234", made))
    subject = prepare(
        Cell(kind="memory", members=(MEMBER,), variant=Variant(threads=torch.get_num_threads()))
    )
    assert memory._driver(subject) == {"nvml_reason": "the driver does not tell the memory of a process"}
    made.answers["processes"] = {os.getpid(): 12}
    assert memory._driver(subject) == {"nvml": 12}


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
    read = rapl.rapl(tmp_path)
    assert read() == 0.0
    (first / "energy_uj").write_text("100000")
    (second / "energy_uj").write_text("150000")
    assert read() == pytest.approx(0.25)
    assert read() == pytest.approx(0.25)


def test_the_platform_is_not_counted_beside_the_processors_in_it(tmp_path: Path) -> None:
    processor = package(tmp_path, "intel-rapl:0", 0)
    platform = package(tmp_path, "intel-rapl:1", 0)
    (processor / "name").write_text("package-0\n")
    (platform / "name").write_text("psys\n")
    read = rapl.rapl(tmp_path)
    for each in (processor, platform):
        (each / "energy_uj").write_text("500000")
    assert read() == pytest.approx(0.5)


def test_no_counter_is_a_reason_and_no_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rapl, "POWERCAP", tmp_path)
    found = energy.measure(Cell(kind="energy", members=(MEMBER,), variant=Variant(), rules=QUICK).fields())
    assert found == {"reason": "this machine shows no energy counter (RAPL)"}
    assert not rapl.readable()
    folder = package(tmp_path, "intel-rapl:0", 0)
    assert rapl.readable()
    (folder / "energy_uj").unlink()
    with pytest.raises(Unavailable, match="may not be read here"):
        rapl.rapl(tmp_path)
    assert not rapl.readable()


def metered(monkeypatch: pytest.MonkeyPatch, watts: Sequence[float], **others: Any) -> dict[str, Any]:
    """The energy of a small network by a made-up meter, whose power is another in each reading."""
    now = {"joules": 0.0, "at": 0.0, "reading": -1}
    reads = iter(range(100))

    def read() -> float:
        # Readings come in pairs: the start and the end of idle, of work, and of idle again.
        number = next(reads)
        here = time.monotonic()
        if number % 2:
            now["joules"] += watts[number // 2] * (here - now["at"])
        now["at"] = here
        return now["joules"]

    monkeypatch.setattr(energy, "meter", lambda _: ("made up", read))
    rules = replace(QUICK, energy_s=0.3)
    variant = Variant(threads=torch.get_num_threads())
    return energy.measure(
        Cell(kind="energy", members=(MEMBER,), variant=variant, batch=3, rules=rules, **others).fields()
    )


def test_idle_power_is_the_mean_of_before_and_after(monkeypatch: pytest.MonkeyPatch) -> None:
    found = metered(monkeypatch, (20.0, 100.0, 40.0))
    about = [pytest.approx(each, rel=0.02) for each in (20.0, 40.0)]
    assert [found["idle_before_w"], found["idle_after_w"]] == about
    assert found["batch"] == 3
    assert found["images"] % 3 == 0
    assert found["images"] > 0
    assert found["joules"] == pytest.approx(70.0 * found["seconds"] / found["images"], rel=0.02)
    assert found["unsure"] == pytest.approx(10.0 * found["seconds"] / found["images"], rel=0.02)
    assert found["gpu"] == {}


@pytest.mark.parametrize("busy_in", [0, 1, 2])
def test_others_count_in_every_reading_of_the_energy(monkeypatch: pytest.MonkeyPatch, busy_in: int) -> None:
    shares = [0.0, 0.0, 0.0]
    shares[busy_in] = 0.4
    told = iter(shares)
    monkeypatch.setattr(Others, "share", lambda _: next(told))
    assert metered(monkeypatch, (1.0, 2.0, 1.0))["others"] == 0.4


def test_a_gpu_is_watched_while_its_ceilings_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = {"throttled": ["power cap"], "shared": True}
    monkeypatch.setattr(Watch, "seen", lambda _: watched)
    monkeypatch.setattr(ceilings, "_QUICK", (8, (1, 2, 4), 1))
    variant = Variant(threads=torch.get_num_threads())
    found = ceilings.measure(Cell(kind="ceilings", variant=variant, rules=replace(QUICK, seconds=0.01)).fields())  # fmt: skip
    assert found["gpu"] == watched
    assert min(found["matmul"], found["convolution"], found["copy"]) > 0


def test_ceilings_of_a_gpu_are_as_large_in_a_quick_run() -> None:
    """512 x 512 are done before a large GPU is asked for more: that is no ceiling."""
    assert ceilings.sizes("cuda", quick=True) == ceilings.sizes("cuda", quick=False)
    short, whole = (ceilings.sizes("cpu", quick=quick) for quick in (True, False))
    assert short < whole
    cells = ceiling_cells([Line(target=Target(name="t", title="T", networks=()), network=None, cell=CELL)], Options(rules=QUICK))  # fmt: skip
    assert [cell.rules.samples for cell in cells] == [10], "as the page on columns says"
    assert cells[0].rules.quick


@pytest.mark.parametrize("measure", [energy.measure, memory.measure])
def test_memory_and_energy_are_of_the_batch_that_is_asked_for_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch, measure: Callable[..., Any]
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(energy, "meter", lambda _: ("made up", lambda: 0.0))
    monkeypatch.setattr(Subject, "forward", full)
    variant = Variant(threads=torch.get_num_threads())
    cell = Cell(kind="energy", members=(MEMBER,), variant=variant, batch=4, rules=QUICK)
    with pytest.raises(torch.OutOfMemoryError):
        measure(cell.fields())


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


@pytest.mark.parametrize("kind", ["latency", "drift", "ceilings"])
def test_a_row_is_not_measured_in_another_precision_than_it_says(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    variant = Variant(device="cuda", precision="tf32", threads=torch.get_num_threads())
    cell = Cell(kind=kind, members=(MEMBER,), variant=variant, rules=QUICK)
    answer = worker._called(HOMES[kind], cell.fields(), None)
    said = "precision tf32: Tesla T4 (compute capability 7.5) computes in fp32 instead; choose fp32 or fp16"
    assert answer == {"error": said}


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


OVERFLOWS = """
import torch
from torch import nn

def huge(member):
    rows = torch.tensor({rows})
    layer = nn.Linear(3 * member.size**2, len(rows))
    layer.weight.data[:] = rows[:, None]
    return nn.Sequential(nn.Flatten(), layer)
"""


@pytest.mark.parametrize(
    ("name", "rows", "precision"),
    [
        ("all_classes", "[1e4, 1e4]", "fp16"),
        ("one_of_two", "[1.0, -1e4]", "fp16"),
        ("the_only_class", "[1e4]", "fp16"),
        ("no_numbers_at_all", "[float('nan')] * 2", "fp32"),
    ],
)
def test_outputs_that_are_no_numbers_have_a_reason_and_no_drift(
    name: str, rows: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half precision ends at 65,504; where fp32 is no number either, that is what is told."""
    (tmp_path / f"{name}.py").write_text(OVERFLOWS.format(rows=rows))
    monkeypatch.syspath_prepend(tmp_path)
    variant = Variant(precision="fp16", threads=torch.get_num_threads())
    cell = Cell(kind="drift", members=(MEMBER,), builder=f"{name}:huge", variant=variant, rules=QUICK)
    found = drift(cell.fields())
    wanted = replace(variant, precision=precision).label
    reason = f"outputs are no numbers (NaN or infinite) in {wanted}"
    assert found == {"reason": reason, "broken": True, "images": 8, "files": False}


ROW = Row(
    system="a", title="A", scenario="latency", device="cpu", precision="fp32", memory_format="contiguous",
    threads=1, compiled=False,
)  # fmt: skip


def test_times_of_outputs_that_are_no_numbers_are_flagged_in_any_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in fp32, contiguous, eager, which has no accuracy of its own."""
    (tmp_path / "no_output.py").write_text(OVERFLOWS.format(rows="[1.0, float('inf')]"))
    (tmp_path / "some_output.py").write_text(OVERFLOWS.format(rows="[1.0, 1.0]"))
    monkeypatch.syspath_prepend(tmp_path)
    variant = Variant(threads=torch.get_num_threads())
    for builder, flagged in (("no_output:huge", True), ("some_output:huge", False)):
        cell = Cell(kind="latency", members=(MEMBER,), builder=builder, variant=variant, rules=QUICK)
        row = timed(ROW, cell, [{"result": time_of(cell.fields())}])
        assert (NO_NUMBERS in row.flags) == flagged


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


class Stubborn(nn.Module):
    """A network of somebody else's that looks at values, of which the meta device has none."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.device.type == "meta":
            raise KeyError("no values")
        return images.flatten(1)[:, :2]


def stubborn(_: Any) -> nn.Module:
    return Stubborn()


def test_bytes_that_cannot_be_counted_cost_no_other_figure_of_the_memory() -> None:
    variant = Variant(threads=torch.get_num_threads())
    cell = Cell(kind="memory", members=(MEMBER,), builder=f"{__name__}:stubborn", variant=variant)
    found = memory.measure(cell.fields())
    assert found["traffic"] is None
    assert found["peak_rss"] > 10_000_000


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


@pytest.mark.parametrize(
    ("allowed", "share"),
    [({3, 40}, 0.75), (set(range(64)), 1.5 / 64), ({5, 6}, 0.0), ({3, 99}, 1.5 / 64)],
    ids=["contended", "all", "idle", "a container's own numbers"],
)
def test_others_are_counted_on_the_processors_that_may_be_used(
    allowed: set[int], share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In 10 s others take all of processor 3 and half of processor 40, of 64."""
    tick = os.sysconf("SC_CLK_TCK")

    def told(seconds: int) -> str:
        busy = {number: seconds * tick * {3: 2, 40: 1}.get(number, 0) // 2 for number in range(64)}
        counts = [("cpu", sum(busy.values())), *((f"cpu{number}", each) for number, each in busy.items())]
        return "".join(f"{name} {each} 0 0 77 0 0 0 0 0 0\n" for name, each in counts) + "intr 1 2\n"

    now = 100.0
    monkeypatch.setattr(others_module, "STAT", tmp_path / "stat")
    monkeypatch.setattr(others_module, "_own_s", lambda: 0.0)
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    (tmp_path / "stat").write_text(told(0))
    others = Others()
    (tmp_path / "stat").write_text(told(10))
    now = 110.0
    assert others.share() == pytest.approx(share)
