"""Quick latency: how long one forward pass of each network takes on this machine, roughly."""

from __future__ import annotations

import signal
import statistics
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING, Literal

import msgspec

from benchmarks import cache, worker
from benchmarks.machine import default_threads, fingerprint
from benchmarks.results import Latency
from zoo.card import Member
from zoo.errors import MachineError

if TYPE_CHECKING:
    from torch import nn

Device = Literal["auto", "cpu", "cuda"]

NOISY, INVALID = 0.10, 0.25
"""Spreads (interquartile range / median) above which a figure is flagged."""

_CODE = ("benchmarks.timing", "benchmarks.stopwatch", "benchmarks.worker", "zoo.networks", "zoo.attention")
_WARM_UP_S = 0.2
_SAMPLES = 3
_SECONDS = 1.0


def quick_latency(
    members: Sequence[Member],
    build: Callable[[Member], nn.Module] | None = None,
    *,
    device: Device = "auto",
    threads: int | None = None,
    limit_s: float = 180,
    fresh: bool = False,
    progress: Callable[[Member], None] | None = None,
) -> list[Latency]:
    """Times single forward passes: batch 1, fp32, eager, seeded random weights and pixels.

    Each network runs in a fresh process, one after another; one that crashes, runs out of memory
    or hangs costs its own figure only. The warm-up is short and samples are few, so every figure
    is flagged `quick`. Figures are kept for the next run on the same machine.

    Args:
        members: Networks of cards; those that agree in all but names are timed once.
        build: Makes them; the standard assembly where None.
        device: `auto` is CUDA where there is a GPU that torch can use.
        threads: Threads of an operator on the CPU; the physical cores where None.
        limit_s: Seconds after which a network is given up.
        fresh: Measure again what was kept.
        progress: Called with each member when its figure is there.

    Returns:
        One latency per member, in their order.

    Raises:
        MachineError: The device is not there.
    """
    chosen, done = resolve(device), progress or (lambda _: None)
    builder = worker.STANDARD if build is None else worker.name(build)
    found: dict[str, Latency] = {}
    latencies = []
    for member in members:
        request = worker.Time(
            member=member,
            builder=builder or "",
            device=chosen,
            threads=threads or default_threads(),
            warm_up_s=_WARM_UP_S,
            samples=_SAMPLES,
            seconds=_SECONDS,
        )
        if builder == worker.STANDARD:
            name = _key(request)
            if name not in found:
                found[name] = _kept_or_timed(name, request, limit_s, fresh)
            latencies.append(found[name])
        elif builder:
            latencies.append(_timed(request, limit_s))
        else:
            latencies.append(
                _latency(chosen, error="a fresh process cannot import its builder; put it into a module")
            )
        done(member)
    return latencies


def resolve(device: Device) -> Literal["cpu", "cuda"]:
    """The device that is meant.

    Raises:
        MachineError: It is not there.
    """
    if device == "cpu" or (device == "auto" and not fingerprint().gpus):
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "auto":
        return "cpu"
    raise MachineError(
        f"device cuda: torch {torch.__version__} finds no CUDA GPU here; choose cpu or auto, "
        "or install a GPU build of torch and its driver"
    )


def summarise(samples_ms: Sequence[float]) -> tuple[float, float, tuple[str, ...]]:
    """Median, spread (interquartile range / median) and flags of some samples.

    >>> summarise([10.0, 10.0, 10.0, 13.0, 14.0])
    (10.0, 0.3, ('quick', 'invalid'))
    """
    low, median, high = statistics.quantiles(samples_ms, n=4, method="inclusive")
    spread = (high - low) / median
    flags = ("invalid",) if spread > INVALID else ("noisy",) if spread > NOISY else ()
    return median, spread, ("quick", *flags)


def _key(request: worker.Time) -> str:
    asked = msgspec.structs.asdict(request) | {"member": cache.specification(request.member)}
    return cache.key("latency", asked, fingerprint(), code=_CODE, packages=())


def _kept_or_timed(name: str, request: worker.Time, limit_s: float, fresh: bool) -> Latency:
    kept = None if fresh else cache.load(name, Latency)
    if kept:
        return kept
    latency = _timed(request, limit_s)
    if not latency.error:
        cache.keep(name, latency)
    return latency


def _timed(request: worker.Time, limit_s: float) -> Latency:
    try:
        run = worker.ask(request, limit_s)
    except TimeoutExpired:
        return _latency(request.device, error=f"no figure within {limit_s:g} s")
    if run.returncode:
        return _latency(request.device, error=_reason(run.returncode, run.stderr))
    return _latency(request.device, timing=msgspec.json.decode(run.stdout, type=worker.Timing))


def _reason(code: int, stderr: bytes) -> str:
    """Why a worker ended without an answer, on one line."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    lines = [line.strip() for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"ended with exit code {code}"


def _latency(device: str, *, timing: worker.Timing | None = None, error: str = "") -> Latency:
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    if timing is None:
        return Latency(median_ms=None, error=error, device=device, measured=measured, machine=fingerprint())
    median_ms, spread, flags = summarise(timing.samples_ms)
    return Latency(
        median_ms=median_ms,
        spread=spread,
        samples_ms=timing.samples_ms,
        first_ms=timing.first_ms,
        load_ms=timing.load_ms,
        flags=flags,
        device=device,
        measured=measured,
        machine=msgspec.structs.replace(fingerprint(), settings=timing.settings),
    )
