"""Energy of a cell: a pass of its own, idle power subtracted, where the machine counts it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch

from benchmarks import rapl
from benchmarks.cells import from_fields
from benchmarks.nvml import Unavailable, Watch, gpu_of
from benchmarks.others import Others
from benchmarks.rapl import Meter
from benchmarks.subject import prepare
from benchmarks.timing import Rules

IDLE = 1 / 6
"""Seconds over which idle power is read, before the work and after it, for each second of work."""

PAUSE = 1 / 30
"""The same of the pause before each reading of idle power, in which counters catch up with what was done."""


class Span(NamedTuple):
    """What was counted while something was done.

    Attributes:
        joules: Energy of the whole device.
        seconds: How long it took.
        others: Share of the processors that other processes took meanwhile; None where nothing counts it.
    """

    joules: float
    seconds: float
    others: float | None

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Energy of forward passes over some time, of the batch that is asked for: too little memory is an error.

    Returns:
        `joules` above idle per image, `unsure` (how far the change of the idle power makes that unsure),
        `idle_before_w` and `idle_after_w`, `counter`, `seconds`, `images`, `batch`, `others` (the largest share of the
        processors that other processes took during any of the readings) and `gpu` (clocks, temperature, reasons for
        slowing down, others on it); or `reason`, where nothing here counts energy.
    """
    cell = from_fields(fields)
    subject = prepare(cell)
    try:
        counter, read = meter(subject.device)
    except Unavailable as error:
        return {"reason": str(error)}
    network, inputs = subject.networks[0], subject.pixels(cell.members[0], cell.batch)

    def step() -> None:
        subject.forward(network, inputs)
        subject.synchronize()

    with torch.inference_mode():
        step()  # What is set up or compiled in the first pass is no part of its energy.
        with Watch(subject.device) as watch:
            before = resting(read, cell.rules)
            steps: list[int] = []
            work = during(read, lambda: steps.append(repeated(step, cell.rules.energy_s)))
            after = resting(read, cell.rules)
    images = sum(steps) * cell.batch
    shares = [each.others for each in (before, work, after) if each.others is not None]
    return {
        **per_image(work, before.watts, after.watts, images),
        "idle_before_w": before.watts,
        "idle_after_w": after.watts,
        "counter": counter,
        "seconds": work.seconds,
        "images": images,
        "batch": cell.batch,
        "others": max(shares, default=None),
        "gpu": watch.seen(),
    }


def per_image(work: Span, before_w: float, after_w: float, images: int) -> dict[str, float]:
    """Energy of an image above what the idle machine would have used, and how far that is unsure.

    Idle power is the mean of what was read before and after; it may have been either.

    >>> per_image(Span(100.0, 10.0, None), 1.0, 3.0, images=4)
    {'joules': 20.0, 'unsure': 2.5}
    """
    idle_w = (before_w + after_w) / 2
    return {
        "joules": (work.joules - idle_w * work.seconds) / images,
        "unsure": abs(after_w - before_w) / 2 * work.seconds / images,
    }


def during(read: Meter, work: Callable[[], object], clock: Callable[[], float] = time.monotonic) -> Span:
    """What a meter counts while something is done."""
    others, start, before = Others(), clock(), read()
    work()
    joules, seconds = read() - before, clock() - start
    return Span(joules, seconds, others.share())


def resting(read: Meter, rules: Rules) -> Span:
    """What a meter counts while nothing is done, after a pause."""
    time.sleep(PAUSE * rules.energy_s)
    return during(read, lambda: time.sleep(IDLE * rules.energy_s))


def repeated(step: Callable[[], object], seconds: float) -> int:
    """Steps until so many seconds are over: how many they were."""
    steps, start = 0, time.monotonic()
    while time.monotonic() - start < seconds:
        step()
        steps += 1
    return steps


def meter(device: torch.device) -> tuple[str, Meter]:
    """What counts the energy of a device: its name, and the reading.

    Raises:
        Unavailable: Nothing does, or it may not be read.
    """
    if device.type == "cuda":
        gpu = gpu_of(device)
        gpu.energy_j()
        return "NVML (the whole GPU)", gpu.energy_j
    return "RAPL (all processor packages)", rapl.rapl(rapl.POWERCAP)
