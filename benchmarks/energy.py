"""Energy of a cell: a pass of its own, idle power subtracted, where the machine counts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.cells import from_fields
from benchmarks.nvml import Unavailable, gpu_of
from benchmarks.subject import backing_off, prepare

POWERCAP = Path("/sys/class/powercap")
"""Where Linux shows the energy counters (RAPL) of processors."""

Meter = Callable[[], float]
"""Joules since any fixed moment."""


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Energy of forward passes over some time.

    Returns:
        `joules` above idle per image, `idle_w`, `counter`, `seconds`, `images` and `batch`; or `reason`,
        where nothing here counts energy.
    """
    cell = from_fields(fields)
    subject = prepare(cell)
    try:
        counter, read = meter(subject.device)
    except Unavailable as error:
        return {"reason": str(error)}
    subject.synchronize()
    idle_w = watts(read, lambda: time.sleep(cell.rules.energy_s / 6))
    network = subject.networks[0]

    def attempt(batch: int) -> dict[str, Any]:
        inputs, images = subject.pixels(cell.members[0], batch), 0
        subject.forward(network, inputs)
        subject.synchronize()
        start, before = time.monotonic(), read()
        while (seconds := time.monotonic() - start) < cell.rules.energy_s:
            subject.forward(network, inputs)
            subject.synchronize()
            images += batch
        return {
            "joules": above_idle(read() - before, idle_w, seconds) / images,
            "seconds": seconds,
            "images": images,
        }

    with torch.inference_mode():
        found, batch = backing_off(cell.batch, attempt)
    return {**found, "idle_w": idle_w, "counter": counter, "batch": batch}


def above_idle(joules: float, idle_w: float, seconds: float) -> float:
    """What work cost beyond what the idle machine would have used.

    >>> above_idle(100.0, 2.0, 30.0)
    40.0
    """
    return joules - idle_w * seconds


def watts(read: Meter, wait: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> float:
    """Mean power over a wait."""
    start, before = clock(), read()
    wait()
    return (read() - before) / (clock() - start)


def meter(device: torch.device) -> tuple[str, Meter]:
    """What counts the energy of a device: its name, and the reading.

    Raises:
        Unavailable: Nothing does, or it may not be read.
    """
    if device.type == "cuda":
        gpu = gpu_of(device)
        gpu.energy_j()
        return "NVML (the whole GPU)", gpu.energy_j
    return "RAPL (all processor packages)", rapl(POWERCAP)


def rapl(folder: Path) -> Meter:
    """Energy of all processor packages.

    The counters wrap around; the meter must be read more often than they do (minutes).

    Raises:
        Unavailable: There are none, or they may not be read.
    """
    packages = sorted(folder.glob("intel-rapl:[0-9]*"))
    packages = [each for each in packages if each.name.count(":") == 1]
    if not packages:
        raise Unavailable("this machine shows no energy counter (RAPL)")
    try:
        ranges = [int((each / "max_energy_range_uj").read_text()) for each in packages]
        last = [int((each / "energy_uj").read_text()) for each in packages]
    except OSError as error:
        raise Unavailable(
            f"the energy counter (RAPL) may not be read here ({error.strerror}); it needs root"
        ) from error
    total = 0

    def read() -> float:
        nonlocal total
        for index, package in enumerate(packages):
            now = int((package / "energy_uj").read_text())
            total += (now - last[index]) % (ranges[index] + 1)
            last[index] = now
        return total / 1e6

    return read
