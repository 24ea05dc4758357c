"""From raw samples to figures: median, percentiles, spread, and what makes a figure doubtful."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NOISY, INVALID = 0.10, 0.25
"""Interquartile ranges / median above which a figure is flagged."""

NEEDED = {90: 64, 99: 662}
"""Samples that a percentile needs (MLPerf inference, early stopping at 99% confidence)."""

CHOICE = 0.03
"""A sweep takes the smallest batch whose rate is within this share of the best it saw: its short runs are no
surer than that. So a repeat may choose another, and the figure is no surer either."""

BUSY = 0.05
"""Share of the processors this process may use that others may take before a figure is flagged."""


@dataclass(frozen=True)
class Scatter:
    """How far figures of rounds lie apart that measure the same.

    Attributes:
        deviation: Their standard deviation, divided by the figure of all of them.
        freedom: Its degrees of freedom; 0 where there is a single round, which says nothing.
    """

    deviation: float = 0.0
    freedom: int = 0

    @property
    def of_means(self) -> float:
        """Half the 95% interval of the difference between two means of as many rounds, as a share; 0 if unknown.

        It holds for two figures of one run, whose rounds are shuffled among each other.

        >>> round(Scatter(0.01, 2).of_means, 4)
        0.0351
        """
        return self.of_repeats / math.sqrt(self.freedom + 1)

    @property
    def of_repeats(self) -> float:
        """How far a repeat of the whole run may lie, as a share: the repeatability limit of ISO 5725-6; 0 if unknown.

        That of single rounds, as if there were no further ones: what makes rounds differ on a shared machine
        goes on for longer than a run, and does not average out in it.

        >>> round(Scatter(0.01, 2).of_repeats, 4)
        0.0609
        """
        return student(self.freedom) * math.sqrt(2) * self.deviation if self.freedom else 0.0


UNKNOWN = Scatter()
"""That of rounds of which nothing is known."""


def pooled(found: Sequence[Scatter]) -> Scatter:
    """What several rows say of the scatter of rounds: a machine is as restless for one as for another (ISO 5725-2).

    >>> pooled([Scatter(0.03, 2), Scatter(0.04, 2), Scatter()])
    Scatter(deviation=0.035355339059327376, freedom=4)
    """
    freedom = sum(each.freedom for each in found)
    squares = sum(each.freedom * each.deviation**2 for each in found)
    return Scatter(math.sqrt(squares / freedom), freedom) if freedom else UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What some samples say.

    Attributes:
        typical: What is reported: the median of the samples of all rounds, or of a pipeline their mean.
        p90: 90th percentile; None where there are too few samples for it, and of a pipeline.
        p99: 99th percentile; likewise.
        samples: How many samples there are.
        iqr: Interquartile range of all samples, divided by their median; of a pipeline that of its whole cycles.
        scatter: How far `typical` of the rounds lie apart.
    """

    typical: float
    p90: float | None
    p99: float | None
    samples: int
    iqr: float
    scatter: Scatter


def summarise(rounds: Sequence[Sequence[float]], *, cycle: int = 0) -> Summary:
    """Summarises the samples of one or more rounds.

    Args:
        rounds: The samples of each.
        cycle: Samples after which a pipeline that works ahead does the same again; 0 where each sample stands for
            itself. A step of a pipeline is short or long by what happened to be ready, and by what its own files
            ask for: what counts is the total, and what scatters are whole cycles.

    >>> found = summarise([[10.0, 10.0, 10.0], [13.0, 14.0]])
    >>> found.typical, found.iqr, round(found.scatter.deviation, 4), found.p90
    (10.0, 0.3, 0.2475, None)
    >>> found = summarise([[2.0, 14.0, 2.0, 14.0], [14.0, 2.0]], cycle=2)
    >>> found.typical, found.iqr, found.scatter
    (8.0, 0.0, Scatter(deviation=0.0, freedom=1))
    """
    centre = statistics.fmean if cycle else statistics.median
    samples = [sample for each in rounds for sample in each]
    apart = [mean for each in rounds for mean in _cycles(each, cycle)] if cycle else samples
    low, high = (percentile(apart, 25), percentile(apart, 75))
    typical = centre(samples)
    own = [centre(each) for each in rounds]
    return Summary(
        typical=typical,
        p90=percentile(samples, 90) if not cycle and len(samples) >= NEEDED[90] else None,
        p99=percentile(samples, 99) if not cycle and len(samples) >= NEEDED[99] else None,
        samples=len(samples),
        iqr=(high - low) / statistics.median(apart),
        scatter=Scatter(statistics.stdev(own) / typical, len(own) - 1) if len(own) > 1 else UNKNOWN,
    )


def _cycles(samples: Sequence[float], cycle: int) -> list[float]:
    """Means of whole cycles; of all samples where they make none."""
    starts = range(0, len(samples) - cycle + 1, cycle)
    return [statistics.fmean(samples[at : at + cycle]) for at in starts] or [statistics.fmean(samples)]


def student(freedom: int) -> float:
    """97.5% quantile of Student's t; the package that has it need not be on a GPU machine.

    Beyond the table by an expansion that is within 0.01% there (Abramowitz and Stegun, 26.7.5).

    >>> student(2), round(student(16), 3)
    (4.303, 2.12)
    """
    if freedom <= len(_T):
        return _T[freedom - 1]
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / float(freedom) ** power for power, term in enumerate(terms))


_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""For 1, 2, 3 … degrees of freedom."""


def percentile(samples: Sequence[float], share: int) -> float:
    """A percentile, interpolated between the two nearest samples.

    >>> percentile([1.0, 2.0, 3.0, 4.0, 5.0], 90)
    4.6
    """
    if len(samples) == 1:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[share - 1]


def flags(
    iqr: float,
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
        iqr: Interquartile range of its samples / their median.
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
    if iqr > NOISY:
        found.append("invalid" if iqr > INVALID else "noisy")
    if not settled:
        found.append("not warm")
    if shared_gpu or (others is not None and others > BUSY):
        found.append("busy")
    if throttled:
        found.append(f"throttled: {', '.join(throttled)}")
    if batch[0] != batch[1]:
        found.append(f"batch {batch[1]} of {batch[0]}")
    return tuple(found)
