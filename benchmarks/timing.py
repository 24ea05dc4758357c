"""Quick latency: how long one forward pass of each network takes on this machine, roughly."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

from benchmarks import worker
from benchmarks.machine import default_threads, fingerprint
from benchmarks.results import Latency
from zoo import cache
from zoo.card import Member
from zoo.errors import MachineError

if TYPE_CHECKING:
    from torch import nn

Device = Literal["auto", "cpu", "cuda"]

NOISY, INVALID = 0.10, 0.25
"""Spreads (interquartile range / median) above which a figure is flagged."""

_CODE = ("benchmarks.timing", "benchmarks.stopwatch", "benchmarks.worker", "zoo.networks", "zoo.attention")
_ENDED = worker.Failure("its process ended without an answer")
_WARM_UP_S = 0.3
_SAMPLES = 3
_SECONDS = 1.0


def quick_latency(
    members: Sequence[Member],
    build: Callable[[Member], nn.Module] | None = None,
    *,
    device: Device = "auto",
    threads: int | None = None,
    limit_s: int = 180,
    fresh: bool = False,
    progress: Callable[[Member], None] | None = None,
) -> list[Latency]:
    """Times single forward passes: batch 1, fp32, eager, seeded random weights and pixels.

    Each network runs in a process that has computed nothing before, one after another; one that
    crashes, runs out of memory or hangs costs its own figure only. The warm-up is short and samples
    are few, so every figure is flagged `quick`. Figures of the standard assembly are kept for the
    next run on the same machine.

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
    if builder is None:
        why = worker.Failure("another process cannot import its builder; put it into a module")
        return [_latency(why, chosen) for _ in members]
    standard = builder == worker.STANDARD
    requests = [
        worker.Time(
            member=member,
            builder=builder,
            device=chosen,
            threads=threads or default_threads(),
            warm_up_s=_WARM_UP_S,
            samples=_SAMPLES,
            seconds=_SECONDS,
            limit_s=limit_s,
        )
        for member in members
    ]
    names = [_key(request, standard) for request in requests]
    asked = dict(zip(names, requests, strict=True))
    return cache.recall(
        names,
        Latency,
        lambda missing: _latencies({name: asked[name] for name in missing}),
        fresh=fresh or not standard,
        lasting=lambda latency: standard and not latency.error,
        done=lambda index: done(members[index]),
    )


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


def _key(request: worker.Time, standard: bool) -> str:
    member = cache.specification(request.member) if standard else request.member
    asked = msgspec.structs.asdict(request) | {"member": member}
    return cache.key("latency", asked, fingerprint(), code=_CODE)


def _latencies(requests: Mapping[str, worker.Time]) -> Generator[tuple[str, Latency], None, None]:
    """Asks one worker for all, or each its own where a worker cannot copy itself."""
    items = list(requests.items())
    for batch in [items] if worker.FORKS else [[item] for item in items]:
        with worker.running(batch[0][1].threads) as ask:
            for name, request in batch:
                answer = ask(request)
                reply = msgspec.json.decode(answer, type=worker.Reply) if answer else _ENDED
                yield name, _latency(reply, request.device)


def _latency(reply: worker.Reply, device: str) -> Latency:
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    if isinstance(reply, worker.Failure):
        return Latency(
            median_ms=None, error=reply.reason, device=device, measured=measured, machine=fingerprint()
        )
    median_ms, spread, flags = summarise(reply.samples_ms)
    return Latency(
        median_ms=median_ms,
        spread=spread,
        samples_ms=reply.samples_ms,
        first_ms=reply.first_ms,
        load_ms=reply.load_ms,
        flags=flags,
        device=device,
        measured=measured,
        machine=msgspec.structs.replace(fingerprint(), settings=reply.settings),
    )
