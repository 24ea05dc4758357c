"""From raw samples to figures: median, percentiles, spread, and what makes a figure doubtful."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY, INVALID = 0.10, 0.25
"""Spreads above which a figure is flagged."""

NEEDED = {90: 64, 99: 662}
"""Samples that a percentile needs (MLPerf inference, early stopping at 99% confidence)."""

CHOICE = 0.03
"""A sweep takes the smallest batch whose rate is within this share of the best it saw: its short runs are no
surer than that. So a repeat may choose another, and the figure is no surer either."""

BUSY = 0.05
"""Share of the processors this process may use that others may take before a figure is flagged."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What some samples say.

    Attributes:
        typical: What is reported: the median of the samples of all rounds, or of a pipeline their mean.
        p90: 90th percentile; None where there are too few samples for it, and of a pipeline.
        p99: 99th percentile; likewise.
        samples: How many samples there are.
        iqr: Interquartile range of all samples, divided by their median; of a pipeline that of its whole cycles.
        rounds: How far `typical` of a repeat may lie from it, judged by that of each round and divided by it;
            0 where there is one round.
    """

    typical: float
    p90: float | None
    p99: float | None
    samples: int
    iqr: float
    rounds: float

    @property
    def spread(self) -> float:
        """How far a repeat of the whole measurement may lie from it: the larger of both."""
        return max(self.iqr, self.rounds)


def summarise(rounds: Sequence[Sequence[float]], *, cycle: int = 0) -> Summary:
    """Summarises the samples of one or more rounds.

    Args:
        rounds: The samples of each.
        cycle: Samples after which a pipeline that works ahead does the same again; 0 where each sample stands for
            itself. A step of a pipeline is short or long by what happened to be ready, and by what its own files
            ask for: what counts is the total, and what scatters are whole cycles.

    >>> found = summarise([[10.0, 10.0, 10.0], [13.0, 14.0]])
    >>> found.typical, found.iqr, round(found.rounds, 3), found.p90
    (10.0, 0.3, 3.145, None)
    >>> found = summarise([[2.0, 14.0, 2.0, 14.0], [14.0, 2.0]], cycle=2)
    >>> found.typical, found.iqr, found.rounds
    (8.0, 0.0, 0.0)
    """
    centre = statistics.fmean if cycle else statistics.median
    pooled = [sample for each in rounds for sample in each]
    apart = [mean for each in rounds for mean in _cycles(each, cycle)] if cycle else pooled
    low, high = (percentile(apart, 25), percentile(apart, 75))
    typical = centre(pooled)
    return Summary(
        typical=typical,
        p90=percentile(pooled, 90) if not cycle and len(pooled) >= NEEDED[90] else None,
        p99=percentile(pooled, 99) if not cycle and len(pooled) >= NEEDED[99] else None,
        samples=len(pooled),
        iqr=(high - low) / statistics.median(apart),
        rounds=repeat([centre(each) for each in rounds]) / typical,
    )


def _cycles(samples: Sequence[float], cycle: int) -> list[float]:
    """Means of whole cycles; of all samples where they make none."""
    starts = range(0, len(samples) - cycle + 1, cycle)
    return [statistics.fmean(samples[at : at + cycle]) for at in starts] or [statistics.fmean(samples)]


def repeat(figures: Sequence[float]) -> float:
    """How far a repeat may lie: half the 95% interval of the difference between two means of as many rounds.

    Student's t: rounds of both are taken to scatter alike. The range of three medians would be too
    narrow for that: one repeat in seven lies outside of it.

    Args:
        figures: That of each round; nothing is said of a single one.

    >>> round(repeat([100.0, 101.0, 102.0]), 2)
    3.51
    """
    rounds = len(figures)
    if rounds < 2:
        return 0.0
    quantile = _T[min(rounds, len(_T) + 1) - 2]
    return float(quantile * statistics.stdev(figures) * (2 / rounds) ** 0.5)


_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""97.5% quantiles of Student's t for 2, 3 … rounds; the package that has it need not be on a GPU machine."""


def percentile(samples: Sequence[float], share: int) -> float:
    """A percentile, interpolated between the two nearest samples.

    >>> percentile([1.0, 2.0, 3.0, 4.0, 5.0], 90)
    4.6
    """
    if len(samples) == 1:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[share - 1]


def flags(
    spread: float,
    *,
    quick: bool = False,
    settled: bool = True,
    others: float | None = None,
    throttled: Sequence[str] = (),
    shared_gpu: bool = False,
    batch: tuple[int, int] = (1, 1),
) -> tuple[str, ...]:
    """What makes a figure doubtful, in words; the figure itself is never hidden.

    Args:
        spread: Its spread.
        quick: Whether it was a shortened measurement.
        settled: Whether the warm-up ended because times were steady.
        others: Share of the processors that this process may use that other processes took; None where unknown.
        throttled: Why the GPU ran slower than it can.
        shared_gpu: Whether another process had the GPU too.
        batch: The batch that was asked for, and the one that fitted.

    >>> flags(0.3, quick=True, others=0.2, throttled=["power cap"])
    ('quick', 'invalid', 'busy', 'throttled: power cap')
    """
    found = ["quick"] if quick else []
    if spread > NOISY:
        found.append("invalid" if spread > INVALID else "noisy")
    if not settled:
        found.append("not warm")
    if shared_gpu or (others is not None and others > BUSY):
        found.append("busy")
    if throttled:
        found.append(f"throttled: {', '.join(throttled)}")
    if batch[0] != batch[1]:
        found.append(f"batch {batch[1]} of {batch[0]}")
    return tuple(found)
