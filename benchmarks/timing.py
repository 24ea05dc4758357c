"""How time is measured. This is the whole protocol.

Each cell (a network in one scenario and one variant) is measured in `rounds` fresh processes; the
rounds of all cells are shuffled among each other, so that a slow minute does not fall on one
network. In each process the first pass is timed apart, then the network warms up until a rolling
median is steady, and then samples are taken until there are enough of them and enough seconds.
One sample is one step: a forward pass, or in the throughput scenario a block of passes.
All samples are kept.

Warm-up and the shape of a latency run: timm's benchmark.py and MLPerf inference; the number of
samples that a percentile needs: MLPerf's early-stopping bound at 99% confidence. The thresholds
of the warm-up and of the spread are ours.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from time import perf_counter_ns
from typing import TypeVar

from benchmarks.samples import NEEDED

T = TypeVar("T")

Clock = Callable[[], int]
"""Nanoseconds from any fixed moment."""


TAIL = {"latency": 99, "throughput": 90, "end-to-end": 90}
"""The highest percentile that each scenario has samples for: what one image waits is judged by its
slowest passes too; images per second by the median block of passes, or by all of the time."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How long to measure.

    Attributes:
        rounds: Fresh processes per cell.
        warm_steps: Warm-up steps, at least.
        warm_s: Seconds of warm-up, at least.
        settled: The warm-up ends when a rolling median moves by less than this share of it; None does not
            wait for that.
        warm_most_s: The warm-up ends at last after these seconds, and the figure is flagged.
        long_s: Steps so long that fewer than `warm_steps` of them take these seconds are warm after that,
            steady or not: each of them is many passes. None where a step is one pass, or one block.
        seconds: Seconds of sampling in each round, at least.
        samples: Samples of all rounds together, at least.
        most_s: Sampling ends at last after these seconds of a round; percentiles that need more
            samples stay blank.
        block_s: A block of the throughput scenario takes at least this long.
        energy_s: Seconds over which energy is read; idle power is read over a sixth of them before and after.
        quick: Whether this is a shortened measurement, whose figures are flagged.
    """

    rounds: int = 3
    warm_steps: int = 10
    warm_s: float = 3.0
    settled: float | None = 0.02
    warm_most_s: float = 60.0
    long_s: float | None = None
    seconds: float = 10.0
    samples: int = NEEDED[99]
    most_s: float = 60.0
    block_s: float = 0.1
    energy_s: float = 30.0
    quick: bool = False

    def of(self, scenario: str) -> Rules:
        """These with no more samples than the highest percentile of a scenario needs."""
        return replace(self, samples=min(self.samples, NEEDED[TAIL[scenario]]))


FULL = Rules()
QUICK = Rules(
    rounds=1, warm_steps=1, warm_s=0.3, settled=None, seconds=1.0, samples=3, block_s=0.02, energy_s=3.0, quick=True
)  # fmt: skip
SWEEP = Rules(
    rounds=1, warm_steps=3, warm_s=1.0, settled=0.1, warm_most_s=10.0, seconds=2.0, samples=3, quick=True
)
"""For the search of the best batch, whose own times are no figures."""
WHOLE = Rules(long_s=10.0, samples=9)
"""For a whole protocol, whose single step is many passes already. One of up to a second warms up as everything
else does; a longer one for ten seconds, or for one step where that takes longer."""


def interleaved(cells: Sequence[T], rounds: int, seed: int) -> Iterator[tuple[int, T]]:
    """Every cell once per round, in an order that each round shuffles anew."""
    for turn in range(rounds):
        yield from ((turn, cell) for cell in Random(f"{seed}/{turn}").sample(cells, len(cells)))  # noqa: S311


def timed(step: Callable[[], object], clock: Clock = perf_counter_ns) -> float:
    """Milliseconds of one step. A step on a GPU waits for the GPU before it returns."""
    start = clock()
    step()
    return (clock() - start) / 1e6


def warm_up(step: Callable[[], object], rules: Rules, clock: Clock = perf_counter_ns) -> tuple[int, bool]:
    """Steps until the time of a step is steady: how many, and whether it ever was."""
    times: list[float] = []
    start = clock()
    while True:
        times.append(timed(step, clock))
        spent = (clock() - start) / 1e9
        if len(times) >= rules.warm_steps and spent >= rules.warm_s and steady(times, rules):
            return len(times), True
        if rules.long_s is not None and len(times) < rules.warm_steps and spent >= rules.long_s:
            return len(times), True
        if spent >= rules.warm_most_s:
            return len(times), False


def steady(times: Sequence[float], rules: Rules) -> bool:
    """Whether the median of the last steps (half the fewest warm-up steps) is that of the ones before."""
    if rules.settled is None:
        return True
    window = max(1, rules.warm_steps // 2)
    if len(times) < 2 * window:
        return False
    now, before = statistics.median(times[-window:]), statistics.median(times[-2 * window : -window])
    return abs(now - before) < rules.settled * before


def sample(step: Callable[[], object], rules: Rules, clock: Clock = perf_counter_ns) -> list[float]:
    """Times steps until there are enough samples and enough seconds of them."""
    samples: list[float] = []
    start = clock()
    while True:
        samples.append(timed(step, clock))
        spent = (clock() - start) / 1e9
        if spent >= rules.seconds and len(samples) >= -(-rules.samples // rules.rounds):
            return samples
        if spent >= rules.most_s:
            return samples
