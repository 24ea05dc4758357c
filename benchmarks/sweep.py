"""Looks for the batch at which a network passes most images per second."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.allowance import memory_left
from benchmarks.cells import Cell
from benchmarks.figures import pass_ms
from benchmarks.samples import CHOICE
from benchmarks.taking import Taker
from benchmarks.timing import QUICK, SWEEP, Rules

LARGEST = {"cpu": 64, "cuda": 1024}
"""Largest batch that is tried."""

GAIN = 1.02
"""A batch is better if it passes at least 2% more images per second than the best before it."""

_PATIENCE = 2
"""So many batches in a row that are not better end the sweep."""

_TIMES = 3
"""So often a sweep goes through its batches, in turn with those of other networks: a slow minute falls on none alone."""


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


class Turn(NamedTuple):
    """What a sweep found when it went through the batches once.

    Attributes:
        found: Images per second by batch.
        end: Why there are no more; empty where more gained nothing.
    """

    found: dict[int, float]
    end: str


def keep(cell: Cell, found: Sweep, taker: Taker) -> None:
    """Keeps what a sweep of a cell found, for a run that is resumed.

    Its rounds are of the batch that was chosen, and another sweep may choose another: what failed is not kept
    and would be tried again, and more or less memory may be free by then.
    """
    taker.keep(_choice(cell), found._asdict())


def kept(cell: Cell, taker: Taker) -> Sweep | None:
    """What a sweep of a cell found in an earlier run; None where none came to its end."""
    found = taker.kept(_choice(cell))
    if found is None:
        return None
    # Names in JSON are words.
    return Sweep(found["batch"], {int(batch): rate for batch, rate in found["found"].items()}, found["end"])


def _choice(cell: Cell) -> Cell:
    return cell.of("choice", batch=1)


def times(rules: Rules) -> int:
    """How often a sweep goes through its batches."""
    return 1 if rules.quick else _TIMES


def merged(turns: Sequence[Turn]) -> Sweep:
    """What a sweep found in all of its turns, by the best rate of each batch.

    Other work makes a short run slower, never faster, and must decide neither the batch nor where the search ends.
    """
    found: dict[int, float] = {}
    for turn in turns:
        found |= {batch: max(rate, found.get(batch, 0.0)) for batch, rate in turn.found.items()}
    found = dict(sorted(found.items()))
    farthest = max(turns, key=lambda turn: len(turn.found))
    return Sweep(_chosen(found), found, farthest.end or f"no gain after batch {_last_gain(found)}")


def once(
    cell: Cell, turn: int, take: Callable[[Cell, int], dict[str, Any]], available: int | None = None
) -> Turn:
    """Doubles the batch until the memory is full or two batches in a row bring no gain.

    Args:
        cell: Whose network, in the throughput scenario.
        turn: Which of the turns of the sweep this is.
        take: Measures a cell in one of its rounds; each batch in a process of its own.
        available: Memory of the machine that a process on the CPU may fill, in bytes.
    """
    found: dict[int, float] = {}
    best, worse, batch = 1, 0, 1
    while batch <= LARGEST[cell.variant.device]:
        answer = take(step_of(cell, batch), turn)
        if "error" in answer:
            return Turn(found, f"batch {batch}: {answer['error']}")
        reading = answer["result"]
        found[batch] = 1e3 * batch / pass_ms(cell, reading)
        worse = 0 if batch == 1 or found[batch] >= GAIN * found[best] else worse + 1
        if not worse:
            best = batch
        if worse == _PATIENCE:
            return Turn(found, "")
        # A process that fills the memory of a CPU is not refused it but killed, or the machine swaps.
        if cell.variant.device == "cpu" and available and 2 * reading["peak_rss"] > available:
            return Turn(found, f"batch {2 * batch} might not fit into memory")
        batch *= 2
    return Turn(found, f"batch {LARGEST[cell.variant.device]} is the largest tried")


def _chosen(found: Mapping[int, float]) -> int:
    least = (1 - CHOICE) * max(found.values(), default=0.0)
    return min((batch for batch, rate in found.items() if rate >= least), default=1)


def _last_gain(found: Mapping[int, float]) -> int:
    """The smallest batch that no larger one is better than."""
    return min(
        batch
        for batch, rate in found.items()
        if all(other < GAIN * rate for larger, other in found.items() if larger > batch)
    )


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
