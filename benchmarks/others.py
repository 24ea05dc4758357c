"""What else runs on the machine while a figure is taken."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path


class Others:
    """Processor time that other processes (and other guests of the same host) take from now on."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._busy, self._own = _busy_s(), _own_s()

    def share(self) -> float | None:
        """It as a share of all processors; None where nothing counts it."""
        busy = _busy_s()
        if busy is None or self._busy is None:
            return None
        capacity = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        return max(0.0, busy - self._busy - (_own_s() - self._own)) / max(capacity, 1e-9)


def _busy_s() -> float | None:
    """Seconds that all processors together were not idle, since the machine was started."""
    with suppress(OSError):
        return _from_proc(Path("/proc/stat").read_text(encoding="ascii"))
    with suppress(ModuleNotFoundError):
        import psutil

        times = psutil.cpu_times()
        return float(sum(times) - times.idle)
    return None


def _from_proc(text: str) -> float:
    """That of Linux's /proc/stat; time that other guests of the host took ("steal") is in it.

    >>> _from_proc("cpu  100 0 50 800 30 0 0 20 10 0") == 170 / os.sysconf("SC_CLK_TCK")
    True
    """
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, text.split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    own = os.times()
    return own.user + own.system + own.children_user + own.children_system
