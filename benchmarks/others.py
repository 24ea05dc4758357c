"""What else runs on the machine while a figure is taken."""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.allowance import affinity

STAT = Path("/proc/stat")


class Others:
    """Processor time that other processes (and other guests of the same host) take from now on.

    It is that of the processors which this process may use: those alone it can be kept waiting for.
    """

    def __init__(self) -> None:
        self._allowed = affinity() or ()
        self._start = time.monotonic()
        self._busy, self._own = _busy(self._allowed), _own_s()

    def share(self) -> float | None:
        """It as a share of these processors; None where nothing counts it."""
        busy = _busy(self._allowed)
        if busy is None or self._busy is None:
            return None
        capacity = (time.monotonic() - self._start) * busy.processors
        others = busy.seconds - self._busy.seconds - (_own_s() - self._own)
        return max(0.0, others) / max(capacity, 1e-9)


class _Busy(NamedTuple):
    """Seconds that some processors together were not idle, since the machine was started."""

    seconds: float
    processors: int


def _busy(allowed: Collection[int]) -> _Busy | None:
    """That of the processors with these numbers; of all, where they are not counted one by one."""
    with suppress(OSError):
        return _from_proc(STAT.read_text(encoding="ascii"), allowed)
    with suppress(ModuleNotFoundError):
        import psutil

        times = psutil.cpu_times()
        return _Busy(float(sum(times) - times.idle), os.cpu_count() or 1)
    return None


def _from_proc(text: str, allowed: Collection[int]) -> _Busy:
    """That of Linux's /proc/stat; time that other guests of the host took ("steal") is in it.

    >>> _from_proc("cpu  100 0 50 800 30 0 0 20 10 0", []).seconds == 170 / os.sysconf("SC_CLK_TCK")
    True
    """
    lines = {words[0]: words[1:9] for words in map(str.split, text.splitlines()) if words}
    names = [f"cpu{number}" for number in allowed]
    # A container may be shown other numbers than those that affinity names.
    each_alone = bool(names) and all(name in lines for name in names)
    ticks = sum(_ticks(lines[name]) for name in (names if each_alone else ["cpu"]))
    return _Busy(ticks / os.sysconf("SC_CLK_TCK"), len(names) if each_alone else os.cpu_count() or 1)


def _ticks(counts: Collection[str]) -> int:
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, counts)
    return user + nice + system + irq + softirq + steal


def _own_s() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system
