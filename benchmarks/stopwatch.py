"""The time of a cell's steps in this process, by the protocol of `benchmarks.timing`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor

from benchmarks.cells import from_fields
from benchmarks.memory import peak_rss
from benchmarks.nvml import Watch
from benchmarks.others import Others
from benchmarks.subject import Subject, backing_off, member_of, prepare
from benchmarks.timing import sample, timed, warm_up
from benchmarks.worker import imported


def measure(fields: Mapping[str, Any]) -> dict[str, Any]:
    """One round of a cell.

    Returns:
        `samples_ms` (one step each), `device_ms` (the same on the GPU's own clock), `images` per step,
        `batch` as it fitted, `load_ms`, `first_ms` (the first step, which is not among the samples),
        `warm_steps`, `settled`, `others` (share of the processors that other processes took), `finite` (whether
        outputs are numbers; of a whole protocol its members say it),
        `gpu` (clocks, temperature, reasons for slowing down), `peak_rss` and `settings`.
    """
    cell = from_fields(fields)
    subject = prepare(cell)
    with torch.inference_mode():
        if cell.kind == "sweep":  # The sweep wants to know what does not fit.
            reading, batch = _round(subject, cell.batch), cell.batch
        else:
            reading, batch = backing_off(cell.batch, lambda batch: _round(subject, batch))
    return {**reading, "batch": batch, "load_ms": subject.load_ms, "settings": subject.settings}


def _round(subject: Subject, batch: int) -> dict[str, Any]:
    rules = subject.cell.rules
    with _steps(subject, batch) as (step, images):
        once, _ = _waiting(subject, step)
        first_ms = timed(once)
        warm_steps, settled = warm_up(once, rules)
        repeats = 1
        if subject.cell.kind in ("throughput", "sweep"):
            repeats = math.ceil(rules.block_s / max(timed(once) / 1e3, 1e-6))
        block, events = _waiting(subject, step, repeats)
        others = Others()
        with Watch(subject.device) as watch:
            samples = sample(block, rules)
        share = others.share()
        outputs = step()
    return {
        "samples_ms": samples,
        "device_ms": [start.elapsed_time(end) for start, end in events],
        "images": images * repeats,
        "first_ms": first_ms,
        "warm_steps": warm_steps,
        "settled": settled,
        "others": share,
        "finite": not isinstance(outputs, Tensor) or bool(outputs.isfinite().all()),
        "gpu": watch.seen(),
        "peak_rss": peak_rss(),
    }


@contextmanager
def _steps(subject: Subject, batch: int) -> Iterator[tuple[Callable[[], object], int]]:
    """What one step is, and how many images it takes; a step does not wait for the device by itself."""
    cell = subject.cell
    if cell.kind == "protocol":
        yield lambda: _lesion(subject), 1
    elif cell.kind == "end-to-end":
        with _files(subject, batch) as batches:
            yield lambda: subject.forward(subject.networks[0], next(batches)), batch
    else:
        inputs = subject.pixels(cell.members[0], batch)
        yield lambda: subject.forward(subject.networks[0], inputs), batch


def _waiting(
    subject: Subject, step: Callable[[], object], repeats: int = 1
) -> tuple[Callable[[], None], list[tuple[torch.cuda.Event, torch.cuda.Event]]]:
    """Some steps and then a wait for the device, which is idle before them.

    Returns:
        What does that, and the GPU's own start and end of each time it was done.
    """
    events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def on_the_cpu() -> None:
        for _ in range(repeats):
            step()

    def on_the_gpu() -> None:
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        start.record()
        on_the_cpu()
        end.record()
        torch.cuda.synchronize(subject.device)
        events.append((start, end))

    return (on_the_gpu if subject.device.type == "cuda" else on_the_cpu), events


def _lesion(subject: Subject) -> None:
    """One lesion image through every member, fold and view, one pass after another."""
    folds = subject.cell.folds
    for index, network in enumerate(subject.networks):
        for _ in range(subject.cell.views):
            subject.forward(network, subject.inputs[index // folds])


@contextmanager
def _files(subject: Subject, batch: int) -> Iterator[Iterator[list[Tensor]]]:
    """Batches of image files without end, decoded in threads while the batch before is computed."""
    cell = subject.cell
    member = cell.members[0]
    read, described = imported(cell.reader), member_of(member, cell.reader)
    metadata = subject.pixels(member, batch)[1:]

    def decoded(pool: ThreadPoolExecutor) -> Iterator[Sequence[Any]]:
        paths = cycle(cell.images)
        ahead = [pool.submit(read, path, described) for path in islice(paths, batch)]
        while True:
            ready = [each.result() for each in ahead]
            ahead = [pool.submit(read, path, described) for path in islice(paths, batch)]
            yield ready

    with ThreadPoolExecutor(cell.variant.threads) as pool:
        yield (
            [subject.formatted(torch.stack([torch.as_tensor(each) for each in ready])), *metadata]
            for ready in decoded(pool)
        )
