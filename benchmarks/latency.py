"""Quick latency: how long one forward pass of each network takes on this machine, roughly."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from benchmarks import worker
from benchmarks.cells import HOMES, Cell, Variant, key
from benchmarks.machine import Device, default_threads, fingerprint, resolve
from benchmarks.results import Latency
from benchmarks.samples import flags, summarise
from benchmarks.timing import QUICK
from zoo import cache
from zoo.card import Member

if TYPE_CHECKING:
    from torch import nn


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

    The latency scenario of `profile`, shortened: one round, a short warm-up and few samples, so
    every figure is flagged `quick`. Each network runs in a process that has computed nothing
    before, one after another; one that crashes, runs out of memory or hangs costs its own figure
    only. Figures of the standard assembly are kept for the next run on the same machine.

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
        answer = {"error": "another process cannot import its builder; put it into a module"}
        return [_latency(answer, chosen) for _ in members]
    standard = builder == worker.STANDARD
    variant = Variant(device=chosen, threads=threads or default_threads())
    cells = [
        Cell(
            kind="latency",
            members=(msgspec.to_builtins(member),),
            builder=builder,
            variant=variant,
            rules=QUICK,
        )
        for member in members
    ]
    names = [key(cell, fingerprint()) for cell in cells]
    asked = dict(zip(names, cells, strict=True))
    return cache.recall(
        names,
        Latency,
        lambda missing: _latencies({name: asked[name] for name in missing}, limit_s),
        fresh=fresh or not standard,
        lasting=lambda latency: standard and not latency.error,
        done=lambda index: done(members[index]),
    )


def _latencies(cells: Mapping[str, Cell], limit_s: int) -> Generator[tuple[str, Latency], None, None]:
    """Asks one worker as long as it lives, or for each network its own where a worker cannot copy itself."""
    left = deque(cells.items())
    while left:
        with worker.running(left[0][1].variant.threads) as ask:
            while left:
                name, cell = left.popleft()
                answer = ask(HOMES[cell.kind], cell.fields(), limit_s=limit_s, copy=True)
                yield name, _latency(answer, cell.variant.device)
                if answer.get("ended") or not worker.FORKS:
                    break


def _latency(answer: worker.Answer, device: str) -> Latency:
    measured = datetime.now(UTC).isoformat(timespec="seconds")
    if "error" in answer:
        return Latency(
            median_ms=None, error=answer["error"], device=device, measured=measured, machine=fingerprint()
        )
    reading = answer["result"]
    gpu = reading["gpu"]
    found = summarise([reading["samples_ms"]])
    return Latency(
        median_ms=found.typical,
        spread=found.iqr,
        samples_ms=tuple(reading["samples_ms"]),
        first_ms=reading["first_ms"],
        load_ms=reading["load_ms"],
        flags=flags(
            found.iqr,
            quick=True,
            settled=reading["settled"],
            others=reading["others"],
            throttled=gpu.get("throttled") or (),
            shared_gpu=bool(gpu.get("shared")),
        ),
        device=device,
        measured=measured,
        machine=replace(fingerprint(), settings=reading["settings"]),
    )
