"""On a CUDA GPU: parity with the CPU, determinism, autocast drift, running out of memory, the driver.

`make gpu` runs these with torch, timm and pytest alone, without conftest.py, so nothing else may be imported here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks import drift, energy, memory, stopwatch
from benchmarks.cells import Cell, Variant
from benchmarks.subject import Subject, backing_off, prepare
from benchmarks.timing import QUICK
from reports import base
from zoo.errors import MachineError
from zoo.runtime import check

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ENTRIES = base.read()["entries"]
B3 = [each["card"]["members"][0] for each in ENTRIES if each["card"]["group"] in ("attention", "baseline")]
MEMBER: dict[str, Any] = B3[-1]


def cell(kind: str, member: dict[str, Any] = MEMBER, precision: Any = "fp32", batch: int = 2) -> Cell:
    variant = Variant(device="cuda", precision=precision)
    return Cell(kind=kind, members=(member,), variant=variant, batch=batch, rules=QUICK)


def needs(precision: Any) -> None:
    """Skips where this GPU has no such precision."""
    try:
        check("cuda", precision)
    except MachineError as error:
        pytest.skip(str(error))


def logits(subject: Subject, images: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return subject.forward(subject.networks[0], [subject.formatted(images)]).float().cpu()


@pytest.mark.parametrize("member", B3, ids=lambda member: member["name"])
def test_parity_with_the_cpu(member: dict[str, Any]) -> None:
    images = torch.rand(2, 3, member["size"], member["size"], generator=torch.Generator().manual_seed(1))
    on_gpu = logits(prepare(cell("latency", member)), images)
    on_cpu = logits(prepare(replace(cell("latency", member), variant=Variant(threads=4))), images)
    assert ((on_gpu - on_cpu).abs() <= 1e-4 * on_cpu.abs().clamp(min=1)).all()


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_the_same_pixels_give_the_same_bits(precision: str) -> None:
    needs(precision)
    subject = prepare(cell("latency", precision=precision))
    images = subject.inputs[0][0]
    assert torch.equal(logits(subject, images), logits(subject, images))


@pytest.mark.parametrize(
    ("precision", "most"), [("fp32", 1e-6), ("tf32", 0.05), ("bf16", 0.5), ("fp16", 0.5)]
)
def test_drift_of_each_precision(precision: str, most: float) -> None:
    needs(precision)
    found = drift.measure(cell("drift", precision=precision).fields())["drift"]
    assert found <= most
    assert (found > 0) == (precision != "fp32")


def test_a_batch_that_does_not_fit_is_halved_until_it_does() -> None:
    total = torch.cuda.get_device_properties(0).total_memory

    def attempt(batch: int) -> int:
        return torch.empty(batch, total // 16, dtype=torch.uint8, device="cuda").shape[0]

    found, batch = backing_off(64, attempt)
    assert found == batch
    assert batch < 16


def test_latency_is_timed_by_both_clocks() -> None:
    found = stopwatch.measure(cell("latency", batch=1).fields())
    assert len(found["samples_ms"]) == len(found["device_ms"]) >= 3
    for host, device in zip(found["samples_ms"], found["device_ms"], strict=True):
        assert 0 < device <= 1.05 * host
    # A container may lack the driver's library, and a slice of a GPU has no clock of its own.
    gpu = found["gpu"]
    if "reason" not in gpu:
        assert "clock_mhz" in gpu["reasons"] or gpu["clock_mhz"][1] > 0
        assert "temperature_c" in gpu["reasons"] or 0 < gpu["temperature_c"] < 120


def test_tf32_is_off_unless_asked_for() -> None:
    assert stopwatch.measure(cell("latency").fields())["settings"]["cuDNN TF32"] == "False"
    needs("tf32")
    assert stopwatch.measure(cell("latency", precision="tf32").fields())["settings"]["cuDNN TF32"] == "True"


def test_memory_is_read_from_torch_and_the_driver() -> None:
    small, large = (memory.measure(cell("memory", batch=batch).fields()) for batch in (1, 16))
    assert 0 < small["allocated"] < large["allocated"] <= large["reserved"]
    assert "nvml_reason" in large or large["nvml"] >= large["reserved"]


def test_energy_is_more_than_idle() -> None:
    found = energy.measure(cell("energy", batch=16).fields())
    assert found.get("reason") or found["joules"] > 0
