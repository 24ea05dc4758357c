"""Counting the operations of a network, by all three counters.

make bench ARGS="-k counting"
"""

from __future__ import annotations

import zoo
from benchmarks.counters import count

SYSTEM = zoo.systems(group="baseline")[0]


def test_counting(benchmark):
    """One network; nothing is taken from the cache."""
    found = benchmark.pedantic(count, args=(zoo.card(SYSTEM).member(),), rounds=3, warmup_rounds=1)
    assert found.macs > 2e9
