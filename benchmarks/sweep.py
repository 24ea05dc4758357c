"""Looks for the batch at which a network passes most images per second."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.allowance import memory_left
from benchmarks.cells import Cell
from benchmarks.figures import pass_ms
from benchmarks.samples import CHOICE
from benchmarks.timing import QUICK, SWEEP

LARGEST = {"cpu": 64, "cuda": 1024}
"""Largest batch that is tried."""

GAIN = 1.02
"""A batch is better if it passes at least 2% more images per second than the best before it."""

_PATIENCE = 2
"""So many batches in a row that are not better end the sweep."""


class Sweep(NamedTuple):
    """What a sweep found.

    Attributes:
        batch: The smallest batch whose rate is near the best; 1 where even that failed.
        found: Images per second by batch.
        end: Why it ended.
    """

    batch: int
    found: dict[int, float]
    end: str


def sweep(cell: Cell, take: Callable[[Cell], dict[str, Any]], available: int | None = None) -> Sweep:
    """Doubles the batch until the memory is full or two batches in a row bring no gain.

    Args:
        cell: Whose network, in the throughput scenario.
        take: Measures a cell; each batch in a process of its own.
        available: Memory of the machine that a process on the CPU may fill, in bytes.
    """
    found: dict[int, float] = {}
    best, worse, batch = 1, 0, 1
    while batch <= LARGEST[cell.variant.device]:
        answer = take(step_of(cell, batch))
        if "error" in answer:
            return Sweep(_chosen(found), found, f"batch {batch}: {answer['error']}")
        reading = answer["result"]
        found[batch] = 1e3 * batch / pass_ms("sweep", reading)
        worse = 0 if batch == 1 or found[batch] >= GAIN * found[best] else worse + 1
        if not worse:
            best = batch
        if worse == _PATIENCE:
            return Sweep(_chosen(found), found, f"no gain after batch {best}")
        # A process that fills the memory of a CPU is not refused it but killed, or the machine swaps.
        if cell.variant.device == "cpu" and available and 2 * reading["peak_rss"] > available:
            return Sweep(_chosen(found), found, f"batch {2 * batch} might not fit into memory")
        batch *= 2
    return Sweep(_chosen(found), found, f"batch {LARGEST[cell.variant.device]} is the largest tried")


def _chosen(found: Mapping[int, float]) -> int:
    least = (1 - CHOICE) * max(found.values(), default=0.0)
    return min((batch for batch, rate in found.items() if rate >= least), default=1)


def step_of(cell: Cell, batch: int) -> Cell:
    """What a sweep measures of a cell at one batch."""
    return cell.of("sweep", batch=batch, rules=QUICK if cell.rules.quick else SWEEP)


def available_memory() -> int | None:
    """Bytes that processes here may still fill, by the machine and by control groups; None where nothing says it."""
    return min((each for each in (_of_the_machine(), memory_left()) if each is not None), default=None)


def _of_the_machine() -> int | None:
    try:
        found = re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(encoding="ascii"))
        return int(found[1]) << 10 if found else None
    except OSError:
        pages = "SC_PHYS_PAGES"
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages) // 2 if pages in os.sysconf_names else None
